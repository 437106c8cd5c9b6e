//! What sessions do to the tables: UPDATEs, limits, graceful restart (RFC 4724, 9494), refresh.

use super::Speaker;
use super::import::{ImportView, Importer};
use super::instance::{Instance, Kind};
use super::io::{Log, LogEvent, Output};
use super::session::SessionChannel;
use super::tables::{TableKey, Tables};
use crate::attr::Attributes;
use crate::config::LimitAction;
use crate::filter::RouteSource;
use crate::fsm::{DownReason, Event, Negotiated, StopReason};
use crate::packet::{AfiSafi, ControlMessage, FamilySet, Nlri, Reach, RefreshKind, RouteRefresh, Update};
use crate::rib::{SourceId, Stale, Traffic};

/// A limit that is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exceeded {
    kind: &'static str,
    limit: u32,
    action: LimitAction,
}

impl Speaker {
    pub(super) fn session_up(&mut self, source: SourceId, negotiated: Box<Negotiated>) {
        let (now, addresses) = (self.now, self.addresses.clone());
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.config.name.clone();
        let Kind::Bgp(session) = &mut instance.kind else { return };
        let families = negotiated.context.families;
        // One that preserves families says so when it has restarted itself, and may then be waiting for us.
        let graceful = negotiated.graceful_restart;
        let certain = graceful.is_some_and(|gr| !gr.restarting && !gr.families.is_empty());
        session.last_as = Some(negotiated.peer_as);
        session.up = Some(negotiated);
        session.find_link(&addresses);
        self.tables
            .set_source(source, &name, RouteSource::Bgp, session.traits());
        for at in 0..session.channels.len() {
            let channel = &session.channels[at];
            let key = channel.key;
            let Some(up) = session.up.as_ref().filter(|_| families.contains(key.family)) else {
                continue;
            };
            let view = session.export_view(&channel.config, up, &addresses);
            let membership = self.tables.join(key, view, source);
            let channel = &mut session.channels[at];
            channel.membership = membership;
            channel.owes_end_of_rib = membership.is_some();
            channel.owes_end_of_refresh = false;
            channel.limit_logged = false;
        }
        if !self.convergence.is_done() && !session.is_dynamic() {
            self.convergence.up(now, source, families, certain);
        }
    }

    pub(super) fn session_down(
        &mut self,
        source: SourceId,
        reason: &DownReason,
        retain: FamilySet,
        out: &mut Vec<Output>,
    ) {
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.config.name.clone();
        let Kind::Bgp(session) = &mut instance.kind else { return };
        let was = session.up.take();
        let lives_long = |family| was.as_ref().is_some_and(|was| was.long_lived_time(family).is_some());
        let mut kept = 0;
        for channel in &mut session.channels {
            if let Some(member) = channel.membership.take() {
                channel.told += self.tables.exports(channel.key, member);
                self.tables.leave(channel.key, member);
            }
            channel.owes_end_of_rib = false;
            channel.owes_end_of_refresh = false;
            (channel.refused, channel.wants_refresh) = (false, false);
            if retain.contains(channel.key.family) {
                // What was stale before this session and was not told again on it is too old to be kept twice, unless it
                // may become long-lived stale, or is: that has a time of its own.
                if !lives_long(channel.key.family) {
                    self.tables.remove_where(channel.key, source, |path| {
                        !matches!(path.stale(), Stale::Fresh | Stale::LongLived)
                    });
                }
                kept += self.tables.mark(channel.key, source, Stale::Restart);
            } else {
                self.tables.remove_where(channel.key, source, |_| true);
                self.tables.count_anew(channel.key, source);
                channel.told = Traffic::default();
            }
        }
        if kept > 0 {
            let reason = reason.to_string();
            out.push(Output::Log(Log {
                protocol: name,
                event: LogEvent::Stale { routes: kept, reason },
            }));
        }
        self.convergence.down(source);
    }

    /// Stale routes of a family go.
    pub(super) fn sweep(&mut self, source: SourceId, family: AfiSafi, out: &mut Vec<Output>) {
        let Some(key) = self.channel_key(source, family) else {
            return;
        };
        let routes = self
            .tables
            .remove_where(key, source, |path| path.stale().is_left_over());
        self.log_swept(source, routes, out);
    }

    /// The restart time of a family's stale routes is over; they are kept on, but for those that must not be.
    pub(super) fn long_live(&mut self, source: SourceId, family: AfiSafi, out: &mut Vec<Output>) {
        let Some(key) = self.channel_key(source, family) else {
            return;
        };
        let (routes, swept) = self.tables.long_live(key, source);
        if let (Some(instance), 1..) = (self.instance(source), routes) {
            out.push(Output::Log(Log {
                protocol: instance.config.name.clone(),
                event: LogEvent::LongLivedStale { routes },
            }));
        }
        self.log_swept(source, swept, out);
    }

    fn log_swept(&self, source: SourceId, routes: usize, out: &mut Vec<Output>) {
        if let (Some(instance), 1..) = (self.instance(source), routes) {
            out.push(Output::Log(Log {
                protocol: instance.config.name.clone(),
                event: LogEvent::Swept { routes },
            }));
        }
    }

    fn channel_key(&self, source: SourceId, family: AfiSafi) -> Option<TableKey> {
        let session = self.instance(source).and_then(Instance::session)?;
        session.channels.iter().map(|c| c.key).find(|key| key.family == family)
    }

    /// The peer wants everything again, or is about to send everything again (RFC 2918, 7313).
    pub(super) fn refresh(&mut self, source: SourceId, refresh: RouteRefresh, out: &mut Vec<Output>) {
        let Some(key) = self.channel_key(source, refresh.family) else {
            return;
        };
        match refresh.kind {
            RefreshKind::Begin => {
                self.tables.mark(key, source, Stale::Refresh);
            }
            RefreshKind::End => {
                let routes = self
                    .tables
                    .remove_where(key, source, |path| path.stale() == Stale::Refresh);
                self.log_swept(source, routes, out);
            }
            RefreshKind::Request => self.announce_family_again(source, refresh.family, out),
        }
    }

    /// Asks a peer for everything again of which not all was kept, now that more may be (RFC 2918). A peer that cannot be
    /// asked tells it on a new session.
    pub(super) fn ask_again(&mut self, source: SourceId, out: &mut Vec<Output>) {
        let Some(session) = self.instance_mut(source).and_then(Instance::session_mut) else {
            return;
        };
        let wanting = session.channels.iter_mut().filter(|channel| channel.wants_refresh);
        let families: FamilySet = wanting
            .map(|channel| {
                channel.wants_refresh = false;
                channel.key.family
            })
            .collect();
        let Some(up) = session.up.as_ref().filter(|_| !families.is_empty()) else {
            return;
        };
        let (conn, able) = (up.conn, up.route_refresh);
        if !able {
            let reason = StopReason::AdministrativeReset(String::new());
            return self.peer_event(source, Event::Stop(reason), out);
        }
        for family in families.iter() {
            let kind = RefreshKind::Request;
            let request = ControlMessage::RouteRefresh(RouteRefresh { family, kind });
            self.send(conn, request.encode(), out);
        }
    }

    fn announce_family_again(&mut self, source: SourceId, family: AfiSafi, out: &mut Vec<Output>) {
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let Some(session) = instance.session_mut() else { return };
        let Some(up) = &session.up else { return };
        let (conn, demarcated) = (up.conn, up.enhanced_route_refresh);
        let channel = session.channels.iter_mut().find(|c| c.key.family == family);
        let Some((channel, member)) = channel.and_then(|c| c.membership.map(|member| (c, member))) else {
            return;
        };
        self.tables.feed_again(channel.key, member);
        // During the first feed there is nothing to be told again: it goes on. A refresh that is under way begins anew
        // under the mark it has: who asks often and reads nothing is not owed an answer for each.
        if demarcated && !channel.owes_end_of_rib && !std::mem::replace(&mut channel.owes_end_of_refresh, true) {
            let begin = ControlMessage::RouteRefresh(RouteRefresh {
                family,
                kind: RefreshKind::Begin,
            });
            self.send(conn, begin.encode(), out);
        }
    }

    /// Applies an UPDATE.
    pub(super) fn apply(&mut self, source: SourceId, mut update: Update, out: &mut Vec<Output>) {
        let since = self.seconds();
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.config.name.clone();
        let Kind::Bgp(session) = &mut instance.kind else { return };
        session.updates_received += 1;
        let family = |nlri: &Nlri| AfiSafi::of(nlri.prefix);
        for withdrawn in update.withdrawn.chunk_by(|a, b| family(a) == family(b)) {
            let its = |c: &&SessionChannel| withdrawn.first().is_some_and(|first| c.key.family == family(first));
            if let Some(channel) = session.channels.iter().find(its) {
                self.tables.withdraw(channel.key, source, withdrawn);
            }
        }
        let mut exceeded = None;
        let mut left = update.reach.len();
        for reach in &update.reach {
            left -= 1;
            // Nearly every message has one family.
            let attributes = match left {
                0 => std::mem::take(&mut update.attributes),
                _ => update.attributes.clone(),
            };
            let Some(at) = session.channels.iter().position(|c| c.key.family == reach.family) else {
                continue;
            };
            let view = session.import_view(&name, &session.channels[at].config, &self.own);
            let over = announce(
                &mut self.tables,
                &mut session.channels[at],
                source,
                &view,
                (reach, attributes),
                since,
            );
            exceeded = exceeded.or(over.map(|over| (at, over)));
        }
        // One line for a message, and one in a second: a hostile peer may have many faults to tell.
        if let Some(fault) = update.faults.first()
            && session.fault_logged.replace(since) != Some(since)
        {
            out.push(Output::Log(Log {
                protocol: name.clone(),
                event: LogEvent::BadRoute {
                    reason: fault.to_string(),
                },
            }));
        }
        if let Some(family) = update.end_of_rib {
            self.convergence.end_of_rib(source, family);
            self.monitor_end_of_rib(source, family);
        }
        if let Some((at, over)) = exceeded {
            self.limit_exceeded(source, at, over, out);
        }
    }

    fn limit_exceeded(&mut self, source: SourceId, at: usize, over: Exceeded, out: &mut Vec<Output>) {
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.config.name.clone();
        let Some(channel) = instance.session_mut().and_then(|s| s.channels.get_mut(at)) else {
            return;
        };
        if !std::mem::replace(&mut channel.limit_logged, true) {
            out.push(Output::Log(Log {
                protocol: name,
                event: LogEvent::Limit {
                    kind: over.kind,
                    limit: over.limit,
                    action: over.action.as_str(),
                },
            }));
        }
        match over.action {
            LimitAction::Warn | LimitAction::Block => {}
            LimitAction::Restart => {
                self.peer_event(source, Event::Stop(StopReason::PrefixLimit { restart: true }), out);
            }
            LimitAction::Disable => self.disable(source, StopReason::PrefixLimit { restart: false }, out),
        }
    }
}

/// Puts the routes of one family of an UPDATE into the table; says which limit they exceed, if any.
fn announce(
    tables: &mut Tables,
    channel: &mut SessionChannel,
    source: SourceId,
    view: &ImportView,
    (reach, attributes): (&Reach, Attributes),
    since: u32,
) -> Option<Exceeded> {
    let key = channel.key;
    reach.nlri.first()?;
    let attributes = match &view.checks {
        Some(checks) => checks.normalize(attributes, reach.next_hop),
        None => attributes,
    };
    let learned = view.received(attributes, &mut tables.shared.hops);
    let received = tables.shared.learned.intern(&learned);
    let mut importer = Importer::new(view, received, learned);
    let limits = &channel.config.channel;
    let exceeded = if limits.receive_limit.is_none() && limits.import_limit.is_none() {
        for nlri in &reach.nlri {
            tables.insert(key, nlri.prefix, (source, nlri.path_id, since), &mut importer, false);
        }
        None
    } else {
        announce_limited(tables, channel, (source, since), &mut importer, &reach.nlri)
    };
    importer.finish(&mut tables.shared.learned);
    tables.shared.learned.release(received);
    exceeded
}

/// The same for a channel that has limits.
fn announce_limited(
    tables: &mut Tables,
    channel: &mut SessionChannel,
    (source, since): (SourceId, u32),
    importer: &mut Importer<'_>,
    prefixes: &[Nlri],
) -> Option<Exceeded> {
    let (key, limits) = (channel.key, &channel.config.channel);
    let (receive_limit, import_limit) = (limits.receive_limit, limits.import_limit);
    let mut exceeded = None;
    for nlri in prefixes {
        let counts = tables.counts(key, source);
        let all = counts.accepted + counts.filtered;
        if let Some(limit) = receive_limit.filter(|limit| all >= limit.routes && tables.lacks(key, source, *nlri)) {
            exceeded = Some(Exceeded {
                kind: "receive",
                limit: limit.routes,
                action: limit.action,
            });
            if limit.action == LimitAction::Block {
                tables.ignored(key, source);
                channel.refused = true;
                continue;
            }
        }
        let full = import_limit.filter(|limit| counts.accepted >= limit.routes);
        let block = full.is_some_and(|limit| limit.action == LimitAction::Block);
        tables.insert(key, nlri.prefix, (source, nlri.path_id, since), importer, block);
        let grown = tables.counts(key, source);
        let over =
            |limit: &crate::config::Limit| grown.accepted > limit.routes || (block && grown.filtered > counts.filtered);
        if let Some(limit) = import_limit.filter(over) {
            exceeded = Some(Exceeded {
                kind: "import",
                limit: limit.routes,
                action: limit.action,
            });
        }
        // The session is about to end: more routes would only be removed again.
        if exceeded.is_some_and(|over| matches!(over.action, LimitAction::Disable | LimitAction::Restart)) {
            break;
        }
    }
    exceeded
}
