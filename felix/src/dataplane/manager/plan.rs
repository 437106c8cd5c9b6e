//! From the difference between wanted and there to batches, and from the kernel's answers back.

use std::time::Duration;

use tortie_netlink::reconcile::{Outcome, Rules};
use tortie_netlink::route::{Change, KernelError, Refusal, Route, RouteKey};

use super::Manager;
use crate::dataplane::class::RouteClass;

impl Rules for Manager {
    const RANKS: usize = RouteClass::ALL.len();

    /// The strongest class first, so that a batch of a peer's routes never delays an endpoint.
    fn rank(&self, route: &Route) -> Option<usize> {
        self.view.class(route).map(|class| class as usize)
    }

    fn is_taken(&self, key: &RouteKey) -> bool {
        self.view.foreign_at(key).is_some()
    }

    fn may_remove(&self, route: &Route) -> bool {
        let Some(class) = self.view.class(route) else {
            return false;
        };
        let taken_down = |i| self.view.name(i).is_some_and(|n| self.workloads.is_taken_down(n));
        let said_so = match class {
            RouteClass::LocalWorkload => route.interfaces().any(taken_down),
            RouteClass::SameSubnet | RouteClass::VxlanTunnel | RouteClass::OwnBlock => false,
            RouteClass::Bgp => self.synced.datastore_known && self.withdrawn.contains(&route.prefix),
        };
        said_so || self.source_is_synced(class)
    }
}

impl Manager {
    /// The next changes to make. Others may be under way; answers are told in the order of plans.
    pub fn plan(&mut self, now: Duration) -> Vec<Change> {
        if !self.is_loaded() || self.dump_wanted {
            return Vec::new();
        }
        let told = RouteClass::ALL.into_iter().all(|class| self.source_is_synced(class));
        let view = &self.view;
        let objects = self.routes.plan_objects(now, |id| told && !view.names_object(id));
        if !objects.is_empty() {
            return objects;
        }
        // The rules ask nothing of it meanwhile.
        let mut routes = std::mem::take(&mut self.routes);
        let changes = routes.plan(now, &*self);
        self.routes = routes;
        changes
    }

    /// When the next refused change may be tried again, or a held route is let go, if there is one. Refused changes whose
    /// time has come are a plan's matter, held routes [`Manager::tick`]'s.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let held = self.holds.next_deadline();
        self.routes.next_deadline(now).into_iter().chain(held).min()
    }

    /// What the kernel did with the changes of a plan.
    pub fn applied(&mut self, changes: &[Change], result: Result<Vec<Refusal>, KernelError>, now: Duration) {
        let written = self.routes.applied(changes, result, now);
        self.dump_wanted |= written.look_again;
        if written.restate {
            self.restate();
        }
        for outcome in written.outcomes {
            match outcome {
                Outcome::There(route) => {
                    if let Some(class) = self.view.class(&route) {
                        self.reroute |= class != RouteClass::Bgp;
                        self.view.own_is(class, &route);
                    }
                }
                Outcome::Gone(route) => {
                    self.reroute |= self.view.class(&route) != Some(RouteClass::Bgp);
                    self.view.route_gone(&route.key());
                }
            }
        }
        self.settle();
    }
}
