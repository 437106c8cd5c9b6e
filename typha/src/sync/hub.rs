//! The task that owns the log: follows the datastore, answers the clients' sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tortie_kit::backoff::Backoff;
use tortie_kit::health::Guard;

use super::log::{Filter, Limits, Log, Step};
use crate::datastore::{Backend, Event, Revision, StorageError, WatchError};
use crate::metrics::Metrics;

/// Questions of sessions waiting for the hub; more wait in their sessions.
const QUEUE: usize = 1024;
/// Changes read from the datastore at once.
const READ: usize = 1000;
/// Between attempts to read a datastore that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

#[derive(Debug)]
struct Ask {
    filter: Filter,
    position: Option<Revision>,
    answer: oneshot::Sender<Step>,
}

/// A handle to the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    asks: mpsc::Sender<Ask>,
    head: watch::Receiver<Revision>,
    cluster_id: Arc<str>,
}

/// The hub has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Hub {
    /// Loads the state and starts following. The guard is ready while the datastore answers.
    ///
    /// # Errors
    /// [`StorageError`] when the state cannot be read.
    pub(crate) async fn start(
        backend: Arc<dyn Backend>,
        guard: Guard,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StorageError> {
        let log = load(&*backend).await?;
        guard.ready();
        let (head_tx, head) = watch::channel(log.revision());
        let (asks, questions) = mpsc::channel(QUEUE);
        let cluster_id = Arc::from(backend.cluster_id());
        let task = Task {
            backend,
            log,
            head: head_tx,
            guard,
            metrics,
        };
        tokio::spawn(task.run(questions));
        Ok(Hub { asks, head, cluster_id })
    }

    /// Identifies the cluster whose state this is.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The revision of the state, as it moves.
    pub(crate) fn head(&self) -> watch::Receiver<Revision> {
        self.head.clone()
    }

    /// What a reader needs next.
    pub(crate) async fn next(&self, filter: Filter, position: Option<Revision>) -> Result<Step, Ended> {
        let (answer, answered) = oneshot::channel();
        self.asks
            .send(Ask {
                filter,
                position,
                answer,
            })
            .await
            .map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// The state, and as much of its past as the datastore remembers and the log holds.
async fn load(backend: &dyn Backend) -> Result<Log, StorageError> {
    let limits = Limits::default();
    let oldest = backend.oldest().await?;
    let listing = backend.list("").await?;
    let past = u64::try_from(limits.changes).unwrap_or(u64::MAX);
    let oldest = oldest.max(listing.revision.saturating_sub(past)).min(listing.revision);
    let mut history: Vec<Event> = Vec::new();
    let mut reached = oldest;
    while reached < listing.revision {
        match backend.changes(reached, READ).await {
            Ok(events) => {
                history.extend(events.into_iter().filter(|e| e.revision <= listing.revision));
                reached = match history.last() {
                    Some(last) if last.revision > reached => last.revision,
                    _ => break,
                };
            }
            // Compacted meanwhile: no past, then. Clients that would resume take a snapshot.
            Err(WatchError::Compacted { .. }) => {
                let revision = listing.revision;
                return Ok(Log::new(listing, revision, Vec::new(), limits));
            }
            Err(WatchError::Storage(e)) => return Err(e),
        }
    }
    Ok(Log::new(listing, oldest, history, limits))
}

struct Task {
    backend: Arc<dyn Backend>,
    log: Log,
    head: watch::Sender<Revision>,
    guard: Guard,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self, mut questions: mpsc::Receiver<Ask>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        self.show();
        let mut changes = self.backend.changes(self.log.revision(), READ);
        loop {
            tokio::select! {
                ask = questions.recv() => match ask {
                    Some(ask) => {
                        // A session that ended meanwhile needs no answer.
                        let _ = ask.answer.send(self.log.next(&ask.filter, ask.position));
                    }
                    None => return,
                },
                read = &mut changes => {
                    let delay = self.follow(read, &mut backoff).await;
                    let next = self.backend.changes(self.log.revision(), READ);
                    changes = Box::pin(async move {
                        tokio::time::sleep(delay).await;
                        next.await
                    });
                }
            }
        }
    }

    /// Takes what was read; gives how long to wait before the next read.
    async fn follow(&mut self, read: Result<Vec<Event>, WatchError>, backoff: &mut Backoff) -> Duration {
        let failed = match read {
            Ok(events) => {
                self.log.push(events);
                None
            }
            // Too far behind: the state is read anew, and clients that are behind take a snapshot.
            Err(WatchError::Compacted { oldest }) => {
                tracing::warn!(
                    oldest,
                    revision = self.log.revision(),
                    "changes compacted, reading everything"
                );
                match load(&*self.backend).await {
                    Ok(log) => {
                        self.log = log;
                        None
                    }
                    Err(e) => Some(e),
                }
            }
            Err(WatchError::Storage(e)) => Some(e),
        };
        let Some(error) = failed else {
            backoff.reset();
            self.guard.ready();
            self.show();
            return Duration::ZERO;
        };
        if backoff.attempts() == 0 {
            tracing::error!(%error, "cannot read the datastore, clients keep what they have");
        }
        self.guard.not_ready(&error.to_string());
        backoff.next()
    }

    fn show(&self) {
        let revision = self.log.revision();
        self.metrics
            .breadcrumb_revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.metrics.keys.set(i64::try_from(self.log.len()).unwrap_or(i64::MAX));
        self.head.send_replace(revision);
    }
}
