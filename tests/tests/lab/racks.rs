//! eBGP in each rack: nodes peer with their top-of-rack router alone, which takes whoever connects from its rack's subnet. One
//! router is stock BIRD (`neighbor range`), the other FRR (`bgp listen range`). The steps are those of docs/racks.md.

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::{Cluster, Daemon, Frr, Netns, NodeSpec, Pod, Segment, StockBird, wait_for};

use crate::traffic::{PATIENCE, POOL, all_reach_all, cluster, document, losses, pods, sessions, under_traffic};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// Two racks, each of an AS of its own, and their routers in two more.
fn manifests() -> String {
    let mut text = POOL.to_owned();
    text += &document("BGPConfiguration", "default", "{nodeToNodeMeshEnabled: false}");
    for rack in [1, 2] {
        // Nodes of one rack share an AS and hear of each other by their router: each has its own AS in the path once.
        let spec = format!(
            "{{nodeSelector: rack == 'r{rack}', peerIP: 172.30.{}.1, asNumber: 6500{rack}, numAllowedLocalASNumbers: 1}}",
            rack - 1
        );
        text += &document("BGPPeer", &format!("tor-r{rack}"), &spec);
    }
    for (index, rack) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        text += &format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: n{index}\n  labels: {{rack: r{rack}}}\nspec:\n  \
             bgp:\n    ipv4Address: 172.30.{}.{}/24\n    asNumber: 6460{rack}\n---\n",
            rack - 1,
            10 + index
        );
    }
    text
}

/// The first rack's router.
const BIRD: &str = "router id 172.30.0.1;
log stderr all;
graceful restart wait 10;
protocol device { }
protocol kernel { persist; graceful restart; ipv4 { import none; export where source = RTS_BGP; }; }
template bgp fabric {
  local as 65001;
  graceful restart on;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_BGP; };
}
protocol bgp other_rack from fabric {
  neighbor 172.31.0.2 as 65002;
}
";

/// Its nodes as whoever comes.
const RANGE: &str = "protocol bgp nodes from fabric {
  neighbor range 172.30.0.0/24 as 64601;
  dynamic name \"node\";
}
";

/// Its nodes one by one.
const NAMED: &str = "protocol bgp node1 from fabric { neighbor 172.30.0.11 as 64601; }
protocol bgp node2 from fabric { neighbor 172.30.0.12 as 64601; }
";

/// The second rack's.
const FRR: &str = "hostname t2
router bgp 65002
 bgp router-id 172.30.1.1
 no bgp ebgp-requires-policy
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 neighbor nodes peer-group
 neighbor nodes remote-as 64602
 neighbor nodes advertisement-interval 0
 neighbor 172.31.0.1 remote-as 65001
 neighbor 172.31.0.1 advertisement-interval 0
 neighbor 172.31.0.1 timers connect 1
 bgp listen range 172.30.1.0/24 peer-group nodes
!
";

/// The two racks' routers, and what joins them.
struct Fabric {
    bird: StockBird,
    frr: Frr,
    _segments: [Segment; 2],
}

/// A router's namespace: an address in its rack and one towards the other's router, and how to come to the other rack.
fn router(cluster: &Cluster, name: &str, legs: [(&Segment, &str); 2], (subnet, by): (&str, &str)) -> Result<Netns> {
    let ns = cluster.lab.namespace(name)?;
    for ((segment, address), interface) in legs.into_iter().zip(["eth0", "eth1"]) {
        segment.attach(&ns, interface, &[address])?;
    }
    ns.exec(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    // Nodes and typha reach each other without BGP; pods do not.
    ns.ip(&["route", "add", subnet, "via", by])?;
    Ok(ns)
}

fn build(cluster: &mut Cluster) -> Result<Fabric> {
    let (second, between) = (cluster.lab.segment("rack2")?, cluster.lab.segment("between")?);
    let (one, two) = ("172.30.0.0/24", "172.30.1.0/24");
    let legs = [(cluster.segment(), "172.30.0.1/24"), (&between, "172.31.0.1/24")];
    let first_tor = router(cluster, "t1", legs, (two, "172.31.0.2"))?;
    let legs = [(&second, "172.30.1.1/24"), (&between, "172.31.0.2/24")];
    let second_tor = router(cluster, "t2", legs, (one, "172.31.0.1"))?;
    cluster.control().ip(&["route", "add", two, "via", "172.30.0.1"])?;
    let bird = StockBird::start(&cluster.lab, &first_tor, "t1", &[BIRD, RANGE].concat())?;
    let frr = Frr::start(&cluster.lab, &second_tor, "t2", FRR)?;
    let spec = |index: u8, rack: u8| NodeSpec {
        name: format!("n{index}"),
        address: format!("172.30.{}.{}/24", rack - 1, 10 + index),
        address6: None,
    };
    for index in [1, 2] {
        cluster.start_node(&spec(index, 1))?;
        let node = cluster.node(&format!("n{index}"))?.ns();
        node.ip(&["route", "add", two, "via", "172.30.0.1"])?;
    }
    for index in [3, 4] {
        cluster.start_node_on(&second, &spec(index, 2), |ns| {
            ns.ip(&["route", "add", one, "via", "172.30.1.1"]).map(drop)
        })?;
    }
    Ok(Fabric {
        bird,
        frr,
        _segments: [second, between],
    })
}

impl Fabric {
    /// BIRD has its two nodes, of names that it made, and the other router.
    fn bird_is_whole(&self) -> Result<()> {
        wait_for("BIRD's sessions", PATIENCE, || {
            let said = self.bird.birdc(&["show", "protocols"])?;
            let up = said.lines().filter(|line| line.contains("Established"));
            let (nodes, others): (Vec<&str>, Vec<&str>) = up.partition(|line| line.starts_with("node"));
            ensure!((nodes.len(), others.len()) == (2, 1), "{said}");
            Ok(())
        })
    }

    /// The same of FRR.
    fn frr_is_whole(&self) -> Result<()> {
        wait_for("FRR's sessions", PATIENCE, || {
            let up = self.frr.established()?;
            ensure!(up == (3, 2), "{} established, {} of the range", up.0, up.1);
            Ok(())
        })
    }

    fn is_whole(&self, cluster: &Cluster, pods: &[Pod]) -> Result<()> {
        self.bird_is_whole()?;
        self.frr_is_whole()?;
        for node in NODES {
            sessions(cluster, node, 1)?;
        }
        all_reach_all(pods.iter())
    }
}

/// Kills a router under traffic and starts it again; its kernel keeps what it has. Everything must come back, and nothing may be
/// lost between the pods of `kept`.
fn killed(
    cluster: &mut Cluster,
    (fabric, pods): (&mut Fabric, &[Pod]),
    router: impl FnOnce(&mut Fabric) -> &mut Daemon,
    kept: &[Pod],
) -> Result<()> {
    let summaries = under_traffic(cluster, pods.iter(), |cluster| {
        let daemon = router(fabric);
        daemon.kill()?;
        daemon.start_again()?;
        fabric.is_whole(cluster, pods)
    })?;
    println!("killed: {}", losses(&summaries));
    for (from, to) in [(0, 1), (1, 0)] {
        let Some((from, to)) = kept.get(from).zip(kept.get(to)) else {
            continue;
        };
        let what = format!("{} -> {}", from.ns.name(), to.ipv4()?);
        let summary = summaries.iter().find(|s| s.what == what).context(what)?;
        ensure!(summary.lost() == 0, "{}", losses(std::slice::from_ref(summary)));
    }
    Ok(())
}

/// Each router is restarted, and all comes back.
///
/// Between the racks something is lost each time: a router that takes whoever comes knows of nobody to wait for, so it tells the
/// other that it has told all before its nodes are back. What graceful restart keeps is the way by a node's own router. FRR says
/// that it still forwards for the sessions of a range; BIRD says so only of neighbors with a name and started with -R.
fn restarts(cluster: &mut Cluster, fabric: &mut Fabric, pods: &[Pod]) -> Result<()> {
    killed(cluster, (fabric, pods), |f| &mut f.frr.bgpd, &pods[2..]).context("bgpd is killed")?;
    killed(cluster, (fabric, pods), |f| &mut f.bird.daemon, &[]).context("BIRD is killed")?;
    // It says goodbye, so nodes take its routes back at once, and comes again with names for them.
    std::fs::write(cluster.lab.dir().join("t1/bird.conf"), [BIRD, NAMED].concat())?;
    fabric.bird.daemon.restart_with(&["-R"])?;
    fabric.is_whole(cluster, pods).context("BIRD is stopped and started")?;
    killed(cluster, (fabric, pods), |f| &mut f.bird.daemon, &pods[..2]).context("BIRD with names is killed")
}

#[test]
fn racks_of_ebgp_reach_each_other_also_after_their_routers_restarted() {
    let mut cluster = cluster("rack", Vec::new(), &manifests()).unwrap_or_else(|e| panic!("rack: start: {e:#}"));
    let body = |cluster: &mut Cluster| -> Result<()> {
        let mut fabric = build(cluster)?;
        for node in NODES {
            cluster.wait_ready(node)?;
        }
        let pods = pods(cluster, &NODES)?;
        fabric.is_whole(cluster, &pods)?;
        restarts(cluster, &mut fabric, &pods)
    };
    if let Err(e) = body(&mut cluster) {
        panic!("rack: {e:#}");
    }
}
