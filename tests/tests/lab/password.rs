//! The passwords of running sessions change. Between nodes not one packet is lost, since connections take them over; a router that
//! ends its sessions for it takes routes back until both sides have the new one. The steps are those of docs/passwords.md.

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::{Cluster, Pod, Spec, first_reply, wait_for};

use crate::traffic::{Flow, PATIENCE, document, losses, pods, under_flows, without_loss};
use crate::{asked, on_cluster};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// An address in what the ToR announces.
const BEHIND: &str = "198.51.100.7";

/// Writes a password where a node's confd finds it, as the kubelet does: whole or not at all.
fn write(cluster: &Cluster, node: &str, key: &str, password: &str) -> Result<()> {
    let folder = cluster.node(node)?.secrets().join("bgp");
    std::fs::create_dir_all(&folder)?;
    let new = folder.join(format!(".{key}"));
    std::fs::write(&new, password)?;
    Ok(std::fs::rename(new, folder.join(key))?)
}

/// Waits until the node's bird-rs runs with this password in so many sessions.
fn runs(cluster: &Cluster, node: &str, (password, count): (&str, usize)) -> Result<()> {
    let file = cluster.node(node)?.dir().join("bird.conf");
    let line = format!("password \"{password}\";");
    wait_for(&format!("{node} to have {line}"), PATIENCE, || {
        let has = std::fs::read_to_string(&file)?.matches(&line).count();
        ensure!(has == count, "{has} sessions have it");
        Ok(())
    })
}

/// The ToR's sessions have this password in the place of another.
fn tor(cluster: &Cluster, from: &str, to: &str) -> Result<()> {
    let tor = cluster.tor.as_ref().context("a ToR")?;
    let text = tor.configuration()?;
    ensure!(text.contains(from), "the ToR has no '{from}': {text}");
    tor.configure(&text.replace(from, to))
}

fn tor_password(password: &str) -> String {
    format!("as 64512; password \"{password}\";")
}

/// All sessions get a password: that is a change like any other.
fn begin(cluster: &mut Cluster) -> Result<()> {
    for node in NODES {
        write(cluster, node, "mesh", "first")?;
        write(cluster, node, "tor", "tor-first")?;
    }
    let secret = |key: &str| format!("secretKeyRef: {{name: bgp, key: {key}}}");
    let mesh = format!("{{asNumber: 64512, nodeMeshPassword: {{{}}}}}", secret("mesh"));
    cluster.apply(&document("BGPConfiguration", "default", &mesh))?;
    let peer = format!(
        "{{peerIP: 172.30.0.1, asNumber: 65001, password: {{{}}}}}",
        secret("tor")
    );
    cluster.apply(&document("BGPPeer", "tor", &peer))?;
    tor(cluster, "as 64512;", &tor_password("tor-first"))?;
    for node in NODES {
        runs(cluster, node, ("first", 2))?;
        runs(cluster, node, ("tor-first", 1))?;
    }
    cluster.settle()
}

/// The mesh's password changes from node to node, with time in between in which two passwords are in use.
fn mesh(cluster: &mut Cluster, pods: &[Pod]) -> Result<()> {
    without_loss(cluster, pods.iter(), |cluster| {
        for node in NODES {
            write(cluster, node, "mesh", "second")?;
            runs(cluster, node, ("second", 2))?;
        }
        cluster.settle()
    })
}

/// The router's changes first: what it announces is away, and `explain` says why, until nodes have the new one.
fn router(cluster: &mut Cluster, pods: &[Pod]) -> Result<()> {
    tor(cluster, &tor_password("tor-first"), &tor_password("tor-second"))?;
    asked::cause(
        cluster,
        (BEHIND, "n1"),
        "wrong-password",
        &["of n1 with 172.30.0.1", "TCP-MD5"],
    )?;
    for node in NODES {
        write(cluster, node, "tor", "tor-second")?;
    }
    cluster.settle()?;
    for node in NODES {
        asked::healthy(cluster, BEHIND, node)?;
    }
    let from = &cluster.tor.as_ref().context("a ToR")?.ns;
    for pod in pods {
        first_reply(from, pod.ipv4()?, PATIENCE)?;
    }
    Ok(())
}

/// Nodes' first, and then the router's: it ends its sessions and comes again, and nodes let it in, though for them the old sessions
/// are up and they could not hear its goodbye.
fn nodes_first(cluster: &mut Cluster, pods: &[Pod]) -> Result<()> {
    let from = cluster.tor.as_ref().context("a ToR")?.ns.clone();
    let to = |pod: &Pod| -> Result<Flow> { Ok((from.clone(), pod.ipv4()?)) };
    let flows: Vec<Flow> = pods.iter().map(to).collect::<Result<_>>()?;
    let summaries = under_flows(cluster, &flows, |cluster| {
        for node in NODES {
            write(cluster, node, "tor", "tor-third")?;
        }
        NODES
            .iter()
            .try_for_each(|node| runs(cluster, node, ("tor-third", 1)))?;
        tor(cluster, &tor_password("tor-second"), &tor_password("tor-third"))?;
        for (from, to) in &flows {
            first_reply(from, *to, PATIENCE)?;
        }
        cluster.settle()
    })?;
    println!("nodes first, then the router: {}", losses(&summaries));
    NODES.iter().try_for_each(|node| asked::healthy(cluster, BEHIND, node))
}

#[test]
fn passwords_of_running_sessions_change() {
    on_cluster("pass", &Spec::demo(), |cluster| {
        let pods = pods(cluster, &NODES)?;
        begin(cluster).context("a first password")?;
        mesh(cluster, &pods).context("the mesh's password")?;
        router(cluster, &pods).context("the router's password")?;
        nodes_first(cluster, &pods).context("nodes' passwords, then the router's")
    });
}
