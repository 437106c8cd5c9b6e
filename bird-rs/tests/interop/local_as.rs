//! A session from another AS than that of the rest of the router: `local as` differs between our protocols, and, at the
//! other end, from the peer's own. Whose number is in which path.

use serde_json::json;

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, OUR_AS, Setup, THEIR_AS, ours, said};
use crate::frr::{self, Frr};
use crate::gobgp::{self, GoBgp, gobgp};
use crate::lab::{Lab, Running, eventually, eventually_or};
use crate::openbgpd::{self, OpenBgpd};

/// The AS of the rest of us; to the peer we are in [`OUR_AS`].
const REST_AS: u32 = 64_700;
/// The AS of the peer that it shows us in place of its own.
const SHOWN_AS: u32 = 65_100;

/// A router of ours, at 10.77.0.3, with a route of its own and one from elsewhere.
fn inside() -> String {
    format!(
        "router id 10.77.0.3;
protocol device {{ }}
protocol static own {{ ipv4; route 10.88.0.0/24 blackhole; route 10.88.1.0/24 blackhole; }}
filter mine {{
  if source != RTS_STATIC then reject;
  if net = 10.88.1.0/24 then bgp_path.prepend(65010);
  accept;
}}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.3 as {REST_AS}; neighbor 10.77.0.1 as {REST_AS};
  ipv4 {{ import all; export filter mine; }};
}}
"
    )
}

/// The peer takes us for one in [`OUR_AS`], and its routes come in without a number of ours.
fn between(foreign: &dyn Foreign) {
    let lab = Lab::new();
    lab.third();
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let here = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")).replace(
        "if source != RTS_STATIC then reject;",
        "if source = RTS_BGP then accept;",
    ) + &format!(
        "protocol bgp Inside {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.1 as {REST_AS}; neighbor 10.77.0.3 as {REST_AS};
  ipv4 {{ import all; export where source = RTS_BGP; next hop self; }};
}}\n"
    );
    let _daemon = lab.bird_rs("a", &here);
    let _third = lab.bird_rs("c", &inside());
    let mut client = lab.client("a");
    client.established("Peer");
    for (prefix, wanted) in [
        ("10.88.0.0/24", OUR_AS.to_string()),
        ("10.88.1.0/24", format!("{OUR_AS} 65010")),
        ("10.244.0.64/26", OUR_AS.to_string()),
    ] {
        eventually_or(|| match foreign.received(&lab, prefix) {
            Some(route) if route.as_path == wanted => Ok(()),
            other => Err(format!("{prefix}: {other:?}, wanted {wanted}")),
        });
    }
    let mut other = lab.client("c");
    let route = eventually("theirs is inside", || other.route("Peer", "10.99.0.0/24"));
    assert_eq!(route.as_path, THEIR_AS.to_string());
}

#[test]
fn bird_sees_only_the_as_that_it_talks_to() {
    between(&Bird);
}

#[test]
fn frr_sees_only_the_as_that_it_talks_to() {
    between(&Frr);
}

#[test]
fn gobgp_sees_only_the_as_that_it_talks_to() {
    between(&GoBgp);
}

#[test]
fn openbgpd_sees_only_the_as_that_it_talks_to() {
    between(&OpenBgpd);
}

/// A peer that is in [`SHOWN_AS`] for us and in [`THEIR_AS`] otherwise: what its routes then have for a path.
fn shown(start: &dyn Fn(&Lab) -> Running, wanted: &str) {
    let lab = Lab::new();
    let _them = start(&lab);
    let _daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {SHOWN_AS};")));
    let mut client = lab.client("a");
    client.established("Peer");
    let route = eventually("their route", || client.route("Peer", "10.99.1.0/24"));
    assert_eq!(route.as_path, wanted);
}

#[test]
fn frr_shows_us_another_as_in_front_of_its_own() {
    let start = |lab: &Lab, how: &str| {
        let session = format!(" neighbor 10.77.0.1 local-as {SHOWN_AS}{how}");
        frr::start(lab, &frr::config(THEIR_AS, &session, ""))
    };
    shown(&|lab| start(lab, ""), &format!("{SHOWN_AS} {THEIR_AS}"));
    shown(&|lab| start(lab, " no-prepend replace-as"), &SHOWN_AS.to_string());
}

#[test]
fn gobgp_shows_us_another_as_in_place_of_its_own() {
    let start = |lab: &Lab| {
        let config = json!({
            "global": {"config": {"as": THEIR_AS, "router-id": "10.77.0.2"}},
            "neighbors": [{
                "config": {"neighbor-address": "10.77.0.1", "peer-as": OUR_AS, "local-as": SHOWN_AS},
                "timers": {"config": {"connect-retry": 2}},
                "afi-safis": [{"config": {"afi-safi-name": "ipv4-unicast"}}],
            }],
        });
        let running = gobgp::start(lab, &config, &[]);
        eventually("gobgp takes a route", || {
            said(gobgp(lab).args([
                "global",
                "rib",
                "add",
                "10.99.1.0/24",
                "nexthop",
                "10.77.0.2",
                "-a",
                "ipv4",
            ]))
        });
        running
    };
    shown(&start, &SHOWN_AS.to_string());
}

#[test]
fn openbgpd_shows_us_another_as_in_place_of_its_own() {
    let session =
        format!("neighbor 10.77.0.1 {{\n\tremote-as {OUR_AS}\n\tlocal-as {SHOWN_AS}\n\tannounce IPv4 unicast\n}}\n");
    shown(&|lab| openbgpd::start(lab, THEIR_AS, &session), &SHOWN_AS.to_string());
}
