//! bgp view, peers, filters, announced; diff and dry runs.

use serde_json::Value;

use crate::Typha;

/// Two nodes of one rack with a block each, a router, and a workload.
fn cluster() -> Typha {
    let typha = Typha::start();
    let node = |name: &str, last: u8| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: Node, metadata: {{name: {name}}}, \
            spec: {{bgp: {{ipv4Address: 172.30.0.{last}/24}}}}}}\n---\n"
        )
    };
    let documents = format!(
        "{}{}{POOL}\n---\n{PEER}\n---\n{FILTER}\n---\n{ENDPOINT}",
        node("n1", 11),
        node("n2", 12)
    );
    let said = typha.apply(&documents);
    assert_eq!(said.status, 0, "{}", said.err);
    for (node, block) in [("n1", "10.244.0.0-26"), ("n2", "10.244.0.64-26")] {
        let key = format!("/calico/ipam/v2/host/{node}/ipv4/block/{block}");
        typha.store(&key, r#"{"state": "confirmed", "deleted": false}"#);
    }
    typha
}

const POOL: &str =
    "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: pods}, spec: {cidr: 10.244.0.0/16}}";
const PEER: &str = "{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: tor}, \
    spec: {peerIP: 172.30.0.1, asNumber: 65001, filters: [f]}}";
const FILTER: &str = "{apiVersion: projectcalico.org/v3, kind: BGPFilter, metadata: {name: f}, \
    spec: {exportV4: [{action: Accept, cidr: 10.244.0.0/26, matchOperator: Equal}]}}";
const ENDPOINT: &str = "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, \
    metadata: {name: n1-k8s-web-eth0, namespace: web}, spec: {orchestrator: k8s, node: n1, pod: web, endpoint: eth0, \
    interfaceName: cali1, ipNetworks: [10.244.0.5/32]}}";

fn diff(typha: &Typha, documents: &str) -> (i32, Value) {
    let said = typha.run_with(&["diff", "-f", "-", "-o", "json"], documents);
    let told = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}{}", said.out, said.err));
    (said.status, told)
}

/// The sessions of a node that change, as `name effect`.
fn sessions(told: &Value, node: &str) -> Vec<String> {
    let nodes = told["nodes"].as_array().unwrap();
    let Some(node) = nodes.iter().find(|n| n["node"] == node) else {
        return Vec::new();
    };
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let all = node["sessions"].as_array().unwrap().iter();
    all.map(|s| format!("{} {}", text(&s["name"]), text(&s["effect"])))
        .collect()
}

#[test]
fn the_view_of_a_node_and_lists_of_all() {
    let typha = cluster();
    let view: Value = serde_saphyr::from_str(&typha.run(&["bgp", "view", "--node", "n1"]).out).unwrap();
    let json: Value = serde_json::from_str(&typha.run(&["bgp", "view", "--node", "n1", "-o", "json"]).out).unwrap();
    assert_eq!(view, json);
    assert_eq!(
        (&view["node"], &view["router_id"]),
        (&"n1".into(), &"172.30.0.11".into())
    );
    assert_eq!(view["peers"].as_array().map(Vec::len), Some(2));
    typha
        .run(&["bgp", "view", "--node", "n9"])
        .failed(1, &["there is no Node 'n9'"]);
    typha.run(&["bgp", "peers"]).is("\
NODE   SESSION             PEER ADDRESS   AS      TYPE   REMOTE NODE   FILTERS   FROM
n1     Global_172_30_0_1   172.30.0.1     65001   eBGP                 f         BGPPeer tor
n1     Mesh_172_30_0_12    172.30.0.12    64512   iBGP   n2                      Node n2
n2     Global_172_30_0_1   172.30.0.1     65001   eBGP                 f         BGPPeer tor
n2     Mesh_172_30_0_11    172.30.0.11    64512   iBGP   n1                      Node n1");
    typha.run(&["bgp", "filters", "--node", "n2"]).is("\
NODE   FILTER   FUNCTION             DIRECTION   RULES   SESSIONS
n2     f        bgp_f_exportFilterV4   export      1       Global_172_30_0_1"
        .replace("FUNCTION             ", "FUNCTION               ")
        .as_str());
    typha.run(&["bgp", "announced"]).is("\
NODE   PREFIX           AS      SESSIONS
n1     10.244.0.0/26    block   Global_172_30_0_1,Mesh_172_30_0_12
n2     10.244.0.64/26   block   Global_172_30_0_1,Mesh_172_30_0_11");
    let peers = typha.run(&["bgp", "peers", "--node", "n1", "-o", "json"]).out;
    assert_eq!(serde_json::from_str::<Value>(&peers).unwrap()[0]["filters"][0], "f");
}

#[test]
fn nothing_changes_nothing_and_errors_are_2() {
    let typha = cluster();
    let same = format!("{POOL}\n---\n{PEER}\n---\n{FILTER}");
    let said = typha.run_with(&["diff", "-f", "-"], &same);
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""));
    assert_eq!(diff(&typha, &same).0, 0);
    typha
        .run_with(&["diff", "-f", "-"], &PEER.replace("65001", "x"))
        .failed(2, &["spec.asNumber"]);
    typha
        .run(&["diff", "-f", "/nonexistent.yaml"])
        .failed(2, &["cannot read"]);
    typha.run(&["diff"]).failed(64, &["no files"]);
}

#[test]
fn which_field_resets_a_session_and_which_does_not() {
    let typha = cluster();
    let (status, told) = diff(&typha, &PEER.replace("65001", "65002"));
    assert_eq!(status, 1);
    for node in ["n1", "n2"] {
        assert_eq!(sessions(&told, node), ["Global_172_30_0_1 reset"]);
    }
    let field = &told["nodes"][0]["sessions"][0]["fields"][0];
    assert_eq!(
        (&field["field"], &field["before"], &field["after"]),
        (&"AS".into(), &"65001".into(), &"65002".into())
    );

    let (_, told) = diff(&typha, &PEER.replace("filters: [f]", "filters: []"));
    assert_eq!(sessions(&told, "n1"), ["Global_172_30_0_1 refeed"]);

    // A secret nobody here can read is taken to be there.
    let (_, told) = diff(
        &typha,
        &PEER.replace("[f]", "[f], password: {secretKeyRef: {name: s, key: k}}"),
    );
    assert_eq!(sessions(&told, "n1"), ["Global_172_30_0_1 reset"]);

    let mesh_off = "{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: default}, \
        spec: {nodeToNodeMeshEnabled: false}}";
    let said = typha.run_with(&["diff", "-f", "-"], mesh_off);
    assert_eq!(said.status, 1, "{}", said.err);
    for line in [
        "+ bgpconfiguration/default created",
        "node n1",
        "  - session Mesh_172_30_0_12 with 172.30.0.12 AS 64512 node n2 ends (Node n2)",
        "  - 10.244.0.0/26 no longer announced to Mesh_172_30_0_12",
        "objects: 1; nodes: 2; sessions: 0 new, 2 end, 0 reset, 0 undisturbed; prefixes: 0 announced, 2 withdrawn; \
         addresses outside pools: 0",
    ] {
        assert!(said.out.lines().any(|l| l == line), "no '{line}' in:\n{}", said.out);
    }
}

#[test]
fn what_a_filter_withdraws_is_told_before() {
    let typha = cluster();
    let reject = FILTER.replace("Accept", "Reject");
    let (status, told) = diff(&typha, &reject);
    assert_eq!(status, 1);
    // The rule is about n1's block alone; both run filters again.
    let nodes = told["nodes"].as_array().unwrap();
    assert_eq!(nodes[0]["withdrawn"][0]["prefix"], "10.244.0.0/26");
    assert_eq!(
        nodes[0]["withdrawn"][0]["sessions"],
        serde_json::json!(["Global_172_30_0_1"])
    );
    assert_eq!(nodes[1]["withdrawn"], serde_json::json!([]));
    assert_eq!(sessions(&told, "n2"), ["Global_172_30_0_1 refeed"]);

    let with = FILTER.replace(
        "matchOperator: Equal",
        "matchOperator: Equal, operations: [{addCommunity: {value: '64512:7'}}, {prependASPath: {prefix: [64512, 64512]}}]",
    );
    let said = typha.run_with(&["diff", "-f", "-"], &with);
    let line = "  + 10.244.0.0/26 announced to Global_172_30_0_1 (communities 64512:7, path 64512 64512)";
    assert!(said.out.lines().any(|l| l == line), "no '{line}' in:\n{}", said.out);
}

#[test]
fn pools_and_the_addresses_they_leave_behind() {
    let typha = cluster();
    let (_, told) = diff(&typha, &POOL.replace("/16}", "/16, vxlanMode: Always}"));
    let pool = &told["pools"][0];
    assert_eq!(
        (&pool["encapsulation_before"], &pool["encapsulation_after"]),
        (&"none".into(), &"VXLAN always".into())
    );
    assert_eq!((&pool["blocks"], &pool["nodes"]), (&2.into(), &2.into()));

    let said = typha.run_with(&["diff", "--delete", "-f", "-"], POOL);
    assert_eq!(said.status, 1, "{}", said.err);
    for line in [
        "- ippool/pods deleted",
        "pool pods 10.244.0.0/16: goes; 2 blocks of 2 nodes are in no pool any more",
        "workload web/n1-k8s-web-eth0 on n1: 10.244.0.5 is in no pool any more",
    ] {
        assert!(said.out.lines().any(|l| l == line), "no '{line}' in:\n{}", said.out);
    }
    // Nothing of it was done.
    typha.run(&["get", "pools", "-o", "name"]).is("ippool/pods");
}

#[test]
fn a_dry_run_foretells_and_writes_nothing() {
    let typha = cluster();
    let other = PEER.replace("65001", "65002");
    let said = typha.run_with(&["apply", "--dry-run", "-f", "-"], &other);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(
        said.out
            .starts_with("bgppeer/tor configured (dry run)\n\n~ bgppeer/tor changed\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("      AS: 65001 -> 65002 [reset]"), "{}", said.out);
    let said = typha.run_with(&["apply", "--dry-run", "-o", "json", "-f", "-"], &other);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["objects"][0]["outcome"], "configured");
    assert_eq!(sessions(&told["foretold"], "n1"), ["Global_172_30_0_1 reset"]);
    assert_eq!(diff(&typha, PEER).0, 0);
    let said = typha.run_with(&["apply", "-o", "json", "-f", "-"], &other);
    assert_eq!(
        serde_json::from_str::<Value>(&said.out).unwrap()["objects"][0]["object"],
        "bgppeer/tor"
    );
    assert_eq!(diff(&typha, PEER).0, 1);
}
