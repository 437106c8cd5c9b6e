//! What typha begins with: the datastore's state, or while that does not answer the state it kept in a file.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until, timeout_at};
use tortie_kit::backoff::Backoff;
use tortie_kit::health::Guard;
use tortie_proto::state::State;

use crate::cluster;
use crate::datastore::{Backend, WatchError};
use crate::metrics::Metrics;
use crate::state;
use crate::store::Writer;
use crate::sync::away::Away;
use crate::sync::hub::Hub;
use crate::sync::loaded::{Loaded, load, refused};
use crate::sync::log::Limits;

/// Between attempts to begin with a datastore that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long the datastore may take before a state that was kept is served: a restart of it should not be told everybody.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that beginning needs.
pub(crate) struct Beginning {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) guard: Guard,
    pub(crate) metrics: Arc<Metrics>,
    /// The datastore is elsewhere: it is waited for.
    pub(crate) patient: bool,
    pub(crate) kept: Option<State>,
    /// Of the changes that are held.
    pub(crate) limits: Limits,
}

impl Beginning {
    /// Begins.
    ///
    /// # Errors
    /// A datastore that is here and cannot be read.
    pub(crate) async fn begin(mut self) -> anyhow::Result<Hub> {
        match self.kept.take() {
            None => self.wait().await,
            Some(kept) => {
                let age = state::age(&kept);
                let loaded = Loaded::kept(kept, self.limits);
                Ok(self.with(loaded, age).await)
            }
        }
    }

    /// Without anything that was kept: the datastore or nothing.
    async fn wait(self) -> anyhow::Result<Hub> {
        let writer = Writer::new(Arc::clone(&self.backend), self.metrics.transactions.clone());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let error = match read(&*self.backend, &writer, self.limits).await {
                Ok(loaded) => return Ok(self.start(loaded, None)),
                Err(error) if !self.patient => return Err(error),
                Err(error) => error,
            };
            self.failed(&error, &backoff);
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// With a state that was kept: the datastore if it answers soon and follows from that state.
    async fn with(self, kept: Loaded, age: Duration) -> Hub {
        let writer = Writer::new(Arc::clone(&self.backend), self.metrics.transactions.clone());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let deadline = Instant::now() + PATIENCE;
        let mut reason = format!("the datastore does not answer within {} s", PATIENCE.as_secs());
        loop {
            let attempt = read_after(&*self.backend, &writer, &kept);
            match timeout_at(deadline, attempt).await {
                Ok(Ok(Ok(loaded))) => return self.start(loaded, None),
                Ok(Ok(Err(why))) => {
                    reason = refused(&why);
                    break;
                }
                Ok(Err(error)) => {
                    self.failed(&error, &backoff);
                    reason = format!("{error:#}");
                }
                Err(_) => break,
            }
            sleep_until(deadline.min(Instant::now() + backoff.next())).await;
        }
        tracing::error!(
            reason,
            revision = kept.revision(),
            age_s = age.as_secs(),
            "the last good state is served, and may be old"
        );
        self.start(kept, Some(Away::new(age, reason)))
    }

    fn failed(&self, error: &anyhow::Error, backoff: &Backoff) {
        if backoff.attempts() == 0 {
            tracing::error!(error = format!("{error:#}"), "cannot read the datastore, trying again");
        }
        self.guard.not_ready(&format!("{error:#}"));
    }

    fn start(self, loaded: Loaded, away: Option<Away>) -> Hub {
        Hub::start(self.backend, loaded, away, self.guard, self.metrics)
    }
}

async fn read(backend: &dyn Backend, writer: &Writer, limits: Limits) -> anyhow::Result<Loaded> {
    cluster::ensure_information(backend, writer)
        .await
        .context("make the cluster information")?;
    Ok(load(backend, limits).await?)
}

/// What the datastore holds, or why clients that hold `kept` are not led there.
async fn read_after(
    backend: &dyn Backend,
    writer: &Writer,
    kept: &Loaded,
) -> anyhow::Result<Result<Loaded, WatchError>> {
    let loaded = read(backend, writer, kept.limits()).await?;
    match loaded.follows(kept, backend).await {
        Ok(()) => Ok(Ok(loaded)),
        Err(WatchError::Storage(error)) => Err(error.into()),
        Err(why) => Ok(Err(why)),
    }
}
