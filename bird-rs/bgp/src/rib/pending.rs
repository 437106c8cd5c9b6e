//! What a member has still to be told, in the order in which it changed.
//!
//! The order matters for what is sent: prefixes that arrived in one UPDATE share attributes, and when they are taken
//! together they leave in one UPDATE again. Memory is bounded by the number of prefixes that are pending.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

use super::intern::AttrId;
use super::path::PrefixId;

/// Prefixes of which a member sees something else than it was told, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Pending {
    told: FxHashMap<PrefixId, Option<AttrId>>,
    /// Every pending prefix at least once; also some that are pending no more.
    order: VecDeque<PrefixId>,
}

impl Pending {
    /// Is nothing pending?
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Is this prefix?
    pub(super) fn contains(&self, id: PrefixId) -> bool {
        self.told.contains_key(&id)
    }

    /// What the member was told of a pending prefix.
    pub(super) fn get(&self, id: PrefixId) -> Option<Option<AttrId>> {
        self.told.get(&id).copied()
    }

    /// Adds a prefix behind all others, unless it is pending already.
    pub(super) fn insert(&mut self, id: PrefixId, told: Option<AttrId>) {
        let Entry::Vacant(vacant) = self.told.entry(id) else {
            return;
        };
        vacant.insert(told);
        self.order.push_back(id);
        if self.order.len() > 2 * self.told.len() + 64 {
            let (told, mut seen) = (&self.told, FxHashSet::default());
            self.order.retain(|id| told.contains_key(id) && seen.insert(*id));
        }
    }

    /// Takes a prefix out.
    pub(super) fn remove(&mut self, id: PrefixId) -> Option<Option<AttrId>> {
        self.told.remove(&id)
    }

    /// The first `limit` prefixes at most, in order. Those that stay pending must be given back.
    pub(super) fn take_first(&mut self, limit: usize) -> Vec<PrefixId> {
        let mut first = Vec::with_capacity(limit.min(self.told.len()));
        let mut seen = FxHashSet::default();
        while first.len() < limit {
            let Some(id) = self.order.pop_front() else { break };
            if self.told.contains_key(&id) && seen.insert(id) {
                first.push(id);
            }
        }
        first
    }

    /// Puts prefixes that stay pending before all others again.
    pub(super) fn give_back(&mut self, ids: &[PrefixId]) {
        ids.iter().rev().for_each(|id| self.order.push_front(*id));
    }

    /// All that is pending, in no order.
    pub(super) fn into_told(self) -> FxHashMap<PrefixId, Option<AttrId>> {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u32]) -> Vec<PrefixId> {
        numbers.iter().copied().map(PrefixId).collect()
    }

    #[test]
    fn first_come_first_told() {
        let mut pending = Pending::default();
        for id in ids(&[5, 3, 9, 3]) {
            pending.insert(id, None);
        }
        pending.remove(PrefixId(3));
        pending.insert(PrefixId(3), None);
        let first = pending.take_first(2);
        assert_eq!(
            first,
            ids(&[5, 3]),
            "as it stood before, though it was out and in again"
        );
        pending.remove(PrefixId(5));
        pending.give_back(&first[1..]);
        assert_eq!(pending.take_first(9), ids(&[3, 9]));
    }

    #[test]
    fn to_and_fro_costs_no_memory() {
        let mut pending = Pending::default();
        pending.insert(PrefixId(1), None);
        for _ in 0..10_000 {
            pending.insert(PrefixId(2), None);
            pending.remove(PrefixId(2));
        }
        assert!(pending.order.len() <= 100, "{}", pending.order.len());
        assert_eq!(pending.take_first(9), ids(&[1]));
    }
}
