//! One copy of each distinct value, counted.

use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::store::{Place, Store};
use crate::attr::{Pack, Unpacker};

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

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// None when the slot is free; with [`QUEUED`].
    references: u32,
    /// Of the value, which need not be looked at when the index grows or loses it.
    hash: u32,
    place: Place,
}

/// The value is among those that may have to be forgotten.
const QUEUED: u32 = 1 << 31;

impl Slot {
    fn is_held(self) -> bool {
        self.references & !QUEUED > 0
    }
}

/// Half as long as the hasher's, and with what is in all of it.
fn hash_of(packed: &[u8]) -> u32 {
    let hash = FxBuildHasher.hash_one(packed);
    (hash ^ (hash >> 32)) as u32
}

/// For the index, which looks at both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Values without references that are forgotten together. Each is somewhere else in the index, and what is waited for together
/// is waited for once.
const TOGETHER: usize = 16;

/// The values, each packed into few octets.
#[derive(Debug)]
pub struct Interner<T> {
    slots: Vec<Slot>,
    store: Store,
    free: Vec<AttrId>,
    /// How many values have references.
    held: usize,
    /// Those with [`QUEUED`], each once. They are in the index, and forgotten when others need the room: when all goes, none of
    /// them has to be looked for.
    unused: Vec<AttrId>,
    index: HashTable<AttrId>,
    /// Where a value is packed to be looked for.
    scratch: Vec<u8>,
    values: PhantomData<T>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            slots: Vec::new(),
            store: Store::default(),
            free: Vec::new(),
            held: 0,
            unused: Vec::new(),
            index: HashTable::new(),
            scratch: Vec::new(),
            values: PhantomData,
        }
    }
}

impl<T> Interner<T> {
    /// How many distinct values are held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Is none held?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One reference more.
    pub fn retain(&mut self, id: AttrId) -> AttrId {
        self.slots[id.slot()].references += 1;
        id
    }

    /// One reference less; the last one frees the value and its id.
    pub fn release(&mut self, id: AttrId) {
        let slot = &mut self.slots[id.slot()];
        debug_assert!(slot.is_held(), "released more often than interned");
        if !slot.is_held() {
            return;
        }
        slot.references -= 1;
        if slot.is_held() {
            return;
        }
        self.held -= 1;
        if self.held == 0 {
            // After a full table was withdrawn its room is not kept. Nobody holds an id.
            *self = Interner::default();
        } else if slot.references & QUEUED == 0 {
            slot.references |= QUEUED;
            self.unused.push(id);
        }
    }

    /// Makes room for new values: of those without references some are forgotten, more than come.
    fn forget_some(&mut self) {
        let Some(first) = self.unused.len().checked_sub(TOGETHER) else {
            return;
        };
        for id in self.unused.drain(first..) {
            let slot = &mut self.slots[id.slot()];
            slot.references &= !QUEUED;
            if slot.is_held() {
                continue;
            }
            let Slot { place, hash, .. } = *slot;
            if let Ok(entry) = self.index.find_entry(spread(hash), |other| *other == id) {
                entry.remove();
            }
            self.store.free(place);
            self.free.push(id);
        }
    }
}

impl<T: Pack> Interner<T> {
    /// The id of a value, with one reference more.
    pub fn intern(&mut self, value: &T) -> AttrId {
        self.scratch.clear();
        value.pack(&mut self.scratch);
        let packed = &*self.scratch;
        let hash = hash_of(packed);
        let (slots, store) = (&self.slots, &self.store);
        let known = self.index.find(spread(hash), |id| {
            let slot = &slots[id.slot()];
            slot.hash == hash && store.get(slot.place) == packed
        });
        if let Some(&id) = known {
            self.held += usize::from(!slots[id.slot()].is_held());
            return self.retain(id);
        }
        self.forget_some();
        self.held += 1;
        let slots = &mut self.slots;
        let slot = Slot {
            references: 1,
            hash,
            place: self.store.put(&self.scratch),
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
        self.index
            .insert_unique(spread(hash), id, |id| spread(slots[id.slot()].hash));
        id
    }

    /// A value that is held, as octets.
    pub(super) fn unpacker(&self, id: AttrId) -> Unpacker<'_> {
        let slot = &self.slots[id.slot()];
        debug_assert!(slot.is_held(), "an id in use has a value");
        Unpacker::new(self.store.get(slot.place))
    }

    /// Every value that is held, as octets, in no particular order.
    pub(super) fn unpackers(&self) -> impl Iterator<Item = Unpacker<'_>> {
        let held = self.slots.iter().filter(|slot| slot.is_held());
        held.map(|slot| Unpacker::new(self.store.get(slot.place)))
    }

    /// The value of an id that is held, unpacked: not free, so to be kept by who wants it twice.
    pub fn get(&self, id: AttrId) -> T {
        T::unpack(&mut self.unpacker(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_stand_for_values(ops in proptest::collection::vec((any::<bool>(), 0u8..60), 0..300)) {
            let mut interner = Interner::default();
            let mut held: BTreeMap<u8, (AttrId, u32)> = BTreeMap::new();
            for (add, value) in ops {
                if add {
                    let id = interner.intern(&value);
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
                    prop_assert_eq!(interner.get(*id), *value);
                }
            }
        }
    }

    #[test]
    fn what_is_not_held_gives_its_room_to_others() {
        let mut interner = Interner::default();
        let stays = interner.intern(&u32::MAX);
        let ids: Vec<AttrId> = (0..1000).map(|value| interner.intern(&value)).collect();
        let slots = interner.slots.len();
        ids.into_iter().for_each(|id| interner.release(id));
        assert_eq!(interner.len(), 1);
        // One of them comes back before it is forgotten.
        let back = interner.intern(&7);
        for value in 1000..1900 {
            interner.intern(&value);
        }
        assert_eq!(interner.len(), 902);
        assert_eq!(interner.slots.len(), slots, "places are used again");
        assert_eq!((interner.get(stays), interner.get(back)), (u32::MAX, 7));
        assert_eq!(interner.intern(&7), back);
    }

    #[test]
    fn an_id_is_four_octets_even_when_absent() {
        assert_eq!(std::mem::size_of::<Option<AttrId>>(), 4);
        assert_eq!(std::mem::size_of::<Slot>(), 16);
    }
}
