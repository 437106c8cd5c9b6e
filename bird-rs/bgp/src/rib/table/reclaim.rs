//! What becomes of the room of prefixes that nobody announces any more.
//!
//! To take a prefix out of the index costs as much as to put it in, so it is done when the room is needed, and not at all when
//! the table is empty in the end, or when the prefix comes back.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;
use tortie_net::Family;

use super::{PrefixId, Table};

impl<F: Family> Table<F> {
    /// Frees numbers of prefixes without paths that nobody `uses` any more: all when no prefix has paths, else about as many as
    /// there were new ones. Until somebody needs their room they may stay, and a prefix that comes back finds its number.
    pub fn reclaim(&mut self, uses: impl Fn(PrefixId) -> bool) {
        let is_over = self.used == 0 && !self.empty.is_empty() && !self.is_dirty();
        // Who has to be told is told in order: the last one is most likely to be waited for.
        if is_over && !self.empty.iter().rev().any(|id| uses(*id)) {
            let journal = std::mem::take(&mut self.journal);
            let counts = std::mem::take(&mut self.counts);
            *self = Table {
                journal,
                counts,
                ..Table::default()
            };
            return;
        }
        for _ in 0..self.empty.len().min(2 * std::mem::take(&mut self.grown)) {
            let Some(id) = self.empty.pop_front() else { return };
            let i = id.index();
            if !self.nets[i].paths.as_slice().is_empty() {
                self.marks[i].empty = false;
            } else if self.marks[i].dirty || uses(id) {
                self.empty.push_back(id);
            } else {
                let hash = FxBuildHasher.hash_one(self.nets[i].prefix);
                if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
                    entry.remove();
                }
                self.free.push(id);
            }
        }
    }
}
