//! Wrong input of every kind: a message that names the object and the field, a non-zero status, and nothing changed.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tortie_tests::lab::{Cluster, Spec, binary, plugin};

use crate::on_cluster;

/// Applies a manifest that must be refused; gives what was said.
fn refused(cluster: &Cluster, manifest: &str) -> Result<String> {
    match cluster.apply(manifest) {
        Ok(said) => Err(anyhow::anyhow!("accepted: {said}\n{manifest}")),
        Err(e) => Ok(format!("{e:#}")),
    }
}

fn state(cluster: &Cluster) -> Result<String> {
    let mut all = String::new();
    for kind in ["nodes", "ippools", "bgpconfigurations", "bgppeers"] {
        all += &cluster.ctl(&["get", kind, "-o", "yaml"])?;
    }
    Ok(all)
}

/// Manifests that must be refused, and what the message must name.
const MANIFESTS: &[(&str, &str, &[&str])] = &[
    (
        "malformed YAML",
        "apiVersion: projectcalico.org/v3\nkind: [IPPool\n",
        &["apply.yaml", "line"],
    ),
    (
        "an unknown kind",
        "apiVersion: projectcalico.org/v3\nkind: IPPoool\nmetadata: {name: x}\nspec: {}\n",
        &["IPPoool"],
    ),
    (
        "an unknown field",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: x}\nspec: {cidr: 10.9.0.0/16, blocksize: 26}\n",
        &["x", "blocksize"],
    ),
    (
        "an invalid CIDR",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: x}\nspec: {cidr: 10.9.0.0/33}\n",
        &["x", "cidr", "10.9.0.0/33"],
    ),
    (
        "an overlapping pool",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: x}\nspec: {cidr: 10.244.128.0/17}\n",
        &["x", "default-ipv4-ippool", "overlap"],
    ),
    (
        "a good object before a bad one",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: fine}\nspec: {cidr: 10.9.0.0/16}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: y}\nspec: {peerIP: nonsense, asNumber: 1}\n",
        &["y", "peerIP", "nonsense"],
    ),
];

#[test]
fn wrong_manifests_change_nothing() {
    on_cluster("yaml", &Spec::demo(), |cluster| {
        let before = state(cluster)?;
        for (what, manifest, named) in MANIFESTS {
            let said = refused(cluster, manifest)?;
            for name in *named {
                ensure!(said.contains(name), "{what}: '{name}' is not in the message: {said}");
            }
            ensure!(state(cluster)? == before, "{what} changed something");
        }
        Ok(())
    });
}

fn error_of(output: &std::process::Output) -> Result<Value> {
    ensure!(!output.status.success(), "the plugin succeeded");
    let error: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("not a CNI error: {}", String::from_utf8_lossy(&output.stdout)))?;
    ensure!(
        error["code"].is_u64() && error["msg"].is_string(),
        "not a CNI error: {error}"
    );
    Ok(error)
}

#[test]
fn wrong_calls_of_the_plugin_change_nothing() {
    on_cluster("cni", &Spec::demo(), |cluster| {
        let node = cluster.node("n1")?;
        let (links, before) = (
            node.ns().links()?,
            cluster.ctl(&["get", "workloadendpoints", "-n", "default", "-o", "yaml"])?,
        );

        let not_json = plugin(
            node,
            "ADD",
            "c1",
            "/run/netns/x",
            "default/p",
            &Value::String("no object".into()),
        )?;
        let error = error_of(&not_json)?;
        ensure!(error["code"] == 6, "stdin that is no configuration: {error}");

        let gone = plugin(
            node,
            "ADD",
            "c1",
            "/run/netns/does-not-exist",
            "default/p",
            &node.netconf(),
        )?;
        let error = error_of(&gone)?.to_string();
        ensure!(error.contains("does-not-exist"), "a missing netns: {error}");

        let mut conf = node.netconf();
        conf["cniVersion"] = json!("9.9.9");
        let error = error_of(&plugin(node, "ADD", "c1", "/run/netns/x", "default/p", &conf)?)?;
        ensure!(error["code"] == 1, "a version that does not exist: {error}");

        let mut conf = node.netconf();
        conf["felix"] = json!("unix:/nonexistent/felix.sock");
        let error = error_of(&plugin(node, "ADD", "c1", "/run/netns/x", "default/p", &conf)?)?;
        ensure!(error["code"] == 11, "a felix that is away: {error}");

        ensure!(
            node.ns().links()? == links,
            "interfaces are left: {:?}",
            node.ns().links()?
        );
        let after = cluster.ctl(&["get", "workloadendpoints", "-n", "default", "-o", "yaml"])?;
        ensure!(after == before, "records are left: {after}");
        Ok(())
    });
}

#[test]
fn an_exhausted_pool_says_so_and_recovers() {
    let dir = tempfile::tempdir().expect("a folder");
    // One block of four addresses, and one node that has nobody to peer with.
    let manifest = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: default-ipv4-ippool}\n\
                    spec: {cidr: 10.244.0.0/30, blockSize: 30}\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\n\
                    spec: {bgp: {ipv4Address: 172.30.0.11/24}}\n";
    std::fs::write(dir.path().join("small.yaml"), manifest).expect("write");
    let spec = Spec {
        manifests: dir.path().to_owned(),
        nodes: Spec::demo().nodes[..1].to_vec(),
        tor: false,
        tls: false,
    };
    on_cluster("full", &spec, |cluster| {
        let mut pods = Vec::new();
        for i in 0..4 {
            pods.push(cluster.add_pod("n1", &format!("default/p{i}"))?.pod);
        }
        let links = cluster.node("n1")?.ns().links()?;
        let said = match cluster.add_pod("n1", "default/p4") {
            Ok(add) => anyhow::bail!("a fifth address of a pool of four: {:?}", add.pod.ips),
            Err(e) => format!("{e:#}"),
        };
        for want in ["default-ipv4-ippool", "4"] {
            ensure!(said.contains(want), "'{want}' is not in the message: {said}");
        }
        ensure!(cluster.node("n1")?.ns().links()? == links, "an interface is left");
        // One goes, one can come.
        let gone = pods.remove(0);
        let free = gone.ipv4()?;
        gone.delete(&cluster.lab, cluster.node("n1")?)?;
        let next = cluster.add_pod("n1", "default/p5")?.pod;
        ensure!(
            next.ipv4()? == free,
            "got {}, the only free one was {free}",
            next.ipv4()?
        );
        Ok(())
    });
}

#[test]
fn a_wrong_configuration_file_is_refused_with_its_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("wrong.conf");
    std::fs::write(
        &file,
        "router id 10.0.0.1;\nprotocol bgp x {\n  neighbour 10.0.0.2 as 1;\n}\n",
    )?;
    for args in [&["-p"][..], &[][..]] {
        let output = Command::new(binary("bird-rs")?)
            .args(args)
            .arg("-c")
            .arg(&file)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(1), "status {}: {said}", output.status);
        ensure!(said.contains("wrong.conf:3:3") && said.contains("neighbour"), "{said}");
    }
    let missing = Command::new(binary("bird-rs")?)
        .args(["-c", "/nonexistent.conf"])
        .output()?;
    let said = String::from_utf8_lossy(&missing.stderr);
    ensure!(
        !missing.status.success() && said.contains("/nonexistent.conf"),
        "{said}"
    );
    Ok(())
}
