//! Tables of ours that resolve next hops in place of the kernel's (`igp table`).
//!
//! What a table says comes from its routes that are not themselves resolved by routes: next hops are never resolved twice,
//! and a route cannot come to depend on itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::{Prefix, PrefixMap};

use super::{HopId, NextHops, Resolved, Rule};
use crate::rib::Hop;

/// Which tables resolve the next hops of a rule; where none is named, the kernel's does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Igp {
    /// IPv4 ones.
    pub v4: Option<Arc<str>>,
    /// IPv6 ones.
    pub v6: Option<Arc<str>>,
}

impl Igp {
    /// The kernel's table, for both.
    pub const KERNEL: Igp = Igp { v4: None, v6: None };

    pub(super) fn table(&self, next_hop: IpAddr) -> Option<&Arc<str>> {
        if next_hop.is_ipv4() {
            self.v4.as_ref()
        } else {
            self.v6.as_ref()
        }
    }
}

/// What a route of a table does for the next hops in its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The route's distance.
    pub metric: u32,
    /// Where packets go; none when they are dropped or refused. One without an address has the next hop on its link.
    pub hops: Box<[Hop]>,
}

/// A change of a table: what it has for a prefix now, or that there is nothing.
pub type WayChange = (Prefix, Option<Way>);

/// The tables that are followed.
#[derive(Debug, Default)]
pub(super) struct IgpTables(BTreeMap<Arc<str>, PrefixMap<Way>>);

impl IgpTables {
    /// What becomes of a next hop by a table, and the length of the route that says so.
    pub(super) fn resolve(&self, table: &str, next_hop: IpAddr, rule: &Rule) -> (Resolved, Option<u8>) {
        let host = Prefix::host(next_hop);
        let Some((prefix, way)) = self.0.get(table).and_then(|routes| routes.longest_match(host)) else {
            return (Resolved::Unreachable, None);
        };
        let resolved = if way.hops.is_empty() {
            Resolved::Unreachable
        } else {
            let hops = way.hops.iter().map(|hop| Hop {
                address: Some(hop.address.unwrap_or_else(|| rule.on_link(next_hop))),
                ..hop.clone()
            });
            Resolved::Reached {
                metric: way.metric.saturating_add(rule.cost),
                hops: hops.collect(),
            }
        };
        (resolved, Some(prefix.len()))
    }
}

impl NextHops {
    /// Follows these tables and no others; gives those that are new, and must be told whole by [`NextHops::table`].
    pub fn follow_tables(&mut self, names: impl IntoIterator<Item = Arc<str>>) -> Vec<Arc<str>> {
        let mut before = std::mem::take(&mut self.igp.0);
        let mut new = Vec::new();
        for name in names {
            let routes = before.remove(&name);
            if routes.is_none() && !self.igp.0.contains_key(&name) {
                new.push(name.clone());
            }
            self.igp.0.entry(name).or_insert_with(|| routes.unwrap_or_default());
        }
        new
    }

    /// Is this table followed?
    pub fn follows(&self, table: &str) -> bool {
        self.igp.0.contains_key(table)
    }

    /// A table that is followed changed.
    pub fn table(&mut self, name: &str, changes: Vec<WayChange>) {
        for (prefix, way) in changes {
            let Some(routes) = self.igp.0.get_mut(name) else { return };
            match way {
                Some(way) if routes.get(prefix) == Some(&way) => continue,
                Some(way) => drop(routes.insert(prefix, way)),
                None if routes.remove(prefix).is_none() => continue,
                None => {}
            }
            self.resolve_below(prefix);
        }
    }

    /// Where a next hop that asks no route leads; `None` when its rule asks one.
    pub fn direct(&self, id: HopId) -> Option<&[Hop]> {
        let is_direct = |rule: &Arc<Rule>| !rule.recursive;
        self.entries
            .get(id.index())?
            .used
            .as_ref()
            .filter(|(_, rule)| is_direct(rule))?;
        match self.get(id) {
            Resolved::Reached { hops, .. } => Some(hops),
            Resolved::Assumed | Resolved::Unreachable => Some(&[]),
        }
    }
}
