//! Sessions over IPv6: with IPv6 routes alone, and with IPv4 routes that keep their IPv4 next hops. Those with IPv6 next
//! hops are in `features`.

use crate::bird_peer::Bird;
use crate::foreign::{OUR_AS, THEIR_AS, over_ipv6};
use crate::frr::Frr;
use crate::gobgp::GoBgp;
use crate::openbgpd::OpenBgpd;

#[test]
fn ipv6_alone_with_bird() {
    over_ipv6(&Bird, OUR_AS, 1);
    over_ipv6(&Bird, THEIR_AS, 1);
}

#[test]
fn ipv4_next_hops_over_an_ipv6_session_with_bird() {
    over_ipv6(&Bird, OUR_AS, 2);
    over_ipv6(&Bird, THEIR_AS, 2);
}

#[test]
fn ipv6_alone_with_frr() {
    over_ipv6(&Frr, OUR_AS, 1);
    over_ipv6(&Frr, THEIR_AS, 1);
}

#[test]
fn ipv4_next_hops_over_an_ipv6_session_with_frr() {
    over_ipv6(&Frr, OUR_AS, 2);
    over_ipv6(&Frr, THEIR_AS, 2);
}

#[test]
fn ipv6_alone_with_gobgp() {
    over_ipv6(&GoBgp, OUR_AS, 1);
    over_ipv6(&GoBgp, THEIR_AS, 1);
}

#[test]
fn ipv4_next_hops_over_an_ipv6_session_with_gobgp() {
    over_ipv6(&GoBgp, OUR_AS, 2);
    over_ipv6(&GoBgp, THEIR_AS, 2);
}

#[test]
fn ipv6_alone_with_openbgpd() {
    over_ipv6(&OpenBgpd, OUR_AS, 1);
    over_ipv6(&OpenBgpd, THEIR_AS, 1);
}

#[test]
fn ipv4_next_hops_over_an_ipv6_session_with_openbgpd() {
    over_ipv6(&OpenBgpd, OUR_AS, 2);
    over_ipv6(&OpenBgpd, THEIR_AS, 2);
}
