//! A BGPFilter is edited under traffic: what it still accepts loses no packet, what it rejects now goes, and no session is touched.

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::{Cluster, Spec, first_reply, wait_for};

use crate::traffic::{Flow, PATIENCE, document, losses, pods, under_flows};
use crate::{asked, on_cluster};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// What the ToR announces, an address of its own in each.
const KEPT: (&str, &str) = ("198.51.100.0/24", "198.51.100.1");
const REJECTED: (&str, &str) = ("203.0.113.0/24", "203.0.113.1");

/// The ToR announces one more network, and answers in both.
fn announce(cluster: &Cluster) -> Result<()> {
    let tor = cluster.tor.as_ref().context("a ToR")?;
    let route = |net: &str| format!("route {net} blackhole;");
    let both = format!("{} {}", route(KEPT.0), route(REJECTED.0));
    let text = tor.configuration()?;
    ensure!(text.contains(&route(KEPT.0)), "{text}");
    tor.configure(&text.replace(&route(KEPT.0), &both))?;
    for address in [KEPT.1, REJECTED.1] {
        tor.ns.ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    Ok(())
}

fn filter(cluster: &Cluster, rules: &[&str]) -> Result<()> {
    let spec = format!("{{importV4: [{}]}}", rules.join(", "));
    cluster.apply(&document("BGPFilter", "edge", &spec)).map(drop)
}

/// How often sessions changed their state so far, of all nodes.
fn changes(cluster: &Cluster) -> Result<usize> {
    let of = |name: &str| -> Result<usize> {
        let log = std::fs::read_to_string(cluster.node(name)?.dir().join("bird-rs.log"))?;
        Ok(log.matches("session state changed").count())
    };
    NODES.iter().map(|name| of(name)).sum()
}

/// Waits until every node has the rejected network in its kernel, or none has.
fn is_there(cluster: &Cluster, wanted: bool) -> Result<()> {
    for node in NODES {
        wait_for(&format!("{} on {node}: {wanted}", REJECTED.0), PATIENCE, || {
            let routes = cluster.node(node)?.ns().routes()?;
            let there = routes.iter().any(|route| route.starts_with(REJECTED.0));
            ensure!(there == wanted, "{routes:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn edits(cluster: &mut Cluster) -> Result<()> {
    let accept = format!("{{action: Accept, matchOperator: In, cidr: {}}}", KEPT.0);
    let reject = format!("{{action: Reject, matchOperator: Equal, cidr: {}}}", REJECTED.0);
    let before = changes(cluster)?;
    let peer = "{peerIP: 172.30.0.1, asNumber: 65001, filters: [edge]}";
    filter(cluster, &[&accept])?;
    cluster.apply(&document("BGPPeer", "tor", peer))?;
    // Rejected, as the second rule and as the first one, and accepted again.
    filter(cluster, &[&accept, &reject])?;
    is_there(cluster, false)?;
    asked::cause(
        cluster,
        (REJECTED.1, "n1"),
        "import-filter",
        &[REJECTED.0, "rule 2 of importV4 of BGPFilter edge"],
    )?;
    filter(cluster, &[&reject, &accept])?;
    asked::cause(
        cluster,
        (REJECTED.1, "n2"),
        "import-filter",
        &["rule 1 of importV4 of BGPFilter edge"],
    )?;
    filter(cluster, &[&accept])?;
    is_there(cluster, true)?;
    asked::healthy(cluster, REJECTED.1, "n1")?;
    ensure!(changes(cluster)? == before, "a session was touched");
    Ok(())
}

#[test]
fn a_filter_is_edited_under_traffic() {
    on_cluster("filt", &Spec::demo(), |cluster| {
        announce(cluster)?;
        is_there(cluster, true)?;
        let pods = pods(cluster, &NODES)?;
        let mut flows: Vec<Flow> = Vec::new();
        for (pod, other) in pods.iter().zip(pods.iter().cycle().skip(1)) {
            flows.push((pod.ns.clone(), other.ipv4()?));
            flows.push((pod.ns.clone(), KEPT.1.parse()?));
            flows.push((pod.ns.clone(), REJECTED.1.parse()?));
        }
        for (from, to) in &flows {
            first_reply(from, *to, PATIENCE)?;
        }
        let mut summaries = under_flows(cluster, &flows, edits)?;
        let is_rejected = |what: &str| what.ends_with(&format!("-> {}", REJECTED.1));
        let lost = summaries
            .iter()
            .filter(|s| is_rejected(&s.what) && s.lost() > 0)
            .count();
        ensure!(lost == NODES.len(), "{lost} nodes lost packets to what was rejected");
        summaries.retain(|s| !is_rejected(&s.what));
        ensure!(losses(&summaries).is_empty(), "{}", losses(&summaries));
        Ok(())
    });
}
