//! What a member has still to be told, in the order in which it changed.
//!
//! The order matters for what is sent: routes that arrived in one UPDATE share attributes, and when they are taken
//! together they leave in one UPDATE again. Memory is bounded by how many are pending.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};

use super::intern::AttrId;
use super::lanes::Place;

/// Places of which a member sees something else than it was told, and what it was told.
#[derive(Debug, Default)]
pub(super) struct Pending {
    told: FxHashMap<Place, Option<AttrId>>,
    /// Every pending place at least once; also some that are pending no more.
    order: VecDeque<Place>,
}

impl Pending {
    /// Is nothing pending?
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Is this place?
    pub(super) fn contains(&self, id: Place) -> bool {
        self.told.contains_key(&id)
    }

    /// What the member was told of a pending place.
    pub(super) fn get(&self, id: Place) -> Option<Option<AttrId>> {
        self.told.get(&id).copied()
    }

    /// Adds a place behind all others, unless it is pending already.
    pub(super) fn insert(&mut self, id: Place, told: Option<AttrId>) {
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

    /// Takes a place out.
    pub(super) fn remove(&mut self, id: Place) -> Option<Option<AttrId>> {
        self.told.remove(&id)
    }

    /// The first `limit` places at most, in order. Those that stay pending must be given back.
    pub(super) fn take_first(&mut self, limit: usize) -> Vec<Place> {
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

    /// Puts places that stay pending before all others again.
    pub(super) fn give_back(&mut self, ids: &[Place]) {
        ids.iter().rev().for_each(|id| self.order.push_front(*id));
    }

    /// All that is pending, in no order.
    pub(super) fn into_told(self) -> FxHashMap<Place, Option<AttrId>> {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u32]) -> Vec<Place> {
        numbers.iter().copied().map(Place).collect()
    }

    #[test]
    fn first_come_first_told() {
        let mut pending = Pending::default();
        for id in ids(&[5, 3, 9, 3]) {
            pending.insert(id, None);
        }
        pending.remove(Place(3));
        pending.insert(Place(3), None);
        let first = pending.take_first(2);
        assert_eq!(
            first,
            ids(&[5, 3]),
            "as it stood before, though it was out and in again"
        );
        pending.remove(Place(5));
        pending.give_back(&first[1..]);
        assert_eq!(pending.take_first(9), ids(&[3, 9]));
    }

    #[test]
    fn to_and_fro_costs_no_memory() {
        let mut pending = Pending::default();
        pending.insert(Place(1), None);
        for _ in 0..10_000 {
            pending.insert(Place(2), None);
            pending.remove(Place(2));
        }
        assert!(pending.order.len() <= 100, "{}", pending.order.len());
        assert_eq!(pending.take_first(9), ids(&[1]));
    }
}
