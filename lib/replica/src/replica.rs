//! What a receiver of snapshots and changes holds.

use std::collections::BTreeMap;

use crate::Delta;

/// A copy of a remote map that survives reconnects: a new snapshot is merged into what is held, and only differences
/// come out.
///
/// While a snapshot is being received, keys it has not (yet) named are kept: they are deleted when the snapshot is
/// complete, never before. A snapshot that breaks off is forgotten by the next [`Replica::begin_snapshot`].
#[derive(Debug, Clone)]
pub struct Replica<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    generation: u64,
    snapshot: bool,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    seen: u64,
}

impl<K, V> Default for Replica<K, V> {
    fn default() -> Self {
        Replica {
            entries: BTreeMap::new(),
            generation: 0,
            snapshot: false,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Replica<K, V> {
    /// An empty copy.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source is about to send its whole map.
    pub fn begin_snapshot(&mut self) {
        self.generation += 1;
        self.snapshot = true;
    }

    /// The source says `key` is `value`. Gives the delta, unless it is known already.
    pub fn set(&mut self, key: K, value: V) -> Option<Delta<K, V>> {
        let seen = self.generation;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.seen = seen;
            if entry.value == value {
                return None;
            }
            entry.value = value.clone();
        } else {
            self.entries.insert(
                key.clone(),
                Entry {
                    value: value.clone(),
                    seen,
                },
            );
        }
        Some(Delta::Set(key, value))
    }

    /// The source says `key` is gone. Gives the delta, unless it is known already.
    pub fn delete(&mut self, key: K) -> Option<Delta<K, V>> {
        self.entries.remove(&key).map(|_| Delta::Delete(key))
    }

    /// The source has sent everything: what a snapshot did not name is gone. Ends with [`Delta::InSync`].
    pub fn in_sync(&mut self) -> Vec<Delta<K, V>> {
        let mut deltas = Vec::new();
        if std::mem::take(&mut self.snapshot) {
            let generation = self.generation;
            let gone = self
                .entries
                .iter()
                .filter(|(_, e)| e.seen != generation)
                .map(|(k, _)| k.clone());
            deltas.extend(gone.map(Delta::Delete));
            self.entries.retain(|_, e| e.seen == generation);
        }
        deltas.push(Delta::InSync);
        deltas
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|e| &e.value)
    }

    /// Every entry, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(k, e)| (k, &e.value))
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_snapshot_yields_only_differences_and_sweeps_at_the_end() {
        let mut r = Replica::new();
        r.begin_snapshot();
        assert_eq!(r.set("a", 1), Some(Delta::Set("a", 1)));
        assert_eq!(r.set("b", 1), Some(Delta::Set("b", 1)));
        assert_eq!(r.in_sync(), [Delta::InSync]);

        r.begin_snapshot();
        assert_eq!(r.set("a", 1), None);
        assert_eq!(r.get(&"b"), Some(&1), "not deleted before the snapshot is whole");
        assert_eq!(r.in_sync(), [Delta::Delete("b"), Delta::InSync]);
    }

    #[test]
    fn a_snapshot_that_breaks_off_deletes_nothing() {
        let mut r = Replica::new();
        r.begin_snapshot();
        r.set("a", 1);
        r.set("b", 1);
        r.in_sync();
        r.begin_snapshot();
        r.set("b", 2);
        // The connection is lost here; the source resumes with changes only.
        r.begin_snapshot();
        assert_eq!(r.set("a", 1), None);
        assert_eq!(r.set("b", 2), None);
        assert_eq!(r.in_sync(), [Delta::InSync]);
    }

    #[test]
    fn in_sync_without_a_snapshot_sweeps_nothing() {
        let mut r = Replica::new();
        r.begin_snapshot();
        r.set("a", 1);
        r.in_sync();
        assert_eq!(r.delete("x"), None);
        assert_eq!(r.in_sync(), [Delta::InSync]);
        assert_eq!(r.len(), 1);
    }
}
