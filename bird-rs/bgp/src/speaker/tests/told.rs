//! What each end of each connection was told: an update is never sent for a route that the peer has with the same attributes,
//! unless it or an operator has asked for everything again. Every test of speakers in a network checks that.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tortie_net::Prefix;

use crate::attr::{Attributes, NextHop};
use crate::packet::{self, Message, RefreshKind, SessionContext};
use crate::speaker::{Command, ConnId, Speaker};

/// A connection by one of its ends.
type End = (usize, ConnId);

type Routes = BTreeMap<(Prefix, u32), (NextHop, Attributes)>;

#[derive(Default)]
pub(super) struct Told {
    by: BTreeMap<End, Routes>,
    /// Ends at which everything was asked for again: when what comes is theirs to say.
    asked: BTreeSet<End>,
}

impl Speaker {
    /// How to read what it sends on a connection.
    fn sends(&self, conn: ConnId) -> Option<SessionContext> {
        let source = self.connections.get(&conn)?.source;
        let session = self.instances.get(usize::from(source.0))?.as_ref()?.session()?;
        let context = session.peer.context(conn)?;
        Some(SessionContext {
            add_path_rx: context.add_path_tx,
            extended_rx: context.extended_tx,
            ebgp: false,
            ..context
        })
    }
}

impl Told {
    /// An operator of the node with these ends has said something.
    pub(super) fn commanded(&mut self, command: Command, ends: impl Iterator<Item = End>) {
        if matches!(command, Command::Reload | Command::ReloadOut) {
            self.asked.extend(ends);
        }
    }

    /// A node is no more: the next one may number its connections in the same way.
    pub(super) fn gone(&mut self, at: usize) {
        self.by.retain(|end, _| end.0 != at);
        self.asked.retain(|end| end.0 != at);
    }

    /// A connection is no more.
    pub(super) fn ended(&mut self, end: End) {
        self.by.remove(&end);
        self.asked.remove(&end);
    }

    /// Notes what a node says at one end of a connection.
    ///
    /// # Panics
    /// When it is nothing new.
    pub(super) fn note(&mut self, speaker: &Speaker, (from, to): (End, Option<End>), octets: &Bytes) {
        let Some(context) = speaker.sends(from.1) else { return };
        let mut rest = octets.clone();
        while let Ok(Some(length)) = packet::frame_length(&rest, &context) {
            if rest.len() < length {
                break;
            }
            let frame = rest.split_to(length);
            match packet::decode(&frame, &context) {
                Ok(Message::Update(update)) => self.update(from, &update),
                Ok(Message::RouteRefresh(Some(refresh))) if refresh.kind == RefreshKind::Request => {
                    self.asked.extend(to);
                }
                Ok(_) => {}
                Err(error) => panic!("{from:?} sends what nobody can read: {error}"),
            }
        }
    }

    fn update(&mut self, end: End, update: &packet::Update) {
        if self.asked.contains(&end) {
            return;
        }
        let has = self.by.entry(end).or_default();
        for nlri in &update.withdrawn {
            has.remove(&(nlri.prefix, nlri.path_id));
        }
        for reach in &update.reach {
            for nlri in &reach.nlri {
                let route = (reach.next_hop, update.attributes.clone());
                let before = has.insert((nlri.prefix, nlri.path_id), route.clone());
                assert_ne!(before, Some(route), "{end:?}: {} is told again", nlri.prefix);
            }
        }
    }
}
