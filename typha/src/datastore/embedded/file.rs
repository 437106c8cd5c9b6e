//! The file: its tables, how it is made, opened, read and changed.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `revision`, `compacted` | number |
//! | `identity` | `cluster_id`, `succeeds` (histories in whose place this one stands, with commas) | text |
//! | `keys` | key | last change, creation, document |
//! | `log` | revision | key, document (none: deleted) |
//!
//! The log holds the last [`HISTORY`] changes; older ones are compacted in the same commit that adds new ones.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::datastore::{
    CommitError, Committed, Entry, Event, Guard, History, Listing, Operation, Past, Revision, Transaction, WatchError,
};

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const IDENTITY: TableDefinition<'static, &str, &str> = TableDefinition::new("identity");
type Stored = (u64, u64, &'static [u8]);
const KEYS: TableDefinition<'static, &str, Stored> = TableDefinition::new("keys");
type Logged = (&'static str, Option<&'static [u8]>);
const LOG: TableDefinition<'static, u64, Logged> = TableDefinition::new("log");

/// The layout this code reads and writes.
const FORMAT: u64 = 1;
/// How many changes are kept, so that a client that was away for a while needs no snapshot.
const HISTORY: u64 = 10_000;
/// Memory for pages of the file.
const CACHE: usize = 64 << 20;

/// The file cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("datastore {path}: {act}: {reason}")]
    Io {
        path: PathBuf,
        act: &'static str,
        // Not `source`: it is in the text already, and who prints the whole chain would say it twice.
        reason: io::Error,
    },
    #[error("datastore {path}: another process has it open; one typha per file")]
    Locked { path: PathBuf },
    #[error(
        "datastore {path}: damaged or not a datastore of typha ({reason}); restore it from a copy, or move it away to begin anew"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "datastore {path}: has format {found}, this typha knows {FORMAT}; use the version that made it, or a newer one"
    )]
    Format { path: PathBuf, found: u64 },
}

/// Opens the file, or makes it when there is none.
///
/// A new file is made under another name and appears whole: a crash leaves either no datastore or a complete one.
pub(crate) fn open_or_create(path: &Path) -> Result<Database, OpenError> {
    let io = |act| {
        move |reason| OpenError::Io {
            path: path.to_owned(),
            act,
            reason,
        }
    };
    if !path.try_exists().map_err(io("look for"))? {
        let name = path
            .file_name()
            .ok_or_else(|| io("create")(io::ErrorKind::InvalidInput.into()))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let made = create(&temporary, path);
        let linked = made.and_then(|()| match std::fs::hard_link(&temporary, path) {
            // Another typha was faster: its file counts.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(io("create")),
        });
        let _ = std::fs::remove_file(&temporary);
        linked?;
        let directory = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::File::open(directory)
            .and_then(|d| d.sync_all())
            .map_err(io("sync the directory of"))?;
    }
    open(path)
}

fn create(temporary: &Path, path: &Path) -> Result<(), OpenError> {
    let _rest_of_a_crash = std::fs::remove_file(temporary);
    // Documents may hold secrets of the cluster: the file is its owner's only.
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary);
    let file = file.map_err(|reason| OpenError::Io {
        path: path.to_owned(),
        act: "create",
        reason,
    })?;
    let database = Database::builder().create_file(file).map_err(|e| open_error(path, e))?;
    initialize(&database).map_err(|e| read_error(path, &e))
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 0)?;
        meta.insert("compacted", 0)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        txn.open_table(IDENTITY)?.insert("cluster_id", id.as_str())?;
        txn.open_table(KEYS)?;
        txn.open_table(LOG)?;
    }
    txn.commit()?;
    Ok(())
}

/// Opens a file that exists.
pub(crate) fn open(path: &Path) -> Result<Database, OpenError> {
    // redb asserts while it repairs some damaged files; nothing of it outlives the panic.
    let opened = std::panic::catch_unwind(|| {
        let database = Database::builder()
            .set_cache_size(CACHE)
            .open(path)
            .map_err(|e| open_error(path, e))?;
        let format = format(&database).map_err(|e| read_error(path, &e))?;
        Ok((database, format))
    });
    match opened {
        Ok(Ok((database, FORMAT))) => Ok(database),
        Ok(Ok((_, found))) => Err(OpenError::Format {
            path: path.to_owned(),
            found,
        }),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(OpenError::Damaged {
            path: path.to_owned(),
            reason: "it cannot be repaired".to_owned(),
        }),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(reason)) if !is_content(reason.kind()) => OpenError::Io {
            path: path.to_owned(),
            act: "open",
            reason,
        },
        other => OpenError::Damaged {
            path: path.to_owned(),
            reason: other.to_string(),
        },
    }
}

/// Is what went wrong in the file, rather than in reaching it?
fn is_content(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

pub(crate) fn read_error(path: &Path, error: &redb::Error) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn format(database: &Database) -> Result<u64, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    number(&meta, "format")
}

/// The revision of the last write.
pub(crate) fn revision(database: &Database) -> Result<Revision, redb::Error> {
    number(&database.begin_read()?.open_table(META)?, "revision")
}

/// Which history this is.
pub(crate) fn history(database: &Database) -> Result<History, redb::Error> {
    read_history(&database.begin_read()?.open_table(IDENTITY)?)
}

fn read_history(identity: &impl ReadableTable<&'static str, &'static str>) -> Result<History, redb::Error> {
    let id = identity.get("cluster_id")?.ok_or_else(|| missing("cluster_id"))?;
    let succeeds = identity.get("succeeds")?;
    let succeeds = succeeds.as_ref().map_or("", |ids| ids.value());
    Ok(History {
        id: id.value().to_owned(),
        succeeds: succeeds.split_terminator(',').map(str::to_owned).collect(),
    })
}

/// Begins another history with what is there.
pub(crate) fn begin_history(database: &Database, others: Vec<String>) -> Result<History, redb::Error> {
    let txn = database.begin_write()?;
    let history = {
        let mut identity = txn.open_table(IDENTITY)?;
        let old = read_history(&identity)?;
        let history = History::after([old.id].into_iter().chain(others).chain(old.succeeds));
        identity.insert("cluster_id", history.id.as_str())?;
        identity.insert("succeeds", history.succeeds.join(",").as_str())?;
        history
    };
    txn.commit()?;
    Ok(history)
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(meta.get(name)?.ok_or_else(|| missing(name))?.value())
}

fn missing(name: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{name} is missing"))
}

pub(crate) fn get(database: &Database, key: &str) -> Result<Option<Entry>, redb::Error> {
    entry(&database.begin_read()?.open_table(KEYS)?, key)
}

fn entry(keys: &impl ReadableTable<&'static str, Stored>, key: &str) -> Result<Option<Entry>, redb::Error> {
    Ok(keys.get(key)?.map(|stored| to_entry(key, stored.value())))
}

fn to_entry(key: &str, (revision, create_revision, value): (u64, u64, &[u8])) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        revision,
        create_revision,
    }
}

pub(crate) fn list(database: &Database, prefix: &str) -> Result<Listing, redb::Error> {
    let txn = database.begin_read()?;
    let revision = number(&txn.open_table(META)?, "revision")?;
    let keys = txn.open_table(KEYS)?;
    let mut entries = Vec::new();
    for item in keys.range(prefix..)? {
        let (key, stored) = item?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(to_entry(key.value(), stored.value()));
    }
    Ok(Listing { entries, revision })
}

/// The last changes up to a revision, at most `limit`.
pub(crate) fn past(database: &Database, to: Revision, limit: usize) -> Result<Past, redb::Error> {
    let txn = database.begin_read()?;
    let compacted = number(&txn.open_table(META)?, "compacted")?;
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let oldest = compacted.max(to.saturating_sub(limit)).min(to);
    let log = txn.open_table(LOG)?;
    let mut events = Vec::new();
    for item in log.range(oldest.saturating_add(1)..=to)? {
        let (revision, logged) = item?;
        events.push(event(revision.value(), logged.value()));
    }
    Ok(Past { oldest, events })
}

fn event(revision: Revision, (key, value): (&str, Option<&[u8]>)) -> Event {
    Event {
        key: key.to_owned(),
        revision,
        value: value.map(Bytes::copy_from_slice),
    }
}

/// The changes after a revision, at most `limit`.
pub(crate) fn changes(
    database: &Database,
    after: Revision,
    limit: usize,
) -> Result<Result<Vec<Event>, WatchError>, redb::Error> {
    let txn = database.begin_read()?;
    let oldest = number(&txn.open_table(META)?, "compacted")?;
    if after < oldest {
        return Ok(Err(WatchError::Compacted { oldest }));
    }
    let log = txn.open_table(LOG)?;
    let mut events = Vec::new();
    for item in log.range(after.saturating_add(1)..)?.take(limit) {
        let (revision, logged) = item?;
        events.push(event(revision.value(), logged.value()));
    }
    Ok(Ok(events))
}

/// Outcomes of a group of writes, and the revision after them.
pub(crate) type Group = (Vec<Result<Vec<Committed>, CommitError>>, Revision);

/// Does a group of writes in one commit: when this returns, all of them are on the disk, or (on an error) none.
pub(crate) fn commit(database: &Database, transactions: &[Transaction]) -> Result<Group, redb::Error> {
    let txn = database.begin_write()?;
    let (outcomes, before, after) = {
        let mut meta = txn.open_table(META)?;
        let mut tables = Tables {
            keys: txn.open_table(KEYS)?,
            log: txn.open_table(LOG)?,
            revision: 0,
        };
        let before = number(&meta, "revision")?;
        tables.revision = before;
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
        (outcomes, before, after)
    };
    if after == before {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok((outcomes, after))
}

struct Tables<'t> {
    keys: Table<'t, &'static str, Stored>,
    log: Table<'t, u64, Logged>,
    revision: Revision,
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
            self.log.insert(next, (key, value))?;
            self.revision = next;
        }
        Ok(Committed {
            entry: stored,
            previous,
            revision: self.revision,
        })
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
