//! What many peers are sent alike.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{Input, Output, SEND_WINDOW};

const CLIENTS: u8 = 5;

fn address(n: u8) -> String {
    format!("10.0.0.{n}")
}

/// A client that announces one prefix of each family, or none.
fn client(n: u8, announces: bool) -> String {
    let all = node(n, 64512, &[(1, 64512, "")]);
    if announces {
        return all;
    }
    all.replace(&format!("route 10.{n}.0.0/24 blackhole;"), "")
        .replace(&format!("route fd00:{n}::/64 blackhole;"), "")
}

/// A reflector, number 0 in the network, and its clients, once all know all.
fn reflector() -> Network {
    let names: Vec<_> = (2..2 + CLIENTS).map(|n| (n, 64512, "rr client;")).collect();
    let mut net = Network::default();
    net.start(0, &address(1), &node(1, 64512, &names));
    for n in 2..2 + CLIENTS {
        net.start(usize::from(n) - 1, &address(n), &client(n, true));
    }
    net.seconds(60);
    net
}

/// UPDATEs and withdrawn IPv4 routes that a client has heard.
fn heard(net: &Network, at: usize) -> (u64, u64) {
    let session = net.protocol(at, "p1");
    let ipv4 = session
        .channels
        .iter()
        .find(|channel| channel.family == "ipv4")
        .unwrap();
    (session.bgp.unwrap().updates_received, ipv4.imports.withdraws.received)
}

#[test]
fn withdrawals_of_many_share_a_message_and_nobody_is_told_of_its_own() {
    let mut net = reflector();
    let clients = 1..1 + usize::from(CLIENTS);
    let before: Vec<_> = clients.clone().map(|at| heard(&net, at)).collect();
    // All but the last one take their routes back at once.
    for n in 2..1 + CLIENTS {
        net.input(usize::from(n) - 1, Input::Reconfigure(config(&client(n, false))));
    }
    net.seconds(1);
    for (at, (updates, withdrawn)) in clients.zip(before) {
        let told = u64::from(CLIENTS) - if at == usize::from(CLIENTS) { 1 } else { 2 };
        assert_eq!(
            heard(&net, at),
            (updates + 2, withdrawn + told),
            "client {at}: one message for each family"
        );
        assert!(net.best(at, "10.1.0.0/24").is_some(), "of the reflector itself");
        assert!(net.best(at, "10.2.0.0/24").is_none());
        assert!(net.best(at, "fd00:3::/64").is_none());
        assert!(net.best(at, "10.6.0.0/24").is_some());
    }
}

#[test]
fn who_has_room_is_told_more_before_the_next_flush() {
    let names = |n: u8, peer: u8| node(n, 64512, &[(peer, 64512, "")]);
    let mut net = pair(&names(1, 2), &names(2, 1));
    net.seconds(10);
    // Host prefixes of IPv6 take 17 octets each: these are more than the window holds.
    let routes: String = (1..=20_000)
        .map(|i| format!("route fd01::{i:x}/128 blackhole; "))
        .collect();
    let many = names(1, 2) + &format!("protocol static many {{ ipv6; {routes} }}");
    net.node_mut(0).slow = true;
    net.input(0, Input::Reconfigure(config(&many)));
    net.quiesce();
    let (now, conn) = (net.now, net.connection(0, 1));
    let mut sends = |bytes| {
        let mut out = Vec::new();
        let sent = Input::Sent { conn, bytes };
        net.node_mut(0).speaker.handle(now, sent, &mut out);
        out.iter().any(|output| matches!(output, Output::Send { .. }))
    };
    assert!(!sends(1), "one octet makes no room");
    assert!(sends(SEND_WINDOW));
    assert!(!sends(SEND_WINDOW), "it was told everything");
    let due = net.node(0).speaker.next_deadline();
    assert!(due.is_some_and(|due| due <= now), "what nobody needs any more goes");
}
