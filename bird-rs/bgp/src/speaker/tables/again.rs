//! Running filters anew over what is in the tables.

use tortie_net::{Family, Prefix};

use super::super::import::{ImportView, Importer};
use super::{Shared, TableKey, Tables, stats};
use crate::packet::AfiSafi;
use crate::rib::{Filtered, Path, SourceId};

impl Tables {
    /// Imports those of a source's paths anew whose prefixes are wanted. Of those that the policy accepts no more than
    /// `max` are used: what was used before goes first.
    pub(in crate::speaker) fn reimport(
        &mut self,
        key: TableKey,
        source: SourceId,
        view: &ImportView,
        max: Option<u32>,
        nets: &dyn Fn(Prefix) -> bool,
    ) {
        let max = max.unwrap_or(u32::MAX);
        let mut used = 0;
        with_slot!(self, key, |slot, shared| {
            let Shared {
                learned,
                log,
                hops,
                roas,
                ..
            } = shared;
            let mut traffic = *slot.imports(source);
            for last in [false, true] {
                // Without a limit the order makes no difference, and once is enough.
                let wanted = |prefix: _, path: &Path| {
                    last == (max < u32::MAX && path.filtered().is_some()) && nets(Family::erase(prefix))
                };
                let mut importer: Option<Importer<'_>> = None;
                slot.table.reimport(source, learned, wanted, |prefix, path, interner| {
                    // Prefixes that were told together are often still beside each other.
                    if let Some(other) = importer.take_if(|importer| importer.received != path.received()) {
                        other.finish(interner);
                    }
                    let importer = importer.get_or_insert_with(|| {
                        let learned = interner.get(path.received());
                        Importer::new(view, path.received(), learned)
                    });
                    let means = (&mut *interner, &mut *hops, &mut *log, &*roas);
                    let mut imported = importer.import(prefix.erase(), means);
                    if let (Ok(beyond), true) = (imported, used >= max) {
                        interner.release(beyond);
                        imported = Err(Filtered::ImportLimit);
                    }
                    used += u32::from(imported.is_ok());
                    stats::again(&mut traffic, path, imported);
                    imported
                });
                if let Some(last) = importer {
                    last.finish(learned);
                }
            }
            *slot.imports(source) = traffic;
        });
    }

    /// What is announced of these prefixes is to be worked out anew.
    pub(in crate::speaker) fn touch_nets(&mut self, key: TableKey, concerned: impl Fn(Prefix) -> bool) {
        with_slot!(self, key, |slot, _shared| slot
            .table
            .touch_nets(|prefix| concerned(prefix.erase())));
    }
}
