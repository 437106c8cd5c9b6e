//! What a speaker shows of itself. All lists are sorted, so that two prints can be compared.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{Asn, Prefix, RouterId};

use super::io::FibNextHop;
use crate::attr::{Attributes, NextHop};
use crate::config::Limit;
use crate::filter::{Krt, RouteDestination, RouteSource};
use crate::fsm::{DownReason, Kept, Negotiated, PeerTimers};
use crate::rib::{Filtered, Reason, Traffic};
use crate::rtr::CacheStatus;

/// The speaker as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Has the initial table been completed?
    pub fib_in_sync: bool,
    /// When the current configuration was applied.
    pub configured_at: Duration,
    /// Distinct sets of attributes held.
    pub attribute_sets: usize,
    /// Prefixes with at least one path.
    pub prefixes: usize,
    /// Paths.
    pub paths: usize,
}

/// One protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct ProtocolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `"BGP"`, `"Static"`, `"Device"`, `"Direct"`, `"Felix"`, `"Kernel"`, `"MRT"`, `"BMP"`, as BIRD writes them.
    pub kind: &'static str,
    /// Its table, or `"---"`.
    pub table: Arc<str>,
    /// BIRD's protocol state.
    pub state: ProtocolState,
    /// Since when.
    pub since: Duration,
    /// BIRD's last column: for BGP the session's state and the last error.
    pub info: String,
    /// `description`.
    pub description: Option<String>,
    /// Its channels.
    pub channels: Vec<ChannelStatus>,
    /// For BGP.
    pub bgp: Option<BgpStatus>,
    /// For BMP.
    pub bmp: Option<BmpStatus>,
    /// For a range of BGP peers.
    pub range: Option<RangeStatus>,
    /// An operator took it down.
    pub by_hand: bool,
    /// What the operator who took it down said.
    pub message: Option<Arc<str>>,
    /// `router id` of the protocol.
    pub router_id: Option<RouterId>,
    /// For RPKI.
    pub cache: Option<CacheView>,
}

/// A `protocol bmp` and its station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmpStatus {
    /// Where the station is.
    pub station: SocketAddr,
    /// Is it told things?
    pub connected: bool,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// It monitors routes before the import policy.
    pub pre_policy: bool,
    /// And behind it.
    pub post_policy: bool,
}

/// A cache of ROAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheView {
    /// Its address or name.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// How the session is, once there is one.
    pub status: Option<CacheStatus>,
}

/// BIRD's protocol states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolState {
    /// Working.
    Up,
    /// On its way up.
    Start,
    /// Disabled.
    Down,
}

impl ProtocolState {
    /// As BIRD prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProtocolState::Up => "up",
            ProtocolState::Start => "start",
            ProtocolState::Down => "down",
        }
    }
}

/// One channel of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStatus {
    /// `"ipv4"`, `"ipv6"`, `"roa4"` or `"roa6"`.
    pub family: &'static str,
    /// The table.
    pub table: Arc<str>,
    /// Does it carry routes now?
    pub up: bool,
    /// Paths of this protocol that its import policy accepted.
    pub imported: u64,
    /// Paths that its import policy rejected.
    pub filtered: u64,
    /// Of `imported`, those that are best.
    pub preferred: u64,
    /// Routes that the other side has from us.
    pub exported: u64,
    /// How it is configured, as BIRD shows it.
    pub settings: ChannelSettings,
    /// What came in.
    pub imports: Traffic,
    /// What went out.
    pub exports: Traffic,
    /// Routes of a lost session are kept.
    pub kept: Option<Kept>,
    /// Our next hop towards the peer, while up: of BGP.
    pub next_hop: Option<NextHop>,
}

/// How a channel is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelSettings {
    /// `preference`.
    pub preference: u16,
    /// `import`: `ACCEPT`, `REJECT`, the filter's name, or `(unnamed)`.
    pub import: Arc<str>,
    /// `export`, likewise.
    pub export: Arc<str>,
    /// `import keep filtered`.
    pub keep_filtered: bool,
    /// Limits that are set: `Receive`, `Import`, `Export`.
    pub limits: Vec<LimitStatus>,
    /// `igp table`s that BIRD would look into: family, name.
    pub igp_tables: Vec<(&'static str, Arc<str>)>,
}

/// A limit of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// `"Receive"`, `"Import"`, `"Export"`.
    pub kind: &'static str,
    /// The limit.
    pub limit: Limit,
    /// Are there as many routes as there may be, and more to come?
    pub hit: bool,
}

/// A range of BGP peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeStatus {
    /// From where they may connect.
    pub prefix: Prefix,
    /// Their AS, if it is said.
    pub neighbor_as: Option<Asn>,
    /// Our AS towards them.
    pub local_as: Asn,
    /// Why nobody can be accepted, if so.
    pub last_error: Option<String>,
}

/// A BGP session.
#[derive(Debug, Clone, PartialEq)]
pub struct BgpStatus {
    /// The peer's address.
    pub neighbor_address: IpAddr,
    /// The port we connect to.
    pub neighbor_port: u16,
    /// The peer's AS: configured, or else told.
    pub neighbor_as: Option<Asn>,
    /// Our AS towards it.
    pub local_as: Asn,
    /// The peer's BGP identifier, once told.
    pub neighbor_id: Option<RouterId>,
    /// RFC 4271 section 8.2.2.
    pub state: &'static str,
    /// Negotiated; zero means none.
    pub hold_time: Option<Duration>,
    /// Negotiated; zero means none.
    pub keepalive: Option<Duration>,
    /// What we offered.
    pub local_capabilities: Vec<String>,
    /// What the peer offered.
    pub neighbor_capabilities: Vec<String>,
    /// Why the session last went down or was refused.
    pub last_error: Option<String>,
    /// Why the peer could last not be connected to.
    pub last_connect_failure: Option<String>,
    /// Our end.
    pub source_address: Option<IpAddr>,
    /// UPDATE messages received since the process started.
    pub updates_received: u64,
    /// UPDATE messages sent since the process started.
    pub updates_sent: u64,
    /// Do we only wait for the peer to connect?
    pub passive: bool,
    /// Its address is on this link.
    pub interface: Option<Arc<str>>,
    /// What the session is: `internal`, `external`, and what else BIRD says of it.
    pub session: Vec<&'static str>,
    /// What was agreed on, from the peer's OPEN on.
    pub negotiated: Option<Box<Negotiated>>,
    /// Deadlines.
    pub timers: PeerTimers,
    /// `connect delay time`.
    pub connect_delay: Duration,
    /// Why the session last failed.
    pub last_failure: Option<DownReason>,
    /// The connection is one that we opened.
    pub outgoing: bool,
}

/// Which routes to show. The default shows all accepted ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteQuery {
    /// Exactly this prefix.
    pub prefix: Option<Prefix>,
    /// The most specific prefix that covers this address.
    pub longest_match: Option<IpAddr>,
    /// Only best routes.
    pub best_only: bool,
    /// Only what this protocol told us.
    pub protocol: Option<String>,
    /// What this protocol is told, as it is told.
    pub exported_to: Option<String>,
    /// Also routes that an import policy rejected.
    pub filtered: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteView {
    /// Where to.
    pub prefix: Prefix,
    /// The table.
    pub table: Arc<str>,
    /// Who told us.
    pub protocol: Arc<str>,
    /// What kind of protocol.
    pub source: RouteSource,
    /// The router that told us.
    pub from: Option<IpAddr>,
    /// Is it the best?
    pub best: bool,
    /// Why it is the best, or which comparison it lost. None for a filtered one.
    pub reason: Option<Reason>,
    /// Why it is not used at all.
    pub filtered: Option<Filtered>,
    /// BIRD's preference.
    pub preference: u16,
    /// What is done with packets.
    pub destination: RouteDestination,
    /// Gateways: as far as the next hop could be resolved, where packets go.
    pub next_hops: Vec<FibNextHop>,
    /// Distance of the next hop, when known.
    pub igp_metric: Option<u32>,
    /// What the kernel says of it, or is to say.
    pub krt: Krt,
    /// The path attributes.
    pub attributes: Attributes,
    /// When it came.
    pub since: Duration,
    /// Kept over the restart of the peer that told it.
    pub stale: bool,
    /// The path identifier (RFC 7911): as it came, or as it is told; zero without.
    pub path_id: u32,
}
