//! Plans: decisions that read and write documents without doing so themselves.
//!
//! A [`Plan`] is stepped: each step takes the answer to the last [`Request`] and gives the next one, or the result. The
//! decisions are written as straight-line `async` functions over [`Ops`]; there is no executor, no thread and no timer,
//! and a plan that is dropped between two steps has stopped exactly there. So the production driver and the crash-schedule
//! explorer run the same code.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tortie_model::Key;
use tortie_model::ipam::{Affinity, Block, Handle, Lease};
use tortie_net::{NodeName, Prefix};

use crate::IpFamily;

/// A document that IPAM reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// An allocation block.
    Block(Box<Block>),
    /// A claim on a block.
    Affinity(Affinity),
    /// A handle.
    Handle(Handle),
    /// Who does what only one should do.
    Lease(Box<Lease>),
}

/// A document and the datastore revision of its last change.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// The document.
    pub value: T,
    /// Its revision.
    pub revision: u64,
}

/// A set of documents to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collection {
    /// A node's claims on blocks of one family.
    Affinities(NodeName, IpFamily),
    /// Every block of one family.
    Blocks(IpFamily),
}

impl Collection {
    /// What the keys of the collection begin with, and no other key does.
    pub fn prefix(&self) -> String {
        match self {
            Collection::Affinities(node, family) => {
                format!("{}{}/block/", Key::affinities_of(node), family.name())
            }
            Collection::Blocks(family) => format!("{}{}/block/", tortie_model::key::BLOCKS, family.name()),
        }
    }
}

/// As many documents may be changed together.
pub(crate) const TOGETHER: usize = 128;

/// A change of one document, always compared with what was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The key must not exist.
    Create(Document),
    /// The document must still have this revision.
    Update(Document, u64),
    /// The document must still have this revision.
    Delete(u64),
}

/// What a plan asks of its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Read one document: answered by [`Response::Found`].
    Get(Key),
    /// Read a collection: answered by [`Response::Listed`].
    List(Collection),
    /// Which documents a collection has, also such as cannot be read: answered by [`Response::Keys`].
    Keys(Collection),
    /// Change one document: answered by [`Response::Written`] or [`Response::Refused`].
    Write(Key, Change),
    /// Change several documents of different keys, all of them or none: answered by [`Response::WrittenAll`] or
    /// [`Response::Refused`]. At most 128.
    WriteAll(Vec<(Key, Change)>),
}

/// Why the store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreFailure {
    /// May a later try succeed? After a write that failed so, its outcome is unknown.
    pub retryable: bool,
    /// For a person.
    pub message: String,
}

/// The driver's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// The document, or `None` when the key does not exist.
    Found(Option<Stored<Document>>),
    /// The documents of the collection that could be read.
    Listed(Vec<(Key, Stored<Document>)>),
    /// The keys of the collection.
    Keys(Vec<Key>),
    /// The change was made; the document's revision is now this (after a deletion: any number).
    Written(u64),
    /// All changes were made; the documents' revisions are now these, in order.
    WrittenAll(Vec<u64>),
    /// Another change came first: nothing was written.
    Refused,
    /// The store did not answer.
    Failed(StoreFailure),
}

/// What to do next.
#[derive(Debug)]
pub enum Next<T> {
    /// Answer this request with the next step.
    Ask(Request),
    /// The plan has ended.
    Done(T),
}

/// One request on its way out, or one answer on its way in. It is shared between a plan and its own coroutine only, so
/// the lock is never contended; it is a lock because plans move between threads.
#[derive(Debug, Default)]
struct Mailbox {
    request: Option<Request>,
    response: Option<Response>,
}

/// The coroutine's end of the mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Ops {
    mailbox: Arc<Mutex<Mailbox>>,
}

fn open(mailbox: &Mutex<Mailbox>) -> MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ops {
    async fn call(&self, request: Request) -> Response {
        open(&self.mailbox).request = Some(request);
        std::future::poll_fn(|_| match open(&self.mailbox).response.take() {
            Some(response) => Poll::Ready(response),
            None => Poll::Pending,
        })
        .await
    }

    async fn get(&self, key: Key) -> Result<Option<Stored<Document>>, StoreFailure> {
        match self.call(Request::Get(key.clone())).await {
            Response::Found(found) => Ok(found),
            Response::Failed(failure) => Err(failure),
            Response::Listed(_)
            | Response::Keys(_)
            | Response::Written(_)
            | Response::WrittenAll(_)
            | Response::Refused => Err(unfitting(&key)),
        }
    }

    pub(crate) async fn block(&self, cidr: tortie_net::Prefix) -> Result<Option<Stored<Block>>, StoreFailure> {
        let key = Key::Block(cidr);
        match self.get(key.clone()).await? {
            None => Ok(None),
            Some(Stored {
                value: Document::Block(block),
                revision,
            }) => Ok(Some(Stored {
                value: *block,
                revision,
            })),
            Some(_) => Err(unfitting(&key)),
        }
    }

    pub(crate) async fn affinity(&self, key: &Key) -> Result<Option<Stored<Affinity>>, StoreFailure> {
        match self.get(key.clone()).await? {
            None => Ok(None),
            Some(Stored {
                value: Document::Affinity(value),
                revision,
            }) => Ok(Some(Stored { value, revision })),
            Some(_) => Err(unfitting(key)),
        }
    }

    pub(crate) async fn handle(&self, id: &str) -> Result<Option<Stored<Handle>>, StoreFailure> {
        let key = Key::Handle(id.to_owned());
        match self.get(key.clone()).await? {
            None => Ok(None),
            Some(Stored {
                value: Document::Handle(value),
                revision,
            }) => Ok(Some(Stored { value, revision })),
            Some(_) => Err(unfitting(&key)),
        }
    }

    pub(crate) async fn lease(&self, name: &str) -> Result<Option<Stored<Lease>>, StoreFailure> {
        let key = Key::Lease(name.to_owned());
        match self.get(key.clone()).await? {
            None => Ok(None),
            Some(Stored {
                value: Document::Lease(value),
                revision,
            }) => Ok(Some(Stored {
                value: *value,
                revision,
            })),
            Some(_) => Err(unfitting(&key)),
        }
    }

    pub(crate) async fn list(&self, of: Collection) -> Result<Vec<(Key, Stored<Document>)>, StoreFailure> {
        let prefix = of.prefix();
        match self.call(Request::List(of)).await {
            Response::Listed(found) => Ok(found),
            Response::Failed(failure) => Err(failure),
            Response::Found(_)
            | Response::Keys(_)
            | Response::Written(_)
            | Response::WrittenAll(_)
            | Response::Refused => Err(unfitting_list(&prefix)),
        }
    }

    /// Every block of a family that there is, also if it cannot be read.
    pub(crate) async fn blocks_there(&self, family: IpFamily) -> Result<BTreeSet<Prefix>, StoreFailure> {
        let of = Collection::Blocks(family);
        let prefix = of.prefix();
        let cidr = |key| match key {
            Key::Block(cidr) => Some(cidr),
            _ => None,
        };
        match self.call(Request::Keys(of)).await {
            Response::Keys(keys) => Ok(keys.into_iter().filter_map(cidr).collect()),
            Response::Failed(failure) => Err(failure),
            Response::Found(_)
            | Response::Listed(_)
            | Response::Written(_)
            | Response::WrittenAll(_)
            | Response::Refused => Err(unfitting_list(&prefix)),
        }
    }

    /// The new revision, or `None` when another change came first.
    pub(crate) async fn write(&self, key: Key, change: Change) -> Result<Option<u64>, StoreFailure> {
        match self.call(Request::Write(key.clone(), change)).await {
            Response::Written(revision) => Ok(Some(revision)),
            Response::Refused => Ok(None),
            Response::Failed(failure) => Err(failure),
            Response::Found(_) | Response::Listed(_) | Response::Keys(_) | Response::WrittenAll(_) => {
                Err(unfitting(&key))
            }
        }
    }

    /// The new revisions, in order, or `None` when another change of any of the documents came first and none was
    /// changed. At most [`TOGETHER`].
    pub(crate) async fn write_all(&self, changes: Vec<(Key, Change)>) -> Result<Option<Vec<u64>>, StoreFailure> {
        let Some((first, _)) = changes.first() else {
            return Ok(Some(Vec::new()));
        };
        let (first, count) = (first.clone(), changes.len());
        match self.call(Request::WriteAll(changes)).await {
            Response::WrittenAll(revisions) if revisions.len() == count => Ok(Some(revisions)),
            Response::Refused => Ok(None),
            Response::Failed(failure) => Err(failure),
            Response::Found(_)
            | Response::Listed(_)
            | Response::Keys(_)
            | Response::Written(_)
            | Response::WrittenAll(_) => Err(unfitting(&first)),
        }
    }
}

fn unfitting(key: &Key) -> StoreFailure {
    StoreFailure {
        retryable: false,
        message: format!("{}: the answer does not fit", key.object_name()),
    }
}

fn unfitting_list(prefix: &str) -> StoreFailure {
    StoreFailure {
        retryable: false,
        message: format!("list of {prefix}: the answer does not fit"),
    }
}

/// A decision in progress.
pub struct Plan<T> {
    mailbox: Arc<Mutex<Mailbox>>,
    coroutine: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> std::fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

impl<T> Plan<T> {
    pub(crate) fn new<F, Fut>(decide: F) -> Self
    where
        F: FnOnce(Ops) -> Fut,
        Fut: Future<Output = T> + Send + 'static,
    {
        let mailbox = Arc::new(Mutex::new(Mailbox::default()));
        let coroutine = Box::pin(decide(Ops {
            mailbox: Arc::clone(&mailbox),
        }));
        Plan { mailbox, coroutine }
    }

    /// Goes on with the answer to the last request; the first step has none.
    ///
    /// # Panics
    /// When called again after [`Next::Done`], or without an answer when one is due: a fault of the driver.
    pub fn step(&mut self, answer: Option<Response>) -> Next<T> {
        open(&self.mailbox).response = answer;
        match self.coroutine.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Next::Done(result),
            Poll::Pending => {
                let request = open(&self.mailbox).request.take();
                Next::Ask(request.expect("invariant: every step after the first brings an answer"))
            }
        }
    }
}
