//! The dataplane task: feeds the manager, makes its batches, answers those who wait.
//!
//! | in | from |
//! |---|---|
//! | [`Input`]s | the sync task, the fib client |
//! | commands | [`super::Dataplane`] handles |
//! | events | the monitor's thread |
//!
//! While the kernel works on a batch, what is wanted goes on: inputs and commands are taken, and the next batch waits behind it,
//! so that the kernel need not. Order matters in one place: a batch's answer is handled before any event that the kernel sent
//! after it, so what is believed of the kernel never lags behind what was done to it. Events therefore wait until no batch is
//! under way, which is so after some batches at most.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_netlink::monitor::Monitor;
use tortie_netlink::route::Filter;
use tortie_netlink::worker::{UNDER_WAY, Worker, WorkerEnded, Writing};

use super::class::WORKLOAD_INTERFACE_PREFIX;
use super::manager::{Input, Manager, Summary};
use super::marks::{Marks, Remembered};
use super::{Command, DataplaneError, ENDPOINT_DEADLINE};

/// How long a kernel that cannot be read is left alone.
const DUMP_RETRY: Duration = Duration::from_secs(1);
/// How long a disk that does not take the marks is left alone.
const SAVE_RETRY: Duration = Duration::from_secs(10);
/// The state is summed up at most this often,
const SUMMARY_INTERVAL: Duration = Duration::from_millis(250);
/// and in one part of so many of the time: with many routes it takes a while, in which none is written.
const SUMMARY_SHARE: u32 = 20;
/// While there is always more to write it may be so old.
const SUMMARY_AGE: Duration = Duration::from_secs(2);
/// Inputs handled between two trains of batches at most.
const INPUTS: usize = 64;
/// Batches that follow each other before events are looked at.
const TRAIN: usize = 8;

/// Why the task ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// See [`WorkerEnded`].
    #[error(transparent)]
    Kernel(#[from] WorkerEnded),
    /// The monitor failed for good.
    #[error("the kernel cannot be followed: {0}")]
    Monitor(std::io::Error),
}

/// Someone who waits for an endpoint's routes.
struct Waiter {
    interface: String,
    up: bool,
    since: Instant,
    until: Instant,
    answer: oneshot::Sender<Result<(), DataplaneError>>,
}

/// The task's own state.
pub(crate) struct Task {
    pub(crate) kernel: Worker,
    pub(crate) monitor: Monitor,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) summary: watch::Sender<Arc<Summary>>,
    /// See [`super::marks`].
    pub(crate) marks: PathBuf,
    /// What it says.
    pub(crate) remembered: Remembered,
}

impl Task {
    /// Runs until the token is cancelled. Nothing is undone at the end: routes outlive the program.
    pub(crate) async fn run(self, token: CancellationToken) -> Result<(), TaskError> {
        let started = Instant::now();
        let manager = Manager::new(jiff::Timestamp::now(), &self.remembered);
        let looper = Loop {
            saved: manager.marks().clone(),
            save_after: started,
            task: self,
            manager,
            waiters: Vec::new(),
            started,
            dump_after: started,
            audited: started,
            summary_at: started,
            changed: true,
        };
        token.run_until_cancelled(looper.run()).await.unwrap_or(Ok(()))
    }
}

struct Loop {
    task: Task,
    manager: Manager,
    waiters: Vec<Waiter>,
    started: Instant,
    dump_after: Instant,
    /// When the kernel was last compared with what is believed of it, whatever the events say. They do the daily work;
    /// this is for what no event tells.
    audited: Instant,
    summary_at: Instant,
    /// What the file has of the marks.
    saved: Marks,
    save_after: Instant,
    /// Something happened since the last summary.
    changed: bool,
}

/// What woke the task.
enum Wake {
    Input(Input),
    Command(Command),
    Time,
}

/// For ever without a time.
pub(crate) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Loop {
    async fn run(mut self) -> Result<(), TaskError> {
        loop {
            let busy = self.work().await?;
            self.answer_waiters();
            self.sum_up(if busy { SUMMARY_AGE } else { Duration::ZERO });
            // With work left, take what is there without waiting; else wait.
            for _ in 0..INPUTS {
                let wake = if busy {
                    self.wait().now_or_never()
                } else {
                    Some(self.wait().await)
                };
                match wake {
                    Some(wake) => self.handle(wake?),
                    None => break,
                }
                if !busy {
                    break;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// One dump or some batches, if any are due. Gives whether there may be more to do at once.
    async fn work(&mut self) -> Result<bool, TaskError> {
        if self.audit_at().is_some_and(|at| Instant::now() >= at) {
            self.audited = Instant::now();
            self.manager.want_dump();
        }
        if self.manager.wants_dump() {
            if Instant::now() < self.dump_after {
                return Ok(false);
            }
            match self.task.kernel.dump(Filter::MAIN).await? {
                Ok(dump) => self.manager.loaded(dump),
                Err(error) => {
                    tracing::error!(%error, "cannot read the kernel's routes");
                    self.dump_after = Instant::now() + DUMP_RETRY;
                    return Ok(false);
                }
            }
        }
        self.save_marks().await;
        let now = self.now();
        self.manager.tick(now);
        self.train().await
    }

    /// Writes what is to be written, batch after batch. Gives whether there was anything.
    async fn train(&mut self) -> Result<bool, TaskError> {
        let mut under_way = VecDeque::new();
        let mut left = TRAIN;
        // A route with a new mark waits until the mark is saved.
        let marks = self.manager.marks().clone();
        loop {
            while under_way.len() < UNDER_WAY && left > 0 && *self.manager.marks() == marks {
                let changes = self.manager.plan(self.now());
                if changes.is_empty() {
                    break;
                }
                tracing::debug!(changes = changes.len(), "writing routes");
                under_way.push_back(self.task.kernel.begin(changes)?);
                left -= 1;
            }
            match under_way.pop_front() {
                Some(writing) => self.meanwhile(writing).await?,
                None => return Ok(left < TRAIN),
            }
            self.answer_waiters();
        }
    }

    /// Before any route has a new mark. Routes do not wait for a disk that fails.
    async fn save_marks(&mut self) {
        if self.saved == *self.manager.marks() || Instant::now() < self.save_after {
            return;
        }
        let marks = self.manager.marks().clone();
        let (remembered, path) = (marks.to_remember(), self.task.marks.clone());
        let written = tokio::task::spawn_blocking(move || remembered.write(&path)).await;
        match written.map_err(std::io::Error::from).and_then(|w| w) {
            Ok(()) => self.saved = marks,
            Err(error) => {
                tracing::error!(%error, "what routes are known by could not be saved: felix should not be restarted before it is");
                self.save_after = Instant::now() + SAVE_RETRY;
            }
        }
    }

    /// Until the batch is written, takes what the sources say. What the kernel says has to wait.
    async fn meanwhile(&mut self, mut writing: Writing) -> Result<(), TaskError> {
        let (changes, result) = loop {
            let task = &mut self.task;
            let wake = tokio::select! {
                biased;
                applied = writing.done() => break applied?,
                Some(command) = task.commands.recv() => Wake::Command(command),
                Some(input) = task.inputs.recv() => Wake::Input(input),
            };
            self.handle(wake);
        };
        if let Err(error) = &result {
            tracing::warn!(%error, "a batch of routes has no whole answer, looking at the kernel");
            self.dump_after = Instant::now();
        }
        let now = self.now();
        self.manager.applied(&changes, result, now);
        self.changed = true;
        Ok(())
    }

    async fn wait(&mut self) -> Result<Wake, TaskError> {
        let next = self.next_deadline();
        let task = &mut self.task;
        tokio::select! {
            biased;
            Some(command) = task.commands.recv() => Ok(Wake::Command(command)),
            events = task.monitor.next() => match events {
                Some(Ok(events)) => Ok(Wake::Input(Input::Kernel(events))),
                Some(Err(error)) => Err(TaskError::Monitor(error)),
                None => Err(TaskError::Monitor(std::io::ErrorKind::BrokenPipe.into())),
            },
            Some(input) = task.inputs.recv() => Ok(Wake::Input(input)),
            () = until(next) => Ok(Wake::Time),
        }
    }

    fn audit_at(&self) -> Option<Instant> {
        self.manager.refresh().map(|interval| self.audited + interval)
    }

    /// `None`: nothing is due by itself.
    fn next_deadline(&self) -> Option<Instant> {
        let retry = self.manager.next_deadline(self.now()).map(|t| self.started + t);
        let dump = self.manager.wants_dump().then_some(self.dump_after);
        let waiter = self.waiters.iter().map(|w| w.until).min();
        let summary = self.changed.then_some(self.summary_at);
        let all = [retry, dump, waiter, summary, self.audit_at()];
        all.into_iter().flatten().min()
    }

    fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Input(input) => {
                self.changed = true;
                self.manager.handle(input);
            }
            Wake::Command(command) => {
                self.changed = true;
                self.command(command);
            }
            Wake::Time => {}
        }
    }

    fn command(&mut self, command: Command) {
        let since = Instant::now();
        match command {
            Command::Up(endpoint, answer) => {
                let interface = endpoint.interface.clone();
                tracing::debug!(interface, "endpoint up");
                self.manager.handle(Input::Up(endpoint));
                // A name that is no workload's stays wrong: nobody need wait for it.
                let hopeless = !interface.starts_with(WORKLOAD_INTERFACE_PREFIX);
                let until = if hopeless { since } else { since + ENDPOINT_DEADLINE };
                self.waiters.push(Waiter {
                    interface,
                    up: true,
                    since,
                    until,
                    answer,
                });
            }
            Command::Down(interface, answer) => {
                tracing::debug!(interface, "endpoint down");
                self.manager.handle(Input::Down(interface.clone()));
                self.waiters.push(Waiter {
                    interface,
                    up: false,
                    since,
                    until: since + ENDPOINT_DEADLINE,
                    answer,
                });
            }
            Command::Rows(answer) => {
                // Whoever asked may have left.
                let _ = answer.send(self.manager.rows().collect());
            }
            Command::Summary(answer) => {
                let _ = answer.send(self.manager.summary());
            }
        }
    }

    fn answer_waiters(&mut self) {
        if !self.manager.is_loaded() && self.waiters.iter().all(|w| Instant::now() < w.until) {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            let state = if waiter.up {
                self.manager.endpoint_is_up(&waiter.interface)
            } else {
                self.manager.endpoint_is_down(&waiter.interface)
            };
            let waited = waiter.since.elapsed();
            let result = match state {
                Err(_) if Instant::now() < waiter.until => {
                    self.waiters.push(waiter);
                    continue;
                }
                Err(reason) => Err(DataplaneError::NotProgrammed {
                    interface: waiter.interface,
                    waited,
                    reason,
                }),
                Ok(()) => Ok(()),
            };
            // Whoever asked may have left.
            let _ = waiter.answer.send(result);
        }
    }

    /// Sums up what changed, so long after it is due.
    fn sum_up(&mut self, after: Duration) {
        let begun = Instant::now();
        if self.changed && begun >= self.summary_at + after {
            self.changed = false;
            self.task.summary.send_replace(Arc::new(self.manager.summary()));
            self.summary_at = begun + SUMMARY_INTERVAL.max(begun.elapsed() * SUMMARY_SHARE);
        }
    }
}
