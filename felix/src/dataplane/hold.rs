//! Routes that stay for a while although their class has let go of them, because another class is about to take over.
//!
//! When a pool's encapsulation changes, the old route goes at once, and the new one comes from another source (BGP in place
//! of the datastore, or the other way round) and may wait for other nodes. In between the old one is better than none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::Prefix;
use tortie_netlink::route::Route;

use super::class::RouteClass;

/// How long a route is held at most; shorter than the tunnel devices stay.
const HOLD: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Held {
    class: RouteClass,
    route: Arc<Route>,
    until: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: BTreeMap<Prefix, Held>,
    now: Duration,
}

impl Holds {
    /// Holds this route from now on.
    pub(super) fn begin(&mut self, class: RouteClass, route: Arc<Route>) {
        let (prefix, until) = (route.prefix, self.now + HOLD);
        self.held.insert(prefix, Held { class, route, until });
    }

    /// Lets go.
    pub(super) fn end(&mut self, prefix: Prefix) {
        self.held.remove(&prefix);
    }

    /// The route held for a prefix.
    pub(super) fn get(&self, prefix: Prefix) -> Option<(RouteClass, &Arc<Route>)> {
        self.held.get(&prefix).map(|h| (h.class, &h.route))
    }

    /// It is this time now. Gives the prefixes whose time is over.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<Prefix> {
        self.now = now;
        let over = self.held.iter().filter(|(_, h)| h.until <= now);
        let over: Vec<Prefix> = over.map(|(p, _)| *p).collect();
        over.iter().for_each(|p| self.end(*p));
        over
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.held.values().map(|h| h.until).min()
    }
}
