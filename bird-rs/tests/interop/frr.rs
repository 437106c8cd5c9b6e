//! FRR's bgpd, without zebra.

use std::process::Command;

use serde_json::Value;

use crate::foreign::{Foreign, OUR_AS, Received, THEIR_AS, both_ways, number, ours, said, texts};
use crate::lab::{Client, Lab, Running, eventually, eventually_or, run, tool};

struct Frr;

const LEARNED: [&str; 3] = [
    "10.99.0.0/24 via 10.77.0.2",
    "10.99.1.0/24 via 10.77.0.2",
    "fd99::/64 via fd77::2",
];

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

pub(crate) fn start(lab: &Lab, config: &str) -> Running {
    let folder = lab.folder("frr");
    lab.write("frr/conf", config);
    // It gives up root before it reads the file and opens its sockets.
    run(Command::new("chown").args(["-R", "frr:frr"]).arg(&folder));
    let mut command = lab.command("b", tool("/usr/lib/frr/bgpd"));
    command
        .arg("-f")
        .arg(folder.join("conf"))
        .args(["-n", "-Z", "-l", "10.77.0.2"]);
    command
        .arg("-i")
        .arg(folder.join("pid"))
        .arg("--vty_socket")
        .arg(&folder);
    command.arg("-z").arg(folder.join("zserv"));
    lab.spawn(command, "frr")
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

/// The path to a prefix that it has from one neighbour.
pub(crate) fn path(lab: &Lab, prefix: &str, from: &str) -> Option<Value> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let shown = json(lab, &format!("{family} unicast {prefix}"))?;
    let mut paths = shown["paths"].as_array()?.iter();
    paths.find(|path| path["peer"]["peerId"] == from).cloned()
}

fn configure(lab: &Lab, asn: u32, lines: &[&str]) {
    let router = format!("router bgp {asn}");
    let mut commands = vec!["configure terminal", &router];
    commands.extend(lines);
    run(&mut vtysh(lab, &commands));
}

impl Foreign for Frr {
    fn start(&self, lab: &Lab, asn: u32) -> Running {
        start(lab, &config(asn, "", ""))
    }

    fn received(&self, lab: &Lab, prefix: &str) -> Option<Received> {
        let path = path(lab, prefix, "10.77.0.1")?;
        let as_path = path["aspath"]["string"].as_str()?;
        Some(Received {
            next_hop: path["nexthops"][0]["ip"].as_str()?.to_owned(),
            as_path: if as_path == "Local" { "" } else { as_path }.to_owned(),
            local_pref: number(&path["locPrf"]),
            med: number(&path["metric"]),
            communities: texts(&path["community"]["list"])
                .chain(texts(&path["largeCommunity"]["list"]))
                .collect(),
        })
    }

    fn withdraw(&self, lab: &Lab, asn: u32) {
        configure(lab, asn, &["address-family ipv4 unicast", "no network 10.99.1.0/24"]);
    }

    fn refresh(&self, lab: &Lab) -> bool {
        run(&mut vtysh(lab, &["clear bgp ipv4 unicast 10.77.0.1 in"]));
        true
    }

    fn shut_down(&self, lab: &Lab, asn: u32, message: &str) -> bool {
        configure(lab, asn, &[&format!("neighbor 10.77.0.1 shutdown message {message}")]);
        true
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
    let lab = Lab::new();
    let theirs = config(THEIR_AS, " neighbor 10.77.0.1 password tabby", "");
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS}; password \"tabby\";"));
    let (_frr, _daemon, mut client) = pair(&lab, &theirs, &ours);
    assert_eq!(lab.tcp_counter("b", "TCPMD5Failure"), 0);

    assert!(
        client
            .configure(&ours.replace("tabby", "calico"), false, "wrong")
            .accepted
    );
    eventually("FRR's kernel drops what is signed otherwise", || {
        (lab.tcp_counter("b", "TCPMD5Failure") > 0).then_some(())
    });
    assert_ne!(client.session("Peer").state, "Established");
    assert!(client.configure(&ours, false, "right").accepted);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
}

#[test]
fn frr_and_we_guard_the_session_with_ttl_security() {
    let lab = Lab::new();
    let theirs = config(THEIR_AS, " neighbor 10.77.0.1 ttl-security hops 1", "");
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS}; ttl security on;"));
    let (_frr, _daemon, mut client) = pair(&lab, &theirs, &ours);

    assert!(
        client
            .configure(&ours.replace("ttl security on;", ""), false, "without")
            .accepted
    );
    eventually("FRR's kernel drops what may come from afar", || {
        (lab.tcp_counter("b", "TCPMinTTLDrop") > 0).then_some(())
    });
    assert_ne!(client.session("Peer").state, "Established");
    assert!(client.configure(&ours, false, "with").accepted);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
}

/// A third router of our AS, at 10.77.0.3, whose neighbour reflects.
fn third(reflector: &str) -> String {
    format!(
        "router id 10.77.0.3;
protocol device {{ }}
protocol static own {{ ipv4; route 10.88.0.0/24 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.3 as {OUR_AS}; neighbor {reflector} as {OUR_AS};
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

#[test]
fn we_reflect_between_frr_and_another_client() {
    let lab = Lab::new();
    lab.third();
    let ours = ours("neighbor 10.77.0.2 as 64512; rr client;")
        .replace("export filter mine", "export where source = RTS_BGP")
        + "protocol bgp Third from t { neighbor 10.77.0.3 as 64512; rr client; }\n";
    let (_frr, _daemon, mut client) = pair(&lab, &config(OUR_AS, "", ""), &ours);
    let _third = lab.bird_rs("c", &third("10.77.0.1"));
    let mut other = lab.client("c");
    client.learns("Third", &["10.88.0.0/24 via 10.77.0.3"]);

    let path = eventually("FRR has the reflected route", || {
        path(&lab, "10.88.0.0/24", "10.77.0.1")
    });
    assert_eq!(path["originatorId"], "10.77.0.3", "{path}");
    assert_eq!(path["clusterList"]["list"][0], "10.77.0.1", "{path}");
    assert_eq!(path["nexthops"][0]["ip"], "10.77.0.3", "{path}");

    other.learns("Peer", &["10.99.0.0/24 via 10.77.0.2", "10.99.1.0/24 via 10.77.0.2"]);
    let route = other.route("Peer", "10.99.0.0/24").unwrap();
    assert_eq!(
        (&*route.originator_id, route.cluster_list, route.local_pref),
        ("10.77.0.2", vec!["10.77.0.1".to_owned()], Some(200))
    );
}

#[test]
fn frr_reflects_between_us_and_another_client() {
    let lab = Lab::new();
    lab.third();
    let neighbor = " neighbor 10.77.0.3 remote-as 64512\n neighbor 10.77.0.3 advertisement-interval 0
 neighbor 10.77.0.3 timers connect 1";
    let theirs = config(OUR_AS, neighbor, "  neighbor 10.77.0.1 route-reflector-client").replacen(
        "  neighbor 10.77.0.1 activate",
        "  neighbor 10.77.0.1 activate\n  neighbor 10.77.0.3 activate\n  neighbor 10.77.0.3 route-reflector-client",
        1,
    );
    let _frr = start(&lab, &theirs);
    let _daemon = lab.bird_rs("a", &ours("neighbor 10.77.0.2 as 64512;"));
    let _third = lab.bird_rs("c", &third("10.77.0.2"));
    let (mut client, mut other) = (lab.client("a"), lab.client("c"));
    client.learns(
        "Peer",
        &[
            "10.88.0.0/24 via 10.77.0.3",
            "10.99.0.0/24 via 10.77.0.2",
            "10.99.1.0/24 via 10.77.0.2",
            "fd99::/64 via fd77::2",
        ],
    );
    let route = client.route("Peer", "10.88.0.0/24").unwrap();
    assert_eq!(
        (&*route.originator_id, route.cluster_list),
        ("10.77.0.3", vec!["10.77.0.2".to_owned()])
    );
    let route = eventually("ours arrives at the other client", || {
        other.route("Peer", "10.244.0.0/26")
    });
    assert_eq!(
        (&*route.originator_id, route.cluster_list, route.local_pref),
        ("10.77.0.1", vec!["10.77.0.2".to_owned()], Some(150))
    );
}

#[test]
fn frr_is_told_when_it_is_removed() {
    let lab = Lab::new();
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let (_frr, _daemon, mut client) = pair(&lab, &config(THEIR_AS, "", ""), &ours);
    let without = ours.lines().filter(|line| !line.starts_with("protocol bgp"));
    let without: Vec<&str> = without.collect();
    assert!(client.configure(&without.join("\n"), false, "without").accepted);
    eventually_or(|| {
        let shown = json(&lab, "neighbors 10.77.0.1").unwrap_or_default();
        let shown = &shown["10.77.0.1"];
        if shown["lastNotificationReason"] == "Cease/Peer De-configured" {
            Ok(())
        } else {
            Err(format!(
                "FRR does not know why: {}, {}",
                shown["lastResetDueTo"], shown["lastNotificationReason"]
            ))
        }
    });
    eventually("FRR forgets our routes", || {
        path(&lab, "10.244.0.0/26", "10.77.0.1").is_none().then_some(())
    });
}
