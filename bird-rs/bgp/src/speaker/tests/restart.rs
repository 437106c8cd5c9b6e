//! Restarts: of a peer, of ourselves, of all.

use std::time::Duration;

use super::Network;
use super::sessions::node;
use crate::speaker::{Input, LogEvent};

const N: u8 = 4;

fn text(me: u8) -> String {
    let peers: Vec<_> = (1..=N).filter(|p| *p != me).map(|p| (p, 64512, "")).collect();
    node(me, 64512, &peers)
}

fn mesh() -> Network {
    let mut net = Network::default();
    for me in 1..=N {
        net.start(usize::from(me) - 1, &format!("10.0.0.{me}"), &text(me));
    }
    net.seconds(30);
    for at in 0..usize::from(N) {
        assert_eq!(net.node(at).fib.len(), 2 * (usize::from(N) - 1));
    }
    net
}

#[test]
fn a_killed_and_restarted_peer_costs_nobody_a_route() {
    let mut net = mesh();
    net.kill(0);
    net.seconds(3);
    for at in 1..usize::from(N) {
        let route = net.node(at).fib[&"10.1.0.0/24".parse().unwrap()].clone();
        assert!(route.stale, "kept and marked");
        assert_eq!(net.logged(at, |e| matches!(e, LogEvent::Stale { routes: 1.., .. })), 1);
    }
    net.start(0, "10.0.0.1", &text(1));
    net.seconds(30);
    for at in 0..usize::from(N) {
        let node = net.node(at);
        assert_eq!(node.fib_deletes, 0, "node {at}");
        assert_eq!(node.fib.len(), 2 * (usize::from(N) - 1));
        assert!(node.fib.values().all(|route| !route.stale));
        assert_eq!(node.in_sync, 1);
    }
}

#[test]
fn what_a_restarted_peer_no_longer_says_is_swept_at_its_end_of_rib() {
    let mut net = mesh();
    net.kill(0);
    net.seconds(3);
    net.start(
        0,
        "10.0.0.1",
        &text(1).replace("route 10.1.0.0/24 blackhole;", "route 10.1.9.0/24 blackhole;"),
    );
    net.seconds(60);
    for at in 1..usize::from(N) {
        assert_eq!(net.node(at).fib_deletes, 1);
        assert!(net.best(at, "10.1.0.0/24").is_none() && net.best(at, "10.1.9.0/24").is_some());
    }
}

#[test]
fn a_peer_that_does_not_come_back_is_forgotten_after_its_time() {
    let mut net = mesh();
    net.kill(0);
    net.seconds(119);
    assert!(net.best(1, "10.1.0.0/24").is_some());
    net.seconds(3);
    assert!(net.best(1, "10.1.0.0/24").is_none());
    assert_eq!(net.node(1).fib_deletes, 2);
}

#[test]
fn a_stop_is_as_silent_as_a_crash() {
    let mut net = mesh();
    net.input(0, Input::Stop);
    net.quiesce();
    net.kill(0);
    net.seconds(2);
    assert!(net.best(1, "10.1.0.0/24").is_some_and(|r| r.stale));
    net.start(0, "10.0.0.1", &text(1));
    net.seconds(30);
    assert!((0..usize::from(N)).all(|at| net.node(at).fib_deletes == 0));
}

#[test]
fn a_broken_connection_between_living_peers_costs_no_route_either() {
    let mut net = mesh();
    net.cut_all(2);
    net.seconds(30);
    assert!((0..usize::from(N)).all(|at| net.node(at).fib_deletes == 0 && net.node(at).fib.len() == 6));
}

#[test]
fn everybody_restarts_at_once() {
    let mut net = mesh();
    for at in 0..usize::from(N) {
        net.kill(at);
    }
    for me in 1..=N {
        net.start(usize::from(me) - 1, &format!("10.0.0.{me}"), &text(me));
    }
    let start = net.now;
    while (0..usize::from(N)).any(|at| net.node(at).in_sync == 0) {
        net.run(Duration::from_millis(100));
        assert!(
            net.now < start + Duration::from_secs(15),
            "nobody waits for somebody who waits for him"
        );
    }
    for at in 0..usize::from(N) {
        assert_eq!(net.node(at).fib.len(), 6, "in sync means complete");
    }
}

#[test]
fn a_first_boot_alone_does_not_wait_for_ever() {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &text(1));
    net.seconds(29);
    assert_eq!(net.node(0).in_sync, 0);
    net.seconds(2);
    assert_eq!(net.node(0).in_sync, 1);
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 64512, &[]));
    net.quiesce();
    assert_eq!(net.node(0).in_sync, 1, "without peers there is nothing to wait for");
}

/// Two of three nodes, the first of them without a former life or with one.
fn with_one_missing(afresh: bool) -> Network {
    let mut net = Network::default();
    for me in 1..N {
        net.start(usize::from(me) - 1, &format!("10.0.0.{me}"), &text(me));
    }
    if afresh {
        net.node_mut(0).speaker.start_afresh();
    }
    net.seconds(4);
    assert!(net.established(0, "p2"));
    assert_eq!(net.node(0).in_sync, 0);
    net
}

#[test]
fn one_missing_peer_delays_in_sync_by_five_seconds() {
    let mut net = with_one_missing(true);
    net.seconds(8);
    assert_eq!(net.node(0).in_sync, 1);
}

#[test]
fn where_routes_are_recovered_a_neighbour_that_restarts_too_is_waited_for() {
    let mut net = with_one_missing(false);
    net.seconds(7);
    assert_eq!(net.node(0).in_sync, 0, "what is swept now is in use");
    net.seconds(8);
    assert_eq!(net.node(0).in_sync, 1);
}
