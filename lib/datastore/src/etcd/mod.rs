//! etcd's answers in typha's words, or refused.
//!
//! | part | what it reads |
//! |---|---|
//! | [`Pages`] | the answers to a list, one document or many |
//! | [`Feed`] | a watch |
//! | [`RawPages`], [`RawFeed`] | the same of any keys, Calico's or not |
//! | [`transaction`] | the answer to a write |
//! | [`history`] | the document that says which history of changes this is |
//!
//! Whoever answers may be broken, or no etcd. An answer that cannot be true is an [`AnswerError`], never a smaller truth:
//! what is missing in a list would be deleted everywhere, and a revision too high would keep every client from what comes
//! after. What a document says is nobody's concern here. Keys that are none of Calico's are passed over.

mod feed;
pub mod history;
mod pages;
pub mod transaction;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use self::feed::{Change, Ended, Feed, RawFeed};
pub use self::pages::{Pages, RawPages, one};
use self::proto::{KeyValue, ResponseHeader};
use crate::{Entry, Revision, StorageError};

/// etcd's messages, generated.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Under which Calico's keys lie.
pub const ROOT: &str = "/calico/";
/// Under which typha keeps what is nobody else's concern.
const OWN: &str = "/calico/tortie/v1/";
/// Says which history of changes this is.
pub const HISTORY: &str = "/calico/tortie/v1/history";
/// Written to learn when everything before has arrived.
pub const MARK: &str = "/calico/tortie/v1/mark";

/// Why an answer of etcd's cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The head is missing, or its revision is not positive.
    #[error("it does not say of which revision it is")]
    NoRevision,
    /// An earlier answer was of a later revision, or a change is not after those before it.
    #[error("revision {found} follows {held}: revisions never go back")]
    Backwards {
        /// What was answered before.
        held: Revision,
        /// What is answered now.
        found: Revision,
    },
    /// A key's revisions are no revisions of the datastore.
    #[error(
        "'{key}' was created at {created} and changed at {changed}, the answer is of {at}: none may be after the next"
    )]
    Revisions {
        /// The key, as far as it is text.
        key: String,
        /// Its `create_revision`.
        created: i64,
        /// Its `mod_revision`.
        changed: i64,
        /// The answer's revision.
        at: Revision,
    },
    /// A key twice, or before one that it follows.
    #[error("'{key}' is out of order")]
    Order {
        /// The key, as far as it is text.
        key: String,
    },
    /// A key that nobody asked for.
    #[error("'{key}' was not asked for")]
    NotAsked {
        /// The key, as far as it is text.
        key: String,
    },
    /// There is more, it says, but gives nothing after which it could be asked for.
    #[error("there is more, it says, and gives none")]
    NoneOfMore,
    /// A change without a key, or that is neither a put nor a deletion.
    #[error("a change at {at} says {what}")]
    Change {
        /// The answer's revision.
        at: Revision,
        /// What it lacks.
        what: &'static str,
    },
    /// An answer for a watch that nobody asked for.
    #[error("watch {id} was not asked for")]
    NoWatch {
        /// As etcd numbers it.
        id: i64,
    },
    /// A write has an answer for each of its operations, of its kind.
    #[error("operation {number} of the write has no answer, or another one's")]
    Operation {
        /// Counted from 1.
        number: usize,
    },
    /// The document that says which history this is does not.
    #[error("what is stored as {HISTORY} is damaged: want {{\"id\": TEXT}}")]
    History,
}

impl From<AnswerError> for StorageError {
    fn from(e: AnswerError) -> Self {
        StorageError(format!("etcd: its answer makes no sense: {e}"))
    }
}

/// May typha's clients see this key?
pub fn visible(key: &str) -> bool {
    key.starts_with(ROOT) && !key.starts_with(OWN)
}

/// etcd's revisions are signed.
pub fn signed(n: Revision) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The first key after all that start with `prefix`, which is text and not empty.
pub fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // No octet of UTF-8 is 255.
        *last += 1;
    }
    end
}

/// Of which revision an answer is.
///
/// # Errors
/// [`AnswerError::NoRevision`].
pub fn at(header: Option<&ResponseHeader>) -> Result<Revision, AnswerError> {
    let revision = header.and_then(|h| Revision::try_from(h.revision).ok());
    revision.filter(|r| *r > 0).ok_or(AnswerError::NoRevision)
}

/// Can this key be in an answer of revision `at`?
fn possible(kv: &KeyValue, at: Revision) -> Result<(), AnswerError> {
    let revision = |n: i64| Revision::try_from(n).ok().filter(|r| *r > 0);
    match (revision(kv.create_revision), revision(kv.mod_revision)) {
        (Some(created), Some(changed)) if created <= changed && changed <= at => Ok(()),
        _ => Err(revisions(kv, at)),
    }
}

/// A document of Calico's, of what is [`possible`]; `None` for any other key.
fn entry(kv: KeyValue) -> Option<Entry> {
    Some(Entry {
        create_revision: Revision::try_from(kv.create_revision).ok()?,
        revision: Revision::try_from(kv.mod_revision).ok()?,
        key: text(kv.key)?,
        value: Bytes::from(kv.value),
    })
}

fn revisions(kv: &KeyValue, at: Revision) -> AnswerError {
    AnswerError::Revisions {
        key: shown(&kv.key),
        created: kv.create_revision,
        changed: kv.mod_revision,
        at,
    }
}

/// A key that typha's clients may see.
fn text(key: Vec<u8>) -> Option<String> {
    String::from_utf8(key).ok().filter(|key| visible(key))
}

/// A key for people.
fn shown(key: &[u8]) -> String {
    const LONGEST: usize = 200;
    String::from_utf8_lossy(key.get(..LONGEST).unwrap_or(key)).into_owned()
}
