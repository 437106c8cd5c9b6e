//! Tables of nftables (nf_tables): what one shall hold, what the kernel holds, and the change from one to the other as
//! one transaction.
//!
//! A [`Table`] is written as a whole: the kernel takes the old one away and puts the new one there between two packets,
//! or refuses all of it and changes nothing. Connections that are being translated stay so: that is conntrack's.
//! Only tables that are named are ever written; what is read is told apart from what is wanted by
//! [`Table::difference`], in which what the kernel adds of its own (handles, counters) does not count.
//!
//! Spoken over netlink, without the `nft` program: no text of some version of it has to be parsed, and a refusal has an
//! error number. The constants are those of linux/netfilter/nf_tables.h.

mod expression;
pub mod fake;
mod ranges;
mod socket;
mod watch;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use tortie_net::Prefix;

use crate::request::RequestError;

pub use socket::Nft;
pub use watch::Changes;
pub use wire::Seen;

/// Packets of which family a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: `ip`.
    V4,
    /// IPv6: `ip6`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Has an address this family?
    pub fn is_of(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }
}

/// A table's identity in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// Of which family.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        write!(f, "table {family} {}", self.name)
    }
}

/// What a table shall hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Sets of addresses.
    pub sets: Vec<Set>,
    /// Chains, all of them on a hook.
    pub chains: Vec<Chain>,
}

/// A set of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name, of at most 31 octets.
    pub name: &'static str,
    /// Its members; those of the other family are left out, and overlaps do no harm.
    pub members: BTreeSet<Prefix>,
}

/// A base chain, which accepts what no rule decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name, of at most 31 octets.
    pub name: &'static str,
    /// `nat` (sees the first packet of a connection) or `filter` (sees every packet).
    pub kind: ChainKind,
    /// Where packets come by.
    pub hook: Hook,
    /// In which order among the chains of the hook; lower is earlier.
    pub priority: i32,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What a chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Translates addresses.
    Nat,
    /// Drops packets.
    Filter,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            ChainKind::Nat => "nat",
            ChainKind::Filter => "filter",
        }
    }
}

/// A place on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Every packet that came in.
    Prerouting = 0,
    /// Packets for this host.
    Input = 1,
    /// Packets for others.
    Forward = 2,
    /// Packets of this host.
    Output = 3,
    /// Every packet that leaves.
    Postrouting = 4,
}

/// What is done in order: conditions, of which the first that does not hold ends the rule, and what then is done.
pub type Rule = Vec<Step>;

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look at this from now on.
    Look(At),
    /// Goes on when what is looked at begins with (or is) these octets.
    Is(Vec<u8>),
    /// Goes on when it does not.
    IsNot(Vec<u8>),
    /// Goes on when it is a member of this set.
    In(&'static str),
    /// Goes on when it is not.
    NotIn(&'static str),
    /// Drops the packet.
    Drop,
    /// Accepts the packet: no later rule of the chain sees it.
    Accept,
    /// Gives the connection the address of the interface it leaves by as its source; with ports, from that range.
    Masquerade(Option<(u16, u16)>),
    /// Gives the connection this source address; with ports, from that range.
    Source(IpAddr, Option<(u16, u16)>),
    /// Gives the connection this destination address.
    Destination(IpAddr),
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The protocol that the packet carries, one octet.
    Protocol,
    /// The name of the interface it came by, 16 octets padded with 0.
    InInterface,
    /// The name of the interface it leaves by, 16 octets padded with 0.
    OutInterface,
    /// Octets of the transport header and what follows it.
    Transport {
        /// From where.
        offset: u8,
        /// How many, at most 16.
        len: u8,
    },
    /// What kind of address the source is, an `RTN_…` of four octets in the host's order.
    SourceKind {
        /// As seen by the interface it leaves by alone.
        on_out_interface: bool,
    },
}

/// The kernel's tables, real or not.
pub trait Tables: Send + 'static {
    /// What a table holds; `None`: there is no such table.
    ///
    /// # Errors
    /// The kernel's, naming the table.
    fn read(&mut self, id: TableId) -> Result<Option<Seen>, RequestError>;

    /// Makes the table hold this, whatever it held, in one step.
    ///
    /// # Errors
    /// The kernel's, naming the table; it is as it was then.
    fn replace(&mut self, id: TableId, table: &Table) -> Result<(), RequestError>;

    /// Removes the table. No table is success.
    ///
    /// # Errors
    /// The kernel's, naming the table; it is as it was then.
    fn remove(&mut self, id: TableId) -> Result<(), RequestError>;
}

impl Table {
    /// What of the kernel's table is not as this one, for people; `None`: nothing.
    pub fn difference(&self, family: Family, seen: &Seen) -> Option<String> {
        if seen.dormant {
            return Some("it is dormant".to_owned());
        }
        let sets: BTreeMap<&str, &Set> = self.sets.iter().map(|s| (s.name, s)).collect();
        let chains: BTreeMap<&str, &Chain> = self.chains.iter().map(|c| (c.name, c)).collect();
        let more = seen.sets.keys().find(|n| !sets.contains_key(n.as_str()));
        let more = more.or_else(|| seen.chains.keys().find(|n| !chains.contains_key(n.as_str())));
        if let Some(name) = more {
            return Some(format!("{name} is too many"));
        }
        let set = |(name, set): (&&str, &&Set)| {
            let same = seen.sets.get(*name).is_some_and(|s| s.holds(family, &set.members));
            (!same).then(|| format!("set {name} is another"))
        };
        let chain = |(name, chain): (&&str, &&Chain)| {
            let same = seen.chains.get(*name).is_some_and(|c| c.is(family, chain));
            (!same).then(|| format!("chain {name} is another"))
        };
        sets.iter().find_map(set).or_else(|| chains.iter().find_map(chain))
    }
}

/// An interface's name as [`At::InInterface`] has it. A name that ends in `+` or `*` stands for all that begin so.
pub fn interface_name(name: &str) -> Vec<u8> {
    match name.strip_suffix(['+', '*']) {
        Some(beginning) => beginning.as_bytes().iter().copied().take(16).collect(),
        None => {
            let mut octets: Vec<u8> = name.as_bytes().iter().copied().take(15).collect();
            octets.resize(16, 0);
            octets
        }
    }
}
