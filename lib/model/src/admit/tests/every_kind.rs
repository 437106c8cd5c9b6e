//! Every kind of document: what is stored, and what is refused with the field, its value and the rule.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::*;

/// A datastore with one filter and one pool.
struct Little;

impl View for Little {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        if POOLS.starts_with(prefix) {
            f(
                &format!("{POOLS}there"),
                br#"{"metadata": {"name": "there"}, "spec": {"cidr": "172.16.0.0/16"}}"#,
            );
        }
    }

    fn exists(&self, key: &str) -> bool {
        key.ends_with("/bgpfilters/there")
    }
}

const R: &str = "/calico/resources/v3/projectcalico.org/";
const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";

fn stored(key: &str, document: Value) {
    let said = admit(&key.parse().unwrap(), document.clone(), None, &Little);
    assert!(said.is_ok(), "{key} {document}: {}", said.unwrap_err());
}

/// What is wrong, in these words: field, value, and a part of the rule. One row for each broken rule.
type Row = (Value, &'static str, &'static str, &'static str);

fn refused(key: &str, rows: impl IntoIterator<Item = Row>) {
    for (document, field, value, rule) in rows {
        let parsed: Key = key.parse().unwrap();
        let refused = admit(&parsed, document.clone(), None, &Little).expect_err(&document.to_string());
        let named = |i: &&Invalid| i.field == field && i.value == value && i.reason.contains(rule);
        assert!(
            refused.invalid.iter().any(|i| named(&i)),
            "{document}: {:?} does not say {field} = '{value}' ({rule})",
            refused.invalid
        );
        let said = refused.to_string();
        assert!(
            said.starts_with(&format!("{}: error with ", parsed.object_name())),
            "{said}"
        );
        assert!(said.contains(&format!("{field} = '{value}' (")), "{said}");
        assert!(
            refused
                .invalid
                .iter()
                .all(|i| !i.reason.is_empty() && !i.field.is_empty()),
            "{said}"
        );
    }
}

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn ip_pools() {
    let key = format!("{POOLS}a");
    let with = |field: &str, value: Value| {
        let mut document = spec(json!({ "cidr": "10.0.0.0/16" }));
        document["spec"][field] = value;
        document
    };
    stored(&key, spec(json!({ "cidr": "10.0.0.0/16" })));
    stored(&key, with("ipipMode", json!("CrossSubnet")));
    stored(
        &key,
        spec(json!({ "cidr": "fd00::/48", "blockSize": 122, "vxlanMode": "Always" })),
    );
    let both = spec(json!({ "cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always" }));
    let balancer = |field: &str, value: Value| {
        let mut document = with("allowedUses", json!(["LoadBalancer"]));
        document["spec"][field] = value;
        document
    };
    refused(
        &key,
        [
            (json!({}), "spec", "", "required field is missing"),
            (spec(json!({})), "spec.cidr", "", "required field is missing"),
            (with("cidr", json!("10.0.0.0/33")), "spec.cidr", "10.0.0.0/33", ""),
            (
                with("cidr", json!("172.16.5.0/24")),
                "spec.cidr",
                "172.16.5.0/24",
                "overlaps with IPPool(there)",
            ),
            (
                with("cidr", json!("169.254.0.0/20")),
                "spec.cidr",
                "169.254.0.0/20",
                "link-local",
            ),
            (
                with("cidr", json!("10.0.0.0/30")),
                "spec.cidr",
                "10.0.0.0/30",
                "smaller than one of its blocks",
            ),
            (with("blockSize", json!(33)), "spec.blockSize", "33", "from 20 to 32"),
            (
                with("ipipMode", json!("Sometimes")),
                "spec.ipipMode",
                "Sometimes",
                "must be one of: ",
            ),
            (both, "spec.vxlanMode", "Always", "one encapsulation"),
            (
                spec(json!({ "cidr": "fd00::/48", "ipipMode": "Always" })),
                "spec.ipipMode",
                "Always",
                "IPv4 pools only",
            ),
            (
                with("natOutgoing", json!("yes")),
                "spec.natOutgoing",
                "yes",
                "want true or false",
            ),
            (with("nodeSelector", json!("a ==")), "spec.nodeSelector", "a ==", ""),
            (
                with("namespaceSelector", json!("all()")),
                "spec.namespaceSelector",
                "all()",
                "tunnels",
            ),
            (
                balancer("ipipMode", json!("Always")),
                "spec.ipipMode",
                "Always",
                "no encapsulation",
            ),
            (
                balancer("disableBGPExport", json!(true)),
                "spec.disableBGPExport",
                "true",
                "to be advertised",
            ),
            (
                balancer("nodeSelector", json!("has(a)")),
                "spec.nodeSelector",
                "has(a)",
                "must be all()",
            ),
        ],
    );
}

#[test]
fn bgp_configurations() {
    let key = format!("{R}bgpconfigurations/default");
    stored(&key, spec(json!({ "asNumber": 64512, "nodeToNodeMeshEnabled": true })));
    stored(
        &key,
        spec(json!({ "communities": [{ "name": "low", "value": "64512:1" }],
            "prefixAdvertisements": [{ "cidr": "10.0.0.0/8", "communities": ["low", "64512:2"] }] })),
    );
    let advertise = json!({ "prefixAdvertisements": [{ "cidr": "10.0.0.0/8", "communities": ["high"] }] });
    let communities = json!({ "communities": [{ "name": "low", "value": "64512:1" }] });
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
fn bgp_peers() {
    let key = format!("{R}bgppeers/a");
    let peer = |field: &str, value: Value| {
        let mut document = spec(json!({ "peerIP": "10.0.0.1", "asNumber": 64512 }));
        document["spec"][field] = value;
        document
    };
    stored(&key, peer("node", json!("n1")));
    stored(
        &key,
        spec(json!({ "peerSelector": "has(rr)", "nodeSelector": "all()" })),
    );
    stored(&key, peer("filters", json!(["there"])));
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

#[test]
fn bgp_filters() {
    let key = format!("{R}bgpfilters/a");
    let rule = |rule: Value| spec(json!({ "exportV4": [rule] }));
    stored(&key, spec(json!({})));
    stored(
        &key,
        rule(
            json!({ "action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": { "min": 9, "max": 24 },
            "operations": [{ "addCommunity": { "value": "1:2" } }] }),
        ),
    );
    let cidr = |cidr: &str| rule(json!({ "action": "Accept", "cidr": cidr, "matchOperator": "In" }));
    let operations = |action: &str, operation: Value| rule(json!({ "action": action, "operations": [operation] }));
    let two = json!({ "setPriority": { "value": 1 }, "addCommunity": { "value": "1:2" } });
    let lengths = json!({ "action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": { "min": 9, "max": 8 } });
    let lone = json!({ "action": "Accept", "prefixLength": { "min": 9 } });
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
                operations("Reject", json!({ "setPriority": { "value": 1 } })),
                "spec.exportV4[0].operations",
                "1 items",
                "Accept only",
            ),
            (
                operations("Accept", two),
                "spec.exportV4[0].operations[0]",
                "2 of them",
                "exactly one of",
            ),
            (
                operations("Accept", json!({ "prependASPath": { "prefix": [] } })),
                "spec.exportV4[0].operations[0].prependASPath.prefix",
                "",
                "1 to 10",
            ),
            (
                rule(json!({ "action": "Accept", "communities": { "values": [] } })),
                "spec.exportV4[0].communities.values",
                "0 items",
                "exactly one",
            ),
        ],
    );
}

#[test]
fn nodes_and_workload_endpoints() {
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

#[test]
fn what_there_is_one_of_and_the_rest() {
    let felix = format!("{R}felixconfigurations/default");
    stored(&felix, spec(json!({ "routeRefreshInterval": "90s", "vxlanVNI": 4096 })));
    let ranges = json!({ "routeTableRange": { "min": 1 }, "routeTableRanges": [] });
    refused(
        &felix,
        [
            (
                spec(json!({ "nodeSelector": "all()" })),
                "spec.nodeSelector",
                "all()",
                "says already",
            ),
            (
                spec(json!({ "deviceRouteProtocol": 12 })),
                "spec.deviceRouteProtocol",
                "12",
                "no other program",
            ),
            (spec(ranges), "spec.routeTableRange", "{\"min\":1}", "set one of"),
            (
                spec(json!({ "vxlanVNI": 0 })),
                "spec.vxlanVNI",
                "0",
                "from 1 to 16777215",
            ),
            (
                spec(json!({ "routeRefreshInterval": "90" })),
                "spec.routeRefreshInterval",
                "90",
                "",
            ),
        ],
    );
    let cluster = |name: &str| format!("{R}clusterinformations/{name}");
    stored(
        &cluster("default"),
        spec(json!({ "clusterGUID": "a", "datastoreReady": true })),
    );
    refused(
        &cluster("default"),
        [
            (
                spec(json!({ "datastoreReady": 1 })),
                "spec.datastoreReady",
                "1",
                "want true or false",
            ),
            (spec(json!({ "clusterGUID": 1 })), "spec.clusterGUID", "1", "want text"),
            (json!({ "kind": "Node" }), "kind", "Node", "must be ClusterInformation"),
        ],
    );
    refused(&cluster("a"), [(json!({}), "metadata.name", "a", "is named default")]);
    let ipam = format!("{R}ipamconfigurations/default");
    stored(&ipam, spec(json!({ "strictAffinity": true, "maxBlocksPerHost": 2 })));
    let never = json!({ "strictAffinity": false, "autoAllocateBlocks": false });
    refused(
        &ipam,
        [
            (spec(never), "spec.autoAllocateBlocks", "false", "no address could ever"),
            (
                spec(json!({ "maxBlocksPerHost": 2 })),
                "spec.maxBlocksPerHost",
                "2",
                "needs strictAffinity",
            ),
            (
                spec(json!({ "ipCooldownSeconds": 1201 })),
                "spec.ipCooldownSeconds",
                "1201",
                "from 0 to 1200",
            ),
        ],
    );
    let reservation = format!("{R}ipreservations/a");
    stored(
        &reservation,
        spec(json!({ "reservedCIDRs": ["10.0.0.0/24", "10.1.0.1"] })),
    );
    refused(
        &reservation,
        [
            (
                spec(json!({ "reservedCIDRs": "10.0.0.0/24" })),
                "spec.reservedCIDRs",
                "10.0.0.0/24",
                "want a list",
            ),
            (
                spec(json!({ "reservedCIDRs": ["ten"] })),
                "spec.reservedCIDRs[0]",
                "ten",
                "",
            ),
            (
                json!({ "metadata": { "labels": { "-a": "b" } } }),
                "metadata.labels",
                "-a",
                "at most 63",
            ),
            (
                json!({ "metadata": { "namespace": "web" } }),
                "metadata.namespace",
                "web",
                "is not namespaced",
            ),
        ],
    );
}

#[test]
fn documents_that_are_no_resources() {
    let block = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-31";
    let with = |field: &str, value: Value| {
        let mut document = json!({ "cidr": "10.0.0.0/31", "affinity": "host:n1", "allocations": [0, null],
            "unallocated": [1], "attributes": [{ "handle_id": "h", "secondary": { "node": "n1" } }] });
        document[field] = value;
        document
    };
    stored(block, with("future", json!(1)));
    let elsewhere = json!({ "cidr": "10.0.0.2/31" });
    refused(
        block,
        [
            (with("cidr", json!("ten")), "cidr", "ten", ""),
            (with("cidr", Value::Null), "cidr", "", "required field is missing"),
            (
                elsewhere,
                "document",
                "{\"cidr\":\"10.0.0.2/31\"}",
                "the key says 10.0.0.0/31",
            ),
            (with("allocations", json!([0])), "allocations", "1 items", "2 addresses"),
            (
                with("allocations", json!([1, null])),
                "allocations[0]",
                "1",
                "does not exist: there are 1",
            ),
            (with("unallocated", json!([0])), "unallocated[0]", "0", "is allocated"),
            (
                with("unallocated", json!(["1"])),
                "unallocated[0]",
                "1",
                "want a whole number",
            ),
            (
                with("attributes", json!([{ "handle_id": 7 }])),
                "attributes[0].handle_id",
                "7",
                "want text",
            ),
            (
                with("attributes", json!([{ "secondary": { "node": 1 } }])),
                "attributes[0].secondary.node",
                "1",
                "want text",
            ),
        ],
    );
    let affinity = "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-31";
    stored(affinity, json!({ "state": "pending" }));
    refused(
        affinity,
        [
            (json!({ "state": "mine" }), "state", "mine", "must be one of: confirmed"),
            (json!({ "deleted": "no" }), "deleted", "no", "want true or false"),
            (json!([]), "document", "[]", ""),
        ],
    );
    let handle = "/calico/ipam/v2/handle/h";
    stored(handle, json!({ "block": { "10.0.0.0/26": 1 }, "deleted": false }));
    refused(
        handle,
        [
            (json!({ "deleted": 0 }), "deleted", "0", "want true or false"),
            (
                json!({ "block": { "ten": 1 } }),
                "document",
                "{\"block\":{\"ten\":1}}",
                "",
            ),
        ],
    );
    let config = crate::key::IPAM_CONFIG;
    stored(
        config,
        json!({ "strict_affinity": false, "auto_allocate_blocks": true }),
    );
    let never = json!({ "strict_affinity": false, "auto_allocate_blocks": false });
    refused(
        config,
        [
            (never, "auto_allocate_blocks", "false", "no address could ever"),
            (
                json!({ "strict_affinity": "no" }),
                "strict_affinity",
                "no",
                "want true or false",
            ),
            (json!({ "maxBlocksPerHost": -1 }), "maxBlocksPerHost", "-1", "from 0 to"),
        ],
    );
    let lease = "/calico/tortie/lease/ipam-gc";
    stored(lease, json!({ "holder": "n1", "termSeconds": 60 }));
    refused(
        lease,
        [
            (json!({ "holder": 1 }), "holder", "1", "want text"),
            (
                json!({ "holder": "n1", "termSeconds": -1 }),
                "termSeconds",
                "-1",
                "from 0 to",
            ),
            (
                json!({ "termSeconds": 60 }),
                "document",
                "{\"termSeconds\":60}",
                "holder",
            ),
        ],
    );
    let host = "/calico/felix/v2/no-region/host/n1";
    let (status, endpoint) = (
        format!("{host}/status"),
        format!("{host}/workload/k8s/web%2fa/endpoint/eth0"),
    );
    stored(
        &status,
        json!({ "time": "2026-01-01T00:00:00Z", "uptime": 1.5, "first_update": true }),
    );
    stored(&endpoint, json!({ "status": "up" }));
    refused(
        &status,
        [
            (json!({ "time": 7 }), "time", "7", "want text"),
            (
                json!({ "time": "now", "first_update": 1 }),
                "first_update",
                "1",
                "want true or false",
            ),
        ],
    );
    refused(
        &endpoint,
        [(json!({ "status": "fine" }), "status", "fine", "must be one of: up")],
    );
}

#[test]
fn every_kind_is_in_a_table_here_or_refused_as_a_whole() {
    let here = [
        Kind::BgpConfiguration,
        Kind::BgpFilter,
        Kind::BgpPeer,
        Kind::ClusterInformation,
        Kind::FelixConfiguration,
        Kind::IpamConfiguration,
        Kind::IpPool,
        Kind::IpReservation,
        Kind::Node,
        Kind::WorkloadEndpoint,
    ];
    let supported: BTreeSet<Kind> = Kind::ALL.iter().copied().filter(|k| k.supported()).collect();
    assert_eq!(supported, BTreeSet::from(here), "a kind without a table");
    for kind in Kind::ALL.iter().filter(|k| !k.supported()) {
        let namespace = if kind.namespaced() { "web/" } else { "" };
        let key = format!("{R}{}/{namespace}a", kind.plural());
        let refused = admit(&key.parse().unwrap(), json!({}), None, &Little).unwrap_err();
        let [only] = refused.invalid.as_slice() else {
            panic!("{refused}")
        };
        assert_eq!((only.field.as_str(), only.value.as_str()), ("kind", kind.name()));
        assert_eq!(only.reason, "Tortie does not act on this kind yet");
    }
}
