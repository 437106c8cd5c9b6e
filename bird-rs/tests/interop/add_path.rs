//! Several paths of a prefix on one session, both ways (RFC 7911). The peer reflects: we announce two paths of a prefix,
//! it and a third router one each. So every path that is seen here went through its table beside another one, and the
//! third router says what the peer makes of ours.

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, LEARNED, OUR_AS, Received, Setup, as_received, ours};
use crate::frr::Frr;
use crate::gobgp::GoBgp;
use crate::lab::{Client, Lab, eventually_or};
use crate::openbgpd::OpenBgpd;

/// Our prefixes with two paths, and the next hop of both.
const OURS: [(&str, &str); 2] = [("10.244.0.0/26", "10.77.0.1"), ("fd00:244::/64", "fd77::1")];
/// Prefixes that the peer and the third router announce.
const THEIRS: [(&str, &str, &str); 2] = [
    ("10.99.0.0/24", "10.77.0.2", "10.77.0.3"),
    ("fd99::/64", "fd77::2", "fd77::3"),
];

/// Our side. The second path of each prefix has this MED.
fn two_paths(med: u32) -> String {
    let second = format!(
        "if proto ~ \"second*\" then {{
    bgp_med = {med}; bgp_local_pref = 140; bgp_community.add((64512,70)); bgp_path.prepend(64999); accept;
  }}
  if net = 10.244.0.0/26"
    );
    ours("neighbor 10.77.0.2 as 64512;")
        .replacen("if net = 10.244.0.0/26", &second, 1)
        .replace("import all;", "import all; add paths on;")
        + "protocol static second4 { ipv4; route 10.244.0.0/26 blackhole; }
protocol static second6 { ipv6; route fd00:244::/64 blackhole; }
"
}

/// The third router's.
fn third() -> String {
    let channel = "import all; export filter mine; add paths on;";
    format!(
        "router id 10.77.0.3;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.99.0.0/24 blackhole; }}
protocol static own6 {{ ipv6; route fd99::/64 blackhole; }}
filter mine {{
  if source != RTS_STATIC then reject;
  bgp_med = 70; bgp_local_pref = 220; bgp_community.add((65003,1)); bgp_large_community.add((65003,1,2)); accept;
}}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.3 as {OUR_AS}; neighbor 10.77.0.2 as {OUR_AS};
  ipv4 {{ {channel} }};
  ipv6 {{ {channel} next hop address fd77::3; }};
}}
"
    )
}

fn path(next_hop: &str, preference: u32, med: u32, communities: [&str; 2]) -> Received {
    Received {
        next_hop: next_hop.to_owned(),
        local_pref: Some(preference),
        med: Some(med),
        communities: communities.map(str::to_owned).to_vec(),
        ..Received::default()
    }
}

/// As it is behind the reflector.
fn reflected(path: Received, originator: &str) -> Received {
    Received {
        originator: Some(originator.to_owned()),
        cluster_list: vec!["10.77.0.2".to_owned()],
        ..path
    }
}

fn first(next_hop: &str) -> Received {
    path(next_hop, 150, 30, ["64512:7", "64512:8:9"])
}

fn second(next_hop: &str, med: u32) -> Received {
    Received {
        next_hop: next_hop.to_owned(),
        as_path: "64999".to_owned(),
        local_pref: Some(140),
        med: Some(med),
        communities: vec!["64512:70".to_owned()],
        ..Received::default()
    }
}

/// Waits until these are the paths, in any order.
fn has(who: &str, mut wanted: Vec<Received>, mut paths: impl FnMut() -> Vec<Received>) {
    wanted.sort_by_key(|path| path.med);
    eventually_or(|| {
        let mut now = paths();
        now.sort_by_key(|path| path.med);
        if now == wanted {
            Ok(())
        } else {
            Err(format!("{who} has {now:#?}, wanted {wanted:#?}"))
        }
    });
}

/// As it was announced. Some mark their own routes as reflected too, or show routes as they will reflect them.
fn announced(path: Received, by: &str) -> Received {
    if path.originator.as_deref() != Some(by) {
        return path;
    }
    assert_eq!(path.cluster_list, ["10.77.0.2"]);
    Received {
        originator: None,
        cluster_list: Vec::new(),
        ..path
    }
}

/// What one of us learned from the peer. Identifiers tell the paths apart.
fn learned(client: &mut Client, prefix: &str) -> Vec<Received> {
    let paths = client.paths("Peer", prefix);
    let mut ids: Vec<u32> = paths.iter().map(|path| path.path_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), paths.len(), "{paths:?}");
    paths.into_iter().map(as_received).collect()
}

/// Our paths are at the peer and, reflected, at the third router.
fn ours_arrive(lab: &Lab, foreign: &dyn Foreign, other: &mut Client, wanted: impl Fn(&str) -> Vec<Received>) {
    for (prefix, next_hop) in OURS {
        has("the peer", wanted(next_hop), || {
            let paths = foreign.paths(lab, prefix).into_iter();
            paths.map(|path| announced(path, "10.77.0.1")).collect()
        });
        let paths = wanted(next_hop).into_iter();
        let paths = paths.map(|path| reflected(path, "10.77.0.1")).collect();
        has("the third router", paths, || learned(other, prefix));
    }
}

fn several_paths(foreign: &dyn Foreign) {
    let lab = Lab::new();
    lab.third();
    let setup = Setup {
        reflects: true,
        add_path: true,
        ..Setup::of(OUR_AS)
    };
    let _them = foreign.start(&lab, &setup);
    let _daemon = lab.bird_rs("a", &two_paths(40));
    let _third = lab.bird_rs("c", &third());
    let (mut client, mut other) = (lab.client("a"), lab.client("c"));
    client.established("Peer");
    let session = client.session("Peer");
    assert!(
        session.neighbor_capabilities.iter().any(|shown| shown == "ADD-PATH"),
        "{session:?}"
    );
    ours_arrive(&lab, foreign, &mut other, |hop| vec![first(hop), second(hop, 40)]);
    for (prefix, near, far) in THEIRS {
        let own = path(near, 200, 50, ["65002:1", "65002:1:2"]);
        let other = path(far, 220, 70, ["65003:1", "65003:1:2"]);
        let wanted = vec![own, reflected(other, "10.77.0.3")];
        has("our side", wanted, || {
            let paths = learned(&mut client, prefix).into_iter();
            paths.map(|path| announced(path, "10.77.0.2")).collect()
        });
    }

    // One path changes, and the other stays as it is; then it goes.
    assert!(client.configure(&two_paths(41), false, "changed").accepted);
    ours_arrive(&lab, foreign, &mut other, |hop| vec![first(hop), second(hop, 41)]);
    let lines = two_paths(41);
    let fewer: Vec<&str> = lines.lines().filter(|line| !line.contains("static second")).collect();
    assert!(client.configure(&fewer.join("\n"), false, "fewer").accepted);
    ours_arrive(&lab, foreign, &mut other, |hop| vec![first(hop)]);

    // So does one of theirs: the peer's own, and it still has what it reflects.
    foreign.withdraw(&lab, &setup, "10.99.0.0/24");
    let routes = [
        "10.99.0.0/24 via 10.77.0.3",
        LEARNED[1],
        LEARNED[2],
        "fd99::/64 via fd77::3",
    ];
    client.learns("Peer", &routes);
    // And the other one.
    let without = third()
        .replace("route 10.99.0.0/24 blackhole;", "")
        .replace("route fd99::/64 blackhole;", "");
    assert!(other.configure(&without, false, "without").accepted);
    client.learns("Peer", &LEARNED[1..]);
    for side in ["a", "c"] {
        let log = lab.log(side);
        assert_eq!(
            log.matches("to=\"Established\"").count(),
            1,
            "one session all the time: {log}"
        );
    }
}

#[test]
fn several_paths_both_ways_with_bird() {
    several_paths(&Bird);
}

#[test]
fn several_paths_both_ways_with_frr() {
    several_paths(&Frr);
}

#[test]
fn several_paths_both_ways_with_gobgp() {
    several_paths(&GoBgp);
}

#[test]
fn several_paths_both_ways_with_openbgpd() {
    several_paths(&OpenBgpd);
}
