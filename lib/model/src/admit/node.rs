//! Rules of Node, WorkloadEndpoint and FelixConfiguration.

use super::Context;
use crate::invalid::Invalid;
use crate::resource::{FelixConfigurationSpec, NodeSpec, WorkloadEndpointSpec, is_free_protocol};
use crate::workload_name::WorkloadName;

pub(super) fn check_node(spec: &NodeSpec, out: &mut Vec<Invalid>) {
    let Some(bgp) = &spec.bgp else { return };
    if *bgp == crate::resource::NodeBgp::default() {
        out.push(Invalid::new(
            "spec.bgp",
            "{}",
            "must hold at least one of its fields, or be left out",
        ));
    }
    for (field, address) in [
        ("spec.bgp.ipv4Address", bgp.ipv4_address),
        ("spec.bgp.ipv6Address", bgp.ipv6_address),
    ] {
        if let Some(a) = address
            && (a.addr.is_unspecified() || a.addr.is_multicast() || a.addr.is_loopback())
        {
            out.push(Invalid::new(field, a, "must be an address other nodes can reach"));
        }
    }
    if bgp.as_number == Some(tortie_net::Asn(0)) {
        out.push(Invalid::new("spec.bgp.asNumber", 0, "AS 0 is reserved (RFC 7607)"));
    }
}

pub(super) fn check_workload(cx: &Context<'_>, spec: &WorkloadEndpointSpec, out: &mut Vec<Invalid>) {
    match WorkloadName::of(spec) {
        Ok(name) if name.to_string() == cx.name() => {}
        Ok(name) => {
            let reason = format!("must be {name}, which is made of node, orchestrator, workload and endpoint");
            out.push(Invalid::new("metadata.name", cx.name(), reason));
        }
        Err(e) => out.push(Invalid::new("metadata.name", cx.name(), e)),
    }
    for (i, nat) in spec.ip_nats.iter().enumerate() {
        let path = format!("spec.ipNATs[{i}]");
        if nat.internal_ip.is_ipv4() != nat.external_ip.is_ipv4() {
            let reason = format!("must be of the same address family as internalIP {}", nat.internal_ip);
            out.push(Invalid::new(format!("{path}.externalIP"), nat.external_ip, reason));
        }
        if !spec.ip_networks.iter().any(|n| n.addr() == nat.internal_ip) {
            out.push(Invalid::new(
                format!("{path}.internalIP"),
                nat.internal_ip,
                "must be one of ipNetworks",
            ));
        }
    }
}

pub(super) fn check_felix(cx: &Context<'_>, spec: &FelixConfigurationSpec, out: &mut Vec<Invalid>) {
    let by_name = cx.name() == "default" || cx.name().starts_with("node.");
    if let Some(selector) = &spec.node_selector
        && by_name
    {
        let reason = format!("the name {} says already for which nodes it is", cx.name());
        out.push(Invalid::new("spec.nodeSelector", selector, reason));
    }
    if let Some(protocol) = spec.device_route_protocol.filter(|p| !is_free_protocol(*p)) {
        let reason = "must be 3 or a number that no other program has: felix removes routes that have it";
        out.push(Invalid::new("spec.deviceRouteProtocol", protocol, reason));
    }
    for range in ["routeTableRange", "routeTableRanges"] {
        if spec.extra.contains_key("routeTableRange") && spec.extra.contains_key("routeTableRanges") {
            out.push(Invalid::new(
                format!("spec.{range}"),
                spec.extra.get(range).map(ToString::to_string).unwrap_or_default(),
                "set one of routeTableRange and routeTableRanges",
            ));
        }
    }
}
