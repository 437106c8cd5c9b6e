//! Sessions: who may connect, limits, filters, refresh, reconfiguration, queries.

use std::net::SocketAddr;

use bytes::Bytes;

use super::Network;
use super::network::config;
use crate::config::Authentication;
use crate::rib::{Filtered, Reason};
use crate::speaker::{Command, ConnId, Input, LogEvent, ProtocolState, RouteQuery};

/// Node `n` at 10.0.0.n with AS `asn`, a static route of its own for each family, and sessions with `peers`.
pub(super) fn node(n: u8, asn: u32, peers: &[(u8, u32, &str)]) -> String {
    let mut text = format!(
        "router id 10.0.0.{n};\nprotocol device {{ }}\n\
         protocol static own4 {{ ipv4; route 10.{n}.0.0/24 blackhole; }}\n\
         protocol static own6 {{ ipv6; route fd00:{n}::/64 blackhole; }}\n\
         protocol felix {{ ipv4 {{ export where source = RTS_BGP; }}; ipv6 {{ export where source = RTS_BGP; }}; }}\n"
    );
    for (peer, peer_as, options) in peers {
        let (channel, options) = options.split_once('|').unwrap_or(("import all; export all;", options));
        text += &format!(
            "protocol bgp p{peer} {{ local 10.0.0.{n} as {asn}; neighbor 10.0.0.{peer} as {peer_as}; direct;\n\
             connect delay time 1; connect retry time 5; error wait time 1, 10; graceful restart on; {options}\n\
             ipv4 {{ {channel} }}; ipv6 {{ {channel} }}; }}\n"
        );
    }
    text
}

pub(super) fn pair(a: &str, b: &str) -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", a);
    net.start(1, "10.0.0.2", b);
    net
}

#[test]
fn two_speakers_exchange_both_families() {
    let mut net = pair(
        &node(1, 64512, &[(2, 64512, "")]),
        &node(2, 64512, &[(1, 64512, "passive on;")]),
    );
    net.seconds(10);
    assert!(net.established(0, "p2") && net.established(1, "p1"));
    let route = net.best(1, "10.1.0.0/24").unwrap();
    assert_eq!(route.next_hops[0].address, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(route.attributes.local_pref, Some(100));
    assert_eq!(route.reason, Some(Reason::Only));
    let route = net.best(1, "fd00:1::/64").unwrap();
    assert_eq!(route.next_hops[0].address, Some("fd00::1".parse().unwrap()));
    assert_eq!(net.node(1).fib.len(), 2, "own routes are not exported");
    assert_eq!((net.node(0).in_sync, net.node(1).in_sync), (1, 1));
    assert_eq!(net.node(1).speaker.fib().len(), 2);
    // One UPDATE and one End-of-RIB for each family; End-of-RIB is not counted.
    assert_eq!(net.updates_sent(0), 2);
    let channel = net.protocol(1, "p1").channels[0].clone();
    assert_eq!((channel.imported, channel.preferred, channel.exported), (1, 1, 1));
}

/// TCP knows no messages: every octet may come by itself, and many messages at once.
#[test]
fn where_the_stream_is_cut_means_nothing() {
    for piece in [1, 2, 7, 18, 19, 23, 100_000] {
        for held in [false, true] {
            let mut net = Network::default();
            net.piece = Some(piece);
            let routes: String = (0..60).map(|n| format!("route 10.9.{n}.0/24 blackhole; ")).collect();
            let many = format!("protocol static many {{ ipv4; {routes} }}\n");
            net.start(0, "10.0.0.1", &(node(1, 65001, &[(2, 65002, "")]) + &many));
            net.node_mut(0).holds_updates = held;
            net.start(1, "10.0.0.2", &node(2, 65002, &[(1, 65001, "")]));
            net.seconds(20);
            if held {
                // UPDATEs of both families and both End-of-RIBs, in one go.
                net.hurry(0);
                net.seconds(1);
            }
            let got = net
                .protocol(1, "p1")
                .channels
                .iter()
                .map(|channel| channel.imported)
                .collect::<Vec<_>>();
            assert_eq!(got, [61, 1], "pieces of {piece}, held: {held}");
            assert_eq!(net.protocol(1, "p1").bgp.unwrap().last_error, None);
        }
    }
}

/// Octets are no message: a peer that trickles is as silent as one that says nothing.
#[test]
fn half_a_message_keeps_nobody_alive_and_its_end_harms_nobody() {
    let mut net = pair(
        &node(1, 64512, &[(2, 64512, "hold time 9;")]),
        &node(2, 64512, &[(1, 64512, "")]),
    );
    net.seconds(10);
    net.node_mut(1).slow = true;
    let half = [vec![0xff; 16], vec![0x10, 0x00, 2], vec![0; 41]].concat();
    let conn = net.connection(0, 1);
    let trickle = |net: &mut Network, octet: &u8| {
        let bytes = Bytes::copy_from_slice(&[*octet]);
        net.input(0, Input::Received { conn, bytes });
        net.seconds(1);
        !net.established(0, "p2")
    };
    let seconds = half.iter().position(|octet| trickle(&mut net, octet));
    assert!(matches!(seconds, Some(5..=12)), "{seconds:?}");
    let expired = |event: &LogEvent| matches!(event, LogEvent::State { from: "Established", reason, .. } if reason.contains("Hold timer expired"));
    assert_eq!(net.logged(0, expired), 1);
    // A connection that breaks in the middle of a message.
    net.hurry(1);
    net.seconds(120);
    assert!(net.established(0, "p2"));
    let (conn, bytes) = (net.connection(0, 1), Bytes::from(half));
    net.input(0, Input::Received { conn, bytes });
    net.cut_all(1);
    net.seconds(120);
    assert!(net.established(0, "p2") && net.best(0, "10.2.0.0/24").is_some());
}

#[test]
fn a_stranger_is_refused() {
    let mut net = pair(&node(1, 64512, &[]), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    assert!(!net.established(1, "p1"));
    let mut out = Vec::new();
    let conn = ConnId::Incoming(77);
    let (local, remote): (SocketAddr, SocketAddr) = ("10.0.0.1:179".parse().unwrap(), "10.9.9.9:1".parse().unwrap());
    net.node_mut(0).speaker.handle(
        std::time::Duration::ZERO,
        Input::Incoming { conn, local, remote },
        &mut out,
    );
    assert_eq!(out, [crate::speaker::Output::Close { conn }]);
    let speaker = &net.node(1).speaker;
    assert!(speaker.expects("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()));
    assert!(speaker.expects("::ffff:10.0.0.2".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap()));
    assert!(!speaker.expects("10.0.0.2".parse().unwrap(), "10.9.9.9".parse().unwrap()));
}

#[test]
fn it_listens_where_it_has_peers_and_nowhere_else() {
    let text = node(
        1,
        64512,
        &[(2, 64512, "password \"secret\"; strict bind on;"), (3, 64512, "")],
    );
    let mut net = pair(&text, &node(2, 64512, &[]));
    net.quiesce();
    let listening = &net.node(0).listening;
    assert_eq!(listening.len(), 2);
    assert_eq!((listening[0].address, listening[0].port), (None, 179));
    assert_eq!(listening[1].address, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(
        listening[1].keys,
        [("10.0.0.2/32".parse().unwrap(), Authentication::Md5("secret".to_owned()))]
    );
    assert!(net.node(1).listening.is_empty());
    net.input(
        0,
        Input::Command {
            protocol: "p2".into(),
            command: Command::Disable,
        },
    );
    net.quiesce();
    assert_eq!(net.node(0).listening.len(), 1);
}

#[test]
fn peers_out_of_a_range_come_and_go() {
    let range = "router id 10.0.0.1; protocol static { ipv4; route 10.1.0.0/24 blackhole; }\n\
                 protocol bgp dyn { local as 64512; neighbor range 10.0.0.0/24 internal; ipv4 { import all; export all; }; }";
    let mut net = pair(range, &node(2, 64512, &[(1, 64512, "graceful restart off;")]));
    net.seconds(10);
    assert!(net.established(0, "dynbgp1"));
    assert!(net.best(0, "10.2.0.0/24").is_some());
    net.input(
        1,
        Input::Command {
            protocol: "p1".into(),
            command: Command::Disable,
        },
    );
    net.seconds(1);
    assert!(net.best(0, "10.2.0.0/24").is_none());
    assert!(
        net.node(0).speaker.protocols().iter().all(|p| &*p.name != "dynbgp1"),
        "it is gone with its session"
    );
}

#[test]
fn garbage_ends_only_its_own_session() {
    let mut net = pair(
        &node(1, 64512, &[(2, 64512, ""), (3, 64512, "")]),
        &node(2, 64512, &[(1, 64512, "")]),
    );
    net.start(2, "10.0.0.3", &node(3, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    assert!(net.established(0, "p2") && net.established(0, "p3"));
    // The third node's session gets octets that are no message.
    let before = net.protocol(0, "p2").since;
    let conn = net.connection(0, 2);
    net.input(
        0,
        Input::Received {
            conn,
            bytes: vec![0; 64].into(),
        },
    );
    net.quiesce();
    assert_eq!(net.protocol(0, "p2").since, before, "the other session never noticed");
    net.seconds(20);
    assert!(net.established(0, "p3"), "and it comes back");
}

#[test]
fn limits() {
    let three = "router id 10.0.0.2; protocol static { ipv4; route 10.2.0.0/24 blackhole; route 10.2.1.0/24 blackhole; route 10.2.2.0/24 blackhole; }\n\
                 protocol bgp p1 { local 10.0.0.2 as 64512; neighbor 10.0.0.1 as 64512; ipv4 { export all; import all; }; }";
    for (action, established, accepted) in [("block", true, 2), ("warn", true, 3), ("disable", false, 0)] {
        let channel = format!("import all; export all; import limit 2 action {action};|");
        let mut net = pair(&node(1, 64512, &[(2, 64512, &channel)]), three);
        net.seconds(20);
        assert_eq!(net.established(0, "p2"), established, "{action}");
        assert_eq!(net.protocol(0, "p2").channels[0].imported, accepted, "{action}");
        assert_eq!(
            net.logged(0, |e| matches!(
                e,
                LogEvent::Limit {
                    kind: "import",
                    limit: 2,
                    ..
                }
            )),
            1,
            "{action}"
        );
        assert_eq!(net.protocol(0, "p2").state == ProtocolState::Down, action == "disable");
    }
}

#[test]
fn an_export_limit_that_blocks_lets_through_what_makes_room() {
    let with = |routes: &str| {
        let routes: String = routes
            .chars()
            .map(|c| format!("route 10.9.{c}.0/24 blackhole; "))
            .collect();
        format!("protocol static many {{ ipv4; {routes} }}\n")
            + &node(
                1,
                64512,
                &[(2, 64512, "import all; export limit 3 action block; export all;|")],
            )
    };
    let mut net = pair(&with("1234"), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    assert_eq!(net.protocol(0, "p2").channels[0].exported, 3);
    assert_eq!(net.protocol(1, "p1").channels[0].imported, 3);
    assert_eq!(
        net.logged(0, |e| matches!(
            e,
            LogEvent::Limit {
                kind: "export",
                limit: 3,
                ..
            }
        )),
        1
    );
    net.input(0, Input::Reconfigure(config(&with("4"))));
    net.seconds(1);
    let got = net.node(1).speaker.routes(&RouteQuery {
        protocol: Some("p1".to_owned()),
        ..RouteQuery::default()
    });
    let got: Vec<String> = got.iter().map(|r| r.prefix.to_string()).collect();
    assert_eq!(got, ["10.1.0.0/24", "10.9.4.0/24", "fd00:1::/64"]);
}

#[test]
fn a_filter_change_refeeds_without_touching_the_session() {
    let with = |export: &str| node(1, 64512, &[(2, 64512, &format!("import all; {export}|"))]);
    let mut net = pair(&with("export all;"), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    let (since, sent) = (net.protocol(0, "p2").since, net.updates_sent(0));
    net.input(
        0,
        Input::Reconfigure(config(&with(
            "export filter { bgp_community.add((64512,7)); accept; };",
        ))),
    );
    net.seconds(1);
    assert_eq!(net.best(1, "10.1.0.0/24").unwrap().attributes.communities.len(), 1);
    assert_eq!(net.updates_sent(0), sent + 2);
    net.input(0, Input::Reconfigure(config(&with("export where true;"))));
    net.input(
        0,
        Input::Reconfigure(config(&with(
            "export filter { bgp_community.add((64512,7)); accept; };",
        ))),
    );
    net.seconds(1);
    assert_eq!(
        net.updates_sent(0),
        sent + 2,
        "there and back again between two flushes is nothing"
    );
    net.input(0, Input::Reconfigure(config(&with("export none;"))));
    net.seconds(1);
    assert!(net.best(1, "10.1.0.0/24").is_none());
    assert_eq!(net.protocol(0, "p2").since, since);
    assert!(net.established(0, "p2") && net.established(1, "p1"));
}

#[test]
fn an_import_filter_change_needs_nothing_from_the_peer() {
    let with = |import: &str| node(2, 64512, &[(1, 64512, &format!("{import} export all;|"))]);
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &with("import none;"));
    net.seconds(10);
    assert_eq!(net.protocol(1, "p1").channels[0].filtered, 1);
    let query = RouteQuery {
        filtered: true,
        protocol: Some("p1".to_owned()),
        ..RouteQuery::default()
    };
    let filtered = net.node(1).speaker.routes(&query);
    assert_eq!(filtered[0].filtered, Some(Filtered::ImportPolicy));
    let received = net.protocol(1, "p1").bgp.unwrap().updates_received;
    net.input(
        1,
        Input::Reconfigure(config(&with("import filter { bgp_local_pref = 300; accept; };"))),
    );
    net.seconds(1);
    assert_eq!(net.best(1, "10.1.0.0/24").unwrap().attributes.local_pref, Some(300));
    assert_eq!(net.protocol(1, "p1").bgp.unwrap().updates_received, received);
}

#[test]
fn reconfiguration_touches_only_what_differs() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    net.start(2, "10.0.0.3", &node(3, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    let since = net.protocol(0, "p2").since;
    net.input(
        0,
        Input::Reconfigure(config(&node(1, 64512, &[(2, 64512, ""), (3, 64512, "")]))),
    );
    net.seconds(20);
    assert!(net.established(0, "p3"), "added");
    let more = node(1, 64512, &[(2, 64512, ""), (3, 64512, "hold time 30;")])
        .replace("route 10.1.0.0/24 blackhole;", "route 10.1.1.0/24 blackhole;");
    net.input(0, Input::Reconfigure(config(&more)));
    net.quiesce();
    assert!(
        !net.established(0, "p3"),
        "a hold time is agreed on by OPENs: restarted"
    );
    assert!(net.best(1, "10.1.0.0/24").is_none() && net.best(1, "10.1.1.0/24").is_some());
    net.seconds(20);
    assert!(net.established(0, "p3"));
    net.input(0, Input::Reconfigure(config(&node(1, 64512, &[(2, 64512, "")]))));
    net.quiesce();
    assert!(
        net.best(0, "10.3.0.0/24").is_none(),
        "a removed peer's routes go at once"
    );
    assert_eq!(net.protocol(0, "p2").since, since, "the other session never noticed");
}

#[test]
fn commands_and_refresh() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    let sent = net.updates_sent(0);
    net.input(
        0,
        Input::Command {
            protocol: "p2".into(),
            command: Command::ReloadOut,
        },
    );
    net.seconds(1);
    assert_eq!(
        net.updates_sent(0),
        sent + 2,
        "everything again, because it was asked for"
    );
    net.input(
        0,
        Input::Command {
            protocol: "own4".into(),
            command: Command::Disable,
        },
    );
    net.seconds(1);
    assert!(net.best(1, "10.1.0.0/24").is_none());
    assert_eq!(net.protocol(0, "own4").state, ProtocolState::Down);
    net.input(
        0,
        Input::Command {
            protocol: "own4".into(),
            command: Command::Enable,
        },
    );
    net.input(
        0,
        Input::Command {
            protocol: "p2".into(),
            command: Command::Disable,
        },
    );
    net.seconds(1);
    assert_eq!(net.protocol(0, "p2").state, ProtocolState::Down);
    assert!(
        net.best(1, "fd00:1::/64").is_none(),
        "an administrative shutdown is not kept over"
    );
    net.input(
        0,
        Input::Command {
            protocol: "p2".into(),
            command: Command::Enable,
        },
    );
    net.seconds(20);
    assert!(net.best(1, "10.1.0.0/24").is_some());
}

#[test]
fn queries() {
    let mut net = pair(&node(1, 64512, &[(2, 65001, "")]), &node(2, 65001, &[(1, 64512, "")]));
    net.seconds(10);
    let speaker = &net.node(0).speaker;
    let by = |query: RouteQuery| {
        speaker
            .routes(&query)
            .into_iter()
            .map(|r| r.prefix.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        by(RouteQuery::default()),
        ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"]
    );
    let longest = RouteQuery {
        longest_match: Some("10.2.0.9".parse().unwrap()),
        ..RouteQuery::default()
    };
    assert_eq!(by(longest), ["10.2.0.0/24"]);
    assert_eq!(
        by(RouteQuery {
            protocol: Some("own6".to_owned()),
            ..RouteQuery::default()
        }),
        ["fd00:1::/64"]
    );
    assert!(
        by(RouteQuery {
            protocol: Some("nobody".to_owned()),
            ..RouteQuery::default()
        })
        .is_empty()
    );
    let exported = speaker.routes(&RouteQuery {
        exported_to: Some("p2".to_owned()),
        ..RouteQuery::default()
    });
    let paths: Vec<_> = exported
        .iter()
        .map(|r| (r.prefix.to_string(), r.attributes.as_path.to_string()))
        .collect();
    assert_eq!(
        paths,
        [
            ("10.1.0.0/24".to_owned(), "64512".to_owned()),
            ("fd00:1::/64".to_owned(), "64512".to_owned())
        ]
    );
    let status = speaker.status();
    assert_eq!((status.prefixes, status.paths, status.fib_in_sync), (4, 4, true));
}

#[test]
fn a_slow_peer_coalesces() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    // Host prefixes of IPv6 take 17 octets each: these are more than the window holds.
    const ROUTES: u32 = 20_000;
    let many = |med: u32| {
        let route = |i| format!("route fd01::{i:x}/128 blackhole {{ bgp_med = {med}; }}; ");
        let routes: String = (1..=ROUTES).map(route).collect();
        node(1, 64512, &[(2, 64512, "")]) + &format!("protocol static many {{ ipv6; {routes} }}")
    };
    net.node_mut(0).slow = true;
    let sent = net.updates_sent(0);
    net.input(0, Input::Reconfigure(config(&many(1))));
    net.quiesce();
    let first = net.updates_sent(0) - sent;
    // The window is full; what changes now costs no message.
    for med in 2..5 {
        net.input(0, Input::Reconfigure(config(&many(med))));
        net.quiesce();
    }
    assert_eq!(
        net.updates_sent(0) - sent,
        first,
        "nothing more before the peer takes something"
    );
    net.hurry(0);
    net.quiesce();
    let all = net.updates_sent(0) - sent;
    // Some 230 prefixes fit into a message.
    assert!(
        all <= u64::from(2 * ROUTES / 200),
        "{all} messages for prefixes told once or twice"
    );
    assert_eq!(net.best(1, "fd01::1/128").unwrap().attributes.med, Some(4));
    assert_eq!(net.best(1, "fd01::4e20/128").unwrap().attributes.med, Some(4));
}

/// What confd does when a node claims its first block: a static protocol, and an export filter that lets it pass, at once.
#[test]
fn a_route_and_the_filter_that_lets_it_pass_come_with_one_reconfiguration() {
    let text = |own: &str, rule: &str| {
        format!(
            "router id 10.0.0.1;\nprotocol device {{ }}\n\
             function to_export() {{ {rule} if net ~ [ 10.0.0.0/8+ ] then accept; reject; }}\n\
             filter to_peers {{ to_export(); reject; }}\n{own}\
             protocol felix {{ ipv4 {{ export where source = RTS_BGP; }}; }}\n\
             protocol bgp p2 {{ local as 64512; neighbor 10.0.0.2 as 64512; direct; graceful restart on;\n\
             ipv4 {{ import all; export filter to_peers; }}; }}\n"
        )
    };
    let before = text("", "");
    let own = "protocol static own { ipv4; route 10.1.0.0/24 blackhole; }\n";
    let after = text(own, "if net = 10.1.0.0/24 then accept;");
    let mut net = pair(&before, &node(2, 64512, &[(1, 64512, "passive on;")]));
    net.seconds(10);
    assert!(net.established(0, "p2"));
    net.input(0, Input::Reconfigure(config(&after)));
    net.seconds(2);
    assert!(net.best(0, "10.1.0.0/24").is_some(), "in our own table");
    assert!(net.best(1, "10.1.0.0/24").is_some(), "and at the peer");
}

#[test]
fn a_peer_that_sends_faults_does_not_fill_the_log() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let conn = net.connection(0, 1);
    // ORIGIN 9 and nothing else, for 10.66.0.0/16.
    let mut bytes = vec![0xff; 16];
    bytes.extend([0, 30, 2, 0, 0, 0, 4, 0x40, 1, 1, 9]);
    bytes.extend([16, 10, 66]);
    for _ in 0..100 {
        let bytes = bytes.clone().into();
        net.input(0, Input::Received { conn, bytes });
    }
    let logged = |net: &Network| net.logged(0, |event| matches!(event, LogEvent::BadRoute { .. }));
    assert_eq!(logged(&net), 1);
    net.seconds(1);
    let bytes = bytes.into();
    net.input(0, Input::Received { conn, bytes });
    assert_eq!(logged(&net), 2);
    assert!(net.established(0, "p2") && net.best(0, "10.66.0.0/16").is_none());
}

#[test]
fn a_peer_that_asks_for_refreshes_and_reads_nothing_is_not_answered_each_time() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let conn = net.connection(0, 1);
    let mut bytes = vec![0xff; 16];
    bytes.extend([0, 23, 5, 0, 1, 0, 1]);
    let (now, mut out) = (net.now, Vec::new());
    let speaker = &mut net.node_mut(0).speaker;
    for _ in 0..1000 {
        let bytes = bytes.clone().into();
        speaker.handle(now, Input::Received { conn, bytes }, &mut out);
    }
    speaker.handle(now, Input::Tick, &mut out);
    let sent = out
        .iter()
        .filter(|output| matches!(output, crate::speaker::Output::Send { .. }));
    assert_eq!(sent.count(), 3, "begin, the route, end");
}
