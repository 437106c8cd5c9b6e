//! The one task that writes: collects what waits, commits it together, answers. It also removes what has expired.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::commit::{Group, commit};
use super::{Slot, file};
use crate::datastore::{CommitError, Committed, Revision, StorageError, Transaction};

/// How many writes share a commit at most: bounds the memory of one, far above what waits during a disk's sync.
const GROUP: usize = 256;
/// The clock may be set while nothing is written: it is looked at again.
const LOOK: Duration = Duration::from_secs(60);
/// When what has expired is tried to be removed again, in milliseconds.
const AGAIN: u64 = 10_000;

/// A write and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) transaction: Transaction,
    pub(crate) answer: oneshot::Sender<Result<Vec<Committed>, CommitError>>,
}

/// Runs until every handle of the datastore is gone and what waits is written. `expiry` is when the next document expires.
pub(crate) async fn run(
    slot: Arc<Slot>,
    mut queue: mpsc::Receiver<Job>,
    head: watch::Sender<Revision>,
    mut expiry: Option<u64>,
) {
    let mut jobs = Vec::with_capacity(GROUP);
    let advance = |revision| head.send_if_modified(|head| std::mem::replace(head, revision) != revision);
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut jobs, GROUP) => if taken == 0 { return },
            () = until(expiry) => {}
        }
        let (transactions, answers): (Vec<_>, Vec<_>) = jobs.drain(..).map(|j| (j.transaction, j.answer)).unzip();
        match write(&slot, transactions).await {
            Ok(group) => {
                // The head moves first: who was answered finds its write in the changes.
                advance(group.revision);
                expiry = group.next;
                for (answer, outcome) in answers.into_iter().zip(group.outcomes) {
                    // Who does not wait any more has lost interest, not the write.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = answers.len(), "datastore write failed");
                for answer in answers {
                    let _ = answer.send(Err(CommitError::Storage(error.clone())));
                }
                expiry = Some(now() + AGAIN);
                // Whether the commit reached the disk is unknown: what the file holds when it is open again counts.
                if let Ok(revision) = slot.run(file::revision).await {
                    advance(revision);
                }
            }
        }
    }
}

async fn write(slot: &Slot, transactions: Vec<Transaction>) -> Result<Group, StorageError> {
    slot.run(move |database| commit(database, &transactions, now())).await
}

/// Milliseconds since the epoch: what expires does so also while typha does not run.
fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

async fn until(expiry: Option<u64>) {
    match expiry {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.saturating_sub(now())).min(LOOK)).await,
        None => std::future::pending().await,
    }
}
