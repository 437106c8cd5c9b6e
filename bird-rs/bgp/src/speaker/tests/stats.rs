//! Counters of route changes, as exporters for BIRD read them.

use super::Network;
use super::sessions::{node, pair};
use crate::rib::Changes;
use crate::speaker::{ChannelStatus, Command};

/// Every update is counted once, and what is there was accepted and has not gone.
pub(super) fn add_up(channel: &ChannelStatus) -> bool {
    let each_once = |c: &Changes| c.received == c.rejected + c.filtered + c.ignored + c.accepted;
    let (imports, exports) = (&channel.imports, &channel.exports);
    each_once(&imports.updates)
        && each_once(&exports.updates)
        && channel.imported + imports.withdraws.accepted <= imports.updates.accepted
        && channel.exported + exports.withdraws.accepted <= exports.updates.accepted
}

fn routes(count: u8) -> String {
    let routes: String = (0..count).map(|i| format!("route 10.9.{i}.0/24 blackhole; ")).collect();
    format!("protocol static many {{ ipv4; {routes} }}\n")
}

/// Five routes of 1 besides its own; 2 wants neither `10.9.0.0/24` nor `10.9.1.0/24`.
fn network() -> Network {
    let import = "import filter { if net ~ [10.9.0.0/23+] then reject; accept; };";
    pair(
        &(routes(5) + &node(1, 65001, &[(2, 65002, "")])),
        &node(2, 65002, &[(1, 65001, &format!("{import} export all;|"))]),
    )
}

fn channel(net: &Network, at: usize, peer: &str) -> ChannelStatus {
    net.protocol(at, peer).channels.swap_remove(0)
}

#[test]
fn what_a_policy_rejects_is_filtered_and_own_routes_are_rejected() {
    let mut net = network();
    net.seconds(20);
    let theirs = channel(&net, 1, "p1");
    let updates = theirs.imports.updates;
    assert_eq!((updates.received, updates.filtered, updates.accepted), (6, 2, 4));
    assert_eq!((theirs.imported, theirs.filtered), (4, 2));
    // What 2 learned from 1 is not told to 1.
    let updates = theirs.exports.updates;
    assert_eq!((updates.received, updates.rejected, updates.accepted), (5, 4, 1));
    assert!(add_up(&theirs) && add_up(&channel(&net, 0, "p2")));
}

#[test]
fn withdrawals_are_counted_and_a_new_session_counts_anew() {
    let mut net = network();
    net.seconds(20);
    net.operate(0, "many", Command::Disable, "");
    net.seconds(1);
    let theirs = channel(&net, 1, "p1");
    let withdraws = theirs.imports.withdraws;
    assert_eq!((withdraws.received, withdraws.accepted, withdraws.ignored), (5, 3, 2));
    let ours = channel(&net, 0, "p2").exports;
    assert_eq!((ours.withdraws.received, ours.withdraws.accepted), (5, 5));
    net.operate(0, "p2", Command::Restart, "");
    net.seconds(200);
    let ours = channel(&net, 0, "p2");
    assert_eq!((ours.imports.updates.received, ours.exports.updates.accepted), (1, 1));
    assert_eq!(ours.exports.withdraws.received, 0);
    // The other side kept our routes over it, and goes on counting.
    assert_eq!(channel(&net, 1, "p1").imports.updates.received, 7);
}

#[test]
fn the_same_again_counts_only_when_the_peer_says_it() {
    let mut net = network();
    net.seconds(20);
    net.operate(1, "p1", Command::ReloadIn, "");
    net.seconds(1);
    assert_eq!(channel(&net, 1, "p1").imports.updates.received, 6);
    net.operate(0, "p2", Command::ReloadOut, "");
    net.seconds(1);
    let updates = channel(&net, 1, "p1").imports.updates;
    assert_eq!((updates.received, updates.ignored, updates.filtered), (12, 4, 4));
}
