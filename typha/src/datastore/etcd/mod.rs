//! etcd as the datastore: Calico's keys and documents, as Calico's own programs read and write them.
//!
//! | part | what it is |
//! |---|---|
//! | this | the translation: transactions, lists, guards |
//! | [`config`] | endpoints, certificates, user |
//! | [`client`] | which member is asked, as whom, and what a failure means |
//! | [`watch`] | the changes in order |
//!
//! Only keys under [`ROOT`] are seen. Documents are bytes here: whatever a document says that typha does not know stays
//! as it is. Every write is one etcd transaction whose comparisons are the write's guards, so a plain etcd client and
//! typha cannot overwrite each other unseen.

mod client;
pub(crate) mod config;
mod watch;

#[allow(missing_docs, clippy::all, unreachable_pub)]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::client::{CallError, Client};
use self::config::{EtcdArgs, EtcdConfigError};
use self::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use self::proto::request_op::Request as Op;
use self::proto::response_op::Response as Done;
use self::proto::{Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest};
use self::watch::Watcher;
use super::{
    Backend, Changes, CommitError, Committed, Entry, Event, Guard, History, Listing, Operation, Past, Revision,
    StorageError, Transaction, WatchError,
};

/// Under which Calico's keys lie.
pub(crate) const ROOT: &str = "/calico/";
/// Under which typha keeps what is nobody else's concern.
const OWN: &str = "/calico/tortie/v1/";
/// Says which history of changes this is.
const HISTORY: &str = "/calico/tortie/v1/history";
/// Written to learn when everything before has arrived.
const MARK: &str = "/calico/tortie/v1/mark";
/// Documents read at once.
const PAGE: i64 = 2000;
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
            write_history(&client, &History::after([]), &Guard::Absent(HISTORY.to_owned())).await
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
            let begun = History::after(id.into_iter().chain(others).chain(succeeds));
            write_history(&client, &begun, &guard).await
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
                Ok(answer) => answer.kvs.into_iter().find_map(entry),
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
                key: key.into(),
                ..RangeRequest::default()
            };
            let answer = client.range(question).await?;
            Ok(answer.kvs.into_iter().find_map(entry))
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
    let answer = client.range(question).await?;
    let Some(kv) = answer.kvs.first() else { return Ok(None) };
    let document: Option<Value> = serde_json::from_slice(&kv.value).ok();
    let id = document.as_ref().and_then(|d| d.get("id")?.as_str());
    let id = id.filter(|id| !id.is_empty());
    let bad = || {
        StorageError(format!(
            "etcd: what is stored as {HISTORY} is damaged: want {{\"id\": TEXT}}"
        ))
    };
    let id = id.ok_or_else(bad)?.to_owned();
    let succeeds = document.as_ref().and_then(|d| d.get("succeeds")?.as_array());
    let succeeds = succeeds.into_iter().flatten();
    let succeeds = succeeds.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Some((History { id, succeeds }, revision(kv.mod_revision))))
}

/// Says which history this is, unless another typha was faster: then what it said counts.
async fn write_history(client: &Client, said: &History, guard: &Guard) -> Result<History, StorageError> {
    let put = PutRequest {
        key: HISTORY.into(),
        value: json!({ "id": said.id, "succeeds": said.succeeds }).to_string().into(),
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
    let inside = prefix.starts_with(ROOT);
    // Calico's keys are seen, nothing else; what lies elsewhere is asked for only to learn the revision.
    let from = if inside { prefix } else { ROOT };
    let wanted = inside || ROOT.starts_with(prefix);
    let mut question = RangeRequest {
        key: from.into(),
        range_end: prefix_end(from),
        limit: if wanted { PAGE } else { 1 },
        revision: 0,
    };
    let mut entries = Vec::new();
    loop {
        let answer = client.range(question.clone()).await?;
        if question.revision == 0 {
            question.revision = answer.header.as_ref().map_or(0, |h| h.revision);
        }
        let last = answer.kvs.last().map(|kv| kv.key.clone());
        if wanted {
            entries.extend(answer.kvs.into_iter().filter_map(entry));
        }
        match last {
            Some(mut last) if answer.more && wanted => {
                last.push(0);
                question.key = last;
            }
            _ => break,
        }
    }
    Ok(Listing {
        entries,
        revision: revision(question.revision),
    })
}

async fn commit(client: &Client, transaction: &Transaction) -> Result<Vec<Committed>, CommitError> {
    let keys = transaction.operations.iter().map(Operation::key);
    if let Some(key) = keys.into_iter().find(|key| !visible(key)) {
        return Err(StorageError(format!("etcd: '{key}' is no key of Calico's")).into());
    }
    let leases = leases(client, transaction).await?;
    let operations = transaction.operations.iter();
    let question = TxnRequest {
        compare: transaction.guards.iter().map(compare).collect(),
        success: operations
            .map(|o| op(request(o, &leases, transaction.dry_run)))
            .collect(),
    };
    let answer = client
        .txn(question, transaction.dry_run)
        .await
        .map_err(StorageError::from)?;
    if !answer.succeeded {
        // etcd does not say which; the first is what the write is about.
        let guard = transaction.guards.first().cloned();
        return Err(guard.map_or(CommitError::Missing, CommitError::Guard));
    }
    let now = answer.header.as_ref().map_or(0, |h| revision(h.revision));
    // One answer for each operation; were one missing, there was nothing before.
    let mut answers = answer.responses.into_iter().map(previous);
    let at = if transaction.dry_run { now + 1 } else { now };
    let operations = transaction.operations.iter();
    operations
        .map(|operation| committed(operation, answers.next().flatten(), (now, at)))
        .collect()
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

/// What etcd is asked to do for an operation.
fn request(operation: &Operation, leases: &BTreeMap<Duration, i64>, dry_run: bool) -> Op {
    match operation {
        _ if dry_run => Op::RequestRange(RangeRequest {
            key: operation.key().into(),
            ..RangeRequest::default()
        }),
        Operation::Put { key, value, ttl } => Op::RequestPut(PutRequest {
            key: key.as_str().into(),
            value: value.to_vec(),
            lease: ttl.and_then(|ttl| leases.get(&ttl).copied()).unwrap_or_default(),
            prev_kv: true,
        }),
        Operation::Delete { key } => Op::RequestDeleteRange(DeleteRangeRequest {
            key: key.as_str().into(),
            prev_kv: true,
        }),
    }
}

/// What an operation did: etcd's revision `now`, and the one `at` which the document is (or would be) stored.
fn committed(
    operation: &Operation,
    previous: Option<Entry>,
    (now, at): (Revision, Revision),
) -> Result<Committed, CommitError> {
    let entry = match operation {
        Operation::Delete { .. } if previous.is_none() => return Err(CommitError::Missing),
        Operation::Delete { .. } => None,
        Operation::Put { key, value, .. } => Some(Entry {
            key: key.clone(),
            value: value.clone(),
            revision: at,
            create_revision: previous.as_ref().map_or(at, |p| p.create_revision),
        }),
    };
    Ok(Committed {
        entry,
        previous,
        revision: now,
    })
}

/// What was under the key before an operation.
fn previous(response: ResponseOp) -> Option<Entry> {
    match response.response? {
        Done::ResponseRange(r) => r.kvs.into_iter().find_map(entry),
        Done::ResponsePut(p) => p.prev_kv.and_then(entry),
        Done::ResponseDeleteRange(d) => d.prev_kvs.into_iter().find_map(entry),
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(guard: &Guard) -> Compare {
    let on = |key: &str, target: CompareTarget, result: CompareResult, value: TargetUnion| Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(value),
        range_end: Vec::new(),
    };
    match guard {
        Guard::Absent(key) => on(
            key,
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(0),
        ),
        Guard::At(key, at) => {
            let at = TargetUnion::ModRevision(signed(*at));
            on(key, CompareTarget::Mod, CompareResult::Equal, at)
        }
        Guard::Unchanged { prefix, since } => {
            let after = TargetUnion::ModRevision(signed(since.saturating_add(1)));
            Compare {
                range_end: prefix_end(prefix),
                ..on(prefix, CompareTarget::Mod, CompareResult::Less, after)
            }
        }
    }
}

/// The first key after all that start with `prefix`, which is text and not empty.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // No octet of UTF-8 is 255.
        *last += 1;
    }
    end
}

/// A document of Calico's; `None` for any other key.
fn entry(kv: KeyValue) -> Option<Entry> {
    Some(Entry {
        key: text(kv.key)?,
        value: Bytes::from(kv.value),
        revision: revision(kv.mod_revision),
        create_revision: revision(kv.create_revision),
    })
}

/// A key that typha's clients may see.
fn text(key: Vec<u8>) -> Option<String> {
    String::from_utf8(key).ok().filter(|key| visible(key))
}

fn visible(key: &str) -> bool {
    key.starts_with(ROOT) && !key.starts_with(OWN)
}

/// etcd's revisions are signed and never negative.
fn revision(n: i64) -> Revision {
    Revision::try_from(n).unwrap_or_default()
}

fn signed(n: Revision) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_etcds_comparisons() {
        let absent = compare(&Guard::Absent("/calico/a".into()));
        assert_eq!(
            (absent.target(), absent.result()),
            (CompareTarget::Version, CompareResult::Equal)
        );
        assert_eq!(absent.target_union, Some(TargetUnion::Version(0)));
        let at = compare(&Guard::At("/calico/a".into(), 7));
        assert_eq!(at.target_union, Some(TargetUnion::ModRevision(7)));
        assert!(at.range_end.is_empty());
        let unchanged = compare(&Guard::Unchanged {
            prefix: "/calico/a/".into(),
            since: 7,
        });
        assert_eq!(
            (unchanged.target(), unchanged.result()),
            (CompareTarget::Mod, CompareResult::Less)
        );
        assert_eq!(unchanged.target_union, Some(TargetUnion::ModRevision(8)));
        assert_eq!(unchanged.range_end, b"/calico/a0", "the octet after the slash");
    }

    #[test]
    fn only_calicos_keys_are_seen() {
        assert!(visible("/calico/ipam/v2/config"));
        assert!(visible("/calico/tortie/lease/ipam-gc"), "written by clients");
        for hidden in ["", "/registry/secrets/x", "/calicox", "/calico/tortie/v1/history"] {
            assert!(!visible(hidden), "{hidden}");
        }
        assert_eq!(revision(-1), 0);
        assert_eq!(signed(u64::MAX), i64::MAX);
    }
}
