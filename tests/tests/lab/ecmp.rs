//! Two peers announce the same prefix, bird-rs merges their paths, and felix has both next hops in the kernel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::{Cluster, Daemon, Lab, Netns, Spec, binary, wait_for};

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
