//! A write, or several in one transaction: precondition, admission, commit; and again from the start when something moved
//! meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Map, Value};
use tonic::Status;
use tortie_model::{Key, Kind, Refused, admit, admit_delete};
use tortie_proto::store::{WriteRequest, write_request};

use super::many;
use super::view::Seen;
use crate::access::{Denied, Subject, Write};
use crate::datastore::{Backend, CommitError, Committed, Entry, Guard, Operation, Revision, StorageError, Transaction};
use crate::metrics::Outcome;

/// The longest key.
pub(super) const MAX_KEY: usize = 1024;
/// The largest document: far above any of Calico's, below what one message may carry.
pub(super) const MAX_VALUE: usize = 1 << 20;
/// The longest time to live: a day.
const MAX_TTL: u32 = 86_400;
/// How often a write begins anew because something it depends on moved. Each time some other write has succeeded.
const ATTEMPTS: usize = 32;

/// What must be true of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precondition {
    None,
    Absent,
    At(Revision),
}

/// A write as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: Key,
    /// `None` deletes.
    pub(crate) document: Option<Document>,
    pub(crate) precondition: Precondition,
    pub(crate) dry_run: bool,
    /// After which time the document is removed unless it is written again.
    pub(crate) ttl: Option<Duration>,
    /// Who asks.
    pub(crate) subject: Subject,
}

/// A document as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(super) sent: Bytes,
    parsed: Value,
}

/// Why a write did not happen. The texts are those that Calico's users and scripts know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{0}")]
    Invalid(String),
    #[error("connection is unauthorized: {0}")]
    Denied(String),
    #[error("resource does not exist: {0}")]
    NotFound(String),
    #[error("resource already exists: {0}")]
    AlreadyExists(String),
    #[error("update conflict: {name}: its revision is {held}, not {expected}")]
    Conflict {
        name: String,
        held: Revision,
        expected: Revision,
    },
    #[error("update conflict: {0}: changed by others {ATTEMPTS} times while it was being written")]
    Busy(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl WriteError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            WriteError::Invalid(_) => Outcome::Invalid,
            WriteError::Denied(_) => Outcome::Denied,
            WriteError::NotFound(_) | WriteError::AlreadyExists(_) => Outcome::Conflict,
            WriteError::Conflict { .. } | WriteError::Busy(_) => Outcome::Conflict,
            WriteError::Storage(_) => Outcome::Failed,
        }
    }
}

impl From<Refused> for WriteError {
    fn from(e: Refused) -> Self {
        WriteError::Invalid(e.to_string())
    }
}

impl From<Denied> for WriteError {
    fn from(e: Denied) -> Self {
        WriteError::Denied(e.to_string())
    }
}

impl From<WriteError> for Status {
    fn from(e: WriteError) -> Self {
        let text = e.to_string();
        match e {
            WriteError::Invalid(_) => Status::invalid_argument(text),
            WriteError::Denied(_) => Status::permission_denied(text),
            WriteError::NotFound(_) => Status::not_found(text),
            WriteError::AlreadyExists(_) => Status::already_exists(text),
            WriteError::Conflict { .. } | WriteError::Busy(_) => Status::aborted(text),
            WriteError::Storage(_) => Status::unavailable(text),
        }
    }
}

/// How messages name what a key holds: `IPPool(default)`, or the key itself when it is none of ours.
pub(crate) fn name(key: &str) -> String {
    key.parse::<Key>()
        .map_or_else(|_| key.to_owned(), |key| key.object_name())
}

impl Change {
    /// What somebody asks for.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] for what cannot be asked for.
    pub(crate) fn of(request: WriteRequest, subject: Subject) -> Result<Self, WriteError> {
        let invalid = |text: String| WriteError::Invalid(text);
        if request.key.len() > MAX_KEY {
            return Err(invalid(format!(
                "key has {} octets, at most {MAX_KEY} are allowed",
                request.key.len()
            )));
        }
        if let Some(bad) = request.key.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid(format!(
                "key {:?} contains {bad:?}: white space is not allowed",
                request.key
            )));
        }
        let key: Key = request
            .key
            .parse()
            .map_err(|e: tortie_model::key::BadKey| invalid(e.to_string()))?;
        let ttl = ttl(&key, &request)?;
        let document = match request.operation {
            Some(write_request::Operation::Put(sent)) => Some(Document::parse(&key, sent.into())?),
            Some(write_request::Operation::Delete(_)) => None,
            None => return Err(invalid(format!("{}: neither put nor delete", key.object_name()))),
        };
        let precondition = match request.precondition {
            None | Some(write_request::Precondition::Absent(false)) => Precondition::None,
            Some(write_request::Precondition::Absent(true)) if document.is_none() => {
                return Err(invalid(format!(
                    "{}: what is absent cannot be deleted",
                    key.object_name()
                )));
            }
            Some(write_request::Precondition::Absent(true)) => Precondition::Absent,
            Some(write_request::Precondition::Revision(revision)) => Precondition::At(revision),
        };
        let mut change = Change {
            key,
            document,
            precondition,
            dry_run: request.dry_run,
            ttl,
            subject,
        };
        change.adopt_resource_version()?;
        Ok(change)
    }
}

/// How long a document lives that says who is alive; no other goes away by itself, and no such stays.
fn ttl(key: &Key, request: &WriteRequest) -> Result<Option<Duration>, WriteError> {
    let is_put = matches!(request.operation, Some(write_request::Operation::Put(_)));
    let expires = is_put && matches!(key, Key::Report(report) if report.expires());
    let seconds = request.ttl_seconds;
    let rule = match (expires, seconds) {
        (true, 1..=MAX_TTL) => return Ok(Some(Duration::from_secs(seconds.into()))),
        (false, 0) => return Ok(None),
        (true, _) => "what says who is alive goes away by itself: want 1 to 86400",
        (false, _) => "only a document that says who is alive goes away by itself",
    };
    let name = key.object_name();
    let text = format!("{name}: error with field ttl_seconds = '{seconds}' ({rule})");
    Err(WriteError::Invalid(text))
}

impl Document {
    fn parse(key: &Key, sent: Bytes) -> Result<Self, WriteError> {
        let name = key.object_name();
        if sent.len() > MAX_VALUE {
            let n = sent.len();
            return Err(WriteError::Invalid(format!(
                "{name}: document has {n} octets, at most {MAX_VALUE} are allowed"
            )));
        }
        match serde_json::from_slice(&sent) {
            Ok(parsed) => Ok(Document { sent, parsed }),
            Err(e) => Err(WriteError::Invalid(format!("{name}: document is not JSON: {e}"))),
        }
    }
}

impl Change {
    /// typha's own write of a document.
    pub(crate) fn put(key: Key, document: &Value, precondition: Precondition) -> Self {
        let document = Document {
            sent: to_bytes(document),
            parsed: document.clone(),
        };
        Change {
            key,
            document: Some(document),
            precondition,
            dry_run: false,
            ttl: None,
            subject: Subject::Admin,
        }
    }

    /// A version in the document itself is a precondition too, as everywhere in Calico: a document read, edited and
    /// written back replaces only what was read.
    fn adopt_resource_version(&mut self) -> Result<(), WriteError> {
        let metadata = self.document.as_ref().and_then(|d| d.parsed.get("metadata"));
        let Some(version) = metadata.and_then(|m| m.get("resourceVersion")).filter(|v| !v.is_null()) else {
            return Ok(());
        };
        let text = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
        let name = self.key.object_name();
        let invalid = |rule| {
            let text = format!("{name}: error with field metadata.resourceVersion = '{text}' ({rule})");
            Err(WriteError::Invalid(text))
        };
        if text.is_empty() {
            return Ok(());
        }
        let Ok(revision) = text.parse() else {
            return invalid("want the number this datastore gave");
        };
        match self.precondition {
            Precondition::None => self.precondition = Precondition::At(revision),
            Precondition::Absent => return invalid("must be empty on create"),
            Precondition::At(expected) if expected != revision => {
                return invalid("differs from the revision this update expects");
            }
            Precondition::At(_) => {}
        }
        Ok(())
    }

    fn operation(&self, value: Option<Bytes>) -> Operation {
        let key = self.key.to_string();
        match value {
            Some(value) => Operation::Put {
                key,
                value,
                ttl: self.ttl,
            },
            None => Operation::Delete { key },
        }
    }
}

/// Writes to a datastore.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    backend: Arc<dyn Backend>,
    /// Transactions asked of the datastore, whatever became of them.
    transactions: Counter,
}

impl Writer {
    pub(crate) fn new(backend: Arc<dyn Backend>, transactions: Counter) -> Self {
        Writer { backend, transactions }
    }

    /// One transaction.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Vec<Committed>, CommitError> {
        self.transactions.inc();
        self.backend.commit(transaction).await
    }

    /// Does one write.
    pub(crate) async fn write(&self, change: &Change) -> Result<Committed, WriteError> {
        Ok(only(
            self.write_all(std::slice::from_ref(change), change.dry_run).await?,
        ))
    }

    /// Does several writes in one transaction, or none of them: [`super::many`] says which go together. Gives what each
    /// did, in order.
    pub(super) async fn write_all(&self, changes: &[Change], dry_run: bool) -> Result<Vec<Committed>, WriteError> {
        let identities: Vec<Identity> = changes.iter().map(|_| Identity::new()).collect();
        for _ in 0..ATTEMPTS {
            let prepared = changes.iter().zip(&identities).map(|(c, i)| self.prepare(c, i));
            let prepared = futures::future::try_join_all(prepared).await?;
            let transaction = many::transaction(changes, prepared, dry_run)?;
            match self.commit(transaction).await {
                Ok(committed) => return Ok(committed),
                // Something moved: the reads above decide anew, and give the right error if there is one.
                Err(CommitError::Guard(guard)) => tracing::debug!(?guard, "write begins anew"),
                Err(CommitError::Missing) => tracing::debug!("write begins anew, what it deletes is gone"),
                Err(CommitError::Storage(e)) => return Err(e.into()),
            }
        }
        let first = changes.first().map_or_else(String::new, |c| c.key.object_name());
        Err(WriteError::Busy(first))
    }

    /// Is a write allowed, true and right as things are now? Then what it does, and what must not move until it does.
    async fn prepare(&self, change: &Change, identity: &Identity) -> Result<Prepared, WriteError> {
        let key = change.key.to_string();
        let old = self.backend.get(&key).await?;
        let absent = self.permit(change, old.as_ref()).await?;
        check(change, old.as_ref())?;
        let (value, seen) = self.admit(change, old.as_ref(), identity).await?;
        // Admission depended on what was there: only that may be replaced.
        let own = old.map_or(Guard::Absent(key.clone()), |old| Guard::At(key, old.revision));
        Ok(Prepared {
            operation: change.operation(value),
            own,
            absent,
            seen,
        })
    }

    /// May whoever asks write this, in the place of what is there? Gives what that depended on: the absence of nodes
    /// whose remains anybody may remove.
    async fn permit(&self, change: &Change, old: Option<&Entry>) -> Result<Vec<Guard>, WriteError> {
        // What is no JSON says of nobody that it is his.
        let old: Option<Value> = old.map(|old| serde_json::from_slice(&old.value).unwrap_or_default());
        let write = Write {
            key: &change.key,
            new: change.document.as_ref().map(|d| &d.parsed),
            old: old.as_ref(),
        };
        let Err(denied) = change.subject.may_write(&write, &BTreeSet::new()) else {
            return Ok(Vec::new());
        };
        let (mut gone, mut guards) = (BTreeSet::new(), Vec::new());
        for node in change.subject.others(&write) {
            let key = Key::resource(Kind::Node, None, &node).to_string();
            if self.backend.get(&key).await?.is_none() {
                gone.insert(node);
                guards.push(Guard::Absent(key));
            }
        }
        if gone.is_empty() {
            return Err(denied.into());
        }
        change.subject.may_write(&write, &gone)?;
        Ok(guards)
    }

    /// What to store, and what that decision depended on.
    async fn admit(
        &self,
        change: &Change,
        old: Option<&Entry>,
        identity: &Identity,
    ) -> Result<(Option<Bytes>, Seen), WriteError> {
        let mut seen = Seen::default();
        let Some(document) = &change.document else {
            admit_delete(&change.key)?;
            return Ok((None, seen));
        };
        let mut new = document.parsed.clone();
        let old = match old {
            // An old document that is no JSON does not stand in the way of a good new one.
            Some(old) => serde_json::from_slice(&old.value).ok(),
            None => {
                identity.give(&change.key, &mut new);
                None
            }
        };
        loop {
            let admitted = admit(&change.key, new.clone(), old.as_ref(), &seen);
            if seen.load(&*self.backend).await? {
                continue;
            }
            let admitted = admitted?;
            // What admission did not change is stored octet for octet.
            let value = if admitted == document.parsed {
                document.sent.clone()
            } else {
                to_bytes(&admitted)
            };
            return Ok((Some(value), seen));
        }
    }
}

/// A write that may be done as things are.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) operation: Operation,
    /// That the key itself is as it was read.
    pub(super) own: Guard,
    /// That the nodes whose remains it touches still do not exist.
    pub(super) absent: Vec<Guard>,
    pub(super) seen: Seen,
}

/// What the only operation of a transaction did.
pub(super) fn only(mut committed: Vec<Committed>) -> Committed {
    committed
        .pop()
        .expect("invariant: a datastore answers for every operation")
}

fn to_bytes(value: &Value) -> Bytes {
    // `Display` of a JSON value cannot fail: its keys are text and its numbers finite.
    value.to_string().into()
}

/// The precondition against what is there.
fn check(change: &Change, old: Option<&Entry>) -> Result<(), WriteError> {
    let name = || change.key.object_name();
    match (change.precondition, old) {
        (Precondition::Absent, Some(_)) => Err(WriteError::AlreadyExists(name())),
        (Precondition::At(_), None) => Err(WriteError::NotFound(name())),
        (Precondition::At(expected), Some(old)) if old.revision != expected => Err(WriteError::Conflict {
            name: name(),
            held: old.revision,
            expected,
        }),
        (Precondition::None, None) if change.document.is_none() => Err(WriteError::NotFound(name())),
        _ => Ok(()),
    }
}

/// What an object gets at its creation. Made once per write, so that beginning anew changes nothing.
struct Identity {
    uid: String,
    created: String,
}

impl Identity {
    fn new() -> Self {
        Identity {
            uid: uuid::Uuid::new_v4().to_string(),
            created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }

    /// Resources have an identity; IPAM documents have none.
    fn give(&self, key: &Key, document: &mut Value) {
        let (Some(_), Value::Object(fields)) = (key.kind(), document) else {
            return;
        };
        let metadata = fields.entry("metadata").or_insert(Value::Null);
        if metadata.is_null() {
            *metadata = Value::Object(Map::new());
        }
        if let Value::Object(metadata) = metadata {
            metadata.insert("uid".to_owned(), Value::from(self.uid.as_str()));
            metadata.insert("creationTimestamp".to_owned(), Value::from(self.created.as_str()));
        }
    }
}
