//! What there is one of, and reservations.

use serde_json::json;

use super::*;

#[test]
fn felix_configurations() {
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
}

#[test]
fn cluster_informations() {
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
}

#[test]
fn ipam_configurations() {
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
}

#[test]
fn reservations_and_their_metadata() {
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
