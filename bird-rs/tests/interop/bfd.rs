//! BFD with BIRD 2 and with FRR's bfdd: a path that swallows packets ends the BGP session long before the hold time.

use std::time::{Duration, Instant};

use crate::frr;
use crate::lab::{Client, Lab, Running, eventually, run, tool};

/// Three packets of 100 ms: BFD knows within 300 ms. The hold time is 90 s, so nothing else can have noticed.
const TIMERS: &str = "interval 100 ms; multiplier 3;";
/// From the cut until the session is seen to be down, with room for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Ours, in namespace a, with this of BFD and of the BGP session.
fn ours(bfd: &str, session: &str) -> String {
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol bfd {{ {bfd} }}
protocol static own4 {{ ipv4; route 10.244.0.0/26 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90;
  graceful restart on; graceful restart time 60;
  {session}
}}
"
    )
}

/// BIRD's, in namespace b.
fn birds(bfd: &str, session: &str) -> String {
    format!(
        "router id 10.77.0.2;
log stderr all;
protocol device {{ }}
protocol bfd {{ {bfd} }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; }}
protocol bgp tortie {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90; graceful restart on;
  {session}
}}
"
    )
}

const CHANNEL: &str = "ipv4 { import all; export where source = RTS_STATIC; };";
const OURS: &str = "local 10.77.0.1 as 64512; neighbor 10.77.0.2 as 65002; direct;";
const THEIRS: &str = "local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 64512; direct;";
const LEARNED: [&str; 1] = ["10.99.0.0/24 via 10.77.0.2"];

/// The state of the session with a peer, as `show bfd sessions` of the daemon whose socket has this name has it.
fn state(lab: &Lab, daemon: &str, peer: &str, interface: &str) -> Option<String> {
    let shown = lab.birdc_of(daemon, "show bfd sessions");
    let rows = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows
        .into_iter()
        .find(|row| row.len() == 6 && row[..2] == [peer, interface])?;
    Some(row[2].to_owned())
}

fn is_up(lab: &Lab, daemon: &str, peer: &str, interface: &str) {
    eventually(&format!("{daemon}'s BFD with {peer} is up"), || {
        (state(lab, daemon, peer, interface)? == "Up").then_some(())
    });
}

/// From now on everything that comes to b or leaves it is lost, TCP and BFD alike; the link stays.
fn cut(lab: &Lab) -> Instant {
    let rules = "table inet cut {
  chain arriving { type filter hook prerouting priority -300; policy drop; }
  chain leaving { type filter hook output priority -300; policy drop; }
}
";
    let rules = lab.write("cut.nft", rules);
    let start = Instant::now();
    run(lab.command("b", tool("/usr/sbin/nft")).arg("-f").arg(rules));
    start
}

fn mend(lab: &Lab) {
    run(lab
        .command("b", tool("/usr/sbin/nft"))
        .args(["delete", "table", "inet", "cut"]));
}

/// Cuts, and gives how long our session outlived it.
fn session_ends(lab: &Lab, client: &mut Client, with: &str) -> Duration {
    let start = cut(lab);
    eventually("the session ends", || {
        (client.session("Peer").state != "Established").then_some(())
    });
    let took = start.elapsed();
    println!(
        "BFD with {with}: the BGP session was down {} ms after the cut; its hold time is 90 s",
        took.as_millis()
    );
    assert!(took < SLACK, "{took:?}");
    assert_eq!(client.session("Peer").last_error, "BFD session down");
    took
}

#[test]
fn a_path_that_swallows_packets_ends_the_session_with_bird_and_its_routes() {
    let lab = Lab::new();
    let timers = format!("interface \"eth*\" {{ {TIMERS} }};");
    let _bird = lab.bird("b", &birds(&timers, &format!("{THEIRS} bfd on; {CHANNEL}")), false);
    let _daemon = lab.bird_rs("a", &ours(&timers, &format!("{OURS} bfd on; {CHANNEL}")));
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    is_up(&lab, "a", "10.77.0.2", "eth0");
    is_up(&lab, "bird", "10.77.0.1", "eth0");
    eventually("both have agreed on the fast timers", || {
        let shown = lab.birdc_of("a", "show bfd sessions");
        (shown.contains("bfd1:") && shown.contains("0.100") && shown.contains("0.300")).then_some(())
    });

    session_ends(&lab, &mut client, "BIRD");
    assert_eq!(
        client.learned("Peer"),
        Vec::<String>::new(),
        "graceful restart keeps nothing of a path that failed"
    );
    eventually("BIRD's end is down too", || {
        (!lab.birdc("show protocols tortie").contains("Established")).then_some(())
    });

    mend(&lab);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    is_up(&lab, "a", "10.77.0.2", "eth0");
}

#[test]
fn other_timers_are_agreed_on_while_the_session_stays_up() {
    let lab = Lab::new();
    let timers = format!("interface \"eth*\" {{ {TIMERS} }};");
    let _bird = lab.bird(
        "b",
        &birds(&timers, &format!("{THEIRS} bfd graceful; {CHANNEL}")),
        false,
    );
    let text = |timers: &str| ours(timers, &format!("{OURS} bfd {{ strict; }}; {CHANNEL}"));
    let mut daemon = lab.bird_rs("a", &text(&timers));
    let mut client = lab.client("a");
    client.established("Peer");
    is_up(&lab, "a", "10.77.0.2", "eth0");
    let slower = text("interface \"eth0\" { interval 400 ms; multiplier 4; };");
    let applied = client.configure(&slower, false, "2");
    assert!(applied.accepted, "{applied:?}");
    let actions: Vec<_> = applied.changes.iter().map(|change| &*change.protocol).collect();
    assert_eq!(actions, ["bfd1"]);
    eventually("BIRD has agreed", || {
        let (we, they) = (lab.birdc_of("a", "show bfd sessions"), lab.birdc("show bfd sessions"));
        (we.contains("0.400") && they.contains("1.600")).then_some(())
    });
    let session = client.session("Peer");
    assert_eq!((&*session.state, &*session.last_error), ("Established", ""));
    assert_eq!(
        lab.log("a").matches("BFD session").count(),
        lab.log("a").matches("handshake").count()
    );

    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    eventually("BIRD hears the end", || {
        (!lab.birdc("show bfd sessions").contains("Up")).then_some(())
    });
    assert!(!lab.log("bird").contains("Control detection time expired"));
    // Stock BIRD takes also AdminDown for a failure; `graceful` at its side keeps the routes.
    let kept = lab.birdc("show route protocol tortie");
    assert!(kept.contains("10.244.0.0/26"), "our stop keeps our routes: {kept}");
}

/// Addresses that are a hop further away on both sides.
fn further(lab: &Lab) {
    lab.address("a", "lo", "10.77.1.1/32");
    lab.address("b", "lo", "10.77.1.2/32");
    for (side, to, via) in [("a", "10.77.1.2/32", "10.77.0.2"), ("b", "10.77.1.1/32", "10.77.0.1")] {
        run(lab.command(side, "ip").args(["route", "add", to, "via", via]));
    }
}

/// Ours: a session of one hop over IPv6, and one of several.
fn near_and_far() -> String {
    let bfd = format!(
        "interface \"eth*\" {{ {TIMERS} }}; multihop {{ {TIMERS} }}; neighbor fd77::2 dev \"eth0\";
  neighbor 10.77.1.2 local 10.77.1.1 multihop on;"
    );
    ours(&bfd, &format!("{OURS} {CHANNEL}"))
}

const NEAR_AND_FAR: [(&str, &str); 2] = [("fd77::2", "eth0"), ("10.77.1.2", "---")];

/// Both sessions are up; a cut ends both.
fn both_go_down(lab: &Lab, with: &str) {
    for (peer, interface) in NEAR_AND_FAR {
        is_up(lab, "a", peer, interface);
    }
    let start = cut(lab);
    for (peer, interface) in NEAR_AND_FAR {
        eventually("it goes down", || {
            (state(lab, "a", peer, interface)? == "Down").then_some(())
        });
    }
    println!(
        "BFD of one and several hops with {with}: down {} ms after the cut",
        start.elapsed().as_millis()
    );
    assert!(start.elapsed() < SLACK);
}

#[test]
fn ipv6_and_several_hops_and_several_sessions() {
    let lab = Lab::new();
    further(&lab);
    let theirs = format!(
        "multihop {{ {TIMERS} }}; neighbor fd77::1 dev \"eth0\" local fd77::2; neighbor 10.77.1.1 local 10.77.1.2 multihop on;"
    );
    let _bird = lab.bird("b", &birds(&theirs, &format!("{THEIRS} {CHANNEL}")), false);
    let _daemon = lab.bird_rs("a", &near_and_far());
    is_up(&lab, "bird", "fd77::1", "eth0");
    is_up(&lab, "bird", "10.77.1.1", "---");
    both_go_down(&lab, "BIRD");
}

/// A static route whose gateway is watched, in a program whose control socket has this name.
fn a_static_route_is_watched(lab: &Lab, daemon: &str) {
    let routes = |wanted: &str| {
        eventually(&format!("{daemon} has {wanted:?}"), || {
            let shown = lab.birdc_of(daemon, "show route table master4");
            let prefixes = shown.lines().filter_map(|line| line.split_once("/24 "));
            let mut prefixes: Vec<&str> = prefixes.map(|(prefix, _)| prefix).collect();
            prefixes.sort_unstable();
            (prefixes.join(" ") == wanted).then_some(())
        });
    };
    is_up(lab, daemon, "10.77.0.2", "eth0");
    routes("10.1.0.0 10.2.0.0");
    assert!(lab.birdc_of(daemon, "show static").contains("via 10.77.0.2 (bfd)\n"));
    cut(lab);
    routes("10.2.0.0");
    assert!(
        lab.birdc_of(daemon, "show static")
            .contains("via 10.77.0.2 (bfd) (dormant)")
    );
    mend(lab);
    routes("10.1.0.0 10.2.0.0");
}

const WATCHED: &str = "router id 10.77.0.1;
protocol device { }
protocol bfd { interface \"eth*\" { interval 100 ms; multiplier 3; }; }
protocol static watched { ipv4; route 10.1.0.0/24 via 10.77.0.2 bfd; route 10.2.0.0/24 via 10.77.0.2; }
";

#[test]
fn a_static_route_with_bfd_goes_with_the_path_as_birds_does() {
    let theirs = format!(
        "router id 10.77.0.2; protocol device {{ }} protocol bfd {{ neighbor 10.77.0.1 dev \"eth0\"; interface \"eth*\" {{ {TIMERS} }}; }}"
    );
    let lab = Lab::new();
    let _other = lab.bird_rs("b", &theirs);
    let _bird = lab.bird("a", WATCHED, false);
    a_static_route_is_watched(&lab, "bird");
    let lab = Lab::new();
    let other = lab.bird_rs("b", &theirs);
    let _ours = lab.bird_rs("a", WATCHED);
    a_static_route_is_watched(&lab, "a");
    // Who is gone is no path.
    drop(other);
    eventually("the route goes", || {
        (!lab.birdc_of("a", "show route").contains("10.1.0.0/24")).then_some(())
    });
}

// === FRR ===

fn bfdd(lab: &Lab) -> Running {
    let control = lab.path("frr").join("bfdd.sock");
    frr::daemon(lab, "bfdd", &["--bfdctl", &control.display().to_string()])
}

/// zebra carries what bgpd and bfdd say to each other.
fn frr(lab: &Lab) -> [Running; 3] {
    let timers = "transmit-interval 100\n receive-interval 100\n detect-multiplier 3";
    let config = format!(
        "hostname frr
bfd
 profile fast
  {timers}
 !
!
router bgp 65002
 bgp router-id 10.77.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.77.0.1 remote-as 64512
 neighbor 10.77.0.1 timers 30 90
 neighbor 10.77.0.1 timers connect 1
 neighbor 10.77.0.1 bfd
 neighbor 10.77.0.1 bfd profile fast
 address-family ipv4 unicast
  network 10.99.0.0/24
 exit-address-family
!
"
    );
    let (zebra, bgpd) = frr::start_with_zebra(lab, &config);
    [zebra, bfdd(lab), bgpd]
}

#[test]
fn a_path_that_swallows_packets_ends_the_session_with_frr() {
    let lab = Lab::new();
    let _frr = frr(&lab);
    let _daemon = lab.bird_rs("a", &ours("", &format!("{OURS} bfd {{ {TIMERS} }}; {CHANNEL}")));
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    is_up(&lab, "a", "10.77.0.2", "eth0");
    session_ends(&lab, &mut client, "FRR");
    assert_eq!(client.learned("Peer"), Vec::<String>::new());
    mend(&lab);
    client.established("Peer");
    is_up(&lab, "a", "10.77.0.2", "eth0");
}

#[test]
fn ipv6_and_several_hops_with_frr() {
    let lab = Lab::new();
    further(&lab);
    let timers = "  transmit-interval 100\n  receive-interval 100\n  detect-multiplier 3\n !\n";
    let config = format!(
        "hostname frr
bfd
 peer fd77::1 local-address fd77::2 interface eth0
{timers} peer 10.77.1.1 multihop local-address 10.77.1.2
{timers}!
"
    );
    let _frr = frr::start_with_zebra(&lab, &config);
    let _bfdd = bfdd(&lab);
    let _daemon = lab.bird_rs("a", &near_and_far());
    both_go_down(&lab, "FRR");
}
