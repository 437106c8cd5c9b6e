//! FRR's bgpd, without zebra except where a test wants the kernel.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::features;
use crate::foreign::{
    Cease, Foreign, LEARNED, OUR_AS, Received, Setup, THEIR_AS, both_ways, number, ours, said, texts,
};
use crate::lab::{Client, Lab, Running, eventually, run, tool};

pub(crate) struct Frr;

/// Its configuration. `session` are lines of `router bgp`, `activated` of both address families.
pub(crate) fn config(asn: u32, session: &str, activated: &str) -> String {
    format!(
        "hostname frr
route-map tag permit 10
 set community 65002:1
 set large-community 65002:1:2
 set metric 50
 set local-preference 200
!
route-map six permit 10
 set ipv6 next-hop global fd77::2
!
route-map four permit 10
 set ip next-hop 10.77.0.2
!
router bgp {asn}
 bgp router-id 10.77.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart restart-time 60
 neighbor 10.77.0.1 remote-as {OUR_AS}
 neighbor 10.77.0.1 advertisement-interval 0
 neighbor 10.77.0.1 timers connect 1
{session}
 address-family ipv4 unicast
  neighbor 10.77.0.1 activate
  network 10.99.0.0/24 route-map tag
  network 10.99.1.0/24
{activated}
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.77.0.1 activate
  neighbor 10.77.0.1 route-map six out
  network fd99::/64 route-map tag
{activated}
 exit-address-family
!
"
    )
}

/// bgpd alone.
pub(crate) fn start(lab: &Lab, config: &str) -> Running {
    write(lab, config);
    daemon(lab, "bgpd", &["-n", "-Z", "-l", "10.77.0.2", "-l", "fd77::2"])
}

/// bgpd alone, listening on this address and port.
pub(crate) fn start_on_port(lab: &Lab, config: &str, address: &str, port: u16) -> Running {
    write(lab, config);
    daemon(lab, "bgpd", &["-n", "-Z", "-l", address, "-p", &port.to_string()])
}

/// bgpd alone, with its RPKI module.
pub(crate) fn start_validating(lab: &Lab, config: &str) -> Running {
    write(lab, config);
    daemon(
        lab,
        "bgpd",
        &["-n", "-Z", "-M", "bgpd_rpki", "-l", "10.77.0.2", "-l", "fd77::2"],
    )
}

/// zebra, which knows the interfaces and writes routes, and bgpd.
pub(crate) fn start_with_zebra(lab: &Lab, config: &str) -> (Running, Running) {
    let zebra = zebra(lab, config);
    (zebra, daemon(lab, "bgpd", &["-n"]))
}

/// zebra, which listens to the others.
pub(crate) fn zebra(lab: &Lab, config: &str) -> Running {
    let folder = write(lab, config);
    let zebra = daemon(lab, "zebra", &[]);
    eventually("zebra listens", || folder.join("zserv").exists().then_some(()));
    zebra
}

/// Its configuration, which all of its daemons read.
fn write(lab: &Lab, config: &str) -> PathBuf {
    let folder = lab.folder("frr");
    lab.write("frr/conf", config);
    // They give up root before they read the file and open their sockets.
    run(Command::new("chown").args(["-R", "frr:frr"]).arg(&folder));
    folder
}

/// One of its daemons.
pub(crate) fn daemon(lab: &Lab, name: &str, more: &[&str]) -> Running {
    let folder = lab.path("frr");
    let mut command = lab.command("b", tool(&format!("/usr/lib/frr/{name}")));
    command.arg("-f").arg(folder.join("conf")).args(more);
    command.arg("-i").arg(folder.join(format!("{name}.pid")));
    command.arg("--vty_socket").arg(&folder);
    command.arg("-z").arg(folder.join("zserv"));
    lab.spawn(command, if name == "bgpd" { "frr" } else { name })
}

fn vtysh(lab: &Lab, commands: &[&str]) -> Command {
    let mut command = Command::new(tool("/usr/bin/vtysh"));
    command.arg("--vty_socket").arg(lab.path("frr")).args(["-d", "bgpd"]);
    for line in commands {
        command.args(["-c", line]);
    }
    command
}

fn json(lab: &Lab, show: &str) -> Option<Value> {
    serde_json::from_str(&said(&mut vtysh(lab, &[&format!("show bgp {show} json")]))?).ok()
}

/// All paths to a prefix.
fn paths(lab: &Lab, prefix: &str) -> Option<Vec<Value>> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    json(lab, &format!("{family} unicast {prefix}"))?["paths"]
        .as_array()
        .cloned()
}

/// All that it says of us, once it answers.
pub(crate) fn neighbor(lab: &Lab) -> String {
    json(lab, "neighbors 10.77.0.1").unwrap_or_default().to_string()
}

/// The path to a prefix that it has from one neighbour.
pub(crate) fn path(lab: &Lab, prefix: &str, from: &str) -> Option<Value> {
    let mut paths = paths(lab, prefix)?.into_iter();
    paths.find(|path| path["peer"]["peerId"] == from)
}

/// Well-known communities have names.
fn community(shown: String) -> String {
    match &*shown {
        "llgrStale" => "65535:6".to_owned(),
        "gracefulShutdown" => "65535:0".to_owned(),
        _ => shown,
    }
}

fn received(path: &Value) -> Option<Received> {
    let as_path = path["aspath"]["string"].as_str()?;
    Some(Received {
        next_hop: path["nexthops"][0]["ip"].as_str()?.to_owned(),
        as_path: if as_path == "Local" { "" } else { as_path }.to_owned(),
        local_pref: number(&path["locPrf"]),
        med: number(&path["metric"]),
        communities: texts(&path["community"]["list"])
            .map(community)
            .chain(texts(&path["largeCommunity"]["list"]))
            .collect(),
        originator: path["originatorId"].as_str().map(str::to_owned),
        cluster_list: texts(&path["clusterList"]["list"]).collect(),
    })
}

pub(crate) fn configure(lab: &Lab, asn: u32, lines: &[&str]) {
    let router = format!("router bgp {asn}");
    let mut commands = vec!["configure terminal", &router];
    commands.extend(lines);
    run(&mut vtysh(lab, &commands));
}

impl Foreign for Frr {
    fn start(&self, lab: &Lab, setup: &Setup) -> Running {
        let neighbor = setup.neighbor();
        let (mut session, mut activated) = (String::new(), String::new());
        if let Some(limit) = setup.max_prefixes {
            activated += &format!("  neighbor {neighbor} maximum-prefix {limit}\n");
        }
        if setup.add_path {
            activated += &format!("  neighbor {neighbor} addpath-tx-all-paths\n");
        }
        if let Some(password) = setup.password {
            session += &format!(" neighbor {neighbor} password {password}\n");
        }
        if setup.ttl_security {
            session += &format!(" neighbor {neighbor} ttl-security hops 1\n");
        }
        if setup.extended_next_hops() {
            session += &format!(" neighbor {neighbor} capability extended-nexthop\n");
        }
        if setup.long_lived {
            session += " bgp long-lived-graceful-restart stale-time 600\n";
        }
        let mut config = config(setup.asn, &session, &activated).replace("10.77.0.1", neighbor);
        if setup.v4_next_hops {
            // Without zebra it knows no IPv4 address of its own.
            let network = "  network 10.99.1.0/24\n";
            config = config.replace(network, &format!("{network}  neighbor {neighbor} route-map four out\n"));
        }
        if setup.reflects {
            let third = " neighbor 10.77.0.3 remote-as 64512\n neighbor 10.77.0.3 advertisement-interval 0
 neighbor 10.77.0.3 timers connect 1\n address-family ipv4 unicast\n";
            config = config.replacen(" address-family ipv4 unicast\n", third, 1);
            let activate = "  neighbor 10.77.0.1 activate\n";
            let mut client = "  neighbor 10.77.0.1 route-reflector-client\n".to_owned();
            config = config.replace(activate, &format!("{activate}{client}"));
            if setup.add_path {
                client += "  neighbor 10.77.0.1 addpath-tx-all-paths\n";
            }
            let both = format!("{activate}{client}").replace("10.77.0.1", "10.77.0.3");
            config = config.replace(activate, &format!("{both}{activate}"));
            let six = "  neighbor 10.77.0.1 route-map six out\n";
            config = config.replace(six, &format!("{six}{}", six.replace("10.77.0.1", "10.77.0.3")));
        }
        start(
            lab,
            &config.replace("restart-time 60", &format!("restart-time {}", setup.restart_time())),
        )
    }

    fn paths(&self, lab: &Lab, prefix: &str) -> Vec<Received> {
        let paths = paths(lab, prefix).unwrap_or_default();
        let ours = |path: &&Value| {
            ["10.77.0.1", "fd77::1", "fe80::77:1"]
                .iter()
                .any(|&us| path["peer"]["peerId"] == us)
        };
        paths.iter().filter(ours).filter_map(received).collect()
    }

    fn withdraw(&self, lab: &Lab, setup: &Setup, prefix: &str) {
        let network = format!("no network {prefix}");
        configure(lab, setup.asn, &["address-family ipv4 unicast", &network]);
    }

    fn refresh(&self, lab: &Lab) -> bool {
        run(&mut vtysh(lab, &["clear bgp ipv4 unicast 10.77.0.1 in"]));
        true
    }

    fn shut_down(&self, lab: &Lab, asn: u32, message: &str) -> bool {
        configure(lab, asn, &[&format!("neighbor 10.77.0.1 shutdown message {message}")]);
        true
    }

    fn is_up(&self, lab: &Lab) -> bool {
        json(lab, "neighbors").is_some_and(|shown| shown["10.77.0.1"]["bgpState"] == "Established")
    }

    fn last_reason(&self, lab: &Lab) -> String {
        let shown = json(lab, "neighbors 10.77.0.1").unwrap_or_default();
        shown["10.77.0.1"]["lastNotificationReason"].to_string()
    }

    fn words(&self, cease: Cease) -> &'static str {
        match cease {
            Cease::MaximumPrefixes => "Cease/Maximum Number of Prefixes Reached",
            Cease::Deconfigured => "Cease/Peer De-configured",
        }
    }
}

/// Ours and FRR, established, all routes learned.
fn pair(lab: &Lab, frr: &str, ours: &str) -> (Running, Running, Client) {
    let frr = start(lab, frr);
    let daemon = lab.bird_rs("a", ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    (frr, daemon, client)
}

#[test]
fn an_internal_session_with_frr_carries_both_families_both_ways() {
    both_ways(&Frr, OUR_AS);
}

#[test]
fn an_external_session_with_frr_carries_both_families_both_ways() {
    both_ways(&Frr, THEIR_AS);
}

#[test]
fn frr_or_we_killed_find_our_routes_kept() {
    let lab = Lab::new();
    let (theirs, ours) = (
        config(THEIR_AS, "", ""),
        ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")),
    );
    let (frr, daemon, _) = pair(&lab, &theirs, &ours);
    let prefixes = ["10.244.0.0/26", "fd00:244::/64"];
    let kept = |stale: bool| {
        for prefix in prefixes {
            eventually(&format!("FRR has {prefix}, stale: {stale}"), || {
                let path = path(&lab, prefix, "10.77.0.1").unwrap_or_else(|| panic!("FRR lost {prefix}"));
                (path["stale"].as_bool().unwrap_or_default() == stale).then_some(())
            });
        }
    };
    for prefix in prefixes {
        eventually("FRR has it", || Frr.received(&lab, prefix));
    }
    drop(daemon);
    kept(true);
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    kept(false);

    drop(frr);
    let stale = LEARNED.map(|route| format!("{route} stale"));
    client.learns("Peer", &stale.each_ref().map(String::as_str));
    let _frr = start(&lab, &theirs);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    for prefix in prefixes {
        eventually("FRR has it again", || Frr.received(&lab, prefix));
    }
    assert!(
        !lab.log("a").contains("stale routes removed"),
        "what FRR announces again was never gone"
    );
}

#[test]
fn frr_and_we_sign_segments_with_a_password() {
    features::signed(&Frr);
}

#[test]
fn frr_and_we_guard_the_session_with_ttl_security() {
    features::guarded(&Frr);
}

#[test]
fn frr_is_told_when_it_is_removed() {
    features::removed(&Frr);
}

#[test]
fn frr_is_told_when_it_sends_too_many_routes() {
    features::limited_by_us(&Frr);
}

#[test]
fn frr_tells_us_when_we_send_too_many_routes() {
    features::limits_us(&Frr);
}

#[test]
fn frr_needs_no_name_in_our_configuration() {
    features::unnamed(&Frr);
}

#[test]
fn we_reflect_between_frr_and_another_client() {
    features::reflected_by_us(&Frr);
}

#[test]
fn frr_reflects_between_us_and_another_client() {
    features::reflected_by_them(&Frr);
}

#[test]
fn frr_and_we_announce_ipv4_with_ipv6_next_hops() {
    features::ipv4_over_ipv6(&Frr);
}

#[test]
fn frr_speaks_first_when_our_open_waits() {
    features::delayed_open(&Frr);
}
