//! The log of an outbox: what has changed, once for all members.

use std::collections::VecDeque;
use std::hash::Hash;

use super::{Entry, Member, Outbox};
use crate::rib::intern::{AttrId, Interner};
use crate::rib::lanes::Place;
use crate::rib::path::SourceId;

/// There are at most so many members, so that [`Entry::uses`] has as much for the log.
pub(super) const MEMBERS: u16 = u16::MAX / 2;

/// So many changes wait for members in the log, or as many as there are places; beyond that they are noted for each member.
const LOG: usize = 64 * 1024;

/// A change of what is announced that not all members have noted yet. It holds a reference to what was announced before;
/// what was announced then is held by the next change or by the entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) place: Place,
    pub(super) before: Option<AttrId>,
    pub(super) now: Option<AttrId>,
    pub(super) before_from: SourceId,
    pub(super) now_from: SourceId,
}

/// Changes that are kept together. A queue in one piece would take twice what is in it, and more while it grows.
const CHUNK: usize = 1024;

/// The changes in order.
#[derive(Debug, Default)]
struct Changes {
    /// All but the last one full.
    chunks: VecDeque<Vec<Change>>,
    /// So many were taken out of the first chunk.
    gone: usize,
}

impl Changes {
    fn len(&self) -> usize {
        let before = self.chunks.len().saturating_sub(1) * CHUNK;
        before + self.chunks.back().map_or(0, Vec::len) - self.gone
    }

    fn push(&mut self, change: Change) {
        match self.chunks.back_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(change),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(change);
                self.chunks.push_back(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<Change> {
        let first = self.chunks.front()?;
        let change = *first.get(self.gone)?;
        self.gone += 1;
        if self.gone == first.len() {
            self.chunks.pop_front();
            self.gone = 0;
        }
        Some(change)
    }

    /// All but the first `skipped` ones.
    fn after(&self, skipped: usize) -> impl Iterator<Item = &Change> {
        let skipped = skipped.saturating_add(self.gone);
        let (chunk, mut at) = ((skipped / CHUNK).min(self.chunks.len()), skipped % CHUNK);
        let chunks = self.chunks.range(chunk..);
        chunks.flat_map(move |chunk| chunk.get(std::mem::take(&mut at)..).unwrap_or_default())
    }
}

/// The changes in order, and their numbers, which are never used again.
#[derive(Debug, Default)]
pub(super) struct Log {
    changes: Changes,
    /// The number of the first one.
    base: u64,
    /// By place, a bit each: changed since the log was empty.
    changed: Vec<u64>,
    /// The last change of a place that had changed before.
    repeated: u64,
}

impl Log {
    pub(super) fn push(&mut self, change: Change) {
        let (word, bit) = (change.place.index() / 64, 1 << (change.place.index() % 64));
        if self.changed.len() <= word {
            self.changed.resize(word + 1, 0);
        }
        if self.changed[word] & bit != 0 {
            self.repeated = self.end();
        }
        self.changed[word] |= bit;
        self.changes.push(change);
    }

    /// The number of the next change.
    pub(super) fn end(&self) -> u64 {
        self.base + self.changes.len() as u64
    }

    /// The number of the first change that is still there.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Is there anything in the log that later changes may make needless, for one who has to note it from this number on?
    pub(super) fn repeats_since(&self, number: u64) -> bool {
        self.repeated >= number && self.repeated > 0
    }

    /// The changes from this number on.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = &Change> {
        let from = usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.changes.after(from)
    }

    /// Takes out the first one, if its number is lower.
    fn pop_below(&mut self, number: u64) -> Option<Change> {
        let first = (self.base < number).then(|| self.changes.pop()).flatten();
        self.base += u64::from(first.is_some());
        first
    }
}

impl Outbox {
    /// Makes sure that there is room in the log for a change of this place.
    pub(super) fn make_room<V: Eq + Hash>(&mut self, id: Place, interner: &mut Interner<V>) {
        let often = self.entries[id.index()].uses > MEMBERS;
        if often || self.log.changes.len() >= LOG.max(self.entries.len()) {
            (0..self.members.len()).for_each(|member| self.note(member, interner));
            self.trim(interner);
        }
    }

    /// Notes for a member what has changed since it last did.
    pub(super) fn note<V: Eq + Hash>(&mut self, at: usize, interner: &mut Interner<V>) {
        let Some(Some(member)) = self.members.get_mut(at) else {
            return;
        };
        for change in self.log.since(member.noted) {
            note(member, change, &mut self.entries[change.place.index()], interner);
        }
        member.noted = self.log.end();
    }

    /// Forgets the changes that every member has noted. What is not forgotten costs memory, and nothing else.
    pub fn trim<V: Eq + Hash>(&mut self, interner: &mut Interner<V>) {
        let noted = self.members.iter().flatten().map(|member| member.noted);
        let until = noted.min().unwrap_or(u64::MAX);
        while let Some(change) = self.log.pop_below(until) {
            self.entries[change.place.index()].uses -= 1;
            if let Some(before) = change.before {
                interner.release(before);
            }
        }
        if self.log.changes.len() == 0 {
            self.log.changed.clear();
            // After a burst its room is given back.
            self.log.changes = Changes::default();
        }
    }
}

/// Notes for a member that what is announced has changed.
fn note<V: Eq + Hash>(member: &mut Member, change: &Change, entry: &mut Entry, interner: &mut Interner<V>) {
    let id = change.place;
    let before = member.sees_from(change.before, change.before_from);
    let now = member.sees_from(change.now, change.now_from);
    member.told.own += u64::from(change.now.is_some() && now.is_none() && member.reached(id));
    if before == now || !member.reached(id) {
        return;
    }
    member.blocked = false;
    match member.pending.get(id) {
        None => {
            member.pending.insert(id, before.map(|before| interner.retain(before)));
            entry.uses += 1;
        }
        Some(told) if told == now => {
            member.pending.remove(id);
            entry.uses -= 1;
            if let Some(told) = told {
                interner.release(told);
            }
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn changes_are_a_queue(ops in proptest::collection::vec((any::<bool>(), 0usize..3 * CHUNK), 0..20)) {
            let (mut changes, mut model, mut next) = (Changes::default(), VecDeque::new(), 0);
            for (push, count) in ops {
                for _ in 0..count {
                    if push {
                        let from = SourceId::NONE;
                        changes.push(Change { place: Place(next), before: None, now: None, before_from: from, now_from: from });
                        model.push_back(next);
                        next += 1;
                    } else {
                        prop_assert_eq!(changes.pop().map(|change| change.place.0), model.pop_front());
                    }
                }
                prop_assert_eq!(changes.len(), model.len());
                for skipped in [0, 1, CHUNK, model.len() / 2, model.len(), usize::MAX] {
                    let left = changes.after(skipped).map(|change| change.place.0);
                    prop_assert!(left.eq(model.iter().copied().skip(skipped)));
                }
            }
        }
    }
}
