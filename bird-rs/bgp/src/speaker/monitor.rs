//! What monitoring stations are told (RFC 7854): sessions that come and go, and what they say.
//!
//! The tables note which paths of watched sources changed; a flush looks what these are now and makes Route Monitoring
//! messages of it, so that many changes of a route are told once (section 5 allows that). A station that connects is told
//! which sessions there are and then, page by page, their routes; what changes meanwhile is told between two pages. As
//! both say what is true at their time, the last word about a route is right.
//!
//! Invariants: without a connected station nothing is noted; a flush tells no more than some thousand changes of a table, and
//! what is left makes the next flush due at once; what stations missed because too much was noted is said with
//! [`Output::MonitorLost`].
//!
//! Routes before the policy are what was understood of the peer's UPDATEs: attributes that RFC 7606 discards and
//! non-transitive ones that nobody knows are not in them, and OTC (RFC 9234) is as we marked it.

mod mirror;

pub use self::mirror::{MonitorCursor, MonitorPage};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Speaker;
use super::instance::Instance;
use super::io::{ExportKind, ExportSpec, Output, Station};
use super::session::Session;
use super::show::BmpStatus;
use super::tables::TableKey;
use crate::bmp::{self, Gauge, Message};
use crate::config::{BmpConfig, ProtocolKind};
use crate::fsm::{DownReason, StopReason};
use crate::packet::{AfiSafi, ControlMessage};
use crate::rib::SourceId;

/// ManualStop and BGPOpen, of the events of RFC 4271 section 8.1.
const EVENT_MANUAL_STOP: u16 = 2;
const EVENT_BGP_OPEN: u16 = 19;

/// What the connected stations need.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// What the shell last said of the stations, by protocol.
    stations: BTreeMap<Arc<str>, Station>,
    /// One is connected.
    connected: bool,
    /// One that is connected monitors this.
    pre_policy: bool,
    post_policy: bool,
    /// Peers that said End-of-RIB, to be passed on behind their routes.
    ends: Vec<(SourceId, AfiSafi)>,
}

impl Monitor {
    fn wants_routes(&self) -> bool {
        self.pre_policy || self.post_policy
    }
}

impl BmpStatus {
    /// The last column of `show protocols`.
    pub(super) fn info(&self) -> String {
        let state = if self.connected { "Established" } else { "Connect" };
        let error = self.last_error.as_deref().filter(|_| !self.connected);
        format!("{state:<14}{}", error.unwrap_or_default())
            .trim_end()
            .to_owned()
    }
}

impl Speaker {
    // === stations ===

    pub(super) fn station(&mut self, protocol: &Arc<str>, station: Station) {
        let now = self.now;
        let was = self.monitor.stations.insert(protocol.clone(), station.clone());
        let connected = |station: &Station| *station == Station::Connected;
        if was.as_ref().is_some_and(connected) != connected(&station)
            && let Some(source) = self.find(protocol)
            && let Some(instance) = self.instance_mut(source)
        {
            instance.since = now;
        }
        self.watch_for_stations();
    }

    /// Protocols that will not go on as they are have no station.
    pub(super) fn forget_stations(&mut self, wanted: &[ExportSpec]) {
        let goes_on = |name: &Arc<str>| {
            self.exporting
                .iter()
                .any(|spec| spec.protocol == *name && wanted.contains(spec))
        };
        let stations = std::mem::take(&mut self.monitor.stations).into_iter();
        self.monitor.stations = stations.filter(|(name, _)| goes_on(name)).collect();
        self.watch_for_stations();
    }

    /// Works out what the connected stations want, and has it noted from now on.
    fn watch_for_stations(&mut self) {
        let connected: Vec<&BmpConfig> = self.exporting.iter().filter_map(|spec| self.connected(spec)).collect();
        let pre_policy = connected.iter().any(|bmp| bmp.pre_policy);
        let post_policy = connected.iter().any(|bmp| bmp.post_policy);
        self.monitor.connected = !connected.is_empty();
        let wanted = self.monitor.wants_routes();
        (self.monitor.pre_policy, self.monitor.post_policy) = (pre_policy, post_policy);
        if self.monitor.wants_routes() != wanted {
            self.monitor.ends.clear();
            let up: Vec<SourceId> = self.monitored().map(|(instance, _)| instance.source).collect();
            for source in up {
                self.watch_session(source, !wanted);
            }
        }
    }

    fn connected<'a>(&self, spec: &'a ExportSpec) -> Option<&'a BmpConfig> {
        match &spec.kind {
            ExportKind::Bmp(bmp) => {
                (self.monitor.stations.get(&spec.protocol) == Some(&Station::Connected)).then_some(bmp)
            }
            ExportKind::Mrt(_) => None,
        }
    }

    fn watch_session(&mut self, source: SourceId, on: bool) {
        let session = self.instance(source).and_then(Instance::session);
        let keys: Vec<TableKey> = session.into_iter().flat_map(|s| &s.channels).map(|c| c.key).collect();
        for key in keys {
            self.tables.watch(key, source, on);
        }
    }

    pub(super) fn bmp_status(&self, instance: &Instance) -> Option<BmpStatus> {
        let ProtocolKind::Bmp(bmp) = &instance.config.kind else {
            return None;
        };
        let station = self.monitor.stations.get(instance.name());
        Some(BmpStatus {
            station: bmp.station,
            connected: station == Some(&Station::Connected),
            last_error: match station {
                Some(Station::Lost(reason)) => Some(reason.clone()),
                Some(Station::Connected) | None => None,
            },
            pre_policy: bmp.pre_policy,
            post_policy: bmp.post_policy,
        })
    }

    // === sessions ===

    /// The sessions that are established.
    fn monitored(&self) -> impl Iterator<Item = (&Instance, &Session)> {
        let sessions = self.instances.iter().flatten();
        let sessions = sessions.filter_map(|instance| Some((instance, instance.session()?)));
        sessions.filter(|(_, session)| session.up.is_some())
    }

    fn peer(&self, source: SourceId) -> Option<(&Session, bmp::Peer)> {
        let session = self.instance(source)?.session()?;
        let up = session.up.as_ref()?;
        let peer = bmp::Peer {
            address: session.remote,
            asn: up.peer_as,
            router_id: up.peer_id,
        };
        Some((session, peer))
    }

    fn peer_up(&self, source: SourceId, at: Duration) -> Option<Message> {
        let (session, peer) = self.peer(source)?;
        let up = session.up.as_ref()?;
        let [sent, received] = self.connections.get(&up.conn)?.opens.clone();
        Some(Message::PeerUp {
            peer,
            at,
            local: up.local,
            remote_port: up.remote.port(),
            sent,
            received,
        })
    }

    /// A Peer Up for each session that is established: the first thing that a station is told.
    pub fn monitored_peers(&self) -> Vec<Message> {
        let up = self.monitored();
        up.filter_map(|(instance, _)| self.peer_up(instance.source, instance.since))
            .collect()
    }

    pub(super) fn monitor_up(&mut self, source: SourceId, out: &mut Vec<Output>) {
        if self.monitor.connected {
            out.extend(self.peer_up(source, self.now).map(|up| Output::Monitor(vec![up])));
            self.watch_session(source, self.monitor.wants_routes());
        }
    }

    /// Called while the session is still known to be up. `goodbye` is the NOTIFICATION that we sent, if we did.
    pub(super) fn monitor_down(
        &mut self,
        source: SourceId,
        reason: &DownReason,
        goodbye: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        if !self.monitor.connected {
            return;
        }
        let down = self.peer(source).map(|(_, peer)| Message::PeerDown {
            peer,
            at: self.now,
            reason: down_reason(reason, goodbye),
        });
        out.extend(down.map(|down| Output::Monitor(vec![down])));
        // With the peer all of its routes are gone.
        self.watch_session(source, false);
        self.monitor.ends.retain(|(of, _)| *of != source);
    }

    pub(super) fn monitor_end_of_rib(&mut self, source: SourceId, family: AfiSafi) {
        if self.monitor.wants_routes() && !self.monitor.ends.contains(&(source, family)) {
            self.monitor.ends.push((source, family));
        }
    }

    /// Statistics of each session, as of now.
    pub fn monitor_statistics(&self, now: Duration) -> Vec<Message> {
        let report = |(instance, session): (&Instance, &Session)| {
            let counts = |key: TableKey| {
                let counts = self.tables.counts(key, instance.source);
                let received = u64::from(counts.accepted) + u64::from(counts.filtered);
                (key.family, received, u64::from(counts.best))
            };
            let counts: Vec<_> = session.channels.iter().map(|channel| counts(channel.key)).collect();
            let total = |of: fn(&(AfiSafi, u64, u64)) -> u64| counts.iter().map(of).sum();
            let mut gauges = vec![
                Gauge::AdjRibIn(total(|(_, received, _)| *received)),
                Gauge::LocRib(total(|(.., best)| *best)),
            ];
            gauges.extend(
                counts
                    .iter()
                    .map(|(family, received, _)| Gauge::AdjRibInOf(*family, *received)),
            );
            gauges.extend(counts.iter().map(|(family, _, best)| Gauge::LocRibOf(*family, *best)));
            let (_, peer) = self.peer(instance.source)?;
            Some(Message::Statistics { peer, at: now, gauges })
        };
        self.monitored().filter_map(report).collect()
    }
}

fn down_reason(reason: &DownReason, goodbye: Option<Bytes>) -> bmp::DownReason {
    match (reason, goodbye) {
        (_, Some(notification)) => bmp::DownReason::LocalNotification(notification),
        (DownReason::Received(notification), None) => {
            let octets = ControlMessage::Notification(notification.clone()).encode();
            bmp::DownReason::RemoteNotification(octets)
        }
        (DownReason::ConnectionLost(_), None) => bmp::DownReason::RemoteSilent,
        (DownReason::PeerRestarted, None) => bmp::DownReason::LocalSilent(EVENT_BGP_OPEN),
        (DownReason::Stopped(StopReason::ProcessExit), None) => bmp::DownReason::LocalSilent(EVENT_MANUAL_STOP),
        (DownReason::Stopped(_) | DownReason::Sent(_), None) => bmp::DownReason::LocalSilent(0),
    }
}
