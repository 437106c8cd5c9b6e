//! Long-lived graceful restart (RFC 9494): what is kept, what it loses to, and who hears of it.

use tortie_net::Community;

use super::Network;
use super::sessions::node;
use crate::rib::Reason;
use crate::speaker::{Command, Input, LogEvent};

const ASKS: &str = "graceful restart time 60; long lived graceful restart on; long lived stale time 600;";

/// 1 asks 2 to keep its routes for long. 3 and 5 do not know what that is, 5 is in 2's AS; 4 does.
fn star(export: &str) -> Network {
    let mut net = Network::default();
    net.start(
        0,
        "10.0.0.1",
        &node(1, 65001, &[(2, 65002, &format!("{export}|{ASKS}"))]),
    );
    let off = "long lived graceful restart off;";
    let peers = [(1, 65001, ""), (3, 65003, off), (4, 65004, ""), (5, 65002, off)];
    net.start(1, "10.0.0.2", &node(2, 65002, &peers));
    net.start(2, "10.0.0.3", &node(3, 65003, &[(2, 65002, "")]));
    net.start(3, "10.0.0.4", &node(4, 65004, &[(2, 65002, "")]));
    net.start(4, "10.0.0.5", &node(5, 65002, &[(2, 65002, "")]));
    net.seconds(40);
    for at in 1..5 {
        assert!(net.best(at, "10.1.0.0/24").is_some(), "node {at}");
    }
    net
}

const PLAIN: &str = "import all; export all;";

fn is_marked(net: &Network, at: usize) -> Option<bool> {
    let route = net.best(at, "10.1.0.0/24")?;
    Some(route.attributes.communities.contains(Community::LLGR_STALE))
}

#[test]
fn after_the_restart_time_only_those_who_know_hear_of_it() {
    let mut net = star(PLAIN);
    net.kill(0);
    net.seconds(59);
    for at in 1..5 {
        assert_eq!(is_marked(&net, at), Some(false), "node {at}");
    }
    net.seconds(2);
    assert_eq!(is_marked(&net, 1), Some(true));
    assert!(net.best(1, "10.1.0.0/24").unwrap().stale);
    assert_eq!(is_marked(&net, 2), None, "withdrawn from who does not know");
    assert_eq!(is_marked(&net, 3), Some(true));
    let inside = net.best(4, "10.1.0.0/24").unwrap().attributes;
    assert_eq!(inside.local_pref, Some(0), "inside the AS it is the last resort");
    assert!(inside.communities.contains(Community::NO_EXPORT));
    assert_eq!(
        net.logged(1, |e| matches!(e, LogEvent::LongLivedStale { routes: 1 })),
        2
    );
    assert!(net.node(1).fib.contains_key(&"10.1.0.0/24".parse().unwrap()));

    net.seconds(598);
    assert_eq!(is_marked(&net, 1), Some(true));
    net.seconds(3);
    for at in 1..5 {
        assert!(net.best(at, "10.1.0.0/24").is_none(), "node {at}");
        assert!(net.best(at, "fd00:1::/64").is_none(), "node {at}");
    }
}

#[test]
fn it_loses_to_anything_that_is_not() {
    let mut net = star(PLAIN);
    let same = "protocol static same { ipv4; route 10.1.0.0/24 blackhole; }\n";
    let prepended = "import all; export filter { bgp_path.prepend(65006); bgp_path.prepend(65006); accept; };|";
    net.kill(4);
    let text = node(6, 65006, &[(2, 65002, prepended)]) + same;
    let peers = [(1, 65001, ""), (4, 65004, ""), (6, 65006, "")];
    net.input(1, Input::Reconfigure(super::network::config(&node(2, 65002, &peers))));
    net.start(4, "10.0.0.6", &text);
    net.seconds(20);
    assert_eq!(&*net.best(1, "10.1.0.0/24").unwrap().protocol, "p1", "the shorter path");
    net.kill(0);
    net.seconds(59);
    assert_eq!(
        &*net.best(1, "10.1.0.0/24").unwrap().protocol,
        "p1",
        "not set back while it restarts"
    );
    net.seconds(2);
    let best = net.best(1, "10.1.0.0/24").unwrap();
    assert_eq!((&*best.protocol, best.reason), ("p6", Some(Reason::Stale)));
    assert_eq!(
        is_marked(&net, 3),
        Some(false),
        "and who was told of it is told of the other"
    );
}

#[test]
fn whoever_comes_back_has_its_routes_fresh_again() {
    let mut net = star(PLAIN);
    net.kill(0);
    net.seconds(100);
    assert_eq!(is_marked(&net, 3), Some(true));
    let deletes = net.node(1).fib_deletes;
    net.start(
        0,
        "10.0.0.1",
        &node(1, 65001, &[(2, 65002, ASKS)]).replace("fd00:1::/64", "fd00:9::/64"),
    );
    net.seconds(40);
    for at in 1..5 {
        assert_eq!(is_marked(&net, at), Some(false), "node {at}");
        assert!(net.best(at, "fd00:1::/64").is_none(), "node {at}: swept at End-of-RIB");
    }
    assert_eq!(net.node(1).fib_deletes, deletes + 1);
    assert!(!net.best(1, "10.1.0.0/24").unwrap().stale);
}

#[test]
fn a_peer_that_is_lost_again_before_it_has_told_its_routes_keeps_them() {
    let mut net = star(PLAIN);
    let begin = net.now;
    net.kill(0);
    net.seconds(20);
    net.start(0, "10.0.0.1", &node(1, 65001, &[(2, 65002, ASKS)]));
    net.node_mut(0).holds_updates = true;
    net.seconds(20);
    let ups = net.logged(1, |e| matches!(e, LogEvent::State { to: "Established", .. }));
    net.kill(0);
    net.quiesce();
    assert_eq!(is_marked(&net, 1), Some(false), "as before");
    assert!(net.best(1, "10.1.0.0/24").unwrap().stale);
    // The restart time of the first loss is over, and so is the time after that, once.
    net.seconds(62 - (net.now - begin).as_secs());
    assert_eq!(is_marked(&net, 1), Some(true), "{ups} sessions");
    net.seconds(600);
    assert!(net.best(1, "10.1.0.0/24").is_none());
}

#[test]
fn a_new_policy_does_not_make_them_fresh() {
    let mut net = star(PLAIN);
    net.kill(0);
    net.seconds(100);
    let command = |command| Input::Command {
        protocol: "p1".into(),
        command,
    };
    net.input(1, command(Command::ReloadIn));
    net.quiesce();
    assert_eq!(is_marked(&net, 1), Some(true));
    assert_eq!(is_marked(&net, 2), None);
    net.input(1, command(Command::Disable));
    net.quiesce();
    assert!(net.best(1, "10.1.0.0/24").is_none());
}

#[test]
fn routes_that_must_not_be_kept_go_with_the_restart_time() {
    let mut net =
        star("import all; export filter { if net.type = NET_IP4 then bgp_community.add((65535,7)); accept; };");
    net.kill(0);
    net.seconds(59);
    assert!(net.best(1, "10.1.0.0/24").is_some());
    net.seconds(2);
    for at in 1..5 {
        assert!(net.best(at, "10.1.0.0/24").is_none(), "node {at}");
    }
    assert!(net.best(1, "fd00:1::/64").is_some(), "the other one is kept");
}

#[test]
fn what_a_peer_has_marked_is_the_last_resort_here_too() {
    let marked = "import all; export filter { bgp_community.add((65535,6)); accept; };|";
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 65001, &[(2, 65002, marked)]));
    let peers = [
        (1, 65001, ""),
        (3, 65003, ""),
        (4, 65004, "long lived graceful restart off;"),
    ];
    net.start(1, "10.0.0.2", &node(2, 65002, &peers));
    net.start(2, "10.0.0.3", &node(3, 65003, &[(2, 65002, "")]));
    net.start(3, "10.0.0.4", &node(4, 65004, &[(2, 65002, "")]));
    net.seconds(20);
    assert_eq!(is_marked(&net, 2), Some(true));
    assert_eq!(is_marked(&net, 3), None);
}
