//! What an operator does to a session: graceful shutdown (RFC 8326), and reading why one is not there.

use super::Network;
use super::sessions::{node, pair};
use crate::rib::Reason;
use crate::speaker::Input;

/// The recipes of the documentation, on both sides.
const OBEY: &str = "import filter { if (65535,0) ~ bgp_community then bgp_local_pref = 0; accept; }; export all;|";
const LEAVING: &str = "import filter { bgp_local_pref = 0; accept; };
    export filter { bgp_community.add((65535,0)); accept; };|";
const STAYING: &str = "import all; export all;|";

#[test]
fn who_is_about_to_leave_is_avoided_before_it_goes() {
    // 1 announces one prefix to 2 and 3, each a provider of 4.
    let source = node(1, 65001, &[(2, 65002, ""), (3, 65003, "")]);
    let middle = |me: u8, asn: u32, channel: &str| node(me, asn, &[(1, 65001, ""), (4, 65004, channel)]);
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &source);
    net.start(1, "10.0.0.2", &middle(2, 65002, STAYING));
    net.start(2, "10.0.0.3", &middle(3, 65003, STAYING));
    net.start(3, "10.0.0.4", &node(4, 65004, &[(2, 65002, OBEY), (3, 65003, OBEY)]));
    net.seconds(20);
    assert_eq!(&*net.best(3, "10.1.0.0/24").unwrap().protocol, "p2");
    let leaving = super::network::config(&middle(2, 65002, LEAVING));
    net.input(1, Input::Reconfigure(leaving));
    net.seconds(2);
    let best = net.best(3, "10.1.0.0/24").unwrap();
    assert_eq!((&*best.protocol, best.reason), ("p3", Some(Reason::LocalPref)));
    assert!(net.established(3, "p2"), "both sessions are up, nothing is lost");
    assert_eq!(net.best(1, "10.4.0.0/24").unwrap().attributes.local_pref, Some(0));
    assert_eq!(net.node(3).fib_deletes, 0);
}

#[test]
fn why_a_session_ended_is_still_said_when_nobody_answers() {
    let text = node(1, 65001, &[(2, 65002, "")]);
    let mut net = pair(
        &text,
        &node(2, 65002, &[(1, 65001, "passive on; graceful restart off;")]),
    );
    net.seconds(10);
    let errors = |net: &Network| {
        let bgp = net.protocol(0, "p2").bgp.unwrap();
        (bgp.last_error, bgp.last_connect_failure)
    };
    assert_eq!(errors(&net), (None, None));
    net.input(1, Input::Stop);
    net.quiesce();
    net.kill(1);
    net.seconds(30);
    let (error, failure) = errors(&net);
    assert_eq!(error.as_deref(), Some("Received: Administrative shutdown"));
    assert_eq!(failure.as_deref(), Some("connection refused"));
    assert!(
        net.protocol(0, "p2")
            .info
            .ends_with("Received: Administrative shutdown")
    );
}
