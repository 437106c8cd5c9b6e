//! Making the kernel's routes equal to what is wanted: the bookkeeping of every program of ours that writes routes.
//!
//! Wanted and actual routes meet in a [`Reconciler`], which plans batches and learns from the kernel's answers. It holds
//! only routes that its owner recognises as its own; who owns what, what is more urgent, and what may be removed yet is the
//! owner's to say ([`Rules`]). Pure: time is a parameter, the kernel is somebody else's.
//!
//! Invariants:
//! * a key that somebody else's route has is never written: new routes are created, not put in place of another's;
//! * one refused change delays itself alone, by a back-off of its own;
//! * after an answer that is not whole, nothing is believed before the kernel was looked at again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tortie_replica::{Pending, Tracker};

use crate::route::{Change, KernelError, Refusal, Route, RouteKey};

/// Changes of one batch at most: what comes meanwhile waits no longer than this takes.
const BATCH: usize = 16_384;
/// The first delay of a change that was refused.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the owner says of routes.
pub trait Rules {
    /// How many ranks there are.
    const RANKS: usize;

    /// How urgent it is to write this route: 0 comes first, below [`Rules::RANKS`]. `None`: it is not to be written.
    fn rank(&self, route: &Route) -> Option<usize>;

    /// Has somebody else a route with this key?
    fn is_taken(&self, key: &RouteKey) -> bool;

    /// May this route, which nobody wants, be removed? Not before the sources that could want it have spoken.
    fn may_remove(&self, route: &Route) -> bool;
}

/// A change the kernel refused, and when it is tried again.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kernel's answer.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was refused first, by the planner's clock.
    pub since: Duration,
    /// It is not tried before this time, by the planner's clock.
    pub not_before: Duration,
}

/// What a batch did to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This route of ours is there now.
    There(Arc<Route>),
    /// This route is there no longer.
    Gone(Route),
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// What is different now, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// The kernel is not as it was believed to be: it must be dumped before the next batch.
    pub look_again: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reconciler {
    tracker: Tracker<RouteKey, Arc<Route>>,
    failures: BTreeMap<RouteKey, Failure>,
}

impl Reconciler {
    /// Wants this route under its key. `false` when that is known.
    pub fn want(&mut self, route: Arc<Route>) -> bool {
        let key = route.key();
        if self.tracker.desired(&key) == Some(&route) {
            return false;
        }
        // Another route than the one the kernel refused deserves a try at once.
        self.failures.remove(&key);
        self.tracker.want(key, route);
        true
    }

    /// Wants nothing under this key any more.
    pub fn unwant(&mut self, key: &RouteKey) {
        self.tracker.unwant(key);
        self.failures.remove(key);
    }

    /// This route of ours is there.
    pub fn found(&mut self, route: Arc<Route>) {
        self.tracker.found(route.key(), route);
    }

    /// These are all that are there of ours.
    pub fn found_all(&mut self, routes: impl IntoIterator<Item = Arc<Route>>) {
        self.tracker.found_all(routes.into_iter().map(|r| (r.key(), r)));
    }

    /// Nothing of ours is there under this key.
    pub fn missing(&mut self, key: &RouteKey) {
        self.tracker.missing(key);
    }

    /// What was refused under this key deserves another try at once: something that mattered changed.
    pub fn forgive(&mut self, key: &RouteKey) {
        self.failures.remove(key);
    }

    /// The route wanted under a key.
    pub fn desired(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.tracker.desired(key)
    }

    /// Our route that is there under a key.
    pub fn actual(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.tracker.actual(key)
    }

    /// Every route that is wanted, by key.
    pub fn all_desired(&self) -> impl Iterator<Item = (&RouteKey, &Arc<Route>)> {
        self.tracker.all_desired()
    }

    /// Every route of ours that is there, by key.
    pub fn all_actual(&self) -> impl Iterator<Item = (&RouteKey, &Arc<Route>)> {
        self.tracker.all_actual()
    }

    /// Is what is there what is wanted?
    pub fn is_settled(&self) -> bool {
        self.tracker.is_settled()
    }

    /// Why the kernel refuses what is wanted under a key, if it does.
    pub fn failure(&self, key: &RouteKey) -> Option<&Failure> {
        self.failures.get(key)
    }

    /// The next changes to make: additions before removals, and among them the most urgent first, so that a batch of the
    /// least urgent never delays another.
    pub fn plan<R: Rules>(&self, now: Duration, rules: &R) -> Vec<Change> {
        let mut puts: Vec<Vec<Change>> = vec![Vec::new(); R::RANKS];
        let mut removals = Vec::new();
        for pending in self.tracker.pending() {
            match pending {
                Pending::Apply { key, desired, actual } if self.may_try(key, now) => {
                    // No rank may fill the batch but the first: the rest is cut below.
                    let puts = rules.rank(desired).and_then(|rank| puts.get_mut(rank));
                    if let Some(puts) = puts.filter(|puts| puts.len() < BATCH && !rules.is_taken(key)) {
                        let route = Route::clone(desired);
                        puts.push(if actual.is_some() {
                            Change::Replace(route)
                        } else {
                            Change::Create(route)
                        });
                    }
                }
                Pending::Remove { key, actual }
                    if removals.len() < BATCH && self.may_try(key, now) && rules.may_remove(actual) =>
                {
                    removals.push(Change::Delete(Route::clone(actual)));
                }
                Pending::Apply { .. } | Pending::Remove { .. } => {}
            }
        }
        let mut changes: Vec<Change> = puts.into_iter().flatten().chain(removals).collect();
        changes.truncate(BATCH);
        changes
    }

    fn may_try(&self, key: &RouteKey, now: Duration) -> bool {
        self.failures.get(key).is_none_or(|f| f.not_before <= now)
    }

    /// When the next refused change may be tried again, if there is one. Those whose time has come are a plan's matter.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        self.failures.values().map(|f| f.not_before).filter(|t| *t > now).min()
    }

    /// What the kernel did with the changes of a plan.
    pub fn applied(&mut self, changes: &[Change], result: Result<Vec<Refusal>, KernelError>, now: Duration) -> Written {
        let mut written = Written::default();
        let Ok(mut refusals) = result else {
            // Any of them may or may not be done.
            written.look_again = true;
            return written;
        };
        refusals.sort_by_key(|r| r.index);
        let mut refusals = refusals.into_iter().peekable();
        for (index, change) in changes.iter().enumerate() {
            let refusal = refusals.next_if(|r| r.index == index);
            match (change, refusal) {
                (Change::Create(r) | Change::Replace(r), None) => written.outcomes.push(self.is_there(r)),
                (Change::Delete(r), None) => written.outcomes.push(self.is_gone(r)),
                // Somebody else was faster.
                (Change::Delete(r), Some(e)) if e.errno == Errno::ESRCH as i32 => {
                    written.outcomes.push(self.is_gone(r));
                }
                (Change::Replace(r), Some(e)) if e.errno == Errno::ENOENT as i32 => {
                    written.outcomes.push(self.is_gone(r));
                }
                (Change::Create(r), Some(e)) => {
                    // Something has this key that no event told of.
                    written.look_again |= e.errno == Errno::EEXIST as i32;
                    self.refused(r, &e, now);
                }
                (Change::Replace(r) | Change::Delete(r), Some(e)) => self.refused(r, &e, now),
            }
        }
        written
    }

    fn is_there(&mut self, route: &Route) -> Outcome {
        let key = route.key();
        self.failures.remove(&key);
        // What is wanted under this key is most likely this very route: share it.
        let route = match self.tracker.desired(&key) {
            Some(desired) if **desired == *route => Arc::clone(desired),
            _ => Arc::new(route.clone()),
        };
        self.tracker.found(key, Arc::clone(&route));
        Outcome::There(route)
    }

    fn is_gone(&mut self, route: &Route) -> Outcome {
        let key = route.key();
        self.failures.remove(&key);
        self.tracker.missing(&key);
        Outcome::Gone(route.clone())
    }

    fn refused(&mut self, route: &Route, refusal: &Refusal, now: Duration) {
        let before = self.failures.get(&route.key());
        let (attempts, since) = before.map_or((1, now), |f| (f.attempts.saturating_add(1), f.since));
        let delay = RETRY_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(RETRY_MAX);
        let failure = Failure {
            error: refusal.to_string(),
            attempts,
            since,
            not_before: now + delay,
        };
        if attempts == 1 {
            tracing::warn!(%route, error = failure.error, "the kernel refuses a route");
        }
        self.failures.insert(route.key(), failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeKernel;
    use crate::route::{Filter, IfIndex, Kernel, Kind, NextHop, Protocol};

    struct Swept(bool);

    impl Rules for Swept {
        const RANKS: usize = 1;

        fn rank(&self, route: &Route) -> Option<usize> {
            (route.protocol == Protocol::BIRD).then_some(0)
        }

        fn is_taken(&self, _key: &RouteKey) -> bool {
            false
        }

        fn may_remove(&self, _route: &Route) -> bool {
            self.0
        }
    }

    fn route(prefix: &str, gateway: &str) -> Arc<Route> {
        let mut route = Route::new(prefix.parse().unwrap(), Kind::Unicast, Protocol::BIRD);
        route.next_hops = vec![NextHop::via(gateway.parse().unwrap(), IfIndex(2))];
        Arc::new(route.canonical())
    }

    fn kernel() -> FakeKernel {
        let kernel = FakeKernel::new();
        kernel.set_interface(2, "eth0", true);
        kernel.add_address(2, "10.0.0.1/24");
        kernel
    }

    fn round(reconciler: &mut Reconciler, kernel: &mut FakeKernel, now: u64, rules: &Swept) -> (usize, bool) {
        let now = Duration::from_secs(now);
        let changes = reconciler.plan(now, rules);
        let result = kernel.apply(&changes);
        let written = reconciler.applied(&changes, result, now);
        (changes.len(), written.look_again)
    }

    #[test]
    fn what_is_wanted_is_written_and_what_is_not_goes_when_it_may() {
        let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
        let old = route("10.9.0.0/24", "10.0.0.9");
        assert_eq!(kernel.apply(&[Change::Create(Route::clone(&old))]).unwrap(), []);
        reconciler.found_all([old]);
        assert!(reconciler.want(route("10.1.0.0/24", "10.0.0.2")));
        assert!(!reconciler.want(route("10.1.0.0/24", "10.0.0.2")), "known");
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(false)), (1, false));
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(false)), (0, false));
        reconciler.want(route("10.1.0.0/24", "10.0.0.3"));
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)), (2, false));
        let there = kernel.routes(Filter::MAIN).unwrap();
        let ours: Vec<_> = there.iter().filter(|r| r.protocol == Protocol::BIRD).collect();
        assert_eq!(ours, [&*route("10.1.0.0/24", "10.0.0.3")]);
        assert!(reconciler.is_settled());
    }

    #[test]
    fn a_refusal_delays_itself_alone_and_another_route_is_tried_at_once() {
        let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
        reconciler.want(route("10.1.0.0/24", "192.0.2.1"));
        reconciler.want(route("10.2.0.0/24", "10.0.0.2"));
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)).0, 2);
        let key = route("10.1.0.0/24", "192.0.2.1").key();
        assert_eq!(reconciler.failure(&key).map(|f| f.attempts), Some(1));
        assert_eq!(
            reconciler.next_deadline(Duration::ZERO),
            Some(RETRY_MIN),
            "the other one is there"
        );
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)).0, 0);
        assert_eq!(round(&mut reconciler, &mut kernel, 1, &Swept(true)).0, 1);
        let failure = reconciler.failure(&key).unwrap();
        assert_eq!((failure.attempts, failure.since), (2, Duration::ZERO));
        assert_eq!(failure.not_before, Duration::from_secs(1) + 2 * RETRY_MIN);
        reconciler.want(route("10.1.0.0/24", "10.0.0.7"));
        assert_eq!(round(&mut reconciler, &mut kernel, 1, &Swept(true)).0, 1);
        assert!(reconciler.is_settled() && reconciler.failure(&key).is_none());
    }

    #[test]
    fn somebody_elses_route_in_the_way_is_left_and_looked_at() {
        let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
        let foreign = Route {
            protocol: Protocol::STATIC,
            ..Route::clone(&route("10.1.0.0/24", "10.0.0.9"))
        };
        assert_eq!(kernel.apply(&[Change::Create(foreign.clone())]).unwrap(), []);
        reconciler.want(route("10.1.0.0/24", "10.0.0.2"));
        assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)), (1, true));
        assert!(kernel.routes(Filter::MAIN).unwrap().contains(&foreign));
    }
}
