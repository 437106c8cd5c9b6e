use serde_json::json;

use super::*;

const R: &str = "/calico/resources/v3/projectcalico.org";
const F: &str = "/calico/felix/v2/no-region/host";

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
    assert_eq!(named("tortie:typha", "typha-1"), Ok(Subject::Reader), "a peer");
    // One of another system says nothing here.
    for stranger in ["", "system:nodes", "tortie:admins "] {
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
        ("n1", format!("{F}/n1/status"), any(), None, true),
        ("n1", format!("{F}/n1/last_reported_status"), any(), any(), true),
        ("n1", format!("{F}/n1/workload/k8s/a/endpoint/eth0"), None, any(), true),
        ("n1", format!("{F}/n2/status"), any(), None, false),
        ("n1", format!("{F}/n2/last_reported_status"), None, any(), false),
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
        let write = Write {
            key: &parsed,
            new: new.as_ref(),
            old: old.as_ref(),
        };
        let none = BTreeSet::new();
        let said = subject.may_write(&write, &none);
        assert_eq!(said.is_ok(), allowed, "{node} {key} {new:?} over {old:?}: {said:?}");
        assert_eq!(Subject::Admin.may_write(&write, &none), Ok(()));
        let reader = Subject::Reader.may_write(&write, &none).unwrap_err();
        assert!(reader.to_string().starts_with("a reader may not write "), "{reader}");
        let by_hand = key.starts_with(R) || key.ends_with("/config");
        let operator = Subject::Operator.may_write(&write, &none);
        assert_eq!(operator.is_ok(), by_hand, "{key}");
    }
    let pool = format!("{R}/ippools/a").parse().unwrap();
    let write = Write {
        key: &pool,
        new: None,
        old: None,
    };
    let refused = Subject::Node("n1".to_owned()).may_write(&write, &BTreeSet::new());
    let text = refused.unwrap_err().to_string();
    assert_eq!(
        text,
        "node n1 may not write IPPool(a): a node does not configure the cluster"
    );
    assert_eq!(Subject::Admin.administers("import"), Ok(()));
    let operator = Subject::Operator.administers("import").unwrap_err().to_string();
    assert_eq!(operator, "an operator may not import: only administrators may");
}

/// What n1 may do when n2 does not exist, and n3 does.
/// Key, the document put there, the document that is there, whose existence matters, may it.
type Left = (String, Option<Value>, Option<Value>, &'static [&'static str], bool);

const BLOCK: &str = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";

/// Another node's write: nodes n1 and n3 exist, n2 does not.
fn check_left_behind(rows: impl IntoIterator<Item = Left>) {
    let subject = Subject::Node("n1".to_owned());
    for (key, new, old, matter, allowed) in rows {
        let parsed: Key = key.parse().unwrap();
        let write = Write {
            key: &parsed,
            new: new.as_ref(),
            old: old.as_ref(),
        };
        let others = subject.others(&write);
        assert!(others.iter().eq(matter), "{key} {new:?} over {old:?}: {others:?}");
        let gone = others.into_iter().filter(|n| n != "n3").collect();
        let said = subject.may_write(&write, &gone);
        assert_eq!(said.is_ok(), allowed, "{key} {new:?} over {old:?}: {said:?}");
        assert!(Subject::Operator.others(&write).is_empty() && Subject::Reader.others(&write).is_empty());
        // While it exists, nothing of that is allowed.
        let said = subject.may_write(&write, &BTreeSet::new());
        assert!(said.is_err(), "{key} {new:?} over {old:?}");
    }
}

#[test]
fn resources_that_a_node_left_behind_go_and_none_is_made_in_its_name() {
    let wep = || format!("{R}/workloadendpoints/web/n2-k8s-a-eth0");
    let on = |node: &str| Some(json!({ "spec": { "node": node } }));
    check_left_behind([
        (wep(), None, on("n2"), &["n2"][..], true),
        (wep(), on("n2"), on("n2"), &["n2"], false),
        (wep(), on("n1"), on("n2"), &["n2"], false),
        (wep(), on("n2"), None, &[], false),
        (wep(), None, on("n3"), &["n3"], false),
        // A status was asked for by a person.
        (format!("{R}/caliconodestatuses/s"), None, on("n2"), &["n2"], false),
        // Its Node is not made again, and nothing else of the cluster is touched.
        (format!("{R}/nodes/n2"), any(), None, &[], false),
        (format!("{R}/felixconfigurations/node.n2"), None, any(), &[], false),
        (format!("{F}/n2/last_reported_status"), None, any(), &["n2"], true),
        (format!("{F}/n2/last_reported_status"), any(), any(), &["n2"], false),
    ]);
}

#[test]
fn claims_that_a_node_left_behind_are_given_up_and_none_is_made() {
    let claim = |node: &str| format!("/calico/ipam/v2/host/{node}/ipv4/block/10.0.0.0-30");
    let balancer = "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.0.0.0-30";
    let host = |node: &str| format!("/calico/ipam/v2/host/{node}");
    check_left_behind([
        (claim("n2"), any(), any(), &["n2"][..], true),
        (claim("n2"), None, any(), &["n2"], true),
        (claim("n2"), any(), None, &["n2"], false),
        (claim("n3"), None, any(), &["n3"], false),
        (balancer.to_owned(), None, any(), &[], false),
        (host("n2"), None, any(), &["n2"], true),
        (host("n2"), any(), any(), &["n2"], false),
        (host("n3"), None, any(), &["n3"], false),
    ]);
}

/// The block, with these owner and addresses, written over one with those.
fn over(
    new: (&str, [Option<&str>; 4]),
    old: (&str, [Option<&str>; 4]),
    matter: &'static [&'static str],
    may: bool,
) -> Left {
    let of = |(owner, slots): (&str, _)| Some(block(Some(owner).filter(|o| !o.is_empty()), slots));
    (BLOCK.to_owned(), of(new), of(old), matter, may)
}

#[test]
fn addresses_that_a_node_left_behind_are_given_back_and_others_are_not() {
    let none = [None; 4];
    let first = |node| [Some(node), None, None, None];
    let second = |node| [None, Some(node), None, None];
    let mut cooling = block(Some("n2"), first("n2"));
    cooling["attributes"][0] = json!({ "handle_id": null, "secondary": {}, "released_at": "2026-01-01T00:00:00Z" });
    let held = Some(block(Some("n2"), first("n2")));
    check_left_behind([
        (BLOCK.to_owned(), Some(cooling), held, &["n2"][..], true),
        over(("n2", none), ("n2", first("n2")), &["n2"], true),
        over(("n3", none), ("n3", second("n2")), &["n2", "n3"], true),
        over(("", none), ("", second("n2")), &["n2"], true),
        over(("n2", none), ("n2", first("n3")), &["n2", "n3"], false),
        over(("n2", first("n2")), ("n2", none), &["n2"], false),
    ]);
}

#[test]
fn empty_blocks_that_a_node_left_behind_go_and_are_not_taken_over() {
    let none = [None; 4];
    let held = [Some("n2"), None, None, None];
    let gone = |owner, slots, matter, may| (BLOCK.to_owned(), None, Some(block(Some(owner), slots)), matter, may);
    check_left_behind([
        gone("n2", none, &["n2"][..], true),
        gone("n2", held, &["n2"], false),
        gone("n3", none, &["n3"], false),
        // A name that is none is looked up nowhere.
        gone("../nodes/x", none, &[], false),
        // They are claimed like any other.
        over(("n1", none), ("n2", none), &["n2"], false),
        (BLOCK.to_owned(), Some(block(Some("n2"), none)), None, &[], false),
    ]);
}

#[test]
fn nobody_makes_typha_look_up_a_thousand_nodes() {
    let many: Vec<Value> = (0..1000)
        .map(|n| json!({ "handle_id": "h", "secondary": { "node": format!("x{n}") } }))
        .collect();
    let all: Vec<usize> = (0..1000).collect();
    let old = json!({ "affinity": null, "allocations": all, "attributes": many });
    let key = BLOCK.parse().unwrap();
    let write = Write {
        key: &key,
        new: None,
        old: Some(&old),
    };
    assert_eq!(Subject::Node("n1".to_owned()).others(&write).len(), OTHERS_MAX);
}
