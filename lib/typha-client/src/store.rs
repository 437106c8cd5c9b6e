//! Reads and writes through typha: of single keys, and of several at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tortie_kit::address::Target;
use tortie_kit::status::reason;
use tortie_proto::common::Hello;
use tortie_proto::store::store_client::StoreClient;
use tortie_proto::store::write_request::{Operation, Precondition};
use tortie_proto::store::{
    self, AcceptRequest, AcceptResponse, Delete, GetRequest, GetResponse, ListRequest, ListResponse, StatusRequest,
    StatusResponse, WriteManyRequest, WriteManyResponse, WriteRequest, WriteResponse,
};

use crate::links::{Failure, Links};

/// How long a call may take unless [`Store::with_timeout`] says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// The JSON document as it is stored, defaults applied.
    pub value: Bytes,
    /// The datastore revision of its last change.
    pub revision: u64,
    /// The datastore revision of its creation.
    pub create_revision: u64,
}

/// Every document under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by key.
    pub entries: Vec<Entry>,
    /// The datastore revision at which this list was true.
    pub revision: u64,
}

/// What a write did (or, as a dry run, would have done).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What is stored now; `None` after a delete.
    pub entry: Option<Entry>,
    /// What was there before.
    pub previous: Option<Entry>,
    /// The datastore revision after this write.
    pub revision: u64,
}

/// One of several writes that are done together.
#[derive(Debug, Clone, PartialEq)]
pub struct Write(WriteRequest);

impl Write {
    fn new(key: &str, operation: Operation, precondition: Option<Precondition>) -> Self {
        Write(WriteRequest {
            key: key.to_owned(),
            operation: Some(operation),
            precondition,
            ..WriteRequest::default()
        })
    }

    /// Stores a document under a key that must not exist.
    pub fn create(key: &str, json: impl Into<Vec<u8>>) -> Self {
        Write::new(key, Operation::Put(json.into()), Some(Precondition::Absent(true)))
    }

    /// Replaces a document whose last change is `revision`.
    pub fn update(key: &str, json: impl Into<Vec<u8>>, revision: u64) -> Self {
        Write::new(key, Operation::Put(json.into()), Some(Precondition::Revision(revision)))
    }

    /// Stores a document, whatever was there.
    pub fn put(key: &str, json: impl Into<Vec<u8>>) -> Self {
        Write::new(key, Operation::Put(json.into()), None)
    }

    /// Stores a document that says who is alive; see [`Store::put_for`].
    pub fn put_for(key: &str, json: impl Into<Vec<u8>>, ttl: Duration) -> Self {
        let mut write = Write::put(key, json);
        write.0.ttl_seconds = seconds(ttl);
        write
    }

    /// Deletes a document whose last change is `revision`.
    pub fn delete(key: &str, revision: u64) -> Self {
        Write::new(
            key,
            Operation::Delete(Delete {}),
            Some(Precondition::Revision(revision)),
        )
    }
}

/// What a typha serves, and how current it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Of which history of changes the state is.
    pub cluster_id: String,
    /// The datastore revision of the state that clients are sent.
    pub revision: u64,
    /// How many documents it has.
    pub documents: u64,
    /// Sync clients connected now.
    pub clients: u64,
    /// Why it may be old, and since when the datastore does not answer; `None` while it does.
    pub stale: Option<(String, Duration)>,
    /// typha's version.
    pub version: String,
}

/// Why a call of [`Store`] failed. Each carries a message fit for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The key to be created exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// The key's revision is not the expected one: read again.
    #[error("{0}")]
    Conflict(String),
    /// The document breaks a rule; names object, field, value and rule.
    #[error("{0}")]
    Invalid(String),
    /// typha or its datastore did not answer. After a write the outcome is unknown: read before writing again.
    #[error("{0}")]
    Unavailable(String),
    /// This client may not do that.
    #[error("{0}")]
    Denied(String),
    /// typha speaks another version of the protocol.
    #[error("{0}")]
    Incompatible(String),
}

/// typha's store. Cheap to clone; connects when used, and again after the connection was lost: there, or when that typha is
/// gone at another one that is configured or that it named.
#[derive(Debug, Clone)]
pub struct Store {
    links: Arc<Links>,
    hello: Hello,
    timeout: Duration,
    dry_run: bool,
}

impl Store {
    /// The store of the typha at this address. Must be called inside a tokio runtime.
    pub fn new(typha: impl Into<Target>, hello: Hello) -> Self {
        Store {
            links: Arc::new(Links::new(typha.into())),
            hello,
            timeout: DEFAULT_TIMEOUT,
            dry_run: false,
        }
    }

    /// The same store with another limit for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Store {
            timeout,
            ..self.clone()
        }
    }

    /// The same store, whose writes are validated and compared but change nothing.
    #[must_use]
    pub fn dry_run(&self) -> Self {
        Store {
            dry_run: true,
            ..self.clone()
        }
    }

    /// One document.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or any that concerns the connection.
    pub async fn get(&self, key: &str) -> Result<Entry, StoreError> {
        let question = GetRequest {
            hello: self.hello(),
            key: key.to_owned(),
        };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.get(request).await });
        let answer = self.call(question, true, send).await?;
        self.warn(answer.stale);
        answer
            .entry
            .map(Entry::from)
            .ok_or_else(|| self.broken("a get without an entry"))
    }

    /// Every document whose key starts with `prefix`. A collection's prefix ends in `/`.
    ///
    /// # Errors
    /// Any that concerns the connection.
    pub async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.listing(prefix, false).await
    }

    /// The keys that start with `prefix`, sorted, without what is stored under them.
    ///
    /// # Errors
    /// Any that concerns the connection.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let listing = self.listing(prefix, true).await?;
        Ok(listing.entries.into_iter().map(|e| e.key).collect())
    }

    async fn listing(&self, prefix: &str, keys_only: bool) -> Result<Listing, StoreError> {
        let question = ListRequest {
            hello: self.hello(),
            prefix: prefix.to_owned(),
            keys_only,
        };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.list(request).await });
        let answer = self.call(question, true, send).await?;
        self.warn(answer.stale);
        Ok(Listing {
            entries: answer.entries.into_iter().map(Entry::from).collect(),
            revision: answer.revision,
        })
    }

    /// Stores a document under a key that must not exist.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn create(&self, key: &str, json: impl Into<Vec<u8>>) -> Result<Written, StoreError> {
        self.write(key, Operation::Put(json.into()), Some(Precondition::Absent(true)))
            .await
    }

    /// Replaces a document whose last change is `revision`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::NotFound`], [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn update(&self, key: &str, json: impl Into<Vec<u8>>, revision: u64) -> Result<Written, StoreError> {
        self.write(key, Operation::Put(json.into()), Some(Precondition::Revision(revision)))
            .await
    }

    /// Stores a document, whatever was there.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn put(&self, key: &str, json: impl Into<Vec<u8>>) -> Result<Written, StoreError> {
        self.write(key, Operation::Put(json.into()), None).await
    }

    /// Stores a document that says who is alive, whatever was there: the datastore removes it when `ttl` has passed and it
    /// was not written again. In whole seconds, up to a day; only such documents may be written so, and they only so.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn put_for(&self, key: &str, json: impl Into<Vec<u8>>, ttl: Duration) -> Result<Written, StoreError> {
        self.send(Write::put_for(key, json, ttl).0).await
    }

    /// Deletes a document; with a revision, only when its last change is that one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn delete(&self, key: &str, revision: Option<u64>) -> Result<Written, StoreError> {
        self.write(key, Operation::Delete(Delete {}), revision.map(Precondition::Revision))
            .await
    }

    /// Does several writes in one transaction of the datastore, all or none: at most 128, of different keys, together at
    /// most 1.25 MiB of documents. Gives their revisions, in order.
    ///
    /// # Errors
    /// As the first write that cannot be done would have it alone, or [`StoreError::Invalid`] when they do not go together.
    pub async fn write_many(&self, writes: impl IntoIterator<Item = Write>) -> Result<Vec<u64>, StoreError> {
        let writes: Vec<WriteRequest> = writes.into_iter().map(|w| w.0).collect();
        let count = writes.len();
        let question = WriteManyRequest {
            hello: self.hello(),
            writes,
            dry_run: self.dry_run,
        };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.write_many(request).await });
        let answer = self.call(question, self.dry_run, send).await?;
        if answer.revisions.len() == count {
            Ok(answer.revisions)
        } else {
            Err(self.broken("several writes with another number of revisions"))
        }
    }

    /// Stores a document as it is, or deletes it (`None`), without defaults and rules: for operators who move a
    /// datastore.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a deletion, [`StoreError::Invalid`], or any that concerns the connection.
    pub async fn restore(&self, key: &str, document: Option<Vec<u8>>) -> Result<Written, StoreError> {
        let operation = document.map_or(Operation::Delete(Delete {}), Operation::Put);
        self.send(WriteRequest {
            key: key.to_owned(),
            operation: Some(operation),
            verbatim: true,
            ..WriteRequest::default()
        })
        .await
    }

    /// Takes the datastore as it is, whatever typha read from it before, and leads every client there: after a backup
    /// was restored, say. Gives the identity of the history that begins, and its revision.
    ///
    /// # Errors
    /// [`StoreError::Denied`], or any that concerns the connection.
    pub async fn accept_history(&self) -> Result<(String, u64), StoreError> {
        let question = AcceptRequest { hello: self.hello() };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.accept(request).await });
        let answer = self.call(question, false, send).await?;
        Ok((answer.cluster_id, answer.revision))
    }

    /// What typha serves, and how current it is.
    ///
    /// # Errors
    /// Any that concerns the connection; [`StoreError::Incompatible`] when typha is too old to say.
    pub async fn status(&self) -> Result<ServerStatus, StoreError> {
        let question = StatusRequest { hello: self.hello() };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.status(request).await });
        let answer = self.call(question, true, send).await?;
        let stale = answer.stale.map(|s| (s.reason, Duration::from_secs(s.age_seconds)));
        Ok(ServerStatus {
            cluster_id: answer.cluster_id,
            revision: answer.revision,
            documents: answer.documents,
            clients: answer.clients,
            stale,
            version: answer.hello.map(|h| h.version).unwrap_or_default(),
        })
    }

    async fn write(
        &self,
        key: &str,
        operation: Operation,
        precondition: Option<Precondition>,
    ) -> Result<Written, StoreError> {
        self.send(WriteRequest {
            key: key.to_owned(),
            operation: Some(operation),
            precondition,
            ..WriteRequest::default()
        })
        .await
    }

    async fn send(&self, request: WriteRequest) -> Result<Written, StoreError> {
        let question = WriteRequest {
            hello: self.hello(),
            dry_run: self.dry_run,
            ..request
        };
        let send: Method<_, _> = |mut typha, request| Box::pin(async move { typha.write(request).await });
        let answer = self.call(question, self.dry_run, send).await?;
        let (entry, previous) = (answer.entry.map(Entry::from), answer.previous.map(Entry::from));
        Ok(Written {
            entry,
            previous,
            revision: answer.revision,
        })
    }

    /// An old answer is better than none, and whoever reads it should know.
    fn warn(&self, stale: Option<String>) {
        if let Some(reason) = stale {
            tracing::warn!(typha = %self.links.current().typha, reason, "the answer may be old");
        }
    }

    fn hello(&self) -> Option<Hello> {
        Some(self.hello.clone())
    }

    /// Asks typha, and the next one when that one is gone: a question that may be put twice, or that never reached it.
    async fn call<Q: Clone, A: Answer>(
        &self,
        question: Q,
        repeatable: bool,
        send: Method<Q, A>,
    ) -> Result<A, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let mut tries = self.links.count();
        loop {
            let link = self.links.current();
            let mut request = Request::new(question.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let status = match send(link.client.clone(), request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let wrong = |e| StoreError::Incompatible(format!("typha at {}: {e}", link.typha));
                    let hello = Hello::check(answer.hello()).map_err(wrong)?;
                    self.links.learn(&link, &hello.peers);
                    return Ok(answer);
                }
                Err(status) => status,
            };
            let failure = Failure::of(&status);
            if failure != Failure::Answered {
                self.links.failed(&link);
            }
            let again = failure == Failure::NotSent || failure == Failure::Unknown && repeatable;
            tries = tries.saturating_sub(1);
            if !again || tries == 0 || Instant::now() >= deadline {
                return Err(self.error(&link.typha, status));
            }
        }
    }

    fn broken(&self, what: &str) -> StoreError {
        StoreError::Unavailable(format!("typha at {} answered {what}", self.links.current().typha))
    }

    fn error(&self, typha: &Target, status: Status) -> StoreError {
        let told = |status: &Status| format!("typha at {typha}: {}", reason(status));
        let said = status.message().to_owned();
        match status.code() {
            Code::NotFound => StoreError::NotFound(said),
            Code::AlreadyExists => StoreError::AlreadyExists(said),
            Code::Aborted => StoreError::Conflict(said),
            // Out of range: the message is larger than the server takes.
            Code::InvalidArgument | Code::OutOfRange => StoreError::Invalid(said),
            Code::PermissionDenied | Code::Unauthenticated => StoreError::Denied(said),
            Code::FailedPrecondition => StoreError::Incompatible(said),
            Code::Unimplemented => StoreError::Incompatible(told(&status)),
            // tonic cancels the call by itself when the time set on the request is over.
            Code::Cancelled | Code::DeadlineExceeded => StoreError::Unavailable(format!(
                "typha at {typha}: no answer within {} ms",
                self.timeout.as_millis()
            )),
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::ResourceExhausted
            | Code::DataLoss
            | Code::Ok => StoreError::Unavailable(told(&status)),
        }
    }
}

/// A call of the service.
type Method<Q, A> =
    fn(StoreClient<Channel>, Request<Q>) -> Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

/// What every answer says first.
trait Answer {
    fn hello(&self) -> Option<&Hello>;
}

macro_rules! answers {
    ($($answer:ty),+) => {
        $(impl Answer for $answer {
            fn hello(&self) -> Option<&Hello> {
                self.hello.as_ref()
            }
        })+
    };
}
answers!(
    GetResponse,
    ListResponse,
    WriteResponse,
    WriteManyResponse,
    AcceptResponse,
    StatusResponse
);

/// Whole seconds, none lost.
fn seconds(ttl: Duration) -> u32 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

impl From<store::Entry> for Entry {
    fn from(e: store::Entry) -> Self {
        Entry {
            key: e.key,
            value: e.value.into(),
            revision: e.revision,
            create_revision: e.create_revision,
        }
    }
}
