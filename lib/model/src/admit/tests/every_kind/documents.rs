//! Documents that are no resources.

use serde_json::json;

use super::*;

#[test]
fn blocks() {
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
            (with("allocations", json!([0])), "allocations", "[0]", "2 addresses"),
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
}

#[test]
fn affinities_and_handles() {
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
}

#[test]
fn the_settings_of_address_management() {
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
}

#[test]
fn leases() {
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
}

#[test]
fn what_felix_reports() {
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
