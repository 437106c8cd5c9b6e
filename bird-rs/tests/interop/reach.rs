//! Sessions between addresses that no link has, over several hops, on ports of their own, opened by either side.

use serde_json::json;

use crate::foreign::{OUR_AS, THEIR_AS, said};
use crate::lab::{Lab, Running, eventually};
use crate::{frr, gobgp, openbgpd};

/// Where we listen, and where the peer does.
const PORTS: [u16; 2] = [1790, 1791];

/// `passive`: the peer opens the connection.
fn ours(passive: bool) -> String {
    let [here, there] = PORTS;
    let passive = if passive { "passive;" } else { "" };
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.244.0.0/26 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; {passive}
  local 10.255.0.1 port {here} as {OUR_AS}; neighbor 10.255.0.2 port {there} as {THEIR_AS}; multihop 5;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

/// Starts a peer at 10.255.0.2; it waits for us, or not.
type Start = fn(&Lab, bool) -> Running;

fn reached(start: Start) {
    for they_wait in [true, false] {
        let lab = Lab::new();
        for (side, own, other) in [("a", 1, 2), ("b", 2, 1)] {
            lab.address(side, "lo", &format!("10.255.0.{own}/32"));
            lab.ip(side, &format!("route add 10.255.0.{other}/32 via 10.77.0.{other}"));
        }
        // Who waits is there first: some try again after minutes.
        let early = they_wait.then(|| start(&lab, they_wait));
        let _daemon = lab.bird_rs("a", &ours(!they_wait));
        let mut client = lab.client("a");
        let _them = early.unwrap_or_else(|| start(&lab, they_wait));
        client.established("Peer");
        let session = client.session("Peer");
        assert_eq!(session.source_address, "10.255.0.1");
        eventually("the peer's route", || client.route("Peer", "10.99.1.0/24"));
        let [here, there] = PORTS;
        let (to, port) = if they_wait { ("dst", there) } else { ("src", here) };
        let shown = said(
            lab.command("a", "ss")
                .args(["-Htn", "state", "established"])
                .arg(format!("{to} 10.255.0.{}", if they_wait { 2 } else { 1 })),
        );
        let shown = shown.unwrap();
        assert!(shown.contains(&format!(":{port}")), "not on port {port}: {shown}");
    }
}

#[test]
fn bird_is_reached_over_several_hops_on_its_own_port() {
    reached(|lab, waits| {
        let ([here, there], passive) = (PORTS, if waits { "passive;" } else { "" });
        let config = format!(
            "router id 10.77.0.2;
log stderr all;
protocol device {{ }}
protocol static s4 {{ ipv4; route 10.99.1.0/24 blackhole; }}
protocol bgp tortie {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; {passive}
  local 10.255.0.2 port {there} as {THEIR_AS}; neighbor 10.255.0.1 port {here} as {OUR_AS}; multihop 5;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
        );
        lab.bird("b", &config, false)
    });
}

#[test]
fn frr_is_reached_over_several_hops_on_its_own_port() {
    reached(|lab, waits| {
        let ([here, there], passive) = (PORTS, if waits { "\n neighbor 10.255.0.1 passive" } else { "" });
        let config = format!(
            "hostname frr
router bgp {THEIR_AS}
 bgp router-id 10.77.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.255.0.1 remote-as {OUR_AS}
 neighbor 10.255.0.1 port {here}
 neighbor 10.255.0.1 ebgp-multihop 5
 neighbor 10.255.0.1 update-source 10.255.0.2
 neighbor 10.255.0.1 timers connect 1{passive}
 address-family ipv4 unicast
  network 10.99.1.0/24
 exit-address-family
!
"
        );
        frr::start_on_port(lab, &config, "10.255.0.2", there)
    });
}

#[test]
fn gobgp_is_reached_over_several_hops_on_its_own_port() {
    reached(|lab, waits| {
        let [here, there] = PORTS;
        let config = json!({
            "global": {"config": {"as": THEIR_AS, "router-id": "10.77.0.2", "port": there}},
            "neighbors": [{
                "config": {"neighbor-address": "10.255.0.1", "peer-as": OUR_AS},
                "timers": {"config": {"connect-retry": 2}},
                "transport": {"config": {"local-address": "10.255.0.2", "remote-port": here, "passive-mode": waits}},
                "ebgp-multihop": {"config": {"enabled": true, "multihop-ttl": 5}},
                "afi-safis": [{"config": {"afi-safi-name": "ipv4-unicast"}}],
            }],
        });
        let running = gobgp::start(lab, &config, &[]);
        eventually("gobgp takes a route", || {
            let route = "global rib add 10.99.1.0/24 nexthop 10.255.0.2 -a ipv4";
            said(gobgp::gobgp(lab).args(route.split(' ')))
        });
        running
    });
}

#[test]
fn openbgpd_is_reached_over_several_hops_on_its_own_port() {
    reached(|lab, waits| {
        let ([here, there], passive) = (PORTS, if waits { "\tpassive\n" } else { "" });
        let session = format!(
            "listen on 10.255.0.2 port {there}
neighbor 10.255.0.1 {{
\tremote-as {OUR_AS}\n\tlocal-address 10.255.0.2\n\tmultihop 5\n\tport {here}\n\tannounce IPv4 unicast\n{passive}}}\n"
        );
        openbgpd::start(lab, THEIR_AS, &session)
    });
}
