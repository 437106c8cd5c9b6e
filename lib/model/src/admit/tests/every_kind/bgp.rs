//! Configurations, peers and filters of BGP.

use serde_json::json;

use super::*;

#[test]
fn bgp_configurations() {
    let key = format!("{R}bgpconfigurations/default");
    stored(&key, spec(json!({ "asNumber": 64512, "nodeToNodeMeshEnabled": true })));
    let password = json!({ "nodeToNodeMeshEnabled": false,
        "nodeMeshPassword": { "secretKeyRef": { "name": "a", "key": "b" } } });
    refused(
        &key,
        [
            (spec(json!({ "asNumber": 0 })), "spec.asNumber", "0", "RFC 7607"),
            (
                spec(json!({ "asNumber": "1.2.3" })),
                "spec.asNumber",
                "1.2.3",
                "must be an AS number",
            ),
            (
                spec(json!({ "listenPort": 0 })),
                "spec.listenPort",
                "0",
                "from 1 to 65535",
            ),
            (
                spec(json!({ "logSeverityScreen": "Loud" })),
                "spec.logSeverityScreen",
                "Loud",
                "must be one of",
            ),
            (
                spec(json!({ "ignoredInterfaces": ["*"] })),
                "spec.ignoredInterfaces[0]",
                "*",
                "every interface",
            ),
            (
                spec(password),
                "spec.nodeMeshPassword",
                "a secret",
                "nodeToNodeMeshEnabled is false",
            ),
        ],
    );
    let other = format!("{R}bgpconfigurations/node.n1");
    refused(
        &other,
        [(spec(json!({ "asNumber": 7 })), "spec.asNumber", "7", "non default")],
    );
}

#[test]
fn communities_of_configurations() {
    let key = format!("{R}bgpconfigurations/default");
    stored(
        &key,
        spec(json!({ "communities": [{ "name": "low", "value": "64512:1" }],
            "prefixAdvertisements": [{ "cidr": "10.0.0.0/8", "communities": ["low", "64512:2"] }] })),
    );
    let advertise = json!({ "prefixAdvertisements": [{ "cidr": "10.0.0.0/8", "communities": ["high"] }] });
    let communities = json!({ "communities": [{ "name": "low", "value": "64512:1" }] });
    refused(
        &key,
        [
            (
                spec(advertise),
                "spec.prefixAdvertisements[0].communities[0]",
                "high",
                "must be a community",
            ),
            (
                spec(communities),
                "spec.communities",
                "low",
                "without prefixAdvertisements",
            ),
        ],
    );
}

fn peer(field: &str, value: Value) -> Value {
    let mut document = spec(json!({ "peerIP": "10.0.0.1", "asNumber": 64512 }));
    document["spec"][field] = value;
    document
}

#[test]
fn which_peers() {
    let key = format!("{R}bgppeers/a");
    stored(&key, peer("node", json!("n1")));
    stored(
        &key,
        spec(json!({ "peerSelector": "has(rr)", "nodeSelector": "all()" })),
    );
    let both = spec(json!({ "node": "n1", "nodeSelector": "all()", "peerSelector": "all()" }));
    refused(
        &key,
        [
            (json!({}), "spec.peerIP", "", "must be set"),
            (
                spec(json!({ "peerIP": "10.0.0.1" })),
                "spec.asNumber",
                "",
                "is required with peerIP",
            ),
            (both, "spec.nodeSelector", "all()", "together with node"),
            (
                peer("peerSelector", json!("all()")),
                "spec.peerSelector",
                "all()",
                "together with peerIP",
            ),
            (peer("peerIP", json!("10.0.0")), "spec.peerIP", "10.0.0", ""),
            (
                peer("peerIP", json!("224.0.0.1")),
                "spec.peerIP",
                "224.0.0.1",
                "one host",
            ),
        ],
    );
}

#[test]
fn how_peers_are_spoken_to() {
    let key = format!("{R}bgppeers/a");
    stored(&key, peer("filters", json!(["there"])));
    refused(
        &key,
        [
            (peer("localASNumber", json!(0)), "spec.localASNumber", "0", "RFC 7607"),
            (
                peer("reachableBy", json!("fe80::1")),
                "spec.reachableBy",
                "fe80::1",
                "same address family",
            ),
            (
                peer("filters", json!(["gone"])),
                "spec.filters[0]",
                "gone",
                "no BGPFilter",
            ),
            (
                peer("ttlSecurity", json!(256)),
                "spec.ttlSecurity",
                "256",
                "from 0 to 255",
            ),
            (peer("maxRestartTime", json!("soon")), "spec.maxRestartTime", "soon", ""),
        ],
    );
}

fn rule(rule: Value) -> Value {
    spec(json!({ "exportV4": [rule] }))
}

#[test]
fn what_filters_match() {
    let key = format!("{R}bgpfilters/a");
    stored(&key, spec(json!({})));
    stored(
        &key,
        rule(
            json!({ "action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": { "min": 9, "max": 24 },
            "operations": [{ "addCommunity": { "value": "1:2" } }] }),
        ),
    );
    let cidr = |cidr: &str| rule(json!({ "action": "Accept", "cidr": cidr, "matchOperator": "In" }));
    let lengths = json!({ "action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": { "min": 9, "max": 8 } });
    let lone = json!({ "action": "Accept", "prefixLength": { "min": 9 } });
    refused(
        &key,
        [
            (
                rule(json!({ "action": "Accept", "cidr": "10.0.0.0/8" })),
                "spec.exportV4[0].cidr",
                "10.0.0.0/8",
                "needs matchOperator",
            ),
            (
                rule(json!({ "action": "Accept", "matchOperator": "In" })),
                "spec.exportV4[0].matchOperator",
                "In",
                "needs cidr",
            ),
            (
                cidr("fd00::/8"),
                "spec.exportV4[0].cidr",
                "fd00::/8",
                "must be an IPv4 network",
            ),
            (cidr("10.0.0.1/8"), "spec.exportV4[0].cidr", "10.0.0.1/8", ""),
            (
                rule(lengths),
                "spec.exportV4[0].prefixLength.min",
                "9",
                "exceeds max, which is 8",
            ),
            (rule(lone), "spec.exportV4[0].prefixLength", "9..", "needs cidr"),
            (
                rule(json!({ "action": "Accept", "communities": { "values": [] } })),
                "spec.exportV4[0].communities.values",
                "[]",
                "exactly one",
            ),
        ],
    );
}

#[test]
fn what_filters_do() {
    let key = format!("{R}bgpfilters/a");
    let operations = |action: &str, operation: Value| rule(json!({ "action": action, "operations": [operation] }));
    let two = json!({ "setPriority": { "value": 1 }, "addCommunity": { "value": "1:2" } });
    stored(
        &key,
        operations("Accept", json!({ "prependASPath": { "prefix": [64512] } })),
    );
    refused(
        &key,
        [
            (
                rule(json!({})),
                "spec.exportV4[0].action",
                "",
                "required field is missing",
            ),
            (
                rule(json!({ "action": "Maybe" })),
                "spec.exportV4[0].action",
                "Maybe",
                "must be one of: ",
            ),
            (
                operations("Reject", json!({ "setPriority": { "value": 1 } })),
                "spec.exportV4[0].operations",
                "[{\"setPriority\":{\"value\":1}}]",
                "Accept only",
            ),
            (
                operations("Accept", two),
                "spec.exportV4[0].operations[0]",
                "{\"addCommunity\":{\"value\":\"1:2\"},\"setPriority\":{\"value\":1}}",
                "exactly one of",
            ),
            (
                operations("Accept", json!({ "prependASPath": { "prefix": [] } })),
                "spec.exportV4[0].operations[0].prependASPath.prefix",
                "",
                "1 to 10",
            ),
        ],
    );
}
