//! A mesh of five: one node is unplugged and comes back, one is deleted. The others lose no packet, and of a node that is
//! deleted only its own routes go.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tortie_tests::demo::{check_matrix, check_routes, matrix};
use tortie_tests::lab::{Cluster, Pod, wait_for};

use crate::traffic::{PATIENCE, POOL, all_reach_all, cluster, document, node_spec, pods, sessions, without_loss};

const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

fn manifests() -> String {
    let mesh = document(
        "BGPConfiguration",
        "default",
        "{asNumber: 64512, nodeToNodeMeshEnabled: true}",
    );
    let nodes = (1..=5).map(|index| {
        let spec = format!("{{bgp: {{ipv4Address: 172.30.0.{}/24}}}}", 10 + index);
        document("Node", &format!("n{index}"), &spec)
    });
    [POOL.to_owned(), mesh].into_iter().chain(nodes).collect()
}

/// Every node's sessions are up and its kernel has the way to every pod.
fn whole(cluster: &Cluster, nodes: &[&str], pods: &[Pod]) -> Result<()> {
    for name in nodes {
        sessions(cluster, name, nodes.len() - 1)?;
        wait_for(&format!("the routes of {name}"), PATIENCE, || {
            check_routes(cluster, cluster.node(name)?, pods.iter())
        })?;
    }
    all_reach_all(pods.iter())
}

/// What each node but the last learned.
fn learned(cluster: &Cluster) -> Result<BTreeMap<String, Vec<String>>> {
    let of = |name: &&str| -> Result<(String, Vec<String>)> {
        let mut routes = cluster.node(name)?.ns().routes()?;
        routes.sort();
        Ok(((*name).to_owned(), routes))
    };
    NODES[..4].iter().map(of).collect()
}

/// n5 without power and without its cable: its daemons are gone, and what it had in its kernel by way of its link as well.
fn unplug(cluster: &mut Cluster) -> Result<()> {
    for daemon in ["bird-rs", "felix", "confd"] {
        cluster.node_mut("n5")?.daemon(daemon)?.kill()?;
    }
    cluster.node("n5")?.ns().ip(&["link", "set", "eth0", "down"]).map(drop)
}

fn plug_in(cluster: &mut Cluster) -> Result<()> {
    cluster.node("n5")?.ns().ip(&["link", "set", "eth0", "up"])?;
    for daemon in ["felix", "confd", "bird-rs"] {
        cluster.node_mut("n5")?.daemon(daemon)?.start_again()?;
    }
    Ok(())
}

/// n5's pod is drained, its Node deleted, the machine removed. Gives the pods that stay.
fn delete(cluster: &mut Cluster, mut pods: Vec<Pod>) -> Result<Vec<Pod>> {
    let pod = pods.pop().context("a pod on n5")?;
    let gone = pod.ipv4()?;
    let before = learned(cluster)?;
    pod.delete(&cluster.lab, cluster.node("n5")?)?;
    without_loss(cluster, pods.iter(), |cluster| {
        cluster.ctl(&["delete", "node", "n5"])?;
        cluster.remove_node("n5")?;
        wait_for("only n5's routes to be gone", PATIENCE, || {
            let (now, address) = (learned(cluster)?, "via 172.30.0.15 ");
            for (node, before) in &before {
                let want: Vec<&String> = before.iter().filter(|route| !route.contains(address)).collect();
                ensure!(want.len() < before.len(), "{node} had no route to n5: {before:?}");
                let now = now.get(node).context("a node")?;
                ensure!(now.iter().eq(want.iter().copied()), "{node} has {now:?}, want {want:?}");
            }
            Ok(())
        })?;
        NODES[..4].iter().try_for_each(|name| sessions(cluster, name, 3))
    })
    .with_context(|| format!("n5, which had {gone}, is deleted"))?;
    Ok(pods)
}

#[test]
fn a_mesh_of_five_loses_a_node_for_a_while_and_one_for_good() {
    let nodes = (1..=5).map(node_spec).collect();
    let mut cluster = cluster("mesh", nodes, &manifests()).unwrap_or_else(|e| panic!("mesh: start: {e:#}"));
    let body = |cluster: &mut Cluster| -> Result<()> {
        cluster.settle()?;
        let pods = pods(cluster, &NODES)?;
        whole(cluster, &NODES, &pods)?;
        let all: Vec<&Pod> = pods.iter().collect();
        check_matrix(cluster, &all, &matrix(cluster, &all)?)?;
        without_loss(cluster, pods[..4].iter(), |cluster| {
            unplug(cluster)?;
            plug_in(cluster)?;
            whole(cluster, &NODES, &pods)
        })
        .context("n5 is unplugged and comes back")?;
        let pods = delete(cluster, pods)?;
        whole(cluster, &NODES[..4], &pods)
    };
    if let Err(e) = body(&mut cluster) {
        panic!("mesh: {e:#}");
    }
}
