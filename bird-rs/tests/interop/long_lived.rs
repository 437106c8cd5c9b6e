//! Long-lived graceful restart (RFC 9494), either side being the one that dies, with every peer that has it.

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, LEARNED, Received, Setup, THEIR_AS, ours};
use crate::frr::Frr;
use crate::gobgp::GoBgp;
use crate::lab::{Client, Lab, eventually, eventually_or};

/// Of what is the last resort.
const LLGR_STALE: &str = "65535:6";

/// Our second IPv4 route is not to be kept so long.
fn config() -> String {
    ours(&format!(
        "neighbor 10.77.0.2 as {THEIR_AS}; graceful restart time 4; long lived graceful restart on; long lived stale time 600;"
    ))
    .replace(
        "  accept;\n}",
        "  if net = 10.244.0.64/26 then bgp_community.add((65535,7));\n  accept;\n}",
    )
}

fn is_last_resort(route: &Received) -> bool {
    route.communities.iter().any(|community| community == LLGR_STALE)
}

/// Do we hold each route of theirs as the last resort, or each as it came?
fn theirs_are(client: &mut Client, last_resort: bool) {
    for prefix in ["10.99.0.0/24", "10.99.1.0/24", "fd99::/64"] {
        eventually_or(|| {
            let route = client.route("Peer", prefix).ok_or(format!("{prefix} is lost"))?;
            let marked = route.communities.iter().any(|community| community == LLGR_STALE);
            if (route.stale, marked) == (last_resort, last_resort) {
                Ok(())
            } else {
                Err(format!("last resort should be {last_resort}: {route:?}"))
            }
        });
    }
}

fn long_lived(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let mut setup = Setup {
        graceful: true,
        long_lived: true,
        ..Setup::of(THEIR_AS)
    };
    let them = foreign.start(&lab, &setup);
    let daemon = lab.bird_rs("a", &config());
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    let ours_are = |last_resort: bool| {
        for prefix in ["10.244.0.0/26", "fd00:244::/64"] {
            eventually_or(|| {
                let route = foreign.received(&lab, prefix).ok_or(format!("{prefix} is lost"))?;
                if is_last_resort(&route) == last_resort {
                    Ok(())
                } else {
                    Err(format!("last resort should be {last_resort}: {route:?}"))
                }
            });
        }
    };
    ours_are(false);
    eventually("the peer has what is not to be kept", || {
        foreign.received(&lab, "10.244.0.64/26")
    });

    // Theirs, when their restart time is over, and again as they come back.
    drop(them);
    theirs_are(&mut client, true);
    setup.restarted = true;
    let _them = foreign.start(&lab, &setup);
    client.established("Peer");
    theirs_are(&mut client, false);
    ours_are(false);
    eventually("the peer has what is not to be kept", || {
        foreign.received(&lab, "10.244.0.64/26")
    });

    // Ours, but for the one with NO_LLGR.
    drop(daemon);
    ours_are(true);
    eventually("it goes", || {
        foreign.received(&lab, "10.244.0.64/26").is_none().then_some(())
    });
    let _daemon = lab.bird_rs("a", &config());
    lab.client("a").established("Peer");
    ours_are(false);
}

#[test]
fn long_lived_graceful_restart_with_bird_both_ways() {
    long_lived(&Bird);
}

#[test]
fn long_lived_graceful_restart_with_frr_both_ways() {
    long_lived(&Frr);
}

#[test]
fn long_lived_graceful_restart_with_gobgp_both_ways() {
    long_lived(&GoBgp);
}
