//! What admission sees of the other documents.
//!
//! Admission is a pure function and asks while it runs; the datastore answers asynchronously. So admission runs first
//! with nothing, what it asked for is loaded, and it runs again until it asks for nothing new. What it saw becomes guards
//! of the write: two writes that are each right alone cannot both pass when together they break a rule.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tortie_model::View;

use crate::datastore::{Backend, Guard, Listing, StorageError};

/// A loaded part of the datastore, and what was asked for beyond it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    loaded: BTreeMap<String, Listing>,
    asked: RefCell<BTreeSet<String>>,
}

impl Seen {
    /// Loads what was asked for. Gives whether there was anything: then admission has to run again.
    pub(crate) async fn load(&mut self, backend: &dyn Backend) -> Result<bool, StorageError> {
        let asked = self.asked.take();
        for prefix in &asked {
            let listing = backend.list(prefix).await?;
            self.loaded.insert(prefix.clone(), listing);
        }
        Ok(!asked.is_empty())
    }

    /// That nothing of what was seen has changed. Of a single document that was looked for, and is there, this includes
    /// that it still is; of a collection only what was added or changed matters: no rule is broken by a deletion in it.
    pub(crate) fn guards(&self) -> impl Iterator<Item = Guard> {
        self.loaded.iter().map(|(prefix, l)| {
            let single = l.entries.iter().find(|e| e.key == *prefix);
            match single {
                Some(entry) => Guard::At(prefix.clone(), entry.revision),
                None => Guard::Unchanged {
                    prefix: prefix.clone(),
                    since: l.revision,
                },
            }
        })
    }

    /// What was looked at: keys, and what the keys of collections begin with.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.loaded.keys().map(String::as_str)
    }

    fn listing(&self, prefix: &str) -> Option<&Listing> {
        let listing = self.loaded.get(prefix);
        if listing.is_none() {
            self.asked.borrow_mut().insert(prefix.to_owned());
        }
        listing
    }
}

impl View for Seen {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        for entry in self.listing(prefix).into_iter().flat_map(|l| &l.entries) {
            f(&entry.key, &entry.value);
        }
    }

    fn exists(&self, key: &str) -> bool {
        self.listing(key)
            .is_some_and(|l| l.entries.iter().any(|e| e.key == key))
    }
}
