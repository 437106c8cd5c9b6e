//! Graceful shutdown (RFC 8326): who is about to leave says so with a community, the other side makes its routes the last
//! choice, and the session stays up meanwhile.

use crate::bird_peer::{self, Bird};
use crate::foreign::{Foreign, OUR_AS, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
use crate::gobgp::{self, GoBgp};
use crate::lab::{Lab, Running, eventually_or, run};
use crate::openbgpd::{self, OpenBgpd};

const GRACEFUL_SHUTDOWN: &str = "65535:0";

/// A peer that obeys: what its route to us then has for a local preference, if it shows that.
struct Peer<'a> {
    foreign: &'a dyn Foreign,
    start: &'a dyn Fn(&Lab) -> Running,
    preference: Option<u32>,
    /// It begins to leave.
    leaves: &'a dyn Fn(&Lab),
}

fn leaving(peer: &Peer<'_>) {
    let lab = Lab::new();
    let _them = (peer.start)(&lab);
    let obey = "filter obey { if (65535,0) ~ bgp_community then bgp_local_pref = 0; accept; }\n";
    let staying = obey.to_owned()
        + &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")).replace("import all;", "import filter obey;");
    let _daemon = lab.bird_rs("a", &staying);
    let mut client = lab.client("a");
    client.established("Peer");
    let theirs = |client: &mut crate::lab::Client, wanted: Option<u32>, marked: bool| {
        eventually_or(|| {
            let route = client
                .route("Peer", "10.99.0.0/24")
                .ok_or("their route is not there".to_owned())?;
            let is_marked = route.communities.iter().any(|community| community == GRACEFUL_SHUTDOWN);
            if (route.local_pref, is_marked) == (wanted, marked) {
                Ok(())
            } else {
                Err(format!("{route:?}"))
            }
        });
    };
    theirs(&mut client, Some(100), false);

    let going = staying.replace("  accept;\n}", "  bgp_community.add((65535,0));\n  accept;\n}");
    assert!(client.configure(&going, false, "going").accepted);
    eventually_or(|| {
        let route = peer
            .foreign
            .received(&lab, "10.244.0.0/26")
            .ok_or("our route is not there".to_owned())?;
        let marked = route.communities.iter().any(|community| community == GRACEFUL_SHUTDOWN);
        if marked && route.local_pref == peer.preference {
            Ok(())
        } else {
            Err(format!("{route:?}"))
        }
    });

    (peer.leaves)(&lab);
    theirs(&mut client, Some(0), true);
    assert_eq!(
        lab.log("a").matches("to=\"Established\"").count(),
        1,
        "one session all the time"
    );
}

#[test]
fn bird_and_we_tell_each_other_that_we_are_leaving() {
    let config = bird_peer::config(&Setup::of(THEIR_AS)).replace(
        "import all; export filter four",
        "import filter { if (65535,0) ~ bgp_community then bgp_local_pref = 0; accept; }; export filter four",
    );
    leaving(&Peer {
        foreign: &Bird,
        start: &|lab| lab.bird("b", &config, false),
        preference: Some(0),
        leaves: &|lab| {
            lab.write(
                "b-bird.conf",
                &config.replace("bgp_med = 50;", "bgp_med = 50; bgp_community.add((65535,0));"),
            );
            assert!(lab.birdc("configure").contains("Reconfigured"));
        },
    });
}

/// FRR obeys without being told to.
#[test]
fn frr_and_we_tell_each_other_that_we_are_leaving() {
    leaving(&Peer {
        foreign: &Frr,
        start: &|lab| Frr.start(lab, &Setup::of(THEIR_AS)),
        preference: Some(0),
        leaves: &|lab| frr::configure(lab, THEIR_AS, &["bgp graceful-shutdown"]),
    });
}

/// GoBGP has the community's name and leaves the rest to policies.
#[test]
fn gobgp_and_we_tell_each_other_that_we_are_leaving() {
    leaving(&Peer {
        foreign: &GoBgp,
        start: &|lab| GoBgp.start(lab, &Setup::of(THEIR_AS)),
        preference: None,
        leaves: &|lab| {
            let route = "10.99.0.0/24 nexthop 10.77.0.2 community 65535:0 -a ipv4";
            run(gobgp::gobgp(lab).args(["global", "rib", "add"]).args(route.split(' ')));
        },
    });
}

#[test]
fn openbgpd_and_we_tell_each_other_that_we_are_leaving() {
    let config = format!(
        "neighbor 10.77.0.1 {{\n\tremote-as {OUR_AS}\n}}\nmatch from any community GRACEFUL_SHUTDOWN set {{ localpref 0 }}\n"
    );
    leaving(&Peer {
        foreign: &OpenBgpd,
        start: &|lab| openbgpd::start(lab, THEIR_AS, &config),
        preference: Some(0),
        leaves: &|lab| {
            let route = "10.99.0.0/24 community GRACEFUL_SHUTDOWN";
            run(openbgpd::bgpctl(lab).args(["network", "add"]).args(route.split(' ')));
        },
    });
}
