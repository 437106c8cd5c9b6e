//! Nexthop objects: which are ours, when routes share them, and when one replaced object moves all its routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tortie_net::Prefix;
use tortie_netlink::reconcile::Owned;
use tortie_netlink::route::object::{Object, ObjectId};
use tortie_netlink::route::{IfIndex, NextHops, Protocol, Route};

use super::{Entry, Manager};
use crate::dataplane::class::RouteClass;

/// The objects that felix writes: by protocol and number. FRR counts from 1, and its daemons begin at other numbers.
pub(super) const OURS: Owned = Owned {
    protocol: Protocol::CALICO,
    first: ObjectId(80_000_000),
    last: ObjectId(80_999_999),
};

/// Next hops before and after, and how many routes go from one to the other; `None` when they part.
type Moves = BTreeMap<NextHops, Option<(NextHops, usize)>>;

impl Manager {
    /// Wants a route: by an object, but for one that is wanted only because it was found so at start.
    pub(super) fn want(&mut self, found: Option<Arc<Route>>, route: Arc<Route>) {
        let as_found = found.is_some_and(|found| Arc::ptr_eq(&found, &route));
        if as_found && route.object.is_none() {
            self.routes.want(&route);
        } else {
            self.routes.want_shared(&route);
        }
    }

    pub(super) fn use_objects(&mut self, on: bool) {
        if self.routes.use_objects(on) {
            self.restate();
        }
    }

    /// Whether a route goes by an object may be decided differently now.
    pub(super) fn restate(&mut self) {
        let wanted = self.entries.iter().filter(|(_, e)| e.is_wanted());
        self.dirty.extend(wanted.map(|(p, _)| *p));
    }

    /// Resolves next hops anew. Where all routes of an object go another way together, the object does: gives whether one
    /// is about to.
    pub(super) fn resolve_again(&mut self) -> bool {
        let changed = self.paths.resolve_again(&self.view);
        if changed.is_empty() {
            return false;
        }
        let mut moves: Moves = BTreeMap::new();
        for (prefix, entry) in self.entries.iter() {
            let Some(path) = entry.bgp else { continue };
            let Some(before) = changed.get(&path) else { continue };
            self.dirty.insert(*prefix);
            if let (Ok(from), Ok(to)) = (before, self.paths.resolution(path))
                && self.goes_by(*prefix, entry, from)
            {
                count_move(&mut moves, from, to);
            }
        }
        let mut moved = false;
        for (from, to) in moves {
            if let Some((to, routes)) = to {
                moved |= self.routes.repoint(&from, &to, routes);
            }
        }
        moved
    }

    fn goes_by(&self, prefix: Prefix, entry: &Entry, hops: &NextHops) -> bool {
        let wanted = entry.wanted(prefix).filter(|(class, _)| *class == RouteClass::Bgp);
        let route = wanted.and_then(|(_, key)| self.routes.desired(&key));
        route.is_some_and(|r| r.object.is_some() && r.next_hops == *hops)
    }

    // === Events ===

    pub(super) fn object_is(&mut self, object: Object) {
        self.routes.object_is(object);
    }

    /// With an object the kernel removes its routes, those of IPv4 without a word.
    pub(super) fn object_gone(&mut self, id: ObjectId) {
        self.dump_wanted |= self.view.names_object(id);
        self.routes.object_gone(id);
        self.reroute = true;
    }

    /// The kernel has dropped the objects on this interface and their routes, without a word.
    pub(super) fn carrier_lost(&mut self, index: IfIndex) {
        self.dump_wanted |= self.routes.objects_use(index);
    }
}

fn count_move(moves: &mut Moves, from: &NextHops, to: NextHops) {
    match moves.get_mut(from) {
        None => drop(moves.insert(Arc::clone(from), Some((to, 1)))),
        Some(Some((known, routes))) if *known == to => *routes += 1,
        Some(parted) => *parted = None,
    }
}
