//! The candidates of one prefix and what came of them. There is one for each route, so it is small.

use std::sync::Arc;

use tortie_net::Prefix;
use tortie_netlink::route::{Route, RouteKey, TABLE_MAIN};

use crate::dataplane::class::RouteClass;
use crate::dataplane::fib::FibPath;
use crate::dataplane::why::Why;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) own_block: bool,
    pub(super) bgp: Option<Arc<FibPath>>,
    /// Found at start, by a source that has not spoken yet.
    pub(super) inherited: Option<(RouteClass, Arc<Route>)>,
    /// The winner and the metric of its route; the rest of the key is the same for all routes of ours to the prefix.
    pub(super) wanted: Option<(RouteClass, u32)>,
    /// Candidates that did not win because they may not or cannot.
    pub(super) out: Vec<(RouteClass, Why)>,
}

impl Entry {
    /// The winner and the key it is wanted under.
    pub(super) fn wanted(&self, prefix: Prefix) -> Option<(RouteClass, RouteKey)> {
        let (class, metric) = self.wanted?;
        let key = RouteKey {
            table: TABLE_MAIN,
            prefix,
            tos: 0,
            metric,
        };
        Some((class, key))
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.own_block
            && self.bgp.is_none()
            && self.inherited.is_none()
            && self.wanted.is_none()
            && self.out.is_empty()
    }
}
