//! What a monitoring station makes of what we tell it: pmacct's collector, which logs what it read as JSON, and tshark, which
//! looks at every field.

use serde_json::{Value, json};

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, Setup, THEIR_AS, ours};
use crate::lab::{Lab, Running, eventually, eventually_or, run, tool};

const STATION: &str = "protocol bmp station {
  station address ip 10.77.0.2 port 1790; monitoring rib in pre_policy; monitoring rib in post_policy;
  system name \"tortie1\"; system description \"a router under test\";
}
";

/// The session's import filter, which refuses one route and changes the others.
const FILTER: &str = "import filter {
  if net = 10.99.1.0/24 then reject;
  bgp_local_pref = 300; bgp_community.add((64512,300));
  accept;
};";

/// pmacct's collector on side b.
fn collector(lab: &Lab) -> Running {
    let log = lab.path("station.json");
    let config = format!(
        "daemonize: false
bmp_daemon_ip: 10.77.0.2
bmp_daemon_port: 1790
bmp_daemon_max_peers: 4
bmp_daemon_msglog_output: json
bmp_daemon_msglog_file: {}
",
        log.display()
    );
    let config = lab.write("station.conf", &config);
    let mut command = lab.command("b", tool("/usr/sbin/pmbmpd"));
    command.arg("-f").arg(config);
    lab.spawn(command, "station")
}

/// What it has logged, without times.
fn told(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.path("station.json")).unwrap_or_default();
    let complete = &text[..text.rfind('\n').unwrap_or_default()];
    let mut told: Vec<Value> = complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for entry in &mut told {
        assert_eq!(entry["bmp_router"], "10.77.0.1");
        let fields = entry.as_object_mut().unwrap();
        for name in [
            "seq",
            "timestamp",
            "timestamp_arrival",
            "bmp_router",
            "bmp_router_port",
            "event_type",
        ] {
            fields.remove(name);
        }
    }
    told
}

/// Waits for an entry of a kind that satisfies; those before `from` do not count.
fn hears(lab: &Lab, from: usize, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mine = |entry: &Value| entry["bmp_msg_type"] == kind && wanted(entry);
    eventually_or(|| {
        let all = told(lab);
        let found = all.iter().skip(from).find(|entry| mine(entry)).cloned();
        found.ok_or_else(|| format!("the station hears {kind}; so far: {all:#?}"))
    })
}

/// What the station says of a prefix in one of the tables last.
fn last(lab: &Lab, post: bool, prefix: &str) -> Option<Value> {
    let is_it = |entry: &Value| entry["ip_prefix"] == prefix && entry["is_post"] == u8::from(post);
    told(lab).into_iter().rfind(is_it)
}

/// Waits until this is what it says last.
fn has(lab: &Lab, post: bool, prefix: &str, wanted: Value) {
    let common = json!({
        "bmp_msg_type": "route_monitor", "peer_ip": "10.77.0.2", "peer_tcp_port": 0, "is_in": 1, "safi": 1,
        "is_post": u8::from(post), "ip_prefix": prefix, "afi": if prefix.contains(':') { 2 } else { 1 },
    });
    let mut all = common;
    let fields = all.as_object_mut().unwrap();
    fields.extend(wanted.as_object().unwrap().clone());
    eventually_or(|| {
        let last = last(lab, post, prefix);
        if last.as_ref() == Some(&all) {
            Ok(())
        } else {
            Err(format!("it has {last:?}, wanted {all}"))
        }
    });
}

/// Us, with a station, and stock BIRD.
fn scene(lab: &Lab) -> (Running, Running) {
    let bird = Bird.start(lab, &Setup::of(THEIR_AS));
    let daemon = lab.bird_rs("a", &config(STATION));
    lab.client("a").established("Peer");
    (bird, daemon)
}

fn config(station: &str) -> String {
    let near = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    format!("{}{station}", near.replace("import all;", FILTER))
}

fn has_all_routes(lab: &Lab) {
    for (prefix, next_hop) in [("10.99.0.0/24", "10.77.0.2"), ("fd99::/64", "fd77::2")] {
        let path = THEIR_AS.to_string();
        has(
            lab,
            false,
            prefix,
            json!({
                "log_type": "update", "bgp_nexthop": next_hop, "as_path": path, "origin": "i", "med": 50,
                "comms": "65002:1", "lcomms": "65002:1:2",
            }),
        );
        has(
            lab,
            true,
            prefix,
            json!({
                "log_type": "update", "bgp_nexthop": next_hop, "as_path": path, "origin": "i", "med": 50,
                "comms": "64512:300 65002:1", "lcomms": "65002:1:2", "local_pref": 300,
            }),
        );
    }
    let plain = json!({
        "log_type": "update", "bgp_nexthop": "10.77.0.2", "as_path": THEIR_AS.to_string(), "origin": "i",
    });
    has(lab, false, "10.99.1.0/24", plain);
}

#[test]
fn a_station_follows_a_session_and_its_routes() {
    let lab = Lab::new();
    let station = collector(&lab);
    let daemons = scene(&lab);
    let hello = hears(&lab, 0, "init", |_| true);
    assert_eq!(
        hello,
        json!({
            "bmp_msg_type": "init", "bmp_init_info_sysname": "tortie1",
            "bmp_init_info_sysdescr": "a router under test",
        })
    );
    let up = hears(&lab, 0, "peer_up", |_| true);
    for (field, wanted) in [
        ("peer_ip", json!("10.77.0.2")),
        ("peer_asn", json!(THEIR_AS)),
        ("peer_type_str", json!("Global Instance Peer")),
        ("bgp_id", json!("10.77.0.2")),
        ("local_ip", json!("10.77.0.1")),
    ] {
        assert_eq!(up[field], wanted, "{up}");
    }
    // One of us opened the connection.
    assert!(up["local_port"] == 179 || up["remote_port"] == 179, "{up}");
    has_all_routes(&lab);
    assert_eq!(last(&lab, true, "10.99.1.0/24"), None, "the filter refuses it");

    // A new policy takes one route and lets the other in; nothing changes before it.
    let mark = told(&lab).len();
    let other = config(STATION).replace("10.99.1.0/24", "10.99.0.0/24");
    lab.client("a").configure(&other, false, "2");
    has(&lab, true, "10.99.0.0/24", json!({"log_type": "withdraw"}));
    let added = hears(&lab, mark, "route_monitor", |entry| {
        entry["ip_prefix"] == "10.99.1.0/24"
    });
    assert_eq!((&added["is_post"], &added["local_pref"]), (&json!(1), &json!(300)));
    assert!(told(&lab)[mark..].iter().all(|entry| entry["is_post"] == 1));

    Bird.withdraw(&lab, &Setup::of(THEIR_AS), "10.99.1.0/24");
    for post in [false, true] {
        has(&lab, post, "10.99.1.0/24", json!({"log_type": "withdraw"}));
    }
    let mark = told(&lab).len();
    assert!(Bird.shut_down(&lab, THEIR_AS, "bye"));
    let down = hears(&lab, mark, "peer_down", |_| true);
    assert_eq!(
        (&down["peer_ip"], &down["reason_type"]),
        (&json!("10.77.0.2"), &json!(3))
    );
    drop((station, daemons));
}

#[test]
fn a_station_that_comes_late_or_again_has_everything() {
    let lab = Lab::new();
    let _daemons = scene(&lab);
    let mut client = lab.client("a");
    client.learns("Peer", &["10.99.0.0/24 via 10.77.0.2", "fd99::/64 via fd77::2"]);
    eventually("birdc shows that it cannot be reached", || {
        let shown = lab.birdc_of("a", "show protocols all station");
        (shown.contains("start") && shown.contains("Last error:         Connection refused")).then_some(())
    });
    let station = collector(&lab);
    hears(&lab, 0, "peer_up", |_| true);
    has_all_routes(&lab);
    let shown = lab.birdc_of("a", "show protocols all station");
    let wanted = [
        "BMP",
        "up",
        "Established",
        "Station address:    10.77.0.2",
        "Station port:       1790",
    ];
    assert!(wanted.iter().all(|part| shown.contains(part)), "{shown}");

    // Another configuration of the station's is a new session with it, and with nobody else.
    let mark = told(&lab).len();
    let only_post = STATION.replace("monitoring rib in pre_policy;", "statistics period 1;");
    let since = client.session("Peer");
    lab.client("a").configure(&config(&only_post), false, "2");
    hears(&lab, mark, "term", |_| true);
    hears(&lab, mark, "peer_up", |_| true);
    hears(&lab, mark, "route_monitor", |entry| entry["ip_prefix"] == "fd99::/64");
    let count = |kind: u8| move |entry: &Value| entry["counter_type"] == kind && entry.get("afi").is_none();
    assert_eq!(hears(&lab, mark, "stats", count(7))["counter_value"], 3);
    assert_eq!(hears(&lab, mark, "stats", count(8))["counter_value"], 2);
    let routes = told(&lab).into_iter().skip(mark);
    let mut routes = routes.filter(|entry| entry["bmp_msg_type"] == "route_monitor");
    assert!(routes.all(|entry| entry["is_post"] == 1));
    assert_eq!(client.session("Peer").updates_received, since.updates_received);
    assert!(
        told(&lab)
            .iter()
            .skip(mark)
            .all(|entry| entry["bmp_msg_type"] != "peer_down")
    );

    // The station ends, and is there again.
    drop(station);
    eventually("the end is noticed", || {
        lab.birdc_of("a", "show protocols station")
            .contains("start")
            .then_some(())
    });
    let mark = told(&lab).len();
    let _station = collector(&lab);
    hears(&lab, mark, "peer_up", |_| true);
    hears(&lab, mark, "route_monitor", |entry| {
        entry["ip_prefix"] == "10.99.0.0/24"
    });

    // What we end we say.
    let mark = told(&lab).len();
    assert!(lab.birdc_of("a", "disable Peer").contains("disabled"));
    let down = hears(&lab, mark, "peer_down", |_| true);
    assert_eq!(down["reason_type"], 1);
    assert!(lab.birdc_of("a", "disable station").contains("disabled"));
    hears(&lab, mark, "term", |_| true);
    eventually("the connection is closed", || {
        let shown = lab.birdc_of("a", "show protocols station");
        shown.contains("down").then_some(())
    });
}

/// What tshark captures on side b of the station's connection, until it is told to end. Each packet is in its log too.
fn capture(lab: &Lab) -> Running {
    let mut command = lab.command("b", tool("/usr/bin/tshark"));
    command.args(["-i", "eth0", "-f", "tcp port 1790", "-P", "-l", "-w"]);
    command.arg(lab.path("bmp.pcap"));
    let capture = lab.spawn(command, "tshark");
    // It says so before it does: nobody listens yet, and an attempt to connect is there to be captured.
    eventually("tshark captures", || {
        let mut attempt = lab.command("a", tool("/bin/bash"));
        let refused = attempt
            .args(["-c", "exec 3<>/dev/tcp/10.77.0.2/1790"])
            .output()
            .unwrap();
        assert!(!refused.status.success());
        lab.log("tshark").contains(" 1790 ").then_some(())
    });
    capture
}

#[test]
fn tshark_reads_the_session_of_an_ipv6_peer() {
    let lab = Lab::new();
    let mut capture = capture(&lab);
    let _station = collector(&lab);
    let setup = Setup {
        over_v6: true,
        ..Setup::of(THEIR_AS)
    };
    let _bird = Bird.start(&lab, &setup);
    let near = ours(&format!("neighbor fd77::2 as {THEIR_AS};")).replace("local 10.77.0.1", "local fd77::1");
    let near = near.replace("ipv4 {", "ipv4 { extended next hop on;");
    let _daemon = lab.bird_rs("a", &format!("{near}{STATION}"));
    lab.client("a").established("Peer");
    for prefix in ["10.99.0.0/24", "fd99::/64"] {
        hears(&lab, 0, "route_monitor", |entry| {
            entry["ip_prefix"] == prefix && entry["is_post"] == 1
        });
    }
    assert!(Bird.shut_down(&lab, THEIR_AS, "bye"));
    hears(&lab, 0, "peer_down", |_| true);
    assert!(lab.birdc_of("a", "disable station").contains("disabled"));
    hears(&lab, 0, "term", |_| true);
    eventually("the end of the connection is captured", || {
        lab.log("tshark").contains("[FIN").then_some(())
    });
    capture.signal("-INT");
    capture.ended();

    let messages = dissected(&lab);
    let of = |kind: &str| -> Vec<&String> { messages.iter().filter(|text| text.starts_with(kind)).collect() };
    assert!(messages[0].starts_with("Initiation"), "{messages:?}");
    let end = messages.last().unwrap();
    assert!(
        end.starts_with("Termination") && end.contains("Reason: Session administratively closed (0)"),
        "{end}"
    );
    let [up] = of("Peer Up")[..] else {
        panic!("{messages:?}")
    };
    let opens: Vec<&str> = up.split("OPEN Message\n").collect();
    assert!(opens[0].contains("Local Address: fd77::1"), "{up}");
    for (open, asn) in [(opens[1], 64512), (opens[2], THEIR_AS)] {
        assert!(
            open.contains(&format!("AS Number: {asn}\n")) && open.contains("Extended Next Hop Encoding"),
            "{open}"
        );
    }
    let [down] = of("Peer Down")[..] else {
        panic!("{messages:?}")
    };
    let wanted = ["Reason: Remote System, Notification (3)", "Shutdown Communication: bye"];
    assert!(wanted.iter().all(|part| down.contains(part)), "{down}");
    let routes = of("Route Monitoring");
    for text in routes.iter().chain([&up, &down]) {
        assert!(
            text.contains("IPv6: Set") && text.contains("Address: fd77::2"),
            "{text}"
        );
        assert!(text.contains("AS PATH: Not set"), "four octets: {text}");
    }
    let path = format!("AS_PATH: {THEIR_AS} \n");
    for view in ["Post-policy: Not set", "Post-policy: Set"] {
        let ours: Vec<_> = routes.iter().filter(|text| text.contains(view)).collect();
        let has = |parts: &[&str]| ours.iter().any(|text| parts.iter().all(|part| text.contains(part)));
        assert!(
            has(&["IPv4 prefix: 10.99.0.0", "Next hop: fd77::2", &path]),
            "{view}: {ours:?}"
        );
        assert!(
            has(&[
                "IPv6 prefix: fd99::",
                "Next hop: fd77::2",
                "COMMUNITIES: 65002:1 ",
                &path
            ]),
            "{view}: {ours:?}"
        );
        // Both End-of-RIBs.
        assert!(has(&["Total Path Attribute Length: 0\n"]), "{view}: {ours:?}");
        assert!(
            has(&["Total Path Attribute Length: 6\n", "MP_UNREACH_NLRI"]),
            "{view}: {ours:?}"
        );
    }
}

/// BMP's messages in what was captured, as tshark explains them, each beginning with its type.
fn dissected(lab: &Lab) -> Vec<String> {
    let mut command = lab.command("b", tool("/usr/bin/tshark"));
    command.arg("-r").arg(lab.path("bmp.pcap"));
    let output = run(command.args(["-d", "tcp.port==1790,bmp", "-Y", "bmp", "-O", "bmp,bgp"]));
    // Whether the peer had a link-local address yet, to tell beside the global one, is a matter of the moment.
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace("Next hop: IPv6=", "Next hop: ");
    for complaint in ["Malformed", "Expert Info (Error", "Expert Info (Warning"] {
        assert!(!text.contains(complaint), "{text}");
    }
    let messages = text.split("BGP Monitoring Protocol, Type ").skip(1);
    messages.map(str::to_owned).collect()
}
