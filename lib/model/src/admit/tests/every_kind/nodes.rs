//! Nodes and what lives on them.

use serde_json::json;

use super::*;

#[test]
fn nodes() {
    let node = format!("{R}nodes/n1");
    let bgp = |field: &str, value: Value| spec(json!({ "bgp": { field: value } }));
    stored(&node, json!({}));
    stored(&node, bgp("ipv4Address", json!("10.0.0.1/24")));
    refused(
        &node,
        [
            (
                spec(json!({ "bgp": {} })),
                "spec.bgp",
                "{}",
                "at least one of its fields",
            ),
            (
                bgp("ipv4Address", json!("fd00::1/64")),
                "spec.bgp.ipv4Address",
                "fd00::1/64",
                "must be an IPv4 address",
            ),
            (
                bgp("ipv4Address", json!("127.0.0.1/8")),
                "spec.bgp.ipv4Address",
                "127.0.0.1/8",
                "other nodes can reach",
            ),
            (bgp("asNumber", json!(0)), "spec.bgp.asNumber", "0", "RFC 7607"),
            (
                spec(json!({ "vxlanTunnelMACAddr": "0e:11" })),
                "spec.vxlanTunnelMACAddr",
                "0e:11",
                "must be a MAC address",
            ),
            (
                spec(json!({ "addresses": [{}] })),
                "spec.addresses[0].address",
                "",
                "required field is missing",
            ),
        ],
    );
}

#[test]
fn workload_endpoints() {
    let workload = format!("{R}workloadendpoints/web/n1-k8s-a-eth0");
    let with = |field: &str, value: Value| {
        let mut document = spec(
            json!({ "orchestrator": "k8s", "node": "n1", "pod": "a", "endpoint": "eth0",
            "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"] }),
        );
        document["spec"][field] = value;
        document
    };
    stored(&workload, with("mac", json!("ee:ee:ee:ee:ee:ee")));
    let nat =
        |internal: &str, external: &str| with("ipNATs", json!([{ "internalIP": internal, "externalIP": external }]));
    refused(
        &workload,
        [
            (
                with("node", json!("n2")),
                "metadata.name",
                "n1-k8s-a-eth0",
                "must be n2-k8s-a-eth0",
            ),
            (
                with("interfaceName", json!("")),
                "spec.interfaceName",
                "",
                "required field is empty",
            ),
            (
                with("interfaceName", json!("cali/1")),
                "spec.interfaceName",
                "cali/1",
                "A-Z",
            ),
            (
                with("ipNetworks", json!(["10.0.0.0/24"])),
                "spec.ipNetworks[0]",
                "10.0.0.0/24",
                "single address: length 32",
            ),
            (
                nat("10.0.0.1", "fd00::1"),
                "spec.ipNATs[0].externalIP",
                "fd00::1",
                "same address family",
            ),
            (
                nat("10.0.0.2", "10.1.0.1"),
                "spec.ipNATs[0].internalIP",
                "10.0.0.2",
                "one of ipNetworks",
            ),
            (
                with("ports", json!([{ "port": 0 }])),
                "spec.ports[0].port",
                "0",
                "from 1 to 65535",
            ),
        ],
    );
}
