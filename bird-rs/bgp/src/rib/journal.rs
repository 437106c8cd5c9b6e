//! What became of the paths of some sources since somebody last asked: for monitoring stations (RFC 7854).
//!
//! A note says which path changed and what it was before, not what it is now: whoever reads the notes looks. So a path
//! that changed a hundred times is told once.
//!
//! Invariants: notes are of watched sources only; a source that is no longer watched has none; there are never more than
//! a million. Beyond that all of them are forgotten, and [`Journal::take_lost`] says so: the reader has to begin anew.

use std::collections::VecDeque;

use super::path::{Filtered, Path, SourceId};

/// Notes kept at most: with IPv6 prefixes 32 MiB.
pub(super) const CAPACITY: usize = 1 << 20;

/// What a path was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Before {
    /// It was not there.
    Absent,
    /// It was not accepted.
    Refused,
    /// It was accepted, reachable or not.
    Accepted,
}

impl Before {
    fn of(path: &Path) -> Self {
        if path.is_accepted() {
            Before::Accepted
        } else {
            Before::Refused
        }
    }
}

impl Path {
    /// Did the import policy accept it? One whose next hop is unreachable waits, and is accepted.
    pub fn is_accepted(&self) -> bool {
        self.filtered.is_none_or(|why| why == Filtered::NextHop)
    }
}

/// A path that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note<F> {
    /// Whose.
    pub source: SourceId,
    /// To which prefix.
    pub prefix: F,
    /// By which identifier (RFC 7911), zero without.
    pub path_id: u32,
    /// What it was.
    pub before: Before,
    /// The peer said something; not only the import policy is another.
    pub heard: bool,
}

/// The notes of a table.
#[derive(Debug)]
pub struct Journal<F> {
    /// By [`SourceId`].
    watched: Vec<bool>,
    notes: VecDeque<Note<F>>,
    lost: bool,
}

impl<F> Default for Journal<F> {
    fn default() -> Self {
        Journal {
            watched: Vec::new(),
            notes: VecDeque::new(),
            lost: false,
        }
    }
}

impl<F: Copy + Ord> Journal<F> {
    /// Is somebody interested in a source? When nobody is any more, what was noted of it is forgotten.
    pub fn watch(&mut self, source: SourceId, on: bool) {
        let at = usize::from(source.0);
        match self.watched.get_mut(at) {
            Some(watched) => *watched = on,
            None if on => {
                self.watched.resize(at + 1, false);
                self.watched[at] = true;
            }
            None => {}
        }
        if !on {
            self.notes.retain(|note| note.source != source);
        }
    }

    /// A path came, or came again after its peer's session was lost.
    pub(super) fn came(&mut self, prefix: F, path: &Path) {
        self.note(prefix, path, Before::Absent, true);
    }

    /// A path is about to change or go.
    pub(super) fn was(&mut self, prefix: F, path: &Path) {
        self.note(prefix, path, Before::of(path), true);
    }

    /// A path is about to be used otherwise; the peer told nothing.
    pub(super) fn was_imported(&mut self, prefix: F, path: &Path) {
        self.note(prefix, path, Before::of(path), false);
    }

    fn note(&mut self, prefix: F, path: &Path, before: Before, heard: bool) {
        let (source, path_id) = (path.source, path.path_id);
        if !self.watched.get(usize::from(source.0)).is_some_and(|watched| *watched) {
            return;
        }
        if self.notes.len() >= CAPACITY {
            self.notes = VecDeque::new();
            self.lost = true;
        }
        self.notes.push_back(Note {
            source,
            prefix,
            path_id,
            before,
            heard,
        });
    }

    /// Is there anything to take?
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && !self.lost
    }

    /// Up to `limit` notes, the oldest ones, sorted; of several of one path one, with the most that the path was.
    pub fn take(&mut self, limit: usize) -> Vec<Note<F>> {
        let mut taken: Vec<_> = self.notes.drain(..limit.min(self.notes.len())).collect();
        let path = |note: &Note<F>| (note.source, note.prefix, note.path_id);
        taken.sort_unstable_by_key(path);
        taken.dedup_by(|later, kept| {
            let same = path(later) == path(kept);
            if same {
                kept.before = kept.before.max(later.before);
                kept.heard |= later.heard;
            }
            same
        });
        taken
    }

    /// Were notes forgotten since this was last asked?
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::{AttrId, Interner, Learned, Stale};

    fn attrs() -> AttrId {
        let mut interner: Interner<Learned> = Interner::default();
        interner.intern(&Learned {
            attributes: crate::attr::Attributes::default(),
            preference: 100,
            destination: crate::filter::RouteDestination::Unicast,
            igp_metric: None,
            krt: crate::filter::Krt::default(),
            gateways: Box::default(),
            hop: None,
        })
    }

    fn path(source: u16, filtered: Option<Filtered>) -> Path {
        Path {
            source: SourceId(source),
            stale: Stale::Fresh,
            filtered,
            path_id: 7,
            attrs: attrs(),
            received: attrs(),
            since: 0,
        }
    }

    #[test]
    fn notes_of_one_path_become_one_with_the_most_that_it_was() {
        let mut journal: Journal<u8> = Journal::default();
        journal.was(1, &path(3, None));
        assert!(journal.is_empty(), "nobody watches");
        journal.watch(SourceId(3), true);
        journal.came(2, &path(3, None));
        journal.was_imported(2, &path(3, Some(Filtered::NextHop)));
        journal.was(2, &path(3, Some(Filtered::AsLoop)));
        journal.was_imported(1, &path(3, Some(Filtered::AsLoop)));
        journal.came(9, &path(4, None));
        let taken = journal.take(10);
        let shown: Vec<_> = taken
            .iter()
            .map(|note| (note.prefix, note.before, note.heard))
            .collect();
        assert_eq!(shown, [(1, Before::Refused, false), (2, Before::Accepted, true)]);
        assert!(journal.is_empty());
    }

    #[test]
    fn what_is_not_watched_any_more_is_forgotten() {
        let mut journal: Journal<u8> = Journal::default();
        for source in [1, 2] {
            journal.watch(SourceId(source), true);
            journal.came(5, &path(source, None));
        }
        journal.watch(SourceId(1), false);
        let sources: Vec<_> = journal.take(10).iter().map(|note| note.source).collect();
        assert_eq!(sources, [SourceId(2)]);
    }

    #[test]
    fn the_oldest_are_taken_first_and_too_many_are_none() {
        let mut journal: Journal<u32> = Journal::default();
        journal.watch(SourceId(1), true);
        let path = path(1, None);
        (0..10).for_each(|prefix| journal.came(prefix, &path));
        assert_eq!(journal.take(3).iter().map(|note| note.prefix).max(), Some(2));
        (0..CAPACITY as u32).for_each(|prefix| journal.came(prefix, &path));
        assert!(journal.take_lost() && !journal.take_lost());
        assert!(journal.take(CAPACITY).len() <= 7, "only what came after");
    }
}
