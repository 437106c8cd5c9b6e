//! What typha asks of a datastore: revisioned keys, compare-and-swap, and every change in order.
//!
//! The vocabulary is etcd's, so that a backend for etcd or Kubernetes is a translation: every write has a revision of the
//! whole datastore, a key knows the revision of its last change and of its creation, and changes can be read from a
//! revision on until they are compacted away.

pub(crate) mod embedded;
pub(crate) mod etcd;

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Counts the writes of a datastore; 0 is before the first.
pub(crate) type Revision = u64;

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Bytes,
    pub(crate) revision: Revision,
    pub(crate) create_revision: Revision,
}

/// Every document under a prefix, sorted by key, as of `revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) revision: Revision,
}

/// What must be true for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists and its last change was this one.
    At(String, Revision),
    /// No key that starts with `prefix` was created or changed after `since`. A deletion may go unnoticed: what must
    /// not be deleted is guarded by [`Guard::At`].
    Unchanged { prefix: String, since: Revision },
}

/// Operations, and guards, of one transaction: what etcd takes unless it is told to take more (`--max-txn-ops`).
pub(crate) const MAX_OPERATIONS: usize = 128;

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Put {
        key: String,
        value: Bytes,
        /// After which time the document is removed unless it is written again, in whole seconds; `None`: it stays.
        ttl: Option<Duration>,
    },
    Delete {
        key: String,
    },
}

impl Operation {
    pub(crate) fn key(&self) -> &str {
        match self {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        }
    }
}

/// Writes done wholly or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) guards: Vec<Guard>,
    /// At least one, at most [`MAX_OPERATIONS`], each of another key.
    pub(crate) operations: Vec<Operation>,
    /// Check the guards, change nothing.
    pub(crate) dry_run: bool,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// What is stored now; `None` after a delete.
    pub(crate) entry: Option<Entry>,
    pub(crate) previous: Option<Entry>,
    /// Of the datastore after this write.
    pub(crate) revision: Revision,
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    /// A guard does not hold; what the key of the operation holds now.
    #[error("a guard does not hold: {0:?}")]
    Guard(Guard),
    /// A key to be deleted does not exist.
    #[error("the key does not exist")]
    Missing,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The datastore does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datastore does not answer: {0}")]
pub(crate) struct StorageError(pub(crate) String);

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) revision: Revision,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
}

/// Changes in order, and how far they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) events: Vec<Event>,
    /// Every change up to this one is contained or was given before; never below what was asked for.
    pub(crate) revision: Revision,
}

/// Why changes cannot be read from a revision on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WatchError {
    /// Forgotten already; only changes after `oldest` are known.
    #[error("changes up to revision {oldest} are compacted")]
    Compacted { oldest: Revision },
    /// It is another past than the one that was read.
    #[error(
        "the datastore is at revision {found}, revision {held} was read from it: it is a restored backup or another \
         cluster's"
    )]
    Backwards { held: Revision, found: Revision },
    /// It is another history, and nobody said that it stands in the place of the one that was read.
    #[error("the datastore holds another history of changes ({found}) than the one that was read ({held})")]
    OtherHistory { held: String, found: String },
    /// It is another history, which an operator said stands in the place of the one that was read.
    #[error("an operator has accepted another history of changes")]
    Succeeded,
    /// A change that was read is not there.
    #[error("what was read from the datastore at revision {revision} is not there any more: it is a restored backup")]
    Rewritten { revision: Revision },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Which history of changes a datastore holds. Another one begins when an operator says so: after a backup was
/// restored, say, when revisions that clients have seen stand for other changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Made with the datastore, and anew with each beginning.
    pub(crate) id: String,
    /// The histories in whose place this one stands: clients that hold a state of one of them may be led here.
    pub(crate) succeeds: Vec<String>,
}

impl History {
    /// One that stands in the place of others, and of those in whose place they stood; the newest first.
    fn after(others: impl IntoIterator<Item = String>) -> Self {
        let mut succeeds: Vec<String> = Vec::new();
        for id in others {
            if !succeeds.contains(&id) && succeeds.len() < SUCCEEDED {
                succeeds.push(id);
            }
        }
        History {
            id: uuid::Uuid::new_v4().simple().to_string(),
            succeeds,
        }
    }
}

/// How many earlier histories are remembered.
const SUCCEEDED: usize = 16;

/// The changes that led to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    /// Every change after this revision is contained.
    pub(crate) oldest: Revision,
    pub(crate) events: Vec<Event>,
}

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
