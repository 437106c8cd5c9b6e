//! The tables of payloads that filters name.
//!
//! Several protocols may feed one table. A route is valid when one of them has a payload that allows it, as if all their
//! payloads were in one set.

use std::sync::Arc;

use tortie_net::{Asn, Prefix};

use super::{Cover, Roa, RoaSet, Validity};
use crate::rib::SourceId;

/// All tables of payloads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoaTables(Vec<Table>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: Arc<str>,
    is_v4: bool,
    /// The most preferred first.
    parts: Vec<Part>,
    /// Prefixes of payloads that came or went since this was last asked for.
    changed: Vec<Prefix>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    of: RoaSource,
    set: Arc<RoaSet>,
}

/// Who has a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoaSource {
    /// The protocol.
    pub source: SourceId,
    /// BIRD's preference of its routes.
    pub preference: u16,
    /// When its payloads last changed, in seconds of the process.
    pub since: u32,
}

/// A payload of a table, and who has it: the most preferred first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRoa {
    /// The payload.
    pub roa: Roa,
    /// At least one.
    pub sources: Vec<RoaSource>,
}

impl RoaTables {
    fn table(&self, name: &str) -> Option<&Table> {
        self.0.iter().find(|table| *table.name == *name)
    }

    /// Makes a table of this name, if there is none.
    pub(crate) fn provide(&mut self, name: &Arc<str>, is_v4: bool) {
        match self.0.iter_mut().find(|table| table.name == *name) {
            Some(table) => table.is_v4 = is_v4,
            None => self.0.push(Table {
                name: name.clone(),
                is_v4,
                parts: Vec::new(),
                changed: Vec::new(),
            }),
        }
    }

    /// What a source says for a table, instead of what it said before. An empty set is nothing.
    pub(crate) fn set(&mut self, name: &str, of: RoaSource, set: &Arc<RoaSet>) {
        let Some(table) = self.0.iter_mut().find(|table| *table.name == *name) else {
            return;
        };
        let at = table.parts.iter().position(|part| part.of.source == of.source);
        let old = at.map(|at| table.parts.remove(at));
        let none = Arc::default();
        let before = old.as_ref().map_or(&none, |old| &old.set);
        let changed = if Arc::ptr_eq(before, set) {
            Vec::new()
        } else {
            before.differences(set, table.is_v4)
        };
        if set.count(table.is_v4) > 0 {
            let since = match &old {
                Some(old) if changed.is_empty() => old.of.since,
                _ => of.since,
            };
            let new = Part {
                of: RoaSource { since, ..of },
                set: set.clone(),
            };
            let place = table.parts.partition_point(|part| part.of.preference >= of.preference);
            table.parts.insert(place, new);
        }
        table.changed.extend(changed);
    }

    /// All that a source says is gone.
    pub(crate) fn remove(&mut self, source: SourceId) {
        for table in &mut self.0 {
            let (gone, kept) = table.parts.drain(..).partition(|part: &Part| part.of.source == source);
            table.parts = kept;
            for part in gone {
                let changed = part.set.differences(&RoaSet::default(), table.is_v4);
                table.changed.extend(changed);
            }
        }
    }

    /// All tables as they are now, for whoever asks elsewhere. The payloads are shared.
    pub(crate) fn as_they_are(&self) -> RoaTables {
        let tables = self.0.iter().map(|table| Table {
            name: table.name.clone(),
            is_v4: table.is_v4,
            parts: table.parts.clone(),
            changed: Vec::new(),
        });
        RoaTables(tables.collect())
    }

    /// What a table says of a route and its origin. Of the other family's routes nothing is known.
    pub fn validity(&self, table: &str, net: Prefix, origin: Asn) -> Validity {
        let parts = self.table(table).filter(|table| table.is_v4 == net.is_v4());
        let each = parts.into_iter().flat_map(|table| &table.parts);
        each.map(|part| part.set.validity(net, origin))
            .max()
            .unwrap_or(Validity::Unknown)
    }

    /// Is there something that [`RoaTables::take_changes`] would give?
    pub(crate) fn is_changed(&self) -> bool {
        self.0.iter().any(|table| !table.changed.is_empty())
    }

    /// The tables whose payloads changed, with what their payloads cover: only routes in there can be concerned.
    pub(crate) fn take_changes(&mut self) -> Vec<(Arc<str>, Cover)> {
        let changed = self.0.iter_mut().filter(|table| !table.changed.is_empty());
        changed
            .map(|table| (table.name.clone(), Cover::new(std::mem::take(&mut table.changed))))
            .collect()
    }

    /// Every table: its name, and whether it is of IPv4.
    pub fn names(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.0.iter().map(|table| (&table.name, table.is_v4))
    }

    /// How many payloads a source has in a table, and how many of them it is the most preferred one of.
    pub fn counts(&self, table: &str, source: SourceId) -> (usize, usize) {
        let Some(table) = self.table(table) else { return (0, 0) };
        let Some(at) = table.parts.iter().position(|part| part.of.source == source) else {
            return (0, 0);
        };
        let set = &table.parts[at].set;
        let all = set.count(table.is_v4);
        let better = &table.parts[..at];
        if better.is_empty() {
            return (all, all);
        }
        let beaten = set
            .after(table.is_v4, None)
            .filter(|roa| better.iter().any(|part| part.set.contains(*roa)));
        (all, all - beaten.count())
    }

    /// Octets that all payloads take.
    pub fn octets(&self) -> usize {
        // A set that feeds several tables is one set.
        let mut sets: Vec<&Arc<RoaSet>> = self
            .0
            .iter()
            .flat_map(|table| table.parts.iter().map(|p| &p.set))
            .collect();
        sets.sort_by_key(|set| Arc::as_ptr(set));
        sets.dedup_by_key(|set| Arc::as_ptr(set));
        sets.iter().map(|set| set.octets()).sum()
    }

    /// The next payloads of a table, at most so many, those behind `last` if it is given. Fewer than asked for are the last.
    pub fn page(&self, table: &str, last: Option<Roa>, count: usize) -> Vec<TableRoa> {
        let Some(table) = self.table(table) else {
            return Vec::new();
        };
        let mut parts: Vec<_> = table
            .parts
            .iter()
            .map(|part| (part.of, part.set.after(table.is_v4, last).peekable()))
            .collect();
        let mut page = Vec::new();
        while page.len() < count {
            let Some(roa) = parts.iter_mut().filter_map(|(_, roas)| roas.peek().copied()).min() else {
                break;
            };
            let has = |(of, roas): &mut (RoaSource, std::iter::Peekable<_>)| roas.next_if_eq(&roa).map(|_| *of);
            page.push(TableRoa {
                roa,
                sources: parts.iter_mut().filter_map(has).collect(),
            });
        }
        page
    }
}
