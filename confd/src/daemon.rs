//! The daemon: follows cluster state, renders when it changed, hands the result to the applier.
//!
//! Nothing is rendered before the state is in sync (or is the last good one from disk). When there is no view or a template fails,
//! what was rendered before stays wanted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_kit::address::Target;
use tortie_kit::health::{Guard, Health};
use tortie_proto::common::Hello;
use tortie_replica::Delta;
use tortie_typha_client::{SyncEvent, SyncOptions, SyncStatus, sync};

use crate::apply::{Applier, ApplierParts, ApplyStatus, Rendered};
use crate::bird::Bird;
use crate::config::Config;
use crate::metrics::{Metrics, RenderLabels, RenderResult};
use crate::render::{BIRD_RS, GoTemplates, LoadError, RenderError, Sections};
use crate::secrets;
use crate::state::ClusterState;
use crate::view::{BgpView, NoView, Problem, RouterIdChoice, Views};

/// Changes that come together are rendered together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrenderable {
    /// Nothing to render.
    #[error(transparent)]
    NoView(#[from] NoView),
    /// A template does not go with its data.
    #[error(transparent)]
    Template(#[from] RenderError),
}

/// What a rendering leaves to the next one.
#[derive(Default)]
pub struct Before {
    views: Views,
    sections: Sections,
}

/// State to view to text. What the rendering before left makes it cheaper, and nothing else.
///
/// # Errors
/// [`Unrenderable`].
pub fn render(
    state: &ClusterState,
    router_id: RouterIdChoice,
    engine: &GoTemplates,
    before: &mut Before,
) -> Result<(BgpView, Rendered), Unrenderable> {
    let view = before.views.compute(state, router_id)?;
    let text = before.sections.render(engine, BIRD_RS, &view, &state.secrets)?;
    Ok((view, Rendered::new(text)))
}

/// What /debug/state shows.
#[derive(Debug, Clone, Default)]
struct Shown {
    typha: String,
    datastore_revision: u64,
    render_error: Option<String>,
    apply: ApplyStatus,
    view: Option<Arc<BgpView>>,
}

/// Where the daemon reports.
pub struct Reporting {
    /// Readiness.
    pub health: Health,
    /// Metrics.
    pub registry: Arc<Mutex<Registry>>,
}

/// Follows the cluster until cancelled.
pub struct Daemon {
    config: Config,
    hello: Hello,
    engine: GoTemplates,
    metrics: Metrics,
    health: Health,
    shown: Arc<Mutex<Shown>>,
}

/// Options of the sync stream. Rendering once wants typha's state, not an older one from disk, and leaves nothing behind.
pub fn sync_options(config: &Config, hello: Hello, snapshot: Option<PathBuf>) -> SyncOptions {
    SyncOptions {
        typha: Target::new(config.typha.clone(), config.tls.files()),
        hello,
        prefixes: ClusterState::key_prefixes(),
        snapshot,
    }
}

/// What confd says of itself.
pub fn hello(config: &Config) -> Hello {
    Hello::new("confd", config.node.as_str(), &tortie_kit::instance())
}

impl Daemon {
    /// Loads the templates; nothing runs yet.
    ///
    /// # Errors
    /// [`LoadError`] when a template is broken.
    pub fn new(config: Config, reporting: Reporting) -> Result<Self, LoadError> {
        let engine = GoTemplates::load(config.templates.as_deref())?;
        let metrics = Metrics::new(&mut reporting.registry.lock().unwrap_or_else(PoisonError::into_inner));
        let hello = hello(&config);
        let shown = Arc::new(Mutex::new(Shown::default()));
        Ok(Daemon {
            config,
            hello,
            engine,
            metrics,
            health: reporting.health,
            shown,
        })
    }

    /// For /debug/state.
    pub fn state_fn(&self) -> Arc<dyn Fn() -> serde_json::Value + Send + Sync> {
        let shown = self.shown.clone();
        Arc::new(move || {
            let now = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            serde_json::json!({
                "typha": now.typha,
                "datastore_revision": now.datastore_revision,
                "render_error": now.render_error,
                "apply": now.apply,
                "view": now.view.as_deref(),
            })
        })
    }

    /// Runs until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let (desired, wanted) = watch::channel(None);
        let metrics = self.metrics.clone();
        let parts = ApplierParts {
            output: self.config.output.clone(),
            accepted: accepted_path(&self.config),
            bird: Bird::new(&self.config.bird, self.hello.clone()),
            desired: wanted,
            count: Arc::new(move |outcome| metrics.count(outcome)),
        };
        let (applier, status) = Applier::new(parts);
        let applying = tokio::spawn(applier.run(token.clone()));
        let snapshot = Some(self.config.state_dir.join("snapshot"));
        let events = sync(sync_options(&self.config, self.hello.clone(), snapshot), token.clone());
        let follower = Follower::new(self, desired);
        follower.run(events, status, token).await;
        if let Err(error) = applying.await {
            tracing::error!(%error, "applier ended");
        }
    }
}

/// Where the last accepted text is kept.
pub fn accepted_path(config: &Config) -> PathBuf {
    config.state_dir.join("accepted.conf")
}

struct Follower {
    daemon: Daemon,
    state: ClusterState,
    before: Before,
    desired: watch::Sender<Option<Arc<Rendered>>>,
    /// In sync at least once: before that, the state is a part of the cluster only.
    complete: bool,
    /// It was reported that typha is away.
    typha_away: bool,
    render_at: Option<Instant>,
    datastore_revision: u64,
    problems: Vec<Problem>,
    sync_guard: Guard,
    render_guard: Guard,
    bird_guard: Guard,
}

impl Follower {
    fn new(daemon: Daemon, desired: watch::Sender<Option<Arc<Rendered>>>) -> Self {
        let (sync_guard, render_guard) = (daemon.health.guard("sync"), daemon.health.guard("render"));
        let bird_guard = daemon.health.guard("bird");
        sync_guard.not_ready("no cluster state yet");
        render_guard.not_ready("nothing rendered yet");
        bird_guard.not_ready("nothing applied yet");
        Follower {
            before: Before::default(),
            state: daemon.config.empty_state(),
            daemon,
            desired,
            complete: false,
            typha_away: false,
            render_at: None,
            datastore_revision: 0,
            problems: Vec::new(),
            sync_guard,
            render_guard,
            bird_guard,
        }
    }

    async fn run(
        mut self,
        mut events: mpsc::Receiver<SyncEvent>,
        mut status: watch::Receiver<ApplyStatus>,
        token: CancellationToken,
    ) {
        let mut secrets = tokio::time::interval(secrets::POLL);
        loop {
            let render_at = self.render_at.filter(|_| self.complete);
            tokio::select! {
                () = token.cancelled() => return,
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                () = until(render_at) => self.render(),
                _ = secrets.tick() => self.look_at_secrets(),
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = status.borrow_and_update().clone();
                    self.applied(now);
                }
            }
        }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.daemon.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn event(&mut self, event: SyncEvent) {
        let changed = match event {
            SyncEvent::Delta(Delta::Set(key, value)) => {
                self.datastore_revision = self.datastore_revision.max(value.revision);
                self.state.set(&key, &value.value, value.revision)
            }
            SyncEvent::Delta(Delta::Delete(key)) => self.state.delete(&key),
            SyncEvent::Delta(Delta::InSync) => !std::mem::replace(&mut self.complete, true),
            SyncEvent::Status(status) => {
                self.sync_status(status);
                false
            }
        };
        if changed && self.render_at.is_none() {
            self.render_at = Some(Instant::now() + DEBOUNCE);
        }
    }

    fn sync_status(&mut self, status: SyncStatus) {
        let connected = matches!(status, SyncStatus::InSync { .. } | SyncStatus::Stale { .. });
        self.typha_away &= !connected;
        self.daemon.metrics.typha_connected.set(i64::from(connected));
        let text = match status {
            SyncStatus::Connecting => "connecting".to_owned(),
            SyncStatus::FromSnapshot { revision, age } => {
                tracing::warn!(
                    revision,
                    age_s = age.as_secs(),
                    "typha is away; starting from the last good state"
                );
                self.datastore_revision = self.datastore_revision.max(revision);
                self.sync_guard.ready();
                format!("away; state of revision {revision} from disk, {} s old", age.as_secs())
            }
            SyncStatus::InSync { revision } => {
                tracing::info!(revision, "cluster state in sync");
                self.datastore_revision = self.datastore_revision.max(revision);
                self.sync_guard.ready();
                format!("in sync at revision {revision}")
            }
            SyncStatus::Stale { revision, age, reason } => {
                tracing::warn!(
                    revision,
                    age_s = age.as_secs(),
                    reason,
                    "typha's datastore is away; what typha holds is in force"
                );
                self.datastore_revision = self.datastore_revision.max(revision);
                self.sync_guard.ready();
                format!("stale at revision {revision}, {} s old: {reason}", age.as_secs())
            }
            SyncStatus::Disconnected { reason } => {
                if !std::mem::replace(&mut self.typha_away, true) {
                    tracing::warn!(reason, "typha is away; what is known stays in force");
                }
                format!("away: {reason}")
            }
        };
        let revision = self.datastore_revision;
        self.show(|s| {
            s.typha = text;
            s.datastore_revision = revision;
        });
    }

    fn look_at_secrets(&mut self) {
        if !self.complete {
            return;
        }
        let now = secrets::read(self.daemon.config.secrets_dir.as_deref(), secrets::wanted(&self.state));
        if now != self.state.secrets && self.render_at.is_none() {
            self.render_at = Some(Instant::now());
        }
    }

    fn render(&mut self) {
        self.render_at = None;
        let wanted = secrets::wanted(&self.state);
        self.state.secrets = secrets::read(self.daemon.config.secrets_dir.as_deref(), wanted);
        let started = Instant::now();
        let router_id = self.daemon.config.router_id;
        let result = render(&self.state, router_id, &self.daemon.engine, &mut self.before);
        let metrics = &self.daemon.metrics;
        metrics.render_seconds.observe(started.elapsed().as_secs_f64());
        let label = match &result {
            Ok(_) => RenderResult::Rendered,
            Err(Unrenderable::NoView(_)) => RenderResult::NoNode,
            Err(Unrenderable::Template(_)) => RenderResult::TemplateError,
        };
        metrics.renders.get_or_create(&RenderLabels { result: label }).inc();
        match result {
            Ok((view, rendered)) => self.rendered(view, rendered),
            Err(error) => {
                let error = error.to_string();
                tracing::error!(error, "nothing rendered; what is in force stays");
                self.render_guard.not_ready(&error);
                self.show(|s| s.render_error = Some(error));
            }
        }
    }

    fn rendered(&mut self, view: BgpView, rendered: Rendered) {
        // Both are sorted.
        let known = |p: &&Problem| self.problems.binary_search(p).is_ok();
        for problem in view.problems.iter().filter(|p| !known(p)) {
            tracing::warn!(
                kind = problem.object.kind,
                name = problem.object.name,
                revision = problem.object.revision,
                field = problem.field,
                reason = %problem.kind,
                "an object has no effect as asked"
            );
        }
        self.problems.clone_from(&view.problems);
        let metrics = &self.daemon.metrics;
        metrics
            .problems
            .set(i64::try_from(view.problems.len()).unwrap_or(i64::MAX));
        metrics.peers.set(i64::try_from(view.peers.len()).unwrap_or(i64::MAX));
        metrics
            .desired_revision
            .set(i64::try_from(self.datastore_revision).unwrap_or(i64::MAX));
        self.render_guard.ready();
        let (view, revision) = (Arc::new(view), self.datastore_revision);
        self.show(|s| {
            s.view = Some(view.clone());
            s.render_error = None;
            s.datastore_revision = revision;
        });
        let new = self
            .desired
            .borrow()
            .as_ref()
            .is_none_or(|d| d.revision != rendered.revision);
        if new {
            let (revision, peers) = (rendered.revision.as_str(), view.peers.len());
            tracing::info!(
                revision,
                datastore_revision = self.datastore_revision,
                peers,
                "configuration rendered"
            );
            self.desired.send_replace(Some(Arc::new(rendered)));
        }
        let current = self
            .daemon
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .apply
            .clone();
        self.applied(current);
    }

    fn applied(&mut self, status: ApplyStatus) {
        let wanted = self.desired.borrow().as_ref().map(|d| d.revision.clone());
        let in_force = status.in_force() && status.desired_revision == wanted;
        let metrics = &self.daemon.metrics;
        metrics.in_force.set(i64::from(in_force));
        if in_force {
            metrics.applied_revision.set(metrics.desired_revision.get());
            self.bird_guard.ready();
        } else if let Some(reason) = status.lag() {
            self.bird_guard.not_ready(&reason);
        }
        self.show(|s| s.apply = status);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
