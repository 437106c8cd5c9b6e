//! Answers about the speaker's state. To be asked after a flush: until then the best paths of prefixes that just
//! changed are not decided.

use std::sync::Arc;
use std::time::Duration;

use super::Speaker;
use super::export::next_hops;
use super::instance::{Instance, Kind};
use super::session::Session;
use super::show::{BgpStatus, BmpStatus, CacheView, ChannelStatus, ProtocolState, ProtocolStatus, RouteView, Status};
use super::tables::{TableKey, TableRoute};
use crate::config::{BgpConfig, PeerType, ProtocolKind};
use crate::filter::RouteSource;
use crate::fsm::State;
use crate::rib::SourceId;

impl Speaker {
    /// The speaker as a whole.
    pub fn status(&self) -> Status {
        let sizes = self.tables.keys().into_iter().map(|key| self.tables.size(key));
        let (prefixes, paths) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        Status {
            router_id: self.router_id,
            fib_in_sync: self.fib_in_sync,
            configured_at: self.configured_at,
            attribute_sets: self.tables.shared.learned.len() + self.tables.shared.wire.len(),
            prefixes,
            paths,
        }
    }

    /// All protocols, in the order of the configuration, dynamic peers last.
    pub fn protocols(&self) -> Vec<ProtocolStatus> {
        let in_order = self.in_order().into_iter();
        in_order.map(|instance| self.protocol(instance)).collect()
    }

    /// Their names, in the same order.
    pub fn protocol_names(&self) -> Vec<Arc<str>> {
        let in_order = self.in_order().into_iter();
        in_order.map(|instance| instance.name().clone()).collect()
    }

    pub(super) fn in_order(&self) -> Vec<&Instance> {
        let order = |instance: &&Instance| {
            self.config
                .protocols
                .iter()
                .position(|p| p.name == *instance.name())
                .unwrap_or(usize::MAX)
        };
        let mut instances: Vec<&Instance> = self.instances.iter().flatten().collect();
        instances.sort_by_cached_key(|instance| (order(instance), instance.name().clone()));
        instances
    }

    fn protocol(&self, instance: &Instance) -> ProtocolStatus {
        let channels: Vec<ChannelStatus> = self.channels(instance);
        let table = match &channels[..] {
            [only] => only.table.clone(),
            _ => "---".into(),
        };
        let session = instance.session();
        let bmp = self.bmp_status(instance);
        let state = match session {
            _ if !instance.enabled => ProtocolState::Down,
            _ if bmp.as_ref().is_some_and(|bmp| !bmp.connected) => ProtocolState::Start,
            Some(session) if session.up.is_none() => ProtocolState::Start,
            None if matches!(&instance.kind, Kind::Roas(roas) if !roas.is_up()) => ProtocolState::Start,
            Some(_) | None => ProtocolState::Up,
        };
        ProtocolStatus {
            name: instance.name().clone(),
            kind: match instance.config.kind {
                ProtocolKind::Device(_) => "Device",
                ProtocolKind::Direct(_) => "Direct",
                ProtocolKind::Static(_) | ProtocolKind::Roas(_) => "Static",
                ProtocolKind::Kernel(_) => "Kernel",
                ProtocolKind::Felix(_) => "Felix",
                ProtocolKind::Bfd(_) => "BFD",
                ProtocolKind::Bgp(_) => "BGP",
                ProtocolKind::Mrt(_) => "MRT",
                ProtocolKind::Bmp(_) => "BMP",
                ProtocolKind::Rpki(_) => "RPKI",
            },
            table,
            state,
            since: instance.since,
            info: match &instance.kind {
                Kind::Bgp(session) => info(session, instance.enabled),
                Kind::Range(range) => self.range_info(instance.name(), range),
                Kind::Quiet => bmp.as_ref().map(BmpStatus::info).unwrap_or_default(),
                Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) => String::new(),
                Kind::Roas(roas) => roas.info(),
            },
            description: instance.config.description.clone(),
            channels,
            bgp: match (&instance.kind, &instance.config.kind) {
                (Kind::Bgp(session), ProtocolKind::Bgp(bgp)) => Some(bgp_status(session, bgp)),
                _ => None,
            },
            bmp,
            cache: cache(instance),
            range: instance.range().and_then(|range| range.status()),
            by_hand: instance.taken_down.is_some(),
            message: instance.taken_down.clone().filter(|reason| !reason.is_empty()),
            router_id: instance.config.router_id,
        }
    }

    pub(super) fn view(&self, key: TableKey, route: &TableRoute<'_>) -> Option<RouteView> {
        let (protocol, source) = self.source(route.path.source())?;
        let traits = self
            .tables
            .shared
            .traits
            .get(usize::from(route.path.source().0))?
            .as_ref()?;
        Some(RouteView {
            prefix: route.net,
            table: self.tables.name(key).clone(),
            protocol,
            source,
            from: traits.address,
            best: route.best,
            reason: route.reason,
            filtered: route.path.filtered(),
            preference: route.learned.preference,
            destination: route.learned.destination,
            next_hops: next_hops(route.learned, Some(&self.tables.shared.hops)),
            igp_metric: route
                .learned
                .igp_metric
                .or_else(|| self.tables.shared.hops.metric(route.learned.hop?)),
            krt: route.learned.krt,
            attributes: route.learned.attributes.clone(),
            since: Duration::from_secs(u64::from(route.path.since())),
            stale: route.path.stale().is_left_over(),
            path_id: route.path.path_id(),
        })
    }

    pub(super) fn source(&self, source: SourceId) -> Option<(Arc<str>, RouteSource)> {
        self.tables.shared.names.get(usize::from(source.0)).cloned().flatten()
    }
}

/// BIRD's last column.
fn info(session: &Session, enabled: bool) -> String {
    if session.up.is_some() {
        return State::Established.as_str().to_owned();
    }
    let state = if enabled { session.peer.state().as_str() } else { "" };
    match session.peer.last_error().or(session.peer.last_connect_failure()) {
        Some(error) => format!("{state} {error}").trim_start().to_owned(),
        None => state.to_owned(),
    }
}

fn bgp_status(session: &Session, bgp: &BgpConfig) -> BgpStatus {
    let told = session.peer.negotiated();
    let names = |capabilities: &[crate::packet::Capability]| capabilities.iter().map(ToString::to_string).collect();
    BgpStatus {
        neighbor_address: session.remote,
        neighbor_port: bgp.neighbor_port,
        neighbor_as: match bgp.peer_type {
            PeerType::As(asn) => Some(asn),
            PeerType::Internal => Some(bgp.local_as),
            PeerType::External => told.map(|n| n.peer_as),
        },
        local_as: bgp.local_as,
        neighbor_id: told.map(|n| n.peer_id),
        state: session.peer.state().as_str(),
        hold_time: told.map(|n| n.hold_time),
        keepalive: told.map(|n| n.keepalive_time),
        local_capabilities: told.map_or_else(Vec::new, |n| names(&n.local_capabilities)),
        neighbor_capabilities: told.map_or_else(Vec::new, |n| names(&n.peer_capabilities)),
        last_error: session.peer.last_error().map(str::to_owned),
        last_connect_failure: session.peer.last_connect_failure().map(str::to_owned),
        source_address: told.map(|n| n.local.ip()).or(bgp.local_address),
        updates_received: session.updates_received,
        updates_sent: session.updates_sent,
        passive: bgp.transport.passive,
        interface: bgp.interface.as_deref().map(Arc::from),
        session: kinds(session, bgp),
        negotiated: told.map(|told| Box::new(told.clone())),
        timers: session.peer.timers(),
        connect_delay: bgp.timers.connect_delay,
        last_failure: session.peer.last_failure().cloned(),
        outgoing: session.peer.is_outgoing(),
    }
}

/// What a session is, in BIRD's words.
fn kinds(session: &Session, bgp: &BgpConfig) -> Vec<&'static str> {
    let told = session.peer.negotiated();
    let side = if session.is_internal() { "internal" } else { "external" };
    let kinds = [
        (true, side),
        (bgp.transport.multihop.is_some(), "multihop"),
        (bgp.rr_client, "route-reflector"),
        (bgp.rs_client, "route-server"),
        (told.is_some_and(|told| told.context.four_octet_as), "AS4"),
    ];
    kinds.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
}

/// The cache of a protocol, and how the session with it is.
fn cache(instance: &Instance) -> Option<CacheView> {
    let (Kind::Roas(roas), ProtocolKind::Rpki(config)) = (&instance.kind, &instance.config.kind) else {
        return None;
    };
    Some(CacheView {
        address: config.remote.to_string(),
        port: config.port,
        status: roas.status().cloned(),
    })
}
