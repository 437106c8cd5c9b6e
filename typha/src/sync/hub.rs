//! The task that owns the log: follows the datastore, answers the clients' sessions.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tortie_kit::backoff::Backoff;
use tortie_kit::health::Guard;
use tortie_proto::state::State;

use super::away::Away;
use super::loaded::{Loaded, check, load, refused};
use super::log::{Filter, GroupId, Log, Step};
use crate::datastore::{Backend, Changes, History, Listing, Revision, StorageError, WatchError};
use crate::metrics::Metrics;

/// Questions of sessions waiting for the hub; more wait in their sessions.
const QUEUE: usize = 1024;
/// Changes read from the datastore at once.
const READ: usize = 1000;
/// How long changes are collected after one was given: so much for each client, and no longer than this. What comes
/// meanwhile is sent to all of them at once; a change after a rest is sent at once.
const COLLECT: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(100));
/// The same after [`MANY`] were given at once: more of them are on their way, and no one of them is waited for by itself.
const COLLECT_MANY: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(250));
const MANY: usize = 4;
/// Between attempts to read a datastore that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// However many calls of the datastore fail, it is looked at no more often.
const DOUBT: Duration = Duration::from_secs(1);

/// A question to the hub.
#[derive(Debug)]
enum Ask {
    /// What a reader needs next.
    Next {
        /// Of which history the reader is: of another it is told nothing.
        history: Arc<History>,
        filter: Filter,
        position: Option<Revision>,
        answer: oneshot::Sender<(Step, Filter)>,
    },
    /// An operator accepts the datastore as it is.
    Accept {
        answer: oneshot::Sender<Result<Accepted, StorageError>>,
    },
    /// What it holds under a prefix.
    Held {
        prefix: String,
        answer: oneshot::Sender<Listing>,
    },
    /// All it holds, to be kept in a file; `None` while it may be old.
    State { answer: oneshot::Sender<Option<State>> },
    /// A call of the datastore failed: does it answer at all?
    Doubt,
}

/// A handle to the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    asks: mpsc::Sender<Ask>,
    head: watch::Receiver<Revision>,
    away: watch::Receiver<Option<Away>>,
    history: watch::Receiver<Arc<History>>,
    latest: watch::Receiver<Arc<Latest>>,
}

/// What readers need that were current before the newest changes.
#[derive(Debug)]
struct Latest {
    history: Arc<History>,
    /// Where they are.
    position: Revision,
    steps: Vec<(GroupId, Step)>,
}

impl Latest {
    fn nothing(history: Arc<History>) -> Arc<Self> {
        Arc::new(Latest {
            history,
            position: 0,
            steps: Vec::new(),
        })
    }
}

/// What an operator accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) history: History,
    pub(crate) revision: Revision,
}

/// The hub has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Hub {
    /// Starts following from what was loaded, or from what was kept while the datastore is away. The guard is ready
    /// while the datastore answers. Must be called inside a tokio runtime.
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        loaded: Loaded,
        away: Option<Away>,
        guard: Guard,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Loaded { history, log } = loaded;
        let (history_tx, history) = watch::channel(Arc::new(history));
        let (head_tx, head) = watch::channel(log.revision());
        let (latest_tx, latest) = watch::channel(Latest::nothing(Arc::clone(&history.borrow())));
        let (away_tx, _) = watch::channel(None);
        let checked = away.is_none();
        let (asks, questions) = mpsc::channel(QUEUE);
        let mut task = Task {
            backend,
            log,
            head: head_tx,
            away: away_tx,
            history: history_tx,
            latest: latest_tx,
            checked,
            doubted: None,
            guard,
            metrics,
        };
        match away {
            None => task.answers(),
            Some(away) => task.gone(&away.reason, away.before),
        }
        let away = task.away.subscribe();
        tokio::spawn(task.run(questions));
        Hub {
            asks,
            head,
            away,
            history,
            latest,
        }
    }

    /// Why the datastore does not answer, if it does not.
    pub(crate) fn away(&self) -> Option<Away> {
        self.away.borrow().clone()
    }

    /// The same, as it changes.
    pub(crate) fn watch_away(&self) -> watch::Receiver<Option<Away>> {
        self.away.clone()
    }

    /// All that is held, unless it may be old.
    pub(crate) async fn state(&self) -> Result<Option<State>, Ended> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::State { answer }).await.map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }

    /// What is held under a prefix, whether or not the datastore answers.
    pub(crate) async fn held(&self, prefix: &str) -> Result<Listing, Ended> {
        let (answer, answered) = oneshot::channel();
        let prefix = prefix.to_owned();
        self.asks.send(Ask::Held { prefix, answer }).await.map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }

    /// A call of the datastore failed. A watch says nothing of one whose answers are late while its connections are alive,
    /// so it is asked; when it is not heard in time either, it is away. In a full queue others have asked.
    pub(crate) fn doubt(&self) {
        let _ = self.asks.try_send(Ask::Doubt);
    }

    /// The history whose state this is, as it changes.
    pub(crate) fn history(&self) -> watch::Receiver<Arc<History>> {
        self.history.clone()
    }

    /// Takes the datastore as it is, whatever was read from it before, and leads the clients there.
    ///
    /// # Errors
    /// [`StorageError`] when it does not answer.
    pub(crate) async fn accept(&self) -> Result<Accepted, StorageError> {
        let ended = || StorageError("typha is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Accept { answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// The revision of the state, as it moves.
    pub(crate) fn head(&self) -> watch::Receiver<Revision> {
        self.head.clone()
    }

    /// What a reader needs next, when it was current before the newest changes: no question is asked.
    pub(crate) fn ready(&self, history: &History, filter: &Filter, position: Option<Revision>) -> Option<Step> {
        let latest = self.latest.borrow();
        if position != Some(latest.position) || history.id != latest.history.id {
            return None;
        }
        let of_its_group = latest.steps.iter().find(|(group, _)| filter.is(group));
        of_its_group.map(|(_, step)| step.clone())
    }

    /// What a reader needs next, and the filter as those who want the same share it.
    ///
    /// # Errors
    /// [`Ended`] also for a reader of another history.
    pub(crate) async fn next(
        &self,
        history: Arc<History>,
        filter: Filter,
        position: Option<Revision>,
    ) -> Result<(Step, Filter), Ended> {
        let (answer, answered) = oneshot::channel();
        self.asks
            .send(Ask::Next {
                history,
                filter,
                position,
                answer,
            })
            .await
            .map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// How long changes for so many clients are collected, after so many were given.
fn collect(clients: i64, changes: usize) -> Duration {
    let clients = u32::try_from(clients).unwrap_or_default();
    let (each, most) = if changes < MANY { COLLECT } else { COLLECT_MANY };
    each.saturating_mul(clients).min(most)
}

struct Task {
    backend: Arc<dyn Backend>,
    log: Log,
    head: watch::Sender<Revision>,
    away: watch::Sender<Option<Away>>,
    history: watch::Sender<Arc<History>>,
    latest: watch::Sender<Arc<Latest>>,
    /// The datastore is known to hold this history still.
    checked: bool,
    /// When a call of somebody else last made it doubtful.
    doubted: Option<Instant>,
    guard: Guard,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self, mut questions: mpsc::Receiver<Ask>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        self.show();
        let mut changes = self.read(Duration::ZERO);
        loop {
            tokio::select! {
                ask = questions.recv() => match ask {
                    Some(Ask::Accept { answer }) => {
                        let accepted = self.accept().await;
                        if accepted.is_ok() {
                            changes = self.read(Duration::ZERO);
                        }
                        drop(answer.send(accepted));
                    }
                    Some(Ask::Doubt) => if self.doubts() {
                        changes = self.read(Duration::ZERO);
                    },
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                read = &mut changes => {
                    let delay = self.follow(read, &mut backoff).await;
                    changes = self.read(delay);
                }
            }
        }
    }

    /// A call failed: is it to be looked at now whether the datastore answers? Not when that is done or was just done.
    fn doubts(&mut self) -> bool {
        if !self.checked || self.doubted.is_some_and(|at| at.elapsed() < DOUBT) {
            return false;
        }
        (self.checked, self.doubted) = (false, Some(Instant::now()));
        true
    }

    /// The next changes, after a delay; before the first of a datastore that was away it is looked at whether it holds
    /// what was read from it.
    fn read(&self, delay: Duration) -> BoxFuture<'static, Result<Changes, WatchError>> {
        let backend = Arc::clone(&self.backend);
        let known = (!self.checked).then(|| (Arc::clone(&self.history.borrow()), self.log.newest().cloned()));
        let after = self.log.revision();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            if let Some((history, newest)) = known {
                check(&*backend, &history, newest).await?;
            }
            backend.changes(after, READ).await
        })
    }

    /// What those who were current at `before` are sent is encoded now, and found by them.
    fn prepare(&mut self, before: Revision) {
        if self.log.revision() == before {
            return;
        }
        let latest = Latest {
            history: Arc::clone(&self.history.borrow()),
            position: before,
            steps: self.log.steps(before),
        };
        self.latest.send_replace(Arc::new(latest));
        self.metrics.count_encoded(self.log.take_encoded());
    }

    async fn accept(&mut self) -> Result<Accepted, StorageError> {
        let held = History::clone(&self.history.borrow());
        let others = [held.id].into_iter().chain(held.succeeds).collect();
        self.backend.begin_history(others).await?;
        let loaded = load(&*self.backend, self.log.limits()).await?;
        let accepted = Accepted {
            history: loaded.history.clone(),
            revision: loaded.log.revision(),
        };
        tracing::warn!(
            history = accepted.history.id,
            revision = accepted.revision,
            "an operator accepts the datastore"
        );
        self.replace(loaded);
        self.answers();
        Ok(accepted)
    }

    /// Takes what was loaded, if clients may be led there; why not, otherwise.
    fn move_to(&mut self, loaded: Loaded) -> Option<String> {
        let history = Arc::clone(&self.history.borrow());
        if let Err(why) = loaded.leads_from(&history, self.log.revision()) {
            return Some(refused(&why));
        }
        if loaded.history.id != history.id {
            tracing::warn!(
                history = loaded.history.id,
                "an operator has accepted another history of changes"
            );
        }
        self.replace(loaded);
        None
    }

    fn replace(&mut self, loaded: Loaded) {
        self.log = loaded.log;
        if **self.history.borrow() != loaded.history {
            self.history.send_replace(Arc::new(loaded.history));
        }
        // What was prepared may be of another past.
        let history = Arc::clone(&self.history.borrow());
        self.latest.send_replace(Latest::nothing(history));
    }

    /// Who asked and ended meanwhile needs no answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Next {
                history,
                filter,
                position,
                answer,
            } => {
                if history.id == self.history.borrow().id {
                    let step = self.log.next(&filter, position);
                    drop(answer.send((step, self.log.shared(&filter))));
                    self.metrics.count_encoded(self.log.take_encoded());
                }
            }
            // Answered by the task itself, which waits for the datastore.
            Ask::Accept { .. } | Ask::Doubt => {}
            Ask::Held { prefix, answer } => {
                let entries = self.log.entries(&prefix);
                let revision = self.log.revision();
                drop(answer.send(Listing { entries, revision }));
            }
            Ask::State { answer } => {
                let current = self.away.borrow().is_none();
                let history = Arc::clone(&self.history.borrow());
                drop(answer.send(current.then(|| Loaded::keep(&history, &self.log, now()))));
            }
        }
    }

    /// Takes what was read; gives how long to wait before the next read.
    async fn follow(&mut self, read: Result<Changes, WatchError>, backoff: &mut Backoff) -> Duration {
        let mut pause = Duration::ZERO;
        let failed = match read {
            Ok(Changes { events, revision }) => {
                if !events.is_empty() {
                    pause = collect(self.metrics.connections_active.get(), events.len());
                }
                let before = self.log.revision();
                self.log.push(events);
                self.log.advance(revision);
                self.prepare(before);
                None
            }
            // Too far behind: the state is read anew, and clients that are behind take a snapshot.
            Err(WatchError::Compacted { oldest }) => {
                tracing::warn!(
                    oldest,
                    revision = self.log.revision(),
                    "changes compacted, reading everything"
                );
                match load(&*self.backend, self.log.limits()).await {
                    Ok(loaded) => self.move_to(loaded),
                    Err(e) => Some(e.to_string()),
                }
            }
            Err(WatchError::Storage(e)) => Some(e.to_string()),
            // Another typha was told: so this one knows.
            Err(WatchError::Succeeded) => match load(&*self.backend, self.log.limits()).await {
                Ok(loaded) => self.move_to(loaded),
                Err(e) => Some(e.to_string()),
            },
            Err(
                e @ (WatchError::Backwards { .. } | WatchError::OtherHistory { .. } | WatchError::Rewritten { .. }),
            ) => Some(refused(&e)),
        };
        self.checked = failed.is_none();
        let Some(error) = failed else {
            self.answers();
            backoff.reset();
            return pause;
        };
        if backoff.attempts() == 0 {
            tracing::error!(error, "cannot read the datastore, clients keep what they have");
        }
        self.gone(&error, Duration::ZERO);
        backoff.next()
    }

    fn answers(&mut self) {
        self.guard.ready();
        self.away.send_if_modified(|away| {
            let before = away.take();
            if let Some(away) = &before {
                tracing::info!(seconds = away.age().as_secs(), "the datastore answers again");
            }
            before.is_some()
        });
        self.metrics.show_current();
        self.show();
    }

    /// The datastore does not answer; when that is news, what is held is `before` old already.
    fn gone(&mut self, reason: &str, before: Duration) {
        self.away.send_if_modified(|away| match away {
            Some(away) => std::mem::replace(&mut away.reason, reason.to_owned()) != reason,
            None => {
                *away = Some(Away::new(before, reason.to_owned()));
                true
            }
        });
        let age = self.away.borrow().as_ref().map_or(before, Away::age);
        self.metrics.show_stale(now().saturating_sub(age));
        let revision = self.log.revision();
        self.guard.not_ready(&format!(
            "{reason}; revision {revision}, {} s old, is served",
            age.as_secs()
        ));
        self.show();
    }

    fn show(&mut self) {
        let revision = self.log.revision();
        self.metrics.changes_forgotten.inc_by(self.log.take_forgotten());
        self.metrics
            .changes_octets
            .set(i64::try_from(self.log.octets()).unwrap_or(i64::MAX));
        self.metrics
            .breadcrumb_revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.metrics.keys.set(i64::try_from(self.log.len()).unwrap_or(i64::MAX));
        self.head.send_replace(revision);
    }
}

/// Since the epoch.
fn now() -> Duration {
    let millis = jiff::Timestamp::now().as_millisecond();
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_clients_and_more_changes_are_collected_for_longer_and_not_for_ever() {
        assert_eq!(collect(0, 1), Duration::ZERO);
        assert!(collect(100, 1) < collect(1000, 1) && collect(1000, 1) < collect(1000, 20));
        assert_eq!(collect(5000, 1), Duration::from_millis(100));
        assert_eq!(collect(1_000_000, MANY), Duration::from_millis(250));
        assert_eq!(collect(-1, MANY), Duration::ZERO);
    }
}
