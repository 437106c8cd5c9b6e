//! The task that owns the log: follows the datastore, answers the clients' sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tortie_kit::backoff::Backoff;
use tortie_kit::health::Guard;

use super::log::{Filter, Limits, Log, Step};
use crate::datastore::{Backend, Event, Listing, Revision, StorageError, WatchError};
use crate::metrics::Metrics;

/// Questions of sessions waiting for the hub; more wait in their sessions.
const QUEUE: usize = 1024;
/// Changes read from the datastore at once.
const READ: usize = 1000;
/// Between attempts to read a datastore that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A question to the hub.
#[derive(Debug)]
enum Ask {
    /// What a reader needs next.
    Next {
        filter: Filter,
        position: Option<Revision>,
        answer: oneshot::Sender<Step>,
    },
    /// What it holds under a prefix.
    Held {
        prefix: String,
        answer: oneshot::Sender<Listing>,
    },
}

/// A handle to the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    asks: mpsc::Sender<Ask>,
    head: watch::Receiver<Revision>,
    away: watch::Receiver<Option<Away>>,
    cluster_id: Arc<str>,
}

/// The datastore does not answer.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) since: Instant,
    pub(crate) reason: String,
}

/// The hub has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Hub {
    /// Starts following from what was loaded. The guard is ready while the datastore answers. Must be called inside a
    /// tokio runtime.
    pub(crate) fn start(backend: Arc<dyn Backend>, loaded: Loaded, guard: Guard, metrics: Arc<Metrics>) -> Self {
        let Loaded { cluster_id, log } = loaded;
        guard.ready();
        let (head_tx, head) = watch::channel(log.revision());
        let (away_tx, away) = watch::channel(None);
        let (asks, questions) = mpsc::channel(QUEUE);
        let task = Task {
            backend,
            log,
            head: head_tx,
            away: away_tx,
            guard,
            metrics,
        };
        tokio::spawn(task.run(questions));
        Hub {
            asks,
            head,
            away,
            cluster_id: cluster_id.into(),
        }
    }

    /// Why the datastore does not answer, if it does not.
    pub(crate) fn away(&self) -> Option<Away> {
        self.away.borrow().clone()
    }

    /// What is held under a prefix, whether or not the datastore answers.
    pub(crate) async fn held(&self, prefix: &str) -> Result<Listing, Ended> {
        let (answer, answered) = oneshot::channel();
        let prefix = prefix.to_owned();
        self.asks.send(Ask::Held { prefix, answer }).await.map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
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
            .send(Ask::Next {
                filter,
                position,
                answer,
            })
            .await
            .map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// A datastore's state.
#[derive(Debug)]
pub(crate) struct Loaded {
    cluster_id: String,
    log: Log,
}

/// The state, and as much of its past as the datastore remembers and the log holds.
///
/// # Errors
/// [`StorageError`] when it cannot be read.
pub(crate) async fn load(backend: &dyn Backend) -> Result<Loaded, StorageError> {
    let cluster_id = backend.cluster_id().await?;
    let limits = Limits::default();
    let listing = backend.list("").await?;
    let past = backend.past(listing.revision, limits.changes).await?;
    let log = Log::new(listing, past.oldest, past.events, limits);
    Ok(Loaded { cluster_id, log })
}

struct Task {
    backend: Arc<dyn Backend>,
    log: Log,
    head: watch::Sender<Revision>,
    away: watch::Sender<Option<Away>>,
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
                    Some(ask) => self.answer(ask),
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

    /// Who asked and ended meanwhile needs no answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Next {
                filter,
                position,
                answer,
            } => drop(answer.send(self.log.next(&filter, position))),
            Ask::Held { prefix, answer } => {
                let entries = self.log.entries(&prefix);
                let revision = self.log.revision();
                drop(answer.send(Listing { entries, revision }));
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
                    Ok(loaded) => {
                        self.log = loaded.log;
                        None
                    }
                    Err(e) => Some(e),
                }
            }
            Err(WatchError::Storage(e)) => Some(e),
            Err(e @ WatchError::Backwards { .. }) => Some(StorageError(e.to_string())),
        };
        let Some(error) = failed else {
            self.answers();
            backoff.reset();
            return Duration::ZERO;
        };
        if backoff.attempts() == 0 {
            tracing::error!(%error, "cannot read the datastore, clients keep what they have");
        }
        self.gone(&error.to_string());
        backoff.next()
    }

    fn answers(&mut self) {
        self.guard.ready();
        if let Some(away) = self.away.send_replace(None) {
            tracing::info!(seconds = away.since.elapsed().as_secs(), "the datastore answers again");
        }
        self.show();
    }

    fn gone(&mut self, reason: &str) {
        self.guard.not_ready(reason);
        self.away.send_modify(|away| {
            let since = away.as_ref().map_or_else(Instant::now, |away| away.since);
            let reason = reason.to_owned();
            *away = Some(Away { since, reason });
        });
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
