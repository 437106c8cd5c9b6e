//! The task of one table: feeds [`Table`], makes its batches, tells the engine what others put there.
//!
//! A batch's answer is handled before any event that the kernel sent after it, so what is believed of the kernel never lags
//! behind what was done to it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tortie_bgp::speaker::{Input, KernelSpec};
use tortie_netlink::monitor::{Event, Monitor, Without};
use tortie_netlink::route::{Filter, KernelError, Netlink};
use tortie_netlink::worker::{Worker, WorkerEnded};

use super::table::Table;
use super::{Deltas, Wanted};
use crate::engine::{Engine, Request};

/// After the kernel could not be asked.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at the kernel: links that come and go do so in bursts.
const PAUSE: Duration = Duration::from_millis(100);
/// What was written goes in so many batches and looks at the most, so that a kernel that refuses ends it too.
const FLUSH_ROUNDS: usize = 10_000;

/// What the task needs.
pub(super) struct Task {
    pub(super) spec: KernelSpec,
    pub(super) engine: Engine,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) batches: mpsc::Receiver<Deltas>,
}

/// Why the kernel cannot be talked to.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Ended(#[from] WorkerEnded),
    #[error("the kernel's events have ended")]
    Deaf,
}

/// What woke the task.
enum Wake {
    Batch(Deltas),
    Events(Vec<Event>),
    Wanted,
    Time,
    /// The engine is gone without a word.
    Deserted,
}

/// A connection to the kernel.
struct Kernel {
    worker: Worker,
    monitor: Monitor,
}

impl Kernel {
    fn open(table: u32) -> Result<Self, Failed> {
        let netlink = Netlink::open()?;
        // Before the first dump, so that nothing falls between.
        let monitor = Monitor::start(table, Without::Port(netlink.port()))?;
        let worker = Worker::start(netlink)?;
        Ok(Kernel { worker, monitor })
    }
}

/// The task's state.
struct Loop {
    task: Task,
    table: Table,
    started: Instant,
    look_at: Instant,
    dump_after: Instant,
    /// The engine waits for a word about its last batch.
    owed: bool,
}

impl Task {
    /// Runs until told to end.
    pub(super) async fn run(self) {
        let started = Instant::now();
        let mut looper = Loop {
            table: Table::new(self.spec.clone()),
            look_at: started + self.spec.scan_time,
            task: self,
            started,
            dump_after: started,
            owed: false,
        };
        loop {
            let failed = match Kernel::open(looper.task.spec.table) {
                Ok(mut kernel) => looper.serve(&mut kernel).await,
                Err(failed) => Err(failed),
            };
            let Err(error) = failed else { return };
            let protocol = &*looper.task.spec.protocol;
            tracing::error!(protocol, %error, "cannot talk to the kernel, its routes stay as they are");
            looper.table.want_dump();
            if matches!(*looper.task.wanted.borrow(), Wanted::End { .. }) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Loop {
    /// Serves until told to end, or until the kernel cannot be talked to.
    async fn serve(&mut self, kernel: &mut Kernel) -> Result<(), Failed> {
        loop {
            let wanted = self.task.wanted.borrow_and_update().clone();
            match wanted {
                Wanted::Run(spec) => {
                    self.look_at = self.look_at.min(Instant::now() + spec.scan_time);
                    self.task.spec = spec.clone();
                    self.table.set_spec(spec);
                }
                Wanted::End { flush: true } => return self.flush(kernel).await,
                Wanted::End { flush: false } => return Ok(()),
            }
            let busy = self.work(kernel).await?;
            self.tell().await;
            if busy {
                // Events first: what they tell is older than what is written next.
                while let Some(Some(events)) = futures::FutureExt::now_or_never(kernel.monitor.next()) {
                    self.table.follow(events?);
                }
                continue;
            }
            if std::mem::take(&mut self.owed) {
                let (protocol, epoch) = (self.task.spec.protocol.clone(), self.task.spec.epoch);
                let written = Input::Written { protocol, epoch };
                self.task.engine.request(Request::Input(written)).await;
            }
            match self.wait(kernel).await? {
                Wake::Batch(deltas) => {
                    self.owed = true;
                    self.table.want(deltas);
                }
                Wake::Events(events) => self.table.follow(events),
                Wake::Wanted | Wake::Time => {}
                Wake::Deserted => return Ok(()),
            }
        }
    }

    /// One dump or one batch, if any is due. Gives whether there may be more to do at once.
    async fn work(&mut self, kernel: &Kernel) -> Result<bool, Failed> {
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + self.task.spec.scan_time;
            self.table.want_dump();
        }
        if self.table.wants_dump() {
            if Instant::now() < self.dump_after {
                return Ok(false);
            }
            let filter = Filter {
                table: self.task.spec.table,
                protocol: None,
            };
            match kernel.worker.dump(filter).await? {
                Ok(dump) => {
                    self.dump_after = Instant::now() + PAUSE;
                    self.table.loaded(dump);
                }
                Err(error) => {
                    tracing::error!(protocol = &*self.task.spec.protocol, %error, "cannot read the kernel's routes");
                    self.dump_after = Instant::now() + RETRY;
                    return Ok(false);
                }
            }
        }
        let changes = self.table.plan(self.started.elapsed());
        if changes.is_empty() {
            return Ok(false);
        }
        tracing::debug!(
            protocol = &*self.task.spec.protocol,
            changes = changes.len(),
            "writing routes"
        );
        let (changes, result) = kernel.worker.apply(changes).await?;
        if let Err(error) = &result {
            tracing::warn!(%error, "a batch of routes has no whole answer, looking at the kernel");
        }
        self.table.applied(&changes, result, self.started.elapsed());
        Ok(true)
    }

    /// Tells the engine of others' routes.
    async fn tell(&mut self) {
        if let Some(aliens) = self.table.aliens() {
            let learned = Input::Learned {
                protocol: self.task.spec.protocol.clone(),
                complete: aliens.complete,
                aliens: aliens.changes,
            };
            self.task.engine.request(Request::Input(learned)).await;
        }
    }

    async fn wait(&mut self, kernel: &mut Kernel) -> Result<Wake, Failed> {
        let retry = self
            .table
            .next_deadline(self.started.elapsed())
            .map(|at| self.started + at);
        let dump = self.table.wants_dump().then_some(self.dump_after);
        let next = [retry, dump].into_iter().flatten().fold(self.look_at, Instant::min);
        let task = &mut self.task;
        tokio::select! {
            biased;
            changed = task.wanted.changed() => Ok(if changed.is_ok() { Wake::Wanted } else { Wake::Deserted }),
            events = kernel.monitor.next() => match events {
                Some(events) => Ok(Wake::Events(events?)),
                None => Err(Failed::Deaf),
            },
            Some(deltas) = task.batches.recv() => Ok(Wake::Batch(deltas)),
            () = tokio::time::sleep_until(next) => Ok(Wake::Time),
        }
    }

    /// Removes all that is ours.
    async fn flush(&mut self, kernel: &Kernel) -> Result<(), Failed> {
        self.table.end();
        for _ in 0..FLUSH_ROUNDS {
            let busy = self.work(kernel).await?;
            if self.table.is_settled() {
                return Ok(());
            }
            if !busy {
                tokio::time::sleep(RETRY / 10).await;
            }
        }
        Ok(())
    }
}
