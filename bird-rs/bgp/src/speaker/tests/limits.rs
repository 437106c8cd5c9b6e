//! Limits on what we announce, and on how many peers a range may have.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{Command, Input, LogEvent, ProtocolState};

/// Six IPv4 routes, announced to 2 under this limit.
fn limited(limit: &str) -> Network {
    let routes: String = (0..5).map(|i| format!("route 10.9.{i}.0/24 blackhole; ")).collect();
    let text = format!("protocol static many {{ ipv4; {routes} }}\n")
        + &node(1, 65001, &[(2, 65002, &format!("import all; {limit} export all;|"))]);
    pair(&text, &node(2, 65002, &[(1, 65001, "")]))
}

fn received(net: &Network) -> u64 {
    net.protocol(1, "p1").channels[0].imported
}

fn logged(net: &Network) -> usize {
    net.logged(0, |e| {
        matches!(
            e,
            LogEvent::Limit {
                kind: "export",
                limit: 3,
                ..
            }
        )
    })
}

#[test]
fn an_export_limit_warns_or_blocks() {
    for (limit, reaches, warned) in [
        ("export limit 6 action disable;", 6, 0),
        ("export limit 3 action warn;", 6, 1),
        ("export limit 3 action block;", 3, 1),
    ] {
        let mut net = limited(limit);
        net.seconds(20);
        assert!(net.established(0, "p2"), "{limit}");
        assert_eq!((received(&net), logged(&net)), (reaches, warned), "{limit}");
    }
}

/// Everything else that a peer said is kept, so that nothing else asks it again.
#[test]
fn what_a_receive_limit_kept_out_is_asked_for_when_it_may_be_more() {
    for (options, sessions) in [("", 1), ("enable route refresh off;", 2)] {
        let receiver = |limit: &str| {
            let channel = format!("import all; {limit} export all;|{options}");
            node(2, 65002, &[(1, 65001, &channel)])
        };
        let mut net = limited("");
        net.input(
            1,
            Input::Reconfigure(config(&receiver("receive limit 3 action block;"))),
        );
        net.input(1, restart());
        net.seconds(40);
        assert_eq!(received(&net), 3, "{options}");
        let before = established_so_often(&net);
        net.input(
            1,
            Input::Reconfigure(config(&receiver("receive limit 5 action block;"))),
        );
        net.quiesce();
        net.seconds(40);
        assert_eq!(received(&net), 5, "{options}");
        // What is left out again is asked for again.
        net.input(1, Input::Reconfigure(config(&receiver(""))));
        net.seconds(40);
        assert_eq!(received(&net), 6, "{options}");
        let asked = net.protocol(0, "p2").bgp.unwrap().updates_sent;
        assert_eq!(established_so_often(&net) - before, 2 * (sessions - 1), "{options}");
        net.input(
            1,
            Input::Command {
                protocol: "p1".into(),
                command: Command::ReloadIn,
            },
        );
        net.seconds(40);
        assert_eq!(
            net.protocol(0, "p2").bgp.unwrap().updates_sent,
            asked,
            "nothing is missing"
        );
    }
}

fn restart() -> Input {
    Input::Command {
        protocol: "p1".into(),
        command: Command::Restart,
    }
}

fn established_so_often(net: &Network) -> usize {
    net.logged(0, |e| matches!(e, LogEvent::State { to: "Established", .. }))
}

#[test]
fn an_export_limit_ends_the_session_before_more_is_told() {
    for (limit, comes_back) in [
        ("export limit 3 action restart;", true),
        ("export limit 3 action disable;", false),
        ("export limit 3;", false),
    ] {
        let mut net = limited(limit);
        for _ in 0..120 {
            net.run(std::time::Duration::from_millis(250));
            assert!(received(&net) <= 3, "{limit}");
        }
        let ups = net.logged(0, |e| matches!(e, LogEvent::State { to: "Established", .. }));
        assert_eq!(ups > 1, comes_back, "{limit}: {ups} sessions");
        let down = net.protocol(0, "p2");
        assert_eq!(down.state == ProtocolState::Down, !comes_back, "{limit}");
        let error = down.bgp.unwrap().last_error.unwrap();
        assert_eq!(error, "Export limit exceeded", "{limit}");
        assert_eq!(received(&net), 0, "{limit}: what was told is taken back");
    }
}

/// Six routes come in where three may.
#[test]
fn limits_on_what_comes_in_do_what_they_say() {
    for kind in ["receive", "import"] {
        for (action, imported, comes_back) in [
            ("warn", 6, None),
            ("block", 3, None),
            ("restart", 0, Some(true)),
            ("disable", 0, Some(false)),
        ] {
            let what = format!("{kind} limit 3 action {action};");
            let mut net = limited("");
            let channel = format!("import all; {what} export all;|");
            net.input(1, Input::Reconfigure(config(&node(2, 65002, &[(1, 65001, &channel)]))));
            net.input(1, restart());
            for _ in 0..120 {
                net.run(std::time::Duration::from_millis(250));
                assert!(action == "warn" || received(&net) <= 3, "{what}");
            }
            let warned = net.logged(
                1,
                |e| matches!(e, LogEvent::Limit { kind: which, limit: 3, .. } if *which == kind),
            );
            let protocol = net.protocol(1, "p1");
            let Some(comes_back) = comes_back else {
                assert!(net.established(1, "p1"), "{what}");
                assert_eq!((received(&net), warned), (imported, 1), "{what}");
                continue;
            };
            let ups = net.logged(1, |e| matches!(e, LogEvent::State { to: "Established", .. }));
            assert_eq!(ups > 3, comes_back, "{what}: {ups} sessions");
            assert_eq!(protocol.state == ProtocolState::Down, !comes_back, "{what}");
            assert!(warned > 0, "{what}");
            let theirs = net.protocol(0, "p2").bgp.unwrap().last_error.unwrap();
            assert!(
                theirs.contains("Maximum number of prefixes reached"),
                "{what}: {theirs}"
            );
            assert!(comes_back || received(&net) == 0, "{what}: what was kept goes");
        }
    }
}

fn range(limit: &str) -> String {
    format!(
        "router id 10.0.0.1; protocol bgp dyn {{ local as 64512; neighbor range 10.0.0.0/24 internal; {limit}
         ipv4 {{ import all; export all; }}; }}\n"
    )
}

fn established(net: &Network) -> Vec<u8> {
    let up = |n: &u8| net.established(usize::from(*n) - 1, "p1");
    (2..=4).filter(up).collect()
}

#[test]
fn a_range_has_so_many_peers_and_no_more() {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &range("dynamic limit 2;"));
    for n in 2..=4 {
        let text = node(n, 64512, &[(1, 64512, "graceful restart off;")]);
        net.start(usize::from(n) - 1, &format!("10.0.0.{n}"), &text);
        net.seconds(5);
    }
    net.seconds(20);
    assert_eq!(established(&net), [2, 3]);
    let refusals = net.logged(0, |e| matches!(e, LogEvent::RangeFull { limit: 2, .. }));
    assert!(refusals > 1, "each attempt is a line, but for those of one second");
    let info = net.protocol(0, "dyn").info;
    assert!(
        info.starts_with("2 of 2 peers, ") && info.ends_with(" connections refused"),
        "{info}"
    );
    let since = |net: &Network| net.protocol(0, "dynbgp1").since;
    let before = since(&net);

    net.input(0, Input::Reconfigure(config(&range("dynamic limit 3;"))));
    net.seconds(20);
    assert_eq!(established(&net), [2, 3, 4]);
    net.input(0, Input::Reconfigure(config(&range("dynamic limit 1;"))));
    net.seconds(20);
    assert_eq!(established(&net), [2, 3, 4], "who is there may stay");
    assert_eq!(since(&net), before, "another limit ends no session");

    let command = Command::Disable;
    for at in [1, 2, 3] {
        net.input(
            at,
            Input::Command {
                protocol: "p1".into(),
                command,
            },
        );
    }
    net.seconds(5);
    assert_eq!(net.protocol(0, "dyn").info.split(',').next(), Some("0 of 1 peers"));
    let command = Command::Enable;
    net.input(
        3,
        Input::Command {
            protocol: "p1".into(),
            command,
        },
    );
    net.seconds(10);
    assert_eq!(established(&net), [4], "who goes makes room");
}

#[test]
fn a_change_of_one_range_leaves_the_peers_of_another_alone() {
    let text = |hold: u32| {
        format!(
            "router id 10.0.0.1;
             protocol bgp range_a {{ local as 64512; neighbor range 10.0.0.0/30 internal; ipv4 {{ import all; export all; }}; }}
             protocol bgp range_b {{ local as 64512; neighbor range 10.0.0.4/30 internal; dynamic name \"second\"; hold time {hold};
               ipv4 {{ import all; export all; }}; }}\n"
        )
    };
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &text(90));
    net.start(1, "10.0.0.2", &node(2, 64512, &[(1, 64512, "")]));
    net.start(2, "10.0.0.5", &node(5, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    assert!(net.established(0, "dynbgp1") && net.established(2, "p1"));
    let since = net.protocol(0, "dynbgp1").since;
    net.input(0, Input::Reconfigure(config(&text(30))));
    net.seconds(20);
    assert_eq!(net.protocol(0, "dynbgp1").since, since);
    assert_eq!(
        net.protocol(2, "p1").bgp.unwrap().hold_time,
        Some(std::time::Duration::from_secs(30))
    );
}

/// A router with three static routes, the second one filtered, that felix and a table of the kernel's are told of.
fn own(import: &str, felix: &str) -> Network {
    let text = format!(
        "router id 10.0.0.1;
         protocol static own {{ ipv4 {{ {import} import where net != 10.9.1.0/24; }};
           route 10.9.0.0/24 blackhole; route 10.9.1.0/24 blackhole; route 10.9.2.0/24 blackhole; route 10.9.3.0/24 blackhole; }}
         protocol felix {{ ipv4 {{ {felix} export all; }}; }}"
    );
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &text);
    net.seconds(5);
    net
}

fn has(net: &Network) -> Vec<String> {
    net.node(0).fib.keys().map(ToString::to_string).collect()
}

const ALL: [&str; 3] = ["10.9.0.0/24", "10.9.2.0/24", "10.9.3.0/24"];

#[test]
fn routes_of_our_own_have_limits_too() {
    for (limit, left, state, logs) in [
        ("import limit 3 action disable;", &ALL[..], ProtocolState::Up, 0),
        ("import limit 2 action warn;", &ALL[..], ProtocolState::Up, 1),
        ("import limit 2 action block;", &ALL[..2], ProtocolState::Up, 1),
        ("import limit 0 action block;", &ALL[..0], ProtocolState::Up, 1),
        ("import limit 2 action disable;", &ALL[..0], ProtocolState::Down, 1),
        ("import limit 2 action restart;", &ALL[..0], ProtocolState::Down, 1),
    ] {
        let mut net = own(limit, "");
        assert_eq!(has(&net), left, "{limit}");
        assert_eq!(net.protocol(0, "own").state, state, "{limit}");
        assert_eq!(net.logged(0, |e| matches!(e, LogEvent::Limit { .. })), logs, "{limit}");
        // Looked at anew, it is the same.
        net.operate(0, "own", Command::Reload, "");
        net.seconds(5);
        assert_eq!(has(&net), left, "{limit}");
    }
}

#[test]
fn what_felix_is_told_has_a_limit() {
    for (limit, left, state) in [
        ("export limit 3 action disable;", &ALL[..], ProtocolState::Up),
        ("export limit 2 action warn;", &ALL[..], ProtocolState::Up),
        ("export limit 2 action block;", &ALL[..2], ProtocolState::Up),
        ("export limit 2 action disable;", &ALL[..0], ProtocolState::Down),
    ] {
        let net = own("", limit);
        assert_eq!(has(&net), left, "{limit}");
        assert_eq!(net.protocol(0, "felix1").state, state, "{limit}");
    }
}
