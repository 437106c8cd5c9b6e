//! patch, label, validate.

use serde_json::{Value, json};

use crate::{Typha, tortiectl};

const NODE: &str = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n1}, \
    spec: {bgp: {ipv4Address: 172.30.0.11/24, asNumber: 64600}}}";

fn stored(typha: &Typha, object: &str) -> Value {
    serde_json::from_str(&typha.run(&["get", object, "-o", "json"]).out).unwrap()
}

#[test]
fn patches_of_every_type() {
    let typha = Typha::start();
    typha.apply(NODE).is("node/n1 created");
    let strategic = r#"{"spec": {"bgp": {"asNumber": 64601}}}"#;
    typha
        .run(&["patch", "node", "n1", "-p", strategic, "--dry-run"])
        .is("node/n1 patched (dry run)");
    let said = typha.run(&["patch", "node", "n1", "-p", strategic, "--dry-run", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&said.out).unwrap(),
        json!({"dry_run": true, "objects": [{"object": "node/n1", "outcome": "patched"}]})
    );
    assert_eq!(stored(&typha, "node/n1")["spec"]["bgp"]["asNumber"], 64600);
    typha
        .run(&["patch", "node", "n1", "-p", strategic])
        .is("node/n1 patched");
    let spec = stored(&typha, "node/n1")["spec"].clone();
    assert_eq!(
        (&spec["bgp"]["asNumber"], &spec["bgp"]["ipv4Address"]),
        (&64601.into(), &"172.30.0.11/24".into())
    );
    typha
        .run(&["patch", "node", "n1", "-p", strategic])
        .is("node/n1 unchanged");
    // YAML is a patch too.
    typha
        .run(&["patch", "node/n1", "-t", "merge", "-p", "spec: {bgp: {asNumber: null}}"])
        .is("node/n1 patched");
    assert!(stored(&typha, "node/n1")["spec"]["bgp"].get("asNumber").is_none());
    let json = r#"[{"op": "test", "path": "/spec/bgp/ipv4Address", "value": "172.30.0.11/24"},
        {"op": "add", "path": "/spec/bgp/ipv6Address", "value": "fd00::11/64"}]"#;
    typha
        .run(&["patch", "node/n1", "-t", "json", "-p", json])
        .is("node/n1 patched");
    assert_eq!(stored(&typha, "node/n1")["spec"]["bgp"]["ipv6Address"], "fd00::11/64");
}

#[test]
fn patches_that_are_refused_change_nothing() {
    let typha = Typha::start();
    typha.apply(NODE).is("node/n1 created");
    let before = stored(&typha, "node/n1");
    let refused = |args: &[&str], status, words: &[&str]| {
        let mut all = vec!["patch", "node", "n1"];
        all.extend(args);
        typha.run(&all).failed(status, words);
    };
    refused(
        &["-p", r#"{"spec": {"bgp": {"ipv4Address": "x"}}}"#],
        1,
        &["spec.bgp.ipv4Address = 'x'"],
    );
    refused(
        &["-p", r#"{"metadata": {"name": "n2"}}"#],
        1,
        &["metadata.name cannot be changed"],
    );
    refused(&["-p", "[1]"], 64, &["a merge patch is an object"]);
    refused(&["-p", "{"], 64, &["neither JSON nor YAML"]);
    refused(
        &["-t", "json", "-p", r#"[{"op": "add", "path": "x", "value": 1}]"#],
        64,
        &["operation 1"],
    );
    refused(
        &["-t", "json", "-p", r#"[{"op": "remove", "path": "/spec/none"}]"#],
        1,
        &["there is no /spec/none"],
    );
    typha
        .run(&["patch", "node", "n2", "-p", "{}"])
        .failed(1, &["node/n2 not found"]);
    typha
        .run(&["patch", "clusterinfo", "default", "-p", "{}"])
        .failed(1, &["is written by typha"]);
    assert_eq!(stored(&typha, "node/n1"), before);
}

#[test]
fn labels() {
    let typha = Typha::start();
    typha.apply(NODE).is("node/n1 created");
    typha
        .run(&["label", "node", "n1", "rr=true", "rack=r1"])
        .is("node/n1 labelled");
    typha.run(&["label", "node/n1", "rr=true"]).is("node/n1 unchanged");
    let said = typha.run(&["label", "node/n1", "rr=true", "-o", "json"]).out;
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap(),
        json!({"dry_run": false, "objects": [{"object": "node/n1", "outcome": "unchanged"}]})
    );
    typha
        .run(&["label", "node", "n1", "rack=r2"])
        .failed(1, &["label rack is 'r1' already: use --overwrite"]);
    typha
        .run(&["label", "node", "n1", "rack=r2", "--overwrite"])
        .is("node/n1 labelled");
    typha
        .run(&["get", "nodes", "-l", "rack == 'r2'", "-o", "name"])
        .is("node/n1");
    typha
        .run(&["label", "node", "n1", "rack", "--remove"])
        .is("node/n1 labelled");
    typha
        .run(&["label", "node", "n1", "rack", "--remove"])
        .failed(1, &["has no label rack"]);
    typha
        .run(&["label", "node", "n1", "rack"])
        .failed(64, &["want KEY=VALUE"]);
    typha.run(&["label", "node", "n1"]).failed(64, &["no label"]);
    typha
        .run(&["label", "node", "n1", "not a key=x"])
        .failed(1, &["metadata.labels"]);
    assert_eq!(
        stored(&typha, "node/n1")["metadata"]["labels"],
        serde_json::json!({"rr": "true"})
    );
}

#[test]
fn files_are_validated_without_a_cluster() {
    let good = format!(
        "{NODE}\n---\n{{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {{name: p}}, \
        spec: {{peerIP: 172.30.0.1, asNumber: 65001, filters: [elsewhere]}}}}"
    );
    tortiectl(&["validate", "-f", "-"], &good).is("2 documents are valid");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    std::fs::write(dir.path().join("a.yaml"), NODE).unwrap();
    tortiectl(&["validate", "-f", &path], "").is("1 document is valid");
    let pool = |name: &str, cidr: &str| {
        format!("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec:\n  cidr: {cidr}\n")
    };
    let bad = format!(
        "{}---\n{}---\n{}",
        pool("a", "10.0.0.0/16"),
        pool("b", "10.0.1.0/24"),
        pool("c", "x")
    );
    std::fs::write(dir.path().join("b.yaml"), bad).unwrap();
    let said = tortiectl(&["validate", "-f", &path], "");
    said.failed(
        1,
        &[
            "2 errors",
            "b.yaml:11: document 2: ",
            "overlaps with IPPool(a)",
            "b.yaml:17: document 3: ",
            "= 'x'",
        ],
    );
    assert!(!said.err.contains("nothing was changed"), "{}", said.err);
    let said = tortiectl(&["validate", "-f", &path, "-o", "json"], "");
    assert_eq!(said.status, 1, "{}", said.err);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["valid"], false);
    let of_c = told["errors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["document"] == 3)
        .unwrap();
    assert_eq!(
        (&of_c["field"], &of_c["value"], &of_c["line"]),
        (&"spec.cidr".into(), &"x".into(), &17.into())
    );
    assert!(of_c["rule"].as_str().is_some_and(|r| !r.is_empty()), "{of_c}");
    tortiectl(&["validate"], "").failed(64, &["no files"]);
}
