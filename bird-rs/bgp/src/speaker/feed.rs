//! Out of the tables: to felix, and to peers as they take it.

use std::net::IpAddr;

use tortie_replica::Delta;

use super::instance::{Instance, Kind};
use super::io::{Log, LogEvent, Output};
use super::rounds::Share;
use super::tables::{Membership, TableKey, Tables};
use super::{ConnId, Speaker};
use crate::attr::{Attributes, NextHop};
use crate::config::LimitAction;
use crate::fsm::{Event, StopReason};
use crate::packet::{self, AfiSafi, ControlMessage, Nlri, RefreshKind, RouteRefresh, SessionContext};
use crate::rib::{AttrId, SourceId};

/// Prefixes taken out of the tables at a time. In the usual encoding four octets each: a fraction of the window.
const BATCH: usize = 8 * 1024;

impl Speaker {
    /// Decides what changed since the last flush, tells felix, and tells peers as much as they can take.
    pub fn flush(&mut self, now: std::time::Duration, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        self.unflushed = false;
        out.append(&mut self.early);
        self.watch_links(out);
        self.listen(out);
        self.exports(out);
        self.kernels(out);
        self.want_bfd(out);
        self.want_caches(out);
        self.revalidate();
        self.tables.settle();
        self.feed_stations(out);
        self.feed_felix(out);
        if self.convergence.check(self.now) {
            self.converged(out);
        }
        self.mark_fib(out);
        self.feed_kernels(out);
        for at in 0..self.instances.len() {
            if let Some(source) = self.established(at) {
                self.ask_again(source, out);
                self.feed_peer(source, out);
            }
        }
        self.tables.trim();
        self.retire_dynamic(out);
        out.extend(self.tables.shared.log.drain().map(Output::Log));
        self.wake_at = self.find_deadline();
    }

    fn established(&self, at: usize) -> Option<SourceId> {
        let instance = self.instances.get(at)?.as_ref()?;
        instance.session()?.up.as_ref().map(|_| instance.source)
    }

    fn converged(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Log(Log {
            protocol: "bird-rs".into(),
            event: LogEvent::Converged,
        }));
        let sources: Vec<_> = self
            .instances
            .iter()
            .flatten()
            .map(|instance| instance.source)
            .collect();
        for source in sources {
            self.peer_event(source, Event::Converged, out);
        }
    }

    /// Tells felix that it has everything, when that becomes so. What no protocol felix exports is not complete.
    fn mark_fib(&mut self, out: &mut Vec<Output>) {
        let is_felix = |instance: &Instance| instance.enabled && matches!(instance.kind, Kind::Felix(_));
        let in_sync = self.convergence.is_done() && self.instances.iter().flatten().any(is_felix);
        if in_sync && !self.fib_in_sync {
            out.push(Output::Fib(Delta::InSync));
        }
        self.fib_in_sync = in_sync;
    }

    /// Is there something that a flush would do?
    pub(super) fn has_work(&self) -> bool {
        self.tables.is_dirty()
            || self.has_news_for_stations()
            || self
                .instances
                .iter()
                .flatten()
                .any(|instance| self.has_work_for(instance))
    }

    pub(super) fn has_work_for(&self, instance: &Instance) -> bool {
        match &instance.kind {
            Kind::Felix(channels) => channels
                .iter()
                .any(|(key, member)| member.is_some_and(|member| self.tables.has_work(*key, member))),
            Kind::Bgp(session) => {
                let Some(up) = &session.up else { return false };
                let room = self.connections.get(&up.conn).is_some_and(|c| c.has_room());
                let restarting = up.graceful_restart.is_some_and(|gr| gr.restarting);
                let speak = self.convergence.is_done() || restarting;
                room && session.channels.iter().any(|c| {
                    let owes = c.owes_end_of_refresh || (c.owes_end_of_rib && speak);
                    c.membership
                        .is_some_and(|member| owes || self.tables.has_work(c.key, member))
                })
            }
            Kind::Kernel(_) => self.owes_kernel(instance),
            Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => false,
        }
    }

    fn feed_felix(&mut self, out: &mut Vec<Output>) {
        let felix = self
            .instances
            .iter()
            .flatten()
            .filter_map(|instance| match &instance.kind {
                Kind::Felix(channels) => {
                    let source = instance.source;
                    Some(
                        channels
                            .iter()
                            .filter_map(move |(key, member)| Some((source, *key, (*member)?))),
                    )
                }
                Kind::Bgp(_) | Kind::Range(_) | Kind::Origin(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => None,
            });
        let members: Vec<(SourceId, TableKey, Membership)> = felix.flatten().collect();
        for (source, key, member) in members {
            let max = self.export_max(source, key);
            while self.instance(source).is_some_and(|felix| felix.enabled) && self.tables.has_work(key, member) {
                for (nlri, route) in self.tables.pull(key, member, BATCH, max) {
                    let net = nlri.prefix;
                    let route = route.map(|route| self.tables.shared.fib.get(route));
                    let had = self.left_by_felix.remove(&net);
                    if had.is_some() && had == route {
                        continue;
                    }
                    out.push(Output::Fib(match route {
                        Some(route) => Delta::Set(net, route),
                        None => Delta::Delete(net),
                    }));
                }
                self.limit_export(source, key, member);
            }
        }
        let gone = std::mem::take(&mut self.left_by_felix);
        out.extend(gone.into_keys().map(|net| Output::Fib(Delta::Delete(net))));
    }

    /// Is what felix was told all there is? Not before the initial table is complete and a `protocol felix` exports it.
    pub fn fib_in_sync(&self) -> bool {
        self.fib_in_sync
    }

    fn feed_peer(&mut self, source: SourceId, out: &mut Vec<Output>) {
        let Some(session) = self.instance(source).and_then(Instance::session) else {
            return;
        };
        let Some(up) = &session.up else { return };
        let to = Recipient {
            conn: up.conn,
            context: up.context,
            address: session.remote,
        };
        let restarting = up.graceful_restart.is_some_and(|gr| gr.restarting);
        for at in 0..session.channels.len() {
            self.feed_channel((source, at), &to, out);
            self.finish_channel(source, at, to.conn, restarting, out);
        }
    }

    /// A peer has room for more of what the last flush decided: it need not wait for the next one. Marks of completeness do.
    pub(super) fn feed_on(&mut self, source: SourceId, out: &mut Vec<Output>) {
        let session = self.instance(source).filter(|instance| self.has_work_for(instance));
        let Some(session) = session.and_then(Instance::session) else {
            return;
        };
        let Some(up) = &session.up else { return };
        let to = Recipient {
            conn: up.conn,
            context: up.context,
            address: session.remote,
        };
        for at in 0..session.channels.len() {
            self.feed_channel((source, at), &to, out);
        }
        // What nobody needs any more is forgotten by a flush.
        self.unflushed = true;
    }

    /// Sends a channel's changes until there are none, or the window is full, or the session ends.
    fn feed_channel(&mut self, (source, at): (SourceId, usize), to: &Recipient, out: &mut Vec<Output>) {
        while self.connections.get(&to.conn).is_some_and(|c| c.has_room()) {
            let channel = self
                .instance(source)
                .and_then(Instance::session)
                .and_then(|s| s.channels.get(at));
            let Some((key, member, limit)) =
                channel.and_then(|c| Some((c.key, c.membership?, c.config.channel.export_limit)))
            else {
                return;
            };
            if !self.tables.has_work(key, member) {
                return;
            }
            let max = limit
                .filter(|limit| limit.action != LimitAction::Warn)
                .map(|limit| limit.routes);
            // Who has a limit is told one by one what it has room for.
            let shared = match max {
                None => self.tables.share(key, member, to, BATCH),
                Some(_) => None,
            };
            let share = shared.unwrap_or_else(|| {
                let items = self.tables.pull(key, member, BATCH, max);
                let (share, failures) = encode(&self.tables, key.family, to, &items);
                self.log_failures(source, failures, out);
                share
            });
            if let Some(session) = self.instance_mut(source).and_then(Instance::session_mut) {
                session.updates_sent += share.messages;
            }
            for octets in share.octets {
                self.send(to.conn, octets, out);
            }
            self.check_export_limit(source, at, key, member, out);
        }
    }

    fn log_failures(&self, source: SourceId, failures: Vec<packet::EncodeError>, out: &mut Vec<Output>) {
        let Some(instance) = self.instance(source) else { return };
        for failure in failures {
            let reason = failure.to_string();
            out.push(Output::Log(Log {
                protocol: instance.name().clone(),
                event: LogEvent::BadRoute { reason },
            }));
        }
    }

    /// Says that the initial table, or a refresh, is complete.
    fn finish_channel(&mut self, source: SourceId, at: usize, conn: ConnId, restarting: bool, out: &mut Vec<Output>) {
        // A peer that has just started itself has nothing of ours to sweep and may be waiting for us.
        let speak = self.convergence.is_done() || restarting;
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let Some(channel) = instance.session_mut().and_then(|s| s.channels.get_mut(at)) else {
            return;
        };
        let (key, Some(member)) = (channel.key, channel.membership) else {
            return;
        };
        if self.tables.has_work(key, member) {
            return;
        }
        let family = key.family;
        if speak && std::mem::take(&mut channel.owes_end_of_rib) {
            self.send(conn, packet::end_of_rib(family), out);
        } else if std::mem::take(&mut channel.owes_end_of_refresh) {
            let kind = RefreshKind::End;
            self.send(
                conn,
                ControlMessage::RouteRefresh(RouteRefresh { family, kind }).encode(),
                out,
            );
        }
    }

    fn check_export_limit(
        &mut self,
        source: SourceId,
        at: usize,
        key: TableKey,
        member: Membership,
        out: &mut Vec<Output>,
    ) {
        let announced = self.tables.announced_to(key, member);
        let blocked = self.tables.is_blocked(key, member);
        let Some(Some(instance)) = self.instances.get_mut(usize::from(source.0)) else {
            return;
        };
        let name = instance.name().clone();
        let Some(channel) = instance.session_mut().and_then(|s| s.channels.get_mut(at)) else {
            return;
        };
        let Some(limit) = channel
            .config
            .channel
            .export_limit
            .filter(|limit| announced > limit.routes || blocked)
        else {
            return;
        };
        if !std::mem::replace(&mut channel.limit_logged, true) {
            out.push(Output::Log(Log {
                protocol: name,
                event: LogEvent::Limit {
                    kind: "export",
                    limit: limit.routes,
                    action: limit.action.as_str(),
                },
            }));
        }
        match limit.action {
            LimitAction::Warn | LimitAction::Block => {}
            LimitAction::Restart => {
                self.peer_event(source, Event::Stop(StopReason::ExportLimit { restart: true }), out);
            }
            LimitAction::Disable => self.disable(source, StopReason::ExportLimit { restart: false }, out),
        }
    }
}

/// Who is told.
pub(super) struct Recipient {
    pub(super) conn: ConnId,
    pub(super) context: SessionContext,
    pub(super) address: IpAddr,
}

/// UPDATEs for what was pulled: withdrawals first, then a run of equal attributes at a time. A route that the session
/// cannot carry is withdrawn, since the peer may have an older one; so is one that would lead the peer to itself (RFC 4271
/// section 5.1.3), which is for the session to find out, since peers that are told the same share what they are told.
fn encode(
    tables: &Tables,
    family: AfiSafi,
    to: &Recipient,
    items: &[(Nlri, Option<AttrId>)],
) -> (Share, Vec<packet::EncodeError>) {
    let (mut octets, mut messages) = (Vec::new(), 0);
    let mut failures = Vec::new();
    for run in items.chunk_by(|a, b| a.1 == b.1) {
        let nlri = || run.iter().map(|(nlri, _)| *nlri);
        let attributes = run.first().and_then(|(_, attrs)| *attrs);
        let attributes = attributes.map(|attrs| tables.shared.wire.get(attrs));
        let leads_on = |told: &Attributes| {
            let mut hops = told.next_hop.into_iter().flat_map(NextHop::addresses);
            hops.all(|address| address != to.address)
        };
        let announced = match attributes.filter(leads_on) {
            None => Ok(packet::withdraw_into(&to.context, family, nlri(), &mut octets)),
            Some(attributes) => packet::announce_into(&to.context, family, &attributes, nlri(), &mut octets),
        };
        messages += announced.unwrap_or_else(|error| {
            failures.push(error);
            packet::withdraw_into(&to.context, family, nlri(), &mut octets)
        });
    }
    (Share::new(octets.into(), messages), failures)
}
