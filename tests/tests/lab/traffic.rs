//! Continuous pings between pods while something happens, and clusters of given manifests.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tortie_tests::demo::time_pod;
use tortie_tests::lab::{
    Cluster, Lab, Netns, NodeSpec, PingRun, Pod, Spec, Summary, check_interrupt, first_reply, wait_for,
};

/// How long something may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The pool of the laboratory's pods.
pub(crate) const POOL: &str = "apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: default-ipv4-ippool
spec:
  cidr: 10.244.0.0/16
  blockSize: 26
---
";

/// A document of this kind and name; `spec` is in one line.
pub(crate) fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

/// The node `n<index>` at 172.30.0.(10 + index).
pub(crate) fn node_spec(index: u8) -> NodeSpec {
    NodeSpec {
        name: format!("n{index}"),
        address: format!("172.30.0.{}/24", 10 + index),
        address6: None,
    }
}

/// A cluster of these nodes with these manifests, without the demo's ToR.
pub(crate) fn cluster(topic: &str, nodes: Vec<NodeSpec>, manifests: &str) -> Result<Cluster> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("all.yaml"), manifests)?;
    let spec = Spec {
        nodes,
        tor: false,
        manifests: folder.path().to_owned(),
        tls: false,
    };
    Cluster::start(Lab::for_test(topic)?, &spec)
}

/// A pod on each of these nodes.
pub(crate) fn pods(cluster: &Cluster, nodes: &[&str]) -> Result<Vec<Pod>> {
    let others = nodes.iter().cycle().skip(1);
    let pairs = nodes.iter().zip(others);
    let pods = pairs.map(|(node, other)| {
        let name = format!("default/on-{node}");
        Ok(time_pod(cluster, node, &name, (*other).to_owned())?.pod)
    });
    pods.collect()
}

/// Waits until each reaches each.
pub(crate) fn all_reach_all<'a>(pods: impl Iterator<Item = &'a Pod> + Clone) -> Result<()> {
    for from in pods.clone() {
        for to in pods.clone().filter(|to| to.name != from.name) {
            first_reply(&from.ns, to.ipv4()?, PATIENCE).with_context(|| format!("{} to {}", from.name, to.name))?;
        }
    }
    Ok(())
}

/// Waits until the node has this many sessions, all of them established.
pub(crate) fn sessions(cluster: &Cluster, name: &str, want: usize) -> Result<()> {
    wait_for(&format!("{want} sessions of {name}"), PATIENCE, || {
        let node = cluster.node(name)?;
        match node.sessions()? {
            (up, all) if up == want && all == want => Ok(()),
            (up, all) => bail!("{up} of {all} established, want {want}\n{}", node.status()?),
        }
    })
}

/// Goes on for so long.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        check_interrupt()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A ping every 10 ms, from where to where.
pub(crate) type Flow = (Netns, IpAddr);

/// From each pod to each other.
fn between<'a>(pods: impl Iterator<Item = &'a Pod> + Clone) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    for from in pods.clone() {
        for to in pods.clone().filter(|to| to.name != from.name) {
            flows.push((from.ns.clone(), to.ipv4()?));
        }
    }
    Ok(flows)
}

/// Runs `body` under these flows, which go on for two seconds after it. Gives what became of each.
pub(crate) fn under_flows(
    cluster: &mut Cluster,
    flows: &[Flow],
    body: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Vec<Summary>> {
    let runs: Vec<PingRun> = flows.iter().map(|(from, to)| PingRun::start(from, *to)).collect();
    let result = body(cluster).and_then(|()| pause(Duration::from_secs(2)));
    // All are stopped at once, and before an error is told.
    runs.iter().for_each(PingRun::end);
    let summaries: Vec<Result<Summary>> = runs.into_iter().map(PingRun::stop).collect();
    result?;
    let summaries: Vec<Summary> = summaries.into_iter().collect::<Result<_>>()?;
    for summary in &summaries {
        ensure!(summary.sent > 50, "too few pings to mean anything: {summary:?}");
    }
    Ok(summaries)
}

/// The same from each pod to each other.
pub(crate) fn under_traffic<'a>(
    cluster: &mut Cluster,
    pods: impl Iterator<Item = &'a Pod> + Clone,
    body: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Vec<Summary>> {
    under_flows(cluster, &between(pods)?, body)
}

/// What of [`under_traffic`] was lost, in words; nothing if nothing was.
pub(crate) fn losses(summaries: &[Summary]) -> String {
    let lost = summaries.iter().filter(|s| s.lost() > 0);
    let lost: Vec<String> = lost
        .map(|s| format!("{} lost {} of {}", s.what, s.lost(), s.sent))
        .collect();
    lost.join("; ")
}

/// The same, and not one packet may be lost.
pub(crate) fn without_loss<'a>(
    cluster: &mut Cluster,
    pods: impl Iterator<Item = &'a Pod> + Clone,
    body: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let lost = losses(&under_traffic(cluster, pods, body)?);
    ensure!(lost.is_empty(), "{lost}");
    Ok(())
}
