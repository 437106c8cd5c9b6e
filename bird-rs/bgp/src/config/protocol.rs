//! Protocols but BGP, and what all protocols share: names, tables, channels, limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{Prefix, RouterId};

use super::bfd::BfdConfig;
use super::bgp::BgpConfig;
use super::bmp::BmpConfig;
use super::monitor::MrtConfig;
use super::rpki::{RoaConfig, RpkiConfig};
use crate::filter::Filter;

/// The network type of a table or channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelFamily {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl ChannelFamily {
    /// `"ipv4"` or `"ipv6"`, the keyword and the channel's name.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelFamily::Ipv4 => "ipv4",
            ChannelFamily::Ipv6 => "ipv6",
        }
    }

    /// The table that a channel of this family uses when it names none.
    pub fn default_table(self) -> &'static str {
        match self {
            ChannelFamily::Ipv4 => "master4",
            ChannelFamily::Ipv6 => "master6",
        }
    }

    /// Is a prefix of this family?
    pub fn has(self, prefix: Prefix) -> bool {
        prefix.is_v4() == (self == ChannelFamily::Ipv4)
    }
}

/// A routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, unique among tables.
    pub name: Arc<str>,
    /// What it holds.
    pub family: ChannelFamily,
    /// `sorted`: the routes of a prefix are kept in order, as `secondary` needs it.
    pub sorted: bool,
}

/// One protocol instance, its template resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Protocol {
    /// Unique among protocols.
    pub name: Arc<str>,
    /// `description`.
    pub description: Option<String>,
    /// `disabled`: loaded, but down until enabled by hand.
    pub disabled: bool,
    /// `router id` of this protocol; else the global one.
    pub router_id: Option<RouterId>,
    /// `debug all` or `debug { states }`: changes of the session's state are told whatever the log's level.
    pub debug: bool,
    /// What it is.
    pub kind: ProtocolKind,
}

/// A protocol's own configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ProtocolKind {
    /// `device`: interfaces are watched. Produces no routes.
    Device(DeviceConfig),
    /// `direct`: the connected subnets as routes.
    Direct(DirectConfig),
    /// `static`: routes written in the configuration.
    Static(StaticConfig),
    /// `kernel`: routes exchanged with the kernel.
    Kernel(KernelConfig),
    /// `felix`: best routes streamed to felix. Our extension.
    Felix(FelixConfig),
    /// `bfd`: sessions that watch paths. Produces no routes.
    Bfd(BfdConfig),
    /// `bgp`: a session, or a range of dynamic ones.
    Bgp(Box<BgpConfig>),
    /// `mrt`: tables dumped to files.
    Mrt(MrtConfig),
    /// `bmp`: what peers tell us, shown to a monitoring station.
    Bmp(BmpConfig),
    /// `static` with a channel of ROAs: ROAs written in the configuration.
    Roas(RoaConfig),
    /// `rpki`: ROAs of a cache.
    Rpki(RpkiConfig),
}

impl ProtocolKind {
    /// The keyword, for instance `"bgp"`.
    pub fn as_str(&self) -> &'static str {
        match self {
            ProtocolKind::Device(_) => "device",
            ProtocolKind::Direct(_) => "direct",
            ProtocolKind::Static(_) | ProtocolKind::Roas(_) => "static",
            ProtocolKind::Kernel(_) => "kernel",
            ProtocolKind::Felix(_) => "felix",
            ProtocolKind::Bfd(_) => "bfd",
            ProtocolKind::Bgp(_) => "bgp",
            ProtocolKind::Mrt(_) => "mrt",
            ProtocolKind::Bmp(_) => "bmp",
            ProtocolKind::Rpki(_) => "rpki",
        }
    }
}

/// What passes a channel in one direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// `none`.
    None,
    /// `all`.
    All,
    /// `filter NAME`, `filter { .. }` or `where EXPRESSION`.
    Filter(Arc<Filter>),
}

/// A channel: the link between a protocol and a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// What it carries.
    pub family: ChannelFamily,
    /// The table's name. It exists and has the channel's family.
    pub table: Arc<str>,
    /// From the protocol to the table.
    pub import: Policy,
    /// From the table to the protocol.
    pub export: Policy,
    /// `preference`: of routes this channel imports, before its filter. Defaults: bgp 100, static 200, direct 240,
    /// kernel 10.
    pub preference: u16,
    /// `receive limit`: routes from the peer, before the filter.
    pub receive_limit: Option<Limit>,
    /// `import limit`: routes that the import filter accepted.
    pub import_limit: Option<Limit>,
    /// `export limit`: routes announced.
    pub export_limit: Option<Limit>,
    /// `import keep filtered`: rejected routes are kept, to be shown.
    pub import_keep_filtered: bool,
    /// `rpki reload`: when ROAs change, the filters that check them run again over the routes concerned. Default on.
    pub rpki_reload: bool,
    /// `merge paths`, of felix's channels alone: paths of equal cost become one route with so many next hops at most.
    pub merge_paths: Option<u8>,
}

/// `... limit N [action A]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So many routes are fine.
    pub routes: u32,
    /// What one more does.
    pub action: LimitAction,
}

/// What happens when a limit is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAction {
    /// A log line.
    Warn,
    /// Routes beyond the limit are dropped.
    Block,
    /// The protocol restarts.
    Restart,
    /// The protocol goes down and stays down. The default.
    Disable,
}

impl LimitAction {
    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitAction::Warn => "warn",
            LimitAction::Block => "block",
            LimitAction::Restart => "restart",
            LimitAction::Disable => "disable",
        }
    }
}

/// `interface [-]"MASK" [PREFIX]`. The first pattern of a list that matches decides; a minus excludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern {
    /// No minus sign.
    pub positive: bool,
    /// A shell pattern with `*` and `?`.
    pub name: Option<String>,
    /// An address of the interface lies in it.
    pub prefix: Option<Prefix>,
}

/// `protocol device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// `scan time`: a full look at the interfaces. Default 60 s.
    pub scan_time: Duration,
}

/// `protocol direct`.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectConfig {
    /// Which interfaces; each inner list is one `interface` statement. None means all.
    pub interfaces: Vec<Vec<InterfacePattern>>,
    /// `check link`: links without carrier are left out.
    pub check_link: bool,
    /// Channels. At most one for each family, at least one.
    pub channels: Vec<Channel>,
}

/// `protocol static`.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticConfig {
    /// The one channel.
    pub channel: Channel,
    /// `check link`: a next hop on a link without carrier is unreachable.
    pub check_link: bool,
    /// `igp table`: where recursive routes are resolved; else the channel's table.
    pub igp_table: Option<Arc<str>>,
    /// Routes in order.
    pub routes: Vec<StaticRoute>,
}

/// `route PREFIX DESTINATION [{ ATTRIBUTES }]`.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticRoute {
    /// The destination prefix, of the channel's family.
    pub prefix: Prefix,
    /// Where to.
    pub destination: StaticDestination,
    /// Statements run over the route as it is made, for instance `bgp_community.add((1,2));`: see
    /// [`Filter::apply`].
    pub attributes: Option<Arc<Filter>>,
}

/// Where a static route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticDestination {
    /// `blackhole`: dropped silently.
    Blackhole,
    /// `unreachable`: dropped with an ICMP message.
    Unreachable,
    /// `prohibit`: dropped with an ICMP message.
    Prohibit,
    /// `via ..`, one or several.
    Via(Vec<StaticHop>),
    /// `recursive ADDRESS`: as the route to that address.
    Recursive(IpAddr),
}

/// One `via`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticHop {
    /// The gateway; none for a route straight to an interface.
    pub gateway: Option<IpAddr>,
    /// The interface; needed for link-local gateways.
    pub interface: Option<String>,
    /// `weight`, 1 to 256.
    pub weight: u16,
    /// `onlink`: the gateway need not be in a connected subnet.
    pub onlink: bool,
    /// `bfd`: only while a BFD session with the gateway is up. Then there is a gateway.
    pub bfd: bool,
}

/// `protocol kernel`.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelConfig {
    /// `persist`: routes stay in the kernel when we end.
    pub persist: bool,
    /// `scan time`. Default 60 s.
    pub scan_time: Duration,
    /// `learn`: routes that others put into the kernel's table are imported.
    pub learn: bool,
    /// `kernel table`. Default 254, main.
    pub kernel_table: u32,
    /// `metric` of our routes in the kernel. Default 32; 0 is the kernel's own default.
    pub metric: u32,
    /// `merge paths`: routes of equal cost become one with several next hops, at most so many.
    pub merge_paths: Option<u8>,
    /// `graceful restart`: routes found at a start are kept until the new ones are complete.
    pub graceful_restart: bool,
    /// The one channel.
    pub channel: Channel,
}

/// `protocol felix`: our extension. The best routes that its export policies accept are streamed to felix.
#[derive(Debug, Clone, PartialEq)]
pub struct FelixConfig {
    /// At most one for each family, at least one. `import` is always none.
    pub channels: Vec<Channel>,
}
