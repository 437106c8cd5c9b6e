//! From the difference between wanted and there to batches, and from the kernel's answers back.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tortie_netlink::route::{Change, KernelError, Refusal, Route, RouteKey};
use tortie_replica::Pending;

use super::{Failure, Manager};
use crate::dataplane::class::RouteClass;

/// Changes of one batch at most: what comes meanwhile, an endpoint above all, waits no longer than this takes.
const BATCH: usize = 16_384;
/// The first delay of a change that was refused.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Manager {
    /// The next changes to make: additions before removals, and among them the strongest class first, so that a batch of
    /// a peer's routes never delays an endpoint.
    pub fn plan(&self, now: Duration) -> Vec<Change> {
        if !self.loaded || self.dump_wanted {
            return Vec::new();
        }
        let mut puts: [Vec<Change>; RouteClass::ALL.len()] = Default::default();
        let mut removals = Vec::new();
        for pending in self.tracker.pending() {
            match pending {
                Pending::Apply { key, desired, actual } if self.may_try(key, now) => {
                    let Some(class) = self.view.class(desired) else {
                        continue;
                    };
                    // No class may fill the batch but the strongest: the rest is cut below.
                    let puts = &mut puts[class as usize];
                    if puts.len() < BATCH && self.view.foreign_at(key).is_none() {
                        let route = Route::clone(desired);
                        puts.push(if actual.is_some() {
                            Change::Replace(route)
                        } else {
                            Change::Create(route)
                        });
                    }
                }
                Pending::Remove { key, actual }
                    if removals.len() < BATCH && self.may_try(key, now) && self.may_remove(actual) =>
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

    fn may_remove(&self, route: &Route) -> bool {
        let Some(class) = self.view.class(route) else {
            return false;
        };
        let taken_down = |i| self.view.name(i).is_some_and(|n| self.workloads.is_taken_down(n));
        let said_so = match class {
            RouteClass::LocalWorkload => route.interfaces().any(taken_down),
            RouteClass::OwnBlock => false,
            RouteClass::Bgp => self.synced.datastore_known && self.withdrawn.contains(&route.prefix),
        };
        said_so || self.source_is_synced(class)
    }

    /// When the next refused change may be tried again, if there is one. Those whose time has come are a plan's matter.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        self.failures.values().map(|f| f.not_before).filter(|t| *t > now).min()
    }

    /// What the kernel did with the changes of a plan.
    pub fn applied(&mut self, changes: &[Change], result: Result<Vec<Refusal>, KernelError>, now: Duration) {
        let Ok(mut refusals) = result else {
            // Any of them may or may not be done: look.
            self.dump_wanted = true;
            return;
        };
        refusals.sort_by_key(|r| r.index);
        let mut refusals = refusals.into_iter().peekable();
        for (index, change) in changes.iter().enumerate() {
            let refusal = refusals.next_if(|r| r.index == index);
            match (change, refusal) {
                (Change::Create(r) | Change::Replace(r), None) => self.is_there(r),
                (Change::Delete(r), None) => self.is_gone(r),
                // Somebody else was faster.
                (Change::Delete(r), Some(e)) if e.errno == Errno::ESRCH as i32 => self.is_gone(r),
                (Change::Replace(r), Some(e)) if e.errno == Errno::ENOENT as i32 => self.is_gone(r),
                (Change::Create(r), Some(e)) => {
                    // Something has this key that no event told of: look before trying again.
                    self.dump_wanted |= e.errno == Errno::EEXIST as i32;
                    self.refused(r, &e, now);
                }
                (Change::Replace(r) | Change::Delete(r), Some(e)) => self.refused(r, &e, now),
            }
        }
        self.settle();
    }

    fn is_there(&mut self, route: &Route) {
        let key = route.key();
        self.failures.remove(&key);
        // What is wanted under this key is most likely this very route: share it.
        let route = match self.tracker.desired(&key) {
            Some(desired) if **desired == *route => Arc::clone(desired),
            _ => Arc::new(route.clone()),
        };
        if let Some(class) = self.view.class(&route) {
            self.reroute |= class != RouteClass::Bgp;
            self.view.own_is(class, &route);
        }
        self.tracker.found(key, route);
    }

    fn is_gone(&mut self, route: &Route) {
        let key = route.key();
        self.failures.remove(&key);
        self.reroute |= self.view.class(route) != Some(RouteClass::Bgp);
        self.view.route_gone(&key);
        self.tracker.missing(&key);
    }

    fn refused(&mut self, route: &Route, refusal: &Refusal, now: Duration) {
        let attempts = self.failures.get(&route.key()).map_or(0, |f| f.attempts) + 1;
        let delay = RETRY_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(RETRY_MAX);
        let failure = Failure {
            error: refusal.to_string(),
            attempts,
            not_before: now + delay,
        };
        if attempts == 1 {
            tracing::warn!(%route, error = failure.error, "the kernel refuses a route");
        }
        self.failures.insert(route.key(), failure);
    }
}
