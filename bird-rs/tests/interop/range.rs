//! Dynamic peers out of a range: guarded by the TTL of their packets, and so many at a time.

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, Setup, THEIR_AS};
use crate::frr::Frr;
use crate::gobgp::GoBgp;
use crate::lab::{Lab, Running, eventually};
use crate::openbgpd::OpenBgpd;

fn ours(limit: u32) -> String {
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol bgp Range {{ local 10.77.0.1 as 64512; neighbor range 10.77.0.0/24 external; ttl security; dynamic limit {limit};
  ipv4 {{ import all; export all; }}; }}\n"
    )
}

/// A peer whose packets arrive with TTL 1, as if from far away, and the same one with TTL 255.
fn near_and_far(start: &dyn Fn(&Lab, bool) -> Running) {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &ours(1));
    let mut client = lab.client("a");
    // An OPEN may be in before the guard is; what the far one says later, also that it ends, is dropped, and must not keep
    // the near one out.
    let far = start(&lab, false);
    eventually("the far one has tried", || {
        (lab.tcp_counter("a", "TCPMinTTLDrop") > 0).then_some(())
    });
    assert!(
        !client
            .protocols()
            .iter()
            .any(|p| p.bgp.as_ref().is_some_and(|s| s.state == "Established"))
    );
    drop(far);
    let _near = start(&lab, true);
    eventually("the near one is up", || {
        let protocols = client.protocols();
        let up = protocols
            .iter()
            .find(|p| p.bgp.as_ref().is_some_and(|s| s.state == "Established"))?;
        up.name.starts_with("dynbgp").then_some(())
    });
    eventually("the range says so", || {
        let range = client.protocols().into_iter().find(|p| p.name == "Range")?;
        range.info.starts_with("1 of 1 peers").then_some(())
    });
}

fn guarded(foreign: &dyn Foreign) {
    near_and_far(&|lab, ttl_security| {
        let setup = Setup {
            ttl_security,
            ..Setup::of(THEIR_AS)
        };
        foreign.start(lab, &setup)
    });
}

#[test]
fn a_range_lets_in_bird_only_when_it_is_near() {
    guarded(&Bird);
}

#[test]
fn a_range_lets_in_frr_only_when_it_is_near() {
    guarded(&Frr);
}

#[test]
fn a_range_lets_in_gobgp_only_when_it_is_near() {
    guarded(&GoBgp);
}

#[test]
fn a_range_lets_in_openbgpd_only_when_it_is_near() {
    guarded(&OpenBgpd);
}
