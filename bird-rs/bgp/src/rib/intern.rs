//! One copy of each distinct value, counted.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// An interned value's number: dense, from 1, reused when the last reference is released.
///
/// Within one interner, equal ids mean equal values and the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttrId(NonZeroU32);

impl AttrId {
    fn from_slot(slot: usize) -> Option<Self> {
        u32::try_from(slot)
            .ok()?
            .checked_add(1)
            .and_then(NonZeroU32::new)
            .map(AttrId)
    }

    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// `None` when the slot is free.
    value: Option<T>,
    references: u32,
}

/// The values.
#[derive(Debug)]
pub struct Interner<T> {
    slots: Vec<Slot<T>>,
    free: Vec<AttrId>,
    index: HashTable<AttrId>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// How many distinct values are held.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Is none held?
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Every value held, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// The id of a value, with one reference more.
    pub fn intern(&mut self, value: T) -> AttrId {
        let hash = FxBuildHasher.hash_one(&value);
        let slots = &mut self.slots;
        if let Some(&id) = self.index.find(hash, |id| value_at(slots, *id) == Some(&value)) {
            self.retain(id);
            return id;
        }
        let slot = Slot {
            value: Some(value),
            references: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                slots[id.slot()] = slot;
                id
            }
            None => {
                slots.push(slot);
                AttrId::from_slot(slots.len() - 1).expect("invariant: fewer than 2^32 values fit into memory")
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |id| {
            value_at(slots, *id).map_or(0, |value| FxBuildHasher.hash_one(value))
        });
        id
    }

    /// One reference more.
    pub fn retain(&mut self, id: AttrId) -> AttrId {
        self.slots[id.slot()].references += 1;
        id
    }

    /// One reference less; the last one frees the value and its id.
    pub fn release(&mut self, id: AttrId) {
        let slot = &mut self.slots[id.slot()];
        debug_assert!(slot.references > 0, "released more often than interned");
        slot.references = slot.references.saturating_sub(1);
        if slot.references > 0 {
            return;
        }
        let Some(value) = slot.value.take() else { return };
        let hash = FxBuildHasher.hash_one(&value);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.free.push(id);
    }

    /// The value of an id that is held.
    pub fn get(&self, id: AttrId) -> &T {
        value_at(&self.slots, id).expect("invariant: an id in use has a value")
    }
}

fn value_at<T>(slots: &[Slot<T>], id: AttrId) -> Option<&T> {
    slots.get(id.slot()).and_then(|slot| slot.value.as_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_stand_for_values(ops in proptest::collection::vec((any::<bool>(), 0u8..40), 0..200)) {
            let mut interner = Interner::default();
            let mut held: BTreeMap<u8, (AttrId, u32)> = BTreeMap::new();
            for (add, value) in ops {
                if add {
                    let id = interner.intern(value);
                    let entry = held.entry(value).or_insert((id, 0));
                    prop_assert_eq!(entry.0, id);
                    entry.1 += 1;
                } else if let Some(entry) = held.get_mut(&value) {
                    interner.release(entry.0);
                    entry.1 -= 1;
                    if entry.1 == 0 {
                        held.remove(&value);
                    }
                }
                prop_assert_eq!(interner.len(), held.len());
                for (value, (id, _)) in &held {
                    prop_assert_eq!(interner.get(*id), value);
                }
            }
        }
    }

    #[test]
    fn an_id_is_four_octets_even_when_absent() {
        assert_eq!(std::mem::size_of::<Option<AttrId>>(), 4);
    }
}
