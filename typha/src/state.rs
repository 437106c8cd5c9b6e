//! The last good state in a file: what is served when typha begins and the datastore, which is elsewhere, does not answer.
//!
//! Written whole and atomically, at most every [`EVERY`]; only while the datastore answers, so that an old state is never
//! dated anew. A file that cannot be used is reported and stands in nobody's way: typha waits for the datastore, as without.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tortie_proto::state::{self, State};

use crate::metrics::Metrics;
use crate::sync::hub::Hub;

/// How often a state that changes is written: some ten megabytes in a large cluster.
const EVERY: Duration = Duration::from_secs(30);
/// How often one that does not is, so that its age stays true.
const ANEW: Duration = Duration::from_secs(600);
/// Only the owner reads it: it may hold secrets.
const MODE: u32 = 0o600;

/// The state in the file, if there is one that can be used.
pub(crate) fn read(path: &Path) -> Option<State> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "state file cannot be read");
            return None;
        }
    };
    match state::decode(bytes.into()) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "state file is not used");
            None
        }
    }
}

/// How old a state is; no age when the clock went backwards.
pub(crate) fn age(state: &State) -> Duration {
    let millis = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    Duration::from_millis(millis).saturating_sub(state.at)
}

/// Keeps the file up to date until the token is cancelled, and once more then.
pub(crate) struct Keeper {
    path: PathBuf,
    hub: Hub,
    metrics: Arc<Metrics>,
    /// Of which history and revision the file is, and since when.
    kept: Option<(String, u64, Instant)>,
}

impl Keeper {
    pub(crate) fn new(path: PathBuf, hub: Hub, metrics: Arc<Metrics>) -> Self {
        Keeper {
            path,
            hub,
            metrics,
            kept: None,
        }
    }

    pub(crate) async fn run(mut self, token: CancellationToken) {
        self.make_directory();
        let mut look = interval(EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first state is worth keeping at once, also when it comes late.
        let mut away = self.hub.watch_away();
        loop {
            self.keep().await;
            let first = self.kept.is_none();
            tokio::select! {
                _ = look.tick() => {}
                changed = away.changed(), if first => if changed.is_err() { return },
                () = token.cancelled() => break,
            }
        }
        self.keep().await;
    }

    /// The default's may be missing. What cannot be made is said when the file cannot be written.
    fn make_directory(&self) {
        if let Some(directory) = self.path.parent().filter(|p| !p.as_os_str().is_empty())
            && !directory.exists()
        {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            if let Err(error) = made {
                tracing::error!(directory = %directory.display(), %error, "no directory for the state file");
            }
        }
    }

    async fn keep(&mut self) {
        let history = self.hub.history().borrow().id.clone();
        let revision = *self.hub.head().borrow();
        let is_kept =
            |(id, at, when): &(String, u64, Instant)| *id == history && *at == revision && when.elapsed() < ANEW;
        if self.kept.as_ref().is_some_and(is_kept) {
            return;
        }
        let Ok(Some(state)) = self.hub.state().await else {
            return;
        };
        let (id, revision) = (state.cluster_id.clone(), state.revision);
        let path = self.path.clone();
        let write = move || tortie_kit::file::write_atomic(&path, &state::encode(&state), MODE);
        let written = tokio::task::spawn_blocking(write).await;
        match written.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(()) => {
                self.metrics.states_kept.inc();
                self.kept = Some((id, revision, Instant::now()));
            }
            Err(error) => tracing::error!(%error, "state file not written"),
        }
    }
}
