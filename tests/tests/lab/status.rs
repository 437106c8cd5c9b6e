//! What nodes say of themselves, seen by `tortiectl node status` without any of them being asked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_tests::lab::{Cluster, Spec, wait_for};

use crate::on_cluster;
use crate::traffic::document;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a node speaks, and for how long it counts.
const INTERVAL: u64 = 5;
const TTL: u64 = 20;

fn status(cluster: &Cluster) -> Result<Vec<Value>> {
    let text = cluster.ctl(&["node", "status", "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

fn state(all: &[Value], node: &str) -> Result<String> {
    let of = all
        .iter()
        .find(|v| v["node"] == node)
        .with_context(|| format!("no {node}"))?;
    Ok(of["state"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the three nodes are in these states, and gives what each says.
fn become_(cluster: &Cluster, want: [&str; 3]) -> Result<Vec<Value>> {
    wait_for(&format!("the states {want:?}"), PATIENCE, || {
        let all = status(cluster)?;
        for (node, want) in ["n1", "n2", "n3"].into_iter().zip(want) {
            let is = state(&all, node)?;
            ensure!(is == want, "{node} is {is}: {all:?}");
        }
        Ok(all)
    })
}

#[test]
fn every_node_is_seen_and_the_word_of_one_that_is_gone_expires() {
    on_cluster("status", &Spec::demo(), |cluster| {
        let spec = format!("{{reportingInterval: {INTERVAL}s, reportingTTL: {TTL}s}}");
        cluster.apply(&document("FelixConfiguration", "default", &spec))?;
        let pod = cluster.add_pod("n3", "default/a")?.pod;
        become_(cluster, ["ready", "ready", "ready"])?;
        wait_for("each to tell its sessions and routes", PATIENCE, || {
            for node in status(cluster)? {
                let said = &node["status"];
                let peers = said["bgp"]["peers"].as_array().map_or(0, Vec::len);
                ensure!(peers == 3 && node["registered"] == true, "{node}");
                let learned = &said["routes"]["bgp"];
                ensure!(
                    learned["programmed"].as_u64() >= Some(1) && learned["programmed"] == learned["wanted"],
                    "{node}"
                );
                ensure!(
                    said["versions"]["bird-rs"].is_string() && said["failingTotal"] == 0,
                    "{node}"
                );
            }
            Ok(())
        })?;
        // A felix that starts again is not gone.
        let felix = &mut cluster.node_mut("n2")?.felix;
        felix.kill()?;
        felix.start_again()?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let is = state(&status(cluster)?, "n2")?;
            ensure!(is != "down" && is != "unknown", "n2 is {is}");
        }
        // One that stays away is, when its last word is over; what it said is still shown.
        cluster.node_mut("n3")?.felix.kill()?;
        ensure!(
            state(&status(cluster)?, "n3")? == "ready",
            "its word counts for a while"
        );
        let all = become_(cluster, ["ready", "ready", "down"])?;
        let last = all.iter().find(|v| v["node"] == "n3").context("n3")?;
        ensure!(last["status"]["routes"]["local-workload"]["programmed"] == 1, "{last}");
        let table = cluster.ctl(&["node", "status", "--down"])?;
        ensure!(table.contains("n3") && !table.contains("n1 "), "{table}");
        cluster.node_mut("n3")?.felix.start_again()?;
        become_(cluster, ["ready", "ready", "ready"])?;
        pod.delete(&cluster.lab, cluster.node("n3")?)
    });
}
