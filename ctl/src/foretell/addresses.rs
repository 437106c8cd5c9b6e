//! Pools that come, go or change, how packets to their addresses travel, and workloads whose addresses leave every pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use tortie_model::resource::{EncapMode, IpPool, IpPoolSpec};
use tortie_model::{Key, Kind, Object, Owner, View as _, decode, key};
use tortie_net::{NodeName, Prefix};

use crate::store::Snapshot;

/// A pool that would be otherwise.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct PoolChange {
    /// Its name.
    pub(crate) pool: String,
    /// Its network; of a new pool the new one.
    pub(crate) cidr: Prefix,
    /// How packets travelled to its addresses; none: there was no such pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encapsulation_before: Option<String>,
    /// How they would travel; none: there would be no such pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encapsulation_after: Option<String>,
    /// Blocks of this network to which every node's routes would change.
    pub(crate) blocks: usize,
    /// Nodes that have those blocks.
    pub(crate) nodes: usize,
}

/// A workload's address that would be in no pool any more, or in one again.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct WorkloadChange {
    /// `namespace/name` of the endpoint.
    pub(crate) workload: String,
    /// Where it runs.
    pub(crate) node: String,
    /// Which address.
    pub(crate) address: IpAddr,
    /// It would be in no pool.
    pub(crate) outside: bool,
}

fn read(state: &Snapshot) -> BTreeMap<String, IpPool> {
    let mut pools = BTreeMap::new();
    state.visit(&Key::collection(Kind::IpPool), &mut |key, json| {
        if let Ok(key) = key.parse::<Key>()
            && let Ok(Object::IpPool(pool)) = decode(&key, json)
        {
            pools.insert(pool.metadata.name.clone(), *pool);
        }
    });
    pools
}

/// How packets to a pool's addresses travel between nodes.
fn encapsulation(spec: &IpPoolSpec) -> String {
    let mode = |name: &str, mode| match mode {
        EncapMode::Never => None,
        EncapMode::Always => Some(format!("{name} always")),
        EncapMode::CrossSubnet => Some(format!("{name} across subnets")),
    };
    mode("IPIP", spec.ipip_mode())
        .or_else(|| mode("VXLAN", spec.vxlan_mode()))
        .unwrap_or_else(|| "none".to_owned())
}

/// Pools whose encapsulation changes, and those that come or go.
pub(super) fn pools(before: &Snapshot, after: &Snapshot) -> Vec<PoolChange> {
    let (old, new) = (read(before), read(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut all = Vec::new();
    for name in names {
        let told = |pool: Option<&IpPool>| pool.map(|p| encapsulation(&p.spec));
        let (was, is) = (told(old.get(name)), told(new.get(name)));
        let Some(pool) = new.get(name).or_else(|| old.get(name)).filter(|_| was != is) else {
            continue;
        };
        let (blocks, nodes) = claimed(after, pool.spec.cidr);
        all.push(PoolChange {
            pool: name.clone(),
            cidr: pool.spec.cidr,
            encapsulation_before: was,
            encapsulation_after: is,
            blocks,
            nodes,
        });
    }
    all
}

/// How many blocks of a network nodes have, and how many nodes have them.
fn claimed(state: &Snapshot, cidr: Prefix) -> (usize, usize) {
    let mut blocks = 0;
    let mut nodes: BTreeSet<NodeName> = BTreeSet::new();
    state.visit(key::HOSTS, &mut |key, _| {
        if let Ok(Key::Affinity {
            owner: Owner::Host(node),
            cidr: block,
        }) = key.parse::<Key>()
            && cidr.covers(block)
        {
            blocks += 1;
            nodes.insert(node);
        }
    });
    (blocks, nodes.len())
}

/// Workloads that stay, and whose addresses leave the pools or come back to them.
pub(super) fn workloads(before: &Snapshot, after: &Snapshot) -> Vec<WorkloadChange> {
    let networks = |state| read(state).into_values().map(|p| p.spec.cidr).collect::<Vec<Prefix>>();
    let (old, new) = (networks(before), networks(after));
    if old == new {
        return Vec::new();
    }
    let mut all = Vec::new();
    after.visit(&Key::collection(Kind::WorkloadEndpoint), &mut |key, json| {
        let Ok(key) = key.parse::<Key>() else { return };
        let Ok(Object::WorkloadEndpoint(endpoint)) = decode(&key, json) else {
            return;
        };
        for address in endpoint.spec.ip_networks.iter().map(|n| n.addr()) {
            let within = |pools: &[Prefix]| pools.iter().any(|p| p.contains(address));
            let outside = !within(&new);
            if within(&old) == outside {
                all.push(WorkloadChange {
                    workload: format!("{}/{}", endpoint.namespace(), endpoint.name()),
                    node: endpoint.spec.node.clone(),
                    address,
                    outside,
                });
            }
        }
    });
    all
}
