//! `configure soft`: filters change, and what is there already stays as it is.

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::speaker::{Command, Input};

const ANY: &str = "import all; export all;|";

fn first(export: &str) -> String {
    let routes: String = (0..3).map(|i| format!("route 10.9.{i}.0/24 blackhole; ")).collect();
    format!("protocol static many {{ ipv4; {routes} }}\n")
        + &node(
            1,
            65001,
            &[(2, 65002, &format!("import all; {export}|")), (3, 65003, ANY)],
        )
}

fn network() -> Network {
    let mut net = pair(&first("export all;"), &node(2, 65002, &[(1, 65001, ANY)]));
    net.start(2, "10.0.0.3", &node(3, 65003, &[(1, 65001, ANY)]));
    net.seconds(30);
    net
}

/// What a node has from the first.
fn has(net: &Network, at: usize) -> Vec<String> {
    let routes = [
        "10.1.0.0/24",
        "10.9.0.0/24",
        "10.9.1.0/24",
        "10.9.2.0/24",
        "10.9.3.0/24",
    ];
    let there = routes.into_iter().filter(|route| net.best(at, route).is_some());
    there.map(str::to_owned).collect()
}

const NARROW: &str = "export where net ~ [10.9.1.0/24, 10.9.3.0/24];";

#[test]
fn what_was_announced_stays_until_the_filters_are_applied_anew() {
    let mut net = network();
    let all = ["10.1.0.0/24", "10.9.0.0/24", "10.9.1.0/24", "10.9.2.0/24"];
    assert_eq!(has(&net, 1), all);
    let before = net.updates_sent(0);
    net.input(0, Input::ReconfigureSoftly(config(&first(NARROW))));
    net.seconds(5);
    assert_eq!(has(&net, 1), all);
    assert_eq!(net.updates_sent(0), before);
    // The other peer, whose filter is the same, is in the group that both were in.
    assert_eq!(has(&net, 2), all);
    net.operate(0, "p2", Command::ReloadOut, "");
    net.seconds(5);
    assert_eq!(has(&net, 1), ["10.9.1.0/24"]);
    assert_eq!(has(&net, 2), all);
}

#[test]
fn what_comes_later_meets_the_new_filters() {
    let mut net = network();
    net.input(0, Input::ReconfigureSoftly(config(&first(NARROW))));
    net.seconds(5);
    // A changed route: withdrawn, since the new filter has a look at it.
    let changed = first(NARROW).replace("10.9.2.0/24 blackhole", "10.9.2.0/24 unreachable");
    let more = changed.replace("route 10.9.0.0/24", "route 10.9.3.0/24 blackhole; route 10.9.0.0/24");
    net.input(0, Input::ReconfigureSoftly(config(&more)));
    net.seconds(5);
    assert_eq!(
        has(&net, 1),
        ["10.1.0.0/24", "10.9.0.0/24", "10.9.1.0/24", "10.9.3.0/24"]
    );
    // A new session is told what the filter says.
    net.operate(0, "p2", Command::Restart, "");
    net.seconds(60);
    assert_eq!(has(&net, 1), ["10.9.1.0/24", "10.9.3.0/24"]);
}

#[test]
fn imported_routes_stay_too() {
    let mut net = network();
    let narrow = node(2, 65002, &[(1, 65001, "import none; export all;|")]);
    net.input(1, Input::ReconfigureSoftly(config(&narrow)));
    net.seconds(5);
    assert_eq!(has(&net, 1).len(), 4);
    net.input(1, Input::Reconfigure(config(&node(2, 65002, &[(1, 65001, ANY)]))));
    net.input(1, Input::Reconfigure(config(&narrow)));
    net.seconds(5);
    assert!(has(&net, 1).is_empty());
}
