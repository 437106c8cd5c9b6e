//! What the consumer has not been told yet: at most one entry per key, however slow it is.
//!
//! Events keep the order in which their keys first changed since the consumer was told, so no key starves another, and
//! an in-sync mark comes out after everything that was before it. A change that is undone before the consumer saw it
//! disappears.

use std::collections::{BTreeMap, HashMap};

use tortie_replica::Delta;

use crate::{SyncEvent, SyncStatus, Versioned};

#[derive(Debug)]
enum Item {
    Key(String),
    Mark(SyncStatus),
    Status(SyncStatus),
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    /// What the consumer was told last.
    told: Option<Versioned>,
    now: Option<Versioned>,
}

/// Pending events, coalesced.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: BTreeMap<u64, Item>,
    keys: HashMap<String, Waiting>,
    next_place: u64,
    mark: Option<u64>,
    status: Option<u64>,
    /// Goes out before anything else: the second half of a mark.
    split: bool,
    held: bool,
}

impl Outbox {
    /// Nothing comes out until [`Outbox::release`].
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    pub(crate) fn has_next(&self) -> bool {
        !self.held && (self.split || !self.queue.is_empty())
    }

    /// The key changed from `before` to `now`.
    pub(crate) fn change(&mut self, key: String, before: Option<Versioned>, now: Option<Versioned>) {
        if let Some(waiting) = self.keys.get_mut(&key) {
            waiting.now = now;
            if waiting.now == waiting.told {
                let place = waiting.place;
                self.keys.remove(&key);
                self.queue.remove(&place);
            }
            return;
        }
        if before == now {
            return;
        }
        let place = self.append(Item::Key(key.clone()));
        self.keys.insert(
            key,
            Waiting {
                place,
                told: before,
                now,
            },
        );
    }

    /// Everything before this is in sync. A mark that still waits is replaced.
    pub(crate) fn mark(&mut self, status: SyncStatus) {
        if let Some(place) = self.mark.take() {
            self.queue.remove(&place);
        }
        self.mark = Some(self.append(Item::Mark(status)));
    }

    /// A status without deltas. One that still waits is replaced.
    pub(crate) fn status(&mut self, status: SyncStatus) {
        if let Some(place) = self.status.take() {
            self.queue.remove(&place);
        }
        self.status = Some(self.append(Item::Status(status)));
    }

    fn append(&mut self, item: Item) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.queue.insert(place, item);
        place
    }

    /// The next event, if any may come out.
    pub(crate) fn pop(&mut self) -> Option<SyncEvent> {
        if self.held {
            return None;
        }
        if std::mem::take(&mut self.split) {
            return Some(SyncEvent::Delta(Delta::InSync));
        }
        let (_, item) = self.queue.pop_first()?;
        Some(match item {
            Item::Mark(status) => {
                self.mark = None;
                self.split = true;
                SyncEvent::Status(status)
            }
            Item::Status(status) => {
                self.status = None;
                SyncEvent::Status(status)
            }
            Item::Key(key) => match self.keys.remove(&key)?.now {
                Some(value) => SyncEvent::Delta(Delta::Set(key, value)),
                None => SyncEvent::Delta(Delta::Delete(key)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(revision: u64) -> Versioned {
        Versioned {
            value: bytes::Bytes::from_static(b"{}"),
            revision,
        }
    }

    proptest! {
        /// Whatever the interleaving of changes and reads, the consumer is told true differences only, ends with the
        /// source's map, and the outbox never holds more than one entry per key, a mark and a status.
        #[test]
        fn coalesces_to_true_differences(ops in proptest::collection::vec((0u8..8, 0u64..3), 0..200)) {
            let mut outbox = Outbox::default();
            let (mut source, mut told) = (BTreeMap::new(), BTreeMap::new());
            let read = |outbox: &mut Outbox, told: &mut BTreeMap<String, Versioned>| {
                match outbox.pop() {
                    Some(SyncEvent::Delta(Delta::Set(k, v))) => assert_ne!(told.insert(k, v.clone()), Some(v)),
                    Some(SyncEvent::Delta(Delta::Delete(k))) => assert!(told.remove(&k).is_some()),
                    Some(_) => {}
                    None => return false,
                }
                true
            };
            for (op, n) in ops {
                match op {
                    0..4 => {
                        let key = format!("k{op}");
                        let now = (n > 0).then(|| value(n));
                        let before = match now.clone() {
                            Some(v) => source.insert(key.clone(), v),
                            None => source.remove(&key),
                        };
                        outbox.change(key, before, now);
                    }
                    4 => outbox.mark(SyncStatus::InSync { revision: n }),
                    5 => outbox.status(SyncStatus::Connecting),
                    _ => { read(&mut outbox, &mut told); }
                }
                prop_assert!(outbox.queue.len() <= 4 + 2);
                prop_assert!(outbox.keys.len() <= 4);
            }
            while read(&mut outbox, &mut told) {}
            prop_assert_eq!(told, source);
            prop_assert!(!outbox.has_next());
        }
    }

    #[test]
    fn a_mark_comes_after_what_was_before_it_and_is_two_events() {
        let mut outbox = Outbox::default();
        outbox.hold();
        outbox.change("a".into(), None, Some(value(1)));
        outbox.mark(SyncStatus::InSync { revision: 1 });
        outbox.change("b".into(), None, Some(value(2)));
        outbox.change("a".into(), Some(value(1)), Some(value(3)));
        assert_eq!(outbox.pop(), None, "held");
        outbox.release();
        let events: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
        let expected = [
            SyncEvent::Delta(Delta::Set("a".into(), value(3))),
            SyncEvent::Status(SyncStatus::InSync { revision: 1 }),
            SyncEvent::Delta(Delta::InSync),
            SyncEvent::Delta(Delta::Set("b".into(), value(2))),
        ];
        assert_eq!(events, expected);
    }
}
