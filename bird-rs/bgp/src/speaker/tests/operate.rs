//! What an operator asks for, and what the peer hears of it.

use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{Command, Input, LogEvent, MAX_REASON, Operated, ProtocolState};

#[test]
fn a_reason_reaches_the_peer() {
    let options = "graceful restart off;";
    let mut net = pair(
        &node(1, 64512, &[(2, 64512, options)]),
        &node(2, 64512, &[(1, 64512, options)]),
    );
    net.seconds(20);
    assert_eq!(net.operate(0, "p2", Command::Disable, "new rack"), Operated::Disabled);
    net.seconds(1);
    let heard = |net: &super::Network, what: &str| {
        let ends = |event: &LogEvent| matches!(event, LogEvent::State { reason, .. } if reason.ends_with(what));
        net.logged(1, ends)
    };
    assert_eq!(heard(&net, "Administrative shutdown: \"new rack\""), 1);
    assert_eq!(net.operate(0, "p2", Command::Disable, ""), Operated::AlreadyDisabled);
    assert_eq!(net.operate(0, "p2", Command::Restart, ""), Operated::AlreadyDisabled);
    assert_eq!(net.operate(0, "p2", Command::Enable, ""), Operated::Enabled);
    assert_eq!(net.operate(0, "p2", Command::Enable, ""), Operated::AlreadyEnabled);
    net.seconds(120);
    assert!(net.established(0, "p2"));
    let long = "ü".repeat(MAX_REASON);
    assert_eq!(net.operate(0, "p2", Command::Restart, &long), Operated::Restarted);
    net.seconds(1);
    let told = "ü".repeat(MAX_REASON / 2);
    assert_eq!(heard(&net, &format!("Administrative reset: \"{told}\"")), 1);
    net.seconds(120);
    assert!(net.established(0, "p2"), "a restart comes back by itself");
    assert_eq!(net.operate(0, "p9", Command::Restart, ""), Operated::Unknown);
}

#[test]
fn a_reload_says_whether_there_is_anything_to_reload() {
    let mut net = pair(&node(1, 64512, &[(2, 64512, "")]), &node(2, 64512, &[(1, 64512, "")]));
    assert_eq!(net.operate(0, "p2", Command::Reload, ""), Operated::NotUp);
    net.seconds(20);
    let before = net.updates_sent(0);
    assert_eq!(net.operate(0, "p2", Command::ReloadIn, ""), Operated::Reloading);
    net.seconds(1);
    assert_eq!(net.updates_sent(0), before);
    assert_eq!(net.operate(0, "p2", Command::ReloadOut, ""), Operated::Reloading);
    net.seconds(1);
    assert!(net.updates_sent(0) > before);
}

#[test]
fn what_an_operator_took_down_stays_down_until_the_file_says_otherwise() {
    let text = |options: &str| node(1, 64512, &[(2, 64512, options)]);
    let mut net = pair(&text(""), &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    net.operate(0, "p2", Command::Disable, "maintenance");
    let state = |net: &super::Network| net.protocol(0, "p2").state;
    // In place, then with a new session.
    for options in [
        "hold time 200;",
        "hold time 200; passive on;",
        "hold time 200; passive on; disabled;",
    ] {
        net.input(0, Input::Reconfigure(config(&text(options))));
        net.seconds(30);
        assert_eq!(state(&net), ProtocolState::Down, "{options}");
    }
    // Its `disabled` goes: that is a word about it.
    net.input(0, Input::Reconfigure(config(&text("hold time 200;"))));
    net.seconds(120);
    assert_eq!(state(&net), ProtocolState::Up);
}
