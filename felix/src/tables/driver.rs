//! Compares each table with what it shall hold, and writes it when it is another.

use std::collections::BTreeSet;
use std::time::Instant;

use tortie_netlink::nft::{Seen, Table, TableId, Tables};
use tortie_netlink::request::RequestError;

use super::plan::{ALL, Wanted};
use crate::failures::{Failing, Failures};

/// How the tables are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The tables that are there as wanted.
    pub there: BTreeSet<TableId>,
    /// What the kernel refuses.
    pub failing: Vec<Failing>,
    /// Everything was compared once since the datastore is known.
    pub compared: bool,
}

impl Status {
    /// For people, sorted.
    pub fn lines(&self) -> Vec<String> {
        let there = self.there.iter().map(|id| format!("{id}: there"));
        let failing = self.failing.iter().map(|f| f.to_string());
        there.chain(failing).collect()
    }
}

/// Opens the kernel, and anew when it failed.
pub(super) type Open<T> = Box<dyn Fn() -> Result<T, RequestError> + Send>;

/// See the module.
pub(super) struct Driver<T> {
    open: Open<T>,
    kernel: Option<T>,
    failures: Failures,
    /// The tables that were there when last looked.
    seen: BTreeSet<TableId>,
    pub(super) status: Status,
}

impl<T: Tables> Driver<T> {
    pub(super) fn new(open: Open<T>) -> Self {
        Driver {
            open,
            kernel: None,
            failures: Failures::default(),
            seen: BTreeSet::new(),
            status: Status::default(),
        }
    }

    /// Makes the tables what is wanted, as far as the kernel lets: a table that is refused keeps no other from its own.
    /// Blocks.
    pub(super) fn pass(&mut self, wanted: &Wanted, now: Instant) {
        if !wanted.known {
            return;
        }
        let tables = wanted.tables();
        for id in ALL {
            let object = id.to_string();
            if !self.failures.is_due(&object, now) {
                continue;
            }
            match self.table(id, tables.get(&id), wanted.is_certain(id)) {
                Ok(there) => {
                    self.failures.done(&object);
                    if there {
                        self.status.there.insert(id);
                    } else {
                        self.status.there.remove(&id);
                    }
                }
                Err(error) => {
                    // A connection that failed may be of no use any more.
                    self.kernel = None;
                    self.status.there.remove(&id);
                    if self.failures.failed(object.clone(), &error, now) {
                        tracing::warn!(object, %error, "the kernel refuses a table of nftables");
                    }
                }
            }
        }
        // A kernel without nftables is none that fails where nothing is wanted of it.
        let wants = |object: &str| tables.keys().any(|id| id.to_string() == object);
        let there = |object: &str| self.seen.iter().any(|id| id.to_string() == object);
        self.failures.retain(|object| wants(object) || there(object));
        self.status.compared = true;
        self.status.failing = self.failures.list();
    }

    /// When to pass again although nothing changed.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.failures.next_deadline()
    }

    /// Gives whether there is a table, as wanted.
    fn table(&mut self, id: TableId, shall: Option<&Table>, certain: bool) -> Result<bool, RequestError> {
        let kernel = match self.kernel.take() {
            Some(open) => open,
            None => (self.open)()?,
        };
        let kernel = self.kernel.insert(kernel);
        let seen = kernel.read(id)?;
        match seen {
            Some(_) => self.seen.insert(id),
            None => self.seen.remove(&id),
        };
        match (shall, seen) {
            (None, None) => Ok(false),
            (Some(table), None) => {
                kernel.replace(id, table)?;
                tracing::info!(table = %id, "a table of nftables was made");
                Ok(true)
            }
            (Some(table), Some(seen)) => change(kernel, id, (table, &seen), certain),
            (None, Some(_)) if !certain => Ok(true),
            (None, Some(_)) => {
                kernel.remove(id)?;
                tracing::info!(table = %id, "a table of nftables was removed");
                Ok(false)
            }
        }
    }
}

fn change(
    kernel: &mut impl Tables,
    id: TableId,
    (shall, seen): (&Table, &Seen),
    certain: bool,
) -> Result<bool, RequestError> {
    match shall.difference(id.family, seen) {
        Some(difference) if certain => {
            kernel.replace(id, shall)?;
            tracing::info!(table = %id, difference, "a table of nftables was written anew");
        }
        // What it holds was right once; what is known may be less.
        Some(_) | None => {}
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
