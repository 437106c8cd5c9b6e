//! Rules of BGPConfiguration, BGPPeer and BGPFilter.

use std::collections::BTreeSet;

use serde_json::json;
use tortie_net::Asn;

use super::Context;
use crate::invalid::Invalid;
use crate::key::Key;
use crate::kind::Kind;
use crate::resource::{BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, FilterAction, FilterOperation, FilterRule};
use crate::schema::community;

pub(super) fn check_configuration(cx: &Context<'_>, spec: &BgpConfigurationSpec, out: &mut Vec<Invalid>) {
    if cx.name() != "default" {
        check_non_default(spec, out);
    }
    if spec.node_to_node_mesh_enabled == Some(false) {
        if spec.node_mesh_password.is_some() {
            out.push(Invalid::new(
                "spec.nodeMeshPassword",
                "a secret",
                "cannot be set when nodeToNodeMeshEnabled is false",
            ));
        }
        if let Some(time) = spec.node_mesh_max_restart_time {
            let reason = "cannot be set when nodeToNodeMeshEnabled is false";
            out.push(Invalid::new("spec.nodeMeshMaxRestartTime", time, reason));
        }
    }
    if !spec.communities.is_empty() && spec.prefix_advertisements.is_empty() {
        let names: Vec<&str> = spec.communities.iter().map(|c| c.name.as_str()).collect();
        out.push(Invalid::new(
            "spec.communities",
            names.join(","),
            "mean nothing without prefixAdvertisements",
        ));
    }
    let names: BTreeSet<&str> = spec.communities.iter().map(|c| c.name.as_str()).collect();
    for (i, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        for (j, text) in advertisement.communities.iter().enumerate() {
            if !names.contains(text.as_str()) && community(text).is_err() {
                let field = format!("spec.prefixAdvertisements[{i}].communities[{j}]");
                let reason = "must be a community (aa:nn or aa:nn:mm) or a name defined in communities";
                out.push(Invalid::new(field, text, reason));
            }
        }
    }
    for (i, pattern) in spec.ignored_interfaces.iter().enumerate() {
        if pattern == "*" {
            let reason = "would ignore every interface: name a part of the name";
            out.push(Invalid::new(format!("spec.ignoredInterfaces[{i}]"), pattern, reason));
        }
    }
    if spec.as_number == Some(Asn(0)) {
        out.push(Invalid::new("spec.asNumber", 0, "AS 0 is reserved (RFC 7607)"));
    }
}

/// Some settings hold for the whole cluster or not at all.
fn check_non_default(spec: &BgpConfigurationSpec, out: &mut Vec<Invalid>) {
    let set = [
        (
            "nodeToNodeMeshEnabled",
            spec.node_to_node_mesh_enabled.map(|v| v.to_string()),
        ),
        ("asNumber", spec.as_number.map(|v| v.to_string())),
        ("serviceLoadBalancerIPs", present(&spec.service_load_balancer_ips)),
        ("serviceExternalIPs", present(&spec.service_external_ips)),
        ("serviceClusterIPs", present(&spec.service_cluster_ips)),
        (
            "nodeMeshPassword",
            spec.node_mesh_password.as_ref().map(|_| "a secret".to_owned()),
        ),
        (
            "nodeMeshMaxRestartTime",
            spec.node_mesh_max_restart_time.map(|v| v.to_string()),
        ),
    ];
    for (field, value) in set {
        if let Some(value) = value {
            let reason = format!("Cannot set {field} on a non default BGP Configuration.");
            out.push(Invalid::new(format!("spec.{field}"), value, reason));
        }
    }
}

fn present(list: &[crate::resource::CidrEntry]) -> Option<String> {
    let texts: Vec<String> = list.iter().map(|e| e.cidr.to_string()).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

pub(super) fn check_peer(cx: &Context<'_>, spec: &BgpPeerSpec, out: &mut Vec<Invalid>) {
    let exclusive = |a: Option<String>, b: bool, field: &str, other: &str, out: &mut Vec<Invalid>| {
        if let Some(value) = a
            && b
        {
            out.push(Invalid::new(
                format!("spec.{field}"),
                value,
                format!("cannot be set together with {other}"),
            ));
        }
    };
    let text = |s: &Option<crate::Selector>| s.as_ref().map(|s| s.to_string());
    exclusive(
        text(&spec.node_selector),
        spec.node.is_some(),
        "nodeSelector",
        "node",
        out,
    );
    exclusive(
        text(&spec.peer_selector),
        spec.peer_ip.is_some(),
        "peerSelector",
        "peerIP",
        out,
    );
    let local = text(&spec.local_workload_selector);
    exclusive(
        local.clone(),
        spec.peer_ip.is_some(),
        "localWorkloadSelector",
        "peerIP",
        out,
    );
    exclusive(
        local,
        spec.peer_selector.is_some(),
        "localWorkloadSelector",
        "peerSelector",
        out,
    );
    let mode = spec.next_hop_mode.map(|m| m.to_string());
    exclusive(
        mode,
        spec.keep_original_next_hop,
        "nextHopMode",
        "keepOriginalNextHop",
        out,
    );

    let asn = spec.as_number.filter(|a| a.0 != 0);
    if spec.peer_selector.is_some() {
        exclusive(
            asn.map(|a| a.to_string()),
            true,
            "asNumber",
            "peerSelector: the nodes know theirs",
            out,
        );
    } else if spec.peer_ip.is_none() && spec.local_workload_selector.is_none() {
        out.push(Invalid::new(
            "spec.peerIP",
            "",
            "one of peerIP, peerSelector and localWorkloadSelector must be set",
        ));
    } else if asn.is_none() {
        let other = if spec.peer_ip.is_some() {
            "peerIP"
        } else {
            "localWorkloadSelector"
        };
        out.push(Invalid::new("spec.asNumber", "", format!("is required with {other}")));
    }
    if spec.local_as_number == Some(Asn(0)) {
        out.push(Invalid::new("spec.localASNumber", 0, "AS 0 is reserved (RFC 7607)"));
    }
    check_peer_addresses(spec, out);
    check_peer_filters(cx, spec, out);
}

fn check_peer_addresses(spec: &BgpPeerSpec, out: &mut Vec<Invalid>) {
    if let Some(peer) = spec.peer_ip
        && (peer.ip.is_unspecified() || peer.ip.is_multicast())
    {
        out.push(Invalid::new("spec.peerIP", peer, "must be an address of one host"));
    }
    if let Some(gateway) = spec.reachable_by {
        match spec.peer_ip {
            None => out.push(Invalid::new("spec.reachableBy", gateway, "needs peerIP")),
            Some(peer) if peer.ip.is_ipv4() != gateway.is_ipv4() => {
                let reason = format!("must be of the same address family as peerIP {}", peer.ip);
                out.push(Invalid::new("spec.reachableBy", gateway, reason));
            }
            Some(_) => {}
        }
    }
}

fn check_peer_filters(cx: &Context<'_>, spec: &BgpPeerSpec, out: &mut Vec<Invalid>) {
    for (i, filter) in spec.filters.iter().enumerate() {
        if !cx
            .view
            .exists(&Key::resource(Kind::BgpFilter, None, filter).to_string())
        {
            let reason = "there is no BGPFilter of this name";
            out.push(Invalid::new(format!("spec.filters[{i}]"), filter, reason));
        }
    }
}

pub(super) fn check_filter(spec: &BgpFilterSpec, out: &mut Vec<Invalid>) {
    let lists = [
        ("exportV4", &spec.export_v4, true),
        ("importV4", &spec.import_v4, true),
        ("exportV6", &spec.export_v6, false),
        ("importV6", &spec.import_v6, false),
    ];
    for (list, rules, v4) in lists {
        for (i, rule) in rules.iter().enumerate() {
            check_rule(rule, &format!("spec.{list}[{i}]"), v4, out);
        }
    }
}

fn check_rule(rule: &FilterRule, path: &str, v4: bool, out: &mut Vec<Invalid>) {
    match (rule.cidr, rule.match_operator) {
        (Some(cidr), None) => out.push(Invalid::new(format!("{path}.cidr"), cidr, "needs matchOperator")),
        (None, Some(op)) => out.push(Invalid::new(format!("{path}.matchOperator"), op, "needs cidr")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if let Some(cidr) = rule.cidr
        && cidr.is_v4() != v4
    {
        let want = if v4 {
            "must be an IPv4 network"
        } else {
            "must be an IPv6 network"
        };
        out.push(Invalid::new(format!("{path}.cidr"), cidr, want));
    }
    if let Some(bounds) = rule.prefix_length {
        if rule.cidr.is_none() {
            let bound = |b: Option<u8>| b.map(|b| b.to_string()).unwrap_or_default();
            let value = format!("{}..{}", bound(bounds.min), bound(bounds.max));
            out.push(Invalid::new(format!("{path}.prefixLength"), value, "needs cidr"));
        }
        if let (Some(min), Some(max)) = (bounds.min, bounds.max)
            && min > max
        {
            out.push(Invalid::new(
                format!("{path}.prefixLength.min"),
                min,
                format!("exceeds max, which is {max}"),
            ));
        }
    }
    if let Some(match_) = &rule.communities
        && match_.values.len() != 1
    {
        out.push(Invalid::json(
            &format!("{path}.communities.values"),
            &json!(match_.values),
            "must hold exactly one community",
        ));
    }
    if !rule.operations.is_empty() && rule.action != FilterAction::Accept {
        out.push(Invalid::json(
            &format!("{path}.operations"),
            &json!(rule.operations),
            "are for rules with action Accept only",
        ));
    }
    for (i, operation) in rule.operations.iter().enumerate() {
        check_operation(operation, &format!("{path}.operations[{i}]"), out);
    }
}

fn check_operation(operation: &FilterOperation, path: &str, out: &mut Vec<Invalid>) {
    let set = [
        operation.add_community.is_some(),
        operation.prepend_as_path.is_some(),
        operation.set_priority.is_some(),
    ];
    if set.iter().filter(|s| **s).count() != 1 {
        out.push(Invalid::json(
            path,
            &json!(operation),
            "must have exactly one of addCommunity, prependASPath, setPriority",
        ));
    }
    if let Some(prepend) = &operation.prepend_as_path
        && prepend.prefix.is_empty()
    {
        out.push(Invalid::new(
            format!("{path}.prependASPath.prefix"),
            "",
            "must hold 1 to 10 AS numbers",
        ));
    }
}
