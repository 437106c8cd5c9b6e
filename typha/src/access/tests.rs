use serde_json::json;

use super::*;

const R: &str = "/calico/resources/v3/projectcalico.org";

fn named(organization: &str, common: &str) -> Result<Subject, Denied> {
    Subject::named(&Name {
        organization: organization.to_owned(),
        common: common.to_owned(),
    })
}

#[test]
fn who_comes_in_which_capacity() {
    assert_eq!(named("tortie:admins", "eve"), Ok(Subject::Admin));
    assert_eq!(named("tortie:nodes", "n1"), Ok(Subject::Node("n1".to_owned())));
    assert_eq!(named("tortie:nodes", ""), Err(Denied::NoNode));
    // A typha's certificate is for serving; one of another system says nothing here.
    for stranger in ["", "tortie:typha", "system:nodes", "tortie:admins "] {
        assert_eq!(named(stranger, "n1"), Err(Denied::Organization(stranger.to_owned())));
    }
    assert_eq!(Subject::of(&tonic::Extensions::new()), Err(Denied::Nobody));
}

/// A document of four addresses: who owns it, and which node has each address.
fn block(owner: Option<&str>, slots: [Option<&str>; 4]) -> Value {
    let taken: Vec<&str> = slots.iter().flatten().copied().collect();
    let mut index = 0..;
    let allocations: Vec<Value> = slots
        .iter()
        .map(|s| s.map_or(Value::Null, |_| json!(index.next())))
        .collect();
    let attributes: Vec<Value> = taken
        .iter()
        .map(|n| json!({ "handle_id": "h", "secondary": { "node": n } }))
        .collect();
    let affinity = owner.map(|o| format!("host:{o}"));
    json!({ "cidr": "10.0.0.0/30", "affinity": affinity, "allocations": allocations, "attributes": attributes })
}

/// Who, key, the document put there, the document that is there, may it.
type Row = (&'static str, String, Option<Value>, Option<Value>, bool);

fn any() -> Option<Value> {
    Some(json!({}))
}

/// Resources, and what of address management is not a block.
fn documents() -> Vec<Row> {
    let workload = |node: &str| Some(json!({ "spec": { "node": node } }));
    let wep = || format!("{R}/workloadendpoints/web/n1-k8s-a-eth0");
    vec![
        ("n1", format!("{R}/nodes/n1"), any(), None, true),
        ("n1", format!("{R}/nodes/n2"), any(), any(), false),
        ("n1", format!("{R}/nodes/n2"), None, any(), false),
        ("n1", wep(), workload("n1"), None, true),
        ("n1", wep(), None, workload("n1"), true),
        ("n1", wep(), workload("n2"), None, false),
        ("n1", wep(), workload("n1"), workload("n2"), false),
        ("n1", wep(), None, workload("n2"), false),
        ("n1", wep(), any(), None, false),
        (
            "n1",
            format!("{R}/caliconodestatuses/s"),
            workload("n1"),
            workload("n1"),
            true,
        ),
        ("n1", format!("{R}/caliconodestatuses/s"), workload("n2"), None, false),
        ("n1", format!("{R}/ippools/a"), any(), None, false),
        ("n1", format!("{R}/bgppeers/a"), None, any(), false),
        ("n1", format!("{R}/clusterinformations/default"), any(), any(), false),
        ("n1", format!("{R}/felixconfigurations/node.n1"), any(), None, false),
        ("n1", "/calico/ipam/v2/config".to_owned(), any(), None, false),
        (
            "n1",
            "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30".to_owned(),
            any(),
            None,
            true,
        ),
        (
            "n1",
            "/calico/ipam/v2/host/n2/ipv4/block/10.0.0.0-30".to_owned(),
            any(),
            None,
            false,
        ),
        (
            "n1",
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.0.0.0-30".to_owned(),
            any(),
            None,
            false,
        ),
        ("n1", "/calico/ipam/v2/host/n1".to_owned(), any(), None, true),
        ("n1", "/calico/ipam/v2/host/n2".to_owned(), None, any(), false),
        (
            "n1",
            "/calico/ipam/v2/handle/k8s-pod-network.x".to_owned(),
            any(),
            None,
            true,
        ),
    ]
}

/// Blocks: the node's own, another's, nobody's.
fn blocks() -> Vec<Row> {
    let block_key = || "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30".to_owned();
    let own = |slots| Some(block(Some("n1"), slots));
    let other = |slots| Some(block(Some("n2"), slots));
    let nobodys = |slots| Some(block(None, slots));
    let none = [None; 4];
    vec![
        // Made, used, given up, removed.
        ("n1", block_key(), own(none), None, true),
        ("n1", block_key(), other(none), None, false),
        ("n1", block_key(), nobodys(none), None, false),
        ("n1", block_key(), own([Some("n2"), None, None, None]), own(none), true),
        ("n1", block_key(), nobodys(none), own(none), true),
        ("n1", block_key(), None, own(none), true),
        ("n1", block_key(), other(none), own(none), false),
        // Another's: only single addresses, and one's own.
        (
            "n1",
            block_key(),
            other([Some("n1"), None, None, None]),
            other(none),
            true,
        ),
        (
            "n1",
            block_key(),
            other([Some("n2"), Some("n1"), None, None]),
            other([Some("n2"), None, None, None]),
            true,
        ),
        (
            "n1",
            block_key(),
            other(none),
            other([Some("n1"), None, None, None]),
            true,
        ),
        (
            "n1",
            block_key(),
            other(none),
            other([Some("n2"), None, None, None]),
            false,
        ),
        (
            "n1",
            block_key(),
            other([Some("n1"), None, None, None]),
            other([Some("n2"), None, None, None]),
            false,
        ),
        (
            "n1",
            block_key(),
            other([Some("n2"), None, None, None]),
            other(none),
            false,
        ),
        ("n1", block_key(), own(none), other(none), false),
        ("n1", block_key(), None, other(none), false),
        // Nobody's: it may be claimed, and removed when it is empty.
        ("n1", block_key(), own(none), nobodys(none), true),
        ("n1", block_key(), other(none), nobodys(none), false),
        ("n1", block_key(), None, nobodys(none), true),
        ("n1", block_key(), None, nobodys([Some("n2"), None, None, None]), false),
    ]
}

#[test]
fn the_table() {
    let rows = documents().into_iter().chain(blocks());
    for (node, key, new, old, allowed) in rows {
        let subject = Subject::Node(node.to_owned());
        let parsed: Key = key.parse().unwrap();
        let said = subject.may_write(&parsed, new.as_ref(), old.as_ref());
        assert_eq!(said.is_ok(), allowed, "{node} {key} {new:?} over {old:?}: {said:?}");
        assert_eq!(Subject::Admin.may_write(&parsed, new.as_ref(), old.as_ref()), Ok(()));
        let reader = Subject::Reader
            .may_write(&parsed, new.as_ref(), old.as_ref())
            .unwrap_err();
        assert!(reader.to_string().starts_with("a reader may not write "), "{reader}");
        let by_hand = key.starts_with(R) || key.ends_with("/config");
        let operator = Subject::Operator.may_write(&parsed, new.as_ref(), old.as_ref());
        assert_eq!(operator.is_ok(), by_hand, "{key}");
    }
    let refused = Subject::Node("n1".to_owned()).may_write(&format!("{R}/ippools/a").parse().unwrap(), None, None);
    let text = refused.unwrap_err().to_string();
    assert_eq!(
        text,
        "node n1 may not write IPPool(a): a node does not configure the cluster"
    );
    assert_eq!(Subject::Admin.administers("import"), Ok(()));
    let operator = Subject::Operator.administers("import").unwrap_err().to_string();
    assert_eq!(operator, "an operator may not import: only administrators may");
}
