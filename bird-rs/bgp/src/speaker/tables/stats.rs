//! Counting what passes: the tables' part of [`crate::rib::Traffic`].

use super::{Membership, TableKey, Tables};
use crate::packet::AfiSafi;
use crate::rib::{Counts, Filtered, Imported, Inserted, Path, SourceId, Traffic};

/// Counts the import of a path that is there already, unless nothing comes of it: the peer told nothing.
pub(super) fn again(traffic: &mut Traffic, path: &Path, imported: Imported) {
    // Whether its next hop can be reached is another matter.
    let refused = path.filtered().filter(|why| *why != Filtered::NextHop);
    if (imported.err(), imported.unwrap_or(path.attrs())) != (refused, path.attrs()) {
        traffic.update(imported.map(|_| Inserted::Replaced), refused.is_none());
    }
}

impl Tables {
    /// What a source has in a table.
    pub(in crate::speaker) fn counts(&self, key: TableKey, source: SourceId) -> Counts {
        with_slot!(ref self, key, |slot, _shared| slot.table.counts(source))
    }

    /// Makes long-lived stale ones of a source's stale paths; returns how many stay and how many went.
    pub(in crate::speaker) fn long_live(&mut self, key: TableKey, source: SourceId) -> (usize, usize) {
        with_slot!(self, key, |slot, shared| {
            let before = slot.table.counts(source).accepted;
            let (stay, went) = slot.table.long_live(source, &mut shared.learned);
            let used = before.saturating_sub(slot.table.counts(source).accepted);
            slot.imports(source).removed(went as u64, used.into());
            (stay, went)
        })
    }

    /// What a source has told.
    pub(in crate::speaker) fn imports(&self, key: TableKey, source: SourceId) -> Traffic {
        with_slot!(ref self, key, |slot, _shared| slot
            .imports
            .get(usize::from(source.0))
            .copied()
            .unwrap_or_default())
    }

    /// Routes that a source removes are taken back by it.
    pub(in crate::speaker) fn took_back(&mut self, key: TableKey, source: SourceId, routes: usize) {
        with_slot!(self, key, |slot, _shared| slot.imports(source).withdraws.received +=
            routes as u64);
    }

    /// A route beyond the receive limit never comes into the table.
    pub(in crate::speaker) fn ignored(&mut self, key: TableKey, source: SourceId) {
        with_slot!(self, key, |slot, _shared| slot
            .imports(source)
            .update(Err(Filtered::ImportLimit), false));
    }

    /// Begins to count what a source tells.
    pub(in crate::speaker) fn count_anew(&mut self, key: TableKey, source: SourceId) {
        with_slot!(self, key, |slot, _shared| *slot.imports(source) = Traffic::default());
    }

    /// What a member was told.
    pub(in crate::speaker) fn exports(&self, key: TableKey, at: Membership) -> Traffic {
        self.outbox(key, at)
            .map(|outbox| outbox.traffic(at.member))
            .unwrap_or_default()
    }
}
