//! Who is told what, with which attributes and next hop.

use super::Network;
use super::sessions::node;
use crate::attr::NextHop;
use crate::rib::{Filtered, Reason};
use crate::speaker::{RouteQuery, RouteView};

fn net(nodes: &[(u8, String)]) -> Network {
    let mut net = Network::default();
    for (i, (n, text)) in nodes.iter().enumerate() {
        net.start(i, &format!("10.0.0.{n}"), text);
    }
    net.seconds(30);
    net
}

fn path(route: &RouteView) -> String {
    route.attributes.as_path.to_string()
}

fn next_hop(route: &RouteView) -> String {
    route.attributes.next_hop.unwrap().to_string()
}

#[test]
fn internal_routes_are_not_passed_on_to_internal_peers() {
    let line = net(&[
        (1, node(1, 64512, &[(2, 64512, "")])),
        (2, node(2, 64512, &[(1, 64512, ""), (3, 64512, "")])),
        (3, node(3, 64512, &[(2, 64512, "")])),
    ]);
    assert!(line.best(1, "10.1.0.0/24").is_some());
    assert!(line.best(2, "10.1.0.0/24").is_none());
}

#[test]
fn a_full_mesh_converges() {
    let n = 12_u8;
    let peers = |me: u8| (1..=n).filter(|p| *p != me).map(|p| (p, 64512, "")).collect::<Vec<_>>();
    let nodes: Vec<_> = (1..=n).map(|me| (me, node(me, 64512, &peers(me)))).collect();
    let mesh = net(&nodes);
    for at in 0..usize::from(n) {
        assert_eq!(mesh.node(at).fib.len(), 2 * (usize::from(n) - 1));
        assert_eq!(mesh.node(at).fib_deletes, 0);
        assert_eq!(mesh.node(at).in_sync, 1);
        assert_eq!(
            mesh.updates_sent(at),
            2 * (u64::from(n) - 1),
            "each peer is told each family once"
        );
    }
}

#[test]
fn across_autonomous_systems() {
    let line = net(&[
        (1, node(1, 65001, &[(2, 65002, "")])),
        (2, node(2, 65002, &[(1, 65001, ""), (3, 65003, ""), (4, 65002, "")])),
        (3, node(3, 65003, &[(2, 65002, "")])),
        (4, node(4, 65002, &[(2, 65002, "")])),
    ]);
    let far = line.best(2, "10.1.0.0/24").unwrap();
    assert_eq!(path(&far), "65002 65001");
    assert_eq!(next_hop(&far), "10.0.0.1", "third party on the shared subnet");
    let six = line.best(2, "fd00:1::/64").unwrap();
    assert_eq!(
        six.attributes.next_hop.map(NextHop::addr),
        Some("fd00::1".parse().unwrap())
    );
    let inside = line.best(3, "10.1.0.0/24").unwrap();
    assert_eq!(
        (path(&inside), next_hop(&inside)),
        ("65001".to_owned(), "10.0.0.1".to_owned())
    );
    assert_eq!(inside.attributes.local_pref, Some(100));
    assert_eq!(
        line.best(2, "10.2.0.0/24").map(|r| next_hop(&r)),
        Some("10.0.0.2".to_owned())
    );
}

#[test]
fn next_hop_self_and_multihop() {
    let options = "import all; export all; next hop self;|";
    let line = net(&[
        (1, node(1, 65001, &[(2, 65002, "")])),
        (
            2,
            node(
                2,
                65002,
                &[
                    (1, 65001, ""),
                    (3, 65002, options),
                    (4, 65004, "import all; export all;|multihop 2;"),
                ],
            ),
        ),
        (3, node(3, 65002, &[(2, 65002, "")])),
        (4, node(4, 65004, &[(2, 65002, "multihop 2;")])),
    ]);
    assert_eq!(next_hop(&line.best(2, "10.1.0.0/24").unwrap()), "10.0.0.2");
    assert_eq!(
        next_hop(&line.best(3, "10.1.0.0/24").unwrap()),
        "10.0.0.2",
        "not directly connected: self"
    );
}

#[test]
fn loops_are_seen_and_named() {
    // Two sites of one AS behind another one.
    let sites = |allow: &str| {
        net(&[
            (1, node(1, 65001, &[(2, 65002, "")])),
            (2, node(2, 65002, &[(1, 65001, ""), (3, 65001, "")])),
            (3, node(3, 65001, &[(2, 65002, allow)])),
        ])
    };
    let refused = sites("");
    let query = RouteQuery {
        prefix: "10.1.0.0/24".parse().ok(),
        filtered: true,
        ..RouteQuery::default()
    };
    assert!(refused.best(2, "10.1.0.0/24").is_none());
    assert_eq!(
        refused.node(2).speaker.routes(&query)[0].filtered,
        Some(Filtered::AsLoop)
    );
    assert_eq!(
        path(&sites("allow local as 1;").best(2, "10.1.0.0/24").unwrap()),
        "65002 65001"
    );
}

#[test]
fn reflection() {
    // 1 and 2 are clients of the reflectors 3 and 4, which peer with each other in different clusters; 5 is no client.
    let rr = |me: u8, other: u8| {
        node(
            me,
            64512,
            &[
                (1, 64512, "rr client;"),
                (2, 64512, "rr client;"),
                (other, 64512, ""),
                (5, 64512, ""),
            ],
        )
    };
    let reflected = net(&[
        (1, node(1, 64512, &[(3, 64512, ""), (4, 64512, "")])),
        (2, node(2, 64512, &[(3, 64512, ""), (4, 64512, "")])),
        (3, rr(3, 4)),
        (4, rr(4, 3)),
        (5, node(5, 64512, &[(3, 64512, ""), (4, 64512, "")])),
    ]);
    let route = reflected.best(1, "10.1.0.0/24").unwrap();
    assert_eq!(route.attributes.originator_id, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(*route.attributes.cluster_list, ["10.0.0.3".parse().unwrap()]);
    assert_eq!(next_hop(&route), "10.0.0.1", "reflection leaves the next hop alone");
    assert_eq!(
        route.reason,
        Some(Reason::PeerAddress),
        "the same originator and list length from both"
    );
    assert!(
        reflected.best(4, "10.1.0.0/24").is_some(),
        "a client's route goes to non-clients"
    );
    assert!(
        reflected.best(0, "10.5.0.0/24").is_some(),
        "a non-client's route goes to clients"
    );
    // The reflectors' own view of the client is the direct one; nobody hears of itself.
    assert_eq!(&*reflected.best(2, "10.1.0.0/24").unwrap().protocol, "p1");
    assert_eq!(reflected.best(0, "10.1.0.0/24").unwrap().preference, 200);
    let own = RouteQuery {
        prefix: "10.1.0.0/24".parse().ok(),
        filtered: true,
        ..RouteQuery::default()
    };
    assert_eq!(reflected.node(0).speaker.routes(&own).len(), 1);
}

#[test]
fn what_was_in_a_cluster_does_not_come_back_into_it() {
    let client = "rr client; rr cluster id 9.9.9.9;";
    let reflected = |cluster_of_the_other: &str| {
        net(&[
            (1, node(1, 64512, &[(3, 64512, "")])),
            (3, node(3, 64512, &[(1, 64512, client), (4, 64512, "")])),
            (4, node(4, 64512, &[(3, 64512, ""), (5, 64512, cluster_of_the_other)])),
            (5, node(5, 64512, &[(4, 64512, "")])),
        ])
    };
    let same = reflected(client);
    assert!(same.best(2, "10.1.0.0/24").is_some(), "the other reflector takes it");
    assert!(same.best(3, "10.1.0.0/24").is_none(), "its client is in the cluster");
    let other = reflected("rr client; rr cluster id 8.8.8.8;");
    let route = other.best(3, "10.1.0.0/24").unwrap();
    let clusters = route.attributes.cluster_list.iter().map(ToString::to_string);
    assert_eq!(clusters.collect::<Vec<_>>(), ["8.8.8.8", "9.9.9.9"]);
}

#[test]
fn well_known_communities_and_med() {
    let tagged = |community: &str| {
        let export = format!(
            "import all; export filter {{ if net ~ [10.1.0.0/24] then bgp_community.add({community}); bgp_med = 7; accept; }};|"
        );
        net(&[
            (1, node(1, 65001, &[(2, 65002, &export)])),
            (2, node(2, 65002, &[(1, 65001, ""), (3, 65002, ""), (4, 65004, "")])),
            (3, node(3, 65002, &[(2, 65002, "")])),
            (4, node(4, 65004, &[(2, 65002, "")])),
        ])
    };
    let no_export = tagged("(65535,65281)");
    assert!(no_export.best(2, "10.1.0.0/24").is_some() && no_export.best(3, "10.1.0.0/24").is_none());
    let no_advertise = tagged("(65535,65282)");
    assert!(no_advertise.best(1, "10.1.0.0/24").is_some() && no_advertise.best(2, "10.1.0.0/24").is_none());
    let plain = tagged("(1,1)");
    assert_eq!(
        plain.best(2, "10.1.0.0/24").unwrap().attributes.med,
        Some(7),
        "MED stays inside the AS"
    );
    assert_eq!(
        plain.best(3, "10.1.0.0/24").unwrap().attributes.med,
        None,
        "and goes no further"
    );
    assert_eq!(plain.best(3, "10.1.0.0/24").unwrap().attributes.local_pref, Some(100));
}
