//! `protocol bgp` and its channels. Defaults are BIRD 2.0.12's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{Asn, Prefix, RouterId};

use super::authentication::Authentication;
use super::bfd::BgpBfd;
use super::protocol::Channel;

/// One BGP session, or a range of dynamic ones.
#[derive(Debug, Clone, PartialEq)]
pub struct BgpConfig {
    /// `local as`.
    pub local_as: Asn,
    /// `local ADDRESS` or `source address`.
    pub local_address: Option<IpAddr>,
    /// `local .. port`: the port we listen on. Default 179.
    pub local_port: u16,
    /// Whom to talk to.
    pub neighbor: Neighbor,
    /// The peer's port we connect to. Default 179.
    pub neighbor_port: u16,
    /// The peer's AS: a number, or only which kind.
    pub peer_type: PeerType,
    /// `interface`, or the `%name` of a link-local neighbour.
    pub interface: Option<String>,
    /// How the TCP connection is made and guarded.
    pub transport: Transport,
    /// Timers.
    pub timers: Timers,
    /// `rr client`: reflect routes to and from this peer (RFC 4456).
    pub rr_client: bool,
    /// `rr cluster id`; else the router id.
    pub rr_cluster_id: Option<RouterId>,
    /// `rs client`: we are a route server and leave the path and next hop alone (RFC 7947).
    pub rs_client: bool,
    /// `path metric`: shorter paths win. Default on.
    pub path_metric: bool,
    /// `med metric`: MEDs of different neighbour ASes are compared. Default off.
    pub med_metric: bool,
    /// `igp metric`: nearer next hops win. Default on.
    pub igp_metric: bool,
    /// `prefer older`: the older of equal external routes wins, not the lower router id (RFC 5004). Default off.
    pub prefer_older: bool,
    /// `deterministic med`. Default off.
    pub deterministic_med: bool,
    /// `default bgp_med`, when a route carries none. Default 0.
    pub default_med: u32,
    /// `default bgp_local_pref`, for routes from external peers. Default 100.
    pub default_local_pref: u32,
    /// `capabilities`: advertise any (RFC 5492). Default on.
    pub capabilities: bool,
    /// `enable route refresh` (RFC 2918, 7313). Default on.
    pub enable_route_refresh: bool,
    /// `enable as4` (RFC 6793). Default on.
    pub enable_as4: bool,
    /// `enable extended messages` (RFC 8654). Default off.
    pub enable_extended_messages: bool,
    /// `advertise hostname`. Default off.
    pub advertise_hostname: bool,
    /// `interpret communities`: obey the well-known ones (RFC 1997). Default on.
    pub interpret_communities: bool,
    /// `allow local as`: how often our own AS may be in a received path.
    pub allow_local_as: LocalAsAllowed,
    /// `allow bgp_local_pref`: accept it from external peers. Default off.
    pub allow_local_pref: bool,
    /// `allow as sets`. Default on.
    pub allow_as_sets: bool,
    /// `enforce first as`: an external peer's AS must come first in its paths. Default off.
    pub enforce_first_as: bool,
    /// `local role` (RFC 9234).
    pub local_role: Option<Role>,
    /// `require roles`: refuse a peer without one. Default off.
    pub require_roles: bool,
    /// `graceful restart` (RFC 4724). Default aware.
    pub graceful_restart: GracefulRestart,
    /// `graceful restart time`, 0 to 4095 s. Default 120 s.
    pub graceful_restart_time: Duration,
    /// `long lived graceful restart` (RFC 9494). Default aware when graceful restart is not off.
    pub long_lived_graceful_restart: GracefulRestart,
    /// `long lived stale time`. Default 3600 s.
    pub long_lived_stale_time: Duration,
    /// `disable after error`: stay down after a protocol error. Default off.
    pub disable_after_error: bool,
    /// `disable after cease`: stay down after these Cease subcodes.
    pub disable_after_cease: CeaseReasons,
    /// `bfd`. Default off. Without a `protocol bfd` that accepts the session nothing watches the path.
    pub bfd: BgpBfd,
    /// At most one for each family. With none, an `ipv4` channel as BIRD's is not implied: it is an error.
    pub channels: Vec<BgpChannel>,
}

/// How many dynamic peers a range may have at a time by default: an idle session takes some 30 kB, so many tens of
/// megabytes.
pub const DEFAULT_DYNAMIC_LIMIT: u32 = 1000;

/// Whom a BGP protocol talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neighbor {
    /// `neighbor ADDRESS`.
    Address(IpAddr),
    /// `neighbor range PREFIX`: whoever connects from there, each a session of its own.
    Range {
        /// The sources.
        prefix: Prefix,
        /// `dynamic name`: what the sessions' names begin with. Default `dynbgp`.
        name: String,
        /// `dynamic name digits`: width of the number that follows, zero filled.
        digits: u8,
        /// `dynamic limit`, ours: how many there may be at a time. Default 1000.
        limit: u32,
    },
}

/// The peer's autonomous system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerType {
    /// `as NUMBER`. Equal to the local one, the peer is internal.
    As(Asn),
    /// `internal`: the local one.
    Internal,
    /// `external`: any other.
    External,
}

impl PeerType {
    /// Is the peer internal, given our own AS?
    pub fn is_internal(self, local: Asn) -> bool {
        match self {
            PeerType::As(asn) => asn == local,
            PeerType::Internal => true,
            PeerType::External => false,
        }
    }
}

/// How the TCP connection is made and guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// `multihop N`: the TTL; `None` is `direct`, the peer is on a connected subnet. Default: direct for external
    /// peers, multihop 64 for internal ones.
    pub multihop: Option<u8>,
    /// `authentication`, `password`, `keys`. Default none.
    pub authentication: Authentication,
    /// `ttl security` (RFC 5082). Default off.
    pub ttl_security: bool,
    /// `passive`: never connect, only accept. Default off.
    pub passive: bool,
    /// `strict bind`: listen on the local address only. Default off.
    pub strict_bind: bool,
    /// `free bind`: listen even if the local address is not there yet. Default off.
    pub free_bind: bool,
    /// `check link`: take the session down with the link. Default: on when direct.
    pub check_link: bool,
}

/// A session's timers. Whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// `hold time`, 0 or 3 to 65535. Default 240.
    pub hold: Duration,
    /// `startup hold time`: while waiting for the peer's OPEN. Default 240.
    pub startup_hold: Duration,
    /// `min hold time`: a peer that wants less is refused. Default 0.
    pub min_hold: Duration,
    /// `keepalive time`; else a third of the negotiated hold time. Scaled down as BIRD does when the negotiated hold
    /// time is less than ours.
    pub keepalive: Option<Duration>,
    /// `min keepalive time`. Default 0.
    pub min_keepalive: Duration,
    /// `delay open time`: how long our OPEN waits for the peer's on a new connection (RFC 4271's DelayOpenTime). Default 0.
    /// Our extension.
    pub delay_open: Duration,
    /// `send hold time`: how long the peer may take nothing of what we send (RFC 9687), more than the hold time; zero:
    /// for ever. `None`: the longer of 8 minutes and twice the negotiated hold time.
    pub send_hold: Option<Duration>,
    /// `connect delay time`: before the first attempt. Default 5.
    pub connect_delay: Duration,
    /// `connect retry time`. Default 120.
    pub connect_retry: Duration,
    /// `error wait time MIN, MAX`: the first wait after an error. Doubles up to the maximum. Default 60.
    pub error_wait_min: Duration,
    /// The longest wait. Default 300.
    pub error_wait_max: Duration,
    /// `error forget time`: without an error for so long, the wait is the shortest again. Default 300.
    pub error_forget: Duration,
}

/// How often our own AS may be in a received path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAsAllowed {
    /// So often. Default 0.
    Times(u32),
    /// Any number of times.
    Unlimited,
}

/// `graceful restart on|off|aware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GracefulRestart {
    /// Not advertised.
    Off,
    /// We help a restarting peer, but do not restart gracefully ourselves.
    Aware,
    /// Both.
    On,
}

/// Our role towards the peer (RFC 9234).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `provider`.
    Provider,
    /// `rs_server`.
    RsServer,
    /// `rs_client`.
    RsClient,
    /// `customer`.
    Customer,
    /// `peer`.
    Peer,
}

/// A set of Cease subcodes (RFC 4486), bit `1 << subcode`; bit 0 is a Cease of no or another subcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CeaseReasons(pub u16);

impl CeaseReasons {
    /// Does it hold this subcode?
    pub fn contains(self, subcode: u8) -> bool {
        let bit = if (1..=8).contains(&subcode) { subcode } else { 0 };
        self.0 & (1 << bit) != 0
    }
}

/// A BGP channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BgpChannel {
    /// What it shares with other protocols' channels.
    pub channel: Channel,
    /// `next hop self`.
    pub next_hop_self: NextHopRewrite,
    /// `next hop keep`.
    pub next_hop_keep: NextHopRewrite,
    /// `next hop address`: instead of our own, where we would write ours.
    pub next_hop_address: Option<IpAddr>,
    /// `next hop prefer global`: of a next hop with two addresses, use the global one. Default off.
    pub next_hop_prefer_global: bool,
    /// `gateway`. Default: direct for a direct session, recursive for a multihop one.
    pub gateway: Gateway,
    /// `igp table` for IPv4 next hops; else the channel's table, or `master4`.
    pub igp_table4: Option<Arc<str>>,
    /// `igp table` for IPv6 next hops; else the channel's table, or `master6`.
    pub igp_table6: Option<Arc<str>>,
    /// `mandatory`: refuse a peer without this family. Default off.
    pub mandatory: bool,
    /// `secondary`: announce the best route that the policy accepts, not only the best. Default off.
    pub secondary: bool,
    /// `extended next hop` (RFC 8950): IPv4 routes with IPv6 next hops. Default off.
    pub extended_next_hop: bool,
    /// `add paths` (RFC 7911).
    pub add_paths: AddPaths,
    /// `import table`: keep what was received, so that a new policy needs no refresh. Default off.
    pub import_table: bool,
    /// `export table`: keep what was announced. Default off.
    pub export_table: bool,
    /// `graceful restart` for this family; else on when the session's is.
    pub graceful_restart: Option<bool>,
    /// `long lived graceful restart` for this family; else on when the session's is.
    pub long_lived_graceful_restart: Option<bool>,
    /// `long lived stale time` for this family; else the session's.
    pub long_lived_stale_time: Option<Duration>,
    /// `cost`: added to the IGP metric of next hops. Default 0: not set.
    pub cost: u32,
}

/// Which routes a next hop option is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopRewrite {
    /// None.
    Off,
    /// All.
    On,
    /// Those received from internal peers.
    Ibgp,
    /// Those received from external peers.
    Ebgp,
}

/// How the next hop of a received route becomes a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// It is the gateway, on a connected subnet; else the peer is.
    Direct,
    /// By the route to it.
    Recursive,
}

/// `add paths off|on|rx|tx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddPaths {
    /// One path for each prefix. Default.
    Off,
    /// We accept several.
    Rx,
    /// We send several.
    Tx,
    /// Both.
    Both,
}
