//! Watchers of best routes.

use std::collections::BTreeMap;

use super::Network;
use super::network::config;
use super::sessions::pair;
use crate::config::Policy;
use crate::speaker::{
    Input, ListedNets, ListedTables, Listing, LogEvent, MAX_WATCHERS, NoListing, NoWatch, Speaker, WatchId,
};

fn listing(text: &str) -> Listing {
    let shown = config("router id 10.0.0.1;\nipv4 table beside;\nprotocol device { }\n")
        .names
        .show_route(text);
    shown.unwrap().listing
}

fn router(me: u8, other: u8, routes: &str) -> String {
    format!(
        "router id 10.0.0.{me};\nipv4 table beside;\nprotocol device {{ }}\n\
         protocol static own {{ ipv4; {routes} }}\n\
         protocol static more {{ ipv4 {{ table beside; }}; route 10.200.0.0/16 blackhole; }}\n\
         protocol bgp p {{ local 10.0.0.{me} as {me}; neighbor 10.0.0.{other} as {other}; connect delay time 1;\n\
         ipv4 {{ import all; export all; }}; }}\n"
    )
}

/// What the watcher believes: a copy that is made of what it is told.
#[derive(Default)]
struct Copy(BTreeMap<String, String>);

impl Copy {
    /// Takes all there is, so many at a time; gives how many changes that were.
    fn take(&mut self, speaker: &mut Speaker, id: WatchId, limit: usize) -> usize {
        let mut count = 0;
        for _ in 0..10_000 {
            let (changes, all) = speaker.watched(id, limit).unwrap();
            assert!(changes.len() <= limit);
            count += changes.len();
            for change in changes {
                let key = format!("{} {}", change.table, change.prefix);
                match change.route {
                    Some(route) => {
                        let med = route.attributes.med.unwrap_or_default();
                        self.0.insert(key, format!("{} {med}", route.protocol));
                    }
                    None => drop(self.0.remove(&key)),
                }
            }
            if all {
                return count;
            }
        }
        panic!("there is no end");
    }

    fn shown(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key} {value}")).collect()
    }
}

fn watch(net: &mut Network, text: &str) -> WatchId {
    net.node_mut(0).speaker.watch(&listing(text)).unwrap()
}

#[test]
fn a_watcher_is_told_what_there_is_and_then_what_changes() {
    let ours = "route 10.1.0.0/16 blackhole; route 10.2.0.0/16 blackhole;";
    let theirs = |med: u32| format!("route 10.9.0.0/16 blackhole {{ bgp_med = {med}; }};");
    let mut net = pair(&router(1, 2, ours), &router(2, 1, &theirs(5)));
    net.seconds(20);
    let mut copy = Copy::default();
    let id = watch(&mut net, "table all");
    assert_eq!(copy.take(&mut net.node_mut(0).speaker, id, 1), 4);
    let all = [
        "beside 10.200.0.0/16 more 0",
        "master4 10.1.0.0/16 own 0",
        "master4 10.2.0.0/16 own 0",
    ];
    assert_eq!(copy.shown()[..3], all);
    assert_eq!(
        copy.shown()[3],
        "master4 10.9.0.0/16 p 5",
        "the MED of a static route is for neighbours"
    );
    assert_eq!(copy.take(&mut net.node_mut(0).speaker, id, 10), 0);
    // What goes and comes back while nobody asks is nothing; what is another is told once.
    for routes in ["", ours, "", "route 10.1.0.0/16 blackhole { bgp_med = 7; };"] {
        net.input(0, Input::Reconfigure(config(&router(1, 2, routes))));
        net.seconds(1);
    }
    assert_eq!(copy.take(&mut net.node_mut(0).speaker, id, 10), 2);
    assert_eq!(copy.shown()[1], "master4 10.1.0.0/16 own 7");
    // The peer dies.
    net.kill(1);
    net.seconds(1);
    assert_eq!(copy.take(&mut net.node_mut(0).speaker, id, 10), 1);
    assert_eq!(copy.shown().len(), 2);
}

#[test]
fn a_filter_and_a_range_of_prefixes_choose() {
    let routes = "route 10.1.0.0/16 blackhole; route 10.1.2.0/24 unreachable; route 11.0.0.0/8 blackhole;";
    let mut net = pair(&router(1, 2, routes), &router(2, 1, ""));
    net.seconds(20);
    for (query, wanted) in [
        ("", vec!["10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8"]),
        ("in 10.0.0.0/8", vec!["10.1.0.0/16", "10.1.2.0/24"]),
        ("11.0.0.0/8", vec!["11.0.0.0/8"]),
        ("where dest = RTD_UNREACHABLE", vec!["10.1.2.0/24"]),
        ("in 10.0.0.0/8 where dest = RTD_BLACKHOLE", vec!["10.1.0.0/16"]),
        ("table beside", vec!["10.200.0.0/16"]),
    ] {
        let mut copy = Copy::default();
        let id = watch(&mut net, query);
        copy.take(&mut net.node_mut(0).speaker, id, 100);
        let nets: Vec<_> = copy.0.keys().map(|key| key.split(' ').next_back().unwrap()).collect();
        assert_eq!(nets, wanted, "{query}");
        net.node_mut(0).speaker.unwatch(id);
        assert!(net.node_mut(0).speaker.watched(id, 1).is_none());
    }
    // A route that the filter accepts no longer goes.
    let mut copy = Copy::default();
    let id = watch(&mut net, "where !defined(bgp_med)");
    copy.take(&mut net.node_mut(0).speaker, id, 100);
    let marked = routes.replace("16 blackhole", "16 blackhole { bgp_med = 1; }");
    net.input(0, Input::Reconfigure(config(&router(1, 2, &marked))));
    net.seconds(1);
    assert_eq!(copy.take(&mut net.node_mut(0).speaker, id, 100), 1);
    assert_eq!(copy.0.len(), 2);
}

#[test]
fn watchers_are_bounded_and_leave_nothing() {
    let mut net = pair(&router(1, 2, "route 10.1.0.0/16 blackhole;"), &router(2, 1, ""));
    net.seconds(20);
    let ids: Vec<_> = (0..MAX_WATCHERS).map(|_| watch(&mut net, "")).collect();
    let mut nobody = listing("");
    assert_eq!(net.node_mut(0).speaker.watch(&nobody), Err(NoWatch::TooMany));
    ids.into_iter().for_each(|id| net.node_mut(0).speaker.unwatch(id));
    (nobody.policy, nobody.nets) = (Policy::None, ListedNets::All);
    let id = net.node_mut(0).speaker.watch(&nobody).unwrap();
    assert_eq!(net.node_mut(0).speaker.watched(id, 9), Some((Vec::new(), true)));
    nobody.tables = ListedTables::Named(vec!["nowhere".into()]);
    let refused = NoListing::Table("nowhere".into());
    assert_eq!(net.node_mut(0).speaker.watch(&nobody), Err(NoWatch::Listing(refused)));
}

#[test]
fn who_comes_and_goes_is_followed_by_a_flush() {
    let mut net = pair(&router(1, 2, "route 10.1.0.0/16 blackhole;"), &router(2, 1, ""));
    net.seconds(20);
    let said = |net: &Network| net.logged(0, |event| matches!(event, LogEvent::FilterMessage { .. }));
    let due = |net: &Network| net.node(0).speaker.next_deadline().is_some_and(|at| at <= net.now);
    assert!(!due(&net));
    let id = watch(&mut net, "filter { print net; accept; }");
    assert!(due(&net));
    net.quiesce();
    assert_eq!((said(&net), due(&net)), (1, false));
    net.node_mut(0).speaker.unwatch(id);
    assert!(due(&net));
    net.quiesce();
    assert!(!due(&net));
}
