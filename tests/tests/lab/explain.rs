//! `tortiectl explain` names the true cause: faults are seeded into one running cluster and healed one after another.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_kit::address::{ServiceAddr, Target};
use tortie_proto::common::Hello;
use tortie_proto::store::store_client::StoreClient;
use tortie_proto::store::write_request::Operation;
use tortie_proto::store::{GetRequest, WriteRequest};
use tortie_tests::demo::time_pod;
use tortie_tests::lab::{Cluster, Pod, Spec};

use crate::{asked, on_cluster};

/// What the ToR announces, and an address in it.
const BEHIND: &str = "198.51.100.7";

/// The cluster, a pod on each node, and the ToR's configuration as it was.
struct Seeded<'a> {
    cluster: &'a mut Cluster,
    pods: [Pod; 2],
    tor: String,
}

impl Seeded<'_> {
    fn cause(&self, asked: (&str, &str), code: &str, words: &[&str]) -> Result<()> {
        asked::cause(self.cluster, asked, code, words)
    }

    fn healthy(&self, subject: &str, node: &str) -> Result<()> {
        asked::healthy(self.cluster, subject, node)
    }

    /// Everything is as it was before the fault.
    fn healed(&self) -> Result<()> {
        self.healthy(&self.pods[1].ipv4()?.to_string(), "n1")?;
        self.healthy(&self.pods[0].ipv4()?.to_string(), "n2")?;
        self.healthy(BEHIND, "n1")?;
        self.healthy(BEHIND, "n2")
    }

    fn pod(&self, index: usize) -> Result<String> {
        Ok(self.pods[index].ipv4()?.to_string())
    }

    /// The ToR's configuration with these texts in the place of others.
    fn tor_is(&self, changes: &[(&str, &str)]) -> Result<()> {
        let mut text = self.tor.clone();
        for (from, to) in changes {
            ensure!(text.contains(from), "the ToR's configuration has no '{from}': {text}");
            text = text.replacen(from, to, 1);
        }
        self.cluster.tor.as_ref().context("a ToR")?.configure(&text)
    }

    fn tor_does(&self, command: &[&str]) -> Result<()> {
        self.cluster.tor.as_ref().context("a ToR")?.birdc(command).map(drop)
    }

    fn peer_is(&self, spec: &str) -> Result<()> {
        self.document("BGPPeer", "tor", &format!("{{peerIP: 172.30.0.1, {spec}}}"))
    }

    fn document(&self, kind: &str, name: &str, spec: &str) -> Result<()> {
        let text =
            format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        self.cluster.apply(&text).map(drop)
    }

    fn gone(&self, what: &str) -> Result<()> {
        // A Node goes alone, since it comes back.
        let alone = what.starts_with("node/").then_some("--orphan");
        let args: Vec<&str> = ["delete", what].into_iter().chain(alone).collect();
        self.cluster.ctl(&args).map(drop)
    }

    fn ip(&self, node: &str, args: &[&str]) -> Result<()> {
        self.cluster.node(node)?.ns().ip(args).map(drop)
    }

    /// The block of a pod, as `10.244.0.0/26`, and an address in it that nobody has.
    fn block(&self, index: usize) -> Result<(String, String)> {
        let IpAddr::V4(ip) = self.pods[index].ipv4()? else {
            unreachable!("asked for IPv4")
        };
        let base = u32::from(ip) & !63;
        let at = |n: u32| std::net::Ipv4Addr::from(base + n);
        Ok((format!("{}/26", at(0)), at(60).to_string()))
    }
}

/// Nobody has the address.
fn addresses(lab: &mut Seeded<'_>) -> Result<()> {
    let (_, free) = lab.block(1)?;
    lab.cause((&free, "n1"), "not-assigned", &[&free])?;
    lab.cause(("web/nobody", "n1"), "not-assigned", &["pod web/nobody"])?;
    lab.cause(("203.0.113.9", "n1"), "no-pool", &["203.0.113.9"])?;
    lab.cause((&free, "n9"), "not-assigned", &[])?;
    lab.cause((&lab.pod(1)?, "n9"), "unknown-node", &["no Node n9"])?;
    lab.document("IPReservation", "kept", &format!("{{reservedCIDRs: [{free}]}}"))?;
    lab.cause((&free, "n1"), "reserved", &["IPReservation kept"])?;
    lab.gone("ipreservation/kept")?;
    lab.document("IPPool", "closed", "{cidr: 10.99.0.0/16, disabled: true}")?;
    lab.cause(("10.99.0.5", "n1"), "pool-disabled", &["IPPool closed"])?;
    lab.gone("ippool/closed")
}

/// The route is there, and the packets go elsewhere.
fn kernels(lab: &mut Seeded<'_>) -> Result<()> {
    let (pod, (block, _)) = (lab.pod(1)?, lab.block(1)?);
    lab.ip("n1", &["route", "add", &pod, "via", "172.30.0.1"])?;
    lab.cause((&pod, "n1"), "foreign-route", &["On n1", "172.30.0.1"])?;
    lab.ip("n1", &["route", "del", &pod])?;
    let interface = lab.pods[1].host_interface.clone();
    lab.ip("n2", &["link", "set", &interface, "down"])?;
    lab.cause((&pod, "n1"), "interface-missing", &[&interface, "n2"])?;
    lab.ip("n2", &["link", "set", &interface, "up"])?;
    lab.healthy(&pod, "n1")?;
    lab.cluster.node_mut("n1")?.felix.stop()?;
    lab.ip("n1", &["route", "del", &block])?;
    lab.cause((&pod, "n1"), "felix-down", &["felix on n1"])?;
    lab.cluster.node_mut("n1")?.felix.start_again()?;
    lab.healed()
}

/// What the ToR tells, and how.
fn routes(lab: &mut Seeded<'_>) -> Result<()> {
    let exports = "export where source = RTS_STATIC;";
    let but = |what: &str| format!("export filter {{ if source = RTS_STATIC then {{ {what} accept; }} reject; }};");
    let looped = but("bgp_path.prepend(64512);");
    let far = but("bgp_next_hop = 192.0.2.77;");
    // The first is n1's session, the second n2's.
    lab.tor_is(&[(exports, &looped), (exports, &far)])?;
    lab.cause(
        (BEHIND, "n1"),
        "loop",
        &["n1 has 198.51.100.0/24", "own AS in the path"],
    )?;
    lab.cause((BEHIND, "n2"), "next-hop", &["n2", "192.0.2.77"])?;
    let (block, _) = lab.block(0)?;
    let part = block.replace("/26", "/27");
    let stolen = format!("route 198.51.100.0/24 blackhole; route {part} blackhole;");
    lab.tor_is(&[("route 198.51.100.0/24 blackhole;", &stolen)])?;
    lab.cause((&part, "n1"), "own-refused", &["felix on n1", &block])?;
    lab.tor_is(&[])?;
    lab.healed()
}

/// Policy of the cluster.
fn policy(lab: &mut Seeded<'_>) -> Result<()> {
    let reject = "[{action: Reject, cidr: 198.51.100.0/24, matchOperator: Equal}]";
    lab.document("BGPFilter", "not-behind", &format!("{{importV4: {reject}}}"))?;
    lab.peer_is("asNumber: 65001, filters: [not-behind]")?;
    lab.cause(
        (BEHIND, "n1"),
        "import-filter",
        &["rule 1 of importV4 of BGPFilter not-behind"],
    )?;
    lab.peer_is("asNumber: 65001")?;
    lab.document(
        "IPPool",
        "default-ipv4-ippool",
        "{cidr: 10.244.0.0/16, blockSize: 26, disableBGPExport: true}",
    )?;
    lab.cause((&lab.pod(1)?, "n1"), "export-disabled", &["n2", "default-ipv4-ippool"])?;
    lab.document("IPPool", "default-ipv4-ippool", "{cidr: 10.244.0.0/16, blockSize: 26}")?;
    let pods = "[{action: Reject, cidr: 10.244.0.0/16, matchOperator: In}]";
    lab.document("BGPFilter", "no-pods", &format!("{{exportV4: {pods}}}"))?;
    lab.document(
        "BGPPeer",
        "all",
        "{nodeSelector: all(), peerSelector: all(), filters: [no-pods]}",
    )?;
    lab.cause(
        (&lab.pod(1)?, "n1"),
        "export-filter",
        &["n2", "rule 1 of exportV4 of BGPFilter no-pods"],
    )?;
    lab.gone("bgppeer/all")?;
    lab.healed()
}

/// Sessions that are not there, or not up; several at a time, since each takes its time to come back.
fn sessions(lab: &mut Seeded<'_>) -> Result<()> {
    lab.tor_is(&[
        (
            "ipv4 { import all;",
            "ipv4 { import all; import limit 1 action disable;",
        ),
        (
            "neighbor 172.30.0.12 as 64512;",
            "neighbor 172.30.0.12 as 64512; password \"secret\";",
        ),
    ])?;
    lab.tor_does(&["disable", "node3"])?;
    lab.cause((BEHIND, "n3"), "session-down", &["of n3 with 172.30.0.1"])?;
    lab.cause((BEHIND, "n1"), "max-prefix", &["of n1 with 172.30.0.1"])?;
    lab.cause((BEHIND, "n2"), "wrong-password", &["of n2 with 172.30.0.1", "TCP-MD5"])?;
    lab.tor_is(&[])?;
    lab.tor_does(&["enable", "all"])?;
    lab.healed()?;
    lab.peer_is("asNumber: 65009")?;
    lab.cause((BEHIND, "n2"), "wrong-as", &["of n2 with 172.30.0.1"])?;
    lab.peer_is("asNumber: 65001, nodeSelector: rack == 'r9'")?;
    lab.cause(
        (BEHIND, "n1"),
        "no-peering",
        &["172.30.0.1", "BGPPeer tor", "rack == 'r9'"],
    )?;
    lab.peer_is("asNumber: 65001")?;
    lab.healed()
}

/// Daemons that are away, or behind.
fn daemons(lab: &mut Seeded<'_>) -> Result<()> {
    let pod = lab.pod(1)?;
    let bird = lab.cluster.node("n1")?.bird_addr();
    lab.cluster
        .ctl(&["bgp", "disable", "Mesh_172_30_0_12", "--bird", &bird])?;
    lab.cause((&pod, "n1"), "session-disabled", &["Mesh_172_30_0_12 of n1"])?;
    lab.cluster
        .ctl(&["bgp", "enable", "Mesh_172_30_0_12", "--bird", &bird])?;
    lab.healthy(&pod, "n1")?;
    lab.cluster.node_mut("n1")?.confd.stop()?;
    lab.document("BGPPeer", "second", "{peerIP: 172.30.0.99, asNumber: 65002}")?;
    lab.cause(("203.0.113.9", "n1"), "confd-lag", &["confd on n1", "BGPPeer second"])?;
    lab.gone("bgppeer/second")?;
    lab.cluster.node_mut("n1")?.confd.start_again()?;
    lab.cluster.node_mut("n2")?.bird.kill()?;
    lab.cause((&pod, "n1"), "bird-down", &["bird-rs on n2"])?;
    lab.cluster.node_mut("n2")?.bird.start_again()?;
    lab.healed()?;
    // No way to typha: what felix has is of then.
    lab.ip("n1", &["route", "add", "blackhole", "172.30.0.10"])?;
    lab.cause((&pod, "n1"), "felix-stale", &["felix on n1"])?;
    lab.ip("n1", &["route", "del", "blackhole", "172.30.0.10"])?;
    lab.healed()?;
    lab.gone("node/n2")?;
    lab.cause((&pod, "n1"), "unknown-node", &["no Node n2"])
}

/// The state of the affinity of n2 to its block, as felix would have written it; gives the one before.
fn affinity_is(lab: &Seeded<'_>, state: &str) -> Result<String> {
    let (block, _) = lab.block(1)?;
    let key = format!("/calico/ipam/v2/host/n2/ipv4/block/{}", block.replace('/', "-"));
    let typha: ServiceAddr = lab.cluster.typha_socket().parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut store = StoreClient::new(Target::new(typha, None).channel_lazy());
        let hello = Some(Hello::new("tortie-tests", "n2", "1"));
        let get = GetRequest {
            hello: hello.clone(),
            key: key.clone(),
        };
        let entry = store.get(get).await?.into_inner().entry.context("an affinity")?;
        let mut document: Value = serde_json::from_slice(&entry.value)?;
        let before = document["state"].as_str().context("a state")?.to_owned();
        document["state"] = state.into();
        let put = WriteRequest {
            hello,
            key,
            operation: Some(Operation::Put(document.to_string().into_bytes())),
            ..WriteRequest::default()
        };
        store.write(put).await?;
        Ok(before)
    })
}

/// A claim that was not ended, and nobody who could say.
fn claims(lab: &mut Seeded<'_>) -> Result<()> {
    let (pod, (block, _)) = (lab.pod(1)?, lab.block(1)?);
    // It would end its claim at once.
    lab.cluster.node_mut("n2")?.felix.stop()?;
    let before = affinity_is(lab, "pending")?;
    ensure!(before == "confirmed", "it was {before}");
    lab.cause((&pod, "n1"), "affinity-pending", &["n2", &block, "pending"])?;
    affinity_is(lab, &before)?;
    lab.cluster.node_mut("n2")?.felix.start_again()?;
    lab.healed()?;
    lab.cluster.typha.stop()?;
    lab.cause((&pod, "n1"), "typha-down", &["typha does not answer"])?;
    lab.cluster.typha.start_again()?;
    lab.healed()
}

#[test]
fn explain_names_the_true_cause_of_each_seeded_fault() {
    on_cluster("exp", &Spec::demo(), |cluster| {
        let a = time_pod(cluster, "n1", "default/a", "n2".into())?.pod;
        let b = time_pod(cluster, "n2", "default/b", "n1".into())?.pod;
        let tor = cluster.tor.as_ref().context("a ToR")?.configuration()?;
        let mut lab = Seeded {
            cluster,
            pods: [a, b],
            tor,
        };
        lab.healed()?;
        for faults in [addresses, kernels, routes, policy, sessions, claims, daemons] {
            faults(&mut lab)?;
        }
        Ok(())
    });
}
