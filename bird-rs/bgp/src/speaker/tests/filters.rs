//! What filters say reaches the log, wherever they run.

use super::Network;
use super::sessions::{node, pair};
use crate::speaker::{Input, InterfaceAddress, Log, LogEvent};

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
