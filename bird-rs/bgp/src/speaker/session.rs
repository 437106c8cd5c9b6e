//! One BGP protocol: its state machine, its channels, and what its configuration means for each.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{Asn, Prefix, RouterId};

use super::bfd::BfdKey;
use super::export::{BgpView, View};
use super::import::{Checks, ImportView};
use super::io::{ConnectSpec, InterfaceAddress};
use super::tables::{Membership, TableKey, afi};
use crate::attr::NextHop;
use crate::config::{self, AddPaths, BfdUsage, BgpChannel, BgpConfig, Gateway, GracefulRestart, Neighbor, PeerType};
use crate::filter::RouteSource;
use crate::fsm::{GracefulRestartMode, Negotiated, Peer, PeerAs, PeerConfig};
use crate::nexthop::Rule;
use crate::packet::{AfiSafi, FamilySet, Role};
use crate::rib::{SourceKind, Traffic, Traits};

/// A BGP protocol with one neighbour.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) config: BgpConfig,
    pub(super) remote: IpAddr,
    pub(super) router_id: RouterId,
    pub(super) peer: Peer,
    /// What was agreed on, while established.
    pub(super) up: Option<Box<Negotiated>>,
    /// The peer's AS on the last session: what is kept of that is still its.
    pub(super) last_as: Option<Asn>,
    pub(super) channels: Vec<SessionChannel>,
    /// The second in which the log last heard of a fault in an UPDATE.
    pub(super) fault_logged: Option<u32>,
    pub(super) updates_received: u64,
    pub(super) updates_sent: u64,
    /// The link on which the peer is, as long as the session is a direct one.
    link: Option<Arc<str>>,
    /// An address of ours has been on the peer's subnet.
    pub(super) had_link: bool,
    /// The BFD session that watches the path, once it was known between which addresses.
    pub(super) bfd: Option<BfdKey>,
    /// The range that it was made for a peer of; it then goes with its session.
    pub(super) range: Option<Arc<str>>,
}

/// Who we are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'c> {
    pub(super) router_id: RouterId,
    pub(super) hostname: Option<&'c str>,
}

/// A channel of a session.
#[derive(Debug)]
pub(super) struct SessionChannel {
    pub(super) key: TableKey,
    pub(super) config: BgpChannel,
    /// While established, with the family agreed on.
    pub(super) membership: Option<Membership>,
    /// We have not yet said that the initial table is complete.
    pub(super) owes_end_of_rib: bool,
    /// We have begun a refresh and not yet said that it is complete.
    pub(super) owes_end_of_refresh: bool,
    /// A limit was reached and said so.
    pub(super) limit_logged: bool,
    /// On sessions before this one, while the peer's routes were kept in between.
    pub(super) told: Traffic,
    /// The peer has announced more than the receive limit, and the rest was not kept.
    pub(super) refused: bool,
    /// The peer is to announce everything again.
    pub(super) wants_refresh: bool,
}

impl Session {
    /// A session that nothing is wanted of yet.
    pub(super) fn new(key: u32, config: &BgpConfig, remote: IpAddr, us: Identity<'_>, restarting: bool) -> Self {
        Session {
            peer: Peer::new(key, peer_config(config, us), restarting),
            config: config.clone(),
            remote,
            router_id: us.router_id,
            up: None,
            last_as: None,
            channels: Vec::new(),
            fault_logged: None,
            updates_received: 0,
            updates_sent: 0,
            link: None,
            had_link: false,
            bfd: None,
            range: None,
        }
    }

    /// Was it made for a peer out of a range?
    pub(super) fn is_dynamic(&self) -> bool {
        self.range.is_some()
    }

    pub(super) fn is_internal(&self) -> bool {
        match (&self.up, self.config.peer_type) {
            (Some(up), PeerType::Internal | PeerType::External) => up.peer_as == self.config.local_as,
            (_, peer_type) => peer_type.is_internal(self.config.local_as),
        }
    }

    /// Our role, on a session on which roles mean something.
    fn external_role(&self) -> Option<Role> {
        self.config.local_role.map(role).filter(|_| !self.is_internal())
    }

    /// Notes on which link the peer is. Says whether that is another one than before on an established session.
    pub(super) fn find_link(&mut self, addresses: &[InterfaceAddress]) -> bool {
        let link = self.link(addresses);
        let changed = self.link != link;
        self.link = link;
        changed && self.up.is_some()
    }

    pub(super) fn link(&self, addresses: &[InterfaceAddress]) -> Option<Arc<str>> {
        let wanted = self.config.interface.as_deref();
        let near = |a: &&InterfaceAddress| {
            a.subnet.contains(self.remote) && wanted.is_none_or(|interface| interface == &*a.interface)
        };
        let link = addresses.iter().filter(near).max_by_key(|a| a.subnet.len());
        link.filter(|_| self.config.transport.multihop.is_none())
            .map(|a| a.interface.clone())
    }

    /// The cluster that we and a client are in.
    fn cluster(&self) -> Option<RouterId> {
        self.config.rr_client.then(|| self.cluster_id())
    }

    fn cluster_id(&self) -> RouterId {
        self.config.rr_cluster_id.unwrap_or(self.router_id)
    }

    /// For the decision process.
    pub(super) fn traits(&self) -> Traits {
        let kind = if self.is_internal() {
            SourceKind::Ibgp {
                client: self.config.rr_client,
            }
        } else {
            SourceKind::Ebgp
        };
        Traits {
            kind,
            router_id: self.up.as_ref().map_or(RouterId(0), |up| up.peer_id),
            address: Some(self.remote),
            default_local_pref: self.config.default_local_pref,
            default_med: self.config.default_med,
            interface: self.link.clone(),
            cluster: self.cluster(),
        }
    }

    /// How a channel imports.
    pub(super) fn import_view(&self, name: &Arc<str>, channel: &BgpChannel, own: &Arc<[IpAddr]>) -> ImportView {
        let checks = Checks {
            internal: self.is_internal(),
            local_as: self.config.local_as,
            peer_as: self.last_as.unwrap_or(self.config.local_as),
            role: self.external_role(),
            allow_local_as: self.config.allow_local_as,
            allow_local_pref: self.config.allow_local_pref,
            allow_as_sets: self.config.allow_as_sets,
            enforce_first_as: self.config.enforce_first_as,
            default_local_pref: self.config.default_local_pref,
            router_id: self.router_id,
            cluster: self.cluster(),
            own: own.clone(),
        };
        let rule = Arc::new(Rule {
            recursive: channel.gateway == Gateway::Recursive,
            igp: super::igp::of_channel(channel),
            peer: Some(self.remote),
            interface: self.config.interface.as_deref().map(Arc::from),
            cost: channel.cost,
            prefer_global: channel.next_hop_prefer_global,
            link_local: None,
        });
        ImportView {
            protocol: name.clone(),
            source: RouteSource::Bgp,
            traits: self.traits(),
            policy: channel.channel.import.clone(),
            preference: channel.channel.preference,
            rule: Some(rule),
            checks: Some(checks),
        }
    }

    /// How a channel exports, given what was agreed on and the host's addresses.
    pub(super) fn export_view(&self, channel: &BgpChannel, up: &Negotiated, addresses: &[InterfaceAddress]) -> View {
        let family = afi(channel.channel.family);
        let interface = self.link(addresses);
        let local = up.local.ip();
        let own = match channel.next_hop_address {
            Some(address) => Some(NextHop::from(address)),
            None => own_next_hop(family, local, addresses, up.context.ext_next_hop, interface.is_some()),
        };
        View::Bgp(Box::new(BgpView {
            family,
            policy: channel.channel.export.clone(),
            internal: self.is_internal(),
            cluster: self.cluster(),
            route_server: self.config.rs_client,
            local_as: self.config.local_as,
            role: self.external_role(),
            allow_local_pref: self.config.allow_local_pref,
            obey_communities: self.config.interpret_communities,
            default_local_pref: self.config.default_local_pref,
            long_lived: up.long_lived.is_some(),
            next_hop_self: channel.next_hop_self,
            next_hop_keep: channel.next_hop_keep,
            own,
            extended_next_hop: up.context.ext_next_hop,
            interface,
            add_paths: up.context.add_path_tx.contains(family),
            secondary: channel.secondary.then_some(self.remote),
        }))
    }

    /// How to connect.
    pub(super) fn connect_spec(&self) -> ConnectSpec {
        let transport = &self.config.transport;
        let hops = transport.multihop.unwrap_or(1);
        ConnectSpec {
            remote: (self.remote, self.config.neighbor_port).into(),
            source: self.config.local_address,
            interface: self.config.interface.clone(),
            authentication: transport.authentication.clone(),
            ttl: if transport.ttl_security { u8::MAX } else { hops },
            min_ttl: transport.ttl_security.then(|| u8::MAX - hops.saturating_sub(1)),
        }
    }

    /// May a connection between these addresses be this peer's?
    pub(super) fn answers_to(&self, remote: IpAddr, local: IpAddr) -> bool {
        self.remote == remote && self.config.local_address.is_none_or(|address| address == local)
    }
}

impl SessionChannel {
    pub(super) fn new(key: TableKey, config: &BgpChannel) -> Self {
        SessionChannel {
            key,
            config: config.clone(),
            membership: None,
            owes_end_of_rib: false,
            owes_end_of_refresh: false,
            limit_logged: false,
            told: Traffic::default(),
            refused: false,
            wants_refresh: false,
        }
    }
}

/// The one neighbour of a protocol, or the range of its neighbours.
pub(super) fn neighbour(config: &BgpConfig) -> Result<IpAddr, Prefix> {
    match &config.neighbor {
        Neighbor::Address(address) => Ok(*address),
        Neighbor::Range { prefix, .. } => Err(*prefix),
    }
}

/// Our own next hop towards a peer: the session's local address, or for the other family an address of the same
/// interface. The link-local address goes along where the peer shares the link (RFC 2545 section 3).
fn own_next_hop(
    family: AfiSafi,
    local: IpAddr,
    addresses: &[InterfaceAddress],
    extended: bool,
    on_link: bool,
) -> Option<NextHop> {
    let interface = addresses.iter().find(|a| a.address == local).map(|a| &a.interface);
    let mut here = addresses
        .iter()
        // The loopback interface may have addresses to be reached at, but 127.0.0.1 and ::1 are none.
        .filter(|a| Some(&a.interface) == interface && !a.address.is_loopback())
        .map(|a| a.address);
    match (family, local) {
        (AfiSafi::Ipv4Unicast, IpAddr::V4(address)) => Some(NextHop::V4(address)),
        // As BIRD: who agreed on IPv6 next hops gets them, whatever else the link has.
        (AfiSafi::Ipv4Unicast, IpAddr::V6(_)) if extended => Some(NextHop::from(local)),
        (AfiSafi::Ipv4Unicast, IpAddr::V6(_)) => here.find(IpAddr::is_ipv4).map(NextHop::from),
        (AfiSafi::Ipv6Unicast, local) => {
            let v6 = |address: IpAddr| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            };
            let global = v6(local).or_else(|| here.clone().filter_map(v6).find(|a| !a.is_unicast_link_local()))?;
            let mut link_local = here.filter_map(v6).filter(Ipv6Addr::is_unicast_link_local);
            let link_local = link_local.find(|_| on_link && !global.is_unicast_link_local());
            Some(NextHop::V6 { global, link_local })
        }
    }
}

/// The state machine's part of a configuration.
pub(super) fn peer_config(config: &BgpConfig, us: Identity<'_>) -> PeerConfig {
    let peer_as = match config.peer_type {
        PeerType::As(asn) => PeerAs::Exactly(asn),
        PeerType::Internal => PeerAs::Internal,
        PeerType::External => PeerAs::External,
    };
    let families = |wanted: fn(&BgpChannel) -> bool| -> FamilySet {
        config
            .channels
            .iter()
            .filter(|c| wanted(c))
            .map(|c| afi(c.channel.family))
            .collect()
    };
    let timers = &config.timers;
    PeerConfig {
        passive: config.transport.passive,
        mandatory_families: families(|c| c.mandatory),
        capabilities: config.capabilities,
        four_octet_as: config.enable_as4,
        route_refresh: config.enable_route_refresh,
        enhanced_route_refresh: config.enable_route_refresh,
        extended_messages: config.enable_extended_messages,
        ext_next_hop: config.channels.iter().any(|c| c.extended_next_hop),
        add_path_rx: families(|c| matches!(c.add_paths, AddPaths::Rx | AddPaths::Both)),
        add_path_tx: families(|c| matches!(c.add_paths, AddPaths::Tx | AddPaths::Both)),
        hostname: us.hostname.filter(|_| config.advertise_hostname).map(str::to_owned),
        role: config.local_role.map(role),
        require_role: config.require_roles,
        graceful_restart: graceful(config.graceful_restart),
        graceful_families: families(|c| c.graceful_restart != Some(false)),
        restart_time: config.graceful_restart_time,
        long_lived: graceful(config.long_lived_graceful_restart),
        long_lived_times: long_lived_times(config),
        hold_time: timers.hold,
        min_hold_time: timers.min_hold,
        startup_hold_time: timers.startup_hold,
        keepalive_time: timers.keepalive,
        min_keepalive_time: timers.min_keepalive,
        send_hold_time: timers.send_hold,
        connect_delay: timers.connect_delay,
        delay_open: timers.delay_open,
        connect_retry: timers.connect_retry,
        error_wait: (timers.error_wait_min, timers.error_wait_max),
        error_forget: timers.error_forget,
        disable_after_error: config.disable_after_error,
        local_pref: config.allow_local_pref,
        bfd_graceful: config.bfd.usage == BfdUsage::Graceful,
        bfd_strict: config.bfd.strict,
        disable_after_cease: config.disable_after_cease.0,
        ..PeerConfig::new(config.local_as, peer_as, us.router_id, families(|_| true))
    }
}

fn graceful(mode: GracefulRestart) -> GracefulRestartMode {
    match mode {
        GracefulRestart::Off => GracefulRestartMode::Off,
        GracefulRestart::Aware => GracefulRestartMode::Aware,
        GracefulRestart::On => GracefulRestartMode::On,
    }
}

/// How long the peer should keep the routes of each family for which it should at all.
fn long_lived_times(config: &BgpConfig) -> Vec<(AfiSafi, Duration)> {
    let wanted = config
        .channels
        .iter()
        .filter(|c| c.long_lived_graceful_restart != Some(false));
    let times = wanted.map(|c| {
        let time = c.long_lived_stale_time.unwrap_or(config.long_lived_stale_time);
        (afi(c.channel.family), time)
    });
    times.filter(|(_, time)| !time.is_zero()).collect()
}

fn role(role: config::Role) -> Role {
    match role {
        config::Role::Provider => Role::Provider,
        config::Role::RsServer => Role::RouteServer,
        config::Role::RsClient => Role::RouteServerClient,
        config::Role::Customer => Role::Customer,
        config::Role::Peer => Role::Peer,
    }
}
