//! The decision process (RFC 4271 section 9.1.2.2, RFC 4456 section 9, RFC 9494 section 4.3), with its reasons.
//!
//! MED is compared only between paths through the same neighbour AS, which makes the pairwise comparison intransitive.
//! So the best path of each neighbour AS is found first, and then the best of those without MED: the result depends on
//! the set of paths alone ("deterministic MED"; there is no other mode).
//!
//! Routes that are stale in the sense of graceful restart are *not* set back: RFC 4724 section 4.2 forbids to tell them
//! from others while forwarding. Long-lived stale ones (RFC 9494), which carry LLGR_STALE, are.

use std::cmp::{Ordering, Reverse};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use tortie_net::{Community, RouterId};

use super::path::{Learned, Path};

/// The comparison that decided between two paths, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There is no other path.
    Only,
    /// Higher preference of the protocol or as a filter set it.
    Preference,
    /// A route of our own goes before a learned one of the same preference.
    Local,
    /// Not long-lived stale.
    Stale,
    /// Higher LOCAL_PREF.
    LocalPref,
    /// Shorter AS_PATH.
    AsPathLength,
    /// Lower ORIGIN.
    Origin,
    /// Lower MULTI_EXIT_DISC among paths through the same neighbour AS.
    Med,
    /// From an external peer rather than an internal one.
    EbgpOverIbgp,
    /// Nearer next hop.
    IgpMetric,
    /// The older of two external paths, where that is configured (RFC 5004).
    Older,
    /// Lower ORIGINATOR_ID or else BGP identifier of the peer.
    RouterId,
    /// Shorter CLUSTER_LIST.
    ClusterListLength,
    /// Lower address of the peer.
    PeerAddress,
    /// Lower path identifier (RFC 7911) of the same peer.
    PathId,
    /// Protocol that was configured first.
    Protocol,
}

impl Reason {
    /// In words, as a comparison.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Only => "only path",
            Reason::Preference => "preference",
            Reason::Local => "own route before learned",
            Reason::Stale => "long-lived stale",
            Reason::LocalPref => "local preference",
            Reason::AsPathLength => "AS path length",
            Reason::Origin => "origin",
            Reason::Med => "MED",
            Reason::EbgpOverIbgp => "external before internal",
            Reason::IgpMetric => "IGP metric",
            Reason::Older => "older",
            Reason::RouterId => "router id",
            Reason::ClusterListLength => "cluster list length",
            Reason::PeerAddress => "peer address",
            Reason::PathId => "path id",
            Reason::Protocol => "protocol order",
        }
    }
}

/// What the decision process knows of the protocol that a path came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// Which kind.
    pub kind: SourceKind,
    /// The peer's BGP identifier; our own for routes of our own.
    pub router_id: RouterId,
    /// The peer's address.
    pub address: Option<IpAddr>,
    /// What counts when a path has no LOCAL_PREF.
    pub default_local_pref: u32,
    /// What counts when a path has no MED.
    pub default_med: u32,
    /// The link on which the peer is; none when it may be anywhere.
    pub interface: Option<Arc<str>>,
    /// The cluster of a peer that is our client (RFC 4456).
    pub cluster: Option<RouterId>,
}

impl Traits {
    /// Of what this router originates itself.
    pub fn local(router_id: RouterId) -> Self {
        Traits {
            kind: SourceKind::Local,
            router_id,
            address: None,
            default_local_pref: 0,
            default_med: 0,
            interface: None,
            cluster: None,
        }
    }
}

/// The kinds of protocols as the decision process and the propagation rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A route of our own: static, direct, kernel.
    Local,
    /// From a peer in another AS.
    Ebgp,
    /// From a peer in our AS.
    Ibgp {
        /// Is it our client (RFC 4456)?
        client: bool,
    },
}

/// Knobs of the decision process. They hold for a whole table: were they a protocol's, two paths could each beat the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Compare the lengths of AS paths.
    pub as_path_length: bool,
    /// Compare MEDs of different neighbour ASes.
    pub always_compare_med: bool,
    /// Compare IGP metrics.
    pub igp_metric: bool,
    /// Compare ages of external paths. Then, and only then, the order of arrival matters.
    pub prefer_older: bool,
}

impl Default for Decision {
    fn default() -> Self {
        Decision {
            as_path_length: true,
            always_compare_med: false,
            igp_metric: true,
            prefer_older: false,
        }
    }
}

/// A path as the decision process sees it.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// What was learned.
    pub learned: Learned,
    /// From whom.
    pub traits: &'a Traits,
    /// The path itself.
    pub path: &'a Path,
    /// Distance of the next hop, when known.
    pub igp_metric: Option<u32>,
}

impl Candidate<'_> {
    fn local_pref(&self) -> u32 {
        self.learned
            .attributes
            .local_pref
            .unwrap_or(self.traits.default_local_pref)
    }

    fn med(&self) -> u32 {
        self.learned.attributes.med.unwrap_or(self.traits.default_med)
    }

    fn is_local(&self) -> bool {
        self.traits.kind == SourceKind::Local
    }

    fn is_long_lived_stale(&self) -> bool {
        self.learned.attributes.communities.contains(Community::LLGR_STALE)
    }

    fn identifier(&self) -> RouterId {
        self.learned.attributes.originator_id.unwrap_or(self.traits.router_id)
    }

    /// Paths whose MEDs are comparable: through the same neighbour AS, or both from inside ours.
    fn same_neighbour(&self, other: &Self) -> bool {
        self.learned.attributes.as_path.first() == other.learned.attributes.as_path.first()
    }
}

impl Decision {
    /// `Less`: `a` is better. With which comparison.
    fn compare(&self, a: &Candidate<'_>, b: &Candidate<'_>, med: bool) -> (Ordering, Reason) {
        let steps = [
            (b.learned.preference.cmp(&a.learned.preference), Reason::Preference),
            (b.is_local().cmp(&a.is_local()), Reason::Local),
        ];
        first_difference(&steps)
            .or_else(|| {
                if a.is_local() {
                    None
                } else {
                    self.compare_attributes(a, b, med)
                }
            })
            .or_else(|| if a.is_local() { None } else { self.compare_peers(a, b) })
            .unwrap_or_else(|| {
                let by_path = a.path.path_id().cmp(&b.path.path_id());
                let by_source = a.path.source().cmp(&b.path.source());
                let same_peer = by_source == Ordering::Equal;
                if same_peer {
                    (by_path, Reason::PathId)
                } else {
                    (by_source, Reason::Protocol)
                }
            })
    }

    /// The steps that compare what is interned: nothing to do when both have the same set.
    fn compare_attributes(&self, a: &Candidate<'_>, b: &Candidate<'_>, med: bool) -> Option<(Ordering, Reason)> {
        let (left, right) = (&a.learned.attributes, &b.learned.attributes);
        let by_length = if self.as_path_length {
            left.as_path.len().cmp(&right.as_path.len())
        } else {
            Ordering::Equal
        };
        let by_med = if med || self.always_compare_med {
            a.med().cmp(&b.med())
        } else {
            Ordering::Equal
        };
        first_difference(&[
            (a.is_long_lived_stale().cmp(&b.is_long_lived_stale()), Reason::Stale),
            (b.local_pref().cmp(&a.local_pref()), Reason::LocalPref),
            (by_length, Reason::AsPathLength),
            (left.origin.cmp(&right.origin), Reason::Origin),
            (by_med, Reason::Med),
        ])
    }

    fn compare_peers(&self, a: &Candidate<'_>, b: &Candidate<'_>) -> Option<(Ordering, Reason)> {
        let external = |c: &Candidate<'_>| Reverse(c.traits.kind == SourceKind::Ebgp);
        let distance = |c: &Candidate<'_>| c.igp_metric.unwrap_or(u32::MAX);
        let by_metric = if self.igp_metric {
            distance(a).cmp(&distance(b))
        } else {
            Ordering::Equal
        };
        let both_external = a.traits.kind == SourceKind::Ebgp && b.traits.kind == SourceKind::Ebgp;
        let by_age = if self.prefer_older && both_external {
            a.path.since().cmp(&b.path.since())
        } else {
            Ordering::Equal
        };
        let clusters = |c: &Candidate<'_>| c.learned.attributes.cluster_list.len();
        first_difference(&[
            (external(a).cmp(&external(b)), Reason::EbgpOverIbgp),
            (by_metric, Reason::IgpMetric),
            (by_age, Reason::Older),
            (a.identifier().cmp(&b.identifier()), Reason::RouterId),
            (clusters(a).cmp(&clusters(b)), Reason::ClusterListLength),
            (a.traits.address.cmp(&b.traits.address), Reason::PeerAddress),
        ])
    }

    /// Why `best`, which [`decide`] chose, is best (for itself), or why `other` is not, given all the candidates.
    pub fn explain(&self, candidates: &[Candidate<'_>], best: usize, other: usize) -> Reason {
        let (Some(winner), Some(path)) = (candidates.get(best), candidates.get(other)) else {
            return Reason::Only;
        };
        let others = candidates.iter().enumerate().filter(|(i, _)| *i != best);
        if best == other {
            // The furthest comparison that it had to go through.
            let reasons = others.map(|(_, c)| self.compare(winner, c, winner.same_neighbour(c)).1);
            return reasons.max().unwrap_or(Reason::Only);
        }
        if winner.same_neighbour(path) {
            return self.compare(winner, path, true).1;
        }
        // It may have lost already to another path through its own neighbour AS.
        others
            .map(|(_, c)| c)
            .filter(|c| c.same_neighbour(path))
            .map(|c| self.compare(c, path, true))
            .find(|(order, reason)| *order == Ordering::Less && *reason == Reason::Med)
            .map_or_else(|| self.compare(winner, path, false).1, |(_, reason)| reason)
    }
}

fn first_difference(steps: &[(Ordering, Reason)]) -> Option<(Ordering, Reason)> {
    steps.iter().copied().find(|(order, _)| *order != Ordering::Equal)
}

/// The best of the candidates, or `None` when there is none.
pub fn decide(decision: &Decision, candidates: &[Candidate<'_>]) -> Option<usize> {
    if candidates.len() < 2 {
        return candidates.len().checked_sub(1);
    }
    // The best so far of each neighbour AS.
    let mut groups: SmallVec<[usize; 8]> = SmallVec::new();
    for (i, candidate) in candidates.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|best| candidates[**best].same_neighbour(candidate))
        {
            Some(best) => {
                if decision.compare(candidate, &candidates[*best], true).0 == Ordering::Less {
                    *best = i;
                }
            }
            None => groups.push(i),
        }
    }
    let better = |a: usize, b: usize| {
        let order = decision.compare(&candidates[a], &candidates[b], false).0;
        if order == Ordering::Less { a } else { b }
    };
    groups.into_iter().reduce(better)
}
