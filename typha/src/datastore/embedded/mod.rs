//! The embedded datastore: one crash-safe file, for one machine, labs and the edge.
//!
//! A single writer task commits; writers that come while a commit is being synced share the next one (group commit), each
//! with its own revision; so has each operation of a transaction, of which all are in one commit. Reads run beside it on redb's snapshots. After an I/O error (a full disk, say) nothing that was
//! acknowledged is lost: the file is closed and opened again with the next use, and until that succeeds every call fails
//! with the reason.

mod commit;
mod file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use file::OpenError;

use super::{
    Backend, Changes, CommitError, Committed, Entry, Event, History, Listing, Past, Revision, StorageError,
    Transaction, WatchError,
};

/// Writes waiting for the writer task; more wait in their callers.
const QUEUE: usize = 256;

/// An embedded datastore. The file is closed when this and every call of it are gone.
#[derive(Debug)]
pub(crate) struct Embedded {
    slot: Arc<Slot>,
    jobs: mpsc::Sender<writer::Job>,
    head: watch::Receiver<Revision>,
}

/// The open file, or why there is none. The lock is held to take or replace the handle only.
#[derive(Debug)]
struct Slot {
    path: PathBuf,
    /// Octets of the file that are held in memory.
    cache: usize,
    open: Mutex<Result<Arc<Database>, StorageError>>,
    reopening: tokio::sync::Mutex<()>,
}

impl Embedded {
    /// Opens the file, or makes it when there is none; `cache` octets of it are held in memory. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what is wrong.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<Self, OpenError> {
        let database = file::open_or_create(path, cache)?;
        let revision = file::revision(&database).map_err(|e| file::read_error(path, &e))?;
        let expiry = file::next_expiry(&database).map_err(|e| file::read_error(path, &e))?;
        let slot = Arc::new(Slot::new(path, cache, database));
        let (head_tx, head) = watch::channel(revision);
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(Arc::clone(&slot), queue, head_tx, expiry));
        Ok(Embedded { slot, jobs, head })
    }

    /// Runs a read beside the runtime's threads.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StorageError>> {
        let slot = Arc::clone(&self.slot);
        Box::pin(async move { slot.run(read).await })
    }
}

impl Slot {
    fn new(path: &Path, cache: usize, database: Database) -> Self {
        Slot {
            path: path.to_owned(),
            cache,
            open: Mutex::new(Ok(Arc::new(database))),
            reopening: tokio::sync::Mutex::new(()),
        }
    }

    fn current(&self) -> Result<Arc<Database>, StorageError> {
        // The handle is whole at every moment: a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, database: Result<Arc<Database>, StorageError>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = database;
    }

    async fn database(&self) -> Result<Arc<Database>, StorageError> {
        if let Ok(database) = self.current() {
            return Ok(database);
        }
        let _one_at_a_time = self.reopening.lock().await;
        if let Ok(database) = self.current() {
            return Ok(database);
        }
        let (path, cache) = (self.path.clone(), self.cache);
        let opened = match tokio::task::spawn_blocking(move || file::open(&path, cache)).await {
            Ok(Ok(database)) => Ok(Arc::new(database)),
            Ok(Err(e)) => Err(StorageError(e.to_string())),
            Err(e) => Err(StorageError(e.to_string())),
        };
        if opened.is_ok() {
            tracing::info!(path = %self.path.display(), "datastore opened again");
        }
        self.replace(opened.clone());
        opened
    }

    /// Runs `work` on a thread that may block. A panic in it (a damaged file may cause one in redb) is an error. After
    /// an error redb wants the file closed; the next use opens it again.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StorageError> {
        let database = self.database().await?;
        let failed = match tokio::task::spawn_blocking(move || work(&database)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        let error = StorageError(format!("{}: {failed}", self.path.display()));
        self.replace(Err(error.clone()));
        Err(error)
    }
}

impl Backend for Embedded {
    fn history(&self) -> BoxFuture<'static, Result<History, StorageError>> {
        self.read(file::history)
    }

    fn begin_history(&self, others: Vec<String>) -> BoxFuture<'static, Result<History, StorageError>> {
        self.read(move |db| file::begin_history(db, others))
    }

    fn happened(&self, _event: Event) -> BoxFuture<'static, Result<Option<bool>, StorageError>> {
        // Nobody else writes to the file while it is open.
        Box::pin(async move { Ok(Some(true)) })
    }

    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<Entry>, StorageError>> {
        let key = key.to_owned();
        self.read(move |db| file::get(db, &key))
    }

    fn list(&self, prefix: &str) -> BoxFuture<'static, Result<Listing, StorageError>> {
        let prefix = prefix.to_owned();
        self.read(move |db| file::list(db, &prefix))
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'static, Result<Vec<Committed>, CommitError>> {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || CommitError::Storage(StorageError("it is being closed".to_owned()));
            jobs.send(writer::Job { transaction, answer })
                .await
                .map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'static, Result<Changes, WatchError>> {
        let (slot, mut head) = (Arc::clone(&self.slot), self.head.clone());
        Box::pin(async move {
            let closed = |_| StorageError("it is being closed".to_owned());
            head.wait_for(|revision| *revision > after).await.map_err(closed)?;
            let events = slot.run(move |db| file::changes(db, after, limit)).await??;
            let revision = events.last().map_or(after, |last| last.revision);
            Ok(Changes { events, revision })
        })
    }

    fn past(&self, to: Revision, limit: usize) -> BoxFuture<'static, Result<Past, StorageError>> {
        self.read(move |db| file::past(db, to, limit))
    }
}

#[cfg(test)]
mod tests;
