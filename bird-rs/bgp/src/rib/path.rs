//! One path to a prefix, and the paths of one prefix.

use std::net::IpAddr;
use std::sync::Arc;

use super::intern::{AttrId, Interner};
use crate::attr::Attributes;
use crate::filter::{Krt, RouteDestination};
use crate::nexthop::{HopId, NextHops};

/// A route as it was learned, without its prefix and source: what is interned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Learned {
    /// The path attributes.
    pub attributes: Attributes,
    /// BIRD's preference.
    pub preference: u16,
    /// What is done with packets.
    pub destination: RouteDestination,
    /// Distance of the next hop, when a filter set one.
    pub igp_metric: Option<u32>,
    /// What the kernel says of the route, or a filter wants it to say.
    pub krt: Krt,
    /// Gateways of a route of our own, or the one that a filter set; when empty, the attributes' next hop is the gateway.
    pub gateways: Box<[Hop]>,
    /// The next hop that has to be resolved before the route can be used; none when nothing has.
    pub hop: Option<HopId>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The address; none when the route is on the link.
    pub address: Option<IpAddr>,
    /// The interface, when known.
    pub interface: Option<Arc<str>>,
    /// From 1.
    pub weight: u16,
    /// The gateway is on the interface's link although no subnet of it says so.
    pub onlink: bool,
}

/// Who told us a path: a protocol's number. Dense and reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

impl SourceId {
    /// Nobody.
    pub const NONE: SourceId = SourceId(u16::MAX);
}

/// A prefix's number in its table. Dense and reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixId(pub u32);

impl PrefixId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Is a path from before its peer's restart or refresh?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// No.
    Fresh,
    /// The session was lost and the peer may come back (RFC 4724).
    Restart,
    /// And has not come back in its restart time (RFC 9494). The path carries LLGR_STALE.
    LongLived,
    /// The peer is announcing everything again (RFC 7313); used as if it were fresh.
    Refresh,
}

impl Stale {
    /// Is it from a session that was lost?
    pub fn is_left_over(self) -> bool {
        matches!(self, Stale::Restart | Stale::LongLived)
    }
}

/// Why a route that was received is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtered {
    /// The import policy rejected it.
    ImportPolicy,
    /// Our own AS is in its path (RFC 4271 section 9.1.2).
    AsLoop,
    /// We are its ORIGINATOR_ID (RFC 4456 section 8).
    OriginatorLoop,
    /// Our cluster is in its CLUSTER_LIST (RFC 4456 section 8).
    ClusterLoop,
    /// Its path does not begin with the peer's AS although that is enforced (RFC 4271 section 6.3).
    FirstAs,
    /// Its path has an AS_SET although that is not allowed (RFC 9774).
    AsSet,
    /// Its next hop is one of our own addresses (RFC 4271 section 5.1.3).
    OwnNextHop,
    /// It has gone to a provider or peer before and comes from a customer or peer (RFC 9234 section 5).
    RouteLeak,
    /// Beyond the import limit, whose action is to block.
    ImportLimit,
    /// There is no way to its next hop (RFC 4271 section 9.1.2.1). It is accepted, and comes back by itself.
    NextHop,
}

impl Filtered {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Filtered::ImportPolicy => "rejected by the import policy",
            Filtered::AsLoop => "own AS in the path",
            Filtered::OriginatorLoop => "own router id is the originator",
            Filtered::ClusterLoop => "own cluster in the cluster list",
            Filtered::FirstAs => "path does not begin with the peer's AS",
            Filtered::AsSet => "AS_SET in the path",
            Filtered::OwnNextHop => "next hop is an own address",
            Filtered::RouteLeak => "route leak",
            Filtered::ImportLimit => "beyond the import limit",
            Filtered::NextHop => "next hop is unreachable",
        }
    }
}

/// What became of a path at import: the attributes to use, or why it is not used.
pub type Imported = Result<AttrId, Filtered>;

/// One path to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub(super) source: SourceId,
    pub(super) stale: Stale,
    pub(super) filtered: Option<Filtered>,
    pub(super) path_id: u32,
    /// What is used. The same as `received` when a filter changed nothing or rejected the path.
    pub(super) attrs: AttrId,
    /// As it came, to be imported anew when the policy changes.
    pub(super) received: AttrId,
    /// Seconds since the process started.
    pub(super) since: u32,
}

impl Path {
    /// One that nothing else keeps from being used is, or is not, as its next hop is reachable.
    pub(super) fn weigh(&mut self, interner: &Interner<Learned>, hops: &NextHops) {
        if self.filtered.is_none_or(|why| why == Filtered::NextHop) {
            let hop = interner.hop(self.attrs);
            let lost = hop.is_some_and(|hop| !hops.is_usable(hop));
            self.filtered = lost.then_some(Filtered::NextHop);
        }
    }

    /// Who told us.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Path identifier (RFC 7911), zero without.
    pub fn path_id(&self) -> u32 {
        self.path_id
    }

    /// What is used.
    pub fn attrs(&self) -> AttrId {
        self.attrs
    }

    /// As it came.
    pub fn received(&self) -> AttrId {
        self.received
    }

    /// When it came or last changed, in seconds since the process started.
    pub fn since(&self) -> u32 {
        self.since
    }

    /// Is it from before its peer's restart?
    pub fn stale(&self) -> Stale {
        self.stale
    }

    /// Why it is not used; `None` when it may be.
    pub fn filtered(&self) -> Option<Filtered> {
        self.filtered
    }
}

/// Paths of one prefix: the best one first, the others by source and path id. The usual single path is not boxed.
#[derive(Debug)]
pub(super) enum Paths {
    One(Path),
    /// Or none; an empty box does not allocate.
    Several(Box<[Path]>),
}

impl Default for Paths {
    fn default() -> Self {
        Paths::Several(Box::default())
    }
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Paths::One(path) => std::slice::from_mut(path),
            Paths::Several(paths) => paths,
        }
    }

    pub(super) fn into_vec(self) -> Vec<Path> {
        match self {
            Paths::One(path) => vec![path],
            Paths::Several(paths) => paths.into_vec(),
        }
    }

    pub(super) fn push(&mut self, path: Path) {
        if self.as_slice().is_empty() {
            *self = Paths::One(path);
            return;
        }
        let mut paths = std::mem::take(self).into_vec();
        paths.push(path);
        *self = Paths::Several(paths.into());
    }

    pub(super) fn remove(&mut self, at: usize) -> Path {
        let paths = match std::mem::take(self) {
            Paths::One(path) => return path,
            Paths::Several(paths) => paths,
        };
        let mut paths = paths.into_vec();
        let path = paths.remove(at);
        *self = match paths.pop() {
            Some(only) if paths.is_empty() => Paths::One(only),
            Some(last) => {
                paths.push(last);
                Paths::Several(paths.into())
            }
            None => Paths::default(),
        };
        path
    }
}
