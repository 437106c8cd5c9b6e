//! Running what shows others this router's routes: `protocol mrt` and `protocol bmp`.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tortie_bgp::bmp::Message;
use tortie_bgp::speaker::{ExportKind, ExportSpec};

use crate::bmp::{Feed, Monitor};
use crate::engine::{Clock, Engine};
use crate::mrt;

/// The tasks that run, one for each protocol.
#[derive(Debug)]
pub(crate) struct Exports {
    running: Vec<Running>,
    clock: Clock,
    /// Of the next one.
    serial: u64,
}

#[derive(Debug)]
struct Running {
    spec: ExportSpec,
    serial: u64,
    #[expect(dead_code, reason = "dropping it ends the task")]
    task: Task,
    /// To a station that is connected.
    feed: Option<Feed>,
}

/// Ends when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "dropping it ends the task")]
enum Task {
    /// At once.
    Mrt(AbortOnDropHandle<()>),
    /// By itself: it has something to say first.
    Bmp(DropGuard),
}

impl Exports {
    /// Nothing runs yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Exports {
            running: Vec::new(),
            clock,
            serial: 0,
        }
    }

    /// Runs these and nothing else. One that is unchanged goes on.
    pub(crate) fn apply(&mut self, wanted: Vec<ExportSpec>, engine: &Engine, tasks: &TaskTracker) {
        self.running.retain(|running| wanted.contains(&running.spec));
        for spec in wanted {
            if self.running.iter().any(|running| running.spec == spec) {
                continue;
            }
            let serial = self.serial;
            self.serial += 1;
            let (protocol, engine, clock) = (Arc::clone(&spec.protocol), engine.clone(), self.clock);
            let task = match spec.kind.clone() {
                ExportKind::Mrt(config) => {
                    let task = tokio::spawn(mrt::periodic(protocol, config, engine, clock));
                    Task::Mrt(AbortOnDropHandle::new(task))
                }
                ExportKind::Bmp(config) => {
                    let stop = CancellationToken::new();
                    let monitor = Monitor {
                        protocol,
                        config,
                        serial,
                        engine,
                        clock,
                    };
                    tasks.spawn(monitor.run(stop.clone()));
                    Task::Bmp(stop.drop_guard())
                }
            };
            self.running.push(Running {
                spec,
                serial,
                task,
                feed: None,
            });
        }
    }

    /// The protocol of a task that still runs.
    pub(crate) fn protocol(&self, serial: u64) -> Option<Arc<str>> {
        let running = self.running.iter().find(|running| running.serial == serial)?;
        Some(running.spec.protocol.clone())
    }

    /// Tells a station from now on what happens, beginning with this; or nothing any more.
    pub(crate) fn connect(&mut self, serial: u64, feed: Option<Feed>, first: &[Message]) {
        if let Some(running) = self.running.iter_mut().find(|running| running.serial == serial) {
            running.feed = feed.filter(|feed| feed.push(first).is_ok());
        }
    }

    /// Tells the stations. One that cannot take it has lost its connection by that.
    pub(crate) fn monitor(&mut self, messages: &[Message]) {
        for running in &mut self.running {
            running.feed.take_if(|feed| feed.push(messages).is_err());
        }
    }

    /// The stations have missed something.
    pub(crate) fn monitor_lost(&mut self) {
        let feeds = self.running.iter_mut().filter_map(|running| running.feed.take());
        feeds.for_each(|feed| feed.shut());
    }

    /// Ends all of them.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
    }
}
