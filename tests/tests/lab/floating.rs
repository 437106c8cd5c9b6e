//! A floating address leads to its pod from another node, from its own node, from the ToR and from the pod itself, and moves.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tortie_tests::lab::{Cluster, Pod, Spec, first_reply, wait_for};

use crate::on_cluster;

const PATIENCE: Duration = Duration::from_secs(30);
const FLOATING: &str = "192.0.2.7";

/// FelixConfiguration, and a pool that gives no pod an address.
fn manifest(switch: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {{name: default}}\n\
         spec: {{floatingIPs: {switch}}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: floating}}\n\
         spec: {{cidr: 192.0.2.0/24, nodeSelector: \"!all()\"}}\n"
    )
}

fn pod_with_it(cluster: &Cluster, node: &str, name: &str) -> Result<Pod> {
    let node = cluster.node(node)?;
    let mut conf = node.netconf();
    conf["feature_control"] = json!({"floating_ips": true});
    let annotations = json!({"cni.projectcalico.org/floatingIPs": format!("[\"{FLOATING}\"]")});
    conf["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": annotations});
    Ok(Pod::add(&cluster.lab, node, name, &conf)?.pod)
}

/// It answers from everywhere.
fn answers(cluster: &Cluster, pod: &Pod, other: &Pod) -> Result<()> {
    let floating: IpAddr = FLOATING.parse()?;
    let tor = &cluster.tor.as_ref().context("no ToR")?.ns;
    let (own, another) = (cluster.node(&pod.node)?.ns(), cluster.node(&other.node)?.ns());
    for (from, what) in [
        (tor, "the ToR"),
        (another, "another node"),
        (&other.ns, "a pod elsewhere"),
        (own, "its own node"),
        (&pod.ns, "the pod itself"),
    ] {
        first_reply(from, floating, PATIENCE).with_context(|| format!("from {what}"))?;
    }
    Ok(())
}

fn tor_has_it(cluster: &Cluster, by: Option<&str>) -> Result<()> {
    let gateway = by.map(|node| cluster.address(node)).transpose()?;
    wait_for(&format!("the ToR's route by {by:?}"), PATIENCE, || {
        let routes = cluster.tor.as_ref().context("no ToR")?.ns.routes()?;
        let its: Vec<_> = routes.iter().filter(|r| r.starts_with(FLOATING)).collect();
        let right = match gateway {
            Some(gateway) => its.len() == 1 && its[0].contains(&format!("via {gateway} ")),
            None => its.is_empty(),
        };
        ensure!(right, "{its:?}");
        Ok(())
    })
}

#[test]
fn a_floating_address_leads_from_everywhere_to_its_pod() {
    on_cluster("float", &Spec::demo(), |cluster| {
        cluster.apply(&manifest("Enabled"))?;
        let other = cluster.add_pod("n3", "default/other")?.pod;
        let pod = pod_with_it(cluster, "n1", "default/first")?;
        tor_has_it(cluster, Some("n1"))?;
        answers(cluster, &pod, &other)?;
        // It moves with the pod that has it.
        pod.delete(&cluster.lab, cluster.node("n1")?)?;
        tor_has_it(cluster, None)?;
        let second = pod_with_it(cluster, "n2", "default/second")?;
        tor_has_it(cluster, Some("n2"))?;
        answers(cluster, &second, &other)?;
        // Switched off it is nobody's, whatever the pod's record says.
        cluster.apply(&manifest("Disabled"))?;
        tor_has_it(cluster, None)?;
        first_reply(&other.ns, second.ipv4()?, PATIENCE).map(drop)
    });
}
