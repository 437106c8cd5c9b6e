//! Listings and snapshots look at a bounded part of a table at a time, and miss nothing that stays.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tortie_net::Prefix;

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::config::Policy;
use crate::speaker::pages::SLOTS;
use crate::speaker::{Cursor, Input, ListedNets, ListedTables, Listing, RouteQuery};

/// Static routes 30.0.0.0/24 and those that follow, of a router that felix follows and a peer listens to.
fn full(routes: u32) -> String {
    let mut text = node(1, 64512, &[(2, 64513, "")]).replace("where source = RTS_BGP", "all");
    text += "protocol static many { ipv4; ";
    for n in 0..routes {
        let address = std::net::Ipv4Addr::from_bits((30 << 24) + (n << 8));
        let _ = write!(text, "route {address}/24 blackhole; ");
    }
    text + "}\n"
}

const ROUTES: u32 = 3 * SLOTS as u32;

fn network() -> Network {
    let mut net = pair(&full(ROUTES), &node(2, 64513, &[(1, 64512, "")]));
    net.seconds(20);
    net
}

fn many(prefix: &Prefix) -> bool {
    Prefix::new("30.0.0.0".parse().unwrap(), 8).unwrap().covers(*prefix)
}

#[test]
fn every_query_of_a_full_table_is_answered_in_bounded_pages() {
    let net = network();
    let speaker = &net.node(0).speaker;
    let queries = [
        RouteQuery::default(),
        RouteQuery {
            exported_to: Some("p2".to_owned()),
            ..RouteQuery::default()
        },
        RouteQuery {
            exported_to: Some("felix1".to_owned()),
            ..RouteQuery::default()
        },
    ];
    for query in &queries {
        let (mut seen, mut at, mut pages) = (Vec::new(), Some(Cursor::default()), 0);
        while let Some(from) = at {
            let page = speaker.routes_page(query, from);
            assert!(page.routes.len() <= SLOTS, "{}", page.routes.len());
            seen.extend(page.routes.iter().map(|view| view.prefix).filter(many));
            (at, pages) = (page.next, pages + 1);
        }
        assert!(pages > 3, "{pages}");
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(
            (seen.len(), distinct.len()),
            (ROUTES as usize, ROUTES as usize),
            "{query:?}"
        );
    }
    let mut at = Some(Cursor::default());
    while let Some(from) = at {
        let page = speaker.fib_page(from);
        assert!(page.routes.len() <= SLOTS);
        at = page.next;
    }
    // What felix was told in changes and what it is told in pages is the same.
    let fib: std::collections::BTreeMap<_, _> = speaker.fib().into_iter().collect();
    assert_eq!(fib, net.node(0).fib);

    let listing = Listing {
        tables: ListedTables::Default,
        nets: ListedNets::All,
        protocol: None,
        policy: Policy::None,
        export: None,
        primary: false,
        filtered: false,
    };
    let page = speaker.page(&listing, "master4", 0);
    assert!(
        page.nets <= SLOTS as u64 && page.next.is_some(),
        "looked at without being shown"
    );
}

#[test]
fn between_two_pages_routes_come_and_go_and_those_that_stay_are_there_once() {
    let mut net = network();
    let query = RouteQuery {
        protocol: Some("many".to_owned()),
        ..RouteQuery::default()
    };
    let (mut seen, mut at, mut routes) = (Vec::new(), Some(Cursor::default()), ROUTES);
    while let Some(from) = at {
        let page = net.node(0).speaker.routes_page(&query, from);
        seen.extend(page.routes.into_iter().map(|view| view.prefix));
        at = page.next;
        // The last ones go, and later others come instead.
        routes = if routes == ROUTES { ROUTES - 700 } else { ROUTES };
        net.input(0, Input::Reconfigure(config(&full(routes))));
        net.quiesce();
    }
    let stayed = seen.iter().filter(|prefix| match prefix.addr() {
        std::net::IpAddr::V4(address) => (address.to_bits() >> 8) - (30 << 16) < ROUTES - 700,
        std::net::IpAddr::V6(_) => false,
    });
    let stayed: Vec<_> = stayed.collect();
    let distinct: BTreeSet<_> = stayed.iter().collect();
    assert_eq!(
        (stayed.len(), distinct.len()),
        (ROUTES as usize - 700, ROUTES as usize - 700)
    );
}

#[test]
fn a_cursor_of_a_table_that_is_gone_ends_the_listing() {
    let mut net = network();
    let query = RouteQuery {
        exported_to: Some("p2".to_owned()),
        ..RouteQuery::default()
    };
    let page = net.node(0).speaker.routes_page(&query, Cursor::default());
    let next = page.next.expect("more than one page");
    net.kill(1);
    net.quiesce();
    let page = net.node(0).speaker.routes_page(&query, next);
    assert_eq!((page.routes.len(), page.next), (0, None));
}

#[test]
fn one_more_address_is_no_reason_to_tell_everything_anew() {
    let mut net = network();
    let view = |net: &Network, at: usize| {
        let speaker = &net.node(0).speaker;
        let peer = speaker.find("p2").and_then(|source| speaker.instance(source)).unwrap();
        let key = peer.session().unwrap().channels[at].key;
        speaker.view_of(peer, key).unwrap()
    };
    let before = [view(&net, 0), view(&net, 1)];
    let mut addresses = net.node(0).speaker.addresses.to_vec();
    let mut more = addresses[2].clone();
    more.address = "fd11::1".parse().unwrap();
    more.subnet = "fd11::/64".parse().unwrap();
    addresses.push(more);
    net.input(0, Input::Interfaces(addresses));
    assert_eq!([view(&net, 0), view(&net, 1)], before);
}
