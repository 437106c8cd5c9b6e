//! Sessions between link-local addresses, as on a cable between two routers that have no others. IPv4 routes have IPv6 next
//! hops (RFC 8950), which are on that cable too.

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
use crate::gobgp::GoBgp;
use crate::lab::{Lab, Running, eventually, eventually_or};
use crate::openbgpd::OpenBgpd;

const OURS: &str = "fe80::77:1";
const THEIRS: &str = "fe80::77:2";

/// A prefix of each side.
const V4: [&str; 2] = ["10.99.0.0/24", "10.244.0.0/26"];
const V6: [&str; 2] = ["fd99::/64", "fd00:244::/64"];

/// Of IPv6 routes where both sides are told to say a global next hop.
const GLOBAL: Option<[&str; 2]> = Some(["fd77::2", "fd77::1"]);

fn setup() -> Setup {
    Setup {
        link_local: true,
        ..Setup::of(THEIR_AS)
    }
}

/// A session, and routes both ways. `hops` are those of the IPv4 routes and of the IPv6 routes: the gateway that we use, and
/// what the peer shows of ours.
fn link_local<T>(
    foreign: &dyn Foreign,
    start: impl FnOnce(&Lab) -> T,
    hops: [Option<[&str; 2]>; 2],
) -> (Lab, T, Running) {
    let lab = Lab::new();
    for (side, address) in [("a", OURS), ("b", THEIRS)] {
        lab.ip(side, &format!("address add {address}/64 dev eth0 nodad"));
    }
    let them = start(&lab);
    let config = ours(&format!("neighbor {THEIRS}%eth0 as {THEIR_AS};"))
        .replace("local 10.77.0.1 as", &format!("local {OURS} as"))
        .replace("ipv4 { import all;", "ipv4 { import all; extended next hop on;");
    let daemon = lab.bird_rs("a", &config);
    let mut client = lab.client("a");
    client.established("Peer");
    for (prefixes, next_hops) in [V4, V6].into_iter().zip(hops) {
        let Some([near, far]) = next_hops else { continue };
        let route = eventually("theirs is there", || client.route("Peer", prefixes[0]));
        assert!(route.best, "{route:?}");
        let gateway = route
            .next_hops
            .first()
            .and_then(|hop| Some((tortie_proto::ip(&hop.address)?, &*hop.interface)));
        assert_eq!(gateway, Some((near.parse().unwrap(), "eth0")), "{route:?}");
        eventually_or(|| {
            let route = foreign
                .received(&lab, prefixes[1])
                .ok_or(format!("{} is not there", prefixes[1]))?;
            if route.next_hop == far {
                Ok(())
            } else {
                Err(format!("{route:?}"))
            }
        });
    }
    (lab, them, daemon)
}

#[test]
fn a_session_between_link_local_addresses_with_bird() {
    // It shows a global next hop and a link-local one, and has no global one.
    let (lab, _them, _daemon) = link_local(&Bird, |lab| Bird.start(lab, &setup()), [Some([THEIRS, "::"]), GLOBAL]);
    let gateway = format!("via {OURS} on eth0");
    eventually_or(|| {
        let shown = lab.birdc("show route 10.244.0.0/26");
        shown.contains(&gateway).then_some(()).ok_or(shown)
    });
}

#[test]
fn a_session_between_link_local_addresses_with_frr() {
    let session = format!(
        " neighbor {OURS} remote-as {}\n neighbor {OURS} interface eth0\n neighbor {OURS} timers connect 1
 neighbor {OURS} advertisement-interval 0\n neighbor {OURS} capability extended-nexthop\n",
        crate::foreign::OUR_AS
    );
    let active = format!("  neighbor {OURS} activate\n");
    let six = format!("  neighbor {OURS} route-map six out\n");
    let network = "  network fd99::/64 route-map tag\n";
    let config = frr::config(THEIR_AS, &session, &active).replace(network, &format!("{network}{six}"));
    let config: String = config
        .lines()
        .filter(|line| !line.contains("10.77.0.1 "))
        .map(|line| format!("{line}\n"))
        .collect();
    link_local(
        &Frr,
        |lab| frr::start_with_zebra(lab, &config),
        [Some(["fd77::2", OURS]), GLOBAL],
    );
}

/// It announces its own routes with the next hops that they were given.
#[test]
fn a_session_between_link_local_addresses_with_gobgp() {
    link_local(
        &GoBgp,
        |lab| GoBgp.start(lab, &setup()),
        [Some(["fd77::2", OURS]), GLOBAL],
    );
}

/// It has no IPv6 next hops for IPv4.
#[test]
fn a_session_between_link_local_addresses_with_openbgpd() {
    link_local(
        &OpenBgpd,
        |lab| OpenBgpd.start(lab, &setup()),
        [None, Some([THEIRS, "fd77::1"])],
    );
}
