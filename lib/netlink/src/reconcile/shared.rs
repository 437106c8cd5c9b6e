//! What the reconciler is told of nexthop objects, and what it tells of them.

use std::time::Duration;

use nix::errno::Errno;

use super::objects::{ObjectCount, Objects};
use super::{Failure, Reconciler, Written};
use crate::route::object::{Object, ObjectChange, ObjectId};
use crate::route::{Change, IfIndex, NextHop, NextHops, Refusal, RouteKey};

impl Reconciler {
    /// Shall routes share objects from now on? Gives whether that is news: then what is wanted by
    /// [`Reconciler::want_shared`] is to be wanted again.
    pub fn use_objects(&mut self, on: bool) -> bool {
        self.objects.as_mut().is_some_and(|o| o.set_on(on))
    }

    /// These are all the objects in the kernel; `None`: it knows none. To be told before [`Reconciler::found_all`].
    pub fn objects_loaded(&mut self, objects: Option<Vec<Object>>) {
        if let Some(ours) = &mut self.objects {
            ours.load(objects);
        }
        self.forgive_objects();
    }

    /// The object is like this now.
    pub fn object_is(&mut self, object: Object) {
        if let Some(objects) = &mut self.objects {
            objects.is(object);
        }
    }

    /// The object is gone, and with it the routes that named it.
    pub fn object_gone(&mut self, id: ObjectId) {
        if !self.objects.as_mut().is_some_and(|o| o.gone(id)) {
            return;
        }
        let named = self.tracker.all_actual().filter(|(_, way)| way.object() == Some(id));
        let keys: Vec<RouteKey> = named.map(|(key, _)| *key).collect();
        for key in keys {
            self.missing(&key);
            self.forgive(&key);
        }
    }

    /// Does an object of ours that is there lead by this interface?
    pub fn objects_use(&self, index: IfIndex) -> bool {
        let by = |hop: &NextHop| hop.interface == Some(index);
        self.objects.as_ref().is_some_and(|o| o.uses(by))
    }

    /// Objects that were refused, and routes for want of theirs, deserve another try: something that mattered changed.
    pub fn forgive_objects(&mut self) {
        if let Some(objects) = &mut self.objects {
            objects.forgive();
            let tracker = &self.tracker;
            let names = |key: &RouteKey| tracker.desired(key).is_some_and(|way| way.object().is_some());
            self.failures.retain(|key, _| !names(key));
        }
    }

    /// Every one of so many wanted routes that goes by `from` is going to be wanted by `to`: replaces the object behind them
    /// at once, if no other route has it. What is wanted has to be told after that as ever.
    pub fn repoint(&mut self, from: &NextHops, to: &NextHops, routes: usize) -> bool {
        self.objects.as_mut().is_some_and(|o| o.repoint(from, to, routes))
    }

    /// The next changes of objects to make. They go before the routes that name them, in batches of their own: a route shall
    /// not fail for want of its object. `may_remove` says of one that none of our routes names whether it may go: not before
    /// the sources that could want it have spoken, and never while somebody else's route names it.
    ///
    /// Nothing while any answer is still to come: a route that is being written may name an object that nobody names yet.
    pub fn plan_objects(&mut self, now: Duration, may_remove: impl Fn(ObjectId) -> bool) -> Vec<Change> {
        if !self.is_idle() {
            return Vec::new();
        }
        let changes = self.objects.as_mut().map(|o| o.plan(now, may_remove));
        let changes: Vec<Change> = changes.into_iter().flatten().map(Change::Object).collect();
        self.objects_under_way = !changes.is_empty();
        self.under_way = usize::from(self.objects_under_way);
        changes
    }

    /// How many objects of ours there are.
    pub fn object_count(&self) -> ObjectCount {
        self.objects.as_ref().map(Objects::count).unwrap_or_default()
    }

    /// Which objects the kernel refuses.
    pub fn object_failures(&self) -> impl Iterator<Item = (ObjectId, &Failure)> {
        self.objects.iter().flat_map(Objects::failures)
    }

    pub(super) fn object_applied(
        &mut self,
        change: &ObjectChange,
        refusal: Option<&Refusal>,
        now: Duration,
        written: &mut Written,
    ) {
        let gone = refusal.is_some_and(|e| e.errno == Errno::ENOENT as i32);
        // Its routes went along.
        written.look_again |= gone && matches!(change, ObjectChange::Replace(_));
        if let Some(objects) = &mut self.objects {
            written.restate |= objects.applied(change, refusal, now);
        }
    }
}
