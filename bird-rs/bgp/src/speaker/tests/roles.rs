//! Roles and the OTC attribute (RFC 9234): every pair of roles, and every way through a router.

use tortie_net::Asn;

use super::Network;
use super::sessions::{node, pair};
use crate::rib::Filtered;
use crate::speaker::RouteQuery;

/// A role and its counterpart.
const ROLES: [(&str, &str); 5] = [
    ("provider", "customer"),
    ("customer", "provider"),
    ("peer", "peer"),
    ("rs_server", "rs_client"),
    ("rs_client", "rs_server"),
];

fn role(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!("local role {name};")
    }
}

/// 1, 2 and 3 in a row, each in an AS of its own. `left` are the roles of 1 and 2, `right` those of 2 and 3.
fn line(left: (&str, &str), right: (&str, &str)) -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 65001, &[(2, 65002, &role(left.0))]));
    let middle = [(1, 65001, role(left.1)), (3, 65003, role(right.0))];
    let middle: Vec<(u8, u32, &str)> = middle.iter().map(|(n, asn, role)| (*n, *asn, &**role)).collect();
    net.start(1, "10.0.0.2", &node(2, 65002, &middle));
    net.start(2, "10.0.0.3", &node(3, 65003, &[(2, 65002, &role(right.1))]));
    net.seconds(15);
    net
}

fn otc(net: &Network, at: usize, prefix: &str) -> Option<Option<u32>> {
    let route = net.best(at, prefix)?;
    Some(route.attributes.only_to_customer.map(|Asn(asn)| asn))
}

#[test]
fn a_session_needs_roles_that_correspond() {
    for (ours, counterpart) in ROLES {
        for (theirs, _) in ROLES {
            let mut net = pair(
                &node(1, 65001, &[(2, 65002, &role(ours))]),
                &node(2, 65002, &[(1, 65001, &role(theirs))]),
            );
            net.seconds(10);
            assert_eq!(net.established(0, "p2"), theirs == counterpart, "{ours} and {theirs}");
            let error = net.protocol(0, "p2").bgp.unwrap().last_error.unwrap_or_default();
            assert_eq!(error.contains("Role mismatch"), theirs != counterpart, "{error}");
        }
    }
}

#[test]
fn a_peer_without_a_role_is_refused_only_where_roles_are_required() {
    for (required, up) in [("", true), ("require roles;", false)] {
        let mut net = pair(
            &node(1, 65001, &[(2, 65002, &format!("local role customer; {required}"))]),
            &node(2, 65002, &[(1, 65001, "")]),
        );
        net.seconds(10);
        assert_eq!(net.established(0, "p2"), up, "{required}");
    }
}

#[test]
fn what_came_down_goes_down_only() {
    for (first, second) in ROLES {
        for right in ROLES {
            let net = line((first, second), right);
            assert!(net.established(1, "p1") && net.established(1, "p3"));
            // From above or beside: the sender has marked it. From below: we mark it when it goes down or sideways.
            let from_below = matches!(first, "customer" | "rs_client");
            let downwards = matches!(right.0, "provider" | "rs_server");
            let marks = downwards || right.0 == "peer";
            let expected = match (from_below, downwards) {
                (true, _) => Some(marks.then_some(65002)),
                (false, true) => Some(Some(65001)),
                (false, false) => None,
            };
            assert_eq!(otc(&net, 2, "10.1.0.0/24"), expected, "{first}, then {right:?}");
            assert_eq!(otc(&net, 2, "fd00:1::/64"), expected, "{first}, then {right:?}, IPv6");
        }
    }
}

#[test]
fn what_a_peer_without_roles_sends_down_is_marked_on_arrival() {
    for (theirs, ours) in ROLES {
        let net = line(("", ours), ("", ""));
        let marked = matches!(theirs, "provider" | "peer" | "rs_server").then_some(65001);
        assert_eq!(otc(&net, 1, "10.1.0.0/24"), Some(marked), "{ours}");
        assert_eq!(
            otc(&net, 2, "10.1.0.0/24"),
            Some(marked),
            "it travels on as any transitive attribute"
        );
    }
}

#[test]
fn a_leak_is_kept_out_and_named() {
    for (ours, leaks) in [
        ("provider", true),
        ("rs_server", true),
        ("peer", true),
        ("customer", false),
    ] {
        // 2 knows no roles and passes on what 1 has marked.
        let net = line(("provider", ""), ("", ours));
        assert_eq!(otc(&net, 1, "10.1.0.0/24"), Some(Some(65001)));
        let query = RouteQuery {
            prefix: "10.1.0.0/24".parse().ok(),
            filtered: true,
            ..RouteQuery::default()
        };
        let routes = net.node(2).speaker.routes(&query);
        let why = leaks.then_some(Filtered::RouteLeak);
        assert_eq!(routes[0].filtered, why, "{ours}");
        assert_eq!(net.best(2, "10.1.0.0/24").is_none(), leaks, "{ours}");
        assert!(
            net.best(2, "10.2.0.0/24").is_some(),
            "what is not marked comes in: {ours}"
        );
    }
}

#[test]
fn a_filter_cannot_send_up_what_it_marks_or_unmarks() {
    for statement in ["bgp_otc = 65009;", "unset(bgp_otc);"] {
        let export = format!("import all; export filter {{ {statement} accept; }};|local role customer;");
        let mut net = Network::default();
        net.start(0, "10.0.0.1", &node(1, 65001, &[(2, 65002, "local role provider;")]));
        net.start(
            1,
            "10.0.0.2",
            &node(2, 65002, &[(1, 65001, "local role customer;"), (3, 65003, &export)]),
        );
        net.start(2, "10.0.0.3", &node(3, 65003, &[(2, 65002, "local role provider;")]));
        net.seconds(15);
        assert!(net.established(1, "p3"));
        assert_eq!(otc(&net, 1, "10.1.0.0/24"), Some(Some(65001)));
        assert_eq!(otc(&net, 2, "10.1.0.0/24"), None, "{statement}");
    }
}
