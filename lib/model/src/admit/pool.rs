//! Rules of IPPool.

use tortie_net::Prefix;

use super::Context;
use crate::invalid::Invalid;
use crate::key::{self, Key};
use crate::kind::Kind;
use crate::object::Object;
use crate::resource::{AllowedUse, EncapMode, IpPoolSpec};

/// Networks no pool may touch: link-local addresses are the gateways of workloads.
const RESERVED: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

pub(super) fn check(cx: &Context<'_>, spec: &IpPoolSpec, out: &mut Vec<Invalid>) {
    check_cidr(spec, out);
    check_encapsulation(spec, out);
    check_uses(spec, out);
    match cx.old {
        Some(Object::IpPool(old)) => check_update(&old.spec, spec, out),
        _ => check_blocks(cx, spec, out),
    }
    for other in cx.others(Kind::IpPool) {
        if let Object::IpPool(other) = other
            && other.spec.cidr.overlaps(spec.cidr)
        {
            let reason = format!(
                "IPPool({}) CIDR overlaps with IPPool({}) CIDR {}",
                cx.name(),
                other.name(),
                other.spec.cidr
            );
            out.push(Invalid::new("spec.cidr", spec.cidr, reason));
        }
    }
}

fn check_cidr(spec: &IpPoolSpec, out: &mut Vec<Invalid>) {
    for reserved in RESERVED {
        let reserved: Prefix = reserved.parse().expect("invariant: a constant prefix");
        if spec.cidr.overlaps(reserved) {
            out.push(Invalid::new(
                "spec.cidr",
                spec.cidr,
                format!("overlaps with the link-local range {reserved}, where workloads have their gateway"),
            ));
        }
    }
    let size = spec.block_size();
    let (min, max) = if spec.cidr.is_v4() { (20, 32) } else { (116, 128) };
    if !(min..=max).contains(&size) {
        let family = if spec.cidr.is_v4() { "IPv4" } else { "IPv6" };
        out.push(Invalid::new(
            "spec.blockSize",
            size,
            format!("must be from {min} to {max} for an {family} pool"),
        ));
    } else if spec.cidr.len() > size && !spec.disabled {
        let reason = format!("the pool is smaller than one of its blocks, which have length {size}");
        out.push(Invalid::new("spec.cidr", spec.cidr, reason));
    }
}

fn check_encapsulation(spec: &IpPoolSpec, out: &mut Vec<Invalid>) {
    let (ipip, vxlan) = (spec.ipip_mode(), spec.vxlan_mode());
    if ipip != EncapMode::Never && !spec.cidr.is_v4() {
        out.push(Invalid::new("spec.ipipMode", ipip, "IPIP is for IPv4 pools only"));
    }
    if ipip != EncapMode::Never && vxlan != EncapMode::Never {
        out.push(Invalid::new(
            "spec.vxlanMode",
            vxlan,
            format!("ipipMode is {ipip}: a pool has one encapsulation"),
        ));
    }
}

fn check_uses(spec: &IpPoolSpec, out: &mut Vec<Invalid>) {
    if spec.namespace_selector.is_some() && spec.allows(AllowedUse::Tunnel) {
        let reason = "the pool may be used for tunnels, which have no namespace: set allowedUses without Tunnel";
        let selector = spec.namespace_selector.as_ref().map(|s| s.as_str()).unwrap_or_default();
        out.push(Invalid::new("spec.namespaceSelector", selector, reason));
    }
    if !spec.allows(AllowedUse::LoadBalancer) {
        return;
    }
    if spec.allowed_uses.len() > 1 {
        let uses: Vec<&str> = spec.allowed_uses.iter().map(|u| u.as_str()).collect();
        out.push(Invalid::new(
            "spec.allowedUses",
            uses.join(","),
            "LoadBalancer excludes other uses",
        ));
    }
    for (field, mode) in [
        ("spec.ipipMode", spec.ipip_mode()),
        ("spec.vxlanMode", spec.vxlan_mode()),
    ] {
        if mode != EncapMode::Never {
            out.push(Invalid::new(field, mode, "a LoadBalancer pool has no encapsulation"));
        }
    }
    if spec.disable_bgp_export {
        out.push(Invalid::new(
            "spec.disableBGPExport",
            true,
            "a LoadBalancer pool is there to be advertised",
        ));
    }
    if let Some(selector) = &spec.node_selector
        && selector.canonical() != "all()"
    {
        out.push(Invalid::new(
            "spec.nodeSelector",
            selector,
            "must be all() for a LoadBalancer pool",
        ));
    }
}

fn check_update(old: &IpPoolSpec, new: &IpPoolSpec, out: &mut Vec<Invalid>) {
    if old.cidr != new.cidr {
        out.push(Invalid::new(
            "spec.cidr",
            new.cidr,
            format!("cannot be changed: it is {}", old.cidr),
        ));
    }
    if old.block_size() != new.block_size() {
        let reason = format!("cannot be changed: it is {}", old.block_size());
        out.push(Invalid::new("spec.blockSize", new.block_size(), reason));
    }
    if old.allows(AllowedUse::LoadBalancer) && !new.allows(AllowedUse::LoadBalancer) {
        let uses: Vec<&str> = new.allowed_uses.iter().map(|u| u.as_str()).collect();
        let reason = "a LoadBalancer pool cannot be changed to another use";
        out.push(Invalid::new("spec.allowedUses", uses.join(","), reason));
    }
}

/// A new pool over blocks that exist already must cut them to the same size.
fn check_blocks(cx: &Context<'_>, spec: &IpPoolSpec, out: &mut Vec<Invalid>) {
    let mut conflict = None;
    cx.view.visit(key::BLOCKS, &mut |key, _| {
        if let Ok(Key::Block(block)) = key.parse()
            && spec.cidr.covers(block)
            && block.len() != spec.block_size()
        {
            conflict.get_or_insert(block);
        }
    });
    if let Some(block) = conflict {
        let reason = format!(
            "IPPool blocksSize conflicts with existing allocations that use a different blockSize: {block} is in use"
        );
        out.push(Invalid::new("spec.blockSize", spec.block_size(), reason));
    }
}
