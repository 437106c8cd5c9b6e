mod every_kind;

use serde_json::json;

use super::*;

struct Empty;

impl View for Empty {
    fn visit(&self, _: &str, _: &mut dyn FnMut(&str, &[u8])) {}

    fn exists(&self, _: &str) -> bool {
        false
    }
}

fn try_admit(key: &str, new: Value, old: Option<Value>) -> Result<Value, String> {
    admit(&key.parse().unwrap(), new, old.as_ref(), &Empty).map_err(|e| e.to_string())
}

const POOL: &str = "/calico/resources/v3/projectcalico.org/ippools/a";

#[test]
fn the_key_completes_and_identity_stays() {
    let old =
        json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "then"}, "spec": {"cidr": "10.0.0.0/8"}});
    let new = json!({"metadata": {"resourceVersion": "9", "creationTimestamp": "now", "future": [1]},
        "spec": {"cidr": "10.0.0.0/8", "future": 18446744073709551615u64}, "more": {}});
    let stored = try_admit(POOL, new, Some(old.clone())).unwrap();
    assert_eq!(stored["kind"], "IPPool");
    assert_eq!(
        stored["metadata"],
        json!({"creationTimestamp": "then", "future": [1], "name": "a", "uid": "1"})
    );
    // What a newer program wrote survives, numbers exactly.
    assert_eq!(stored["spec"]["future"], json!(u64::MAX));
    assert_eq!(stored["more"], json!({}));

    let other = json!({"metadata": {"uid": "2"}, "spec": {"cidr": "10.0.0.0/8"}});
    let said = try_admit(POOL, other, Some(old)).unwrap_err();
    assert!(
        said.contains("IPPool(a): error with field metadata.uid = '2' (is of another object"),
        "{said}"
    );
}

#[test]
fn documents_that_are_no_resources_are_refused_whole() {
    for (new, want) in [
        (json!(5), "IPPool(a): error with field document"),
        (
            json!({"metadata": [], "spec": {"cidr": "10.0.0.0/8"}}),
            "metadata = '[]' (want an object)",
        ),
        (
            json!({"kind": "Node", "spec": {"cidr": "10.0.0.0/8"}}),
            "kind = 'Node' (must be IPPool)",
        ),
        (
            json!({"metadata": {"name": "b"}, "spec": {"cidr": "10.0.0.0/8"}}),
            "metadata.name = 'b' (must be a)",
        ),
        (json!({"spec": {"cidr": 10}}), "spec.cidr = '10' (want text)"),
        (
            json!({"spec": {"cidr": "10.0.0.0/8", "disabled": "no"}}),
            "spec.disabled = 'no' (want true or false)",
        ),
        (
            json!({"spec": {"cidr": "10.0.0.0/8", "blockSize": 26.5}}),
            "spec.blockSize = '26.5' (must be a whole number",
        ),
        (
            json!({"spec": {"cidr": "10.0.0.0/8"}, "metadata": {"labels": {"a": 1}}}),
            "metadata.labels.a = '1' (want text)",
        ),
    ] {
        let said = try_admit(POOL, new, None).unwrap_err();
        assert!(said.contains(want), "{said}");
    }
    let policy = "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/p";
    let said = try_admit(policy, json!({}), None).unwrap_err();
    assert!(said.contains("Tortie does not act on this kind yet"), "{said}");
}

#[test]
fn a_pool_over_blocks_of_another_size_is_refused() {
    struct Blocks;
    impl View for Blocks {
        fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
            let key = "/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-28";
            if key.starts_with(prefix) {
                f(key, b"{}");
            }
        }
        fn exists(&self, _: &str) -> bool {
            false
        }
    }
    let pool = |size: u8| json!({"spec": {"cidr": "10.0.0.0/8", "blockSize": size}});
    let key = POOL.parse().unwrap();
    let said = admit(&key, pool(26), None, &Blocks).unwrap_err().to_string();
    assert!(
        said.contains("conflicts with existing allocations that use a different blockSize"),
        "{said}"
    );
    assert!(admit(&key, pool(28), None, &Blocks).is_ok());
}

#[test]
fn blocks_may_not_contradict_themselves() {
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
    let block = |allocations: Value, unallocated: Value| {
        json!({"cidr": "10.0.0.0/30", "affinity": "host:n1", "allocations": allocations, "unallocated": unallocated,
            "attributes": [{"handle_id": "h"}], "sequenceNumber": 1777630000000000007u64, "deleted": false})
    };
    let good = block(json!([0, null, null, 0]), json!([2, 1]));
    assert_eq!(try_admit(key, good.clone(), None), Ok(good));
    for (bad, want) in [
        (
            block(json!([0]), json!([])),
            "allocations = '[0]' (must have one item for each of the block's 4 addresses, not 1)",
        ),
        (
            block(json!([0, 1, null, null]), json!([2, 3])),
            "allocations[1] = '1' (refers to an attribute",
        ),
        (
            block(json!([0, null, null, null]), json!([0])),
            "unallocated[0] = '0' (is allocated)",
        ),
        (
            block(json!([0, null, null, null]), json!([1, 1])),
            "unallocated[1] = '1' (is listed twice)",
        ),
        (
            block(json!([0, null, null, null]), json!([4])),
            "unallocated[0] = '4' (is beyond the block)",
        ),
        (
            json!({"cidr": "10.0.0.4/30"}),
            "cidr is 10.0.0.4/30, the key says 10.0.0.0/30",
        ),
    ] {
        let said = try_admit(key, bad, None).unwrap_err();
        assert!(said.contains(want), "{said}");
    }
    let config = try_admit(crate::key::IPAM_CONFIG, json!({"maxBlocksPerHost": 2}), None).unwrap_err();
    assert!(
        config.contains("auto_allocate_blocks = 'false'") && config.contains("maxBlocksPerHost = '2'"),
        "{config}"
    );
}

#[test]
fn only_what_programs_need_cannot_be_deleted() {
    let name = |text: &str| text.parse::<Key>().unwrap();
    assert!(admit_delete(&name(POOL)).is_ok());
    assert!(
        admit_delete(&name(
            "/calico/resources/v3/projectcalico.org/clusterinformations/default"
        ))
        .is_err()
    );
}
