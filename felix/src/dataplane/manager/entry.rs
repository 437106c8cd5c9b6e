//! The candidates of one prefix and what came of them. There is one for each route, so it is small.

use std::sync::Arc;

use tortie_net::Prefix;
use tortie_netlink::route::{Route, RouteKey, TABLE_MAIN};

use crate::dataplane::class::RouteClass;
use crate::dataplane::fib::PathId;
use crate::dataplane::why::Why;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) bgp: Option<PathId>,
    /// The winner and the metric of its route; the rest of the key is the same for all routes of ours to the prefix.
    winner: Option<RouteClass>,
    metric: u32,
    /// bird-rs's stream has named it.
    pub(super) named: bool,
    rare: Option<Box<Rare>>,
}

/// What most prefixes have nothing of.
#[derive(Debug, Default)]
struct Rare {
    own_block: bool,
    inherited: Option<(RouteClass, Arc<Route>)>,
    out: Vec<(RouteClass, Why)>,
}

impl Entry {
    /// The winner and the key it is wanted under.
    pub(super) fn wanted(&self, prefix: Prefix) -> Option<(RouteClass, RouteKey)> {
        let key = RouteKey {
            table: TABLE_MAIN,
            prefix,
            tos: 0,
            metric: self.metric,
        };
        Some((self.winner?, key))
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.winner.is_some()
    }

    /// The winner is this class, with a route of this metric.
    pub(super) fn won_by(&mut self, winner: Option<(RouteClass, u32)>) {
        self.winner = winner.map(|(class, _)| class);
        self.metric = winner.map_or(0, |(_, metric)| metric);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bgp.is_none() && self.winner.is_none() && self.rare.is_none()
    }

    pub(super) fn is_own_block(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| r.own_block)
    }

    pub(super) fn set_own_block(&mut self, own: bool) {
        self.change(own, |rare| rare.own_block = own);
    }

    /// Found at start, by a source that has not spoken yet.
    pub(super) fn inherited(&self) -> Option<&(RouteClass, Arc<Route>)> {
        self.rare.as_ref()?.inherited.as_ref()
    }

    pub(super) fn inherit(&mut self, class: RouteClass, route: Arc<Route>) {
        self.change(true, |rare| rare.inherited = Some((class, route)));
    }

    pub(super) fn disinherit(&mut self) {
        self.change(false, |rare| rare.inherited = None);
    }

    /// Candidates that did not win because they may not or cannot.
    pub(super) fn out(&self) -> &[(RouteClass, Why)] {
        self.rare.as_ref().map_or(&[], |r| &r.out)
    }

    pub(super) fn set_out(&mut self, out: Vec<(RouteClass, Why)>) {
        self.change(!out.is_empty(), |rare| rare.out = out);
    }

    /// Makes room only for what is more than nothing, and keeps none that is not needed.
    fn change(&mut self, needed: bool, change: impl FnOnce(&mut Rare)) {
        if needed {
            change(self.rare.get_or_insert_default());
        } else if let Some(rare) = &mut self.rare {
            change(rare);
            self.rare
                .take_if(|r| !r.own_block && r.inherited.is_none() && r.out.is_empty());
        }
    }
}
