//! Next hops followed in a real kernel: internal peers at loopback addresses, reached through static routes.

use std::collections::BTreeMap;

use crate::lab::{Lab, Running, eventually, run};

/// The router that learns, in namespace a.
const LEARNER: &str = "router id 10.77.0.1;
protocol device { }
protocol felix { ipv4 { export where source = RTS_BGP; }; ipv6 { export where source = RTS_BGP; }; }
template bgp t {
  local 10.255.0.1 as 64512; multihop;
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90;
  ipv4 { import all; export none; }; ipv6 { import all; export none; };
}
protocol bgp B from t { neighbor 10.255.0.2 as 64512; }
protocol bgp C from t { neighbor 10.255.0.3 as 64512; }
";

/// Those that tell, all of them the same.
fn teller(number: u8) -> String {
    format!(
        "router id 10.77.0.{number};
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.99.0.0/24 blackhole; }}
protocol static own6 {{ ipv6; route fd99::/64 blackhole; }}
protocol bgp A {{
  local 10.255.0.{number} as 64512; neighbor 10.255.0.1 as 64512; multihop;
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90;
  ipv4 {{ import none; export all; }}; ipv6 {{ import none; export all; }};
}}
"
    )
}

fn ip(lab: &Lab, side: &str, args: &str) {
    run(lab.command(side, "ip").args(args.split(' ')));
}

/// A learner and two tellers, loopback to loopback.
fn start(lab: &Lab) -> [Running; 3] {
    start_with(lab, LEARNER)
}

fn start_with(lab: &Lab, learner: &str) -> [Running; 3] {
    lab.third();
    ip(lab, "c", "link set lo up");
    for (side, number) in [("a", 1), ("b", 2), ("c", 3)] {
        lab.address(side, "lo", &format!("10.255.0.{number}/32"));
        lab.address(side, "lo", &format!("fdff::{number}/128"));
    }
    for (number, metric) in [(2, 10), (3, 20)] {
        ip(
            lab,
            "a",
            &format!("route add 10.255.0.{number} via 10.77.0.{number} metric {metric}"),
        );
        ip(
            lab,
            "a",
            &format!("route add fdff::{number} via fd77::{number} metric {metric}"),
        );
    }
    for side in ["b", "c"] {
        ip(lab, side, "route add 10.255.0.1 via 10.77.0.1");
    }
    [
        lab.bird_rs("b", &teller(2)),
        lab.bird_rs("c", &teller(3)),
        lab.bird_rs("a", learner),
    ]
}

/// Does felix have this prefix by this gateway?
fn leads(fib: &BTreeMap<String, String>, prefix: &str, gateway: &str) -> bool {
    fib.get(prefix).is_some_and(|hop| hop == gateway)
}

#[test]
fn the_kernels_routes_decide_which_peer_is_used_and_whether() {
    let lab = Lab::new();
    let _daemons = start(&lab);
    let mut client = lab.client("a");
    client.established("B");
    client.established("C");
    client.learns("B", &["10.99.0.0/24 via 10.255.0.2", "fd99::/64 via fdff::2"]);
    client.learns("C", &["10.99.0.0/24 via 10.255.0.3", "fd99::/64 via fdff::3"]);
    client.fib_until(|fib, in_sync| {
        in_sync && leads(fib, "10.99.0.0/24", "10.77.0.2") && leads(fib, "fd99::/64", "fd77::2")
    });
    let best = client.route("B", "10.99.0.0/24").unwrap();
    assert_eq!((best.best, &*best.reason), (true, "IGP metric"));
    assert_eq!(best.next_hops[0].interface, "eth0");

    // The metric of the way to b grows beyond that to c.
    ip(&lab, "a", "route add 10.255.0.2 via 10.77.0.2 metric 30");
    ip(&lab, "a", "route del 10.255.0.2 via 10.77.0.2 metric 10");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.3") && leads(fib, "fd99::/64", "fd77::2"));

    // The way to c goes: its path stays, with the reason, and b's is used.
    ip(&lab, "a", "route del 10.255.0.3");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.2"));
    let lost = client.route("C", "10.99.0.0/24").unwrap();
    assert_eq!(
        (lost.best, &*lost.filtered_reason),
        (false, "next hop is unreachable"),
        "{lost:?}"
    );

    // The way to b goes as well: what felix has is withdrawn, and the other family stays.
    ip(&lab, "a", "route del 10.255.0.2");
    client.fib_until(|fib, _| !fib.contains_key("10.99.0.0/24") && leads(fib, "fd99::/64", "fd77::2"));

    // A covering route is a way again; so would a route by BGP not be.
    ip(&lab, "a", "route add 10.255.0.2 via 10.77.0.2 proto bird");
    ip(&lab, "a", "route add 10.255.0.0/24 via 10.77.0.3");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.3"));
    assert!(client.route("C", "10.99.0.0/24").unwrap().filtered_reason.is_empty());

    // An interface that goes down takes its routes along without a word of the kernel's.
    ip(&lab, "a", "link set eth0 down");
    client.fib_until(|fib, _| fib.is_empty());
    eventually("both paths are unreachable", || {
        let mut routes = client.routes().into_iter();
        routes
            .all(|route| route.filtered_reason == "next hop is unreachable")
            .then_some(())
    });
}

/// How many messages the kernel could not deliver to netlink sockets of a namespace.
fn dropped(lab: &Lab, side: &str) -> u64 {
    let table = run(lab.command(side, "cat").arg("/proc/net/netlink")).stdout;
    let table = String::from_utf8(table).unwrap();
    let mut lines = table.lines();
    let at = lines
        .next()
        .unwrap()
        .split_whitespace()
        .position(|name| name == "Drops")
        .unwrap();
    lines
        .map(|line| line.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn lost_notifications_are_made_up_for() {
    let lab = Lab::new();
    let [_b, _c, mut learner] = start(&lab);
    let mut client = lab.client("a");
    client.established("B");
    client.established("C");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.2"));
    // More is said than the kernel keeps for who does not listen, and the change that matters is among what is lost.
    learner.signal("-STOP");
    let noise: String = (0..20_000u32)
        .flat_map(|n| {
            let net = std::net::Ipv4Addr::from_bits(0xC612_0000 + n);
            [
                format!("route add blackhole {net}/32\n"),
                format!("route del blackhole {net}/32\n"),
            ]
        })
        .collect();
    let noise = lab.write("noise", &noise);
    let before = dropped(&lab, "a");
    let lost = (0..20).any(|_| {
        run(lab.command("a", "ip").arg("-batch").arg(&noise));
        dropped(&lab, "a") > before
    });
    assert!(lost, "the kernel kept everything");
    ip(&lab, "a", "route del 10.255.0.2");
    learner.signal("-CONT");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.3"));
    // And it is followed again.
    ip(&lab, "a", "route add 10.255.0.2 via 10.77.0.2 metric 5");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.2"));
}

#[test]
fn a_table_of_ours_decides_where_it_is_named() {
    let lab = Lab::new();
    let tables = "ipv4 table ways;
protocol static inside { ipv4 { table ways; import all; };
  route 10.255.0.2/32 via 10.77.0.9%eth0 onlink on { krt_metric = 7; }; route 10.255.0.3/32 blackhole; }
";
    let config = LEARNER
        .replace("protocol device { }", &format!("protocol device {{ }}\n{tables}"))
        .replace(
            "ipv4 { import all; export none; }",
            "ipv4 { import all; export none; igp table ways; }",
        );
    assert!(config.contains("igp table ways"));
    let _daemons = start_with(&lab, &config);
    let mut client = lab.client("a");
    client.established("B");
    client.established("C");
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.9") && leads(fib, "fd99::/64", "fd77::2"));
    assert_eq!(
        client.route("C", "10.99.0.0/24").unwrap().filtered_reason,
        "next hop is unreachable"
    );
    // The table has another way, which is shorter.
    let shorter = "route 10.255.0.3/32 via 10.77.0.8%eth0 onlink on { krt_metric = 6; };";
    let turned = config.replace("route 10.255.0.3/32 blackhole;", shorter);
    assert!(client.configure(&turned, false, "1").accepted);
    client.fib_until(|fib, _| leads(fib, "10.99.0.0/24", "10.77.0.8"));
}
