//! What routes are but for their destinations. Tens of thousands differ in nothing else, so each way is held once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tortie_net::Prefix;

use crate::route::object::ObjectId;
use crate::route::{IfIndex, Route};

/// Ways that may be there before those that nobody has any more are looked for.
const SWEEP: usize = 64;

/// A route but for its destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Way(Arc<Route>);

impl Way {
    /// The route that leads this way to a destination.
    pub fn to(&self, prefix: Prefix) -> Route {
        Route {
            prefix,
            ..Route::clone(&self.0)
        }
    }

    /// The object that says where it leads.
    pub fn object(&self) -> Option<ObjectId> {
        self.0.object
    }

    /// The interfaces it uses.
    pub fn interfaces(&self) -> impl Iterator<Item = IfIndex> + '_ {
        self.0.interfaces()
    }

    /// Is it this route's?
    pub(super) fn is_of(&self, route: &Route) -> bool {
        let (a, b) = (&*self.0, route);
        let same_hops = || Arc::ptr_eq(&a.next_hops, &b.next_hops) || a.next_hops == b.next_hops;
        rest(a) == rest(b) && same_hops()
    }

    pub(super) fn differs_in_hops_only(&self, other: &Way) -> bool {
        rest(&self.0) == rest(&other.0) && self.0.next_hops != other.0.next_hops
    }
}

/// Everything but destination and next hops.
fn rest(r: &Route) -> impl PartialEq {
    let family = r.prefix.is_v4();
    (
        family, r.table, r.tos, r.metric, r.kind, r.protocol, r.scope, r.source, r.object,
    )
}

impl Borrow<Route> for Way {
    fn borrow(&self) -> &Route {
        &self.0
    }
}

/// The ways in use.
#[derive(Debug, Default)]
pub(super) struct Ways {
    known: HashSet<Way>,
    /// The one that was asked for last: the next is often the same.
    last: Option<Way>,
    sweep_at: usize,
}

impl Ways {
    /// The way of a route.
    pub(super) fn of(&mut self, route: &Route) -> Way {
        if let Some(last) = self.last.as_ref().filter(|last| last.is_of(route)) {
            return last.clone();
        }
        let anywhere = Route {
            prefix: if route.prefix.is_v4() {
                Prefix::host(Ipv4Addr::UNSPECIFIED.into())
            } else {
                Prefix::host(Ipv6Addr::UNSPECIFIED.into())
            },
            ..route.clone()
        };
        let known = self.known.get(&anywhere).cloned();
        let way = known.unwrap_or_else(|| self.add(Way(Arc::new(anywhere))));
        self.last = Some(way.clone());
        way
    }

    fn add(&mut self, way: Way) -> Way {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|way| Arc::strong_count(&way.0) > 1);
            self.sweep_at = SWEEP.max(2 * self.known.len());
        }
        self.known.insert(way.clone());
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Kind, NextHop, Protocol};

    fn route(prefix: &str, interface: u32) -> Route {
        let mut route = Route::new(prefix.parse().unwrap(), Kind::Unicast, Protocol::BIRD);
        route.next_hops = Arc::new([NextHop::device(IfIndex(interface))]);
        route.canonical()
    }

    #[test]
    fn routes_that_differ_in_their_destination_alone_have_one_way() {
        let mut ways = Ways::default();
        let (a, b) = (route("10.1.0.0/16", 1), route("10.2.0.0/24", 1));
        let (way, other) = (ways.of(&a), ways.of(&route("10.1.0.0/16", 2)));
        assert!(Arc::ptr_eq(&way.0, &ways.of(&b).0));
        assert_eq!((way.to(a.prefix), way.to(b.prefix)), (a.clone(), b));
        assert!(way.is_of(&a) && !other.is_of(&a) && way.differs_in_hops_only(&other));
        let six = ways.of(&route("fd00::/64", 1));
        assert!(way != six && !way.is_of(&six.to("fd00::/64".parse().unwrap())));
        assert_eq!(ways.known.len(), 3);
    }

    #[test]
    fn a_way_that_nobody_goes_is_forgotten() {
        let mut ways = Ways::default();
        let kept: Vec<Way> = (0..100).map(|i| ways.of(&route("10.0.0.0/8", i))).collect();
        for i in 100..100_000 {
            ways.of(&route("10.0.0.0/8", i));
        }
        assert!(ways.known.len() <= 2 * kept.len() + 1, "{}", ways.known.len());
        assert!(kept.iter().all(|way| ways.known.contains(way)));
    }
}
