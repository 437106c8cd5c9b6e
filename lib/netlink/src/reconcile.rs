//! Making the kernel's routes equal to what is wanted: the bookkeeping of every program of ours that writes routes.
//!
//! Wanted and actual routes meet in a [`Reconciler`], which plans batches and learns from the kernel's answers. It holds
//! only routes that its owner recognises as its own; who owns what, what is more urgent, and what may be removed yet is the
//! owner's to say ([`Rules`]). Pure: time is a parameter, the kernel is somebody else's.
//!
//! Invariants:
//! * a key that somebody else's route has is never written: new routes are created, not put in place of another's;
//! * one refused change delays itself alone, by a back-off of its own;
//! * after an answer that is not whole, nothing is believed before the kernel was looked at again;
//! * a route that names a nexthop object is written only while the object is there and does what it shall;
//! * several batches may be under way: a key is in one of them at most, and objects are in none beside another.

mod objects;
mod shared;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tortie_replica::{Pending, Tracker};

use crate::route::object::ObjectId;
use crate::route::{Change, KernelError, Refusal, Route, RouteKey};
use objects::Objects;
pub use objects::{ObjectCount, Owned};
pub use ways::Way;
use ways::Ways;

/// Changes of one batch at most: some milliseconds of the kernel's.
const BATCH: usize = 4096;
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
    Gone(Arc<Route>),
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// What is different now, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// The kernel is not as it was believed to be: it must be dumped before the next batch.
    pub look_again: bool,
    /// An object can be used now, or no more: what is wanted by [`Reconciler::want_shared`] is to be wanted again.
    pub restate: bool,
}

/// Keys that were looked at and are not urgent, so that a plan costs what it plans and not what is left.
#[derive(Debug, Default)]
struct Backlog {
    puts: BTreeSet<RouteKey>,
    removals: BTreeSet<RouteKey>,
}

/// What is to be done about a key.
enum Step {
    Nothing,
    /// It cannot be done now.
    Wait,
    Put(usize, Change),
    Remove(Change),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reconciler {
    tracker: Tracker<RouteKey, Way>,
    ways: Ways,
    backlog: Backlog,
    /// Batches whose answers are still to come.
    under_way: usize,
    /// One of them is of objects.
    objects_under_way: bool,
    failures: BTreeMap<RouteKey, Failure>,
    objects: Option<Objects>,
}

impl Reconciler {
    /// One whose routes share nexthop objects, where the kernel has them and [`Reconciler::use_objects`] says so. Until it says
    /// anything: where the first dump has objects of ours.
    pub fn with_objects(owned: Owned) -> Self {
        Reconciler {
            objects: Some(Objects::new(owned)),
            ..Self::default()
        }
    }

    /// Wants this route under its key, as it is. `false` when that is known.
    pub fn want(&mut self, route: &Route) -> bool {
        let key = route.key();
        let before = self.tracker.desired(&key);
        if before.is_some_and(|way| way.is_of(route)) {
            return false;
        }
        let way = self.ways.of(route);
        // The object was replaced under its routes, this one among them.
        let moved = route.object.is_some() && before.is_some_and(|b| b.object() == route.object);
        if moved
            && let Some(actual) = self.tracker.actual(&key)
            && actual.differs_in_hops_only(&way)
        {
            self.tracker.found(key, way.clone());
        }
        // Another route than the one the kernel refused deserves a try at once.
        self.failures.remove(&key);
        let before = self.tracker.want(key, way);
        self.count_desired(before, route.object);
        self.look_anew(&key);
        true
    }

    /// What is wanted now under a key that waits its turn may be urgent.
    fn look_anew(&mut self, key: &RouteKey) {
        if self.backlog.puts.remove(key) || self.backlog.removals.remove(key) {
            self.tracker.put_back([*key]);
        }
    }

    /// Wants this route under its key, by a nexthop object where that can be. `false` when that is known.
    pub fn want_shared(&mut self, route: &Route) -> bool {
        let object = self.objects.as_mut().and_then(|o| o.acquire(route));
        if object == route.object {
            return self.want(route);
        }
        self.want(&Route {
            object,
            ..route.clone()
        })
    }

    /// Wants nothing under this key any more.
    pub fn unwant(&mut self, key: &RouteKey) {
        let before = self.tracker.unwant(key);
        self.count_desired(before, None);
        self.failures.remove(key);
    }

    fn count_desired(&mut self, before: Option<Way>, now: Option<ObjectId>) {
        if let Some(objects) = &mut self.objects {
            objects.desired(now, 1);
            objects.desired(before.and_then(|way| way.object()), -1);
        }
    }

    /// This route of ours is there.
    pub fn found(&mut self, route: Arc<Route>) {
        let route = self.as_wanted(route);
        let way = self.ways.of(&route);
        let before = self.tracker.found(route.key(), way);
        self.named(before, route.object);
    }

    fn named(&mut self, before: Option<Way>, now: Option<ObjectId>) {
        if let Some(objects) = &mut self.objects {
            objects.named(now, 1);
            objects.named(before.and_then(|way| way.object()), -1);
        }
    }

    /// A route that names an object of ours leads where the object shall lead: what it leads to now is the object's matter.
    pub fn as_wanted(&self, mut route: Arc<Route>) -> Arc<Route> {
        let Some(hops) = route.object.and_then(|id| self.objects.as_ref()?.hops(id)) else {
            return route;
        };
        if *hops != route.next_hops {
            Arc::make_mut(&mut route).next_hops = Arc::clone(hops);
        } else if let Some(alone) = Arc::get_mut(&mut route) {
            // Of a dump: each route came with next hops of its own.
            alone.next_hops = Arc::clone(hops);
        }
        route
    }

    /// These are all that are there of ours.
    pub fn found_all(&mut self, routes: impl IntoIterator<Item = Arc<Route>>) {
        let routes: Vec<_> = routes.into_iter().map(|r| self.as_wanted(r)).collect();
        if let Some(objects) = &mut self.objects {
            objects.none_named();
            routes.iter().for_each(|r| objects.named(r.object, 1));
        }
        let ways = &mut self.ways;
        self.tracker
            .found_all(routes.into_iter().map(|r| (r.key(), ways.of(&r))));
    }

    /// Nothing of ours is there under this key.
    pub fn missing(&mut self, key: &RouteKey) {
        let before = self.tracker.missing(key);
        self.named(before, None);
    }

    /// What was refused under this key deserves another try at once: something that mattered changed.
    pub fn forgive(&mut self, key: &RouteKey) {
        self.failures.remove(key);
    }

    /// The route wanted under a key.
    pub fn desired(&self, key: &RouteKey) -> Option<Route> {
        Some(self.tracker.desired(key)?.to(key.prefix))
    }

    /// Our route that is there under a key.
    pub fn actual(&self, key: &RouteKey) -> Option<Route> {
        Some(self.tracker.actual(key)?.to(key.prefix))
    }

    /// Every route that is wanted, by key.
    pub fn all_desired(&self) -> impl Iterator<Item = (&RouteKey, &Way)> {
        self.tracker.all_desired()
    }

    /// Every route of ours that is there, by key.
    pub fn all_actual(&self) -> impl Iterator<Item = (&RouteKey, &Way)> {
        self.tracker.all_actual()
    }

    /// Is what is there what is wanted?
    pub fn is_settled(&self) -> bool {
        let nothing_left = self.backlog.puts.is_empty() && self.backlog.removals.is_empty();
        self.tracker.is_settled() && nothing_left && self.objects.as_ref().is_none_or(Objects::is_settled)
    }

    /// Is the route wanted under a key there, and does its object do what it shall?
    pub fn is_there(&self, key: &RouteKey) -> bool {
        let (desired, actual) = self.tracker.both(key);
        desired == actual && desired.and_then(Way::object).is_none_or(|id| self.is_current(id))
    }

    fn is_current(&self, id: ObjectId) -> bool {
        self.objects.as_ref().is_none_or(|o| o.is_current(id))
    }

    /// Why the kernel refuses what is wanted under a key, if it does.
    pub fn failure(&self, key: &RouteKey) -> Option<&Failure> {
        self.failures.get(key)
    }

    /// The next changes to make: additions before removals, and among them the most urgent first, so that a batch of the
    /// least urgent never delays another. What came of them has to be told ([`Reconciler::applied`]), in the order of plans; there
    /// may be other plans before.
    pub fn plan<R: Rules>(&mut self, now: Duration, rules: &R) -> Vec<Change> {
        if self.objects_under_way {
            return Vec::new();
        }
        let mut urgent: Vec<Vec<Change>> = vec![Vec::new(); R::RANKS];
        let mut kept = Vec::new();
        let waits = !self.backlog.puts.is_empty();
        for key in self.tracker.take_pending() {
            match self.step(&key, now, rules) {
                Step::Nothing => {}
                Step::Wait => kept.push(key),
                Step::Put(rank, change) => {
                    let is_last = rank + 1 >= R::RANKS;
                    // Those that are not urgent wait their turn.
                    let room = |puts: &&mut Vec<Change>| puts.len() < BATCH && !(is_last && waits);
                    match urgent.get_mut(rank).filter(room) {
                        Some(puts) => puts.push(change),
                        None if is_last => drop(self.backlog.puts.insert(key)),
                        None => kept.push(key),
                    }
                }
                Step::Remove(_) => drop(self.backlog.removals.insert(key)),
            }
        }
        let mut changes: Vec<Change> = urgent.into_iter().flatten().collect();
        let rest = changes.split_off(changes.len().min(BATCH));
        kept.extend(rest.iter().filter_map(Change::route).map(Route::key));
        self.take_backlog(&mut changes, &mut kept, now, rules);
        for route in changes.iter().filter_map(Change::route) {
            self.tracker.begin(route.key());
        }
        self.tracker.put_back(kept);
        self.under_way += usize::from(!changes.is_empty());
        changes
    }

    /// Fills a batch with what is not urgent. What may have become of a key meanwhile is asked again.
    fn take_backlog<R: Rules>(
        &mut self,
        changes: &mut Vec<Change>,
        kept: &mut Vec<RouteKey>,
        now: Duration,
        rules: &R,
    ) {
        while changes.len() < BATCH
            && let Some(key) = self.backlog.puts.pop_first()
        {
            match self.step(&key, now, rules) {
                Step::Nothing => {}
                Step::Wait => kept.push(key),
                Step::Put(_, change) => changes.push(change),
                Step::Remove(_) => drop(self.backlog.removals.insert(key)),
            }
        }
        while changes.len() < BATCH
            && let Some(key) = self.backlog.removals.pop_first()
        {
            match self.step(&key, now, rules) {
                Step::Nothing => {}
                Step::Wait | Step::Put(..) => kept.push(key),
                Step::Remove(change) => changes.push(change),
            }
        }
    }

    fn step<R: Rules>(&self, key: &RouteKey, now: Duration, rules: &R) -> Step {
        match self.tracker.to_do(key) {
            None => Step::Nothing,
            Some(_) if !self.may_try(key, now) => Step::Wait,
            Some(Pending::Apply { desired, actual, .. }) => {
                if desired.object().is_some_and(|id| !self.is_current(id)) || rules.is_taken(key) {
                    return Step::Wait;
                }
                let route = Arc::new(desired.to(key.prefix));
                match (rules.rank(&route), actual) {
                    (None, _) => Step::Wait,
                    (Some(rank), Some(_)) => Step::Put(rank, Change::Replace(route)),
                    (Some(rank), None) => Step::Put(rank, Change::Create(route)),
                }
            }
            Some(Pending::Remove { actual, .. }) => {
                let route = actual.to(key.prefix);
                match rules.may_remove(&route) {
                    true => Step::Remove(Change::Delete(Arc::new(route))),
                    false => Step::Wait,
                }
            }
        }
    }

    /// Is there no batch whose answer is still to come?
    pub fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    fn may_try(&self, key: &RouteKey, now: Duration) -> bool {
        self.failures.get(key).is_none_or(|f| f.not_before <= now)
    }

    /// When the next refused change may be tried again, if there is one. Those whose time has come are a plan's matter.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let routes = self.failures.values().map(|f| f.not_before).filter(|t| *t > now).min();
        let objects = self.objects.as_ref().and_then(|o| o.next_deadline(now));
        routes.into_iter().chain(objects).min()
    }

    /// What the kernel did with the changes of a plan. What is wanted may have changed meanwhile.
    pub fn applied(&mut self, changes: &[Change], result: Result<Vec<Refusal>, KernelError>, now: Duration) -> Written {
        let mut written = Written::default();
        self.under_way = self.under_way.saturating_sub(1);
        self.objects_under_way &= self.under_way > 0;
        let Ok(mut refusals) = result else {
            // Any of them may or may not be done.
            written.look_again = true;
            for route in changes.iter().filter_map(Change::route) {
                self.tracker.given_up(&route.key());
            }
            return written;
        };
        refusals.sort_by_key(|r| r.index);
        let mut refusals = refusals.into_iter().peekable();
        for (index, change) in changes.iter().enumerate() {
            let refusal = refusals.next_if(|r| r.index == index);
            match (change, refusal) {
                (Change::Create(r) | Change::Replace(r), None) => written.outcomes.push(self.is_there_now(r)),
                (Change::Delete(r), None) => written.outcomes.push(self.is_gone(r)),
                // Somebody else was faster.
                (Change::Delete(r), Some(e)) if e.errno == Errno::ESRCH as i32 => {
                    written.outcomes.push(self.is_gone(r));
                }
                (Change::Replace(r), Some(e)) if e.errno == Errno::ENOENT as i32 => {
                    written.outcomes.push(self.is_gone(r));
                }
                (Change::Create(r) | Change::Replace(r), Some(e)) => {
                    // Something has this key that no event told of, or the object it names is gone.
                    let unknown = e.errno == Errno::EINVAL as i32 && r.object.is_some();
                    written.look_again |= e.errno == Errno::EEXIST as i32 || unknown;
                    // Another route that is wanted by now deserves a try at once.
                    match self.tracker.desired(&r.key()).is_some_and(|way| way.is_of(r)) {
                        true => self.refused(r, &e, now),
                        false => self.tracker.given_up(&r.key()),
                    }
                }
                (Change::Delete(r), Some(e)) if self.tracker.desired(&r.key()).is_none() => self.refused(r, &e, now),
                (Change::Delete(r), Some(_)) => self.tracker.given_up(&r.key()),
                (Change::Object(change), refusal) => self.object_applied(change, refusal.as_ref(), now, &mut written),
            }
        }
        written
    }

    fn is_there_now(&mut self, route: &Arc<Route>) -> Outcome {
        let key = route.key();
        if !self.failures.is_empty() {
            self.failures.remove(&key);
        }
        // Its object may be about to lead elsewhere since it was planned.
        let route = self.as_wanted(Arc::clone(route));
        let wanted = self.tracker.desired(&key).filter(|way| way.is_of(&route)).cloned();
        let way = wanted.unwrap_or_else(|| self.ways.of(&route));
        let before = self.tracker.done(&key, Some(way));
        self.named(before, route.object);
        Outcome::There(route)
    }

    fn is_gone(&mut self, route: &Arc<Route>) -> Outcome {
        let key = route.key();
        self.failures.remove(&key);
        let before = self.tracker.done(&key, None);
        self.named(before, None);
        Outcome::Gone(Arc::clone(route))
    }

    fn refused(&mut self, route: &Route, refusal: &Refusal, now: Duration) {
        self.tracker.given_up(&route.key());
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
mod tests;
