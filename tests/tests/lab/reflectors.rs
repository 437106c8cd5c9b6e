//! A mesh becomes two reflectors and four clients under traffic, and loses one of the reflectors: not one packet is lost.
//!
//! The steps are those of docs/route-reflectors.md.

use anyhow::{Context, Result, ensure};
use tortie_tests::demo::{check_routes, time_pod};
use tortie_tests::lab::{Cluster, Pod, wait_for};

use crate::traffic::{PATIENCE, POOL, all_reach_all, cluster, node_spec, pods, sessions, without_loss};

const CLIENTS: [&str; 4] = ["n3", "n4", "n5", "n6"];

/// A node's document; with a cluster id it is a reflector.
fn node(index: u8, reflector: bool) -> String {
    let (labels, id) = if reflector {
        ("\n  labels: {rr: 'true'}", "\n    routeReflectorClusterID: 224.0.0.1")
    } else {
        ("", "")
    };
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: n{index}{labels}\nspec:\n  bgp:\n    \
         ipv4Address: 172.30.0.{}/24{id}\n---\n",
        10 + index
    )
}

fn mesh(on: bool) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata:\n  name: default\nspec:\n  asNumber: 64512\n  \
         nodeToNodeMeshEnabled: {on}\n"
    )
}

const REFLECTORS: &str = "apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: reflectors
spec:
  nodeSelector: all()
  peerSelector: rr == 'true'
";

/// Waits until the node knows the way to each pod from both reflectors.
fn told_by_both(cluster: &Cluster, client: &str, pods: &[Pod]) -> Result<()> {
    let bird = cluster.node(client)?.bird_addr();
    let elsewhere = pods.iter().filter(|p| p.node != client);
    for pod in elsewhere {
        let address = pod.ipv4()?.to_string();
        wait_for(&format!("{client}'s paths to {address}"), PATIENCE, || {
            let paths = cluster.ctl(&["bgp", "routes", "for", &address, "--bird", &bird])?;
            let both = ["Node_172_30_0_11", "Node_172_30_0_12"]
                .iter()
                .all(|r| paths.contains(r));
            ensure!(both, "{paths}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The steps from a mesh to reflectors. Reflectors carry no pods while they change: their own sessions are made anew.
fn migrate(cluster: &Cluster, pods: &[Pod]) -> Result<()> {
    cluster.apply(REFLECTORS).context("the BGPPeer")?;
    for reflector in [1, 2] {
        cluster.apply(&node(reflector, true))?;
        // The other reflector, if it is one already, and the clients.
        sessions(cluster, &format!("n{reflector}"), 5)?;
    }
    for client in CLIENTS {
        sessions(cluster, client, 5).context("beside the mesh")?;
        told_by_both(cluster, client, pods)?;
    }
    cluster.apply(&mesh(false)).context("the end of the mesh")?;
    for client in CLIENTS {
        sessions(cluster, client, 2).context("without the mesh")?;
    }
    Ok(())
}

/// Kills all of a reflector. Its clients have the other one: also for a pod that comes now.
fn kill_one(cluster: &mut Cluster) -> Result<()> {
    for daemon in ["bird-rs", "confd", "felix"] {
        cluster.node_mut("n1")?.daemon(daemon)?.kill()?;
    }
    time_pod(cluster, "n3", "default/late", "n6".to_owned()).map(drop)
}

#[test]
fn a_mesh_becomes_reflectors_and_loses_one_without_losing_a_packet() {
    let documents: String = (1..=6).map(|index| node(index, false)).collect();
    let manifests = format!("{POOL}{}---\n{documents}", mesh(true));
    let nodes = (1..=6).map(node_spec).collect();
    let mut cluster = cluster("rr", nodes, &manifests).unwrap_or_else(|e| panic!("rr: start: {e:#}"));
    let body = |cluster: &mut Cluster| -> Result<()> {
        cluster.settle()?;
        let pods = pods(cluster, &CLIENTS)?;
        all_reach_all(pods.iter())?;
        without_loss(cluster, pods.iter(), |cluster| migrate(cluster, &pods)).context("from the mesh to reflectors")?;
        for client in CLIENTS {
            wait_for("the routes", PATIENCE, || {
                check_routes(cluster, cluster.node(client)?, pods.iter())
            })?;
        }
        without_loss(cluster, pods.iter(), kill_one).context("a reflector is killed")
    };
    if let Err(e) = body(&mut cluster) {
        panic!("rr: {e:#}");
    }
}
