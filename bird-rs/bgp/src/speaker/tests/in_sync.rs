//! When the initial table counts as complete, and for whom.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::Input;

#[test]
fn a_configuration_without_anybody_completes_nothing() {
    let mut net = Network::default();
    let empty = "router id 10.0.0.1;\nprotocol device { }\n";
    let real = node(1, 64512, &[(2, 64512, "")]);
    net.start(0, "10.0.0.1", &real);
    net.start(1, "10.0.0.2", &node(2, 64512, &[(1, 64512, "passive on;")]));
    net.seconds(40);
    net.kill(0);
    // Restarted before its configuration is there.
    net.start(0, "10.0.0.1", empty);
    net.seconds(60);
    assert_eq!(net.node(0).in_sync, 0, "felix must keep what it has");
    assert!(!net.node(0).speaker.fib_in_sync() && !net.node(0).speaker.status().fib_in_sync);
    net.input(0, Input::Reconfigure(config(&real)));
    while net.node(0).in_sync == 0 {
        net.seconds(1);
        assert!(net.now.as_secs() < 200);
    }
    assert_eq!(net.node(0).fib.len(), 2, "in sync means complete");
    assert_eq!(net.node(1).fib_deletes, 0, "and the peer was told that we restarted");
}

#[test]
fn a_speaker_without_felix_converges_but_promises_no_fib() {
    let without = |text: String| {
        let felix = text
            .lines()
            .find(|line| line.starts_with("protocol felix"))
            .unwrap()
            .to_owned();
        (text.replace(&felix, ""), text)
    };
    let (bare, full) = without(node(1, 64512, &[(2, 64512, "")]));
    let mut net = pair(&bare, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(40);
    assert_eq!(net.node(1).in_sync, 1, "it said End-of-RIB");
    assert_eq!(net.node(0).in_sync, 0);
    net.input(0, Input::Reconfigure(config(&full)));
    net.quiesce();
    assert_eq!((net.node(0).in_sync, net.node(0).fib.len()), (1, 2));
}

#[test]
fn a_peer_that_talks_for_long_is_heard_out() {
    let mut net = pair(
        &node(1, 64512, &[(2, 64512, "")]),
        &node(2, 64512, &[(1, 64512, "passive on;")]),
    );
    net.seconds(40);
    net.kill(0);
    net.start(0, "10.0.0.1", &node(1, 64512, &[(2, 64512, "")]));
    net.node_mut(1).holds_updates = true;
    net.seconds(12);
    assert!(net.established(0, "p2"));
    assert_eq!(net.node(0).in_sync, 0, "its routes are under way");
    net.hurry(1);
    net.quiesce();
    assert_eq!((net.node(0).in_sync, net.node(0).fib.len()), (1, 2));
    // But nobody is waited for without end.
    net.kill(0);
    net.start(0, "10.0.0.1", &node(1, 64512, &[(2, 64512, "")]));
    net.node_mut(1).holds_updates = true;
    net.seconds(31);
    assert_eq!(net.node(0).in_sync, 1);
}

#[test]
fn a_peer_with_nothing_to_say_is_not_waited_for() {
    let silent = "router id 10.0.0.2;\nprotocol bgp p1 { local as 64512; neighbor 10.0.0.1 as 64512; passive on;\n\
                  graceful restart on; ipv4 { import all; export all; }; ipv6 { import all; export all; }; }\n";
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), silent);
    let mut up = None;
    while net.node(0).in_sync == 0 {
        net.run(std::time::Duration::from_millis(50));
        if up.is_none() && net.established(0, "p2") {
            up = Some(net.now);
        }
        assert!(net.now.as_secs() < 40);
    }
    assert!(
        net.now.saturating_sub(up.unwrap()).as_secs() < 1,
        "its End-of-RIB is enough"
    );
}
