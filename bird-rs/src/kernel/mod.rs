//! The kernel's routing tables, written and learned from on behalf of `protocol kernel`.
//!
//! One task for each of them ([`task`]), with a thread for its netlink socket and one for the kernel's events. The engine
//! gives a task one batch at a time, and says by a value of which the latest counts how the table is to be treated; so it
//! never waits. When the engine goes without a word, which only a crash can cause, what was written stays.

mod table;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tortie_bgp::speaker::{KernelEntry, KernelSpec};
use tortie_net::Prefix;
use tortie_replica::Delta;

use crate::engine::Engine;

/// How long tables may take to give back what was written when the process ends.
const FLUSH: Duration = Duration::from_secs(30);

/// A batch of changes.
type Deltas = Vec<Delta<Prefix, KernelEntry>>;

/// How a table is to be treated.
#[derive(Debug, Clone)]
enum Wanted {
    /// As this says.
    Run(KernelSpec),
    /// Not at all any more; with `flush` what was written goes first.
    End { flush: bool },
}

/// The engine's end of a task.
#[derive(Debug)]
struct Writer {
    spec: KernelSpec,
    wanted: watch::Sender<Wanted>,
    /// Of one batch: the engine gives the next one after it heard of the last.
    batches: mpsc::Sender<Deltas>,
    task: JoinHandle<()>,
}

/// All tables that are written or learned from.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    writers: Vec<Writer>,
    /// Tasks that were told to end.
    ending: Vec<JoinHandle<()>>,
}

impl Kernels {
    /// Makes these the tables, and no others.
    pub(crate) fn apply(&mut self, specs: Vec<KernelSpec>, engine: &Engine) {
        let mut before = std::mem::take(&mut self.writers);
        self.ending.retain(|task| !task.is_finished());
        let mut fresh = Vec::new();
        for spec in specs {
            let same = |w: &Writer| w.spec.protocol == spec.protocol && w.spec.epoch == spec.epoch;
            match before.iter().position(same) {
                Some(at) => {
                    let mut writer = before.swap_remove(at);
                    writer.spec = spec.clone();
                    writer.wanted.send_replace(Wanted::Run(spec));
                    self.writers.push(writer);
                }
                None => fresh.push(spec),
            }
        }
        // Who takes over a table takes over what is in it, and begins when the one before has ended.
        let takes_over = |old: &KernelSpec, new: &KernelSpec| {
            let place = |spec: &KernelSpec| (spec.table, spec.family);
            place(old) == place(new) && new.exports && (new.metric == old.metric || new.metric == 0)
        };
        let mut predecessors: Vec<(KernelSpec, JoinHandle<()>)> = Vec::new();
        for writer in before {
            let taken = fresh.iter().any(|new| takes_over(&writer.spec, new));
            let flush = writer.spec.exports && !writer.spec.persist && !taken;
            writer.wanted.send_replace(Wanted::End { flush });
            predecessors.push((writer.spec, writer.task));
        }
        for spec in fresh {
            let at = predecessors.iter().position(|(old, _)| takes_over(old, &spec));
            let predecessor = at.map(|at| predecessors.swap_remove(at).1);
            self.writers.push(start(spec, predecessor, engine));
        }
        self.ending.extend(predecessors.into_iter().map(|(_, task)| task));
    }

    /// Gives a table's task a batch.
    pub(crate) fn give(&self, protocol: &Arc<str>, epoch: u32, deltas: Deltas) {
        let same = |w: &&Writer| w.spec.protocol == *protocol && w.spec.epoch == epoch;
        let Some(writer) = self.writers.iter().find(same) else {
            return;
        };
        if let Err(error) = writer.batches.try_send(deltas) {
            // It takes what it asked for, unless it panicked.
            tracing::error!(protocol = &**protocol, %error, "the kernel's routes cannot be written");
        }
    }

    /// Waits, not for ever, until the tables that were told to end have given back what was written.
    pub(crate) async fn ended(&mut self) {
        let all = futures::future::join_all(self.ending.drain(..));
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::warn!("not all routes could be removed from the kernel in time");
        }
    }
}

fn start(spec: KernelSpec, predecessor: Option<JoinHandle<()>>, engine: &Engine) -> Writer {
    let (wanted, seen) = watch::channel(Wanted::Run(spec.clone()));
    let (batches, queue) = mpsc::channel(1);
    let task = task::Task {
        spec: spec.clone(),
        engine: engine.clone(),
        wanted: seen,
        batches: queue,
    };
    let run = async move {
        if let Some(predecessor) = predecessor {
            // However it ended: the table is its no longer.
            let _ = predecessor.await;
        }
        task.run().await;
    };
    Writer {
        spec,
        wanted,
        batches,
        task: tokio::spawn(run),
    }
}
