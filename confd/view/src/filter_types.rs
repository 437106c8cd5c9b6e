//! What BGPFilters ask, checked and typed, and the policies made of it.

use std::fmt;

use serde::Serialize;
use tortie_net::{Asn, Prefix};

use super::types::{Family, Origin};

/// A community, standard or large.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CommunityValue {
    /// Large (RFC 8092), else standard (RFC 1997).
    pub large: bool,
    /// Two numbers of 16 bits, or three of 32 bits.
    pub parts: Vec<u32>,
}

impl fmt::Display for CommunityValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{part}")?;
        }
        Ok(())
    }
}

/// A function compiled from one direction of a BGPFilter for one family.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterFunction {
    /// The function's symbol, without quotes.
    pub name: String,
    /// Which routes it sees.
    pub family: Family,
    /// In which direction.
    pub direction: Direction,
    /// It takes the argument that tells an internal session.
    pub wants_internal: bool,
    /// Its rules; the first whose condition holds decides.
    pub rules: Vec<FilterRule>,
    /// The BGPFilter.
    pub origin: Origin,
}

/// A compiled rule. What it asks is typed: each speaker's template writes it in its own language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterRule {
    /// All of them must hold; none: the rule is for every route.
    pub matches: Vec<Match>,
    /// What changes the route before it is accepted, in order.
    pub operations: Vec<Operation>,
    /// Accept or reject.
    pub accept: bool,
}

/// One match of a [`FilterRule`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "match", rename_all = "kebab-case")]
pub enum Match {
    /// The route's network.
    Network {
        /// How it is compared.
        operator: NetworkOperator,
        /// With what.
        prefix: Prefix,
        /// The lengths that count, of networks inside the prefix; with `Equal` the prefix's own must be one of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        lengths: Option<Lengths>,
    },
    /// It was learned from a BGP peer.
    FromPeer,
    /// The interface it points to.
    Interface {
        /// A name, in which `*` is any text.
        pattern: String,
    },
    /// The session.
    Session {
        /// Within the AS.
        internal: bool,
    },
    /// It carries this community.
    Community {
        /// Which.
        community: CommunityValue,
    },
    /// Its path begins with these.
    AsPathPrefix {
        /// The AS numbers, nearest first.
        asns: Vec<Asn>,
    },
    /// It has this priority.
    Priority {
        /// As Linux' metric.
        priority: u32,
        /// The same as local preference.
        local_pref: u32,
    },
}

/// How [`Match::Network`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOperator {
    /// It is the prefix.
    Equal,
    /// It is not.
    NotEqual,
    /// It is the prefix or lies inside.
    In,
    /// It does not.
    NotIn,
}

/// Lengths of prefixes, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: u8,
    /// The longest.
    pub max: u8,
}

/// A change of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub enum Operation {
    /// Adds a community.
    AddCommunity {
        /// Which.
        community: CommunityValue,
    },
    /// Puts these in front of the path.
    PrependAsPath {
        /// As the path reads afterwards, nearest first.
        asns: Vec<Asn>,
    },
    /// Gives it a priority.
    SetPriority {
        /// As Linux' metric.
        priority: u32,
        /// The same as local preference.
        local_pref: u32,
    },
}

/// The direction of a policy, seen from our table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the peer.
    Import,
    /// To the peer.
    Export,
}

/// A named filter that channels refer to. Peers that treat routes alike share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Its symbol.
    pub name: String,
    /// Of which family.
    pub family: Family,
    /// In which direction.
    pub direction: Direction,
    /// For sessions within the AS.
    pub internal: bool,
    /// Calls of [`FilterFunction`]s, in order.
    pub calls: Vec<FilterCall>,
}

/// A call of a [`FilterFunction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterCall {
    /// The function.
    pub function: String,
    /// Does it take the argument that tells an internal session?
    pub wants_internal: bool,
    /// The BGPFilter.
    pub origin: Origin,
}
