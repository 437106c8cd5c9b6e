//! The messages, as values.

use std::fmt;

use serde::Serialize;
use tortie_net::{Asn, Prefix, RouterId};

use super::{AfiSafi, FamilySet, Notification};
use crate::attr::{Attributes, NextHop};

/// A BGP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE.
    Update(Box<Update>),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH. `None`: for a family or of a subtype we do not know, to be ignored (RFC 7313 section 5).
    RouteRefresh(Option<RouteRefresh>),
}

/// A message that is the same on every session: all but UPDATEs, see [`super::announce`] for those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// OPEN.
    Open(Open),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271 section 4.2). The version is always 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: that of the four-octet capability if there is one, else of the two-octet field.
    pub asn: Asn,
    /// Seconds: 0 or at least 3.
    pub hold_time: u16,
    /// The sender's identifier, not zero.
    pub router_id: RouterId,
    /// In the order of the message, repetitions included.
    pub capabilities: Vec<Capability>,
}

/// A capability (RFC 5492).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// A family, by its numbers since the peer may name families we do not know (RFC 4760).
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// IPv6 next hops for these (afi, safi, next hop afi) (RFC 8950).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// Messages of up to 65,535 octets (RFC 8654).
    ExtendedMessage,
    /// Our role towards the peer (RFC 9234).
    Role(Role),
    /// Graceful restart (RFC 4724, 8538).
    GracefulRestart(GracefulRestart),
    /// Four-octet AS numbers, and the sender's (RFC 6793).
    FourOctetAs(Asn),
    /// Several paths for one prefix (RFC 7911): (afi, safi, what the sender can do).
    AddPath(Vec<(u16, u8, AddPathMode)>),
    /// Long-lived graceful restart (RFC 9494): the families whose routes the sender asks to keep. None: it only helps.
    LongLivedGracefulRestart(Vec<LongLivedFamily>),
    /// Demarcated route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// What the sender calls itself (draft-walton-bgp-hostname-capability-02): at most 255 octets each, no control characters.
    Hostname {
        /// The host.
        name: Box<str>,
        /// Its domain; may be empty.
        domain: Box<str>,
    },
    /// Any other, or a known one of an unexpected shape.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

impl Capability {
    /// The code of [`Capability::Role`].
    pub const ROLE: u8 = 9;
}

/// What a sender of the ADD-PATH capability can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddPathMode {
    /// Receive several paths.
    Receive,
    /// Send several paths.
    Send,
    /// Both.
    Both,
}

impl AddPathMode {
    /// Can the sender receive several paths?
    pub fn receives(self) -> bool {
        matches!(self, AddPathMode::Receive | AddPathMode::Both)
    }

    /// Can the sender send several paths?
    pub fn sends(self) -> bool {
        matches!(self, AddPathMode::Send | AddPathMode::Both)
    }
}

/// A BGP role (RFC 9234 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The sender is the peer's provider.
    Provider,
    /// The sender is a route server.
    RouteServer,
    /// The sender is a client of the route server.
    RouteServerClient,
    /// The sender is the peer's customer.
    Customer,
    /// Neither pays.
    Peer,
}

impl Role {
    /// The value on the wire.
    pub fn code(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }

    /// From the value on the wire.
    pub fn from_code(code: u8) -> Option<Self> {
        [
            Role::Provider,
            Role::RouteServer,
            Role::RouteServerClient,
            Role::Customer,
            Role::Peer,
        ]
        .into_iter()
        .find(|role| role.code() == code)
    }

    /// The role the other side must have.
    #[must_use]
    pub fn counterpart(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Customer => Role::Provider,
            Role::Peer => Role::Peer,
        }
    }
}

/// The graceful restart capability (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GracefulRestart {
    /// R: the sender has restarted and its routes are not complete yet.
    pub restarting: bool,
    /// N: the sender keeps routes also over NOTIFICATIONs and an expired hold timer.
    pub notification: bool,
    /// Seconds (0 to 4095) until the sender's session should be back after a restart.
    pub restart_time: u16,
    /// Families whose routes the sender asks to keep. Empty: it only helps others restart.
    pub families: Vec<GracefulRestartFamily>,
}

/// A family in the graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GracefulRestartFamily {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
    /// F: the sender kept forwarding over its restart.
    pub forwarding: bool,
}

/// A family in the long-lived graceful restart capability (RFC 9494 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LongLivedFamily {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
    /// F: the sender kept forwarding over its restart.
    pub forwarding: bool,
    /// Seconds (0 to 2^24 - 1) for which to keep the routes beyond the restart time.
    pub stale_time: u32,
}

impl GracefulRestart {
    /// The families we know of it.
    pub fn known_families(&self) -> FamilySet {
        self.families
            .iter()
            .filter_map(|f| AfiSafi::from_codes(f.afi, f.safi))
            .collect()
    }

    /// The families we know of it whose forwarding state was kept.
    pub fn forwarding_families(&self) -> FamilySet {
        self.families
            .iter()
            .filter(|f| f.forwarding)
            .filter_map(|f| AfiSafi::from_codes(f.afi, f.safi))
            .collect()
    }
}

impl fmt::Display for Capability {
    /// In the words of `birdc show protocols all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Multiprotocol { afi, safi } => match AfiSafi::from_codes(*afi, *safi) {
                Some(family) => write!(f, "Multiprotocol {family}"),
                None => write!(f, "Multiprotocol {afi}/{safi}"),
            },
            Capability::RouteRefresh => f.write_str("Route refresh"),
            Capability::ExtendedNextHop(_) => f.write_str("Extended next hop"),
            Capability::ExtendedMessage => f.write_str("Extended message"),
            Capability::Role(role) => write!(f, "Role {role:?}"),
            Capability::GracefulRestart(gr) if gr.families.is_empty() => f.write_str("Graceful restart (aware)"),
            Capability::GracefulRestart(gr) => write!(f, "Graceful restart {} s", gr.restart_time),
            Capability::FourOctetAs(_) => f.write_str("4-octet AS numbers"),
            Capability::AddPath(_) => f.write_str("ADD-PATH"),
            Capability::EnhancedRouteRefresh => f.write_str("Enhanced refresh"),
            Capability::LongLivedGracefulRestart(families) if families.is_empty() => {
                f.write_str("Long-lived graceful restart (aware)")
            }
            Capability::LongLivedGracefulRestart(_) => f.write_str("Long-lived graceful restart"),
            Capability::Hostname { name, .. } => write!(f, "Hostname {name}"),
            Capability::Unknown { code, .. } => write!(f, "Unknown {code}"),
        }
    }
}

/// ROUTE-REFRESH (RFC 2918, 7313).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteRefresh {
    /// The family concerned.
    pub family: AfiSafi,
    /// A request, or a demarcation.
    pub kind: RefreshKind,
}

/// The subtype of a ROUTE-REFRESH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefreshKind {
    /// Send me everything again.
    Request,
    /// What follows is everything (BoRR).
    Begin,
    /// That was everything (EoRR).
    End,
}

/// A prefix in an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The path identifier; 0 on a session without ADD-PATH.
    pub path_id: u32,
    /// The prefix.
    pub prefix: Prefix,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Nlri { path_id: 0, prefix }
    }
}

/// Prefixes announced with one next hop. All of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Their family.
    pub family: AfiSafi,
    /// Their next hop.
    pub next_hop: NextHop,
    /// Never empty.
    pub nlri: Vec<Nlri>,
}

/// A validated UPDATE: applying it is all that is left.
///
/// Order: withdraw first, then announce; a prefix in both is announced (RFC 4271 section 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Withdrawn, also because an attribute was wrong (RFC 7606 section 2). Families may mix.
    pub withdrawn: Vec<Nlri>,
    /// Announced: at most one entry per family (one from the message's own NLRI field, one from MP_REACH_NLRI).
    pub reach: Vec<Reach>,
    /// The attributes of everything in `reach`. Its `next_hop` is `None`: see [`Reach::next_hop`].
    pub attributes: Attributes,
    /// The message said that the initial table of this family is complete (RFC 4724 section 2).
    pub end_of_rib: Option<AfiSafi>,
    /// What was wrong, and what became of it. For the log and the counters: nothing is left to be done about it.
    pub faults: Vec<Fault>,
}

/// What is done about a wrong attribute (RFC 7606 section 2), the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Verdict {
    /// The attribute was dropped, the route is used.
    DiscardAttribute,
    /// The routes of the message count as withdrawn.
    TreatAsWithdraw,
}

/// A wrong attribute that did not end the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Fault {
    /// The attribute's type code; 0 when the attribute list itself was wrong.
    pub code: u8,
    /// What was wrong.
    pub reason: FaultReason,
    /// What became of it.
    pub verdict: Verdict,
}

/// What can be wrong with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FaultReason {
    /// The Optional or Transitive bit is not that of the attribute.
    Flags,
    /// The length is impossible for the attribute.
    Length,
    /// The value is.
    Value,
    /// It came a second time.
    Duplicate,
    /// It has no business on a session of this kind.
    WrongSession,
    /// A mandatory attribute is missing.
    Missing,
    /// The attributes run beyond their list.
    Overrun,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            FaultReason::Flags => "wrong flags",
            FaultReason::Length => "wrong length",
            FaultReason::Value => "wrong value",
            FaultReason::Duplicate => "repeated",
            FaultReason::WrongSession => "not allowed on this kind of session",
            FaultReason::Missing => "missing",
            FaultReason::Overrun => "longer than its list",
        };
        let verdict = match self.verdict {
            Verdict::DiscardAttribute => "attribute discarded",
            Verdict::TreatAsWithdraw => "routes treated as withdrawn",
        };
        write!(f, "attribute {} {reason}, {verdict}", self.code)
    }
}
