//! The file: its tables, how it is made, opened and read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `revision`, `compacted` | number |
//! | `identity` | `cluster_id`, `succeeds` (histories in whose place this one stands, with commas) | text |
//! | `keys` | key | last change, creation, document |
//! | `log` | revision | key, document (none: deleted) |
//! | `lives` | key of a document that expires | when: milliseconds since the epoch |
//! | `deadlines` | the same when, key | |
//!
//! The log holds the last [`HISTORY`] changes; older ones are compacted in the same commit that adds new ones.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::datastore::{Entry, Event, History, Listing, Past, Revision, WatchError, begun};

pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const IDENTITY: TableDefinition<'static, &str, &str> = TableDefinition::new("identity");
pub(super) type Stored = (u64, u64, &'static [u8]);
pub(super) const KEYS: TableDefinition<'static, &str, Stored> = TableDefinition::new("keys");
pub(super) type Logged = (&'static str, Option<&'static [u8]>);
pub(super) const LOG: TableDefinition<'static, u64, Logged> = TableDefinition::new("log");

// Made by the first write: files of typhas that knew nothing of them do without.
pub(super) const LIVES: TableDefinition<'static, &str, u64> = TableDefinition::new("lives");
pub(super) type Deadline = (u64, &'static str);
pub(super) const DEADLINES: TableDefinition<'static, Deadline, ()> = TableDefinition::new("deadlines");

/// The layout this code reads and writes.
const FORMAT: u64 = 1;
/// How many changes are kept, so that a client that was away for a while needs no snapshot.
pub(super) const HISTORY: u64 = 10_000;

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

/// Opens the file, or makes it when there is none; `cache` octets of it are held in memory.
///
/// A new file is made under another name and appears whole: a crash leaves either no datastore or a complete one.
pub(crate) fn open_or_create(path: &Path, cache: usize) -> Result<Database, OpenError> {
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
    open(path, cache)
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
pub(crate) fn open(path: &Path, cache: usize) -> Result<Database, OpenError> {
    // redb asserts while it repairs some damaged files; nothing of it outlives the panic.
    let opened = std::panic::catch_unwind(|| {
        let database = Database::builder()
            .set_cache_size(cache)
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
        let history = begun([old.id].into_iter().chain(others).chain(old.succeeds));
        identity.insert("cluster_id", history.id.as_str())?;
        identity.insert("succeeds", history.succeeds.join(",").as_str())?;
        history
    };
    txn.commit()?;
    Ok(history)
}

pub(super) fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(meta.get(name)?.ok_or_else(|| missing(name))?.value())
}

fn missing(name: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{name} is missing"))
}

pub(crate) fn get(database: &Database, key: &str) -> Result<Option<Entry>, redb::Error> {
    entry(&database.begin_read()?.open_table(KEYS)?, key)
}

pub(super) fn entry(keys: &impl ReadableTable<&'static str, Stored>, key: &str) -> Result<Option<Entry>, redb::Error> {
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

/// When the next document expires, in milliseconds since the epoch.
pub(crate) fn next_expiry(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(DEADLINES) {
        Ok(deadlines) => first(&deadlines),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn first(deadlines: &impl ReadableTable<Deadline, ()>) -> Result<Option<u64>, redb::Error> {
    Ok(deadlines.first()?.map(|(deadline, _)| deadline.value().0))
}
