//! Paths of equal cost become one route with several next hops for felix.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Network;
use super::network::config;
use crate::speaker::{Input, RouteQuery};

const PREFIX: &str = "10.9.0.0/24";
/// In ASes of their own, but the last two, which share one.
const PEERS: std::ops::RangeInclusive<u8> = 2..=6;

fn asn(peer: u8) -> u32 {
    65000 + u32::from(peer.min(5))
}

/// How a peer announces the prefix, if it does: so many times its AS more, and with this MED.
type Announces = Option<(u8, u8)>;

fn peer(me: u8, announces: Announces) -> String {
    let route = if announces.is_some() {
        "route 10.9.0.0/24 blackhole;"
    } else {
        ""
    };
    let (prepends, med) = announces.unwrap_or_default();
    let prepend = format!("bgp_path.prepend({}); ", asn(me)).repeat(usize::from(prepends));
    format!(
        "router id 10.0.0.{me};\nprotocol device {{ }}\nprotocol static {{ ipv4; {route} }}\n\
         protocol bgp p1 {{ local 10.0.0.{me} as {}; neighbor 10.0.0.1 as 64512; direct; connect delay time 1;\n\
         ipv4 {{ import none; export filter {{ {prepend} bgp_med = {med}; accept; }}; }}; }}\n",
        asn(me)
    )
}

/// The router under test. `channel` is what felix's says.
fn router(channel: &str) -> String {
    let mut text = format!("router id 10.0.0.1;\nprotocol device {{ }}\nprotocol felix {{ ipv4 {{ {channel} }}; }}\n");
    for peer in PEERS {
        text += &format!(
            "protocol bgp p{peer} {{ local 10.0.0.1 as 64512; neighbor 10.0.0.{peer} as {}; direct; connect delay time 1;\n\
             ipv4 {{ import all; export none; }}; }}\n",
            asn(peer)
        );
    }
    text
}

fn network(channel: &str, announces: &[Announces]) -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &router(channel));
    for (me, announces) in PEERS.zip(announces) {
        net.start(usize::from(me) - 1, &format!("10.0.0.{me}"), &peer(me, *announces));
    }
    net.seconds(20);
    net
}

/// The last octets of what felix has for the prefix.
fn hops(net: &Network) -> Vec<u8> {
    let Some(route) = net.node(0).fib.get(&PREFIX.parse().unwrap()) else {
        return Vec::new();
    };
    let last = |address: std::net::IpAddr| address.to_string().rsplit('.').next().unwrap().parse().unwrap();
    route.next_hops.iter().map(|hop| last(hop.address.unwrap())).collect()
}

fn reconfigure(net: &mut Network, at: usize, text: &str) {
    net.input(at, Input::Reconfigure(config(text)));
    net.seconds(5);
}

const EQUAL: [Announces; 5] = [Some((0, 0)), Some((0, 0)), Some((0, 0)), Some((0, 0)), None];

#[test]
fn only_what_is_as_good_as_the_best_is_merged() {
    let on = "export all; merge paths on;";
    let mut net = network(on, &EQUAL);
    assert_eq!(hops(&net), [2, 3, 4, 5]);
    assert_eq!(net.node(0).speaker.fib().len(), 1);
    reconfigure(&mut net, 2, &peer(3, Some((1, 0))));
    assert_eq!(hops(&net), [2, 4, 5], "a longer path");
    // 5 and 6 are in one AS: there MED decides, and who lost by it is no equal of anybody.
    reconfigure(&mut net, 5, &peer(6, Some((0, 7))));
    assert_eq!(hops(&net), [2, 4, 5]);
    reconfigure(&mut net, 4, &peer(5, Some((0, 8))));
    assert_eq!(hops(&net), [2, 4, 6]);
    // The best one goes: no gap, no deletion.
    reconfigure(&mut net, 1, &peer(2, None));
    assert_eq!((hops(&net), net.node(0).fib_deletes), (vec![4, 6], 0));
    let query = RouteQuery {
        exported_to: Some("felix1".to_owned()),
        ..RouteQuery::default()
    };
    assert_eq!(net.node(0).speaker.routes(&query)[0].next_hops.len(), 2);
}

#[test]
fn the_limit_and_the_policy_are_changed_without_a_restart() {
    let mut net = network("export all;", &EQUAL);
    assert_eq!(hops(&net), [2], "off unless it is said");
    for (channel, wanted) in [
        ("export all; merge paths;", &[2, 3, 4, 5][..]),
        ("export all; merge paths limit 3;", &[2, 3, 4]),
        ("export all; merge paths on limit 1;", &[2]),
        ("export where proto != \"p4\"; merge paths yes;", &[2, 3, 5]),
        (
            "export filter { if proto = \"p3\" then gw = 10.0.0.77; accept; }; merge paths yes;",
            &[2, 4, 5, 77],
        ),
        ("export where proto != \"p2\"; merge paths yes;", &[]),
        ("export all; merge paths off;", &[2]),
    ] {
        reconfigure(&mut net, 0, &router(channel));
        assert_eq!(hops(&net), wanted, "{channel}");
    }
    assert!((2..=5).all(|peer| net.established(0, &format!("p{peer}"))));
    assert_eq!(
        net.node(0)
            .logs
            .iter()
            .filter(|log| format!("{log:?}").contains("FilterFailed"))
            .count(),
        0
    );
}

#[test]
fn own_routes_with_several_gateways_are_merged_too() {
    let with = |channel: &str| {
        let text = format!(
            "router id 10.0.0.1;\nprotocol device {{ }}\nprotocol felix {{ ipv4 {{ export all; {channel} }}; }}\n\
             protocol static a {{ ipv4; route 10.9.0.0/24 via 10.0.0.3 via 10.0.0.2; }}\n\
             protocol static b {{ ipv4; route 10.9.0.0/24 via 10.0.0.4 via 10.0.0.2; }}\n\
             protocol static c {{ ipv4; route 10.9.0.0/24 blackhole; }}\n"
        );
        let mut net = Network::default();
        net.start(0, "10.0.0.1", &text);
        net.seconds(5);
        hops(&net)
    };
    let mut alone = with("");
    alone.sort_unstable();
    assert_eq!(alone, [2, 3]);
    assert_eq!(with("merge paths;"), [2, 3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_set_depends_on_the_paths_and_not_on_how_they_came(
        changes in proptest::collection::vec((PEERS, proptest::option::of((0u8..3, 0u8..3))), 0..30),
        limit in 1u8..6,
    ) {
        let channel = format!("export all; merge paths limit {limit};");
        let mut now: [Announces; 5] = [None; 5];
        let mut net = network(&channel, &now);
        for (me, announces) in changes {
            now[usize::from(me) - 2] = announces;
            net.input(usize::from(me) - 1, Input::Reconfigure(config(&peer(me, announces))));
            net.quiesce();
        }
        net.seconds(20);
        let got = hops(&net);
        let there = || PEERS.zip(now).filter_map(|(me, announces)| announces.map(|(prepends, med)| (me, prepends, med)));
        let shortest = there().map(|(_, prepends, _)| prepends).min();
        let wins = |&(me, prepends, med): &(u8, u8, u8)| {
            let mut rivals = there().filter(|(other, ..)| asn(*other) == asn(me));
            Some(prepends) == shortest && rivals.all(|(_, p, m)| (prepends, med) <= (p, m))
        };
        let wanted: BTreeSet<u8> = there().filter(wins).map(|(me, ..)| me).collect();
        prop_assert_eq!(got.len(), wanted.len().min(usize::from(limit)));
        prop_assert!(got.iter().all(|hop| wanted.contains(hop)), "{:?} of {:?}", got, wanted);
        // The same paths in the order of the peers: the same next hops.
        prop_assert_eq!(&hops(&network(&channel, &now)), &got);
    }
}
