//! Path attributes as owned, canonical values.
//!
//! Two routes with the same attributes have equal, equally hashed values, so that [`Attributes`] can be interned (packed, see [`Pack`]): sets
//! are sorted and without duplicates, an AS path has no empty segment, attributes we do not know are sorted by code.
//! What was on the wire (flags, order, widths) is not kept, except for attributes we only pass on.
//!
//! This module knows no encoding; that is [`crate::packet`]'s.

mod as_path;
mod pack;
mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};
use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, RouterId};

pub use as_path::{AsPath, AsPathBuilder, Segment, SegmentKind};
pub use pack::{Pack, Unpacker};
pub(crate) use pack::{pack_octets, unpack_octets};
pub use set::Set;

/// The path attributes of a route (RFC 4271 section 5 and its successors).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AS_PATH, with AS4_PATH merged in.
    pub as_path: AsPath,
    /// NEXT_HOP or the next hop of MP_REACH_NLRI. `None` for a route of our own before it is advertised.
    pub next_hop: Option<NextHop>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF. `None`: the default (100) applies.
    pub local_pref: Option<u32>,
    /// AGGREGATOR, with AS4_AGGREGATOR merged in.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Set<Community>,
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub ext_communities: Set<ExtCommunity>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Set<LargeCommunity>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<RouterId>,
    /// CLUSTER_LIST (RFC 4456), the most recent reflector first.
    pub cluster_list: Box<[RouterId]>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<Asn>,
    /// Which of the optional transitive ones were attached on the way, by a router that did not make the route.
    pub partial: Partial,
    /// Optional transitive attributes that we do not know, sorted by code, to be passed on.
    pub unknown: Box<[UnknownAttribute]>,
}

/// A set of attributes: those whose Partial bit is set (RFC 4271 section 5). Once set it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partial(u8);

impl Partial {
    /// AGGREGATOR.
    pub const AGGREGATOR: Partial = Partial(1);
    /// COMMUNITIES.
    pub const COMMUNITIES: Partial = Partial(1 << 1);
    /// EXTENDED COMMUNITIES.
    pub const EXT_COMMUNITIES: Partial = Partial(1 << 2);
    /// LARGE_COMMUNITY.
    pub const LARGE_COMMUNITIES: Partial = Partial(1 << 3);
    /// ONLY_TO_CUSTOMER.
    pub const ONLY_TO_CUSTOMER: Partial = Partial(1 << 4);

    /// The attribute with this type code, if the bit can be set for it.
    pub fn of(code: u8) -> Option<Self> {
        match code {
            7 => Some(Partial::AGGREGATOR),
            8 => Some(Partial::COMMUNITIES),
            16 => Some(Partial::EXT_COMMUNITIES),
            32 => Some(Partial::LARGE_COMMUNITIES),
            35 => Some(Partial::ONLY_TO_CUSTOMER),
            _ => None,
        }
    }

    /// Is no bit set?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Are these in it?
    pub fn contains(self, attribute: Partial) -> bool {
        self.0 & attribute.0 == attribute.0
    }

    /// Puts these in.
    pub fn insert(&mut self, attribute: Partial) {
        self.0 |= attribute.0;
    }

    /// Takes these out.
    pub fn remove(&mut self, attribute: Partial) {
        self.0 &= !attribute.0;
    }
}

/// ORIGIN (RFC 4271 section 5.1.1). The order is that of preference: IGP before EGP before INCOMPLETE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum Origin {
    /// From inside the originating AS. The default of a route of our own.
    #[default]
    Igp,
    /// From the EGP protocol.
    Egp,
    /// By other means.
    Incomplete,
}

impl Origin {
    /// The value on the wire.
    pub fn code(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }

    /// From the value on the wire.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Origin::Igp),
            1 => Some(Origin::Egp),
            2 => Some(Origin::Incomplete),
            _ => None,
        }
    }

    /// As BIRD prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "Incomplete",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where to send packets for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, and the link-local one of the same router when it shares a link with us (RFC 2545 section 3).
    ///
    /// `global` may itself be link-local when the speaker has no other address on that link.
    V6 {
        /// The address to resolve.
        global: Ipv6Addr,
        /// The address to forward to on the shared link.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address to resolve: the global one.
    pub fn addr(self) -> IpAddr {
        match self {
            NextHop::V4(addr) => IpAddr::V4(addr),
            NextHop::V6 { global, .. } => IpAddr::V6(global),
        }
    }

    /// All of its addresses.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let link_local = match self {
            NextHop::V6 { link_local, .. } => link_local.map(IpAddr::V6),
            NextHop::V4(_) => None,
        };
        std::iter::once(self.addr()).chain(link_local)
    }

    /// The address to forward to on a shared link: the link-local one if there is one.
    pub fn forwarding(self) -> IpAddr {
        match self {
            NextHop::V4(addr) => IpAddr::V4(addr),
            NextHop::V6 { global, link_local } => IpAddr::V6(link_local.unwrap_or(global)),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => NextHop::V4(addr),
            IpAddr::V6(global) => NextHop::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    /// As BIRD prints it: both addresses, separated by a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::V4(addr) => addr.fmt(f),
            NextHop::V6 {
                global,
                link_local: None,
            } => global.fmt(f),
            NextHop::V6 {
                global,
                link_local: Some(link_local),
            } => write!(f, "{global} {link_local}"),
        }
    }
}

/// AGGREGATOR: who formed an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its address, by custom its router id.
    pub addr: Ipv4Addr,
}

impl fmt::Display for Aggregator {
    /// As BIRD prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS{}", self.addr, self.asn)
    }
}

/// An optional transitive attribute that this speaker does not know (RFC 4271 section 9).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownAttribute {
    /// The attribute type code.
    pub code: u8,
    /// Did somebody on the way not know it either (the Partial bit)? We set it when we pass the attribute on.
    pub partial: bool,
    /// The value, as it came.
    pub value: Box<[u8]>,
}

impl Serialize for NextHop {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
