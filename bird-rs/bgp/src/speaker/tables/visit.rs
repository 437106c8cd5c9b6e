//! Reading tables: all of one, a page, one prefix, the longest match.

use tortie_net::{Family, Prefix};

use crate::packet::AfiSafi;
use crate::rib::Path;

use super::{TableKey, TableRoute, Tables};

impl Tables {
    /// All paths of the prefixes of a table that satisfy `wanted`, in the order of the table.
    pub(in crate::speaker) fn visit(
        &self,
        key: TableKey,
        wanted: impl Fn(Prefix) -> bool,
        mut each: impl FnMut(TableRoute<'_>),
    ) {
        with_slot!(ref self, key, |slot, shared| {
            for id in slot.table.ids() {
                let net = slot.table.prefix(id).erase();
                if wanted(net) {
                    slot.visit(id, net, shared, &mut each);
                }
            }
        });
    }

    /// The paths of those of the next `count` prefixes that satisfy `wanted`; gives the place to go on from.
    pub(in crate::speaker) fn visit_from(
        &self,
        key: TableKey,
        (from, count): (usize, usize),
        wanted: impl Fn(Prefix) -> bool,
        mut each: impl FnMut(TableRoute<'_>),
    ) -> Option<usize> {
        with_slot!(ref self, key, |slot, shared| {
            let to = from.saturating_add(count);
            for id in slot.table.ids_between(from, to) {
                let net = slot.table.prefix(id).erase();
                if wanted(net) {
                    slot.visit(id, net, shared, &mut each);
                }
            }
            (to < slot.table.numbers()).then_some(to)
        })
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
            let to = from.saturating_add(slots);
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
