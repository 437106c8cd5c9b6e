//! An IPv4-mapped next hop, as FRR sends with IPv6 routes over IPv4 when it knows no IPv6 address of its own, and GoBGP when it
//! is told to: no packet can be sent there, so the routes are not used; the session and its other family are not touched.

use crate::foreign::{Foreign, Setup, THEIR_AS, ours};
use crate::frr;
use crate::gobgp::{GoBgp, gobgp};
use crate::lab::{Lab, eventually, run};

#[test]
fn an_ipv4_mapped_next_hop_of_frr_costs_only_its_routes() {
    let lab = Lab::new();
    let config = frr::config(THEIR_AS, "", "").replace("  neighbor 10.77.0.1 route-map six out\n", "");
    let _them = frr::start(&lab, &config);
    costs_only_its_routes(&lab);
}

#[test]
fn an_ipv4_mapped_next_hop_of_gobgp_costs_only_its_routes() {
    let lab = Lab::new();
    let _them = GoBgp.start(&lab, &Setup::of(THEIR_AS));
    let route = "global rib add fd99::/64 nexthop ::ffff:10.77.0.2 -a ipv6";
    run(gobgp(&lab).args(route.split(' ')));
    costs_only_its_routes(&lab);
}

fn costs_only_its_routes(lab: &Lab) {
    let _daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")));
    let mut client = lab.client("a");
    client.established("Peer");
    eventually("the reason is logged", || {
        let log = lab.log("a");
        log.contains("attribute 14 wrong value, routes treated as withdrawn")
            .then_some(())
    });
    client.learns("Peer", &["10.99.0.0/24 via 10.77.0.2", "10.99.1.0/24 via 10.77.0.2"]);
    let session = client.session("Peer");
    assert_eq!((&*session.state, &*session.last_error), ("Established", ""));
}
