//! etcd as the datastore: Calico's keys and documents, as Calico's own programs read and write them.
//!
//! | part | what it is |
//! |---|---|
//! | this | what is asked for what |
//! | [`watch`] | the changes in order |
//!
//! Which member is asked, as whom, and what a failure means is `tortie_etcd`'s; what the answers mean is decided in
//! `tortie_datastore::etcd`. Only keys under `/calico/` are seen. Documents are bytes
//! here: whatever a document says that typha does not know stays as it is.

mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use tortie_datastore::etcd::proto::request_op::Request as Op;
use tortie_datastore::etcd::proto::{PutRequest, RangeRequest, TxnRequest};
use tortie_datastore::etcd::transaction::{self, compare, op};
use tortie_datastore::etcd::{HISTORY, Pages, history as histories, one, signed, visible};

use tortie_etcd::{CallError, Client, EtcdArgs, EtcdConfigError};

use self::watch::Watcher;
use super::{
    Backend, Changes, CommitError, Committed, Entry, Event, Guard, History, Listing, Operation, Past, Revision,
    StorageError, Transaction, WatchError, begun,
};

/// How often a list begins anew because its revision was compacted between two pages.
const LISTINGS: usize = 3;

/// An etcd cluster.
#[derive(Debug)]
pub(crate) struct Etcd {
    client: Client,
    watcher: Watcher,
}

impl Etcd {
    /// Must be called inside a tokio runtime; connects when first used.
    ///
    /// # Errors
    /// [`EtcdConfigError`]: a file or an endpoint that cannot be used.
    pub(crate) fn new(args: &EtcdArgs) -> Result<Self, EtcdConfigError> {
        let client = Client::new(args)?;
        let watcher = Watcher::new(client.clone());
        Ok(Etcd { client, watcher })
    }
}

impl Backend for Etcd {
    fn history(&self) -> BoxFuture<'static, Result<History, StorageError>> {
        let client = self.client.clone();
        Box::pin(async move {
            if let Some((history, _)) = history(&client).await? {
                return Ok(history);
            }
            write_history(&client, &begun([]), &Guard::Absent(HISTORY.to_owned())).await
        })
    }

    fn begin_history(&self, others: Vec<String>) -> BoxFuture<'static, Result<History, StorageError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let (guard, old) = match history(&client).await? {
                None => (Guard::Absent(HISTORY.to_owned()), None),
                Some((old, at)) => (Guard::At(HISTORY.to_owned(), at), Some(old)),
            };
            let (id, succeeds) = old.map_or((None, Vec::new()), |old| (Some(old.id), old.succeeds));
            let new = begun(id.into_iter().chain(others).chain(succeeds));
            write_history(&client, &new, &guard).await
        })
    }

    fn happened(&self, event: Event) -> BoxFuture<'static, Result<Option<bool>, StorageError>> {
        let client = self.client.clone();
        Box::pin(async move {
            let question = RangeRequest {
                key: event.key.clone().into(),
                revision: signed(event.revision),
                ..RangeRequest::default()
            };
            let held = match client.range(question).await {
                Ok(answer) => one(&event.key, answer).map_err(StorageError::from)?,
                Err(CallError::Compacted) => return Ok(None),
                Err(CallError::Future) => return Ok(Some(false)),
                Err(CallError::Storage(e)) => return Err(e),
            };
            Ok(Some(match (held, event.value) {
                (Some(held), Some(value)) => held.revision == event.revision && held.value == value,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }))
        })
    }

    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<Entry>, StorageError>> {
        let (client, key) = (self.client.clone(), key.to_owned());
        Box::pin(async move {
            if !visible(&key) {
                return Ok(None);
            }
            let question = RangeRequest {
                key: key.as_str().into(),
                ..RangeRequest::default()
            };
            Ok(one(&key, client.range(question).await?)?)
        })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'static, Result<Listing, StorageError>> {
        let (client, prefix) = (self.client.clone(), prefix.to_owned());
        Box::pin(async move {
            for _ in 1..LISTINGS {
                match list(&client, &prefix).await {
                    Err(CallError::Compacted) => {}
                    other => return Ok(other?),
                }
            }
            Ok(list(&client, &prefix).await?)
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'static, Result<Vec<Committed>, CommitError>> {
        let client = self.client.clone();
        Box::pin(async move { commit(&client, &transaction).await })
    }

    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'static, Result<Changes, WatchError>> {
        Box::pin(self.watcher.changes(after, limit))
    }

    fn past(&self, to: Revision, limit: usize) -> BoxFuture<'static, Result<Past, StorageError>> {
        let client = self.client.clone();
        let from = to.saturating_sub(Revision::try_from(limit).unwrap_or(Revision::MAX));
        Box::pin(async move {
            let none = Past {
                oldest: to,
                events: Vec::new(),
            };
            // Without it clients that would resume take a snapshot: no reason not to begin.
            Ok(watch::past(&client, from, to).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the past is not read, clients that were away take a snapshot");
                none
            }))
        })
    }
}

/// The history that is there, if there is one, and the revision at which that was said.
async fn history(client: &Client) -> Result<Option<(History, Revision)>, StorageError> {
    let question = RangeRequest {
        key: HISTORY.into(),
        ..RangeRequest::default()
    };
    Ok(histories::read(&client.range(question).await?)?)
}

/// Says which history this is, unless another typha was faster: then what it said counts.
async fn write_history(client: &Client, said: &History, guard: &Guard) -> Result<History, StorageError> {
    let put = PutRequest {
        key: HISTORY.into(),
        value: histories::document(said),
        ..PutRequest::default()
    };
    let question = TxnRequest {
        compare: vec![compare(guard)],
        success: vec![op(Op::RequestPut(put))],
    };
    client.txn(question, false).await?;
    let made = history(client).await?;
    let gone = || StorageError(format!("etcd: {HISTORY} was written and is not there"));
    Ok(made.ok_or_else(gone)?.0)
}

/// Everything under a prefix, page by page, all of one revision.
async fn list(client: &Client, prefix: &str) -> Result<Listing, CallError> {
    let mut pages = Pages::new(prefix);
    let odd = |e| CallError::Storage(StorageError::from(e));
    while let Some(question) = pages.question() {
        pages.take(client.range(question).await?).map_err(odd)?;
    }
    pages.listing().map_err(odd)
}

async fn commit(client: &Client, transaction: &Transaction) -> Result<Vec<Committed>, CommitError> {
    let keys = transaction.operations.iter().map(Operation::key);
    if let Some(key) = keys.into_iter().find(|key| !visible(key)) {
        return Err(StorageError(format!("etcd: '{key}' is no key of Calico's")).into());
    }
    let leases = leases(client, transaction).await?;
    let question = transaction::question(transaction, &leases);
    let answer = client.txn(question, transaction.dry_run).await;
    transaction::committed(transaction, answer.map_err(StorageError::from)?)
}

/// A new lease for each time to live, as Calico has it: what a document is written with anew no longer goes with the old one.
async fn leases(client: &Client, transaction: &Transaction) -> Result<BTreeMap<Duration, i64>, StorageError> {
    let mut leases = BTreeMap::new();
    for operation in &transaction.operations {
        if let Operation::Put { ttl: Some(ttl), .. } = operation
            && !transaction.dry_run
            && !leases.contains_key(ttl)
        {
            leases.insert(*ttl, client.lease(signed(ttl.as_secs())).await?);
        }
    }
    Ok(leases)
}
