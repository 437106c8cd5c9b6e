//! The one task that writes: collects what waits, commits it together, answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Slot, file};
use crate::datastore::{CommitError, Committed, Revision, StorageError, Transaction};

/// How many writes share a commit at most: bounds the memory of one, far above what waits during a disk's sync.
const GROUP: usize = 256;

/// A write and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) transaction: Transaction,
    pub(crate) answer: oneshot::Sender<Result<Vec<Committed>, CommitError>>,
}

/// Runs until every handle of the datastore is gone and what waits is written.
pub(crate) async fn run(slot: Arc<Slot>, mut queue: mpsc::Receiver<Job>, head: watch::Sender<Revision>) {
    let mut jobs = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut jobs, GROUP).await > 0 {
        let (transactions, answers): (Vec<_>, Vec<_>) = jobs.drain(..).map(|j| (j.transaction, j.answer)).unzip();
        match commit(&slot, transactions).await {
            Ok((outcomes, revision)) => {
                // The head moves first: who was answered finds its write in the changes.
                head.send_if_modified(|head| std::mem::replace(head, revision) != revision);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Who does not wait any more has lost interest, not the write.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = answers.len(), "datastore write failed");
                for answer in answers {
                    let _ = answer.send(Err(CommitError::Storage(error.clone())));
                }
                // Whether the commit reached the disk is unknown: what the file holds when it is open again counts.
                if let Ok(revision) = slot.run(file::revision).await {
                    head.send_if_modified(|head| std::mem::replace(head, revision) != revision);
                }
            }
        }
    }
}

async fn commit(slot: &Slot, transactions: Vec<Transaction>) -> Result<file::Group, StorageError> {
    slot.run(move |database| file::commit(database, &transactions)).await
}
