//! Making a configuration the current one, or saying why not.
//!
//! One at a time, whoever asks: confd, a signal, `birdc`. Parsing happens beside the engine, which goes on routing; a
//! rejected configuration never gets near it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tortie_bgp::config::{self, Change, Config, Diagnostic};

use crate::engine::{Engine, Request, Stopped};
use crate::net::interfaces;
use crate::source::{self, Rejected};

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
    config: Arc<Config>,
}

/// The one place that changes the configuration.
#[derive(Debug)]
pub(crate) struct Configurator {
    own: PathBuf,
    engine: Engine,
    /// Held while applying, so that two requests do not interleave.
    applied: Mutex<Applied>,
}

impl Configurator {
    /// With the configuration that the engine was started with.
    pub(crate) fn new(own: PathBuf, config: Arc<Config>, engine: Engine) -> Self {
        let file = own.display().to_string();
        Configurator {
            own,
            engine,
            applied: Mutex::new(Applied {
                revision: String::new(),
                file,
                config,
            }),
        }
    }

    pub(crate) async fn applied(&self) -> Applied {
        self.applied.lock().await.clone()
    }

    /// The configuration in force.
    pub(crate) async fn config(&self) -> Arc<Config> {
        self.applied.lock().await.config.clone()
    }

    /// What applying would do.
    pub(crate) async fn check(&self, text: Text) -> Result<Outcome, Stopped> {
        let parsed = self.parse(text).await;
        let applied = self.applied.lock().await;
        Ok(match parsed {
            Ok((_, config)) => outcome(&applied, &config),
            Err(Rejected(diagnostics)) => rejected(&applied, diagnostics),
        })
    }

    /// Applies a configuration under a revision, unless it is rejected.
    ///
    /// # Errors
    /// [`Stopped`] when there is no engine any more.
    pub(crate) async fn apply(&self, text: Text, revision: String) -> Result<Outcome, Stopped> {
        let parsed = self.parse(text).await;
        let mut applied = self.applied.lock().await;
        let (file, config) = match parsed {
            Ok(parsed) => parsed,
            Err(Rejected(diagnostics)) => {
                tracing::warn!(
                    errors = diagnostics.len(),
                    "configuration rejected, the old one stays in force"
                );
                return Ok(rejected(&applied, diagnostics));
            }
        };
        let mut outcome = outcome(&applied, &config);
        self.engine
            .ask(|done| Request::Apply {
                config: config.clone(),
                done,
            })
            .await?;
        *applied = Applied { revision, file, config };
        outcome.applied_revision.clone_from(&applied.revision);
        for change in &outcome.changes {
            let (protocol, action) = (&*change.protocol, change.action.as_str());
            tracing::info!(protocol, action, reason = change.reason, "protocol reconfigured");
        }
        tracing::info!(
            revision = applied.revision,
            file = applied.file,
            "configuration applied"
        );
        Ok(outcome)
    }

    async fn parse(&self, text: Text) -> Result<(String, Arc<Config>), Rejected> {
        let own = self.own.clone();
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
            let addresses = interfaces::addresses().unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read the host's addresses");
                Vec::new()
            });
            let config = source::with_router_id(config, &name, &addresses)?;
            Ok((name, config))
        });
        // The parser is pure and bounded; should it ever panic, that is a rejection too.
        parsed
            .await
            .unwrap_or_else(|error| Err(Rejected::internal(&error.to_string())))
    }
}

fn outcome(applied: &Applied, config: &Config) -> Outcome {
    Outcome {
        diagnostics: Vec::new(),
        changes: config::diff(&applied.config, config),
        applied_revision: applied.revision.clone(),
    }
}

fn rejected(applied: &Applied, diagnostics: Vec<Diagnostic>) -> Outcome {
    Outcome {
        diagnostics,
        changes: Vec::new(),
        applied_revision: applied.revision.clone(),
    }
}
