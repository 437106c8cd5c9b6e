//! A Node with what is its own, as Calico deletes it: its workloads' endpoints and addresses, its tunnels' addresses, its
//! BGPPeers, its settings, its HostEndpoints, the Node, and then its claims on blocks.
//!
//! Whatever stops this half way, the same command goes on where it stopped: the Node goes when all before it is gone, and
//! claims of a node that is gone are released by the others' felix, too.

use anyhow::Result;
use serde_json::Value;
use tortie_ipam::{Tunnel, release_address, release_affinity_of_gone, release_handle};
use tortie_ipam_client::drive;
use tortie_model::Object;
use tortie_model::{Key, Kind, View as _, decode_value};
use tortie_net::NodeName;
use tortie_typha_client::{Store, StoreError};

use super::{Plan, remove, setting, stays};
use crate::output::Report;
use crate::store::Snapshot;

fn name(key: &Key) -> &str {
    key.resource_name().unwrap_or_default()
}

/// Objects of a kind whose `spec.node` is this node.
fn on(state: &Snapshot, kind: Kind, node: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    state.visit(&Key::collection(kind), &mut |key, json| {
        let its = serde_json::from_slice::<Value>(json)
            .is_ok_and(|v| v.pointer("/spec/node").and_then(Value::as_str) == Some(node));
        if its && let Ok(key) = key.parse() {
            keys.push(key);
        }
    });
    keys
}

/// Endpoints of workloads on the node.
pub(super) fn workloads(state: &Snapshot, node: &Key) -> Vec<Key> {
    on(state, Kind::WorkloadEndpoint, name(node))
}

/// Everything that goes before the Node.
pub(super) fn dependents(state: &Snapshot, node: &Key) -> Vec<Key> {
    let mut all = workloads(state, node);
    all.extend(on(state, Kind::BgpPeer, name(node)));
    all.extend(on(state, Kind::HostEndpoint, name(node)));
    let settings = [Kind::BgpConfiguration, Kind::FelixConfiguration];
    let named = settings.map(|kind| Key::resource(kind, None, &format!("node.{}", name(node))));
    all.extend(named.into_iter().filter(|key| state.json(&key.to_string()).is_some()));
    all
}

pub(super) async fn delete(plan: &Plan, store: &Store, key: &Key, report: &mut Report) -> Result<()> {
    let node: NodeName = name(key).parse()?;
    let setting = setting(store).await?;
    for gone in plan.with_dependents(key) {
        if gone == *key {
            for tunnel in Tunnel::ALL.map(|tunnel| tunnel.handle(&node)) {
                if plan.addresses.handles.contains_key(&tunnel) {
                    drive(store, release_handle(setting.clone(), tunnel)).await?;
                }
            }
        }
        if gone.kind() == Some(Kind::WorkloadEndpoint) {
            release(plan, store, &gone).await?;
        }
        remove(store, &gone, report).await?;
    }
    let mut kept = Vec::new();
    for entry in store.list(&Key::affinities_of(&node)).await?.entries {
        if let Ok(Key::Affinity { cidr, .. }) = entry.key.parse::<Key>()
            && !drive(store, release_affinity_of_gone(setting.clone(), node.clone(), cidr)).await?
        {
            kept.push(cidr.to_string());
        }
    }
    stays(key, "blocks with addresses in use stay until those are released", &kept);
    match store.delete(&Key::IpamHost(node).to_string(), None).await {
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Gives back the addresses of an endpoint, each only while it is still whose it was when it was looked at.
async fn release(plan: &Plan, store: &Store, endpoint: &Key) -> Result<()> {
    let stored = plan.state.json(&endpoint.to_string()).unwrap_or_default();
    let Ok(Object::WorkloadEndpoint(endpoint)) = decode_value(endpoint, stored) else {
        return Ok(());
    };
    let setting = setting(store).await?;
    for network in &endpoint.spec.ip_networks {
        if let Some(allocation) = plan.addresses.allocation(network.addr()).filter(|a| !a.is_cooling()) {
            let whose = allocation.attribute.handle_id.clone();
            drive(
                store,
                release_address(setting.clone(), allocation.block.cidr, allocation.ip, whose),
            )
            .await?;
        }
    }
    Ok(())
}
