//! Route refreshes: demarcated when a peer asks (RFC 7313), and asked for by us. We keep what peers announce, so that a
//! new policy asks them nothing. What a receive limit kept out is not kept, and asked for when the limit is another.

use crate::bird_peer::{self, Bird};
use crate::foreign::{Foreign, LEARNED, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
use crate::gobgp::GoBgp;
use crate::lab::{Lab, Running, eventually};
use crate::openbgpd::{self, OpenBgpd};

/// They have a session with us, and what they announce.
fn pair(lab: &Lab, them: Running) -> (Running, Running) {
    let daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")));
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    (them, daemon)
}

#[test]
fn a_refresh_that_bird_asks_for_is_demarcated() {
    let lab = Lab::new();
    let theirs =
        bird_peer::config(&Setup::of(THEIR_AS)).replace("debug protocols { states, events };", "debug protocols all;");
    let _daemons = pair(&lab, lab.bird("b", &theirs, false));
    eventually("BIRD has both initial tables", || {
        (lab.log("bird").matches("Got END-OF-RIB").count() == 2).then_some(())
    });
    lab.birdc("reload in tortie");
    let log = eventually("both families are demarcated", || {
        let log = lab.log("bird");
        (log.matches("Got END-OF-RR").count() == 2).then_some(log)
    });
    assert_eq!(log.matches("Got BEGIN-OF-RR").count(), 2, "{log}");
    assert!(!log.contains("ignoring"), "{log}");
    assert!(lab.birdc("show route 10.244.0.64/26").contains("tortie"));
}

#[test]
fn a_refresh_that_frr_asks_for_is_demarcated() {
    let lab = Lab::new();
    let config =
        frr::config(THEIR_AS, "", "").replace("hostname frr", "hostname frr\nlog stdout\ndebug bgp neighbor-events");
    let _daemons = pair(&lab, frr::start(&lab, &config));
    eventually("FRR has our routes", || Frr.received(&lab, "10.244.0.64/26"));
    assert!(Frr.refresh(&lab));
    eventually("it is demarcated", || {
        let log = lab.log("frr");
        let begun = log.contains("rcvd route-refresh (BoRR) for IPv4/unicast, triggering timer");
        (begun && log.contains("rcvd route-refresh (EoRR) for IPv4/unicast, stopping BoRR timer")).then_some(())
    });
    assert!(Frr.received(&lab, "10.244.0.64/26").is_some());
}

#[test]
fn a_refresh_that_openbgpd_asks_for_is_demarcated() {
    let lab = Lab::new();
    let _daemons = pair(&lab, OpenBgpd.start(&lab, &Setup::of(THEIR_AS)));
    eventually("OpenBGPD has our routes", || OpenBgpd.received(&lab, "10.244.0.64/26"));
    assert!(OpenBgpd.refresh(&lab));
    eventually("it is demarcated", || {
        // Both families.
        (openbgpd::demarcations(&lab)? == [2, 2]).then_some(())
    });
    assert!(OpenBgpd.received(&lab, "10.244.0.64/26").is_some());
}

/// We take one IPv4 route of two, and then both, on the same session.
fn asked(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let wide = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let narrow = wide.replace("ipv4 { import all;", "ipv4 { import all; receive limit 1 action block;");
    assert_ne!(narrow, wide);
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let _daemon = lab.bird_rs("a", &narrow);
    let mut client = lab.client("a");
    client.established("Peer");
    eventually("the limit is reached, and IPv6 has none", || {
        let reached = lab.log("a").contains("kind=\"receive\" limit=1 action=\"block\"");
        (reached && client.learned("Peer").len() == 2).then_some(())
    });
    assert!(client.configure(&wide, false, "wide").accepted);
    client.learns("Peer", &LEARNED);
    assert_eq!(
        lab.log("a").matches("to=\"Established\"").count(),
        1,
        "on the same session"
    );
}

#[test]
fn bird_is_asked_for_what_a_limit_kept_out() {
    asked(&Bird);
}

#[test]
fn frr_is_asked_for_what_a_limit_kept_out() {
    asked(&Frr);
}

#[test]
fn gobgp_is_asked_for_what_a_limit_kept_out() {
    asked(&GoBgp);
}

/// OpenBGPD 7.7 answers nobody's request, BIRD's neither: it takes every family for one that was not agreed on. The session
/// survives that.
#[test]
fn openbgpd_is_asked_and_does_not_answer() {
    let lab = Lab::new();
    let wide = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let narrow = wide.replace("ipv4 { import all;", "ipv4 { import all; receive limit 1 action block;");
    let _them = OpenBgpd.start(&lab, &Setup::of(THEIR_AS));
    let _daemon = lab.bird_rs("a", &narrow);
    let mut client = lab.client("a");
    client.established("Peer");
    eventually("the limit is reached", || {
        lab.log("a").contains("kind=\"receive\"").then_some(())
    });
    assert!(client.configure(&wide, false, "wide").accepted);
    eventually("it has our request", || {
        let log = lab.log("openbgpd");
        log.contains("route refresh: AID IPv4 unicast not negotiated")
            .then_some(())
    });
    assert!(OpenBgpd.is_up(&lab));
    client.established("Peer");
}
