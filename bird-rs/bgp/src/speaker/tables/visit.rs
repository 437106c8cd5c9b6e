//! Reading tables: all of one, a page, one prefix, the longest match.

use tortie_net::{Family, Prefix};

use crate::packet::AfiSafi;
use crate::rib::{Path, SourceId};

use super::{Announced, Membership, TableKey, TableRoute, Tables};

/// So many paths end a page, though there is room for more prefixes: of one prefix there may be thousands.
const PATHS: usize = 2048;

impl Tables {
    /// The paths of those of the next `slots` prefixes that satisfy `wanted`; gives the place to go on from. It ends
    /// before, behind the prefix with which it has come to [`PATHS`] paths.
    pub(in crate::speaker) fn visit_from(
        &self,
        key: TableKey,
        (from, slots): (usize, usize),
        wanted: impl Fn(Prefix) -> bool,
        mut each: impl FnMut(TableRoute<'_>),
    ) -> Option<usize> {
        with_slot!(ref self, key, |slot, shared| {
            let to = slot.table.page_end(from, slots, PATHS);
            for id in slot.table.ids_between(from, to) {
                let net = slot.table.prefix(id).erase();
                if wanted(net) {
                    slot.visit(id, net, shared, &mut each);
                }
            }
            (to < slot.table.numbers()).then_some(to)
        })
    }

    /// What a member's group announces of the next `slots` prefixes, but for what the member told itself; gives the place
    /// to go on from. It ends as early as [`Tables::visit_from`].
    pub(in crate::speaker) fn announced_from(
        &self,
        key: TableKey,
        (at, member): (Membership, SourceId),
        (from, slots): (usize, usize),
        mut each: impl FnMut(Announced),
    ) -> Option<usize> {
        with_slot!(ref self, key, |slot, _shared| {
            let group = slot.groups.get(at.group).and_then(Option::as_ref)?;
            let to = slot.table.page_end(from, slots, PATHS);
            for id in slot.table.ids_between(from, to) {
                let told = slot.announced(group, id).filter(|told| told.from != member);
                told.for_each(&mut each);
            }
            (to < slot.table.numbers()).then_some(to)
        })
    }

    /// What a member's group announces of one prefix, but for what the member told itself.
    pub(in crate::speaker) fn announced_one(
        &self,
        key: TableKey,
        (at, member): (Membership, SourceId),
        net: Prefix,
        each: impl FnMut(Announced),
    ) {
        with_slot!(ref self, key, |slot, _shared| {
            let group = slot.groups.get(at.group).and_then(Option::as_ref);
            let id = Family::of(net).and_then(|prefix| slot.table.id(prefix));
            if let (Some(group), Some(id)) = (group, id) {
                slot.announced(group, id).filter(|told| told.from != member).for_each(each);
            }
        });
    }

    /// Visits the paths of the prefixes whose numbers are `from` to `from + slots`; gives the number to go on with, none
    /// at the end of the table.
    pub(in crate::speaker) fn visit_page(
        &self,
        key: TableKey,
        from: usize,
        slots: usize,
        mut each: impl FnMut(Prefix, &[Path]),
    ) -> Option<usize> {
        with_slot!(ref self, key, |slot, _shared| {
            let to = slot.table.page_end(from, slots, PATHS);
            for id in slot.table.ids_between(from, to) {
                each(slot.table.prefix(id).erase(), slot.table.paths(id));
            }
            (to < slot.table.numbers()).then_some(to)
        })
    }

    /// All paths of one prefix.
    pub(in crate::speaker) fn visit_one(&self, key: TableKey, net: Prefix, mut each: impl FnMut(TableRoute<'_>)) {
        with_slot!(ref self, key, |slot, shared| {
            if let Some(id) = Family::of(net).and_then(|prefix| slot.table.id(prefix)) {
                slot.visit(id, net, shared, &mut each);
            }
        });
    }

    /// The most specific prefix with a usable path that covers `target`.
    pub(in crate::speaker) fn longest_match(&self, key: TableKey, target: Prefix) -> Option<Prefix> {
        with_slot!(ref self, key, |slot, _shared| {
            let lengths = (0..=target.len()).rev();
            lengths.filter_map(|len| Prefix::new(target.addr(), len).ok()).find(|net| {
                let id = Family::of(*net).and_then(|prefix| slot.table.id(prefix));
                id.is_some_and(|id| slot.table.best(id).is_some())
            })
        })
    }
}
