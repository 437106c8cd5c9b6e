//! An update is never sent for a route that the peer has with the same attributes: whatever is fed anew, configured anew or
//! decided anew behind it.

use super::Network;
use super::network::config;
use super::sessions::node;
use crate::speaker::{Command, Input};

const PREFIX: &str = "10.50.0.0/24";
const SHARED: &str = "protocol static shared { ipv4; route 10.50.0.0/24 blackhole; }\n";
/// The router in the middle: two peers of one AS tell it the same, and the last one listens to what comes of it.
const FROM: &str = "import all; export all;|";
const TO: &str = "import all; export all; next hop self;|";

fn middle(first: &str, second: &str, to: &str) -> String {
    node(1, 64512, &[(2, 64600, first), (3, 64600, second), (4, 64700, to)])
}

fn teller(n: u8) -> String {
    node(n, 64600, &[(1, 64512, "")]) + SHARED
}

fn network() -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &middle(FROM, FROM, TO));
    net.start(1, "10.0.0.2", &teller(2));
    net.start(2, "10.0.0.3", &teller(3));
    net.start(3, "10.0.0.4", &node(4, 64700, &[(1, 64512, "")]));
    net.seconds(60);
    assert!(net.best(3, PREFIX).is_some());
    net
}

fn reconfigure(net: &mut Network, at: usize, text: &str) {
    net.input(at, Input::Reconfigure(config(text)));
    net.seconds(10);
}

/// UPDATEs that the listener was sent.
fn heard(net: &Network) -> u64 {
    net.protocol(0, "p4").bgp.unwrap().updates_sent
}

fn best_of_the_middle(net: &Network) -> String {
    net.best(0, PREFIX).unwrap().protocol.to_string()
}

#[test]
fn what_is_fed_again_is_not_told_again() {
    let mut net = network();
    let before = heard(&net);
    let (received, sent) = (net.updates_sent(1), net.updates_sent(0));
    net.operate(0, "p2", Command::ReloadIn, "");
    net.seconds(5);
    assert_eq!(net.updates_sent(0), sent, "nobody is told anything");
    net.operate(0, "p2", Command::Reload, "");
    net.seconds(5);
    assert_eq!(heard(&net), before, "that was for the other peer");
    // A peer that says everything again, as after a refresh that we asked for.
    net.operate(1, "p1", Command::ReloadOut, "");
    net.seconds(5);
    assert!(net.updates_sent(1) > received, "it was said again");
    assert_eq!(heard(&net), before);
    // Sessions that break and come back with what they had.
    net.cut_all(1);
    net.seconds(60);
    assert!(net.established(0, "p2"));
    assert_eq!(heard(&net), before);
    assert!(net.best(3, PREFIX).is_some());
}

#[test]
fn a_configuration_that_changes_nothing_for_a_peer_tells_it_nothing() {
    let mut net = network();
    let (before, since) = (heard(&net), net.protocol(0, "p4").since);
    let texts = [
        middle(FROM, FROM, TO),
        middle(FROM, FROM, "import all; export where true; next hop self;|"),
        middle(
            FROM,
            FROM,
            "import all; export filter { if net = 10.0.0.0/8 then reject; accept; }; next hop self;|",
        ),
        middle("import where source = RTS_BGP; export all;|", FROM, TO),
        middle(
            "import all; export none;|",
            "import limit 100; import all; export all;|",
            TO,
        ),
        middle(FROM, FROM, TO) + "protocol static more { ipv4; }\n",
    ];
    for text in &texts {
        reconfigure(&mut net, 0, text);
        assert_eq!(heard(&net), before, "{text}");
    }
    assert_eq!(net.protocol(0, "p4").since, since, "one session all the time");
    // So that the counter is known to count: what does change is told, once.
    let prepend = "import all; export filter { bgp_path.prepend(64512); accept; }; next hop self;|";
    reconfigure(&mut net, 0, &middle(FROM, FROM, prepend));
    assert!(heard(&net) > before);
    assert_eq!(
        net.best(3, PREFIX).unwrap().attributes.as_path.to_string(),
        "64512 64512 64600"
    );
}

#[test]
fn a_best_path_that_gives_way_to_an_equal_one_is_no_news() {
    let mut net = network();
    let before = heard(&net);
    let mut seen = std::collections::BTreeSet::from([best_of_the_middle(&net)]);
    // The first takes it back and says it anew; then the second.
    for (at, n) in [(1, 2), (1, 2), (2, 3), (2, 3)] {
        let gone = teller(n).replace("route 10.50.0.0/24 blackhole;", "");
        reconfigure(&mut net, at, &gone);
        seen.insert(best_of_the_middle(&net));
        reconfigure(&mut net, at, &teller(n));
        seen.insert(best_of_the_middle(&net));
        assert_eq!(heard(&net), before);
    }
    // The one that is worse becomes the better one by what stays inside.
    let preferred = "import filter { bgp_local_pref = 300; accept; }; export all;|";
    for (first, second, winner) in [(preferred, FROM, "p2"), (FROM, preferred, "p3"), (FROM, FROM, "p2")] {
        reconfigure(&mut net, 0, &middle(first, second, TO));
        if winner == "p3" || first == preferred {
            assert_eq!(best_of_the_middle(&net), winner);
        }
        assert_eq!(heard(&net), before);
    }
    assert_eq!(seen.len(), 2, "both were the best: {seen:?}");
    assert!(net.best(3, PREFIX).is_some());
}
