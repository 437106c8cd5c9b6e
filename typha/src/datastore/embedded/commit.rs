//! How the file is changed: groups of writes, each whole or not at all, and what has expired.

use redb::{Database, ReadableTable, Table};

use super::file::{DEADLINES, Deadline, HISTORY, KEYS, LIVES, LOG, Logged, META, Stored, entry, first, number};
use crate::datastore::{CommitError, Committed, Entry, Guard, Operation, Revision, Transaction};

/// What a commit did.
#[derive(Debug)]
pub(crate) struct Group {
    /// Of each transaction.
    pub(crate) outcomes: Vec<Result<Vec<Committed>, CommitError>>,
    /// After them.
    pub(crate) revision: Revision,
    /// As [`next_expiry`] gives it.
    pub(crate) next: Option<u64>,
}

/// Removes what has expired by `now` (milliseconds since the epoch) and does a group of writes, in one commit: when this
/// returns, all of it is on the disk, or (on an error) nothing.
pub(crate) fn commit(database: &Database, transactions: &[Transaction], now: u64) -> Result<Group, redb::Error> {
    let txn = database.begin_write()?;
    let (outcomes, next, before, after) = {
        let mut meta = txn.open_table(META)?;
        let mut tables = Tables {
            keys: txn.open_table(KEYS)?,
            log: txn.open_table(LOG)?,
            lives: txn.open_table(LIVES)?,
            deadlines: txn.open_table(DEADLINES)?,
            revision: 0,
            now,
        };
        let before = number(&meta, "revision")?;
        tables.revision = before;
        tables.expire()?;
        let mut outcomes = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            outcomes.push(tables.apply(transaction)?);
        }
        let after = tables.revision;
        if after != before {
            meta.insert("revision", after)?;
            let compacted = after.saturating_sub(HISTORY).max(number(&meta, "compacted")?);
            tables.compact(compacted)?;
            meta.insert("compacted", compacted)?;
        }
        (outcomes, first(&tables.deadlines)?, before, after)
    };
    if after == before {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok(Group {
        outcomes,
        revision: after,
        next,
    })
}

struct Tables<'t> {
    keys: Table<'t, &'static str, Stored>,
    log: Table<'t, u64, Logged>,
    lives: Table<'t, &'static str, u64>,
    deadlines: Table<'t, Deadline, ()>,
    revision: Revision,
    now: u64,
}

impl Tables<'_> {
    /// All operations of a transaction, or none: what may stand in the way is looked at first.
    fn apply(&mut self, transaction: &Transaction) -> Result<Result<Vec<Committed>, CommitError>, redb::Error> {
        for guard in &transaction.guards {
            if !self.holds(guard)? {
                return Ok(Err(CommitError::Guard(guard.clone())));
            }
        }
        for operation in &transaction.operations {
            let deletes = matches!(operation, Operation::Delete { .. });
            if deletes && self.keys.get(operation.key())?.is_none() {
                return Ok(Err(CommitError::Missing));
            }
        }
        let mut committed = Vec::with_capacity(transaction.operations.len());
        for operation in &transaction.operations {
            committed.push(self.operate(operation, transaction.dry_run)?);
        }
        Ok(Ok(committed))
    }

    fn operate(&mut self, operation: &Operation, dry_run: bool) -> Result<Committed, redb::Error> {
        let key = operation.key();
        let previous = entry(&self.keys, key)?;
        let next = self.revision + 1;
        let (stored, value) = match operation {
            Operation::Put { value, .. } => {
                let create_revision = previous.as_ref().map_or(next, |p| p.create_revision);
                let stored = Entry {
                    key: key.to_owned(),
                    value: value.clone(),
                    revision: next,
                    create_revision,
                };
                (Some(stored), Some(&value[..]))
            }
            Operation::Delete { .. } => (None, None),
        };
        if !dry_run {
            match &stored {
                Some(e) => drop(self.keys.insert(key, (e.revision, e.create_revision, &e.value[..]))?),
                None => drop(self.keys.remove(key)?),
            }
            self.live(operation)?;
            self.log.insert(next, (key, value))?;
            self.revision = next;
        }
        Ok(Committed {
            entry: stored,
            previous,
            revision: self.revision,
        })
    }

    /// Until when the document under a key that is written lives, from now on.
    fn live(&mut self, operation: &Operation) -> Result<(), redb::Error> {
        let key = operation.key();
        if let Some(before) = self.lives.remove(key)? {
            self.deadlines.remove((before.value(), key))?;
        }
        if let Operation::Put { ttl: Some(ttl), .. } = operation {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let deadline = self.now.saturating_add(ttl);
            self.lives.insert(key, deadline)?;
            self.deadlines.insert((deadline, key), ())?;
        }
        Ok(())
    }

    /// Deletes the documents whose time is over.
    fn expire(&mut self) -> Result<(), redb::Error> {
        while first(&self.deadlines)?.is_some_and(|deadline| deadline <= self.now) {
            let Some(due) = self.deadlines.pop_first()?.map(|(due, _)| due.value().1.to_owned()) else {
                return Ok(());
            };
            self.lives.remove(due.as_str())?;
            self.keys.remove(due.as_str())?;
            self.revision += 1;
            self.log.insert(self.revision, (due.as_str(), None))?;
        }
        Ok(())
    }

    fn holds(&self, guard: &Guard) -> Result<bool, redb::Error> {
        Ok(match guard {
            Guard::Absent(key) => self.keys.get(key.as_str())?.is_none(),
            Guard::At(key, revision) => self.keys.get(key.as_str())?.is_some_and(|s| s.value().0 == *revision),
            Guard::Unchanged { prefix, since } => {
                // The log is looked at, not the keys: it also knows deletions. A revision that is compacted is too old
                // to tell, and the writer reads again.
                let first = self
                    .log
                    .first()?
                    .map_or(self.revision + 1, |(revision, _)| revision.value());
                if since.saturating_add(1) < first {
                    return Ok(false);
                }
                for item in self.log.range(since.saturating_add(1)..)? {
                    if item?.1.value().0.starts_with(prefix.as_str()) {
                        return Ok(false);
                    }
                }
                true
            }
        })
    }

    fn compact(&mut self, up_to: Revision) -> Result<(), redb::Error> {
        loop {
            let first = self.log.first()?.map(|(revision, _)| revision.value());
            if first.is_none_or(|first| first > up_to) {
                return Ok(());
            }
            self.log.pop_first()?;
        }
    }
}
