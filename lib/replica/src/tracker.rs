//! Desired against actual: what a reconciling sink holds.

use std::collections::BTreeSet;

use crate::PackedMap;

/// The desired and the actual state of a keyed thing, and the keys where they differ.
///
/// The sink tells what it wants ([`Tracker::want`], [`Tracker::unwant`]) and what there is ([`Tracker::found`],
/// [`Tracker::missing`]); [`Tracker::pending`] lists what to do, in key order. `actual` holds only objects that the sink
/// recognises as its own, so everything unwanted there may be removed: the caller decides *when* (not before its
/// sources are in sync).
///
/// A sink that acts while it goes on listening tells which keys it is acting on ([`Tracker::begin`]): such a key is not pending
/// again, whatever is said of it meanwhile, before the sink tells what came of it ([`Tracker::done`]).
#[derive(Debug, Clone)]
pub struct Tracker<K, V> {
    /// Each key that is wanted or there; none with neither.
    slots: PackedMap<K, Slot<V>>,
    /// The keys whose slot differs, but for those that are acted on or were taken.
    dirty: BTreeSet<K>,
    /// The keys that are acted on.
    begun: BTreeSet<K>,
}

#[derive(Debug, Clone)]
struct Slot<V> {
    desired: Option<V>,
    actual: Option<V>,
}

impl<V: PartialEq> Slot<V> {
    fn differs(&self) -> bool {
        self.desired != self.actual
    }

    fn is_empty(&self) -> bool {
        self.desired.is_none() && self.actual.is_none()
    }

    fn pending<'a, K>(&'a self, key: &'a K) -> Option<Pending<'a, K, V>> {
        match (&self.desired, &self.actual) {
            (Some(desired), actual) => Some(Pending::Apply {
                key,
                desired,
                actual: actual.as_ref(),
            }),
            (None, Some(actual)) => Some(Pending::Remove { key, actual }),
            (None, None) => None,
        }
    }
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Slot {
            desired: None,
            actual: None,
        }
    }
}

/// Which of a slot's two values.
type Side<V> = fn(&mut Slot<V>) -> &mut Option<V>;

/// One thing to do to make actual equal desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending<'a, K, V> {
    /// Wanted, and not there or different.
    Apply {
        /// Which.
        key: &'a K,
        /// What it shall be.
        desired: &'a V,
        /// What is there now.
        actual: Option<&'a V>,
    },
    /// There, and not wanted.
    Remove {
        /// Which.
        key: &'a K,
        /// What is there now.
        actual: &'a V,
    },
}

impl<K, V> Default for Tracker<K, V> {
    fn default() -> Self {
        Tracker {
            slots: PackedMap::default(),
            dirty: BTreeSet::new(),
            begun: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Tracker<K, V> {
    /// Nothing wanted, nothing there.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sink wants this. Gives what it wanted before.
    pub fn want(&mut self, key: K, value: V) -> Option<V> {
        self.put(key, |slot| &mut slot.desired, value)
    }

    /// The sink does not want this any more. Gives what it wanted.
    pub fn unwant(&mut self, key: &K) -> Option<V> {
        self.take(key, |slot| &mut slot.desired)
    }

    /// This is there (after a dump, an event, or a successful apply). Gives what was there.
    pub fn found(&mut self, key: K, value: V) -> Option<V> {
        self.put(key, |slot| &mut slot.actual, value)
    }

    /// This is not there (after an event or a successful removal). Gives what was there.
    pub fn missing(&mut self, key: &K) -> Option<V> {
        self.take(key, |slot| &mut slot.actual)
    }

    /// A complete dump: what it does not name is not there.
    pub fn found_all(&mut self, all: impl IntoIterator<Item = (K, V)>) {
        self.put_all(|slot| &mut slot.actual, all);
    }

    /// Wants exactly this set.
    pub fn want_all(&mut self, all: impl IntoIterator<Item = (K, V)>) {
        self.put_all(|slot| &mut slot.desired, all);
    }

    fn put(&mut self, key: K, side: Side<V>, value: V) -> Option<V> {
        let slot = self.slots.or_default(key.clone());
        let differed = slot.differs();
        let before = side(slot).replace(value);
        let differs = slot.differs();
        self.changed(key, differed, differs);
        before
    }

    fn take(&mut self, key: &K, side: Side<V>) -> Option<V> {
        let slot = self.slots.get_mut(key)?;
        let differed = slot.differs();
        let before = side(slot).take();
        let differs = slot.differs();
        if slot.is_empty() {
            self.slots.remove(key);
        }
        self.changed(key.clone(), differed, differs);
        before
    }

    fn changed(&mut self, key: K, differed: bool, differs: bool) {
        match (differed, differs) {
            (false, true) if self.begun.is_empty() || !self.begun.contains(&key) => drop(self.dirty.insert(key)),
            (true, false) => drop(self.dirty.remove(&key)),
            (false, _) | (true, true) => {}
        }
    }

    fn put_all(&mut self, side: Side<V>, all: impl IntoIterator<Item = (K, V)>) {
        for (_, slot) in self.slots.iter_mut() {
            *side(slot) = None;
        }
        for (key, value) in all {
            *side(self.slots.or_default(key)) = Some(value);
        }
        self.slots.retain(|_, slot| !slot.is_empty());
        let differing = self.slots.iter().filter(|(_, slot)| slot.differs());
        let free = differing.filter(|(key, _)| !self.begun.contains(key));
        self.dirty = free.map(|(key, _)| key.clone()).collect();
    }

    /// The sink acts on this key from now on.
    pub fn begin(&mut self, key: K) {
        self.dirty.remove(&key);
        self.begun.insert(key);
    }

    /// The sink acts on this key no longer, and this is there now. Gives what was there.
    pub fn done(&mut self, key: &K, there: Option<V>) -> Option<V> {
        let before = match there {
            Some(value) => self.put(key.clone(), |slot| &mut slot.actual, value),
            None => self.take(key, |slot| &mut slot.actual),
        };
        self.given_up(key);
        before
    }

    /// The sink acts on this key no longer, and nothing came of it.
    pub fn given_up(&mut self, key: &K) {
        if self.begun.remove(key) && self.slots.get(key).is_some_and(Slot::differs) {
            self.dirty.insert(key.clone());
        }
    }

    /// Hands over the keys that are pending, in order: they are not listed again before they change, or are put back.
    pub fn take_pending(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.dirty)
    }

    /// Of those that were taken.
    pub fn put_back(&mut self, keys: impl IntoIterator<Item = K>) {
        for key in keys {
            if self.to_do(&key).is_some() {
                self.dirty.insert(key);
            }
        }
    }

    /// What to do about a key, if anything.
    pub fn to_do<'a>(&'a self, key: &'a K) -> Option<Pending<'a, K, V>> {
        let slot = self.slots.get(key).filter(|slot| slot.differs())?;
        if self.begun.contains(key) {
            return None;
        }
        slot.pending(key)
    }

    /// What to do, in key order. Empty when actual equals desired.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_, K, V>> {
        self.dirty.iter().filter_map(|key| self.slots.get(key)?.pending(key))
    }

    /// Does actual equal desired, but for keys that were taken? Nothing is acted on then.
    pub fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.begun.is_empty()
    }

    /// The wanted value of a key.
    pub fn desired(&self, key: &K) -> Option<&V> {
        self.slots.get(key)?.desired.as_ref()
    }

    /// What is there under a key.
    pub fn actual(&self, key: &K) -> Option<&V> {
        self.slots.get(key)?.actual.as_ref()
    }

    /// What is wanted under a key and what is there.
    pub fn both(&self, key: &K) -> (Option<&V>, Option<&V>) {
        self.slots
            .get(key)
            .map_or((None, None), |slot| (slot.desired.as_ref(), slot.actual.as_ref()))
    }

    /// Everything wanted, in key order.
    pub fn all_desired(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots
            .iter()
            .filter_map(|(key, slot)| Some((key, slot.desired.as_ref()?)))
    }

    /// Everything there, in key order.
    pub fn all_actual(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots
            .iter()
            .filter_map(|(key, slot)| Some((key, slot.actual.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Does what is pending, as a sink would, and counts it.
    fn converge(t: &mut Tracker<u8, u8>) -> usize {
        enum Act {
            Put(u8, u8),
            Remove(u8),
        }
        let acts: Vec<Act> = t
            .pending()
            .map(|p| match p {
                Pending::Apply { key, desired, .. } => Act::Put(*key, *desired),
                Pending::Remove { key, .. } => Act::Remove(*key),
            })
            .collect();
        let n = acts.len();
        for act in acts {
            match act {
                Act::Put(k, v) => t.found(k, v),
                Act::Remove(k) => t.missing(&k),
            };
        }
        n
    }

    proptest! {
        #[test]
        fn always_converges_to_what_is_wanted(ops in proptest::collection::vec((0u8..10, 0u8..6, 0u8..3), 0..60)) {
            let mut t = Tracker::new();
            for (op, k, v) in ops {
                match op {
                    6 => {
                        t.begin(k);
                        None
                    }
                    7 if t.begun.contains(&k) => t.done(&k, (v > 0).then_some(v)),
                    7 => None,
                    8 => {
                        t.given_up(&k);
                        None
                    }
                    9 => {
                        let taken = t.take_pending();
                        prop_assert_eq!(t.pending().count(), 0);
                        t.put_back(taken);
                        None
                    }
                    0 => t.want(k, v),
                    1 => t.unwant(&k),
                    2 => t.found(k, v),
                    3 => t.missing(&k),
                    4 => {
                        t.found_all([(k, v), (k + 1, v)]);
                        None
                    }
                    _ => {
                        t.want_all([(k, v), (k + 1, v)]);
                        None
                    }
                };
                let differ: Vec<u8> = (0..8)
                    .filter(|k| t.desired(k) != t.actual(k) && !t.begun.contains(k))
                    .collect();
                let key = |p: Pending<'_, u8, u8>| match p {
                    Pending::Apply { key, .. } | Pending::Remove { key, .. } => *key,
                };
                let pending: Vec<u8> = t.pending().map(key).collect();
                prop_assert_eq!(pending, differ);
                prop_assert_eq!(t.slots.len(), (0..8).filter(|k| t.both(k) != (None, None)).count());
            }
            (0..8).for_each(|k| t.given_up(&k));
            converge(&mut t);
            prop_assert!(t.is_settled());
            prop_assert_eq!(converge(&mut t), 0);
            prop_assert!(t.all_desired().eq(t.all_actual()));
        }
    }

    #[test]
    fn a_dump_shows_drift() {
        let mut t = Tracker::new();
        t.want(1, "a");
        t.want(2, "b");
        t.found_all([(1, "a"), (3, "c")]);
        let todo: Vec<_> = t.pending().collect();
        assert_eq!(
            todo,
            [
                Pending::Apply {
                    key: &2,
                    desired: &"b",
                    actual: None
                },
                Pending::Remove { key: &3, actual: &"c" }
            ]
        );
        t.found_all([(2, "b")]);
        assert_eq!(t.pending().count(), 1, "1 vanished from the kernel");
    }
}
