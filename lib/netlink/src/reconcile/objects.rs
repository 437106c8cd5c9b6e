//! The nexthop objects behind the routes: one for each distinct set of next hops, by content.
//!
//! An object exists while a route names it, in what is wanted or in what is there, or while it is a member of a group that
//! exists. One that the kernel refuses is tried again by a back-off of its own; meanwhile its routes have next hops of
//! their own.
//!
//! Invariants:
//! * only ids of our range with our protocol are ever written or removed;
//! * an object is removed only when no route that we know names it, ours or not: the kernel would remove the route, too;
//! * an object that is there is found by what it does, so a restart without memory uses it for the same routes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::Failure;
use crate::route::object::{Body, MEMBER_WEIGHT_MAX, Object, ObjectChange, ObjectId, hops_of};
use crate::route::{Kind, NextHop, NextHops, Protocol, Refusal, Route};

/// The first delay of an object that was refused.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// An object that was refused so often is forgotten until somebody asks for its like again.
const ATTEMPTS: u32 = 10;

/// Which objects are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// What marks them.
    pub protocol: Protocol,
    /// The lowest id.
    pub first: ObjectId,
    /// The highest.
    pub last: ObjectId,
}

impl Owned {
    fn is(&self, object: &Object) -> bool {
        object.protocol == self.protocol && self.covers(object.id)
    }

    fn covers(&self, id: ObjectId) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// How many objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectCount {
    /// Are in the kernel.
    pub there: u64,
    /// Are refused.
    pub failing: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// What it shall do.
    wanted: Option<(NextHops, Body)>,
    actual: Option<Body>,
    /// Routes that name it, wanted ones and those that are there.
    desired_by: usize,
    named_by: usize,
    /// Groups of ours that shall have it.
    groups: usize,
    failure: Option<Failure>,
}

impl Slot {
    fn is_used(&self) -> bool {
        self.desired_by > 0 || self.groups > 0
    }

    fn is_current(&self) -> bool {
        self.wanted.as_ref().map(|(_, body)| body) == self.actual.as_ref()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Objects {
    owned: Owned,
    /// They shall be used; `None`: nobody has said so yet, nor looked.
    on: Option<bool>,
    /// The kernel has them.
    supported: bool,
    slots: BTreeMap<ObjectId, Slot>,
    by_hops: HashMap<NextHops, ObjectId>,
    /// Ids of our range that somebody else uses.
    alien: BTreeSet<ObjectId>,
    dirty: BTreeSet<ObjectId>,
    next: ObjectId,
}

impl Objects {
    pub(super) fn new(owned: Owned) -> Self {
        Objects {
            owned,
            on: None,
            supported: false,
            slots: BTreeMap::new(),
            by_hops: HashMap::new(),
            alien: BTreeSet::new(),
            dirty: BTreeSet::new(),
            next: owned.first,
        }
    }

    /// Are they to be used from now on? Gives whether that is news.
    pub(super) fn set_on(&mut self, on: bool) -> bool {
        self.on.replace(on).unwrap_or(false) != on
    }

    pub(super) fn is_settled(&self) -> bool {
        let waits = |s: &Slot| s.is_used() && !s.is_current() && s.failure.is_none();
        !self.dirty.iter().filter_map(|id| self.slots.get(id)).any(waits)
    }

    pub(super) fn count(&self) -> ObjectCount {
        let count = |is: fn(&Slot) -> bool| self.slots.values().filter(|s| is(s)).count() as u64;
        ObjectCount {
            there: count(|s| s.actual.is_some()),
            failing: count(|s| s.failure.is_some()),
        }
    }

    /// What the kernel refuses.
    pub(super) fn failures(&self) -> impl Iterator<Item = (ObjectId, &Failure)> {
        self.slots.iter().filter_map(|(id, s)| Some((*id, s.failure.as_ref()?)))
    }

    // === What routes ask for ===

    /// The object for these next hops; `None` when their route shall have them of its own.
    pub(super) fn acquire(&mut self, route: &Route) -> Option<ObjectId> {
        let suits = |h: &NextHop| h.gateway.is_some() && h.interface.is_some() && h.weight <= MEMBER_WEIGHT_MAX;
        let hops = &route.next_hops;
        if self.on != Some(true)
            || !self.supported
            || route.kind != Kind::Unicast
            || hops.is_empty()
            || !hops.iter().all(suits)
        {
            return None;
        }
        self.of(hops).filter(|id| self.is_usable(*id))
    }

    fn is_usable(&self, id: ObjectId) -> bool {
        let Some(slot) = self.slots.get(&id) else { return false };
        let members = match &slot.wanted {
            Some((_, Body::Group(members))) => members.as_slice(),
            _ => &[],
        };
        let fails = |id: &ObjectId| self.slots.get(id).is_none_or(|s| s.failure.is_some());
        slot.failure.is_none() && !members.iter().any(|(member, _)| fails(member))
    }

    fn of(&mut self, hops: &NextHops) -> Option<ObjectId> {
        if let Some(id) = self.by_hops.get(hops) {
            return Some(*id);
        }
        let body = self.body(hops)?;
        let id = self.free_id()?;
        self.slots.insert(id, Slot::default());
        self.shall(id, Arc::clone(hops), body);
        Some(id)
    }

    fn body(&mut self, hops: &NextHops) -> Option<Body> {
        if let [only] = **hops {
            return Some(Body::Single(only));
        }
        let mut members = Vec::with_capacity(hops.len());
        for hop in hops.iter() {
            let alone: NextHops = Arc::new([NextHop { weight: 1, ..*hop }]);
            members.push((self.of(&alone)?, hop.weight));
        }
        members.sort_unstable();
        Some(Body::Group(members))
    }

    /// The next id that nobody uses; after the last comes the first.
    fn free_id(&mut self) -> Option<ObjectId> {
        let Owned { first, last, .. } = self.owned;
        for _ in first.0..=last.0 {
            let id = self.next;
            self.next = if id >= last { first } else { ObjectId(id.0 + 1) };
            if !self.slots.contains_key(&id) && !self.alien.contains(&id) {
                return Some(id);
            }
        }
        None
    }

    /// The object does this from now on, and is found by it.
    fn shall(&mut self, id: ObjectId, hops: NextHops, body: Body) {
        self.count_groups(&body, 1);
        self.by_hops.insert(Arc::clone(&hops), id);
        if let Some(slot) = self.slots.get_mut(&id) {
            let before = slot.wanted.replace((hops, body));
            self.dirty.insert(id);
            if let Some((hops, body)) = before {
                self.by_hops.remove(&hops);
                self.count_groups(&body, -1);
            }
        }
    }

    fn count_groups(&mut self, body: &Body, by: isize) {
        let Body::Group(members) = body else { return };
        for (id, _) in members {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.groups = slot.groups.saturating_add_signed(by);
                self.dirty.insert(*id);
            }
        }
    }

    /// One more or one fewer wanted route names it.
    pub(super) fn desired(&mut self, id: Option<ObjectId>, by: isize) {
        self.counted(id, |slot| &mut slot.desired_by, by);
    }

    /// One more or one fewer route that is there names it.
    pub(super) fn named(&mut self, id: Option<ObjectId>, by: isize) {
        self.counted(id, |slot| &mut slot.named_by, by);
    }

    fn counted(&mut self, id: Option<ObjectId>, which: fn(&mut Slot) -> &mut usize, by: isize) {
        let Some(id) = id else { return };
        if by > 0 && self.owned.covers(id) {
            self.slots.entry(id).or_default();
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let count = which(slot);
        *count = count.saturating_add_signed(by);
        if *count <= 1 {
            self.dirty.insert(id);
        }
    }

    /// No route is known to be there any more.
    pub(super) fn none_named(&mut self) {
        for (id, slot) in &mut self.slots {
            slot.named_by = 0;
            self.dirty.insert(*id);
        }
    }

    /// What an object of ours shall do, or does: what a route that names it says of its next hops may be on the way from
    /// one to the other.
    pub(super) fn hops(&self, id: ObjectId) -> Option<&NextHops> {
        let (hops, _) = self.slots.get(&id)?.wanted.as_ref()?;
        Some(hops)
    }

    /// Does the kernel's object do what it shall?
    pub(super) fn is_current(&self, id: ObjectId) -> bool {
        self.slots.get(&id).map_or(!self.owned.covers(id), Slot::is_current)
    }

    /// Everything that goes by `from`, which is so many wanted routes, goes by `to` from now on: gives whether the object
    /// behind can be replaced under them.
    pub(super) fn repoint(&mut self, from: &NextHops, to: &NextHops, routes: usize) -> bool {
        let Some(id) = self.by_hops.get(from).copied() else {
            return false;
        };
        let same_kind = (from.len() == 1) == (to.len() == 1) && !to.is_empty();
        let alone = |s: &Slot| s.desired_by == routes && s.groups == 0 && s.failure.is_none() && s.actual.is_some();
        if !same_kind || !self.slots.get(&id).is_some_and(alone) {
            return false;
        }
        if let Some(other) = self.by_hops.get(to).copied() {
            if self.slots.get(&other).is_some_and(Slot::is_used) {
                return false;
            }
            // What nobody uses is left to be swept.
            self.by_hops.remove(to);
            if let Some((_, body)) = self.slots.get_mut(&other).and_then(|s| s.wanted.take()) {
                self.count_groups(&body, -1);
            }
            self.dirty.insert(other);
        }
        let Some(body) = self.body(to) else { return false };
        self.shall(id, Arc::clone(to), body);
        true
    }

    // === What the kernel has ===

    /// These are all that there are; `None`: this kernel knows none.
    pub(super) fn load(&mut self, objects: Option<Vec<Object>>) {
        self.supported = objects.is_some();
        self.alien.clear();
        for slot in self.slots.values_mut() {
            slot.actual = None;
        }
        let (ours, others): (Vec<_>, Vec<_>) = objects.into_iter().flatten().partition(|o| self.owned.is(o));
        self.alien
            .extend(others.iter().map(|o| o.id).filter(|id| self.owned.covers(*id)));
        // Until somebody says so, it stays as it was in a former life.
        self.on.get_or_insert(!ours.is_empty());
        for object in ours {
            self.slots.entry(object.id).or_default().actual = Some(object.body);
        }
        let ids: Vec<_> = self.slots.keys().copied().collect();
        for id in &ids {
            self.adopt(*id);
        }
        self.dirty.extend(ids);
    }

    /// An object of a former life is used for what it does, unless another does the same already.
    fn adopt(&mut self, id: ObjectId) {
        let slot = self.slots.get(&id).filter(|s| s.wanted.is_none());
        let Some(body) = slot.and_then(|s| s.actual.clone()) else {
            return;
        };
        let find = |id| self.slots.get(&id).and_then(|s| s.actual.as_ref());
        let Some(hops) = hops_of(id, find).filter(|h| !self.by_hops.contains_key(h)) else {
            return;
        };
        self.shall(id, hops, body);
    }

    /// The object is like this now.
    pub(super) fn is(&mut self, object: Object) {
        if !self.owned.is(&object) {
            if self.owned.covers(object.id) {
                self.alien.insert(object.id);
            }
            return;
        }
        self.dirty.insert(object.id);
        self.slots.entry(object.id).or_default().actual = Some(object.body);
    }

    /// The object is gone. Gives whether routes that we know went along.
    pub(super) fn gone(&mut self, id: ObjectId) -> bool {
        self.alien.remove(&id);
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        slot.actual = None;
        self.dirty.insert(id);
        slot.named_by > 0
    }

    /// Has the kernel an object that leads by this interface?
    pub(super) fn uses(&self, hop: impl Fn(&NextHop) -> bool) -> bool {
        let single = |s: &Slot| matches!(&s.actual, Some(Body::Single(h)) if hop(h));
        self.slots.values().any(single)
    }

    /// Something that mattered changed: what was refused deserves another try at once.
    pub(super) fn forgive(&mut self) {
        for (id, slot) in &mut self.slots {
            if let Some(failure) = &mut slot.failure {
                failure.not_before = Duration::ZERO;
                self.dirty.insert(*id);
            }
        }
    }

    // === Batches ===

    /// The next changes to make; removals only when nothing else is to be done.
    pub(super) fn plan(&mut self, now: Duration, may_remove: impl Fn(ObjectId) -> bool) -> Vec<ObjectChange> {
        let (mut singles, mut groups, mut removals) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = std::mem::take(&mut self.dirty);
        ids.iter().for_each(|id| self.settle(*id));
        // With a group its members' reason may have gone.
        ids.append(&mut self.dirty);
        for id in ids {
            self.settle(id);
            let Some(slot) = self.slots.get(&id) else { continue };
            let again = slot.failure.is_some();
            if (slot.is_used() || again) && !slot.is_current() {
                self.dirty.insert(id);
                let waits = slot.failure.as_ref().is_some_and(|f| f.not_before > now);
                if let Some((_, body)) = slot.wanted.as_ref().filter(|_| !waits) {
                    let puts = match body {
                        Body::Group(_) => &mut groups,
                        Body::Single(_) | Body::Other => &mut singles,
                    };
                    puts.push(self.put(id, body.clone(), slot.actual.is_some()));
                }
            } else if !slot.is_used() && slot.actual.is_some() && slot.named_by == 0 {
                self.dirty.insert(id);
                if may_remove(id) {
                    removals.push(ObjectChange::Delete(id));
                }
            }
        }
        singles.append(&mut groups);
        if singles.is_empty() { removals } else { singles }
    }

    fn put(&self, id: ObjectId, body: Body, there: bool) -> ObjectChange {
        let object = Object {
            id,
            protocol: self.owned.protocol,
            body,
        };
        if there {
            ObjectChange::Replace(object)
        } else {
            ObjectChange::Create(object)
        }
    }

    /// Forgets an object that is not there and that nobody wants, and a failure that is over.
    fn settle(&mut self, id: ObjectId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.failure.take_if(|f| f.attempts >= ATTEMPTS);
        if slot.is_used() || slot.actual.is_some() || slot.named_by > 0 || slot.failure.is_some() {
            return;
        }
        if let Some((hops, body)) = self.slots.remove(&id).and_then(|s| s.wanted) {
            self.by_hops.remove(&hops);
            self.count_groups(&body, -1);
        }
    }

    /// What came of a change. Gives whether routes shall be decided anew, because an object can be used now, or no more.
    pub(super) fn applied(&mut self, change: &ObjectChange, refusal: Option<&Refusal>, now: Duration) -> bool {
        let id = change.id();
        self.dirty.insert(id);
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        match (change, refusal) {
            (ObjectChange::Create(o) | ObjectChange::Replace(o), None) => {
                slot.actual = Some(o.body.clone());
                slot.failure.take().is_some()
            }
            (ObjectChange::Delete(_), None) => {
                slot.actual = None;
                false
            }
            (ObjectChange::Delete(_) | ObjectChange::Replace(_), Some(e)) if e.errno == Errno::ENOENT as i32 => {
                slot.actual = None;
                false
            }
            (ObjectChange::Create(_), Some(e)) if e.errno == Errno::EEXIST as i32 => {
                self.give_up(id);
                true
            }
            (_, Some(e)) => self.refused(id, e, now),
        }
    }

    /// Somebody else has this id.
    fn give_up(&mut self, id: ObjectId) {
        self.alien.insert(id);
        if let Some((hops, body)) = self.slots.remove(&id).and_then(|s| s.wanted) {
            self.by_hops.remove(&hops);
            self.count_groups(&body, -1);
        }
    }

    fn refused(&mut self, id: ObjectId, refusal: &Refusal, now: Duration) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        let before = slot.failure.as_ref();
        let (attempts, since) = before.map_or((1, now), |f| (f.attempts.saturating_add(1), f.since));
        let delay = RETRY_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(RETRY_MAX);
        let error = refusal.to_string();
        if attempts == 1 {
            tracing::warn!(
                object = id.0,
                error,
                "the kernel refuses a nexthop object, its routes do without"
            );
        }
        slot.failure = Some(Failure {
            error,
            attempts,
            since,
            not_before: now + delay,
        });
        attempts == 1
    }

    /// When the next refused one may be tried again.
    pub(super) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let failing = self.slots.values().filter_map(|s| s.failure.as_ref());
        failing.map(|f| f.not_before).filter(|t| *t > now).min()
    }
}
