//! Pools: addresses, encapsulation, selectors, uses.

use serde_json::json;

use super::*;

fn with(field: &str, value: Value) -> Value {
    let mut document = spec(json!({ "cidr": "10.0.0.0/16" }));
    document["spec"][field] = value;
    document
}

fn key() -> String {
    format!("{POOLS}a")
}

#[test]
fn addresses() {
    stored(&key(), spec(json!({ "cidr": "10.0.0.0/16" })));
    refused(
        &key(),
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
        ],
    );
}

#[test]
fn encapsulation() {
    stored(&key(), with("ipipMode", json!("CrossSubnet")));
    stored(
        &key(),
        spec(json!({ "cidr": "fd00::/48", "blockSize": 122, "vxlanMode": "Always" })),
    );
    let both = spec(json!({ "cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always" }));
    refused(
        &key(),
        [
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
        ],
    );
}

#[test]
fn selectors() {
    stored(&key(), with("nodeSelector", json!("has(a)")));
    refused(
        &key(),
        [
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
        ],
    );
}

#[test]
fn uses() {
    let balancer = |field: &str, value: Value| {
        let mut document = with("allowedUses", json!(["LoadBalancer"]));
        document["spec"][field] = value;
        document
    };
    stored(&key(), balancer("assignmentMode", json!("Manual")));
    refused(
        &key(),
        [
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
