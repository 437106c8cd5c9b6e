//! What a datastore is asked and what it answers, in typha's words: revisioned keys, compare-and-swap, and every change in
//! order.
//!
//! The vocabulary is etcd's, so that a backend for etcd or Kubernetes is a translation: every write has a revision of the
//! whole datastore, a key knows the revision of its last change and of its creation, and changes can be read from a
//! revision on until they are compacted away. The translation of etcd's messages is [`etcd`].
//!
//! Pure: whoever asks is elsewhere.

pub mod etcd;

use std::time::Duration;

use bytes::Bytes;

/// Counts the writes of a datastore; 0 is before the first.
pub type Revision = u64;

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A datastore key of Calico's.
    pub key: String,
    /// The document, octet for octet.
    pub value: Bytes,
    /// Of its last change.
    pub revision: Revision,
    /// Of its creation; at most `revision`.
    pub create_revision: Revision,
}

/// Every document under a prefix, sorted by key, as of `revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by key.
    pub entries: Vec<Entry>,
    /// Of the datastore; no entry's is higher.
    pub revision: Revision,
}

/// What must be true for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists and its last change was this one.
    At(String, Revision),
    /// No key that starts with `prefix` was created or changed after `since`. A deletion may go unnoticed: what must
    /// not be deleted is guarded by [`Guard::At`].
    Unchanged { prefix: String, since: Revision },
}

/// Operations, and guards, of one transaction: what etcd takes unless it is told to take more (`--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a document.
    Put {
        /// Under this key.
        key: String,
        /// These octets.
        value: Bytes,
        /// After which time the document is removed unless it is written again, in whole seconds; `None`: it stays.
        ttl: Option<Duration>,
    },
    /// Removes the document of a key, which must exist.
    Delete {
        /// This key.
        key: String,
    },
}

impl Operation {
    /// Which key it changes.
    pub fn key(&self) -> &str {
        match self {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        }
    }
}

/// Writes done wholly or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// What must be true.
    pub guards: Vec<Guard>,
    /// At least one, at most [`MAX_OPERATIONS`], each of another key.
    pub operations: Vec<Operation>,
    /// Check the guards, change nothing.
    pub dry_run: bool,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What is stored now; `None` after a delete.
    pub entry: Option<Entry>,
    /// What was stored before.
    pub previous: Option<Entry>,
    /// Of the datastore after this write.
    pub revision: Revision,
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A guard does not hold; what the key of the operation holds now.
    #[error("a guard does not hold: {0:?}")]
    Guard(Guard),
    /// A key to be deleted does not exist.
    #[error("the key does not exist")]
    Missing,
    /// Nobody knows more.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The datastore does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datastore does not answer: {0}")]
pub struct StorageError(pub String);

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// The change's.
    pub revision: Revision,
    /// `None`: deleted.
    pub value: Option<Bytes>,
}

/// Changes in order, and how far they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In the order of their revisions.
    pub events: Vec<Event>,
    /// Every change up to this one is contained or was given before; never below what was asked for.
    pub revision: Revision,
}

/// Why changes cannot be read from a revision on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
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
    /// It does not answer, or what it answers makes no sense.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Which history of changes a datastore holds. Another one begins when an operator says so: after a backup was
/// restored, say, when revisions that clients have seen stand for other changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Made with the datastore, and anew with each beginning.
    pub id: String,
    /// The histories in whose place this one stands: clients that hold a state of one of them may be led here.
    pub succeeds: Vec<String>,
}

impl History {
    /// One that stands in the place of others, and of those in whose place they stood; the newest first.
    pub fn after(id: String, others: impl IntoIterator<Item = String>) -> Self {
        let mut succeeds: Vec<String> = Vec::new();
        for other in others {
            if !succeeds.contains(&other) && succeeds.len() < SUCCEEDED {
                succeeds.push(other);
            }
        }
        History { id, succeeds }
    }
}

/// How many earlier histories are remembered.
const SUCCEEDED: usize = 16;

/// The changes that led to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Every change after this revision is contained.
    pub oldest: Revision,
    /// In the order of their revisions.
    pub events: Vec<Event>,
}
