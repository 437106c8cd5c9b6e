//! Two of us with AS numbers of four octets, and between them a peer that knows two octets only (RFC 6793).

use crate::lab::{Lab, Running, eventually};
use crate::openbgpd;

const FOUR_OCTETS: [u32; 2] = [4_200_000_002, 4_200_000_003];

/// One of us, and a neighbour that knows two octets only.
fn modern(number: u8, asn: u32) -> String {
    format!(
        "router id 10.77.0.{number};
protocol device {{ }}
protocol static own {{ ipv4; route 10.88.{number}.0/24 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.{number} as {asn}; neighbor 10.77.0.2 as 65002;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

/// Both, with routes of each other's.
fn both(lab: &Lab) -> [Running; 2] {
    let daemons = [("a", 1), ("c", 3)];
    let daemons =
        daemons.map(|(side, number)| lab.bird_rs(side, &modern(number, FOUR_OCTETS[usize::from(number / 2)])));
    for (side, from, last) in [("a", 3, FOUR_OCTETS[1]), ("c", 1, FOUR_OCTETS[0])] {
        let mut client = lab.client(side);
        let route = eventually("the other's route is there", || {
            client.route("Peer", &format!("10.88.{from}.0/24"))
        });
        assert_eq!(route.as_path, format!("65002 {last}"));
        let theirs = client.session("Peer").neighbor_capabilities;
        assert!(!theirs.iter().any(|shown| shown.contains("4-octet")), "{theirs:?}");
    }
    daemons
}

#[test]
fn as_numbers_of_four_octets_pass_through_a_bird_that_knows_two() {
    let lab = Lab::new();
    lab.third();
    let old = "router id 10.77.0.2;
log stderr all;
protocol device { }
template bgp old {
  connect delay time 1; connect retry time 2; error wait time 1, 4; direct; enable as4 off; local 10.77.0.2 as 65002;
  ipv4 { import all; export all; next hop self; };
}
protocol bgp left from old { neighbor 10.77.0.1 external; }
protocol bgp right from old { neighbor 10.77.0.3 external; }
";
    let _bird = lab.bird("b", old, false);
    let _daemons = both(&lab);
    let shown = lab.birdc("show route all 10.88.1.0/24");
    assert!(shown.contains(&format!("BGP.as_path: {}\n", FOUR_OCTETS[0])), "{shown}");
}

#[test]
fn as_numbers_of_four_octets_pass_through_an_openbgpd_that_knows_two() {
    let lab = Lab::new();
    lab.third();
    let neighbor = |number: u8, asn: u32| {
        format!(
            "neighbor 10.77.0.{number} {{\n\tremote-as {asn}\n\tannounce as-4byte no\n\tannounce IPv4 unicast\n}}\n"
        )
    };
    let neighbors = neighbor(1, FOUR_OCTETS[0]) + &neighbor(3, FOUR_OCTETS[1]);
    let _openbgpd = openbgpd::start(&lab, 65002, &neighbors);
    let _daemons = both(&lab);
}
