//! What a fan-out keeps: the current map and a bounded, shared log of how it got there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A reader's place in the log: the revision it has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// How a reader at some position is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume<T> {
    /// The changes after its position, oldest first. Empty when it is current.
    Changes(Vec<Arc<T>>),
    /// The log does not reach back that far (or the position is from the future): it needs a snapshot.
    Snapshot,
}

/// The current map and the recent changes, each stored once whatever the number of readers.
///
/// `T` is the change as it is sent (say, an encoded batch). Revisions strictly increase from one change to the next.
/// Memory is bounded by the map plus `capacity` changes.
#[derive(Debug)]
pub struct Breadcrumbs<K, V, T> {
    current: BTreeMap<K, V>,
    log: VecDeque<(u64, Arc<T>)>,
    /// The log holds every change after this revision.
    since: u64,
    revision: u64,
    capacity: usize,
}

impl<K: Ord + Clone, V: Clone, T> Breadcrumbs<K, V, T> {
    /// A map loaded at `revision`, with room for `capacity` changes.
    pub fn new(current: BTreeMap<K, V>, revision: u64, capacity: usize) -> Self {
        Breadcrumbs {
            current,
            log: VecDeque::new(),
            since: revision,
            revision,
            capacity,
        }
    }

    /// Applies a change (`None` deletes) and records how it is sent. A change that is not newer than the current
    /// revision is ignored: it is known already.
    pub fn push(&mut self, revision: u64, changes: impl IntoIterator<Item = (K, Option<V>)>, sent: Arc<T>) -> bool {
        if revision <= self.revision {
            return false;
        }
        for (key, value) in changes {
            match value {
                Some(v) => {
                    self.current.insert(key, v);
                }
                None => {
                    self.current.remove(&key);
                }
            }
        }
        self.revision = revision;
        self.log.push_back((revision, sent));
        while self.log.len() > self.capacity {
            if let Some((dropped, _)) = self.log.pop_front() {
                self.since = dropped;
            }
        }
        true
    }

    /// Nothing changed up to `revision`: readers that are there, because another source told them so, are current.
    pub fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Forgets the oldest change and gives it, with its revision: for those who bound the log by more than a count.
    pub fn forget_oldest(&mut self) -> Option<(u64, Arc<T>)> {
        let oldest = self.log.pop_front()?;
        self.since = oldest.0;
        Some(oldest)
    }

    /// Does the log hold every change after `position`?
    pub fn reaches(&self, position: Position) -> bool {
        self.since <= position.0 && position.0 <= self.revision
    }

    /// What a reader at `position` needs to become current.
    pub fn resume(&self, position: Position) -> Resume<T> {
        if !self.reaches(position) {
            return Resume::Snapshot;
        }
        let from = self.log.partition_point(|(r, _)| *r <= position.0);
        Resume::Changes(self.log.iter().skip(from).map(|(_, t)| Arc::clone(t)).collect())
    }

    /// The revision of the current map.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The current map.
    pub fn current(&self) -> &BTreeMap<K, V> {
        &self.current
    }

    /// How many changes the log holds.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Change = (u8, Option<u8>);

    proptest! {
        /// A reader that resumes at any moment, from any position it once had, ends with the current map.
        #[test]
        fn every_reader_ends_with_the_current_map(
            changes in proptest::collection::vec((0u8..5, any::<Option<u8>>()), 1..40),
            stop in 0usize..40,
            capacity in 0usize..10,
        ) {
            let mut crumbs: Breadcrumbs<u8, u8, Change> = Breadcrumbs::new(BTreeMap::new(), 0, capacity);
            let mut reader = BTreeMap::new();
            let mut at = Position(0);
            for (i, (k, v)) in changes.iter().enumerate() {
                crumbs.push(i as u64 + 1, [(*k, *v)], Arc::new((*k, *v)));
                if i == stop {
                    reader = crumbs.current().clone();
                    at = Position(crumbs.revision());
                }
            }
            match crumbs.resume(at) {
                Resume::Snapshot => reader = crumbs.current().clone(),
                Resume::Changes(list) => for change in list {
                    match *change {
                        (k, Some(v)) => { reader.insert(k, v); }
                        (k, None) => { reader.remove(&k); }
                    }
                },
            }
            prop_assert_eq!(&reader, crumbs.current());
            prop_assert!(crumbs.log_len() <= capacity);
        }
    }

    #[test]
    fn a_position_from_another_future_needs_a_snapshot() {
        let mut crumbs: Breadcrumbs<u8, u8, ()> = Breadcrumbs::new(BTreeMap::new(), 7, 2);
        assert_eq!(crumbs.resume(Position(9)), Resume::Snapshot);
        assert_eq!(crumbs.resume(Position(6)), Resume::Snapshot);
        assert_eq!(crumbs.resume(Position(7)), Resume::Changes(vec![]));
        assert!(!crumbs.push(7, [(1, Some(1))], Arc::new(())), "not newer");
        assert!(crumbs.push(8, [(1, Some(1))], Arc::new(())));
        assert_eq!(crumbs.resume(Position(7)), Resume::Changes(vec![Arc::new(())]));
        assert_eq!(crumbs.forget_oldest(), Some((8, Arc::new(()))));
        assert_eq!(crumbs.resume(Position(7)), Resume::Snapshot, "forgotten");
        assert_eq!(crumbs.resume(Position(8)), Resume::Changes(vec![]));
        crumbs.advance(10);
        crumbs.advance(9);
        assert_eq!(crumbs.revision(), 10);
        assert_eq!(crumbs.resume(Position(8)), Resume::Changes(vec![]));
        assert_eq!(crumbs.resume(Position(10)), Resume::Changes(vec![]));
        assert_eq!(crumbs.resume(Position(11)), Resume::Snapshot);
    }
}
