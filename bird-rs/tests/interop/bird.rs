//! Stock BIRD 2, and bird-rs itself.

use crate::lab::{self, Lab, eventually, talk};

/// Ours, in namespace a. `peer` is the body of the protocol named Peer.
fn ours(peer: &str) -> String {
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.244.0.0/26 blackhole; route 10.244.0.64/26 blackhole; }}
protocol static own6 {{ ipv6; route fd00:244::/64 blackhole; }}
protocol felix {{ ipv4 {{ export where source = RTS_BGP; }}; ipv6 {{ export where source = RTS_BGP; }}; }}
template bgp t {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90;
  graceful restart on; graceful restart time 60;
}}
protocol bgp Peer from t {{ {peer} }}
"
    )
}

/// BIRD's, in namespace b.
fn birds(peer: &str) -> String {
    format!(
        "router id 10.77.0.2;
log stderr all;
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; route 10.99.1.0/24 blackhole; }}
protocol static s6 {{ ipv6; route fd99::/64 blackhole; }}
protocol bgp tortie {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90; graceful restart on;
  {peer}
}}
"
    )
}

const OUR_CHANNELS: &str = "ipv4 { import all; export where source = RTS_STATIC; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address fd77::1; };";
const BIRDS_CHANNELS: &str = "ipv4 { import all; export where source = RTS_STATIC; };
  ipv6 { import all; export where source = RTS_STATIC; next hop self; };";

const LEARNED: [&str; 3] = [
    "10.99.0.0/24 via 10.77.0.2",
    "10.99.1.0/24 via 10.77.0.2",
    "fd99::/64 via fd77::2",
];

fn ibgp() -> (String, String) {
    let ours = ours(&format!(
        "local 10.77.0.1 as 64512; neighbor 10.77.0.2 as 64512; {OUR_CHANNELS}"
    ));
    let birds = birds(&format!(
        "local 10.77.0.2 as 64512; neighbor 10.77.0.1 as 64512; direct; {BIRDS_CHANNELS}"
    ));
    (ours, birds)
}

fn bird_knows(lab: &Lab, what: &[&str]) {
    eventually(&format!("BIRD knows {what:?}"), || {
        let routes = lab.birdc("show route all protocol tortie");
        what.iter().all(|line| routes.contains(line)).then_some(())
    });
}

#[test]
fn an_internal_session_with_bird_carries_both_families_both_ways() {
    let lab = Lab::new();
    let (ours, birds) = ibgp();
    let _bird = lab.bird("b", &birds, false);
    let mut daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    bird_knows(
        &lab,
        &[
            "10.244.0.0/26",
            "10.244.0.64/26",
            "BGP.next_hop: 10.77.0.1",
            "BGP.local_pref: 100",
            "BGP.as_path: \n",
        ],
    );
    eventually("BIRD knows the IPv6 route", || {
        let routes = lab.birdc("show route all table master6 protocol tortie");
        (routes.contains("fd00:244::/64") && routes.contains("BGP.next_hop: fd77::1")).then_some(())
    });
    client.fib_until(|routes, in_sync| {
        in_sync && routes.len() == 3 && routes["10.99.0.0/24"] == "10.77.0.2" && routes["fd99::/64"] == "fd77::2"
    });
    let session = client.session("Peer");
    assert_eq!(
        (session.hold_time_s, session.neighbor_as, &*session.neighbor_id),
        (90, 64512, "10.77.0.2")
    );
    assert!(
        session
            .neighbor_capabilities
            .iter()
            .any(|capability| capability.contains("4-octet")),
        "{session:?}"
    );

    let shown = lab.birdc_of("a", "show protocols");
    assert!(
        shown.contains("BIRD 2.0.12 ready.") && shown.contains("Established"),
        "{shown}"
    );
    assert!(lab.birdc_of("a", "show status").contains("Router ID is 10.77.0.1"));
    assert!(lab.birdc_of("a", "configure check").contains("Configuration OK"));

    daemon.signal("-TERM");
    assert!(daemon.ended().success());
    assert!(!lab.path("a.pid").exists());
    let kept = lab.birdc("show route protocol tortie");
    assert!(
        kept.contains("10.244.0.0/26"),
        "a stop without NOTIFICATION keeps our routes: {kept}"
    );
}

#[test]
fn an_external_session_with_a_password_and_ttl_security() {
    let lab = Lab::new();
    let guard = "password \"tabby\"; ttl security on;";
    let ours = ours(&format!(
        "local 10.77.0.1 as 64512; neighbor 10.77.0.2 as 4200000001; {guard} {OUR_CHANNELS}"
    ));
    let birds = birds(&format!(
        "local 10.77.0.2 as 4200000001; neighbor 10.77.0.1 as 64512; {guard} {BIRDS_CHANNELS}"
    ));
    let _bird = lab.bird("b", &birds, false);
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    bird_knows(
        &lab,
        &["10.244.0.0/26", "BGP.as_path: 64512", "BGP.next_hop: 10.77.0.1"],
    );
    let route = client
        .routes()
        .into_iter()
        .find(|route| route.protocol == "Peer")
        .unwrap();
    assert_eq!(
        (&*route.as_path, &*route.origin, route.best),
        ("4200000001", "IGP", true)
    );

    let wrong = ours_with_password(&ours, "calico");
    let response = client.configure(&wrong, false, "2");
    assert!(response.accepted, "{:?}", response.diagnostics);
    // It is the connection's now. The session stays until its hold time is over, or comes to an end otherwise.
    assert_eq!(client.session("Peer").state, "Established");
    lab.birdc("restart Peer");
    eventually("the wrong password is refused", || {
        (lab.tcp_counter("a", "TCPMD5Failure") > 0).then_some(())
    });
    assert!(client.configure(&ours, false, "3").accepted);
    client.established("Peer");
}

fn ours_with_password(config: &str, password: &str) -> String {
    config.replace("tabby", password)
}

#[test]
fn whoever_is_killed_finds_its_routes_kept() {
    let lab = Lab::new();
    let (ours, birds) = ibgp();
    let bird = lab.bird("b", &birds, false);
    let daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.learns("Peer", &LEARNED);
    bird_knows(&lab, &["10.244.0.0/26"]);

    drop(daemon);
    let kept = lab.birdc("show route protocol tortie");
    assert!(kept.contains("10.244.0.0/26"), "{kept}");
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    bird_knows(&lab, &["10.244.0.0/26"]);
    eventually("the new in-sync", || client.status().fib_in_sync.then_some(()));

    drop(bird);
    let stale: Vec<String> = LEARNED.iter().map(|route| format!("{route} stale")).collect();
    client.learns("Peer", &stale.iter().map(String::as_str).collect::<Vec<_>>());
    client.fib_until(|routes, in_sync| in_sync && routes.len() == 3);
    let _bird = lab.bird("b", &birds, true);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
}

#[test]
fn two_of_us_converge_and_withdraw() {
    let lab = Lab::new();
    let a = ours(&format!(
        "local 10.77.0.1 as 64512; neighbor 10.77.0.2 as 65001; {OUR_CHANNELS}"
    ));
    let b = "router id 10.77.0.2;
protocol device { }
protocol static s4 { ipv4; route 10.99.0.0/24 blackhole; route 10.99.1.0/24 blackhole; }
protocol static s6 { ipv6; route fd99::/64 blackhole; }
protocol bgp Peer { connect delay time 1; connect retry time 2; graceful restart on;
  local 10.77.0.2 as 65001; neighbor 10.77.0.1 as 64512;
  ipv4 { import all; export all; }; ipv6 { import all; export all; next hop address fd77::2; }; }
";
    let _b = lab.bird_rs("b", b);
    let _a = lab.bird_rs("a", &a);
    let (mut left, mut right) = (lab.client("a"), lab.client("b"));
    left.established("Peer");
    right.established("Peer");
    left.learns("Peer", &LEARNED);
    right.learns(
        "Peer",
        &[
            "10.244.0.0/26 via 10.77.0.1",
            "10.244.0.64/26 via 10.77.0.1",
            "fd00:244::/64 via fd77::1",
        ],
    );

    let fewer = b.replace("route 10.99.1.0/24 blackhole;", "");
    let checked = right.configure(&fewer, true, "x");
    assert!(checked.accepted && checked.applied_revision.is_empty(), "{checked:?}");
    assert_eq!(left.learned("Peer").len(), 3, "only checked");
    let applied = right.configure(&fewer, false, "r2");
    assert_eq!((applied.accepted, &*applied.applied_revision), (true, "r2"));
    assert_eq!(
        applied
            .changes
            .iter()
            .map(|change| &*change.protocol)
            .collect::<Vec<_>>(),
        ["s4"]
    );
    left.learns("Peer", &["10.99.0.0/24 via 10.77.0.2", "fd99::/64 via fd77::2"]);
    left.established("Peer");
}

#[test]
fn a_peer_that_speaks_nonsense_does_no_harm() {
    let lab = Lab::new();
    let (ours, birds) = ibgp();
    // A second peer, at an address of b that nothing but our nonsense comes from.
    let ours = format!(
        "{ours}protocol bgp Odd from t {{ local 10.77.0.1 as 64512; neighbor 10.77.0.3 as 64512; passive on; ipv4 {{ import all; export all; }}; }}\n"
    );
    lab::run(
        lab.command("b", "ip")
            .args(["address", "add", "10.77.0.3/32", "dev", "eth0"]),
    );
    let _bird = lab.bird("b", &birds, false);
    let mut daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.learns("Peer", &LEARNED);
    lab::run(
        lab.command("b", "ip")
            .args(["route", "replace", "10.77.0.1/32", "dev", "eth0", "src", "10.77.0.3"]),
    );

    let to = "10.77.0.1:179".parse().unwrap();
    let header = |length: u16, kind: u8| {
        let mut octets = vec![0xff; 16];
        octets.extend(length.to_be_bytes());
        octets.push(kind);
        octets
    };
    let mut open = header(29, 1);
    open.extend([4, 0xfc, 0, 0, 90, 10, 77, 0, 3, 0]);
    let mut broken_update = open.clone();
    broken_update.extend(header(19, 4));
    broken_update.extend(header(23, 2));
    broken_update.extend([0xff, 0xff, 0, 0]);
    for octets in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        header(65_535, 2),
        header(18, 4),
        open,
        broken_update,
    ] {
        talk(&lab, "b", to, &octets);
    }
    assert!(daemon.0.try_wait().unwrap().is_none(), "it still runs");
    let session = client.session("Peer");
    assert_eq!((&*session.state, &*session.last_error), ("Established", ""));
    assert_eq!(client.learned("Peer"), LEARNED);
    assert!(!client.session("Odd").last_error.is_empty());
    assert!(!lab.log("a").contains("internal error"));
}

#[test]
fn a_wrong_configuration_is_refused_at_the_start_and_at_a_reload() {
    let lab = Lab::new();
    let wrong = lab.write(
        "wrong.conf",
        "router id 10.0.0.1;\nprotocol bgp x {\n  neighbour 10.0.0.2 as 1;\n}\n",
    );
    for flag in [&["-p"][..], &[]] {
        let output = lab
            .command("a", env!("CARGO_BIN_EXE_bird-rs"))
            .arg("-c")
            .arg(&wrong)
            .args(flag)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("{}:3:3 ", wrong.display())), "{said}");
    }
    let missing = lab
        .command("a", env!("CARGO_BIN_EXE_bird-rs"))
        .args(["-p", "-c", "/nonexistent/x.conf"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("/nonexistent/x.conf: No such file or directory"));

    let (ours, _) = ibgp();
    let daemon_config = ours;
    let mut daemon = lab.bird_rs("a", &daemon_config);
    let mut client = lab.client("a");
    let before = client.protocols().len();
    let response = client.configure("router id 10.0.0.1;\nprotocol bgp x { }\n", false, "bad");
    assert!(!response.accepted && response.applied_revision.is_empty());
    assert!(
        response
            .diagnostics
            .iter()
            .all(|d| d.file == "given.conf" && d.line == 2),
        "{response:?}"
    );
    assert_eq!(client.protocols().len(), before);

    lab.write("a.conf", "protocol nonsense {\n");
    daemon.signal("-HUP");
    eventually("the rejection is logged", || {
        lab.log("a").contains("the old one stays in force").then_some(())
    });
    assert_eq!(client.protocols().len(), before);
    lab.write(
        "a.conf",
        &format!("{daemon_config}protocol static more {{ ipv4; route 10.1.0.0/16 blackhole; }}\n"),
    );
    daemon.signal("-HUP");
    eventually("the new protocol is there", || {
        (client.protocols().len() == before + 1).then_some(())
    });
}
