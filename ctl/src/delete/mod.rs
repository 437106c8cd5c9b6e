//! delete: resources, by kind and name or by files, with what hangs on them.
//!
//! What is in use is not deleted, and named; with `--force` it is. Every object is looked at before the first is deleted.

mod node;
mod pool;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use tortie_ipam::Setting;
use tortie_ipam_client::cluster;
use tortie_kit::address::Target;
use tortie_model::{Key, Kind, View as _, admit_delete};
use tortie_typha_client::{Store, StoreError};

use crate::apply::after;
use crate::cli::{DeleteArgs, Usage};
use crate::ipam::view::Cluster;
use crate::output::{Report, warn};
use crate::store::{Reach, Snapshot, connect, named, short_name};
use crate::{diff, foretell, source};

/// So many users of something are named, the rest is counted.
const NAMED: usize = 5;

/// What is looked at before anything is deleted.
struct Plan {
    state: Snapshot,
    addresses: Cluster,
    keys: Vec<Key>,
    force: bool,
    /// What a Node leaves stays.
    orphan: bool,
}

/// `tortiectl delete`.
pub(crate) async fn delete(typha: Option<Target>, args: &DeleteArgs) -> Result<()> {
    let keys = asked(args)?;
    let store = connect(typha)?;
    let plan = look(&store, keys, args).await?;
    plan.warn_of_filters();
    let mut report = Report::new(args.output, args.dry_run);
    if args.dry_run {
        let mut end = plan.state.clone();
        for key in &plan.keys {
            for gone in plan.with_dependents(key) {
                report.object(&gone, "deleted")?;
                end.remove(&gone);
            }
        }
        return report.end(Some(&diff::told(&plan.state, &end)));
    }
    for (done, key) in plan.keys.iter().enumerate() {
        if let Err(e) = plan.delete(&store, key, &mut report).await {
            report.end(None)?;
            return Err(after(e.context(short_name(key)), done, plan.keys.len(), "deleted"));
        }
    }
    report.end(None)
}

fn asked(args: &DeleteArgs) -> Result<Vec<Key>> {
    let keys: Vec<Key> = if args.what.is_empty() {
        if args.source.files.is_empty() {
            return Err(Usage::error("nothing named: say KIND NAME, KIND/NAME or -f FILE"));
        }
        let mut manifests = source::read(&args.source)?;
        // The other way round than they are written: what is referred to goes last.
        manifests.reverse();
        manifests.into_iter().map(|m| m.key).collect()
    } else {
        named(&args.what, &args.source.namespace, Reach::Write)?.1
    };
    if keys.is_empty() {
        return Err(Usage::error("no names: say which to delete"));
    }
    Ok(keys)
}

/// Reads what is concerned; refuses what is missing, may not be deleted, or is in use.
async fn look(store: &Store, mut keys: Vec<Key>, args: &DeleteArgs) -> Result<Plan> {
    let refused: Vec<String> = keys
        .iter()
        .filter_map(|key| admit_delete(key).err())
        .map(|e| e.to_string())
        .collect();
    if !refused.is_empty() {
        bail!("nothing was deleted\n{}", refused.join("\n"));
    }
    let mut prefixes: Vec<String> = keys.iter().filter_map(Key::kind).map(Key::collection).collect();
    let cascades = keys.iter().any(|k| matches!(k.kind(), Some(Kind::Node | Kind::IpPool)));
    prefixes.push(Key::collection(Kind::BgpPeer));
    if cascades || args.dry_run {
        prefixes.extend(foretell::prefixes());
        prefixes.extend([Kind::FelixConfiguration, Kind::HostEndpoint].map(Key::collection));
    }
    let state = Snapshot::load(store, prefixes).await?;
    let addresses = if cascades {
        Cluster::read(store).await?
    } else {
        Cluster::default()
    };
    let (there, missing): (Vec<Key>, Vec<Key>) = keys.drain(..).partition(|key| state.json(&key.to_string()).is_some());
    let plan = Plan {
        state,
        addresses,
        keys: there,
        force: args.force,
        orphan: args.orphan,
    };
    let mut problems: Vec<String> = Vec::new();
    if !args.ignore_not_found {
        problems.extend(missing.iter().map(|key| format!("{} not found", short_name(key))));
    }
    if !args.force {
        problems.extend(plan.keys.iter().filter_map(|key| plan.in_use(key)));
    }
    if !problems.is_empty() {
        bail!("nothing was deleted\n{}", problems.join("\n"));
    }
    Ok(plan)
}

impl Plan {
    /// Why the object had better stay.
    fn in_use(&self, key: &Key) -> Option<String> {
        let (users, hint) = match key.kind() {
            Some(Kind::Node) if self.orphan => return None,
            Some(Kind::Node) => (
                node::workloads(&self.state, key).iter().map(short_name).collect(),
                "workloads run there: delete those first, or use --force, which deletes them and releases their addresses",
            ),
            Some(Kind::IpPool) => (
                pool::users(&self.state, &self.addresses, key),
                "its addresses are in use: disable it and delete those first, or use --force: they stay with their workloads",
            ),
            _ => return None,
        };
        let count = users.len();
        (count > 0).then(|| format!("{}: {hint}: {}", short_name(key), some_of(&users)))
    }

    /// Peers that stay go on without a filter that goes: as in Calico this is allowed, and here it is said.
    fn warn_of_filters(&self) {
        for key in self.keys.iter().filter(|k| k.kind() == Some(Kind::BgpFilter)) {
            let name = key.to_string();
            let name = name.rsplit('/').next().unwrap_or_default();
            let mut peers = Vec::new();
            self.state.visit(&Key::collection(Kind::BgpPeer), &mut |peer, json| {
                let names = |v: &Value| {
                    v["spec"]["filters"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|f| f == name))
                };
                if let Ok(peer) = peer.parse::<Key>()
                    && !self.keys.contains(&peer)
                    && serde_json::from_slice::<Value>(json).is_ok_and(|v| names(&v))
                {
                    peers.push(short_name(&peer));
                }
            });
            stays(key, "these go on without it", &peers);
        }
    }

    /// The object and what goes with it, in the order in which they go.
    fn with_dependents(&self, key: &Key) -> Vec<Key> {
        let mut all = match key.kind() {
            Some(Kind::Node) if !self.orphan => node::dependents(&self.state, key),
            _ => Vec::new(),
        };
        // What is named by itself too is deleted once.
        all.retain(|gone| !self.keys.contains(gone));
        all.push(key.clone());
        all
    }

    async fn delete(&self, store: &Store, key: &Key, report: &mut Report) -> Result<()> {
        match key.kind() {
            Some(Kind::Node) if !self.orphan => node::delete(self, store, key, report).await,
            Some(Kind::IpPool) => pool::delete(self, store, key, report).await,
            _ => remove(store, key, report).await,
        }
    }
}

/// Deletes one document.
async fn remove(store: &Store, key: &Key, report: &mut Report) -> Result<()> {
    match store.delete(&key.to_string(), None).await {
        Ok(_) => report.object(key, "deleted"),
        Err(StoreError::NotFound(_)) => report.object(key, "deleted by somebody else meanwhile"),
        Err(e) => Err(e.into()),
    }
}

/// How tortiectl decides about addresses.
async fn setting(store: &Store) -> Result<Setting> {
    Ok(cluster::setting(store, "tortiectl".parse()?, Timestamp::now()).await?)
}

fn some_of(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMED).cloned().collect();
    if names.len() > NAMED {
        shown.push(format!("and {} more", names.len() - NAMED));
    }
    shown.join(", ")
}

/// Tells what stays behind, and until when.
fn stays(key: &Key, what: &str, names: &[String]) {
    if !names.is_empty() {
        warn(&format!("{}: {what}: {}", short_name(key), some_of(names)));
    }
}
