//! Writes as etcd's transactions: a write's guards are the comparisons, so a plain etcd client and typha cannot overwrite
//! each other unseen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::request_op::Request as Op;
use super::proto::response_op::Response as Done;
use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use super::{AnswerError, at, entry, possible, prefix_end, shown, signed};
use crate::{CommitError, Committed, Entry, Guard, Operation, Revision, StorageError, Transaction};

/// What etcd is asked for a write; `leases` has one for each time to live of it.
pub fn question(transaction: &Transaction, leases: &BTreeMap<Duration, i64>) -> TxnRequest {
    let operations = transaction.operations.iter();
    TxnRequest {
        compare: transaction.guards.iter().map(compare).collect(),
        success: operations
            .map(|o| op(request(o, leases, transaction.dry_run)))
            .collect(),
    }
}

/// One thing to be done.
pub fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
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

/// A guard as etcd's comparison.
pub fn compare(guard: &Guard) -> Compare {
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

/// What a write did, for each of its operations in order.
///
/// # Errors
/// [`CommitError::Guard`]: nothing, one of its guards does not hold. [`CommitError::Missing`]: nothing, there was nothing
/// to delete. [`CommitError::Storage`]: the answer cannot be true, and nobody knows what was done.
pub fn committed(transaction: &Transaction, answer: TxnResponse) -> Result<Vec<Committed>, CommitError> {
    let odd = |e: AnswerError| {
        let unknown = match transaction.dry_run {
            true => "",
            false => " (it may have been done: read before writing again)",
        };
        CommitError::Storage(StorageError(format!("{}{unknown}", StorageError::from(e).0)))
    };
    if !answer.succeeded {
        // etcd does not say which; the first is what the write is about.
        let guard = transaction.guards.first().cloned();
        return Err(guard.map_or(CommitError::Missing, CommitError::Guard));
    }
    let now = at(answer.header.as_ref()).map_err(odd)?;
    let at = if transaction.dry_run {
        now.saturating_add(1)
    } else {
        now
    };
    let mut answers = answer.responses.into_iter();
    let operations = transaction.operations.iter().zip(1..);
    let done = operations.map(|(operation, number)| {
        let answered = answers.next().and_then(|a| answered(operation, a, transaction.dry_run));
        let kv = answered.ok_or_else(|| odd(AnswerError::Operation { number }))?;
        let previous = previous(operation, kv, now).map_err(odd)?;
        done(operation, previous, (now, at))
    });
    done.collect()
}

/// What is said to have been under the key before an operation; `None`: it is no answer to it.
fn answered(operation: &Operation, answer: ResponseOp, dry_run: bool) -> Option<Option<KeyValue>> {
    Some(match (answer.response?, operation) {
        (Done::ResponseRange(r), _) if dry_run => r.kvs.into_iter().next(),
        (Done::ResponsePut(p), Operation::Put { .. }) if !dry_run => p.prev_kv,
        (Done::ResponseDeleteRange(d), Operation::Delete { .. }) if !dry_run => d.prev_kvs.into_iter().next(),
        _ => return None,
    })
}

fn previous(operation: &Operation, kv: Option<KeyValue>, now: Revision) -> Result<Option<Entry>, AnswerError> {
    let Some(kv) = kv else { return Ok(None) };
    if kv.key != operation.key().as_bytes() {
        return Err(AnswerError::NotAsked { key: shown(&kv.key) });
    }
    possible(&kv, now)?;
    Ok(entry(kv))
}

/// What an operation did: etcd's revision `now`, and the one `at` which the document is (or would be) stored.
fn done(
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
