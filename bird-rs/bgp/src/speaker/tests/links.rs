//! `check link`: what depends on an interface goes with its carrier, and comes back with it.

use super::Network;
use super::sessions::{node, pair};
use crate::speaker::{Input, InterfaceLink, LogEvent};

/// The interfaces of the first node that are up, with whether they have a carrier.
fn links(net: &mut Network, links: &[(&str, bool)]) {
    let links = links.iter().map(|(interface, carrier)| InterfaceLink {
        interface: (*interface).into(),
        carrier: *carrier,
    });
    net.input(0, Input::Links(links.collect()));
    net.input(0, Input::Tick);
    net.quiesce();
}

fn error(net: &Network) -> String {
    let bgp = net.protocol(0, "p2").bgp;
    bgp.and_then(|bgp| bgp.last_error).unwrap_or_default()
}

/// Two that are up; the first has these options.
fn up(options: &str) -> Network {
    let mut net = pair(
        &node(1, 64512, &[(2, 64513, options)]),
        &node(2, 64513, &[(1, 64512, "")]),
    );
    links(&mut net, &[("eth0", true)]);
    net.seconds(30);
    assert!(net.established(0, "p2"));
    net
}

#[test]
fn a_session_ends_with_the_carrier_of_its_link_and_comes_back_with_it() {
    let mut net = up("");
    links(&mut net, &[("eth0", false)]);
    assert!(!net.established(0, "p2"));
    assert_eq!(error(&net), "Link down");
    assert_eq!(
        net.node(0).fib.len(),
        0,
        "not kept, although graceful restart was agreed on"
    );
    assert_eq!(net.logged(0, |e| matches!(e, LogEvent::Stale { .. })), 0);
    net.seconds(600);
    assert_eq!(net.protocol(0, "p2").bgp.unwrap().state, "Idle", "nothing is tried");
    links(&mut net, &[("eth0", true)]);
    net.seconds(30);
    assert!(net.established(0, "p2"));
    assert_eq!(net.node(0).fib.len(), 2);
}

#[test]
fn without_check_link_only_a_link_that_is_gone_ends_a_session() {
    let mut net = up("check link off;");
    links(&mut net, &[("eth0", false)]);
    net.seconds(1);
    assert!(net.established(0, "p2"));
    net.input(0, Input::Interfaces(Vec::new()));
    net.input(0, Input::Tick);
    net.quiesce();
    assert!(!net.established(0, "p2"));
    assert_eq!(error(&net), "Neighbor lost");
}

#[test]
fn a_session_is_not_tried_while_its_link_has_no_carrier() {
    let mut net = pair(&node(1, 64512, &[(2, 64513, "")]), &node(2, 64513, &[(1, 64512, "")]));
    links(&mut net, &[("eth0", false)]);
    net.seconds(60);
    assert!(!net.established(0, "p2"));
    assert_eq!(net.node(0).speaker.connections.len(), 0);
    links(&mut net, &[("eth0", true)]);
    net.seconds(30);
    assert!(net.established(0, "p2"));
}

#[test]
fn static_and_direct_routes_follow_their_links() {
    let text = "router id 10.0.0.1;
        protocol felix { ipv4 { export all; }; }
        protocol direct { ipv4; check link; }
        protocol static checked { ipv4; check link;
          route 10.1.0.0/24 via 10.0.0.9; route 10.2.0.0/24 via \"eth0\"; route 10.3.0.0/24 via \"eth1\" via 10.0.0.9; }
        protocol static unchecked { ipv4;
          route 10.4.0.0/24 via 10.0.0.9; route 10.5.0.0/24 via \"eth1\"; route 10.6.0.0/24 via \"eth2\";
          route 10.7.0.0/24 via 10.9.9.9%'eth1'; route 10.8.0.0/24 via 10.9.9.9%'eth1' onlink;
          route 10.9.0.0/24 via 10.0.0.9%'eth0'; }";
    let mut net = Network::default();
    net.start(0, "10.0.0.1", text);
    let shown = |net: &mut Network, now: &[(&str, bool)]| {
        links(net, now);
        let routes = net.node(0).fib.iter();
        let shown = routes.map(|(prefix, route)| match route.next_hops.len() {
            1 => prefix.to_string(),
            several => format!("{prefix} by {several}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    let all = "10.0.0.0/24 10.1.0.0/24 10.2.0.0/24 10.3.0.0/24 by 2 10.4.0.0/24 10.5.0.0/24 10.8.0.0/24 10.9.0.0/24";
    assert_eq!(shown(&mut net, &[("eth0", true), ("eth1", true)]), all);
    let without = "10.3.0.0/24 10.4.0.0/24 10.5.0.0/24 10.8.0.0/24 10.9.0.0/24";
    assert_eq!(shown(&mut net, &[("eth0", false), ("eth1", true)]), without);
    assert_eq!(shown(&mut net, &[("eth0", false)]), "10.4.0.0/24 10.9.0.0/24");
    assert_eq!(shown(&mut net, &[("eth0", true), ("eth1", true)]), all);
}
