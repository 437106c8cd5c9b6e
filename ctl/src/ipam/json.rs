//! ipam show -o json: what the tables say, for programs.

use std::net::IpAddr;

use serde_json::{Value, json};
use tortie_model::ipam::Block;

use super::loan;
use super::view::{Cluster, Usage};
use crate::cli::IpamShown;

pub(super) fn shown(cluster: &Cluster, what: &IpamShown) -> Value {
    match *what {
        IpamShown { ip: Some(ip), .. } => address(cluster, ip),
        IpamShown {
            show_borrowed: true, ..
        } => borrowed(cluster),
        IpamShown {
            show_configuration: true,
            ..
        } => configuration(cluster),
        IpamShown { show_blocks, .. } => utilization(cluster, show_blocks),
    }
}

fn address(cluster: &Cluster, ip: IpAddr) -> Value {
    let Some(allocation) = cluster.allocation(ip) else {
        let pooled = cluster.pools.iter().any(|p| p.spec.cidr.contains(ip));
        return json!({"ip": ip, "state": "free", "in_pool": pooled});
    };
    let block = allocation.block.cidr;
    if allocation.is_cooling() {
        let since = &allocation.attribute.released_at;
        return json!({"ip": ip, "state": "cooling", "block": block.to_string(), "released_at": since});
    }
    let used_by: Vec<&String> = cluster.users.get(&ip).into_iter().flatten().collect();
    json!({
        "ip": ip,
        "state": "in_use",
        "block": block.to_string(),
        "handle": allocation.attribute.handle_id,
        "attributes": allocation.attribute.secondary,
        "used_by": used_by,
    })
}

fn borrowed(cluster: &Cluster) -> Value {
    let loans = cluster.allocated().filter_map(loan).map(|of| {
        let [ip, node, block, owner, kind, whose] = of;
        json!({"ip": ip, "node": node, "block": block, "block_owner": owner, "type": kind, "allocated_to": whose})
    });
    json!({"borrowed": loans.collect::<Vec<_>>()})
}

fn configuration(cluster: &Cluster) -> Value {
    let config = &cluster.config;
    json!({
        "strict_affinity": config.strict_affinity,
        "auto_allocate_blocks": config.auto_allocate_blocks,
        "max_blocks_per_host": config.max_blocks_per_host,
        "ip_cooldown_seconds": config.ip_cooldown_seconds,
    })
}

fn utilization(cluster: &Cluster, with_blocks: bool) -> Value {
    let block = |block: &Block| usage(block.cidr.to_string(), cluster.usage(block.cidr, [block].into_iter()));
    let pools = cluster.pools.iter().map(|pool| {
        let cidr = pool.spec.cidr;
        let its = || cluster.blocks.iter().filter(move |b| cidr.covers(b.cidr));
        let mut said = usage(cidr.to_string(), cluster.usage(cidr, its()));
        said["name"] = pool.name().into();
        if with_blocks {
            said["blocks"] = its().map(block).collect();
        }
        said
    });
    let in_pool = |b: &Block| cluster.pools.iter().any(|p| p.spec.cidr.covers(b.cidr));
    let orphaned = cluster.blocks.iter().filter(|b| !in_pool(b)).map(block);
    json!({"pools": pools.collect::<Vec<_>>(), "orphaned_blocks": orphaned.collect::<Vec<_>>()})
}

fn usage(cidr: String, usage: Usage) -> Value {
    let Usage {
        total,
        in_use,
        reserved,
    } = usage;
    json!({
        "cidr": cidr,
        "total": whole(total),
        "in_use": whole(in_use),
        "reserved": whole(reserved),
        "free": whole(total - in_use - reserved),
    })
}

/// A whole number as such, or as JSON has larger ones than an integer holds.
fn whole(n: f64) -> Value {
    serde_json::from_str(&format!("{n:.0}")).unwrap_or(Value::Null)
}
