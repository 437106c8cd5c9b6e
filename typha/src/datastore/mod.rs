//! Where the state is kept: [`Backend`] in the words of `tortie_datastore`, and those that speak them.

pub(crate) mod embedded;
pub(crate) mod etcd;

use futures::future::BoxFuture;
pub(crate) use tortie_datastore::{
    Changes, CommitError, Committed, Entry, Event, Guard, History, Listing, MAX_OPERATIONS, Operation, Past, Revision,
    StorageError, Transaction, WatchError,
};

/// A datastore.
pub(crate) trait Backend: std::fmt::Debug + Send + Sync + 'static {
    /// Which history this is.
    fn history(&self) -> BoxFuture<'static, Result<History, StorageError>>;

    /// Begins another history with the state that is there, in the place of what was there and of `others`.
    fn begin_history(&self, others: Vec<String>) -> BoxFuture<'static, Result<History, StorageError>>;

    /// Is this change part of the history? `None`: it is too long ago to tell.
    fn happened(&self, event: Event) -> BoxFuture<'static, Result<Option<bool>, StorageError>>;

    /// One document.
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<Entry>, StorageError>>;

    /// Every document whose key starts with `prefix`.
    fn list(&self, prefix: &str) -> BoxFuture<'static, Result<Listing, StorageError>>;

    /// Writes. When this gives `Ok`, with what each operation did, in order, the writes survive a crash of this process
    /// and of the machine.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'static, Result<Vec<Committed>, CommitError>>;

    /// The changes after a revision in order, about `limit` at most, those of one revision together. Waits until there
    /// is one; gives none when it can say no more than that the datastore answers (again). One call at a time.
    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'static, Result<Changes, WatchError>>;

    /// The changes up to a revision that was listed, at most about `limit`, as far back as they are known.
    fn past(&self, to: Revision, limit: usize) -> BoxFuture<'static, Result<Past, StorageError>>;
}

/// A history that begins now, in the place of others; see [`History::after`].
fn begun(others: impl IntoIterator<Item = String>) -> History {
    History::after(uuid::Uuid::new_v4().simple().to_string(), others)
}
