//! From one configuration to the next: nothing is left behind, nobody is forgotten.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{Command, Input};

fn reconfigure(net: &mut Network, at: usize, text: &str) {
    net.input(at, Input::Reconfigure(config(text)));
    net.seconds(2);
}

fn many(n: u8, routes: u32) -> String {
    let routes: String = (0..routes)
        .map(|i| format!("route 10.{}.{}.0/24 blackhole; ", 100 + n, i))
        .collect();
    format!("protocol static many {{ ipv4; {routes} }}\n")
}

#[test]
fn a_passive_peer_that_is_added_to_an_idle_speaker_is_listened_for() {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 64512, &[]));
    net.seconds(60);
    assert!(net.node(0).listening.is_empty());
    net.input(
        0,
        Input::Reconfigure(config(&node(1, 64512, &[(2, 64512, "passive on;")]))),
    );
    net.quiesce();
    assert_eq!(net.node(0).listening.len(), 1);
}

#[test]
fn channels_in_another_order_are_the_same_channels() {
    let text = |channels: &str, policy: &str| {
        node(1, 64512, &[]).replace(
            "ipv4 { export where source = RTS_BGP; }; ipv6 { export where source = RTS_BGP; };",
            channels,
        ) + &format!("protocol bgp p2 {{ local 10.0.0.1 as 64512; neighbor 10.0.0.2 as 64512; direct; {policy} }}\n")
    };
    let first = text(
        "ipv4 { export all; }; ipv6 { export none; };",
        "ipv4 { import all; export all; }; ipv6 { import all; export none; };",
    );
    // The same, and one policy more that makes the protocols take the configuration over.
    let second = text(
        "ipv6 { export none; }; ipv4 { export where net.len = 24; };",
        "ipv6 { import all; export none; }; ipv4 { import where net.len = 24; export all; };",
    );
    let mut net = pair(&first, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let before = net.node(0).fib.clone();
    let since = net.protocol(0, "p2").since;
    reconfigure(&mut net, 0, &second);
    assert_eq!(net.protocol(0, "p2").since, since);
    assert!(net.best(1, "10.1.0.0/24").is_some() && net.best(1, "fd00:1::/64").is_none());
    assert!(net.best(0, "10.2.0.0/24").is_some() && net.best(0, "fd00:2::/64").is_some());
    assert_eq!(net.node(0).fib, before, "felix's channels too");
}

#[test]
fn a_higher_export_limit_lets_through_what_was_blocked() {
    let text = |limit: &str| many(1, 5) + &node(1, 64512, &[(2, 64512, &format!("import all; {limit} export all;|"))]);
    let mut net = pair(
        &text("export limit 3 action block;"),
        &node(2, 64512, &[(1, 64512, "")]),
    );
    net.seconds(20);
    assert_eq!(net.protocol(1, "p1").channels[0].imported, 3);
    reconfigure(&mut net, 0, &text("export limit 5 action block;"));
    assert_eq!(net.protocol(1, "p1").channels[0].imported, 5);
    reconfigure(&mut net, 0, &text(""));
    assert_eq!(net.protocol(1, "p1").channels[0].imported, 6);
}

#[test]
fn an_import_limit_holds_over_a_reload_and_follows_the_configuration() {
    let text = |limit: u32| {
        let channel = format!("import limit {limit} action block; import all; export all;|");
        node(1, 64512, &[(2, 64512, &channel)])
    };
    let other = many(2, 5) + &node(2, 64512, &[(1, 64512, "")]);
    let mut net = pair(&text(3), &other);
    net.seconds(20);
    assert_eq!(net.protocol(0, "p2").channels[0].imported, 3);
    let before = net.node(0).fib.clone();
    let command = Command::ReloadIn;
    let protocol = "p2".into();
    net.input(0, Input::Command { protocol, command });
    net.seconds(1);
    assert_eq!(net.protocol(0, "p2").channels[0].imported, 3);
    assert_eq!(net.node(0).fib, before, "what was used goes on being used");
    for (limit, imported, filtered) in [(5, 5, 1), (2, 2, 4), (6, 6, 0)] {
        reconfigure(&mut net, 0, &text(limit));
        let channel = net.protocol(0, "p2").channels[0].clone();
        assert_eq!(
            (channel.imported, channel.filtered),
            (imported, filtered),
            "limit {limit}"
        );
    }
}

#[test]
fn routes_kept_for_a_peer_of_another_as_are_still_its_own() {
    let ours = |import: &str| {
        let options = format!("import {import}; export all;|enforce first as on;");
        node(1, 64512, &[(2, 64513, &options)])
    };
    let mut net = pair(&ours("all"), &node(2, 64513, &[(1, 64512, "")]));
    net.seconds(20);
    assert!(net.best(0, "10.2.0.0/24").is_some());
    net.kill(1);
    net.seconds(2);
    assert!(net.best(0, "10.2.0.0/24").is_some_and(|route| route.stale));
    reconfigure(&mut net, 0, &ours("where net.len >= 24"));
    assert!(net.best(0, "10.2.0.0/24").is_some());
    assert_eq!(net.node(0).fib_deletes, 0);
}

#[test]
fn what_felix_was_told_is_taken_back_with_its_protocol() {
    let with = node(1, 64512, &[(2, 64512, "")]);
    let felix = with.lines().find(|line| line.starts_with("protocol felix")).unwrap();
    let without = with.replace(felix, "");
    let mut net = pair(&with, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    assert_eq!(net.node(0).fib.len(), 2);
    reconfigure(&mut net, 0, &without);
    assert!(net.node(0).fib.is_empty() && net.node(0).speaker.fib().is_empty());
    assert!(
        !net.node(0).speaker.fib_in_sync(),
        "nobody knows what felix should have"
    );
    reconfigure(&mut net, 0, &with);
    assert_eq!(net.node(0).fib.len(), 2);
    assert!(net.node(0).speaker.fib_in_sync());
    assert_eq!(net.node(0).in_sync, 2);
}

#[test]
fn a_felix_protocol_that_is_made_anew_costs_no_route() {
    let with = node(1, 64512, &[(2, 64512, "")]);
    let mut net = pair(&with, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let renamed = with.replace("protocol felix {", "protocol felix fw {");
    let one_family = renamed.replace("ipv6 { export where source = RTS_BGP; }; }", "}");
    reconfigure(&mut net, 0, &renamed);
    assert_eq!((net.node(0).fib.len(), net.node(0).fib_deletes), (2, 0));
    reconfigure(&mut net, 0, &one_family);
    assert_eq!(
        (net.node(0).fib.len(), net.node(0).fib_deletes),
        (1, 1),
        "only what is gone"
    );
    let protocol = "fw".into();
    let command = Command::Restart;
    net.input(0, Input::Command { protocol, command });
    net.seconds(1);
    assert_eq!((net.node(0).fib.len(), net.node(0).fib_deletes), (1, 1));
    assert_eq!(net.node(0).in_sync, 1);
}

#[test]
fn a_peer_that_gave_up_by_itself_can_be_enabled() {
    let ours = node(1, 64512, &[(2, 64512, "disable after error on;")]);
    let mut net = pair(&ours, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let conn = net.connection(0, 1);
    let bytes = vec![0; 64].into();
    net.input(0, Input::Received { conn, bytes });
    net.seconds(60);
    assert!(!net.established(0, "p2"));
    let protocol = "p2".into();
    let command = Command::Enable;
    net.input(0, Input::Command { protocol, command });
    net.seconds(60);
    assert!(net.established(0, "p2"));
}

#[test]
fn another_preference_holds_for_what_was_received_before() {
    let text = |channel: &str| node(1, 64512, &[(2, 64512, &format!("{channel} export all;|"))]);
    let mut net = pair(&text("import all;"), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    for (channel, preference) in [
        ("preference 90; import all;", 90),
        ("preference 110; import where net.len > 0;", 110),
        ("import all;", 100),
    ] {
        reconfigure(&mut net, 0, &text(channel));
        assert_eq!(net.best(0, "10.2.0.0/24").unwrap().preference, preference);
    }
}
