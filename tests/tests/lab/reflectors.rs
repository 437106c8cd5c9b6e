//! A mesh becomes two reflectors and four clients under traffic, and loses one of the reflectors: not one packet is lost.
//!
//! The steps are those of docs/route-reflectors.md.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tortie_tests::demo::{check_routes, time_pod};
use tortie_tests::lab::{Cluster, Lab, NodeSpec, PingRun, Pod, Spec, check_interrupt, first_reply, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
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

const POOL: &str = "apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: default-ipv4-ippool
spec:
  cidr: 10.244.0.0/16
  blockSize: 26
";

const REFLECTORS: &str = "apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: reflectors
spec:
  nodeSelector: all()
  peerSelector: rr == 'true'
";

/// Waits until the node has this many sessions, all of them established.
fn sessions(cluster: &Cluster, name: &str, want: usize) -> Result<()> {
    wait_for(&format!("{want} sessions of {name}"), PATIENCE, || {
        let node = cluster.node(name)?;
        match node.sessions()? {
            (up, all) if up == want && all == want => Ok(()),
            (up, all) => bail!("{up} of {all} established, want {want}\n{}", node.status()?),
        }
    })
}

fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for (client, other) in CLIENTS.iter().zip(CLIENTS.iter().cycle().skip(1)) {
        let name = format!("default/on-{client}");
        pods.push(time_pod(cluster, client, &name, (*other).to_owned())?.pod);
    }
    for from in &pods {
        for to in &pods {
            first_reply(&from.ns, to.ipv4()?, PATIENCE)?;
        }
    }
    Ok(pods)
}

/// The steps from a mesh to reflectors. Reflectors carry no pods while they change: their own sessions are made anew.
fn migrate(cluster: &Cluster) -> Result<()> {
    cluster.apply(REFLECTORS).context("the BGPPeer")?;
    for reflector in [1, 2] {
        cluster.apply(&node(reflector, true))?;
        // The other reflector, if it is one already, and the clients.
        sessions(cluster, &format!("n{reflector}"), 5)?;
    }
    for client in CLIENTS {
        sessions(cluster, client, 5).context("beside the mesh")?;
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

fn under_traffic(cluster: &mut Cluster, pods: &[Pod], body: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let mut runs = Vec::new();
    for from in pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            runs.push(PingRun::start(&from.ns, to.ipv4()?));
        }
    }
    let result = body(cluster);
    let end = Instant::now();
    while result.is_ok() && end.elapsed() < Duration::from_secs(3) {
        check_interrupt()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut lost = String::new();
    for run in runs {
        let summary = run.stop()?;
        ensure!(summary.sent > 50, "too few pings to mean anything: {summary:?}");
        if summary.lost() > 0 {
            write!(lost, "{} lost {} of {}; ", summary.what, summary.lost(), summary.sent)?;
        }
    }
    result?;
    ensure!(lost.is_empty(), "{lost}");
    Ok(())
}

#[test]
fn a_mesh_becomes_reflectors_and_loses_one_without_losing_a_packet() {
    let manifests = tempfile::tempdir().expect("a folder");
    let nodes: String = (1..=6).map(|index| node(index, false)).collect();
    for (name, text) in [
        ("nodes.yaml", nodes.as_str()),
        ("pool.yaml", POOL),
        ("mesh.yaml", &mesh(true)),
    ] {
        std::fs::write(manifests.path().join(name), text).expect("a manifest");
    }
    let spec = Spec {
        nodes: (1..=6)
            .map(|index| NodeSpec {
                name: format!("n{index}"),
                address: format!("172.30.0.{}/24", 10 + index),
                address6: None,
            })
            .collect(),
        tor: false,
        manifests: manifests.path().to_owned(),
        tls: false,
    };
    let lab = Lab::for_test("rr").expect("a lab");
    let mut cluster = Cluster::start(lab, &spec).expect("a cluster");
    let body = |cluster: &mut Cluster| -> Result<()> {
        cluster.settle()?;
        let pods = pods(cluster)?;
        under_traffic(cluster, &pods, |cluster| migrate(cluster)).context("from the mesh to reflectors")?;
        for client in CLIENTS {
            wait_for("the routes", PATIENCE, || {
                check_routes(cluster, cluster.node(client)?, pods.iter())
            })?;
        }
        under_traffic(cluster, &pods, kill_one).context("a reflector is killed")
    };
    if let Err(e) = body(&mut cluster) {
        panic!("rr: {e:#}");
    }
}
