//! Running what shows others this router's routes: `protocol mrt`.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tortie_bgp::speaker::{ExportKind, ExportSpec};

use crate::engine::{Clock, Engine};
use crate::mrt;

/// The tasks that run, one for each protocol.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    running: Vec<(ExportSpec, Task)>,
}

/// Ends when dropped.
type Task = AbortOnDropHandle<()>;

impl Exports {
    /// Runs these and nothing else. One that is unchanged goes on.
    pub(crate) fn apply(&mut self, wanted: Vec<ExportSpec>, engine: &Engine, clock: Clock) {
        self.running.retain(|(spec, _)| wanted.contains(spec));
        for spec in wanted {
            if self.running.iter().any(|(known, _)| *known == spec) {
                continue;
            }
            let task = match &spec.kind {
                ExportKind::Mrt(config) => {
                    let protocol = Arc::clone(&spec.protocol);
                    tokio::spawn(mrt::periodic(protocol, config.clone(), engine.clone(), clock))
                }
            };
            self.running.push((spec, AbortOnDropHandle::new(task)));
        }
    }
}
