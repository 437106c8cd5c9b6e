//! What a cluster does while nothing fails.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tortie_tests::demo::{check_matrix, check_pod, check_routes, matrix, time_pod};
use tortie_tests::lab::{Cluster, NodeSpec, Pod, Spec, first_reply, ping, wait_for};

use crate::on_cluster;

const PATIENCE: Duration = Duration::from_secs(20);

fn pods(cluster: &Cluster, on: &[(&str, &str)]) -> Result<Vec<Pod>> {
    on.iter()
        .map(|(node, name)| {
            let other = cluster
                .nodes()
                .find(|n| n.name() != *node)
                .map(|n| n.name().to_owned())
                .unwrap_or_default();
            Ok(time_pod(cluster, node, name, other)?.pod)
        })
        .collect()
}

#[test]
fn every_pod_reaches_every_pod_and_the_tor_without_nat() {
    on_cluster("mx", &Spec::demo(), |cluster| {
        let pods = pods(
            cluster,
            &[
                ("n1", "default/a1"),
                ("n1", "default/a2"),
                ("n2", "default/b1"),
                ("n3", "web/c1"),
            ],
        )?;
        for node in cluster.nodes() {
            wait_for("the routes", PATIENCE, || check_routes(cluster, node, pods.iter()))?;
        }
        let all: Vec<&Pod> = pods.iter().collect();
        for pod in &pods {
            check_pod(pod)?;
            if let Some(tor) = &cluster.tor {
                first_reply(&tor.ns, pod.ipv4()?, PATIENCE)?;
            }
        }
        check_matrix(cluster, &all, &matrix(cluster, &all)?)?;
        // What CHECK and a repeated ADD say of a healthy pod.
        let node = cluster.node("n1")?;
        pods[0].cni(node, "CHECK")?;
        let again = pods[0].cni(node, "ADD")?;
        ensure!(
            again["ips"] == pods[0].result["ips"],
            "a repeated ADD gave {again}, first was {}",
            pods[0].result
        );
        Ok(())
    });
}

#[test]
fn a_deleted_pod_leaves_nothing_behind() {
    on_cluster("del", &Spec::demo(), |cluster| {
        let mut both = pods(
            cluster,
            &[("n1", "default/stays"), ("n1", "default/goes"), ("n2", "default/asks")],
        )?;
        let asks = both.remove(2);
        let (goes, stays) = (both.remove(1), both.remove(0));
        let (ip, interface) = (goes.ipv4()?, goes.host_interface.clone());
        let node = cluster.node("n1")?;
        ping(&asks.ns, ip)?;

        goes.cni(node, "DEL")?;
        goes.cni(node, "DEL")?; // idempotent
        ensure!(!node.ns().links()?.contains(&interface), "{interface} is still there");
        let routes = node.ns().routes()?;
        ensure!(
            !routes.iter().any(|r| r.starts_with(&format!("{ip} "))),
            "a route to {ip} is left: {routes:?}"
        );
        let left = cluster.ctl(&["get", "workloadendpoints", "-n", "default", "-o", "yaml"])?;
        ensure!(
            !left.contains("goes") && left.contains("stays"),
            "the record is not gone: {left}"
        );
        ensure!(ping(&asks.ns, ip).is_err(), "{ip} still answers");
        ensure!(goes.ns.links()?.is_empty(), "the pod still has {:?}", goes.ns.links()?);
        ping(&asks.ns, stays.ipv4()?)?;
        goes.delete(&cluster.lab, node)?; // the namespace goes, and a third DEL does no harm

        // DEL with a namespace that is gone.
        let gone = cluster.add_pod("n1", "default/vanishes")?.pod;
        cluster.lab.remove_namespace(&gone.ns)?;
        gone.cni(node, "DEL")?;
        let left = cluster.ctl(&["get", "workloadendpoints", "-n", "default", "-o", "yaml"])?;
        ensure!(!left.contains("vanishes"), "the record is not gone: {left}");
        Ok(())
    });
}

#[test]
fn a_node_joins_and_leaves_at_run_time() {
    on_cluster("join", &Spec::demo(), |cluster| {
        let first = pods(cluster, &[("n1", "default/a")])?.remove(0);
        cluster.apply(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n4}\n\
             spec: {bgp: {ipv4Address: 172.30.0.14/24}}\n",
        )?;
        cluster.start_node(&NodeSpec {
            name: "n4".into(),
            address: "172.30.0.14/24".into(),
            address6: None,
        })?;
        // The ToR does not know n4: its session stays down, the mesh's come up.
        wait_for("the mesh to include n4", PATIENCE, || {
            let mut sessions = Vec::new();
            for node in cluster.nodes() {
                sessions.push((node.name().to_owned(), node.sessions()?));
            }
            let right =
                |(name, (up, all)): &(String, (usize, usize))| *all == 4 && *up >= if name == "n4" { 3 } else { 4 };
            ensure!(sessions.iter().all(right), "{sessions:?}");
            Ok(())
        })?;
        cluster.wait_ready("n4")?;
        let new = time_pod(cluster, "n4", "default/d", "n1".into())?.pod;
        first_reply(&first.ns, new.ipv4()?, PATIENCE)?;

        cluster.remove_node("n4")?;
        cluster.ctl(&["delete", "node", "n4", "--force"])?;
        let ip = new.ipv4()?;
        wait_for("n4 to be forgotten", PATIENCE, || {
            for node in cluster.nodes() {
                let (up, all) = node.sessions()?;
                ensure!((up, all) == (3, 3), "{} has {up} of {all} sessions", node.name());
                let routes = node.ns().routes()?;
                if routes.iter().any(|r| r.contains("via 172.30.0.14")) {
                    bail!("{} still routes to n4: {routes:?}", node.name());
                }
            }
            Ok(())
        })?;
        ensure!(ping(&first.ns, ip).is_err(), "{ip} still answers");
        Ok(())
    });
}

#[test]
fn an_ippool_that_is_not_exported_stays_inside() {
    on_cluster("noexp", &Spec::demo(), |cluster| {
        let pod = pods(cluster, &[("n1", "default/a")])?.remove(0);
        let tor = |want: bool| {
            wait_for(&format!("the ToR to have routes to pods: {want}"), PATIENCE, || {
                let Some(tor) = &cluster.tor else { bail!("no ToR") };
                let routes = tor.ns.routes()?;
                ensure!(routes.iter().any(|r| r.starts_with("10.244.")) == want, "{routes:?}");
                Ok(())
            })
        };
        tor(true)?;
        let pool = cluster.ctl(&["get", "ippool", "default-ipv4-ippool", "-o", "yaml"])?;
        // The revision would make each apply a compare-and-swap against what was read here.
        let pool: String = pool
            .lines()
            .filter(|l| !l.contains("resourceVersion"))
            .map(|l| format!("{l}\n"))
            .collect();
        let hidden = pool.replace("spec:\n", "spec:\n  disableBGPExport: true\n");
        cluster.apply(&hidden)?;
        tor(false)?;
        // The sessions were not reset by this, and what is local stays.
        ping(cluster.node("n1")?.ns(), pod.ipv4()?)?;
        cluster.apply(&hidden.replace("disableBGPExport: true", "disableBGPExport: false"))?;
        tor(true)?;
        first_reply(cluster.node("n2")?.ns(), pod.ipv4()?, PATIENCE)?;
        Ok(())
    });
}

#[test]
fn both_families_on_one_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut manifest = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: v4}\nspec: {cidr: 10.244.0.0/16}\n---\n\
                        apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: v6}\nspec: {cidr: \"fd00:244::/48\"}\n"
        .to_owned();
    let mut spec = Spec::demo();
    for (i, node) in spec.nodes.iter_mut().enumerate() {
        let address6 = format!("fd00:30::{}/64", 11 + i);
        manifest += &format!(
            "---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {}}}\n\
             spec: {{bgp: {{ipv4Address: {}, ipv6Address: \"{address6}\"}}}}\n",
            node.name, node.address
        );
        node.address6 = Some(address6);
    }
    std::fs::write(dir.path().join("dual.yaml"), manifest).expect("write");
    spec.tor = false;
    spec.manifests = dir.path().to_owned();
    on_cluster("dual", &spec, |cluster| {
        let mut pods = Vec::new();
        for (node, name) in [("n1", "default/a"), ("n2", "default/b"), ("n3", "default/c")] {
            pods.push(cluster.add_dual_stack_pod(node, name)?.pod);
        }
        for from in &pods {
            ensure!(from.ips.len() == 2, "{} has {:?}", from.name, from.ips);
            for to in pods.iter().filter(|to| to.name != from.name) {
                for ip in &to.ips {
                    first_reply(&from.ns, *ip, PATIENCE)?;
                    let reply = ping(&from.ns, *ip)?;
                    ensure!(reply.ttl == 62, "{} to {ip}: TTL {}", from.name, reply.ttl);
                }
            }
        }
        // Learned over the IPv4 session, with the owner's IPv6 address as the gateway.
        let routes = cluster.node("n1")?.ns().ip(&["-6", "route", "show", "table", "main"])?;
        ensure!(
            routes.contains("via fd00:30::12 dev eth0 proto bird metric 1024"),
            "{routes}"
        );
        ensure!(cluster.node("n1")?.sessions()? == (2, 2));
        Ok(())
    });
}

#[test]
fn a_peer_of_one_node_only() {
    on_cluster("nodepeer", &Spec::demo(), |cluster| {
        let (tor, behind) = match &cluster.tor {
            Some(tor) => (tor.address, tor.behind()),
            None => bail!("no ToR"),
        };
        cluster.ctl(&["delete", "bgppeer", "tor"])?;
        cluster.apply(&format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: tor-n1}}\n\
             spec: {{node: n1, peerIP: {tor}, asNumber: 65001}}\n"
        ))?;
        wait_for("only n1 to peer with the ToR", PATIENCE, || {
            for (name, want) in [("n1", (3, 3)), ("n2", (2, 2)), ("n3", (2, 2))] {
                let sessions = cluster.node(name)?.sessions()?;
                ensure!(sessions == want, "{name} has {sessions:?}, want {want:?}");
            }
            let status = cluster.node("n1")?.status()?;
            ensure!(
                status.contains("node specific") && !status.contains("global"),
                "{status}"
            );
            Ok(())
        })?;
        // As in Calico, nodes pass on to each other what lies in pools and nothing else: only n1 has the ToR's network.
        for (name, has) in [("n1", true), ("n2", false), ("n3", false)] {
            let want = format!("{behind} via {tor} dev eth0 proto bird");
            wait_for("the ToR's network on n1 alone", PATIENCE, || {
                let routes = cluster.node(name)?.ns().routes()?;
                ensure!(routes.iter().any(|r| r.starts_with(&want)) == has, "{name}: {routes:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}
