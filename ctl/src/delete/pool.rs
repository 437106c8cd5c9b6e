//! An IPPool as Calico deletes it: disabled, so that nobody takes an address of it any more; its empty blocks released;
//! then deleted.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tortie_ipam::release_affinity;
use tortie_ipam_client::drive;
use tortie_model::{Key, Object, decode_value, key};
use tortie_net::Prefix;
use tortie_typha_client::Store;

use super::{Plan, remove, setting, some_of, stays};
use crate::edit::edit;
use crate::ipam::view::Cluster;
use crate::output::Report;
use crate::store::Snapshot;

/// So long an allocation that began before the pool was disabled may take to be written.
const SETTLE: Duration = Duration::from_millis(500);

fn cidr(state: &Snapshot, pool: &Key) -> Option<Prefix> {
    match decode_value(pool, state.json(&pool.to_string())?) {
        Ok(Object::IpPool(pool)) => Some(pool.spec.cidr),
        _ => None,
    }
}

/// Who has addresses of the pool. Nodes' tunnels do not count: felix takes others when the pool goes.
pub(super) fn users(state: &Snapshot, addresses: &Cluster, pool: &Key) -> Vec<String> {
    let Some(cidr) = cidr(state, pool) else {
        return Vec::new();
    };
    let of_pool = addresses.allocated().filter(|a| cidr.contains(a.ip) && !a.is_cooling());
    let tunnel = |kind: &str| kind.ends_with("TunnelAddress");
    let used = of_pool.filter(|a| !a.said("type").is_some_and(tunnel));
    used.map(|a| format!("{} ({})", a.ip, a.whose())).collect()
}

pub(super) async fn delete(plan: &Plan, store: &Store, key: &Key, report: &mut Report) -> Result<()> {
    let Some(cidr) = cidr(&plan.state, key) else {
        // What cannot be read gives no addresses.
        return remove(store, key, report).await;
    };
    let disabled = edit(store, key, false, |old| {
        let mut new = old.clone();
        if let Some(Value::Object(spec)) = new.get_mut("spec") {
            spec.insert("disabled".to_owned(), json!(true));
        }
        Ok(new)
    });
    if disabled.await? {
        tokio::time::sleep(SETTLE).await;
    }
    let setting = setting(store).await?;
    for prefix in [key::HOSTS, key::VIRTUALS] {
        for entry in store.list(prefix).await?.entries {
            if let Ok(Key::Affinity { owner, cidr: block }) = entry.key.parse::<Key>()
                && cidr.covers(block)
            {
                drive(store, release_affinity(setting.clone(), owner, block)).await?;
            }
        }
    }
    let left = users(&plan.state, &Cluster::read(store).await?, key);
    if !plan.force && !left.is_empty() {
        bail!(
            "is disabled now, and stays: addresses were taken meanwhile: {}",
            some_of(&left)
        );
    }
    remove(store, key, report).await?;
    stays(key, "addresses in use stay with their workloads", &left);
    Ok(())
}
