//! Paths of equal cost as one route with several next hops, for felix (BIRD's `merge paths`).
//!
//! Equal to the best path is what ties with it in every comparison up to the IGP metric (RFC 4271 section 9.1.2.2 e), and
//! has not lost before by its MED to another path through its own neighbour AS. The best path is pivotal, as with BIRD: it
//! must pass the policy, and all but the next hops is its. The others give their next hops if the policy lets them pass.
//! The result depends on the set of paths alone.

use smallvec::SmallVec;
use tortie_net::{Family, Prefix};

use super::export::{self, Held, RouteRef};
use super::io::FibRoute;
use super::tables::Shared;
use crate::config::{Channel, Policy};
use crate::filter::{Notes, RouteDestination};
use crate::rib::{Path, PrefixId, Reason, Table};

/// What felix is told depends on this, the table, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FibView {
    pub(super) policy: Policy,
    /// Next hops of one route at most; `None`: those of the best path alone.
    pub(super) merge_paths: Option<u8>,
}

impl FibView {
    pub(super) fn of(channel: &Channel) -> Self {
        FibView {
            policy: channel.export.clone(),
            merge_paths: channel.merge_paths,
        }
    }

    /// The paths of a prefix that make one route, the best one first.
    pub(super) fn paths<'t, F: Family>(
        &self,
        table: &'t Table<F>,
        id: PrefixId,
        shared: &Shared,
    ) -> SmallVec<[&'t Path; 1]> {
        let mut paths: SmallVec<[&Path; 1]> = table.best(id).into_iter().collect();
        if self.merge_paths.is_none() || paths.is_empty() || table.paths(id).len() < 2 {
            return paths;
        }
        let candidates = table.candidates(id, &shared.traits, &shared.learned, &shared.hops);
        let unicast = |at: usize| candidates[at].learned.destination == RouteDestination::Unicast;
        for at in (1..candidates.len()).filter(|at| unicast(0) && unicast(*at)) {
            if shared.decision.explain(&candidates, 0, at) > Reason::IgpMetric {
                let is_it = |path: &&Path| std::ptr::eq(*path, candidates[at].path);
                paths.extend(table.paths(id).iter().find(is_it));
            }
        }
        paths
    }

    /// What felix is told of the paths that [`FibView::paths`] chose.
    pub(super) fn route<'v>(
        &'v self,
        net: Prefix,
        paths: &[&Path],
        shared: &Shared,
        (said, notes): (&mut Vec<String>, &mut Notes<'v>),
    ) -> Result<FibRoute, Held> {
        let mut routes = paths.iter().map(|path| {
            let learned = shared.learned.get(path.attrs());
            let route = RouteRef::of(net, path, &learned, shared).ok_or(Held::NoNextHop)?;
            export::fib(&self.policy, &route, said, notes)
        });
        let mut route = routes.next().unwrap_or(Err(Held::NoNextHop))?;
        let Some(limit) = self.merge_paths.map(usize::from) else {
            return Ok(route);
        };
        if route.destination != RouteDestination::Unicast {
            return Ok(route);
        }
        // A path that the policy rejects, or fails on, is no reason to complain: the prefix has a route.
        let mut more: Vec<_> = routes.flatten().flat_map(|other| other.next_hops).collect();
        more.sort_unstable();
        for hop in more {
            let known = |known: &super::FibNextHop| (known.address, &known.interface) == (hop.address, &hop.interface);
            if !route.next_hops.iter().any(known) {
                route.next_hops.push(hop);
            }
        }
        route.next_hops.truncate(limit);
        // Which of them is best makes no difference to felix.
        route.next_hops.sort_unstable();
        Ok(route)
    }
}
