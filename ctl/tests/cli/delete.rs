//! delete with what hangs on an object: a Node with what is its own, an IPPool with its blocks.

use crate::Typha;

const CLUSTER: &str = "
{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n1}, spec: {bgp: {ipv4Address: 172.30.0.11/24}}}
---
{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n1-b}, spec: {bgp: {ipv4Address: 172.30.0.12/24}}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: pods}, spec: {cidr: 10.244.0.0/16, blockSize: 30}}
---
{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: of-n1}, spec: {node: n1, peerIP: 172.30.0.1, asNumber: 65001}}
---
{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: of-all}, spec: {peerIP: 172.30.0.2, asNumber: 65001}}
---
{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: node.n1}, spec: {listenPort: 1790}}
---
{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: node.n1}, spec: {vxlanMTU: 1400}}
---
{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n1-k8s-web-eth0, namespace: web},
 spec: {orchestrator: k8s, node: n1, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.244.0.1/32]}}
---
{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n1--b-k8s-web-eth0, namespace: web},
 spec: {orchestrator: k8s, node: n1-b, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.244.0.5/32]}}
";

/// n1 has a block with a workload's address and its tunnel's, an empty block, and one with an address nobody knows; n1-b has one.
fn cluster() -> Typha {
    let typha = Typha::start();
    let said = typha.apply(CLUSTER);
    assert_eq!(said.status, 0, "{}", said.err);
    let block = |node: &str, at: u8, slots: &str, attributes: &str| {
        let free: Vec<String> = (0..4)
            .zip(slots.split(", "))
            .filter(|(_, slot)| *slot == "null")
            .map(|(index, _)| index.to_string())
            .collect();
        typha.store(
            &format!("/calico/ipam/v2/assignment/ipv4/block/10.244.0.{at}-30"),
            &format!(
                r#"{{"cidr": "10.244.0.{at}/30", "affinity": "host:{node}", "strictAffinity": false, "deleted": false,
                "allocations": [{slots}], "unallocated": [{}], "attributes": [{attributes}]}}"#,
                free.join(", ")
            ),
        );
        typha.store(
            &format!("/calico/ipam/v2/host/{node}/ipv4/block/10.244.0.{at}-30"),
            r#"{"state": "confirmed", "deleted": false}"#,
        );
    };
    let handle = |id: &str, at: u8| {
        let json = format!(r#"{{"handleID": "{id}", "block": {{"10.244.0.{at}/30": 1}}, "deleted": false}}"#);
        typha.store(&format!("/calico/ipam/v2/handle/{id}"), &json);
    };
    let web = r#"{"handle_id": "k8s.web", "secondary": {"namespace": "web", "pod": "web", "node": "n1"}}"#;
    let tunnel = r#"{"handle_id": "vxlan-tunnel-addr-n1", "secondary": {"type": "vxlanTunnelAddress", "node": "n1"}}"#;
    block("n1", 0, "null, 0, 1, null", &format!("{web}, {tunnel}"));
    handle("k8s.web", 0);
    handle("vxlan-tunnel-addr-n1", 0);
    block("n1-b", 4, "null, 0, null, null", &web.replace("k8s.web", "k8s.web-b"));
    handle("k8s.web-b", 4);
    block("n1", 8, "null, null, null, null", "");
    block(
        "n1",
        12,
        "0, null, null, null",
        r#"{"handle_id": "lost", "secondary": {}}"#,
    );
    handle("lost", 12);
    typha
}

/// The keys of IPAM's documents.
fn ipam(typha: &Typha) -> Vec<String> {
    let exported = typha.run(&["datastore", "export"]).out;
    let keys = exported.split('"').filter(|word| word.starts_with("/calico/ipam/v2/"));
    keys.map(|key| key.trim_start_matches("/calico/ipam/v2/").to_owned())
        .collect()
}

#[test]
fn a_node_with_workloads_is_kept_unless_forced() {
    let typha = cluster();
    let before = ipam(&typha);
    typha.run(&["delete", "node", "n1"]).failed(
        1,
        &[
            "nothing was deleted",
            "node/n1: workloads run there",
            "workloadendpoint/web/n1-k8s-web-eth0",
            "--force",
        ],
    );
    let tried = typha.run(&["delete", "node", "n1", "--force", "--dry-run"]);
    let objects = [
        "workloadendpoint/web/n1-k8s-web-eth0",
        "bgppeer/of-n1",
        "bgpconfiguration/node.n1",
        "felixconfiguration/node.n1",
        "node/n1",
    ];
    let each = |what: &str| objects.map(|o| format!("{o} {what}")).join("\n");
    assert!(
        tried.out.starts_with(&each("deleted (dry run)")),
        "{}{}",
        tried.out,
        tried.err
    );
    assert!(tried.out.contains("node n1 (gone)"), "{}", tried.out);
    assert_eq!(ipam(&typha), before);

    let done = typha.run(&["delete", "node", "n1", "--force"]);
    done.is(&each("deleted"));
    assert!(
        done.err
            .contains("node/n1: blocks with addresses in use stay until those are released: 10.244.0.12/30"),
        "{}",
        done.err
    );
    let left = ipam(&typha);
    assert_eq!(
        left,
        [
            "assignment/ipv4/block/10.244.0.12-30",
            "assignment/ipv4/block/10.244.0.4-30",
            "handle/k8s.web-b",
            "handle/lost",
            "host/n1-b/ipv4/block/10.244.0.4-30",
            "host/n1/ipv4/block/10.244.0.12-30",
        ]
    );
    typha.run(&["get", "bgppeers", "-o", "name"]).is("bgppeer/of-all");
    typha
        .run(&["get", "wep", "-n", "web", "-o", "name"])
        .is("workloadendpoint/web/n1--b-k8s-web-eth0");
}

#[test]
fn an_orphaning_delete_takes_the_node_alone() {
    let typha = cluster();
    let before = ipam(&typha);
    typha
        .run(&["delete", "node", "n1", "--orphan", "--force"])
        .failed(64, &["cannot be used with"]);
    let tried = typha.run(&["delete", "node", "n1", "--orphan", "--dry-run"]);
    assert!(
        tried.out.starts_with("node/n1 deleted (dry run)"),
        "{}{}",
        tried.out,
        tried.err
    );
    typha.run(&["get", "node", "n1", "-o", "name"]).is("node/n1");

    typha.run(&["delete", "node", "n1", "--orphan"]).is("node/n1 deleted");
    typha.run(&["get", "nodes", "-o", "name"]).is("node/n1-b");
    assert_eq!(
        ipam(&typha),
        before,
        "its claims, blocks and addresses are left to felix"
    );
    typha
        .run(&["get", "bgppeers", "-o", "name"])
        .is("bgppeer/of-all\nbgppeer/of-n1");
    typha
        .run(&["get", "wep", "-n", "web", "-o", "name"])
        .is("workloadendpoint/web/n1--b-k8s-web-eth0\nworkloadendpoint/web/n1-k8s-web-eth0");
    let help = typha.run(&["delete", "--help"]).out;
    let words: Vec<&str> = help.split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .contains("--orphan deletes the Node alone, workloads or not"),
        "{help}"
    );
}

#[test]
fn a_pool_in_use_is_kept_and_an_empty_one_goes_with_its_blocks() {
    let typha = cluster();
    typha.run(&["delete", "pool", "pods"]).failed(
        1,
        &[
            "nothing was deleted",
            "ippool/pods: its addresses are in use",
            "10.244.0.1 (web/web)",
            "10.244.0.12 (lost)",
        ],
    );
    let shown = typha.run(&["get", "pool", "pods", "-o", "custom-columns=DISABLED"]).out;
    assert_eq!(shown.lines().last(), Some("false"));

    let free = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: free}, spec: {cidr: 10.9.0.0/16, blockSize: 30}}";
    typha.apply(free).is("ippool/free created");
    typha.store(
        "/calico/ipam/v2/host/n1/ipv4/block/10.9.0.0-30",
        r#"{"state": "confirmed", "deleted": false}"#,
    );
    typha.store(
        "/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-30",
        r#"{"cidr": "10.9.0.0/30", "affinity": "host:n1", "strictAffinity": false, "deleted": false,
        "allocations": [null, null, null, null], "unallocated": [0, 1, 2, 3], "attributes": []}"#,
    );
    typha.run(&["delete", "pool", "free"]).is("ippool/free deleted");
    assert!(
        !ipam(&typha).iter().any(|key| key.contains("10.9.0.0")),
        "{:?}",
        ipam(&typha)
    );

    let done = typha.run(&["delete", "pool", "pods", "--force"]);
    done.is("ippool/pods deleted");
    assert!(
        done.err
            .contains("addresses in use stay with their workloads: 10.244.0.1 (web/web)"),
        "{}",
        done.err
    );
    let left = ipam(&typha);
    assert!(
        left.contains(&"assignment/ipv4/block/10.244.0.0-30".to_owned()),
        "{left:?}"
    );
    assert!(
        !left.iter().any(|key| key.contains("10.244.0.8-30")),
        "the empty block is gone: {left:?}"
    );
}

#[test]
fn a_filter_that_peers_name_goes_with_a_word() {
    let typha = Typha::start();
    let filter = "{apiVersion: projectcalico.org/v3, kind: BGPFilter, metadata: {name: f}, spec: {exportV4: [{action: Reject}]}}";
    let peer = "{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: tor}, \
        spec: {peerIP: 172.30.0.1, asNumber: 65001, filters: [f]}}";
    let both = format!("{filter}\n---\n{peer}");
    typha.apply(&both).is("bgpfilter/f created\nbgppeer/tor created");
    let said = typha.run(&["delete", "bgpfilter/f", "bgppeer/tor", "--dry-run"]);
    assert_eq!(said.err, "", "both go");
    let said = typha.run(&["delete", "bgpfilter", "f"]);
    said.is("bgpfilter/f deleted");
    assert_eq!(said.err, "warning: bgpfilter/f: these go on without it: bgppeer/tor\n");
}
