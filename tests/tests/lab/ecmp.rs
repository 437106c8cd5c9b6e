//! Two peers announce the same prefix, bird-rs merges their paths, and felix has both next hops in the kernel: a router of its own,
//! and nodes with a pair of top-of-rack routers, one of which is killed, and stopped, under traffic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_tests::lab::{Cluster, Daemon, Lab, Netns, Segment, Spec, StockBird, binary, first_reply, wait_for};

use crate::traffic::{Flow, POOL, cluster, document, losses, node_spec, pods, sessions, under_flows};

const PATIENCE: Duration = Duration::from_secs(30);
const PREFIX: &str = "198.51.100.0/24";

/// The router's bird-rs: equal paths become one route for felix. Without graceful restart a peer that dies is gone at once.
fn router() -> String {
    let mut text = "router id 172.30.0.21;\nprotocol device { }\n\
                    protocol felix { ipv4 { merge paths on; export where source = RTS_BGP; }; }\n"
        .to_owned();
    for peer in [31, 32] {
        text += &format!(
            "protocol bgp p{peer} {{ local 172.30.0.21 as 64512; neighbor 172.30.0.{peer} as {}; direct;\n\
             connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart off;\n\
             ipv4 {{ import all; export none; }}; }}\n",
            65_000 + peer
        );
    }
    text
}

fn peer(number: u32) -> String {
    format!(
        "router id 172.30.0.{number};\nprotocol device {{ }}\nprotocol static {{ ipv4; route {PREFIX} blackhole; }}\n\
         protocol bgp up {{ local 172.30.0.{number} as {}; neighbor 172.30.0.21 as 64512; direct;\n\
         connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart off;\n\
         ipv4 {{ import none; export all; }}; }}\n",
        65_000 + number
    )
}

/// A namespace on the segment, and bird-rs in it.
fn bird_rs(cluster: &Cluster, name: &str, address: &str, config: &str) -> Result<(Netns, Daemon)> {
    let ns = cluster.lab.namespace(name)?;
    cluster.segment().attach(&ns, "eth0", &[address])?;
    let dir = cluster.lab.folder(name)?;
    let (file, socket) = (dir.join("bird.conf"), dir.join("bird.sock"));
    std::fs::write(&file, config)?;
    let command = vec![
        binary("bird-rs")?.display().to_string(),
        "-c".to_owned(),
        file.display().to_string(),
        "--grpc".to_owned(),
        format!("unix:{}", socket.display()),
    ];
    let daemon = Daemon::start("bird-rs", &ns, command, dir.join("bird-rs.log"))?;
    Ok((ns, daemon))
}

/// felix beside the router's bird-rs.
fn felix(cluster: &Cluster, ns: &Netns, name: &str) -> Result<Daemon> {
    let dir = cluster.lab.folder(name)?;
    let path = |file: &str| dir.join(file).display().to_string();
    std::fs::create_dir_all(dir.join("felix-state"))?;
    let (bird, socket, state) = (
        format!("unix:{}", path("bird.sock")),
        format!("unix:{}", path("felix.sock")),
        path("felix-state"),
    );
    let mut command = vec![binary("felix")?.display().to_string()];
    let arguments = [
        ["--node", name],
        ["--typha", cluster.typha_addr()],
        ["--bird", &bird],
        ["--state-dir", &state],
        ["--socket", &socket],
    ];
    command.extend(arguments.concat().into_iter().map(str::to_owned));
    Daemon::start("felix", ns, command, dir.join("felix.log"))
}

/// The gateways by which the kernel has the prefix, sorted.
fn gateways(ns: &Netns) -> Result<Vec<String>> {
    let routes = ns.routes_json()?;
    let Some(route) = routes.iter().find(|route| route["dst"] == PREFIX) else {
        return Ok(Vec::new());
    };
    let hops = route["nexthops"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![route.clone()]);
    let mut gateways: Vec<String> = hops
        .iter()
        .map(|hop| {
            hop["gateway"]
                .as_str()
                .map(str::to_owned)
                .context("a next hop without a gateway")
        })
        .collect::<Result<_>>()?;
    gateways.sort();
    Ok(gateways)
}

fn leads_by(ns: &Netns, wanted: &[&str]) -> Result<()> {
    wait_for(&format!("{PREFIX} by {wanted:?}"), PATIENCE, || {
        let now = gateways(ns)?;
        ensure!(now == wanted, "it leads by {now:?}");
        Ok(())
    })
}

#[test]
fn two_peers_share_the_traffic_and_one_that_dies_leaves_the_other() {
    // No nodes: a typha for felix to follow, and the segment.
    let spec = Spec {
        nodes: Vec::new(),
        tor: false,
        ..Spec::demo()
    };
    let lab = Lab::for_test("ecmp").unwrap_or_else(|error| panic!("ecmp: {error:#}"));
    let cluster = Cluster::start(lab, &spec).unwrap_or_else(|error| panic!("ecmp: start: {error:#}"));
    // With the cluster still there, so that its logs are kept.
    if let Err(error) = share(&cluster) {
        panic!("ecmp: {error:#}");
    }
}

fn share(cluster: &Cluster) -> Result<()> {
    let (_first_ns, mut first) = bird_rs(cluster, "p31", "172.30.0.31/24", &peer(31))?;
    let (_second_ns, mut second) = bird_rs(cluster, "p32", "172.30.0.32/24", &peer(32))?;
    let (ns, _router) = bird_rs(cluster, "router", "172.30.0.21/24", &router())?;
    let _felix = felix(cluster, &ns, "router")?;
    let both = ["172.30.0.31", "172.30.0.32"];
    leads_by(&ns, &both)?;
    first.kill()?;
    leads_by(&ns, &both[1..])?;
    first.start_again()?;
    leads_by(&ns, &both)?;
    second.kill()?;
    leads_by(&ns, &both[..1])?;
    first.kill()?;
    leads_by(&ns, &[])
}

/// A router of the pair: it announces what is behind it to the nodes, and lets traffic through while it restarts.
fn tor(number: u8) -> String {
    let mut text = format!(
        "router id 172.30.0.{number};\nlog stderr all;\nprotocol device {{ }}\n\
         protocol direct {{ interface \"eth1\"; ipv4; }}\n\
         protocol kernel {{ persist; graceful restart; ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n"
    );
    for node in [11, 12] {
        text += &format!(
            "protocol bgp node{node} {{ local 172.30.0.{number} as 65001; neighbor 172.30.0.{node} as 64512;\n\
             connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;\n\
             ipv4 {{ import all; export where source = RTS_DEVICE; }}; }}\n"
        );
    }
    text
}

fn manifests() -> String {
    let mut text = POOL.to_owned();
    text += &document("BGPConfiguration", "default", "{asNumber: 64512}");
    for number in [1, 2] {
        let spec = format!("{{bgp: {{ipv4Address: 172.30.0.{}/24}}}}", 10 + number);
        text += &document("Node", &format!("n{number}"), &spec);
        let spec = format!("{{peerIP: 172.30.0.{number}, asNumber: 65001}}");
        text += &document("BGPPeer", &format!("tor{number}"), &spec);
    }
    text
}

/// The pair, and a host behind both, which answers at sixteen addresses.
struct Pair {
    tors: [(Netns, StockBird); 2],
    far: Netns,
    _behind: Segment,
}

impl Pair {
    fn build(cluster: &Cluster) -> Result<Pair> {
        let behind = cluster.lab.segment("behind")?;
        let build = |number: u8| -> Result<(Netns, StockBird)> {
            let name = format!("t{number}");
            let ns = cluster.lab.namespace(&name)?;
            cluster
                .segment()
                .attach(&ns, "eth0", &[&format!("172.30.0.{number}/24")])?;
            behind.attach(&ns, "eth1", &[&format!("198.51.100.{number}/24")])?;
            ns.exec(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
            let bird = StockBird::start(&cluster.lab, &ns, &name, &tor(number))?;
            Ok((ns, bird))
        };
        let far = cluster.lab.namespace("far")?;
        let addresses: Vec<String> = Pair::addresses().map(|address| format!("{address}/24")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        behind.attach(&far, "eth0", &addresses)?;
        let hops = "route add default nexthop via 198.51.100.1 nexthop via 198.51.100.2";
        far.ip(&hops.split(' ').collect::<Vec<_>>())?;
        Ok(Pair {
            tors: [build(1)?, build(2)?],
            far,
            _behind: behind,
        })
    }

    fn addresses() -> impl Iterator<Item = String> {
        (10..26).map(|last| format!("198.51.100.{last}"))
    }

    /// How many packets each router has sent to what is behind it.
    fn forwarded(&self) -> Result<Vec<u64>> {
        let of = |(ns, _): &(Netns, StockBird)| {
            let links: Value = serde_json::from_str(&ns.ip(&["-s", "-j", "link", "show", "eth1"])?)?;
            links[0]["stats64"]["tx"]["packets"].as_u64().context("packets")
        };
        self.tors.iter().map(of).collect()
    }

    /// The first router has both of its nodes, and they have both routers.
    fn is_whole(&self, cluster: &Cluster) -> Result<()> {
        wait_for("the first router's sessions", PATIENCE, || {
            let said = self.tors[0].1.birdc(&["show", "protocols"])?;
            ensure!(said.matches("Established").count() == 2, "{said}");
            Ok(())
        })?;
        for node in ["n1", "n2"] {
            sessions(cluster, node, 3)?;
            leads_by(cluster.node(node)?.ns(), &["172.30.0.1", "172.30.0.2"])?;
        }
        Ok(())
    }
}

#[test]
fn a_pair_of_routers_shares_the_traffic_and_one_restarts_under_it() {
    let nodes = vec![node_spec(1), node_spec(2)];
    let mut cluster = cluster("pair", nodes, &manifests()).unwrap_or_else(|e| panic!("pair: start: {e:#}"));
    if let Err(error) = pair(&mut cluster) {
        panic!("pair: {error:#}");
    }
}

fn pair(cluster: &mut Cluster) -> Result<()> {
    let mut pair = Pair::build(cluster)?;
    pair.is_whole(cluster)?;
    for node in ["n1", "n2"] {
        cluster.wait_ready(node)?;
    }
    let pods = pods(cluster, &["n1", "n2"])?;
    let mut flows: Vec<Flow> = Vec::new();
    for pod in &pods {
        flows.push((pair.far.clone(), pod.ipv4()?));
        for address in Pair::addresses() {
            flows.push((pod.ns.clone(), address.parse()?));
        }
    }
    for (from, to) in &flows {
        first_reply(from, *to, PATIENCE)?;
    }
    let before = pair.forwarded()?;
    let summaries = under_flows(cluster, &flows, |cluster| {
        // Killed: its routes stay, and so does what it forwards.
        pair.tors[0].1.daemon.kill()?;
        pair.tors[0].1.daemon.restart_with(&["-R"])?;
        pair.is_whole(cluster)?;
        // Stopped in order: it takes them back, and the other one has all.
        pair.tors[0].1.daemon.stop()?;
        for node in ["n1", "n2"] {
            leads_by(cluster.node(node)?.ns(), &["172.30.0.2"])?;
        }
        pair.tors[0].1.daemon.start_again()?;
        pair.is_whole(cluster)
    })?;
    ensure!(losses(&summaries).is_empty(), "{}", losses(&summaries));
    let sent: Vec<u64> = pair
        .forwarded()?
        .iter()
        .zip(&before)
        .map(|(now, then)| now - then)
        .collect();
    ensure!(sent.iter().all(|sent| *sent > 100), "not shared: {sent:?}");
    Ok(())
}
