//! A workload that speaks BGP with its node: it dials the address that BGPConfiguration names, and what it announces is known on
//! every node. The workload runs stock BIRD.

use anyhow::{Result, ensure};
use tortie_tests::lab::{Cluster, Pod, Spec, StockBird, first_reply, wait_for};

use crate::on_cluster;
use crate::traffic::{PATIENCE, document, pods};

/// What the workload announces: in the pool, in nobody's block.
const BEHIND: (&str, &str) = ("10.244.200.0/28", "10.244.200.1");
/// Where it finds the speaker of its node.
const SPEAKER: &str = "169.254.0.179";

/// The workload's own configuration, the same on any node but for its address.
fn configuration(pod: &Pod) -> Result<String> {
    let ip = pod.ipv4()?;
    let (behind, _) = BEHIND;
    Ok(format!(
        "router id {ip};
protocol device {{ }}
protocol static behind {{ ipv4; route {behind} blackhole; }}
protocol bgp node {{
  local {ip} as 65401;
  neighbor {SPEAKER} as 64512;
  multihop;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    ))
}

/// Does the node's kernel lead to what is behind the workload by this gateway?
fn leads(cluster: &Cluster, node: &str, gateway: &str) -> Result<()> {
    let want = format!("{} via {gateway} ", BEHIND.0);
    wait_for(&format!("'{want}' on {node}"), PATIENCE, || {
        let routes = cluster.node(node)?.ns().routes()?;
        ensure!(routes.iter().any(|r| r.starts_with(&want)), "{routes:?}");
        Ok(())
    })
}

fn peers(cluster: &mut Cluster) -> Result<()> {
    let pods = pods(cluster, &["n1", "n2"])?;
    let (router, other) = (&pods[0], &pods[1]);
    router
        .ns
        .ip(&["addr", "add", &format!("{}/32", BEHIND.1), "dev", "lo"])?;
    let address = format!("{{localWorkloadPeeringIPV4: {SPEAKER}}}");
    cluster.apply(&document("BGPConfiguration", "default", &address))?;
    let spec = "{node: n1, localWorkloadSelector: all(), asNumber: 65401}";
    cluster.apply(&document("BGPPeer", "routers", spec))?;

    let bird = StockBird::start(&cluster.lab, &router.ns, "router", &configuration(router)?)?;
    wait_for("the workload's session", PATIENCE, || {
        let shown = bird.birdc(&["show", "protocols", "node"])?;
        ensure!(shown.contains("Established"), "{shown}");
        Ok(())
    })?;
    leads(cluster, "n1", &router.ipv4()?.to_string())?;
    leads(cluster, "n2", &cluster.address("n1")?.to_string())?;
    first_reply(&other.ns, BEHIND.1.parse()?, PATIENCE)?;

    // It is told what its node knows of the pools.
    let shown = bird.birdc(&["show", "route", "protocol", "node"])?;
    ensure!(shown.contains("10.244."), "{shown}");

    // Selected no more: the session ends, and with it what came by it.
    cluster.ctl(&["delete", "bgppeer/routers"])?;
    for node in ["n1", "n2"] {
        wait_for(&format!("{} is gone from {node}", BEHIND.0), PATIENCE, || {
            let routes = cluster.node(node)?.ns().routes()?;
            ensure!(!routes.iter().any(|r| r.starts_with(BEHIND.0)), "{routes:?}");
            Ok(())
        })?;
    }
    let host = cluster
        .node("n1")?
        .ns()
        .ip(&["addr", "show", "dev", &router.host_interface])?;
    ensure!(!host.contains(SPEAKER), "{host}");
    Ok(())
}

#[test]
fn a_workload_peers_with_its_node_at_the_address_that_all_nodes_have() {
    on_cluster("wlp", &Spec::demo(), peers);
}
