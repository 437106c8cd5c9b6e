//! Daemons restarted and killed under traffic: existing pods lose not one packet.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tortie_tests::demo::{check_routes, time_pod};
use tortie_tests::lab::{Cluster, PingRun, Pod, Spec, check_interrupt, first_reply, wait_for};

use crate::on_cluster;

const PATIENCE: Duration = Duration::from_secs(30);

/// Pods on three nodes that reach each other, and the ToR.
fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let on = [
        ("n1", "default/a", "n2"),
        ("n2", "default/b", "n3"),
        ("n3", "default/c", "n1"),
    ];
    let pods = on
        .iter()
        .map(|(node, name, other)| Ok(time_pod(cluster, node, name, (*other).into())?.pod))
        .collect::<Result<Vec<Pod>>>()?;
    for node in cluster.nodes() {
        wait_for("the routes", PATIENCE, || check_routes(cluster, node, pods.iter()))?;
    }
    for from in &pods {
        for to in &pods {
            first_reply(&from.ns, to.ipv4()?, PATIENCE)?;
        }
        if let Some(tor) = &cluster.tor {
            first_reply(&tor.ns, from.ipv4()?, PATIENCE)?;
        }
    }
    Ok(pods)
}

/// Runs `disturb` under a continuous ping between every two pods and from the ToR to each; none may be lost. The pings
/// go on for `after` once the cluster is whole again.
fn without_loss(
    cluster: &mut Cluster,
    pods: &[Pod],
    after: Duration,
    disturb: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let mut runs = Vec::new();
    for from in pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            runs.push(PingRun::start(&from.ns, to.ipv4()?));
        }
        if let Some(tor) = &cluster.tor {
            runs.push(PingRun::start(&tor.ns, from.ipv4()?));
        }
    }
    let result = disturb(cluster).and_then(|()| cluster.settle());
    let end = Instant::now();
    while result.is_ok() && end.elapsed() < after {
        check_interrupt()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut lost = Vec::new();
    for run in runs {
        let summary = run.stop()?;
        ensure!(summary.sent > 50, "too few pings to mean anything: {summary:?}");
        if summary.lost() > 0 {
            lost.push(format!("{} lost {} of {}", summary.what, summary.lost(), summary.sent));
        }
    }
    result?;
    ensure!(lost.is_empty(), "{}", lost.join("; "));
    for node in cluster.nodes() {
        check_routes(cluster, node, pods.iter())?;
    }
    Ok(())
}

#[test]
fn restarting_each_daemon_loses_no_packet() {
    on_cluster("rst", &Spec::demo(), |cluster| {
        let pods = pods(cluster)?;
        for daemon in ["felix", "confd", "bird-rs"] {
            without_loss(cluster, &pods, Duration::from_secs(2), |cluster| {
                let daemon = cluster.node_mut("n1")?.daemon(daemon)?;
                daemon.stop()?;
                daemon.start_again()
            })
            .with_context(|| format!("restart of {daemon} on n1"))?;
        }
        without_loss(cluster, &pods, Duration::from_secs(2), |cluster| {
            cluster.typha.stop()?;
            cluster.typha.start_again()
        })
        .context("restart of typha")?;
        // And the control plane is whole: a new pod is reachable.
        time_pod(cluster, "n1", "default/late", "n3".into()).map(drop)
    });
}

#[test]
fn killing_typha_then_bird_then_felix_loses_no_packet() {
    on_cluster("kill", &Spec::demo(), |cluster| {
        let pods = pods(cluster)?;
        // One after the other, none started again before all are gone.
        without_loss(cluster, &pods, Duration::from_secs(3), |cluster| {
            cluster.typha.kill()?;
            for daemon in ["bird-rs", "felix", "confd"] {
                cluster.node_mut("n2")?.daemon(daemon)?.kill()?;
                std::thread::sleep(Duration::from_millis(500));
            }
            for daemon in ["felix", "confd", "bird-rs"] {
                cluster.node_mut("n2")?.daemon(daemon)?.start_again()?;
                std::thread::sleep(Duration::from_millis(300));
            }
            cluster.typha.start_again()
        })?;
        time_pod(cluster, "n2", "default/late", "n3".into()).map(drop)
    });
}

#[test]
fn each_daemon_killed_alone_loses_no_packet() {
    on_cluster("kill1", &Spec::demo(), |cluster| {
        let pods = pods(cluster)?;
        without_loss(cluster, &pods, Duration::from_secs(2), |cluster| {
            cluster.typha.kill()?;
            cluster.typha.start_again()
        })
        .context("kill -9 of typha")?;
        for daemon in ["bird-rs", "felix", "confd"] {
            without_loss(cluster, &pods, Duration::from_secs(2), |cluster| {
                let daemon = cluster.node_mut("n3")?.daemon(daemon)?;
                daemon.kill()?;
                daemon.start_again()
            })
            .with_context(|| format!("kill -9 of {daemon} on n3"))?;
        }
        // Twice within five seconds: the second start finds the first one's traces.
        without_loss(cluster, &pods, Duration::from_secs(2), |cluster| {
            let daemon = cluster.node_mut("n3")?.daemon("bird-rs")?;
            daemon.kill()?;
            daemon.start_again()?;
            std::thread::sleep(Duration::from_secs(1));
            daemon.kill()?;
            daemon.start_again()
        })
        .context("kill -9 of bird-rs twice")
    });
}

#[test]
fn with_the_control_plane_away_nothing_changes() {
    on_cluster("away", &Spec::demo(), |cluster| {
        let pods = pods(cluster)?;
        let routes =
            |cluster: &Cluster| -> Result<Vec<Vec<String>>> { cluster.nodes().map(|n| n.ns().routes()).collect() };
        let before = routes(cluster)?;
        cluster.typha.kill()?;
        without_loss_unsettled(&pods, Duration::from_secs(5))?;
        // A felix that starts while typha is away has its last good snapshot, and still changes nothing.
        let felix = cluster.node_mut("n1")?.daemon("felix")?;
        felix.kill()?;
        felix.start_again()?;
        without_loss_unsettled(&pods, Duration::from_secs(5))?;
        ensure!(
            routes(cluster)? == before,
            "routes changed while typha was away: {:?} to {:?}",
            before,
            routes(cluster)?
        );
        cluster.typha.start_again()?;
        cluster.settle()?;
        ensure!(
            routes(cluster)? == before,
            "routes changed when typha came back: {:?} to {:?}",
            before,
            routes(cluster)?
        );
        Ok(())
    });
}

#[test]
fn a_datastore_that_was_lost_takes_no_route_along() {
    on_cluster("lost", &Spec::demo(), |cluster| {
        let pods = pods(cluster)?;
        let routes =
            |cluster: &Cluster| -> Result<Vec<Vec<String>>> { cluster.nodes().map(|n| n.ns().routes()).collect() };
        let before = routes(cluster)?;
        cluster.typha.kill()?;
        std::fs::remove_file(cluster.lab.dir().join("typha/datastore"))?;
        cluster.typha.start_again()?;
        // An agent that starts now is offered the new, empty state as well.
        let felix = cluster.node_mut("n2")?.daemon("felix")?;
        felix.kill()?;
        felix.start_again()?;
        for node in ["n1", "n2"] {
            let log = cluster.node_mut(node)?.felix.log().to_owned();
            wait_for("felix to refuse the new datastore", PATIENCE, || {
                let said = std::fs::read_to_string(&log)?;
                ensure!(
                    said.contains("until an operator says so"),
                    "{node} has not refused it yet"
                );
                Ok(())
            })?;
        }
        without_loss_unsettled(&pods, Duration::from_secs(3))?;
        ensure!(
            routes(cluster)? == before,
            "routes changed: {:?} to {:?}",
            before,
            routes(cluster)?
        );
        Ok(())
    });
}

fn without_loss_unsettled(pods: &[Pod], time: Duration) -> Result<()> {
    let mut runs = Vec::new();
    for from in pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            runs.push(PingRun::start(&from.ns, to.ipv4()?));
        }
    }
    let end = Instant::now();
    while end.elapsed() < time {
        check_interrupt()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    for run in runs {
        let summary = run.stop()?;
        ensure!(
            summary.lost() == 0,
            "{} lost {} of {}",
            summary.what,
            summary.lost(),
            summary.sent
        );
    }
    Ok(())
}
