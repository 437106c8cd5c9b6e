//! Protocols: starting and stopping them, and what is common to all.

use std::sync::Arc;
use std::time::Duration;

use super::Speaker;
use super::export::View;
use super::import::{ImportView, Importer};
use super::io::Output;
use super::kernel::KernelTable;
use super::merge::FibView;
use super::origin;
use super::range::Range;
use super::roas::Roas;
use super::session::{Identity, Session, SessionChannel, neighbour};
use super::tables::{Membership, TableKey, afi};
use crate::config::{Channel, Config, LimitAction, Protocol, ProtocolKind};
use crate::filter::RouteSource;
use crate::fsm::{Event, StopReason};
use crate::nexthop::Rule;
use crate::rib::{SourceId, Stale, Traits};

/// A protocol.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) config: Arc<Protocol>,
    pub(super) source: SourceId,
    /// Not taken down by hand or by a limit.
    pub(super) enabled: bool,
    /// An operator took it down, for this reason, which may be empty.
    pub(super) taken_down: Option<Arc<str>>,
    /// A limit of a channel that is not BGP's was reached and said so.
    pub(super) limit_logged: bool,
    /// Changes of its state are told whatever the log's level.
    pub(super) traced: bool,
    /// When it last went up or down.
    pub(super) since: Duration,
    pub(super) kind: Kind,
}

/// What a protocol is while it runs.
#[derive(Debug)]
pub(super) enum Kind {
    /// A BGP peer.
    Bgp(Box<Session>),
    /// A range of BGP peers: whoever connects becomes an instance of its own.
    Range(Box<Range>),
    /// Routes of our own, in these tables.
    Origin(Vec<TableKey>),
    /// The best routes, for felix; no membership while disabled.
    Felix(Vec<(TableKey, Option<Membership>)>),
    /// A routing table of the kernel's.
    Kernel(Box<KernelTable>),
    /// ROAs.
    Roas(Box<Roas>),
    /// Nothing that concerns routes.
    Quiet,
}

impl Instance {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.kind {
            Kind::Bgp(session) => Some(session),
            Kind::Range(_) | Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.kind {
            Kind::Bgp(session) => Some(session),
            Kind::Range(_) | Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => None,
        }
    }

    /// The channels as they are configured.
    pub(super) fn channels(&self) -> Vec<&Channel> {
        channels(&self.config)
    }
}

/// The channels of a protocol.
pub(super) fn channels(protocol: &Protocol) -> Vec<&Channel> {
    match &protocol.kind {
        ProtocolKind::Device(_)
        | ProtocolKind::Bfd(_)
        | ProtocolKind::Mrt(_)
        | ProtocolKind::Bmp(_)
        | ProtocolKind::Roas(_)
        | ProtocolKind::Rpki(_) => Vec::new(),
        ProtocolKind::Direct(direct) => direct.channels.iter().collect(),
        ProtocolKind::Static(config) => vec![&config.channel],
        ProtocolKind::Kernel(kernel) => vec![&kernel.channel],
        ProtocolKind::Felix(felix) => felix.channels.iter().collect(),
        ProtocolKind::Bgp(bgp) => bgp.channels.iter().map(|c| &c.channel).collect(),
    }
}

impl Speaker {
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.instances.iter().flatten().filter_map(Instance::session)
    }

    /// Who we are to the neighbour of a protocol.
    pub(super) fn identity<'c>(&self, config: &'c Config, protocol: &Protocol) -> Identity<'c> {
        Identity {
            router_id: protocol.router_id.unwrap_or(self.router_id),
            hostname: config.hostname.as_deref(),
        }
    }

    pub(super) fn instance(&self, source: SourceId) -> Option<&Instance> {
        self.instances.get(usize::from(source.0)).and_then(Option::as_ref)
    }

    pub(super) fn instance_mut(&mut self, source: SourceId) -> Option<&mut Instance> {
        self.instances.get_mut(usize::from(source.0)).and_then(Option::as_mut)
    }

    pub(super) fn find(&self, name: &str) -> Option<SourceId> {
        self.instances
            .iter()
            .flatten()
            .find(|i| &**i.name() == name)
            .map(|i| i.source)
    }

    /// Makes a protocol and starts it. `None` when there are as many as there can be.
    pub(super) fn add(&mut self, protocol: Arc<Protocol>, out: &mut Vec<Output>) -> Option<SourceId> {
        let free = self
            .instances
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.instances.len());
        let source = u16::try_from(free)
            .ok()
            .map(SourceId)
            .filter(|source| *source != SourceId::NONE)?;
        let keys: Vec<TableKey> = channels(&protocol)
            .iter()
            .map(|c| self.tables.key(afi(c.family), &c.table))
            .collect();
        keys.iter().for_each(|key| self.tables.count_anew(*key, source));
        let kind = match &protocol.kind {
            ProtocolKind::Bgp(bgp) => match neighbour(bgp) {
                Ok(remote) => {
                    let config = self.config.clone();
                    let us = self.identity(&config, &protocol);
                    let mut session = Session::new(self.next_key, bgp, remote, us, !self.convergence.is_done());
                    self.next_key += 1;
                    if self.fresh && !self.convergence.is_done() {
                        session.peer.start_afresh();
                    }
                    let channels = keys.iter().zip(&bgp.channels);
                    session.channels = channels
                        .map(|(key, config)| SessionChannel::new(*key, config))
                        .collect();
                    Kind::Bgp(Box::new(session))
                }
                Err(_) => Kind::Range(Box::new(Range::new(bgp))),
            },
            ProtocolKind::Static(_) | ProtocolKind::Direct(_) => Kind::Origin(keys),
            ProtocolKind::Felix(_) => Kind::Felix(keys.into_iter().map(|key| (key, None)).collect()),
            ProtocolKind::Kernel(_) => match keys.first() {
                Some(key) => Kind::Kernel(Box::new(KernelTable::new(*key, self.new_epoch()))),
                None => Kind::Quiet,
            },
            ProtocolKind::Device(_) | ProtocolKind::Bfd(_) | ProtocolKind::Mrt(_) | ProtocolKind::Bmp(_) => Kind::Quiet,
            ProtocolKind::Roas(_) | ProtocolKind::Rpki(_) => Kind::Roas(Box::default()),
        };
        let instance = Instance {
            enabled: false,
            taken_down: None,
            limit_logged: false,
            traced: protocol.debug,
            source,
            since: self.now,
            kind,
            config: protocol.clone(),
        };
        if free == self.instances.len() {
            self.instances.push(Some(instance));
        } else {
            self.instances[free] = Some(instance);
        }
        if !protocol.disabled {
            self.enable(source, out);
        }
        Some(source)
    }

    /// Brings a protocol up.
    pub(super) fn enable(&mut self, source: SourceId, out: &mut Vec<Output>) {
        let (now, waiting) = (self.now, !self.convergence.is_done());
        self.unflushed = true;
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        if instance.enabled {
            // Its session may have given up by itself, after an error.
            return self.peer_event(source, Event::Start, out);
        }
        instance.enabled = true;
        instance.limit_logged = false;
        instance.since = now;
        match &instance.kind {
            Kind::Bgp(session) => {
                if waiting && !session.is_dynamic() {
                    self.convergence.expect(source);
                }
                self.link_of_new(source, out);
                self.peer_event(source, Event::Start, out);
            }
            Kind::Origin(_) => self.originate(usize::from(source.0)),
            Kind::Felix(_) => self.join_felix(source),
            Kind::Kernel(_) => self.join_kernel(source),
            Kind::Roas(_) => self.provide_roas(source),
            Kind::Range(_) | Kind::Quiet => {}
        }
    }

    /// Takes a protocol down; its routes go.
    pub(super) fn disable(&mut self, source: SourceId, reason: StopReason, out: &mut Vec<Output>) {
        let now = self.now;
        self.unflushed = true;
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        if std::mem::take(&mut instance.enabled) {
            instance.since = now;
        }
        match &mut instance.kind {
            Kind::Bgp(_) => {
                self.convergence.forget(source);
                self.peer_event(source, Event::Stop(reason), out);
                self.drop_routes(source);
            }
            Kind::Origin(keys) => {
                let keys = std::mem::take(keys);
                for key in &keys {
                    self.tables.remove_where(*key, source, |_| true);
                }
                if let Some(instance) = self.instance_mut(source) {
                    instance.kind = Kind::Origin(keys);
                }
            }
            Kind::Felix(channels) => {
                let left: Vec<_> = channels
                    .iter_mut()
                    .filter_map(|(key, at)| Some((*key, at.take()?)))
                    .collect();
                for (key, at) in left {
                    let told = self.tables.told(key, at).into_iter();
                    let told = told.map(|(net, route)| (net, self.tables.shared.fib.get(route)));
                    self.left_by_felix.extend(told);
                    self.tables.leave(key, at);
                }
            }
            Kind::Kernel(_) => self.leave_kernel(source),
            Kind::Roas(_) => self.withdraw_roas(source),
            Kind::Range(_) | Kind::Quiet => {}
        }
    }

    /// All that a session has told us goes.
    fn drop_routes(&mut self, source: SourceId) {
        let Some(session) = self.instance(source).and_then(Instance::session) else {
            return;
        };
        let keys: Vec<TableKey> = session.channels.iter().map(|c| c.key).collect();
        for key in keys {
            self.tables.remove_where(key, source, |_| true);
        }
    }

    /// Removes a protocol. The tables may still show its name until the next flush.
    pub(super) fn delete(&mut self, source: SourceId, reason: StopReason, out: &mut Vec<Output>) {
        self.disable(source, reason, out);
        if let Some(instance) = self.instances.get_mut(usize::from(source.0)) {
            *instance = None;
        }
        // Its number may be used again at once, so nobody may still announce its routes.
        self.tables.settle();
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| c.source == source)
            .map(|(id, _)| *id)
            .collect();
        for conn in gone {
            self.connections.remove(&conn);
            out.push(Output::Close { conn });
        }
    }

    fn join_felix(&mut self, source: SourceId) {
        let at = usize::from(source.0);
        let Some(Some(instance)) = self.instances.get_mut(at) else {
            return;
        };
        let views: Vec<FibView> = instance.channels().iter().map(|c| FibView::of(c)).collect();
        let Kind::Felix(channels) = &mut instance.kind else {
            return;
        };
        for ((key, membership), view) in channels.iter_mut().zip(views) {
            *membership = self.tables.join(*key, View::Fib(view), source);
        }
    }

    /// Makes the routes of a static or direct protocol equal to what its configuration and the host's addresses give.
    pub(super) fn originate(&mut self, at: usize) {
        let Some(Some(instance)) = self.instances.get(at) else {
            return;
        };
        let Kind::Origin(keys) = &instance.kind else { return };
        if !instance.enabled {
            return;
        }
        let (config, source, keys) = (instance.config.clone(), instance.source, keys.clone());
        let traits = Traits::local(self.router_id);
        let kind = match config.kind {
            ProtocolKind::Direct(_) => RouteSource::Device,
            ProtocolKind::Static(_)
            | ProtocolKind::Bgp(_)
            | ProtocolKind::Device(_)
            | ProtocolKind::Kernel(_)
            | ProtocolKind::Felix(_)
            | ProtocolKind::Bfd(_)
            | ProtocolKind::Mrt(_)
            | ProtocolKind::Bmp(_)
            | ProtocolKind::Roas(_)
            | ProtocolKind::Rpki(_) => RouteSource::Static,
        };
        self.tables.set_source(source, &config.name, kind, traits.clone());
        for (key, channel) in keys.into_iter().zip(channels(&config)) {
            let made = match &config.kind {
                ProtocolKind::Static(config_static) => {
                    let mut said = Vec::new();
                    let made = origin::static_routes(config_static, &config.name, &self.host(), &mut said);
                    self.tables.shared.log.lines(&config.name, said);
                    made
                }
                ProtocolKind::Direct(direct) => {
                    let is_v4 = key.family == crate::packet::AfiSafi::Ipv4Unicast;
                    origin::direct_routes(direct, &self.host(), is_v4, channel.preference)
                }
                ProtocolKind::Bgp(_)
                | ProtocolKind::Device(_)
                | ProtocolKind::Kernel(_)
                | ProtocolKind::Felix(_)
                | ProtocolKind::Bfd(_)
                | ProtocolKind::Mrt(_)
                | ProtocolKind::Bmp(_)
                | ProtocolKind::Roas(_)
                | ProtocolKind::Rpki(_) => Vec::new(),
            };
            let rule = match &config.kind {
                ProtocolKind::Static(of) => Some(Arc::new(Rule {
                    igp: super::igp::of_static(&self.config, of),
                    ..Rule::RECURSIVE
                })),
                _ => None,
            };
            let view = ImportView {
                protocol: config.name.clone(),
                source: kind,
                traits: traits.clone(),
                policy: channel.import.clone(),
                preference: channel.preference,
                rule,
                checks: None,
            };
            self.replace_routes(key, source, made, &view);
        }
    }

    fn replace_routes(&mut self, key: TableKey, source: SourceId, made: Vec<origin::Made>, view: &ImportView) {
        let since = self.seconds();
        self.tables.mark(key, source, Stale::Refresh);
        for route in made {
            match route {
                Ok((net, mut learned)) => {
                    learned.hop = view.hop(&learned, &mut self.tables.shared.hops);
                    let received = self.tables.shared.learned.intern(&learned);
                    let mut importer = Importer::new(view, received, learned);
                    self.tables.insert(key, net, (source, 0, since), &mut importer, false);
                    importer.finish(&mut self.tables.shared.learned);
                    self.tables.shared.learned.release(received);
                }
                Err((net, error)) => self.tables.shared.log.failed(&view.protocol, net, &error),
            }
        }
        let gone = self
            .tables
            .remove_where(key, source, |path| path.stale() == Stale::Refresh);
        self.tables.took_back(key, source, gone);
        self.limit_import(source, key, view);
    }

    /// The time in the unit that paths have.
    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.now.as_secs()).unwrap_or(u32::MAX)
    }

    /// Applies the filters of a protocol anew.
    pub(super) fn refeed(&mut self, at: usize, import: bool, export: bool) {
        let Some(Some(instance)) = self.instances.get(at) else {
            return;
        };
        match &instance.kind {
            Kind::Bgp(_) => self.refeed_session(instance.source, import, export),
            Kind::Felix(_) if export => self.refeed_felix(at),
            Kind::Kernel(_) => self.refeed_kernel(instance.source, import, export),
            Kind::Origin(_) if import => self.originate(at),
            Kind::Roas(_) if import => self.provide_roas(instance.source),
            Kind::Felix(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Range(_) | Kind::Quiet => {}
        }
    }

    fn refeed_felix(&mut self, at: usize) {
        let Some(Some(instance)) = self.instances.get_mut(at) else {
            return;
        };
        let views: Vec<FibView> = instance.channels().iter().map(|c| FibView::of(c)).collect();
        let Kind::Felix(channels) = &mut instance.kind else {
            return;
        };
        for ((key, membership), view) in channels.iter_mut().zip(views) {
            if let Some(old) = *membership {
                *membership = self.tables.change_view(*key, old, View::Fib(view));
                // The limit may be another one.
                membership.inspect(|moved| self.tables.unblock(*key, *moved));
            }
        }
    }

    fn refeed_session(&mut self, source: SourceId, import: bool, export: bool) {
        let (addresses, own) = (self.addresses.clone(), self.own.clone());
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.config.name.clone();
        let Kind::Bgp(session) = &mut instance.kind else { return };
        if session.find_link(&addresses) {
            self.tables
                .set_source(source, &name, RouteSource::Bgp, session.traits());
        }
        for at in 0..session.channels.len() {
            let channel = &session.channels[at];
            let key = channel.key;
            if import {
                let view = session.import_view(&name, &channel.config, &own);
                let limit = channel.config.channel.import_limit;
                let block = limit.filter(|limit| limit.action == LimitAction::Block);
                self.tables
                    .reimport(key, source, &view, block.map(|limit| limit.routes), &|_| true);
                let channel = &mut session.channels[at];
                channel.wants_refresh |= std::mem::take(&mut channel.refused);
            }
            let channel = &session.channels[at];
            if let (true, Some(up), Some(member)) = (export, &session.up, channel.membership) {
                let view = session.export_view(&channel.config, up, &addresses);
                let moved = self.tables.change_view(key, member, view);
                // The limit may be another one.
                moved.inspect(|moved| self.tables.unblock(key, *moved));
                session.channels[at].membership = moved;
            }
        }
    }

    pub(super) fn announce_again(&mut self, source: SourceId) {
        let Some(session) = self.instance(source).and_then(Instance::session) else {
            return;
        };
        let members: Vec<_> = session
            .channels
            .iter()
            .filter_map(|c| Some((c.key, c.membership?)))
            .collect();
        for (key, member) in members {
            self.tables.feed_again(key, member);
        }
    }
}
