//! What a filter sees of a route, and what it says about it.

use std::borrow::Cow;
use std::net::IpAddr;

use tortie_net::Prefix;

use crate::attr::Attributes;
use crate::roa::RoaTables;

/// Where a route came from: BIRD's `source`, an `RTS_` constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// `RTS_STATIC`: a static protocol.
    Static,
    /// `RTS_INHERIT`: the kernel protocol.
    Inherit,
    /// `RTS_DEVICE`: the direct protocol.
    Device,
    /// `RTS_BGP`: a BGP session.
    Bgp,
}

/// What is done with packets: BIRD's `dest`, an `RTD_` constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteDestination {
    /// `RTD_UNICAST`: sent to a gateway or interface.
    Unicast,
    /// `RTD_BLACKHOLE`.
    Blackhole,
    /// `RTD_UNREACHABLE`.
    Unreachable,
    /// `RTD_PROHIBIT`.
    Prohibit,
}

/// What the kernel and a route have to do with each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Krt {
    /// `krt_metric`: the metric of a learned route; of an exported one, where the protocol gives none to all.
    pub metric: Option<u32>,
    /// `krt_source`: the protocol number of a learned route.
    pub source: Option<u32>,
    /// `krt_prefsrc`: the address that this host shall send from.
    pub prefsrc: Option<IpAddr>,
}

/// A route as a filter sees it. A filter changes what it may change in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteContext<'a> {
    /// `net`, read only.
    pub net: Prefix,
    /// `proto`: the name of the protocol that the route came from, read only.
    pub proto: &'a str,
    /// `source`, read only.
    pub source: RouteSource,
    /// `from`: the router that told us; none for routes of our own.
    pub from: Option<IpAddr>,
    /// `gw`; none when the route has several or none.
    pub gw: Option<IpAddr>,
    /// `ifname`.
    pub ifname: Option<Cow<'a, str>>,
    /// `dest`.
    pub dest: RouteDestination,
    /// `preference`, at most 65535.
    pub preference: u16,
    /// `igp_metric`: the distance of the next hop. None: it is not known.
    pub igp_metric: Option<u32>,
    /// What the kernel says of the route, or an export filter wants it to say.
    pub krt: Krt,
    /// What `roa_check` asks. Without it nothing is known of any route.
    pub roas: Option<&'a RoaTables>,
    /// What the filter assigned.
    pub assigned: Assigned,
    /// The path attributes. Stays borrowed until a filter changes one, so that an interned value keeps its identity.
    pub attributes: Cow<'a, Attributes>,
}

/// Attributes that a filter assigned, maybe the value that was there: what a router says itself to a neighbour is told
/// even where what it was told is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assigned {
    /// `bgp_med`.
    pub med: bool,
    /// `bgp_next_hop`.
    pub next_hop: bool,
}

/// What a filter says about a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Does the route pass? A filter that fails, or ends without a word, rejects.
    pub accepted: bool,
    /// Lines that the filter prints (`print`, or after `accept` and `reject`), to be logged.
    pub messages: Vec<String>,
    /// Why the filter failed, when it did.
    pub error: Option<RunError>,
}

/// A filter failed on a route. The route is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct RunError {
    /// The line in the configuration file.
    pub line: u32,
    /// What went wrong.
    pub problem: Problem,
}

/// What went wrong in a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An operation on an attribute that the route does not have.
    #[error("{0} got no value: the route has no such attribute")]
    Undefined(&'static str),
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// Calls nest too deeply.
    #[error("calls nest too deeply")]
    TooDeep,
    /// The filter ran for too long.
    #[error("more than {0} steps")]
    TooLong(u32),
    /// A value that an attribute cannot take.
    #[error("{what} cannot be {value}")]
    Range {
        /// The attribute or operand.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A value of another type, which only a running filter can have: a recursive call's result.
    #[error("{what} must be of type {wanted}, got {got}")]
    Type {
        /// Where.
        what: &'static str,
        /// The type that fits.
        wanted: &'static str,
        /// The value.
        got: String,
    },
    /// A function that accepts or rejects, called for its result.
    #[error("a function whose result is used must return, not accept or reject")]
    Decided,
    /// A route's attribute where there is no route: in a `define`.
    #[error("{0} has no value here: there is no route")]
    NoRoute(&'static str),
}
