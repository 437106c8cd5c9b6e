//! Addresses that nobody released come back, and those in use stay.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tortie_tests::lab::{Cluster, Pod, Spec, first_reply, wait_for};

use crate::on_cluster;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that no ADD of this test takes longer between its address and its record.
const GRACE: &str = "8s";

/// Waits until a felix of the cluster has logged this.
fn logged(cluster: &Cluster, parts: &[&str]) -> Result<()> {
    wait_for(&format!("{parts:?} in a log of felix"), PATIENCE, || {
        let logs = cluster.nodes().map(|n| std::fs::read_to_string(n.felix.log()));
        let logs = logs.collect::<std::io::Result<Vec<String>>>()?;
        let line = logs
            .iter()
            .flat_map(|l| l.lines())
            .find(|l| parts.iter().all(|p| l.contains(p)));
        ensure!(line.is_some(), "no such line");
        Ok(())
    })
}

/// A pod whose container and record vanish without DEL, as when a runtime loses its state.
fn lose(cluster: &Cluster, pod: &Pod) -> Result<()> {
    cluster.lab.remove_namespace(&pod.ns)?;
    let (namespace, name) = pod.name.split_once('/').unwrap_or_default();
    let record = format!("workloadendpoint/{namespace}/{}-k8s-{name}-eth0", pod.node);
    cluster.ctl(&["delete", &record]).map(|_| ())
}

/// Nothing is left of a node in the datastore: no endpoint, claim, block, address or handle.
fn nothing_left_of(cluster: &Cluster, node: &str) -> Result<()> {
    wait_for(&format!("nothing to be left of {node}"), PATIENCE, || {
        let all = cluster.ctl(&["datastore", "export"])?;
        // The last word of a node stays, as in Calico.
        let is_word = |l: &&str| l.contains("/last_reported_status");
        let left: Vec<&str> = all.lines().filter(|l| l.contains(node) && !is_word(l)).collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
}

#[test]
fn lost_addresses_come_back_and_used_ones_stay() {
    // With certificates: collecting what a node left is the business of another, and typha lets it.
    let spec = Spec {
        tls: true,
        ..Spec::demo()
    };
    on_cluster("gc", &spec, |cluster| {
        for node in ["n1", "n2", "n3"] {
            cluster
                .node_mut(node)?
                .felix
                .restart_with(&["--ipam-leak-grace", GRACE])?;
        }
        cluster.settle()?;
        let kept = cluster.add_pod("n1", "default/kept")?.pod;
        let lost = cluster.add_pod("n1", "default/lost")?.pod;
        let gone = cluster.add_pod("n3", "default/gone")?.pod;
        first_reply(&gone.ns, kept.ipv4()?, PATIENCE)?;
        lose(cluster, &lost)?;
        logged(cluster, &["leaked addresses released", &lost.ipv4()?.to_string()])?;
        // It is free: a pod that asks for it gets it.
        let mut conf = cluster.node("n1")?.netconf();
        conf["args"] = json!({"cni": {"ips": [lost.ipv4()?.to_string()]}});
        let again = Pod::add(&cluster.lab, cluster.node("n1")?, "default/again", &conf)?.pod;
        ensure!(again.ips == lost.ips, "{:?}", again.ips);
        // A node that is unplugged and deleted: another one collects what it had, its endpoint too.
        cluster.remove_node("n3")?;
        cluster.ctl(&["delete", "node", "n3", "--orphan"])?;
        logged(
            cluster,
            &["record of a deleted node removed", "default/n3-k8s-gone-eth0"],
        )?;
        logged(cluster, &["leaked addresses released", &gone.ipv4()?.to_string()])?;
        logged(cluster, &["abandoned claim released", "n3"])?;
        nothing_left_of(cluster, "n3")?;
        for pod in [&kept, &again] {
            first_reply(
                &pod.ns,
                if pod.name == kept.name {
                    again.ipv4()?
                } else {
                    kept.ipv4()?
                },
                PATIENCE,
            )?;
            let found = pod.cni(cluster.node("n1")?, "CHECK")?;
            ensure!(found.is_null(), "{found}");
        }
        Ok(())
    });
}
