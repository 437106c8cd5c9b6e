//! `protocol bfd`, and what `protocol bgp` says about BFD. Defaults are BIRD 2.0.12's.

use std::net::IpAddr;
use std::time::Duration;

use super::protocol::InterfacePattern;
use super::{BgpConfig, ChannelFamily, Config, Neighbor, ProtocolKind, StaticConfig, StaticDestination, StaticRoute};

/// How a BFD session behaves, as far as it is said. What is not said is the next place's to say: first the BGP protocol,
/// then `interface` or `multihop` of `protocol bfd`, then [`BfdTiming::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BfdOptions {
    /// `min rx interval`, or `interval` for both. 1 us to 2^32 - 1 us.
    pub min_rx: Option<Duration>,
    /// `min tx interval`.
    pub min_tx: Option<Duration>,
    /// `idle tx interval`.
    pub idle_tx: Option<Duration>,
    /// `multiplier`, 1 to 255.
    pub multiplier: Option<u8>,
    /// `passive`.
    pub passive: Option<bool>,
}

impl BfdOptions {
    /// What is said here, and what is not, as the other says it.
    #[must_use]
    pub fn or(self, other: BfdOptions) -> Self {
        BfdOptions {
            min_rx: self.min_rx.or(other.min_rx),
            min_tx: self.min_tx.or(other.min_tx),
            idle_tx: self.idle_tx.or(other.idle_tx),
            multiplier: self.multiplier.or(other.multiplier),
            passive: self.passive.or(other.passive),
        }
    }

    /// With the defaults for what nobody said.
    pub fn timing(self) -> BfdTiming {
        let default = BfdTiming::default();
        BfdTiming {
            min_rx: self.min_rx.unwrap_or(default.min_rx),
            min_tx: self.min_tx.unwrap_or(default.min_tx),
            idle_tx: self.idle_tx.unwrap_or(default.idle_tx),
            multiplier: self.multiplier.unwrap_or(default.multiplier),
            passive: self.passive.unwrap_or(default.passive),
        }
    }
}

/// How a BFD session behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BfdTiming {
    /// We want packets no more often. Default 10 ms.
    pub min_rx: Duration,
    /// We send no more often while up. Default 100 ms.
    pub min_tx: Duration,
    /// We send no more often while not up; never more often than once a second. Default 1 s.
    pub idle_tx: Duration,
    /// Packets of ours the peer may miss. Default 5.
    pub multiplier: u8,
    /// Wait for the peer's first packet. Default off.
    pub passive: bool,
}

impl Default for BfdTiming {
    fn default() -> Self {
        BfdTiming {
            min_rx: Duration::from_millis(10),
            min_tx: Duration::from_millis(100),
            idle_tx: Duration::from_secs(1),
            multiplier: 5,
            passive: false,
        }
    }
}

/// `bfd` of `protocol bgp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BgpBfd {
    /// What it is used for.
    pub usage: BfdUsage,
    /// `strict`, our extension: no BGP session before BFD is up.
    pub strict: bool,
    /// `{ .. }`.
    pub options: BfdOptions,
}

/// What a BGP session does with BFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BfdUsage {
    /// `off`: nothing.
    #[default]
    Off,
    /// `on`: it ends with BFD, and so do its routes.
    On,
    /// `graceful`: it ends with BFD, and graceful restart keeps the routes.
    Graceful,
}

/// `protocol bfd`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BfdConfig {
    /// `accept ipv4` or `accept ipv6`: only sessions of this family.
    pub family: Option<ChannelFamily>,
    /// `accept direct` (false) or `accept multihop` (true): only such sessions.
    pub accept_multihop: Option<bool>,
    /// `interface`: the first statement that matches a session's interface counts.
    pub interfaces: Vec<(Vec<InterfacePattern>, BfdOptions)>,
    /// `multihop`.
    pub multihop: BfdOptions,
    /// `neighbor`: sessions that no protocol asks for.
    pub neighbors: Vec<BfdNeighbor>,
}

impl BfdConfig {
    /// Does it take sessions of this family, with a peer behind routers or on a link of ours?
    pub fn accepts(&self, family: ChannelFamily, multihop: bool) -> bool {
        self.family.is_none_or(|only| only == family) && self.accept_multihop.is_none_or(|only| only == multihop)
    }
}

impl StaticRoute {
    /// The next hops with `bfd`: their gateways, and the interfaces that are said.
    pub fn watched(&self) -> impl Iterator<Item = (IpAddr, Option<&str>)> {
        let hops = match &self.destination {
            StaticDestination::Via(hops) => hops.as_slice(),
            StaticDestination::Blackhole
            | StaticDestination::Unreachable
            | StaticDestination::Prohibit
            | StaticDestination::Recursive(_) => &[],
        };
        let watched = hops.iter().filter(|hop| hop.bfd);
        watched.filter_map(|hop| Some((hop.gateway?, hop.interface.as_deref())))
    }
}

impl Config {
    /// Is there a `protocol bfd` that accepts the sessions of this BGP protocol? True when it wants none.
    pub fn watches(&self, bgp: &BgpConfig) -> bool {
        let v4 = match bgp.neighbor {
            Neighbor::Address(address) => address.is_ipv4(),
            Neighbor::Range { prefix, .. } => prefix.is_v4(),
        };
        let family = if v4 { ChannelFamily::Ipv4 } else { ChannelFamily::Ipv6 };
        let multihop = bgp.transport.multihop.is_some();
        bgp.bfd.usage == BfdUsage::Off || self.accepts_bfd(family, multihop)
    }

    /// Is there a `protocol bfd` that accepts the sessions of these routes? True when they want none.
    pub fn watches_static(&self, routes: &StaticConfig) -> bool {
        let watched = routes.routes.iter().flat_map(StaticRoute::watched);
        let families = watched.map(|(gateway, _)| match gateway {
            IpAddr::V4(_) => ChannelFamily::Ipv4,
            IpAddr::V6(_) => ChannelFamily::Ipv6,
        });
        families.into_iter().all(|family| self.accepts_bfd(family, false))
    }

    fn accepts_bfd(&self, family: ChannelFamily, multihop: bool) -> bool {
        self.protocols.iter().any(|protocol| match &protocol.kind {
            ProtocolKind::Bfd(bfd) => bfd.accepts(family, multihop),
            _ => false,
        })
    }
}

/// `neighbor ADDRESS [dev "NAME"] [local ADDRESS] [multihop on]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BfdNeighbor {
    /// The peer.
    pub address: IpAddr,
    /// `dev`.
    pub interface: Option<String>,
    /// `local`. There with `multihop`.
    pub local: Option<IpAddr>,
    /// `multihop`.
    pub multihop: bool,
}
