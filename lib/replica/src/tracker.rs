//! Desired against actual: what a reconciling sink holds.

use std::collections::{BTreeMap, BTreeSet};

/// The desired and the actual state of a keyed thing, and the keys where they differ.
///
/// The sink tells what it wants ([`Tracker::want`], [`Tracker::unwant`]) and what there is ([`Tracker::found`],
/// [`Tracker::missing`]); [`Tracker::pending`] lists what to do, in key order. `actual` holds only objects that the sink
/// recognises as its own, so everything unwanted there may be removed: the caller decides *when* (not before its
/// sources are in sync).
#[derive(Debug, Clone)]
pub struct Tracker<K, V> {
    desired: BTreeMap<K, V>,
    actual: BTreeMap<K, V>,
    dirty: BTreeSet<K>,
}

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
            desired: BTreeMap::new(),
            actual: BTreeMap::new(),
            dirty: BTreeSet::new(),
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
        let before = self.desired.insert(key.clone(), value);
        self.settle(key);
        before
    }

    /// The sink does not want this any more. Gives what it wanted.
    pub fn unwant(&mut self, key: &K) -> Option<V> {
        let before = self.desired.remove(key);
        self.settle(key.clone());
        before
    }

    /// This is there (after a dump, an event, or a successful apply). Gives what was there.
    pub fn found(&mut self, key: K, value: V) -> Option<V> {
        let before = self.actual.insert(key.clone(), value);
        self.settle(key);
        before
    }

    /// This is not there (after an event or a successful removal). Gives what was there.
    pub fn missing(&mut self, key: &K) -> Option<V> {
        let before = self.actual.remove(key);
        self.settle(key.clone());
        before
    }

    /// A complete dump: what it does not name is not there.
    pub fn found_all(&mut self, all: impl IntoIterator<Item = (K, V)>) {
        let before = std::mem::take(&mut self.actual);
        self.actual.extend(all);
        let keys: BTreeSet<K> = before.into_keys().chain(self.actual.keys().cloned()).collect();
        for key in keys.into_iter().chain(self.desired.keys().cloned().collect::<Vec<_>>()) {
            self.settle(key);
        }
    }

    /// Wants exactly this set.
    pub fn want_all(&mut self, all: impl IntoIterator<Item = (K, V)>) {
        let before = std::mem::take(&mut self.desired);
        self.desired.extend(all);
        let keys: BTreeSet<K> = before
            .into_keys()
            .chain(self.desired.keys().cloned())
            .chain(self.actual.keys().cloned())
            .collect();
        for key in keys {
            self.settle(key);
        }
    }

    fn settle(&mut self, key: K) {
        if self.desired.get(&key) == self.actual.get(&key) {
            self.dirty.remove(&key);
        } else {
            self.dirty.insert(key);
        }
    }

    /// What to do, in key order. Empty when actual equals desired.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_, K, V>> {
        self.dirty
            .iter()
            .filter_map(|key| match (self.desired.get(key), self.actual.get(key)) {
                (Some(desired), actual) => Some(Pending::Apply { key, desired, actual }),
                (None, Some(actual)) => Some(Pending::Remove { key, actual }),
                (None, None) => None,
            })
    }

    /// Does actual equal desired?
    pub fn is_settled(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The wanted value of a key.
    pub fn desired(&self, key: &K) -> Option<&V> {
        self.desired.get(key)
    }

    /// What is there under a key.
    pub fn actual(&self, key: &K) -> Option<&V> {
        self.actual.get(key)
    }

    /// Everything wanted, in key order.
    pub fn all_desired(&self) -> impl Iterator<Item = (&K, &V)> {
        self.desired.iter()
    }

    /// Everything there, in key order.
    pub fn all_actual(&self) -> impl Iterator<Item = (&K, &V)> {
        self.actual.iter()
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
        fn always_converges_to_what_is_wanted(ops in proptest::collection::vec((0u8..4, 0u8..6, 0u8..3), 0..60)) {
            let mut t = Tracker::new();
            for (op, k, v) in ops {
                match op {
                    0 => t.want(k, v),
                    1 => t.unwant(&k),
                    2 => t.found(k, v),
                    _ => t.missing(&k),
                };
            }
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
