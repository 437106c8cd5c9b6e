//! BFD's word and what a session makes of it.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{BfdVerdict, Input, LogEvent};

const FAILED: BfdVerdict = BfdVerdict::Failed { independent: false };

fn text(n: u8, options: &str) -> String {
    let peer = 3 - n;
    let timers = "protocol bfd { interface \"eth*\" { interval 50 ms; multiplier 3; }; }\n";
    node(n, 64512, &[(peer, 64512, options)]) + timers
}

#[test]
fn a_path_that_nothing_watches_is_warned_of() {
    let with = |protocol: &str| {
        let mut net = Network::default();
        let text = node(1, 64512, &[(2, 64512, "bfd on;"), (3, 64512, "")]) + protocol;
        net.start(0, "10.0.0.1", &text);
        net.seconds(1);
        let warned = net.node(0).logs.iter().filter(|log| log.event == LogEvent::Unwatched);
        warned.map(|log| log.protocol.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(with(""), ["p2"]);
    assert_eq!(with("protocol bfd { accept ipv6; }"), ["p2"]);
    assert_eq!(with("protocol bfd { accept multihop; }"), ["p2"]);
    assert!(with("protocol bfd { accept multihop; }\nprotocol bfd { accept ipv4; }").is_empty());
}

fn say(net: &mut Network, at: usize, verdict: BfdVerdict) {
    let key = net.node(at).bfd[0].key.clone();
    net.input(at, Input::Bfd { key, verdict });
    net.quiesce();
}

fn routes(net: &Network, at: usize) -> usize {
    net.node(at).fib.len()
}

fn error(net: &Network, at: usize, protocol: &str) -> String {
    let bgp = net.protocol(at, protocol).bgp;
    bgp.and_then(|bgp| bgp.last_error).unwrap_or_default()
}

/// Two that are up, the first with these options.
fn up(options: &str) -> Network {
    let mut net = pair(&text(1, options), &text(2, ""));
    net.seconds(1);
    say(&mut net, 0, BfdVerdict::Up);
    net.seconds(30);
    assert!(net.established(0, "p2"));
    assert_eq!(routes(&net, 0), 2);
    net
}

#[test]
fn a_session_is_wanted_where_the_peer_is_and_with_the_nearest_timers() {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &text(1, "bfd { multiplier 7; };"));
    net.seconds(1);
    let [spec] = net.node(0).bfd.clone().try_into().unwrap();
    assert_eq!((&*spec.protocol, spec.key.interface.as_deref()), ("bfd1", Some("eth0")));
    assert_eq!(
        (spec.key.peer.to_string(), spec.key.local.to_string()),
        ("10.0.0.2".into(), "10.0.0.1".into())
    );
    assert_eq!((spec.timing.min_tx.as_millis(), spec.timing.multiplier), (50, 7));

    net.input(0, Input::Interfaces(Vec::new()));
    net.seconds(1);
    assert_eq!(net.node(0).bfd.len(), 1, "a link that goes away is watched on");
    for (from, to) in [
        ("interface \"eth*\"", "accept ipv6; interface \"eth*\""),
        ("bfd { multiplier 7; };", ""),
    ] {
        net.input(0, Input::Reconfigure(config(&text(1, "bfd { multiplier 7; };"))));
        net.seconds(1);
        assert_eq!(net.node(0).bfd.len(), 1);
        let other = text(1, "bfd { multiplier 7; };").replace(from, to);
        net.input(0, Input::Reconfigure(config(&other)));
        net.seconds(1);
        assert_eq!(net.node(0).bfd, [], "{to}");
    }
}

#[test]
fn a_failure_ends_the_session_and_its_routes_and_bfd_brings_it_back_before_the_error_wait() {
    let mut net = up("error wait time 100, 200; bfd on;");
    say(&mut net, 0, FAILED);
    let theirs = error(&net, 1, "p1");
    assert!(theirs.contains("BFD session down"), "NOTIFICATION 6/10: {theirs}");
    net.seconds(1);
    assert!(!net.established(0, "p2"));
    assert_eq!(routes(&net, 0), 0, "not kept, although graceful restart was agreed on");
    assert_eq!(net.logged(0, |e| matches!(e, LogEvent::Stale { .. })), 0);
    let ours = error(&net, 0, "p2");
    assert_eq!(ours, "BFD session down");
    net.seconds(30);
    assert!(!net.established(0, "p2"), "it waits");
    say(&mut net, 0, BfdVerdict::Up);
    net.seconds(15);
    assert!(net.established(0, "p2"));
    assert_eq!(routes(&net, 0), 2);
}

#[test]
fn graceful_keeps_the_routes() {
    let mut net = up("bfd graceful;");
    say(&mut net, 0, FAILED);
    net.seconds(1);
    assert_eq!(routes(&net, 0), 2);
    assert_eq!(net.logged(0, |e| matches!(e, LogEvent::Stale { routes: 2, .. })), 1);
}

#[test]
fn only_a_peer_whose_bfd_survives_its_restart_loses_routes_that_are_kept() {
    for (independent, kept) in [(false, 2), (true, 0)] {
        let mut net = up("bfd on;");
        net.kill(1);
        net.quiesce();
        assert_eq!(routes(&net, 0), 2, "kept over the restart");
        say(&mut net, 0, BfdVerdict::Failed { independent });
        net.seconds(1);
        assert_eq!(routes(&net, 0), kept, "C bit: {independent}");
    }
}

#[test]
fn what_is_no_failure_ends_nothing() {
    let mut net = up("bfd on;");
    say(&mut net, 0, BfdVerdict::Silent);
    net.seconds(5);
    assert!(net.established(0, "p2"), "the neighbour's operator took BFD down");
    let mut key = net.node(0).bfd[0].key.clone();
    key.peer = "10.0.0.9".parse().unwrap();
    net.input(0, Input::Bfd { key, verdict: FAILED });
    net.seconds(1);
    assert!(net.established(0, "p2"), "another session's failure");
}

#[test]
fn strict_waits_for_bfd() {
    let mut net = pair(&text(1, "bfd strict;"), &text(2, ""));
    net.seconds(300);
    assert!(!net.established(0, "p2") && !net.established(1, "p1"));
    say(&mut net, 0, BfdVerdict::Up);
    net.seconds(15);
    assert!(net.established(0, "p2"));
    // Without strict it is there before BFD is.
    let mut net = pair(&text(1, "bfd on;"), &text(2, ""));
    net.seconds(20);
    assert!(net.established(0, "p2"));
}

#[test]
fn a_static_route_is_there_while_the_path_to_its_gateway_works() {
    let text = "router id 10.0.0.1; protocol device { } protocol bfd { interface \"eth*\" { interval 50 ms; }; }
        protocol felix { ipv4 { export all; }; }
        protocol static watched { ipv4; route 10.1.0.0/24 via 10.0.0.2 bfd; route 10.2.0.0/24 via 10.0.0.2 bfd via 10.0.0.3;
          route 10.3.0.0/24 via 10.9.9.9 bfd; }";
    let mut net = Network::default();
    net.start(0, "10.0.0.1", text);
    net.seconds(1);
    let peers: Vec<_> = net.node(0).bfd.iter().map(|spec| spec.key.peer.to_string()).collect();
    assert_eq!(
        peers,
        ["10.0.0.2"],
        "one session, and none for a gateway on no link of ours"
    );
    let hops = |net: &mut Network| {
        net.seconds(1);
        let routes = net.node(0).fib.iter();
        let shown = routes.map(|(prefix, route)| format!("{prefix} by {}", route.next_hops.len()));
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hops(&mut net), "10.2.0.0/24 by 1", "before it is known to work");
    say(&mut net, 0, BfdVerdict::Up);
    assert_eq!(hops(&mut net), "10.1.0.0/24 by 1 10.2.0.0/24 by 2");
    for verdict in [FAILED, BfdVerdict::Up, BfdVerdict::Silent] {
        say(&mut net, 0, verdict);
        let both = verdict == BfdVerdict::Up;
        let wanted = if both {
            "10.1.0.0/24 by 1 10.2.0.0/24 by 2"
        } else {
            "10.2.0.0/24 by 1"
        };
        assert_eq!(hops(&mut net), wanted, "{verdict:?}");
    }
    let unwatched = text.replace("protocol bfd {", "protocol bfd { accept ipv6;");
    net.input(0, Input::Reconfigure(config(&unwatched)));
    assert_eq!(hops(&mut net), "10.2.0.0/24 by 1");
    assert_eq!(net.logged(0, |event| *event == LogEvent::Unwatched), 1);
}
