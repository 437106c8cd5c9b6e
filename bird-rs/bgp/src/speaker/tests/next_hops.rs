//! What the kernel's routes do to routes, from the decision to felix and to peers.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::nexthop::{Gateway, KernelChange, KernelRoute};
use crate::rib::{Filtered, Reason};
use crate::speaker::{Input, RouteQuery, RouteView};

fn way(prefix: &str, metric: u32, gateways: &[(&str, u16)]) -> KernelChange {
    let gateway = |(address, weight): &(&str, u16)| Gateway {
        address: (!address.is_empty()).then(|| address.parse().unwrap()),
        interface: "eth0".into(),
        weight: *weight,
        onlink: false,
    };
    let route = KernelRoute {
        metric,
        gateways: gateways.iter().map(gateway).collect(),
    };
    (prefix.parse().unwrap(), Some(route))
}

fn kernel(net: &mut Network, at: usize, complete: bool, changes: Vec<KernelChange>) {
    net.input(at, Input::Kernel { complete, changes });
    net.quiesce();
}

/// All paths to a prefix.
fn paths(net: &Network, at: usize, prefix: &str) -> Vec<RouteView> {
    let query = RouteQuery {
        prefix: Some(prefix.parse().unwrap()),
        ..RouteQuery::default()
    };
    net.node(at).speaker.routes(&query)
}

/// What felix has for a prefix: `gateway%interface*weight ..`.
fn fib(net: &Network, at: usize, prefix: &str) -> Option<String> {
    let route = net.node(at).fib.get(&prefix.parse().unwrap())?;
    let hops: Vec<String> = route
        .next_hops
        .iter()
        .map(|hop| {
            let interface = hop.interface.as_deref().unwrap_or("?");
            format!("{}%{interface}*{}", hop.address.unwrap(), hop.weight)
        })
        .collect();
    Some(hops.join(" "))
}

const ROUTE: &str = "10.2.0.0/24";

/// 1 learns from 2 inside its AS, with the next hop left to the kernel, and tells 3.
fn line() -> Network {
    let recursive = "import all; export all; gateway recursive;|";
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 64512, &[(2, 64512, recursive), (3, 64513, "")]));
    net.start(1, "10.0.0.2", &node(2, 64512, &[(1, 64512, "")]));
    net.start(2, "10.0.0.3", &node(3, 64513, &[(1, 64512, "")]));
    net.seconds(30);
    net
}

#[test]
fn a_path_without_a_way_is_kept_and_not_used() {
    let mut net = line();
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.2%?*1", "nothing is known yet");
    kernel(&mut net, 0, true, vec![way("10.0.0.0/24", 0, &[("", 1)])]);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.2%eth0*1");
    let updates = net.updates_sent(0);
    kernel(
        &mut net,
        0,
        false,
        vec![way("10.0.0.2/32", 5, &[("10.0.0.9", 1), ("10.0.0.8", 3)])],
    );
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.9%eth0*1 10.0.0.8%eth0*3");
    assert_eq!(net.updates_sent(0), updates, "peers are told nothing that they have");
    assert_eq!(paths(&net, 0, ROUTE)[0].igp_metric, Some(5));

    kernel(&mut net, 0, false, vec![way("10.0.0.2/32", 0, &[])]);
    assert_eq!(fib(&net, 0, ROUTE), None, "a blackhole");
    assert!(net.best(2, ROUTE).is_none(), "withdrawn from the peer");
    let path = &paths(&net, 0, ROUTE)[0];
    assert_eq!(
        (path.best, path.filtered, path.reason),
        (false, Some(Filtered::NextHop), None)
    );
    let channel = &net.protocol(0, "p2").channels[0];
    assert_eq!(
        (channel.imported, channel.filtered, channel.preferred),
        (1, 0, 0),
        "the policy accepted it"
    );

    kernel(&mut net, 0, false, vec![("10.0.0.2/32".parse().unwrap(), None)]);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.2%eth0*1");
    assert!(net.best(2, ROUTE).is_some());
    kernel(&mut net, 0, true, Vec::new());
    assert_eq!(fib(&net, 0, ROUTE), None);
}

#[test]
fn a_path_that_is_told_again_while_unreachable_stays_unreachable() {
    let mut net = line();
    kernel(&mut net, 0, true, Vec::new());
    assert_eq!(fib(&net, 0, ROUTE), None);
    net.cut_all(1);
    net.seconds(30);
    assert!(net.established(0, "p2"));
    assert_eq!(paths(&net, 0, ROUTE)[0].filtered, Some(Filtered::NextHop));
    assert_eq!(fib(&net, 0, ROUTE), None);
    // And what comes new is resolved at once.
    kernel(&mut net, 0, false, vec![way("10.0.0.0/8", 1, &[("10.0.0.7", 1)])]);
    net.cut_all(1);
    net.seconds(30);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.7%eth0*1");
}

#[test]
fn the_nearer_next_hop_wins_and_a_change_of_metric_moves_the_best_path() {
    let recursive = "import all; export all; gateway recursive;|";
    let teller = |n: u8| {
        let extra = "protocol static both { ipv4; route 10.9.0.0/24 blackhole; }\n";
        node(n, 64512, &[(1, 64512, "")]) + extra
    };
    let mut net = Network::default();
    net.start(
        0,
        "10.0.0.1",
        &node(1, 64512, &[(2, 64512, recursive), (3, 64512, recursive)]),
    );
    net.start(1, "10.0.0.2", &teller(2));
    net.start(2, "10.0.0.3", &teller(3));
    let (two, three) = (
        |m| way("10.0.0.2/32", m, &[("", 1)]),
        |m| way("10.0.0.3/32", m, &[("", 1)]),
    );
    kernel(&mut net, 0, true, vec![two(10), three(20)]);
    net.seconds(30);
    assert_eq!(fib(&net, 0, "10.9.0.0/24").unwrap(), "10.0.0.2%eth0*1");
    assert_eq!(net.best(0, "10.9.0.0/24").unwrap().reason, Some(Reason::IgpMetric));
    kernel(&mut net, 0, false, vec![two(30)]);
    assert_eq!(fib(&net, 0, "10.9.0.0/24").unwrap(), "10.0.0.3%eth0*1");
    let costly = "import all; export all; gateway recursive; cost 100;|";
    let peers = [(2, 64512, recursive), (3, 64512, costly)];
    net.input(0, Input::Reconfigure(config(&node(1, 64512, &peers))));
    net.quiesce();
    assert_eq!(
        fib(&net, 0, "10.9.0.0/24").unwrap(),
        "10.0.0.2%eth0*1",
        "cost counts as distance"
    );
}

#[test]
fn a_direct_next_hop_needs_a_link_and_no_route() {
    let mut net = pair(&node(1, 64512, &[(2, 64513, "")]), &node(2, 64513, &[(1, 64512, "")]));
    kernel(&mut net, 0, true, Vec::new());
    net.seconds(30);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.2%eth0*1");
    net.input(0, Input::Interfaces(Vec::new()));
    net.quiesce();
    assert_eq!(fib(&net, 0, ROUTE), None);
}

#[test]
fn a_recursive_static_route_follows_the_kernel() {
    let text = "router id 10.0.0.1;
        protocol static far { ipv4; route 10.9.0.0/24 recursive 192.0.2.1; }
        protocol felix { ipv4 { export all; }; }";
    let mut net = Network::default();
    net.start(0, "10.0.0.1", text);
    kernel(&mut net, 0, true, vec![way("192.0.2.0/24", 7, &[("10.0.0.4", 1)])]);
    assert_eq!(fib(&net, 0, "10.9.0.0/24").unwrap(), "10.0.0.4%eth0*1");
    kernel(&mut net, 0, false, vec![("192.0.2.0/24".parse().unwrap(), None)]);
    assert_eq!(fib(&net, 0, "10.9.0.0/24"), None);
}

/// 1 resolves the next hop of 2 by a table of its own with these static routes.
fn by_table(routes: &str) -> String {
    let own = format!("protocol static inside {{ ipv4 {{ table ways; }}; {routes} }}\n");
    let channel = "igp table ways; import all; export none; gateway recursive;|";
    // IPv6 has no such table.
    let text = node(1, 64512, &[(2, 64512, channel)]).replacen("ipv6 { igp table ways;", "ipv6 {", 1);
    format!("ipv4 table ways;\n{text}{own}")
}

#[test]
fn a_table_of_ours_resolves_next_hops_in_place_of_the_kernels() {
    let gateway = "route 10.0.0.2/32 via 10.0.0.9%eth0 onlink on { krt_metric = 7; };";
    let mut net = pair(&by_table(gateway), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(30);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.9%eth0*1");
    assert!(net.node(0).fib[&ROUTE.parse().unwrap()].next_hops[0].onlink);
    assert_eq!(paths(&net, 0, ROUTE)[0].igp_metric, Some(7));
    // What the kernel says makes no difference, also not that there is no way.
    kernel(&mut net, 0, true, vec![way("10.0.0.0/8", 0, &[("10.0.0.5", 1)])]);
    kernel(&mut net, 0, true, Vec::new());
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.9%eth0*1");

    let cases = [
        ("route 10.0.0.0/8 via 10.0.0.7%eth0;", Some("10.0.0.7%eth0*1")),
        ("route 10.0.0.0/8 via 10.0.0.7%eth0; route 10.0.0.2/32 blackhole;", None),
        ("", None),
        ("route 10.0.0.0/24 via \"eth0\";", Some("10.0.0.2%eth0*1")),
        (
            "route 10.0.0.2/32 via 10.0.0.7%eth0 weight 3 via 10.0.0.8%eth0;",
            Some("10.0.0.7%eth0*3 10.0.0.8%eth0*1"),
        ),
    ];
    for (routes, wanted) in cases {
        net.input(0, Input::Reconfigure(config(&by_table(routes))));
        net.quiesce();
        assert_eq!(fib(&net, 0, ROUTE).as_deref(), wanted, "{routes}");
        let filtered = paths(&net, 0, ROUTE)[0].filtered;
        assert_eq!(filtered, wanted.is_none().then_some(Filtered::NextHop), "{routes}");
    }
    // The kernel again, which knows no way.
    let plain = by_table("").replace("igp table ways;", "");
    net.input(0, Input::Reconfigure(config(&plain)));
    net.quiesce();
    assert_eq!(fib(&net, 0, ROUTE), None);
    kernel(&mut net, 0, false, vec![way("10.0.0.0/24", 0, &[("", 1)])]);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.2%eth0*1");
}

#[test]
fn routes_that_are_resolved_themselves_resolve_nothing() {
    // Everything in one table, and a route of the peer's that covers its own next hop and wins over the static one.
    let channel = "igp table master4; import filter { preference = 500; accept; }; export none; gateway recursive;|";
    let text = node(1, 64512, &[(2, 64512, channel)]).replacen("ipv6 { igp table master4;", "ipv6 {", 1);
    let text = text + "protocol static inside { ipv4; route 10.0.0.0/24 via 10.0.0.9%eth0; }\n";
    let peer = node(2, 64512, &[(1, 64512, "")]) + "protocol static cover { ipv4; route 10.0.0.0/24 blackhole; }\n";
    let mut net = pair(&text, &peer);
    net.seconds(30);
    assert_eq!(fib(&net, 0, ROUTE).unwrap(), "10.0.0.9%eth0*1");
    let cover = paths(&net, 0, "10.0.0.0/24");
    assert_eq!(
        (&*cover[0].protocol, cover[0].filtered),
        ("p2", None),
        "it wins, and is resolved by what it beats"
    );
}
