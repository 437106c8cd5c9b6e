//! Nexthop objects in the real kernel.

use tortie_calc::Settings;
use tortie_netlink::monitor::Event;

use super::*;

const ROUTER: [&str; 1] = ["172.30.0.12"];
const BOTH: [&str; 2] = ["172.30.0.12", "172.30.0.13"];
const ROUTER6: [&str; 1] = ["fd30::12"];
const BOTH6: [&str; 2] = ["fd30::12", "fd30::13"];

/// What bird-rs says: two routes by one router, two by both, of each family.
fn table() -> Input {
    let of = [
        ("10.1.0.0/16", &ROUTER[..]),
        ("10.2.0.0/16", &ROUTER),
        ("10.3.0.0/16", &BOTH),
        ("10.4.0.0/16", &BOTH),
        ("fd00:1::/64", &ROUTER6),
        ("fd00:2::/64", &BOTH6),
        ("fd00:3::/64", &BOTH6),
    ];
    let routes = of.into_iter().map(|(prefix, gateways)| learn_merged(prefix, gateways));
    Input::Fib(routes.chain([Delta::InSync]).collect())
}

const ROUTES: u64 = 7;
const OBJECTS: u64 = 6;

fn settings(nexthop_objects: bool) -> Input {
    let settings = Settings {
        nexthop_objects,
        ..Settings::default()
    };
    Input::Desired(vec![Update::Settings(Box::new(settings))])
}

async fn told(felix: &Felix, objects: bool) {
    let known = Input::DatastoreSynced { live: true };
    felix.give([settings(objects), known, table()]).await;
    felix.settled(ROUTES).await;
}

/// The lines of `ip` that hold this word.
fn lines(args: &str, word: &str) -> Vec<String> {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|l| l.contains(word))
        .map(|l| l.trim_end().to_owned())
        .collect();
    lines.sort();
    lines
}

/// How many learned routes name an object.
fn by_object() -> usize {
    ["-4", "-6"]
        .map(|family| lines(&format!("{family} route show proto bird"), "nhid 8000").len())
        .iter()
        .sum()
}

fn objects() -> Vec<String> {
    lines("nexthop", "proto 80")
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}: {:#?} {:#?}", objects(), routes());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the kernel tells until it is quiet.
async fn events(monitor: &mut Monitor) -> Vec<Event> {
    let mut events = Vec::new();
    while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_millis(100), monitor.next()).await {
        events.extend(batch.unwrap());
    }
    events
}

#[test]
fn routes_share_objects_and_a_restart_knows_them() {
    in_namespace(|| async {
        let felix = Felix::start();
        told(&felix, true).await;
        let there = objects();
        assert_eq!(
            (there.len() as u64, by_object() as u64),
            (OBJECTS, ROUTES),
            "{there:#?}"
        );
        assert!(there.iter().any(|o| o.contains("group 8000")));
        assert_eq!(felix.running.handle.summary().await.unwrap().objects.there, OBJECTS);
        felix.die().await;
        ip("nexthop add id 80000500 via 172.30.0.55 dev up0 proto 80");
        ip("nexthop add id 80000501 via 172.30.0.55 dev up0 proto static");
        ip("nexthop add id 9 via 172.30.0.55 dev up0 proto 80");
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        let felix = Felix::start();
        told(&felix, true).await;
        until("the leaving is swept", || {
            !objects().iter().any(|o| o.contains("80000500"))
        })
        .await;
        let told = events(&mut monitor).await;
        assert_eq!(told.len(), 1, "nothing else is touched: {told:#?}");
        assert_eq!(lines("nexthop", "172.30.0.55").len(), 2, "somebody else's stay");
        let gone = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"];
        let gone = gone.map(|p| Delta::Delete(p.parse().unwrap()));
        felix.give([Input::Fib(gone.into())]).await;
        until("unused objects go", || objects().len() == 4).await;
        felix.die().await;
    });
}

#[test]
fn an_object_that_somebody_deletes_or_edits_comes_back_with_its_routes() {
    in_namespace(|| async {
        let felix = Felix::start();
        told(&felix, true).await;
        let before = (objects(), routes());
        let meddling = [
            "nexthop del id 80000000",
            "nexthop replace id 80000000 via 172.30.0.99 dev up0 proto 80",
            "nexthop flush proto 80",
            "route replace 10.1.0.0/16 via 172.30.0.99 proto bird metric 1024",
        ];
        for act in meddling {
            ip(act);
            until(act, || (objects(), routes()) == before).await;
        }
        felix.die().await;
    });
}

/// The kernel drops objects, and with them routes, when an interface has no carrier: plain routes stay.
#[test]
fn a_lost_carrier_takes_no_route_away() {
    in_namespace(|| async {
        let felix = Felix::start();
        told(&felix, true).await;
        ip("link set up1 down");
        let plain = || by_object() == 0 && lines("route show proto bird", "10.").len() == 4;
        until("plain routes", plain).await;
        ip("link set up1 up");
        until("objects", || {
            by_object() as u64 == ROUTES && objects().len() as u64 == OBJECTS
        })
        .await;
        felix.die().await;
    });
}

#[test]
fn a_running_node_changes_to_objects_and_back_without_a_gap() {
    in_namespace(|| async {
        let felix = Felix::start();
        told(&felix, false).await;
        assert_eq!((by_object(), objects().len()), (0, 0));
        felix.die().await;
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        let gaps = |events: Vec<Event>| {
            let gap = |e: &Event| matches!(e, Event::RouteGone(_));
            events.into_iter().filter(gap).collect::<Vec<_>>()
        };
        // The upgrade.
        let felix = Felix::start();
        told(&felix, true).await;
        until("objects", || {
            by_object() as u64 == ROUTES && objects().len() as u64 == OBJECTS
        })
        .await;
        assert_eq!(gaps(events(&mut monitor).await), []);
        felix.give([settings(false)]).await;
        until("no objects", || by_object() == 0 && objects().is_empty()).await;
        assert_eq!(gaps(events(&mut monitor).await), []);
        go_by(&[
            ("10.3.0.0/16", &BOTH),
            ("fd00:3::/64", &BOTH6),
            ("fd00:1::/64", &ROUTER6),
        ])
        .await;
        felix.die().await;
    });
}

#[test]
fn routes_whose_router_is_reached_another_way_move_with_their_object() {
    in_namespace(|| async {
        ip("route add 192.0.2.0/24 via 172.30.0.12");
        let felix = Felix::start();
        let routes: Vec<_> = (0..50).map(|i| learn(&format!("10.{i}.0.0/16"), "192.0.2.1")).collect();
        felix
            .give([
                settings(true),
                Input::DatastoreSynced { live: true },
                Input::Fib(routes),
                Input::Fib(vec![Delta::InSync]),
            ])
            .await;
        felix.settled(50).await;
        let before = objects();
        assert!(before.len() == 1 && before[0].contains("via 172.30.0.12"), "{before:?}");
        ip("route replace 192.0.2.0/24 via 172.30.0.13");
        let moved = || lines("route show proto bird", "nhid 80000000 via 172.30.0.13").len() == 50;
        until("moved", moved).await;
        felix.settled(50).await;
        assert_eq!(objects().len(), 1);
        felix.die().await;
    });
}
