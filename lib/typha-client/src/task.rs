//! The task behind [`crate::sync`]: connects, feeds the engine, hands events to the consumer, saves the state.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tortie_kit::address::Target;
use tortie_kit::backoff::Backoff;
use tortie_kit::status::reason;
use tortie_proto::sync::sync_client::SyncClient;
use tortie_proto::sync::{ClientMessage, ServerMessage};

use crate::engine::{Engine, Progress};
use crate::expand::MAX_MESSAGE;
use crate::route::Route;
use crate::{SyncEvent, SyncOptions, SyncStatus, snapshot};

/// How long an attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// typha sends something at least every two seconds; a stream silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a saved state waits for typha before it is used.
const PATIENCE: Duration = Duration::from_secs(3);
/// The delay between attempts: short at first, because a restart of typha takes well under a second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The state is saved at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// The task shall end: cancelled, or nobody listens.
struct Stop;

/// How a connection ended.
enum End {
    /// Why, in words.
    Lost(String),
    /// typha hands its clients over to others.
    Left,
}

struct Task {
    engine: Engine,
    options: SyncOptions,
    route: Route,
    token: CancellationToken,
    events: mpsc::Sender<SyncEvent>,
    /// Until when a restored state is held back, and its status then.
    held: Option<(Instant, SyncStatus)>,
    /// When the state may be saved next, if it changed since.
    save_at: Option<Instant>,
    saved_revision: Option<(String, u64)>,
}

pub(crate) async fn run(options: SyncOptions, token: CancellationToken, events: mpsc::Sender<SyncEvent>) {
    let engine = Engine::new(options.prefixes.clone());
    let mut task = Task {
        engine,
        route: Route::new(options.typha.clone()),
        options,
        token,
        events,
        held: None,
        save_at: None,
        saved_revision: None,
    };
    task.restore();
    let Err(Stop) = task.reconnect().await;
    task.save().await;
}

impl Task {
    async fn reconnect(&mut self) -> Result<std::convert::Infallible, Stop> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut said = String::new();
        loop {
            self.engine.status(SyncStatus::Connecting);
            let end = self.connection(&mut backoff).await?;
            self.engine.closed();
            if let End::Lost(reason) = end {
                // Said once, not with every attempt of a long outage.
                if backoff.attempts() == 0 || said != reason {
                    tracing::warn!(typha = %self.route.target(), reason, "sync connection lost");
                    said.clone_from(&reason);
                }
                self.engine.status(SyncStatus::Disconnected { reason });
                self.use_saved();
                // One that worked is tried again where it was.
                if backoff.attempts() > 0 {
                    self.route.failed();
                }
            }
            self.pump(sleep(backoff.next())).await?;
        }
    }

    /// One connection, from dialling to its end.
    async fn connection(&mut self, backoff: &mut Backoff) -> Result<End, Stop> {
        let (answers, outgoing) = mpsc::channel(8);
        let dial = dial(
            self.route.target().clone(),
            self.engine.open(self.options.hello.clone()),
            answers.clone(),
            outgoing,
        );
        let mut stream = match self.pump(dial).await? {
            Ok(stream) => stream,
            Err(reason) => return Ok(End::Lost(reason)),
        };
        loop {
            let message = match self.pump(timeout(SILENCE, stream.message())).await? {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ok(End::Lost("typha ended the stream".to_owned())),
                Ok(Err(status)) => return Ok(End::Lost(reason(&status))),
                Err(_) => return Ok(End::Lost(format!("typha was silent for {} s", SILENCE.as_secs()))),
            };
            match self.engine.handle(message) {
                Ok(Progress::Going) => {}
                // A full channel means that earlier answers are still on their way: they tell the same.
                Ok(Progress::Answer(answer)) => drop(answers.try_send(answer)),
                Ok(Progress::InSync) => {
                    backoff.reset();
                    self.held = None;
                    let revision = self.engine.position().map(|p| p.revision);
                    self.route.learn(self.engine.peers());
                    tracing::info!(typha = %self.route.target(), revision, "in sync");
                }
                Ok(Progress::Slow(revision)) => {
                    tracing::warn!(revision, "changes were taken too slowly, typha sends the state instead");
                }
                Ok(Progress::Leave(peers)) => {
                    tracing::info!(typha = %self.route.target(), ?peers, "typha hands its clients over");
                    self.route.leave(&peers);
                    backoff.reset();
                    return Ok(End::Left);
                }
                Err(e) => return Ok(End::Lost(e.to_string())),
            }
            self.schedule_save();
        }
    }

    /// Runs `work`; meanwhile hands events to the consumer, uses the saved state when patience ends, and saves.
    async fn pump<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        let events = self.events.clone();
        loop {
            let patience = self.held.as_ref().map(|(until, _)| *until);
            tokio::select! {
                () = self.token.cancelled() => return Err(Stop),
                // Whoever stops tears the connection down too: that is no loss to be told.
                done = &mut work => return if self.token.is_cancelled() { Err(Stop) } else { Ok(done) },
                permit = events.reserve(), if self.engine.has_event() => match (permit, self.engine.next_event()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    (Ok(_), None) => {}
                    (Err(_), _) => return Err(Stop),
                },
                () = events.closed() => return Err(Stop),
                () = until(patience) => self.use_saved(),
                () = until(self.save_at) => self.save().await,
            }
        }
    }

    fn restore(&mut self) {
        let Some(path) = &self.options.snapshot else { return };
        match snapshot::load(path, &self.options.prefixes, SystemTime::now()) {
            Ok(None) => {}
            Ok(Some(saved)) => {
                let revision = saved.position.revision;
                tracing::info!(path = %path.display(), revision, age = ?saved.age, "last good state read");
                self.saved_revision = Some((saved.position.cluster_id.clone(), revision));
                self.held = Some((
                    Instant::now() + PATIENCE,
                    SyncStatus::FromSnapshot {
                        revision,
                        age: saved.age,
                    },
                ));
                self.engine.restore(saved.position, saved.entries);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "snapshot file not used");
            }
        }
    }

    /// typha is not there in time: what was saved is used.
    fn use_saved(&mut self) {
        if let Some((_, status)) = self.held.take()
            && self.engine.is_held()
        {
            tracing::warn!(?status, "typha is away, starting from the last good state");
            self.engine.release(status);
        }
    }

    fn schedule_save(&mut self) {
        let position = self.engine.position().map(|p| (p.cluster_id.clone(), p.revision));
        if self.options.snapshot.is_some() && self.save_at.is_none() && position != self.saved_revision {
            // The first complete state is worth saving at once: a crash may come before the interval is over.
            let delay = if self.saved_revision.is_none() {
                Duration::ZERO
            } else {
                SAVE_EVERY
            };
            self.save_at = Some(Instant::now() + delay);
        }
    }

    async fn save(&mut self) {
        self.save_at = None;
        let Some(path) = self.options.snapshot.clone() else {
            return;
        };
        let position = self.engine.position().map(|p| (p.cluster_id.clone(), p.revision));
        if position == self.saved_revision {
            return;
        }
        let Some(bytes) = snapshot::encode(&self.engine, &self.options.prefixes, SystemTime::now()) else {
            return;
        };
        match write(path.clone(), bytes).await {
            Ok(()) => self.saved_revision = position,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "snapshot file not written");
                // Tried again when the next change arrives, not in a loop.
            }
        }
    }
}

async fn write(path: PathBuf, bytes: Vec<u8>) -> std::io::Result<()> {
    let written = tokio::task::spawn_blocking(move || tortie_kit::file::write_atomic(&path, &bytes, 0o600)).await;
    written.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn dial(
    typha: Target,
    open: ClientMessage,
    answers: mpsc::Sender<ClientMessage>,
    outgoing: mpsc::Receiver<ClientMessage>,
) -> Result<Streaming<ServerMessage>, String> {
    let channel = typha.connect(CONNECT).await.map_err(|e| e.to_string())?;
    answers.try_send(open).map_err(|e| e.to_string())?;
    let mut client = SyncClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answer = timeout(CONNECT, client.watch(ReceiverStream::new(outgoing))).await;
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(reason(&status)),
        Err(_) => Err(format!("typha did not answer within {} s", CONNECT.as_secs())),
    }
}
