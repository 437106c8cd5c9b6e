//! Keeps the files: whenever keys change, what depends on them is rendered, and what differs is replaced.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_etcd::EtcdArgs;
use tortie_kit::address::Target;
use tortie_kit::backoff::Backoff;
use tortie_kit::health::{Guard, Health};
use tortie_proto::common::Hello;
use tortie_typha_client::{SyncOptions, sync};

use super::config::{Backend, Config};
use super::etcd::Etcd;
use super::functions::{FUNCTIONS, with_keys};
use super::keys::Keys;
use super::resource::{self, Resource};
use super::source::{Facts, Source, Typha, Viewpoint};
use super::target;
use crate::diff;
use crate::render::{Engine, GoTemplates, shipped};
use crate::state::ClusterState;

/// How long a source may take to be read the first time.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// Between attempts of a resource that failed.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// One resource and how it stands.
struct Kept {
    resource: Resource,
    /// What its text was last rendered of.
    seen: Option<(Arc<Keys>, Arc<Value>)>,
    /// The file was replaced, and `reload_cmd` has not succeeded since.
    reload_due: bool,
    failure: Option<String>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

/// The text of a resource. A pure function of its template's text and of the facts.
///
/// # Errors
/// The template that cannot be read or does not go with the keys, with its line.
pub fn render(resource: &Resource, keys: &Arc<Keys>, data: &Value) -> Result<String, String> {
    let name = resource.src.file_name().unwrap_or_default().to_string_lossy();
    let text = match std::fs::read_to_string(&resource.src) {
        Ok(text) => text,
        Err(e) => match shipped(&name) {
            Some(text) if e.kind() == std::io::ErrorKind::NotFound => text.to_owned(),
            _ => return Err(format!("{}: {e}", resource.src.display())),
        },
    };
    let engine = GoTemplates::with_functions(&name, &text, FUNCTIONS).map_err(|e| e.to_string())?;
    with_keys(keys, || engine.render(&name, data)).map_err(|e| e.to_string())
}

impl Kept {
    fn new(resource: Resource) -> Self {
        Kept {
            resource,
            seen: None,
            reload_due: false,
            failure: None,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            retry_at: None,
        }
    }

    /// Renders and replaces, if there is a reason to: other facts, a failure whose time has come, or `anew`.
    async fn keep(&mut self, facts: &Facts, anew: bool) {
        let keys = Arc::new(facts.keys.seen_from(&self.resource.prefix, &self.resource.keys));
        let same = |seen: &(Arc<Keys>, Arc<Value>)| seen.0 == keys && seen.1 == facts.data;
        let unchanged = self.seen.as_ref().is_some_and(same);
        let due = self.retry_at.is_some_and(|at| at <= Instant::now());
        if unchanged && !due && !anew {
            return;
        }
        let done = self.converge(&keys, &facts.data).await;
        self.seen = Some((keys, Arc::clone(&facts.data)));
        match done {
            Ok(()) => {
                self.backoff.reset();
                (self.retry_at, self.failure) = (None, None);
            }
            Err(failure) => {
                let file = self.resource.named.display();
                if self.failure.as_ref() == Some(&failure) {
                    tracing::debug!(resource = %file, failure, "still failing");
                } else {
                    tracing::error!(resource = %file, failure, "the file is not as wanted; it is tried again");
                }
                self.failure = Some(failure);
                self.retry_at = Some(Instant::now() + self.backoff.next());
            }
        }
    }

    async fn converge(&mut self, keys: &Arc<Keys>, data: &Value) -> Result<(), String> {
        let text = render(&self.resource, keys, data)?;
        if !target::is_current(&self.resource, &text).map_err(|e| e.to_string())? {
            target::replace(&self.resource, &text)
                .await
                .map_err(|e| e.to_string())?;
            self.reload_due = true;
            tracing::info!(dest = %self.resource.dest.display(), bytes = text.len(), "file replaced");
        }
        if self.reload_due {
            target::reload(&self.resource).await.map_err(|e| e.to_string())?;
            self.reload_due = false;
        }
        Ok(())
    }
}

/// Before anything is read.
fn check(args: &EtcdArgs) -> Result<()> {
    if !args.is_used() {
        bail!("--backend etcd needs --etcd-endpoints");
    }
    let wrong: Vec<String> = args.errors().iter().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The source that the flags name.
fn source(config: &Config, paths: &[String], token: &CancellationToken) -> Result<Source> {
    let typha = &config.typha;
    Ok(match config.backend {
        Backend::Env => Source::Environment,
        Backend::Etcd => Source::Etcd(Box::new(Etcd::new(&config.etcd)?)),
        Backend::File => Source::Files(config.file.clone()),
        Backend::Typha => {
            let address = typha.typha.clone().context("--backend typha needs --typha")?;
            let name = typha.node.as_ref().map_or("", |n| n.as_str());
            let mut prefixes = paths.to_vec();
            prefixes.extend(typha.node.iter().flat_map(|_| ClusterState::key_prefixes()));
            let snapshot = match &typha.state_dir {
                // Once wants typha's own state, and leaves nothing behind.
                Some(dir) if !config.onetime && !config.noop => {
                    std::fs::create_dir_all(dir).with_context(|| format!("make state directory {}", dir.display()))?;
                    Some(dir.join("files-snapshot"))
                }
                _ => None,
            };
            let options = SyncOptions {
                typha: Target::new(address, typha.tls.files()),
                hello: Hello::new("confd", name, &tortie_kit::instance()),
                prefixes,
                snapshot,
            };
            let viewpoint = typha.node.clone().map(|node| Viewpoint {
                state: ClusterState::new(node),
                router_id: typha.router_id,
                secrets_dir: typha.secrets_dir.clone(),
            });
            Source::Typha(Box::new(Typha::new(sync(options, token.clone()), viewpoint)))
        }
    })
}

/// The paths that anybody reads, as the source knows them.
fn paths(resources: &[Resource]) -> Vec<String> {
    let of = |r: &Resource| -> Vec<String> {
        let whole = |k: &String| super::keys::normal(&format!("{}/{k}", r.prefix));
        r.keys.iter().map(whole).collect()
    };
    let mut all: Vec<String> = resources.iter().flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

/// Does what the flags say, until done or cancelled.
///
/// # Errors
/// A resource that cannot be read; with `--onetime` and `--noop` also a source or a file that is not as wanted.
pub async fn run(config: &Config, health: &Health, token: CancellationToken) -> Result<()> {
    if config.backend == Backend::Etcd {
        check(&config.etcd)?;
    }
    let resources = resource::load(&config.confdir, &config.prefix)?;
    let paths = paths(&resources);
    let mut source = source(config, &paths, &token)?;
    if config.noop || config.onetime {
        let facts = tokio::select! {
            () = token.cancelled() => bail!("stopped"),
            facts = tokio::time::timeout(LOAD_LIMIT, source.load(&paths)) => facts,
        };
        let facts = match facts {
            Ok(facts) => facts.map_err(anyhow::Error::msg)?,
            Err(_) => bail!(
                "the source gave no keys within {} s{}",
                LOAD_LIMIT.as_secs(),
                away(&source)
            ),
        };
        return if config.noop {
            show(&resources, &facts)
        } else {
            once(resources, &facts).await
        };
    }
    let kept = resources.into_iter().map(Kept::new).collect();
    let keeper = Keeper {
        kept,
        paths,
        interval: config.interval,
        source_guard: health.guard("source"),
        files_guard: health.guard("files"),
    };
    keeper.source_guard.not_ready("no keys yet");
    keeper.files_guard.not_ready("nothing rendered yet");
    tokio::select! {
        () = token.cancelled() => {}
        () = keeper.run(source) => {}
    }
    Ok(())
}

fn away(source: &Source) -> String {
    match source {
        Source::Typha(typha) => format!(": {}", typha.away()),
        Source::Environment | Source::Etcd(_) | Source::Files(_) => String::new(),
    }
}

async fn once(resources: Vec<Resource>, facts: &Facts) -> Result<()> {
    let mut failed = Vec::new();
    for resource in resources {
        let mut kept = Kept::new(resource);
        kept.keep(facts, true).await;
        failed.extend(kept.failure.map(|f| format!("{}: {f}", kept.resource.named.display())));
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// `--noop`.
fn show(resources: &[Resource], facts: &Facts) -> Result<()> {
    let mut failed = Vec::new();
    for resource in resources {
        let keys = Arc::new(facts.keys.seen_from(&resource.prefix, &resource.keys));
        let dest = resource.dest.display();
        match render(resource, &keys, &facts.data) {
            Ok(text) => {
                let old = std::fs::read(&resource.dest).unwrap_or_default();
                let difference = diff::unified(&String::from_utf8_lossy(&old), &text);
                let current = target::is_current(resource, &text).unwrap_or(false);
                match (difference.is_empty(), current) {
                    (true, true) => println!("{dest}: unchanged"),
                    (true, false) => println!("{dest}: would get mode {:04o} and its owner", resource.mode),
                    (false, _) => print!("{dest}: would change\n{difference}"),
                }
            }
            Err(e) => failed.push(format!("{}: {e}", resource.named.display())),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

struct Keeper {
    kept: Vec<Kept>,
    paths: Vec<String>,
    interval: Option<Duration>,
    source_guard: Guard,
    files_guard: Guard,
}

impl Keeper {
    async fn run(mut self, mut source: Source) {
        let mut failed = None;
        loop {
            match source.load(&self.paths).await {
                Ok(facts) => {
                    failed = None;
                    self.source_guard.ready();
                    self.all(&facts).await;
                }
                Err(reason) => {
                    if failed.as_ref() != Some(&reason) {
                        tracing::error!(reason, "the source cannot be read; files stay as they are");
                        self.source_guard.not_ready(&reason);
                    }
                    failed = Some(reason);
                    tokio::time::sleep(RETRY_MIN).await;
                }
            }
            match self.interval {
                Some(interval) => tokio::time::sleep(interval).await,
                None => {
                    let retry = self.kept.iter().filter_map(|k| k.retry_at).min();
                    tokio::select! {
                        () = source.changed() => {}
                        () = until(retry) => {}
                    }
                }
            }
        }
    }

    async fn all(&mut self, facts: &Facts) {
        for kept in &mut self.kept {
            kept.keep(facts, self.interval.is_some()).await;
        }
        let failing = |k: &Kept| Some(format!("{}: {}", k.resource.named.display(), k.failure.as_ref()?));
        let failures: Vec<String> = self.kept.iter().filter_map(failing).collect();
        if failures.is_empty() {
            self.files_guard.ready();
        } else {
            self.files_guard.not_ready(&failures.join("; "));
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
