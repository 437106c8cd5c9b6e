//! Writes the records of endpoints that are made or removed at the same time in one transaction.

use tokio::sync::{mpsc, oneshot};
use tortie_typha_client::{Store, StoreError, Write};

use crate::gather::{Crowd, Waiting, gather};

/// Records that may wait; more wait in their calls.
const QUEUE: usize = 1024;
/// Records written at once: below what typha takes.
const GROUP: usize = 64;

#[derive(Debug)]
struct Job {
    write: Write,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// The way to the task that writes; it ends with this.
#[derive(Debug)]
pub(super) struct Recorder {
    crowd: Crowd,
    jobs: mpsc::Sender<Waiting<Job>>,
}

impl Recorder {
    /// Starts the task. Must be called inside a tokio runtime.
    pub(super) fn start(store: Store, crowd: Crowd) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(store, queue, crowd.clone()));
        Recorder { crowd, jobs }
    }

    /// Writes, with whatever else is to be written now.
    ///
    /// # Errors
    /// As if it were written alone.
    pub(super) async fn write(&self, write: Write) -> Result<(), StoreError> {
        let stopping = || StoreError::Unavailable("felix is stopping".to_owned());
        let (answer, done) = oneshot::channel();
        let job = self.crowd.waiting(Job { write, answer });
        self.jobs.send(job).await.map_err(|_| stopping())?;
        done.await.unwrap_or_else(|_| Err(stopping()))
    }
}

async fn run(store: Store, mut queue: mpsc::Receiver<Waiting<Job>>, crowd: Crowd) {
    while let Some(group) = gather(&mut queue, &crowd, GROUP).await {
        let written = store.write_many(group.iter().map(|j| j.write.clone())).await;
        let alone = group.len() == 1;
        for Job { write, answer } in group {
            let result = match &written {
                Ok(_) => Ok(()),
                // None was written because of one of them; the others are right.
                Err(e) if !alone && !matches!(e, StoreError::Unavailable(_)) => {
                    store.write_many([write]).await.map(drop)
                }
                Err(e) => Err(e.clone()),
            };
            let _ = answer.send(result);
        }
    }
}
