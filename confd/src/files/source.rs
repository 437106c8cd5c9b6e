//! Where keys come from.
//!
//! A source that cannot be read is an error and no empty set of keys: what was known stays in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tortie_replica::Delta;
use tortie_typha_client::{SyncEvent, SyncStatus};

use super::etcd::Etcd;
use super::keys::Keys;
use crate::render::for_any_template;
use crate::secrets;
use crate::state::{ClusterState, Secret};
use crate::view::{RouterIdChoice, SecretRef, Views};

/// How often files are looked at.
const FILE_POLL: Duration = Duration::from_secs(1);
/// Changes that come together are rendered together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// What templates are given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// For the functions.
    pub keys: Arc<Keys>,
    /// For `.`: the typed view of one node, when the source is typha and a node is named.
    pub data: Arc<Value>,
}

/// One node's typed view, beside the keys.
#[derive(Debug)]
pub struct Viewpoint {
    /// The cluster as that node's speaker sees it.
    pub state: ClusterState,
    /// How its BGP identifier is chosen.
    pub router_id: RouterIdChoice,
    /// Where passwords are.
    pub secrets_dir: Option<PathBuf>,
}

impl Viewpoint {
    fn secrets(&self) -> BTreeMap<SecretRef, Secret> {
        secrets::read(self.secrets_dir.as_deref(), secrets::wanted(&self.state))
    }
}

/// typha's sync stream.
#[derive(Debug)]
pub struct Typha {
    /// The stream.
    pub events: mpsc::Receiver<SyncEvent>,
    /// Whose typed view is wanted too.
    pub viewpoint: Option<Viewpoint>,
    /// Nobody else holds them while they change: then they are not copied.
    keys: Arc<Keys>,
    views: Views,
    /// Of the view that was last computed.
    data: Arc<Value>,
    /// The view's state is another since.
    stale: bool,
    complete: bool,
    away: String,
}

/// A source of keys.
#[derive(Debug)]
pub enum Source {
    /// This process's environment: `/db/url` is `DB_URL`.
    Environment,
    /// An etcd cluster's keys.
    Etcd(Box<Etcd>),
    /// YAML or JSON files; a later one wins.
    Files(Vec<PathBuf>),
    /// The datastore's documents, by Calico's keys.
    Typha(Box<Typha>),
}

impl Typha {
    /// Nothing is known yet.
    pub fn new(events: mpsc::Receiver<SyncEvent>, viewpoint: Option<Viewpoint>) -> Self {
        Typha {
            events,
            viewpoint,
            keys: Arc::default(),
            views: Views::default(),
            data: Arc::default(),
            stale: true,
            complete: false,
            away: "no answer".to_owned(),
        }
    }

    fn event(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Delta(Delta::Set(key, value)) => {
                if let Some(viewpoint) = &mut self.viewpoint {
                    self.stale |= viewpoint.state.set(&key, &value.value, value.revision);
                }
                match std::str::from_utf8(&value.value) {
                    Ok(text) => drop(Arc::make_mut(&mut self.keys).insert(&key, text.to_owned())),
                    Err(error) => tracing::warn!(%key, %error, "a value is no text; the one before stays"),
                }
            }
            SyncEvent::Delta(Delta::Delete(key)) => {
                if let Some(viewpoint) = &mut self.viewpoint {
                    self.stale |= viewpoint.state.delete(&key);
                }
                Arc::make_mut(&mut self.keys).remove(&key);
            }
            SyncEvent::Delta(Delta::InSync) => self.complete = true,
            SyncEvent::Status(SyncStatus::Disconnected { reason }) => {
                if self.away != reason {
                    tracing::warn!(reason, "typha is away; what is known stays in force");
                }
                self.away = reason;
            }
            SyncEvent::Status(_) => {}
        }
    }

    /// Takes what has come; at first, waits until that is all there is.
    async fn follow(&mut self) -> Result<(), String> {
        while !self.complete {
            match self.events.recv().await {
                Some(event) => self.event(event),
                None => return Err(self.away.clone()),
            }
        }
        while let Ok(event) = self.events.try_recv() {
            self.event(event);
        }
        Ok(())
    }

    fn facts(&mut self) -> Result<Facts, String> {
        if let Some(point) = &mut self.viewpoint {
            let secrets = point.secrets();
            if self.stale || secrets != point.state.secrets {
                point.state.secrets = secrets;
                let view = self.views.compute(&point.state, point.router_id);
                let view = view.map_err(|e| e.to_string())?;
                self.data = Arc::new(for_any_template(&view, &point.state.secrets));
                self.stale = false;
            }
        }
        Ok(Facts {
            keys: Arc::clone(&self.keys),
            data: Arc::clone(&self.data),
        })
    }

    /// Are the passwords others than those of the view?
    fn has_other_secrets(&self) -> bool {
        self.viewpoint.as_ref().is_some_and(|p| p.secrets() != p.state.secrets)
    }

    /// Waits for an event, or another password.
    async fn changed(&mut self) {
        let looks = self.viewpoint.as_ref().is_some_and(|p| p.secrets_dir.is_some());
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => return self.event(event),
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(secrets::POLL), if looks => if self.has_other_secrets() { return },
            }
        }
    }

    /// How it stands with typha, when it does not answer.
    pub fn away(&self) -> &str {
        &self.away
    }
}

impl Source {
    /// What is known now: `paths` are those that anybody reads. Waits until typha has said everything once.
    ///
    /// # Errors
    /// Which part of the source cannot be read, and why.
    pub async fn load(&mut self, paths: &[String]) -> Result<Facts, String> {
        let keys = match self {
            Source::Environment => environment(std::env::vars_os().filter_map(text), paths),
            Source::Etcd(etcd) => {
                return Ok(Facts {
                    keys: etcd.load(paths).await?,
                    data: Arc::default(),
                });
            }
            Source::Files(files) => read_all(files)?,
            Source::Typha(typha) => {
                typha.follow().await?;
                return typha.facts();
            }
        };
        Ok(Facts {
            keys: Arc::new(keys),
            data: Arc::default(),
        })
    }

    /// Waits until there may be something new. May be dropped at any time.
    pub async fn changed(&mut self) {
        match self {
            // A process's environment stays as it was.
            Source::Environment => std::future::pending().await,
            Source::Files(_) => tokio::time::sleep(FILE_POLL).await,
            Source::Etcd(etcd) => {
                etcd.changed().await;
                tokio::time::sleep(DEBOUNCE).await;
            }
            Source::Typha(typha) => {
                typha.changed().await;
                tokio::time::sleep(DEBOUNCE).await;
            }
        }
    }
}

/// A variable whose name and value are text.
fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// The environment as keys: `/db/url` is `DB_URL`. Only what is at or below `paths` is named.
fn environment(vars: impl Iterator<Item = (String, String)>, paths: &[String]) -> Keys {
    let vars: BTreeMap<String, String> = vars.collect();
    let mut keys = Keys::default();
    for path in paths {
        let name = path
            .trim_start_matches('/')
            .replace(['/', '-', '.'], "_")
            .to_uppercase();
        for (var, value) in vars.range(name.clone()..).take_while(|(v, _)| v.starts_with(&name)) {
            let rest = &var[name.len()..];
            if name.is_empty() || rest.is_empty() || rest.starts_with('_') {
                let below = rest.to_lowercase().replace('_', "/");
                keys.insert(&format!("{path}/{below}"), value.clone());
            }
        }
    }
    keys
}

/// Every file's document as keys.
fn read_all(files: &[PathBuf]) -> Result<Keys, String> {
    let mut keys = Keys::default();
    for file in files {
        let read = |file: &Path| -> Result<Value, String> {
            let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
            // JSON is YAML.
            serde_saphyr::from_str(&text).map_err(|e| e.to_string())
        };
        let document = read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        flatten("", &document, &mut keys);
    }
    Ok(keys)
}

/// `{a: {b: [x]}}` is `/a/b/0: x`.
fn flatten(path: &str, value: &Value, keys: &mut Keys) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(k, v)| flatten(&format!("{path}/{k}"), v, keys)),
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.for_each(|(at, v)| flatten(&format!("{path}/{at}"), v, keys));
        }
        Value::String(text) => drop(keys.insert(path, text.clone())),
        Value::Null => drop(keys.insert(path, String::new())),
        Value::Bool(_) | Value::Number(_) => drop(keys.insert(path, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(keys: &Keys) -> Vec<(&str, &str)> {
        keys.iter().collect()
    }

    #[test]
    fn variables_are_keys_by_whole_names() {
        let vars = [("APP_DB_URL", "u"), ("APP_DB", "d"), ("APPLE", "a"), ("OTHER", "o")];
        let vars = || vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let keys = environment(vars(), &["/app".into()]);
        assert_eq!(shown(&keys), [("/app/db", "d"), ("/app/db/url", "u")]);
        let all = environment(vars(), &["/".into()]);
        assert_eq!(all.get("/apple"), Some("a"));
        assert_eq!(all.iter().count(), 4);
    }

    #[test]
    fn documents_are_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.json"));
        std::fs::write(&a, "db: {url: x, ports: [1, 2]}\non: true\nnone:\n").unwrap();
        std::fs::write(&b, r#"{"db": {"url": "y"}}"#).unwrap();
        let keys = read_all(&[a.clone(), b]).unwrap();
        let want = [
            ("/db/ports/0", "1"),
            ("/db/ports/1", "2"),
            ("/db/url", "y"),
            ("/none", ""),
            ("/on", "true"),
        ];
        assert_eq!(shown(&keys), want);
        std::fs::write(&a, "a: [").unwrap();
        let e = read_all(&[a]).unwrap_err();
        assert!(e.contains("a.yaml: "), "{e}");
    }
}
