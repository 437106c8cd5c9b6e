//! What filters say reaches the log, wherever they run; and routes that come together are filtered each by itself.

use super::Network;
use super::sessions::{node, pair};
use crate::speaker::{Command, Input, InterfaceAddress, Log, LogEvent};

#[test]
fn what_filters_print_is_logged() {
    let speaks = "import filter { printn \"in \"; print net; reject \"no \", net; };
        export filter { print \"out \", net; accept \"told \", net; };|";
    let mut left = node(1, 64512, &[(2, 64512, speaks)]);
    left += "protocol static chatty { ipv4 { import filter { print \"own \", net; accept; }; };
        route 10.77.0.0/24 blackhole { print \"made \", net; }; route 10.78.0.0/24 blackhole { bgp_med = krt_metric; }; }";
    let mut net = pair(&left, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    let lines: Vec<(String, String)> = net
        .node(0)
        .logs
        .iter()
        .filter_map(|log| match &log.event {
            LogEvent::FilterMessage { text } => Some((log.protocol.to_string(), text.clone())),
            LogEvent::FilterFailed { net, reason } => Some((log.protocol.to_string(), format!("{net} {reason}"))),
            _ => None,
        })
        .collect();
    let said = |protocol: &str, text: &str| lines.iter().filter(|(p, t)| p == protocol && t == text).count();
    assert!(said("chatty", "made 10.77.0.0/24") >= 1, "{lines:?}");
    assert!(said("chatty", "own 10.77.0.0/24") >= 1, "{lines:?}");
    assert_eq!(said("p2", "in 10.2.0.0/24"), 1, "{lines:?}");
    assert_eq!(said("p2", "no 10.2.0.0/24"), 1, "{lines:?}");
    // Of an export filter the lines are those of the route's own protocol.
    assert_eq!(said("own4", "out 10.1.0.0/24"), 1, "{lines:?}");
    assert_eq!(said("own4", "told 10.1.0.0/24"), 1, "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|(p, t)| p == "chatty" && t.starts_with("10.78.0.0/24 line ")),
        "{lines:?}"
    );
}

#[test]
fn an_address_that_is_nobodys_next_hop_runs_no_import_filter() {
    let loud = node(
        1,
        64512,
        &[(2, 64512, "import filter { print \"in\"; accept; }; export all;|")],
    );
    let mut net = pair(&loud, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(10);
    let runs = |net: &Network| {
        let is_run = |log: &&Log| matches!(&log.event, LogEvent::FilterMessage { text } if text == "in");
        net.node(0).logs.iter().filter(is_run).count()
    };
    let before = runs(&net);
    assert!(before > 0);
    let mut appears = |interface: &str, address: &str, subnet: &str| {
        let mut addresses = net.node(0).speaker.addresses.to_vec();
        addresses.push(InterfaceAddress {
            interface: interface.into(),
            address: address.parse().unwrap(),
            subnet: subnet.parse().unwrap(),
        });
        net.input(0, Input::Interfaces(addresses));
        net.seconds(1);
        runs(&net)
    };
    assert_eq!(appears("cali1", "fe80::1", "fe80::/64"), before, "a pod's veth");
    assert!(appears("eth9", "192.0.2.9", "192.0.2.0/24") > before);
    let after = appears("cali2", "fe80::2", "fe80::/64");
    assert_eq!(appears("cali3", "fe80::3", "fe80::/64"), after);
    assert!(
        appears("eth9", "fe80::9", "fe80::/64") > after,
        "the link has another address"
    );
}

/// Routes with the same attributes, which come in one UPDATE and stand beside each other in the tables.
const TOGETHER: [&str; 6] = [
    "10.50.1.0/24",
    "10.50.2.0/24",
    "10.51.1.0/24",
    "10.50.3.0/24",
    "10.52.0.0/16",
    "10.51.2.0/24",
];

#[test]
fn routes_that_come_together_are_filtered_each_by_itself() {
    let routes: String = TOGETHER.iter().map(|net| format!("route {net} blackhole; ")).collect();
    let first = format!("protocol static many {{ ipv4; {routes} }}\n") + &node(1, 65001, &[(2, 65002, "")]);
    let import = "import filter { if net ~ [10.51.0.0/16+] then bgp_local_pref = 51;
        if net = 10.50.3.0/24 then reject; if net.len < 20 then bgp_med = 16; accept; };";
    let export = "export filter { if net ~ [10.51.2.0/24, 10.50.2.0/24] then bgp_community.add((1,1));
        if net.len = 16 then reject; accept; };";
    let second = node(
        2,
        65002,
        &[
            (1, 65001, &format!("{import} export all;|")),
            (3, 65003, &format!("import all; {export}|")),
        ],
    );
    let mut net = Network::default();
    for (at, text) in [first, second, node(3, 65003, &[(2, 65002, "")])].iter().enumerate() {
        net.start(at, &format!("10.0.0.{}", at + 1), text);
    }
    net.seconds(30);
    let check = |net: &Network| {
        let preferred = |prefix| net.best(1, prefix).map(|route| route.attributes.local_pref);
        let marked = |prefix| {
            net.best(2, prefix)
                .map(|route| !route.attributes.communities.is_empty())
        };
        for (prefix, preference, mark) in [
            (TOGETHER[0], Some(Some(100)), Some(false)),
            (TOGETHER[1], Some(Some(100)), Some(true)),
            (TOGETHER[2], Some(Some(51)), Some(false)),
            (TOGETHER[3], None, None),
            (TOGETHER[4], Some(Some(100)), None),
            (TOGETHER[5], Some(Some(51)), Some(true)),
        ] {
            assert_eq!((preferred(prefix), marked(prefix)), (preference, mark), "{prefix}");
        }
        let med = |prefix| net.best(1, prefix).and_then(|route| route.attributes.med);
        assert_eq!(TOGETHER.map(med), [None, None, None, None, Some(16), None]);
    };
    check(&net);
    net.operate(1, "p1", Command::ReloadIn, "");
    net.operate(1, "p3", Command::ReloadOut, "");
    net.seconds(10);
    check(&net);
}
