//! Where to connect: the configured typhas, and others that they named.
//!
//! A connection that is lost is first tried again where it was; then the others are tried in turn. The configured addresses
//! are always among them: what typha says may be wrong or old, and before it has said anything they are all there is.

use tortie_kit::address::{ServiceAddr, Target};

/// So many of typha's peers are remembered.
const PEERS: usize = 64;

#[derive(Debug)]
pub(crate) struct Route {
    /// What is configured; never empty.
    homes: Vec<Target>,
    /// In the order in which they are tried; never empty.
    order: Vec<Target>,
    at: usize,
}

impl Route {
    pub(crate) fn new(home: Target) -> Self {
        let homes = home.each();
        let order = homes.clone();
        Route { homes, order, at: 0 }
    }

    /// Where to connect now.
    pub(crate) fn target(&self) -> &Target {
        &self.order[self.at]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// That did not work: the next in turn.
    pub(crate) fn failed(&mut self) {
        self.at = (self.at + 1) % self.order.len();
    }

    /// The typha that answers here is served at those, too.
    pub(crate) fn learn(&mut self, peers: &[String]) {
        let here = self.target().clone();
        self.set([here].into_iter(), peers);
    }

    /// typha wants its clients to go to the first of those that works.
    pub(crate) fn leave(&mut self, peers: &[String]) {
        self.set(std::iter::empty(), peers);
    }

    fn set(&mut self, first: impl Iterator<Item = Target>, peers: &[String]) {
        let mut order: Vec<Target> = Vec::new();
        let home = &self.homes[0];
        let named = peers
            .iter()
            .take(PEERS)
            .filter_map(|peer| match peer.parse::<ServiceAddr>() {
                Ok(addr) => Some(home.at(addr)),
                Err(error) => {
                    tracing::warn!(%error, "typha names a peer that cannot be used");
                    None
                }
            });
        for target in first.chain(named).chain(self.homes.iter().cloned()) {
            if !order.contains(&target) {
                order.push(target);
            }
        }
        self.order = order;
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_kit::address::ServiceAddrs;

    fn target(addrs: &str) -> Target {
        Target::new(addrs.parse::<ServiceAddrs>().unwrap(), None)
    }

    #[test]
    fn before_anybody_answered_the_configured_ones_are_tried_in_turn() {
        let mut route = Route::new(target("tcp:a:1,tcp:b:1"));
        assert_eq!(
            (route.len(), turns(&mut route, 3)),
            (2, ["tcp:a:1", "tcp:b:1", "tcp:a:1"].map(str::to_owned).into())
        );
        route.learn(&["tcp:c:1".into()]);
        assert_eq!(
            turns(&mut route, 3),
            ["tcp:b:1", "tcp:c:1", "tcp:a:1"],
            "none of them is forgotten"
        );
    }

    fn turns(route: &mut Route, n: usize) -> Vec<String> {
        let mut turn = || {
            let at = route.target().to_string();
            route.failed();
            at
        };
        (0..n).map(|_| turn()).collect()
    }

    #[test]
    fn where_it_was_then_the_others_and_home_always() {
        let mut route = Route::new(target("tcp:home:1"));
        assert_eq!(turns(&mut route, 2), ["tcp:home:1", "tcp:home:1"]);
        route.learn(&["tcp:a:1".into(), "nonsense".into(), "tcp:b:1".into()]);
        assert_eq!(turns(&mut route, 4), ["tcp:home:1", "tcp:a:1", "tcp:b:1", "tcp:home:1"]);
        assert_eq!(route.target().to_string(), "tcp:a:1", "it was found there");
        route.learn(&["tcp:b:1".into(), "tcp:c:1".into()]);
        let order = ["tcp:a:1", "tcp:b:1", "tcp:c:1", "tcp:home:1"];
        assert_eq!(turns(&mut route, 4), order);
        route.leave(&["tcp:c:1".into(), "tcp:b:1".into()]);
        assert_eq!(turns(&mut route, 3), ["tcp:c:1", "tcp:b:1", "tcp:home:1"]);
        route.leave(&[]);
        assert_eq!(turns(&mut route, 2), ["tcp:home:1", "tcp:home:1"]);
    }
}
