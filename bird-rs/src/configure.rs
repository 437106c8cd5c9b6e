//! Making a configuration the current one, or saying why not; and the way back.
//!
//! One at a time, whoever asks: confd, a signal, `birdc`. Parsing happens beside the engine, which goes on routing; a
//! rejected configuration never gets near it. A configuration on trial is undone by the time that
//! [`Commits`] says, whether or not whoever asked for it is still there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use tortie_bgp::config::{self, Change, Commits, Config, Diagnostic};

use crate::engine::{Clock, Engine, Request, Stopped};
use crate::log::{self, Logs};
use crate::metrics::Metrics;
use crate::net::interfaces;
use crate::source::{self, Host, Rejected};

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    /// The file that the program was started with.
    Own,
    /// Another file.
    File(PathBuf),
    /// This text, under a name for diagnostics.
    Given { name: String, text: String },
}

/// How a configuration is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct How {
    /// Filters are not applied to routes that were seen already.
    pub(crate) soft: bool,
    /// Undone after this time, unless confirmed.
    pub(crate) trial: Option<Duration>,
}

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Not empty: the configuration was rejected.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What applying did, or would do.
    pub(crate) changes: Vec<Change>,
    /// Of the configuration now in force.
    pub(crate) applied_revision: String,
}

/// The configuration in force, as its requester named it.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) revision: String,
    pub(crate) file: String,
    /// How it was applied, and so is what undoes it.
    soft: bool,
    config: Arc<Config>,
}

/// What is asked for and what is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revisions {
    /// Of the last request, also when that was rejected or undone.
    pub(crate) desired: String,
    /// Of the configuration in force.
    pub(crate) applied: String,
    /// It is undone in this time, unless confirmed.
    pub(crate) undo_in: Option<Duration>,
}

#[derive(Debug)]
struct State {
    commits: Commits<Applied>,
    desired: String,
    /// Of the last trial. They are numbered from 1.
    trial: u64,
}

/// The one place that changes the configuration.
#[derive(Debug)]
pub(crate) struct Configurator {
    own: PathBuf,
    engine: Engine,
    clock: Clock,
    metrics: Metrics,
    logs: Logs,
    /// Held while applying, so that two requests do not interleave.
    state: Mutex<State>,
    /// A trial began or ended.
    news: Notify,
    /// The last trial that ended by its time.
    expired: watch::Sender<u64>,
}

impl Configurator {
    /// With the configuration that the engine was started with.
    pub(crate) fn new(
        own: PathBuf,
        config: Arc<Config>,
        (engine, clock): (Engine, Clock),
        (metrics, logs): (Metrics, Logs),
    ) -> Self {
        let first = Applied {
            revision: String::new(),
            file: own.display().to_string(),
            soft: false,
            config,
        };
        metrics.configured("", "", false);
        Configurator {
            own,
            engine,
            clock,
            metrics,
            logs,
            state: Mutex::new(State {
                commits: Commits::new(first),
                desired: String::new(),
                trial: 0,
            }),
            news: Notify::new(),
            expired: watch::Sender::new(0),
        }
    }

    /// Where messages go.
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(crate) async fn applied(&self) -> Applied {
        self.state.lock().await.commits.current().clone()
    }

    /// The configuration in force.
    pub(crate) async fn config(&self) -> Arc<Config> {
        self.state.lock().await.commits.current().config.clone()
    }

    pub(crate) async fn revisions(&self) -> Revisions {
        let state = self.state.lock().await;
        let until = state.commits.deadline();
        Revisions {
            desired: state.desired.clone(),
            applied: state.commits.current().revision.clone(),
            undo_in: until.map(|until| until.saturating_sub(self.clock.now())),
        }
    }

    /// Changes to the number of a trial when its time is over.
    pub(crate) fn expired(&self) -> watch::Receiver<u64> {
        self.expired.subscribe()
    }

    /// The name of the file that a text is from.
    pub(crate) fn name(&self, text: &Text) -> String {
        match text {
            Text::Own => self.own.display().to_string(),
            Text::File(path) => path.display().to_string(),
            Text::Given { name, .. } => name.clone(),
        }
    }

    /// What applying would do.
    pub(crate) async fn check(&self, text: Text) -> Outcome {
        let parsed = self.parse(text).await;
        let state = self.state.lock().await;
        match parsed {
            Ok((_, config)) => outcome(&state, &config),
            Err(Rejected(diagnostics)) => rejected(&state, diagnostics),
        }
    }

    /// Applies a configuration under a revision, unless it is rejected. Gives also the number of its trial.
    ///
    /// # Errors
    /// [`Stopped`] when there is no engine any more.
    pub(crate) async fn apply(&self, text: Text, revision: String, how: How) -> Result<(Outcome, u64), Stopped> {
        let parsed = self.parse(text).await;
        let mut state = self.state.lock().await;
        state.desired.clone_from(&revision);
        let opened = parsed.and_then(|(file, config)| {
            let logs = log::open(&config, &file)?;
            Ok((file, config, logs))
        });
        let (file, config, logs) = match opened {
            Ok(opened) => opened,
            Err(Rejected(diagnostics)) => {
                tracing::warn!(
                    errors = diagnostics.len(),
                    "configuration rejected, the old one stays in force"
                );
                self.metrics.config_rejections.inc();
                self.tell(&state);
                return Ok((rejected(&state, diagnostics), 0));
            }
        };
        let mut outcome = outcome(&state, &config);
        self.install(&config, how.soft).await?;
        self.logs.switch(logs);
        let next = Applied {
            revision,
            file,
            soft: how.soft,
            config,
        };
        state.commits.commit(self.clock.now(), next, how.trial);
        state.trial += 1;
        self.tell(&state);
        let applied = state.commits.current();
        outcome.applied_revision.clone_from(&applied.revision);
        for change in &outcome.changes {
            let (protocol, action) = (&*change.protocol, change.action.as_str());
            tracing::info!(protocol, action, reason = change.reason, "protocol reconfigured");
        }
        tracing::info!(
            revision = applied.revision,
            file = applied.file,
            soft = applied.soft,
            undo_after_s = how.trial.map(|trial| trial.as_secs()),
            "configuration applied"
        );
        Ok((outcome, state.trial))
    }

    /// The configuration on trial stays. `false`: there was none.
    pub(crate) async fn confirm(&self) -> bool {
        let mut state = self.state.lock().await;
        let confirmed = state.commits.confirm();
        self.tell(&state);
        confirmed
    }

    /// Goes back to the configuration before. `false`: there is none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) async fn undo(&self) -> Result<bool, Stopped> {
        let mut state = self.state.lock().await;
        let mut back = state.commits.clone();
        let undone = back.undo().is_some();
        if undone {
            self.go_back(&mut state, back).await?;
        }
        Ok(undone)
    }

    async fn go_back(&self, state: &mut State, back: Commits<Applied>) -> Result<(), Stopped> {
        // A change that was soft is undone softly.
        let soft = state.commits.current().soft;
        self.install(&back.current().config, soft).await?;
        match log::open(&back.current().config, &back.current().file) {
            Ok(logs) => self.logs.switch(logs),
            Err(error) => tracing::warn!(%error, "the log files stay as they are"),
        }
        state.commits = back;
        self.tell(state);
        let applied = state.commits.current();
        tracing::info!(revision = applied.revision, file = applied.file, "configuration undone");
        Ok(())
    }

    async fn install(&self, config: &Arc<Config>, soft: bool) -> Result<(), Stopped> {
        self.engine
            .ask(|done| Request::Apply {
                config: config.clone(),
                soft,
                done,
            })
            .await
    }

    fn tell(&self, state: &State) {
        let (applied, on_trial) = (&state.commits.current().revision, state.commits.deadline().is_some());
        self.metrics.configured(&state.desired, applied, on_trial);
        self.news.notify_one();
    }

    /// Undoes what is not confirmed in time, until cancelled.
    pub(crate) async fn keep_time(self: Arc<Self>, token: CancellationToken) {
        loop {
            let deadline = self.state.lock().await.commits.deadline();
            let left = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
            tokio::select! {
                () = token.cancelled() => return,
                () = self.news.notified() => continue,
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
            }
            let mut state = self.state.lock().await;
            let mut back = state.commits.clone();
            if back.expire(self.clock.now()).is_none() {
                continue;
            }
            tracing::warn!("the configuration was not confirmed in time");
            if self.go_back(&mut state, back).await.is_err() {
                return;
            }
            self.expired.send_replace(state.trial);
        }
    }

    async fn parse(&self, text: Text) -> Result<(String, Arc<Config>), Rejected> {
        let own = self.own.clone();
        let in_force = self.config().await.router_id;
        let parsed = tokio::task::spawn_blocking(move || {
            let (name, config) = match text {
                Text::Given { name, text } => {
                    let config = source::parse(&name, &text)?;
                    (name, config)
                }
                Text::Own => (own.display().to_string(), source::load(&own)?),
                Text::File(path) => (path.display().to_string(), source::load(&path)?),
            };
            // Without addresses the missing router id is reported; the reason they are missing is in the log.
            let addresses = interfaces::read()
                .map(|(_, addresses)| addresses)
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "cannot read the host's addresses");
                    Vec::new()
                });
            let host = Host {
                addresses,
                name: source::hostname(),
            };
            let config = source::completed(&config, &name, &host, in_force)?;
            Ok((name, config))
        });
        // The parser is pure and bounded; should it ever panic, that is a rejection too.
        parsed
            .await
            .unwrap_or_else(|error| Err(Rejected::internal(&error.to_string())))
    }
}

fn outcome(state: &State, config: &Config) -> Outcome {
    Outcome {
        diagnostics: Vec::new(),
        changes: config::diff(&state.commits.current().config, config),
        applied_revision: state.commits.current().revision.clone(),
    }
}

fn rejected(state: &State, diagnostics: Vec<Diagnostic>) -> Outcome {
    Outcome {
        diagnostics,
        changes: Vec::new(),
        applied_revision: state.commits.current().revision.clone(),
    }
}
