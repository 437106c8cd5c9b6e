//! Interfaces and their carriers: what `check link` asks for, and what becomes of a session whose link is lost.
//!
//! Until the shell has said which interfaces there are, every one that is named exists and has a carrier. A session is told
//! of its link only once an address of ours has been on the peer's subnet: a peer that is never on one is reached by
//! whatever route leads to it.

use std::collections::BTreeSet;

use super::Speaker;
use super::bfd::BfdKey;
use super::instance::Instance;
use super::io::{InterfaceAddress, InterfaceLink, Output};
use super::session::Session;
use crate::fsm::{Event, LinkState};
use crate::rib::SourceId;

/// The interfaces that are up, sorted by name; `None` while that is not known.
#[derive(Debug, Default)]
pub(super) struct Links(Option<Vec<InterfaceLink>>);

/// What routes of our own depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'h> {
    pub(super) addresses: &'h [InterfaceAddress],
    pub(super) links: &'h Links,
    /// The paths that BFD says work.
    pub(super) bfd_up: &'h BTreeSet<BfdKey>,
}

impl Links {
    /// Is it known which interfaces there are?
    pub(super) fn known(&self) -> bool {
        self.0.is_some()
    }

    /// Is this interface there, and up?
    pub(super) fn is_up(&self, name: &str) -> bool {
        self.0.is_none() || self.find(name).is_some()
    }

    /// Likewise, with a carrier.
    pub(super) fn has_carrier(&self, name: &str) -> bool {
        self.0.is_none() || self.find(name).is_some_and(|link| link.carrier)
    }

    fn find(&self, name: &str) -> Option<&InterfaceLink> {
        let links = self.0.as_ref()?;
        let at = links.binary_search_by(|link| (*link.interface).cmp(name)).ok()?;
        links.get(at)
    }
}

impl Session {
    /// How the link to the peer is, as far as the session depends on one.
    fn link_state(&mut self, addresses: &[InterfaceAddress], links: &Links) -> LinkState {
        if self.config.transport.multihop.is_some() || !links.known() {
            return LinkState::Usable;
        }
        let link = self.link(addresses);
        self.had_link |= link.is_some();
        match link {
            Some(name) if self.config.transport.check_link && !links.has_carrier(&name) => LinkState::NoCarrier,
            None if self.had_link => LinkState::Gone,
            Some(_) | None => LinkState::Usable,
        }
    }
}

impl Speaker {
    /// These are the interfaces that are up.
    pub(super) fn set_links(&mut self, mut links: Vec<InterfaceLink>) {
        links.sort_unstable();
        links.dedup_by(|a, b| a.interface == b.interface);
        if self.links.0.as_ref() == Some(&links) {
            return;
        }
        self.links = Links(Some(links));
        self.links_changed = true;
        for at in 0..self.instances.len() {
            self.originate(at);
        }
    }

    /// Tells sessions how their links are, when that may have changed.
    pub(super) fn watch_links(&mut self, out: &mut Vec<Output>) {
        if !std::mem::take(&mut self.links_changed) {
            return;
        }
        let mut changed = Vec::new();
        for instance in self.instances.iter_mut().flatten() {
            let source = instance.source;
            let Some(session) = instance.session_mut() else {
                continue;
            };
            let state = session.link_state(&self.addresses, &self.links);
            if state != session.peer.link_state() {
                changed.push((source, state));
            }
        }
        for (source, state) in changed {
            self.peer_event(source, Event::Link(state), out);
        }
    }

    /// A session was made or is wanted: how its link is has to be looked at, before it is tried.
    pub(super) fn link_of_new(&mut self, source: SourceId, out: &mut Vec<Output>) {
        let instance = self.instances.get_mut(usize::from(source.0)).and_then(Option::as_mut);
        let session = instance.and_then(Instance::session_mut);
        if let Some(state) = session.map(|session| session.link_state(&self.addresses, &self.links)) {
            self.peer_event(source, Event::Link(state), out);
        }
    }

    /// What routes of our own depend on.
    pub(super) fn host(&self) -> Host<'_> {
        Host {
            addresses: &self.addresses,
            links: &self.links,
            bfd_up: &self.bfd_up,
        }
    }
}
