//! apply, create, replace, get, delete.

use crate::{Typha, tortiectl};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

const POOL: &str = "
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default-pool}
spec: {cidr: 10.244.0.0/16}
";

const PEER_BEFORE_FILTER: &str = "
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 172.30.0.1, asNumber: 65001, filters: [only-pools]}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: only-pools}
spec: {exportV4: [{action: Reject}]}
";

#[test]
fn the_examples_are_applied_once_and_then_unchanged() {
    let typha = Typha::start();
    let objects = [
        "bgpconfiguration/default",
        "ippool/default-ipv4-ippool",
        "node/n1",
        "node/n2",
        "node/n3",
        "bgppeer/tor",
    ];
    let each = |what: &str| objects.map(|o| format!("{o} {what}")).join("\n");
    let tried = typha.run(&["apply", "-f", EXAMPLES, "--dry-run"]);
    assert!(
        tried.out.starts_with(&each("created (dry run)")),
        "{}{}",
        tried.out,
        tried.err
    );
    assert!(tried.out.contains("\nnode n1 (new)\n"), "{}", tried.out);
    typha.run(&["get", "nodes", "-o", "name"]).is("");
    typha.run(&["apply", "-f", EXAMPLES]).is(&each("created"));
    typha.run(&["apply", "-f", EXAMPLES]).is(&each("unchanged"));
    typha.run(&["get", "no", "-o", "wide"]).is("\
NAME   ASN       IPV4             IPV6
n1     (64512)   172.30.0.11/24
n2     (64512)   172.30.0.12/24
n3     (64512)   172.30.0.13/24");
    typha.run(&["get", "pools"]).is("\
NAME                  CIDR            SELECTOR
default-ipv4-ippool   10.244.0.0/16   all()");
    typha.run(&["get", "bgppeer/tor"]).is("\
NAME   PEERIP       NODE       ASN
tor    172.30.0.1   (global)   65001");
}

#[test]
fn one_bad_document_keeps_all_from_being_written() {
    let typha = Typha::start();
    let bad = format!(
        "{POOL}---{}",
        POOL.replace("default-pool", "second").replace("/16", "/33")
    );
    typha.apply(&bad).failed(1, &[
        "1 error, nothing was changed",
        "<stdin>:10: document 2: IPPool(second): error with field spec.cidr = '10.244.0.0/33' (prefix length 33 exceeds 32)",
    ]);
    let overlapping = format!(
        "{POOL}---{}",
        POOL.replace("default-pool", "second").replace("/16", "/17")
    );
    typha.apply(&overlapping).failed(
        1,
        &["IPPool(second) CIDR overlaps with IPPool(default-pool) CIDR 10.244.0.0/16"],
    );
    typha
        .apply(&format!("{POOL}---{POOL}"))
        .failed(1, &["IPPool(default-pool): is given twice, first in <stdin>:2"]);
    typha
        .apply(&format!("{POOL}---\nkind: ["))
        .failed(1, &["<stdin>:7: document 2: not YAML"]);
    typha.apply("").failed(1, &["no resource in standard input"]);
    typha
        .run(&["apply", "-f", "/nonexistent.yaml"])
        .failed(1, &["cannot read /nonexistent.yaml"]);
    typha.run(&["get", "pools", "-o", "name"]).is("");
}

#[test]
fn an_update_keeps_identity_and_what_cannot_change() {
    let typha = Typha::start();
    typha.apply(POOL).is("ippool/default-pool created");
    let uid = |typha: &Typha| {
        let json = typha.run(&["get", "ippool", "default-pool", "-o", "json"]).out;
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["metadata"]["uid"].clone()
    };
    let before = uid(&typha);
    assert!(before.is_string(), "{before}");
    typha
        .apply(&POOL.replace("/16", "/16, natOutgoing: true"))
        .is("ippool/default-pool configured");
    assert_eq!(uid(&typha), before);
    typha
        .apply(&POOL.replace("10.244", "10.245"))
        .failed(1, &["spec.cidr = '10.245.0.0/16' (cannot be changed"]);
    typha
        .run_with(&["create", "-f", "-"], POOL)
        .failed(1, &["IPPool(default-pool): exists already"]);
    typha
        .run_with(&["replace", "-f", "-"], POOL)
        .is("ippool/default-pool replaced");
    let other = POOL.replace("default-pool", "other").replace("10.244", "10.245");
    typha
        .run_with(&["replace", "-f", "-"], &other)
        .failed(1, &["IPPool(other): does not exist"]);
    typha
        .run_with(&["create", "-f", "-"], &other)
        .is("ippool/other created");
}

#[test]
fn what_get_prints_can_be_applied_unless_it_has_become_old() {
    let typha = Typha::start();
    typha.apply(POOL).is("ippool/default-pool created");
    let seen = typha.run(&["get", "ippool", "default-pool", "-o", "yaml"]).out;
    typha.apply(&seen).is("ippool/default-pool unchanged");
    let list = typha.run(&["get", "ippools", "-o", "json"]).out;
    typha.apply(&list).is("ippool/default-pool unchanged");
    typha
        .apply(&POOL.replace("/16", "/16, disabled: true"))
        .is("ippool/default-pool configured");
    typha.apply(&seen).failed(1, &["update conflict", "changed since"]);
}

#[test]
fn a_peer_may_come_before_its_filter_and_both_are_deleted() {
    let typha = Typha::start();
    let peer = PEER_BEFORE_FILTER.split("---").next().unwrap();
    typha.apply(peer).failed(
        1,
        &["spec.filters[0] = 'only-pools' (there is no BGPFilter of this name)"],
    );
    typha
        .apply(PEER_BEFORE_FILTER)
        .is("bgpfilter/only-pools created\nbgppeer/tor created");
    typha
        .run(&["delete", "bgppeer", "tor", "gone"])
        .failed(1, &["nothing was deleted", "bgppeer/gone not found"]);
    typha
        .run_with(&["delete", "-f", "-"], PEER_BEFORE_FILTER)
        .is("bgppeer/tor deleted\nbgpfilter/only-pools deleted");
    typha.run(&["delete", "bgpp/tor"]).failed(1, &["bgppeer/tor not found"]);
    typha.run(&["delete", "-s", "bgpp/tor"]).is("");
    typha.run(&["get", "bgpp/tor"]).failed(1, &["bgppeer/tor not found"]);
}

#[test]
fn cluster_information_is_for_reading() {
    let typha = Typha::start();
    let seen = typha.run(&["get", "clusterinfo", "default", "-o", "yaml"]).out;
    typha
        .apply(&seen)
        .failed(1, &["ClusterInformation(default): is written by typha"]);
    typha
        .run(&["delete", "clusterinfo", "default"])
        .failed(1, &["cannot be deleted"]);
    assert!(typha.run(&["version"]).out.contains("Cluster GUID:"));
}

#[test]
fn namespaces() {
    let typha = Typha::start();
    let endpoint = "
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-k8s-web--0-eth0}
spec: {orchestrator: k8s, node: n1, pod: web-0, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.244.0.5/32]}
";
    let name = "workloadendpoint/web/n1-k8s-web--0-eth0";
    typha
        .run_with(&["apply", "-n", "web", "-f", "-"], endpoint)
        .is(&format!("{name} created"));
    typha.run(&["get", "wep", "-o", "name"]).is("");
    typha.run(&["get", "wep", "-n", "web"]).is("\
WORKLOAD   NODE   NETWORKS        INTERFACE
web-0      n1     10.244.0.5/32   cali1");
    typha.run(&["get", "wep", "-A"]).is("\
NAMESPACE   WORKLOAD   NODE   NETWORKS        INTERFACE
web         web-0      n1     10.244.0.5/32   cali1");
    typha.run(&["delete", name]).is(&format!("{name} deleted"));
}

#[test]
fn directories() {
    let typha = Typha::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    typha
        .run(&["apply", "-f", &path])
        .failed(1, &["no .yaml, .yml or .json file in directory"]);
    std::fs::write(dir.path().join("a.yml"), POOL).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not a manifest: [").unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(
        dir.path().join("sub/b.json"),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"n1"},"spec":{}}"#,
    )
    .unwrap();
    typha.run(&["apply", "-f", &path]).is("ippool/default-pool created");
    typha
        .run(&["apply", "-R", "-f", &path])
        .is("ippool/default-pool unchanged\nnode/n1 created");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let typha = Typha::start();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tortiectl"))
        .args(["--typha", &typha.addr(), "get", "nodes"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(tortiectl(&["version"], "").status, 0);
}

/// Each loses at most to the three others, which is less often than an apply tries.
#[test]
fn applies_at_the_same_time_all_succeed() {
    let typha = Typha::start();
    typha.apply(POOL).is("ippool/default-pool created");
    let typha = &typha;
    let labelled = |n: usize| POOL.replace("default-pool}", &format!("default-pool, labels: {{writer: w{n}}}}}"));
    std::thread::scope(|scope| {
        let apply = |n: usize| typha.apply(&labelled(n));
        let writers: Vec<_> = (0..4).map(|n| scope.spawn(move || apply(n))).collect();
        for writer in writers {
            let said = writer.join().unwrap();
            assert_eq!(said.out, "ippool/default-pool configured\n", "{}", said.err);
        }
    });
    let last = typha.run(&["get", "ippool/default-pool", "-o", "json"]).out;
    assert!(
        (0..4).any(|n| last.contains(&format!("\"writer\": \"w{n}\""))),
        "{last}"
    );
}

#[test]
fn what_has_no_effect_yet_is_stored_and_said() {
    let typha = Typha::start();
    let said = typha.apply(&POOL.replace("/16}", "/16,\n  vxlanMode: Always,\n  natOutgoing: true}"));
    said.is("ippool/default-pool created");
    assert_eq!(said.err, "", "everything of it counts");
    let felix = "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {vxlanMTU: 1400,\n  bpfEnabled: true}}";
    let said = typha.apply(felix);
    said.is("felixconfiguration/default created");
    let warnings: Vec<&str> = said.err.lines().collect();
    assert_eq!(warnings.len(), 1, "{}", said.err);
    assert!(
        warnings[0].starts_with(
            "warning: <stdin>:2: document 1: FelixConfiguration(default): has no effect yet: spec.bpfEnabled = 'true' ("
        ),
        "{}",
        said.err
    );
}
