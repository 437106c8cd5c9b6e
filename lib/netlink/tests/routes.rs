//! Routes and the monitor against the real kernel, each test in an anonymous network namespace that ends with its thread.
//! Needs root.

#![allow(clippy::unwrap_used)] // Helpers of tests too.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_net::Prefix;
use tortie_netlink::lookup::Lookup;
use tortie_netlink::monitor::{Event, Monitor, Without};
use tortie_netlink::request::Connection;
use tortie_netlink::route::{
    Change, Filter, IfIndex, Kernel, Kind, Netlink, NextHop, NextHops, Protocol, Route, Scope, TABLE_MAIN,
};

/// Runs the test on a thread in a new namespace with `up0`, 172.30.0.11/24 and fd30::11/64, up.
fn in_namespace(test: impl FnOnce(IfIndex) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: needs root");
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("link set up0 up");
        ip("link set up1 up");
        ip("addr add 172.30.0.11/24 dev up0");
        ip("addr add fd30::11/64 dev up0 nodad");
        let mut kernel = Netlink::open().unwrap();
        let index = kernel
            .interfaces()
            .unwrap()
            .iter()
            .find(|i| i.name == "up0")
            .unwrap()
            .index;
        test(index);
    });
    thread.join().unwrap();
}

fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn unicast(prefix: &str, protocol: Protocol, metric: u32, next_hops: Vec<NextHop>) -> Route {
    let mut r = Route::new(prefix.parse().unwrap(), Kind::Unicast, protocol);
    (r.metric, r.next_hops) = (metric, next_hops.into());
    if r.next_hops.iter().all(|h| h.gateway.is_none()) {
        r.scope = Scope::LINK;
    }
    r.canonical()
}

/// Routes of every shape the suite writes, sorted as a dump sorted by key would be.
fn every_shape(up0: IfIndex) -> Vec<Route> {
    let heavy = |g: &str, weight| NextHop {
        weight,
        ..NextHop::via(addr(g), up0)
    };
    let mut source = unicast("10.244.0.6/32", Protocol::BOOT, 1024, vec![NextHop::device(up0)]);
    source.source = Some(addr("172.30.0.11"));
    let onlink = NextHop {
        onlink: true,
        ..NextHop::via(addr("192.0.2.1"), up0)
    };
    let mut elsewhere = Route::new("10.244.8.0/26".parse().unwrap(), Kind::Unreachable, Protocol(99));
    elsewhere.metric = 5;
    vec![
        Route::new("10.244.0.0/26".parse().unwrap(), Kind::Blackhole, Protocol::CALICO),
        unicast("10.244.0.5/32", Protocol::BOOT, 1024, vec![NextHop::device(up0)]),
        source,
        unicast(
            "10.244.1.0/26",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("172.30.0.12"), up0)],
        ),
        unicast(
            "10.244.2.0/26",
            Protocol::BIRD,
            1024,
            vec![heavy("172.30.0.13", 3), heavy("172.30.0.12", 1)],
        ),
        unicast("10.244.3.0/26", Protocol::CALICO, 0, vec![onlink]),
        unicast(
            "10.244.4.0/26",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("fd30::12"), up0)],
        ),
        Route::new("10.244.7.0/26".parse().unwrap(), Kind::Prohibit, Protocol::BIRD),
        elsewhere,
        Route::new("fd00::/122".parse().unwrap(), Kind::Blackhole, Protocol::CALICO),
        unicast("fd00::5/128", Protocol::BOOT, 1024, vec![NextHop::device(up0)]),
        unicast(
            "fd00:1::/122",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("fd30::12"), up0)],
        ),
        unicast(
            "fd00:2::/122",
            Protocol::BIRD,
            1024,
            vec![heavy("fd30::12", 1), heavy("fd30::13", 7)],
        ),
        unicast(
            "fd00:3::/122",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("fe80::1"), up0)],
        ),
    ]
}

fn dump(kernel: &mut Netlink) -> Vec<Route> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match kernel.routes(Filter::MAIN) {
            Ok(mut routes) => {
                routes.retain(|r| r.protocol != Protocol::KERNEL);
                routes.sort_by_key(Route::key);
                return routes;
            }
            Err(e) => assert!(Instant::now() < deadline, "no whole dump: {e}"),
        }
    }
}

#[test]
fn what_is_written_is_read_back_replaced_and_deleted() {
    in_namespace(|up0| {
        let mut kernel = Netlink::open().unwrap();
        let routes = every_shape(up0);
        let creates: Vec<_> = routes.iter().cloned().map(Arc::new).map(Change::Create).collect();
        assert_eq!(kernel.apply(&creates).unwrap(), []);
        let mut sorted = routes.clone();
        sorted.sort_by_key(Route::key);
        assert_eq!(dump(&mut kernel), sorted);

        let taken = kernel.apply(&creates).unwrap();
        assert_eq!(taken.len(), routes.len(), "each is refused by itself: {taken:?}");
        assert!(
            taken
                .iter()
                .enumerate()
                .all(|(i, r)| r.index == i && r.errno == libc::EEXIST),
            "{taken:?}"
        );

        // Every route becomes something else in place: unicast a blackhole and the other way round.
        let mut swapped = routes;
        for r in &mut swapped {
            let via = if r.prefix.is_v4() { "172.30.0.99" } else { "fd30::99" };
            (r.kind, r.next_hops) = match r.kind {
                Kind::Unicast => (Kind::Blackhole, NextHops::default()),
                _ => (Kind::Unicast, NextHops::from([NextHop::via(addr(via), up0)])),
            };
            (r.protocol, r.scope, r.source) = (Protocol(77), Scope::UNIVERSE, None);
        }
        swapped.sort_by_key(Route::key);
        let replaces: Vec<_> = swapped.iter().cloned().map(Arc::new).map(Change::Replace).collect();
        assert_eq!(kernel.apply(&replaces).unwrap(), []);
        assert_eq!(dump(&mut kernel), swapped);

        let deletes: Vec<_> = swapped.iter().cloned().map(Arc::new).map(Change::Delete).collect();
        assert_eq!(kernel.apply(&deletes).unwrap(), []);
        assert_eq!(dump(&mut kernel), []);
        assert!(kernel.apply(&deletes).unwrap().iter().all(|r| r.errno == libc::ESRCH));
        assert!(kernel.apply(&replaces).unwrap().iter().all(|r| r.errno == libc::ENOENT));
    });
}

#[test]
fn a_refusal_names_its_route_and_stops_no_other() {
    in_namespace(|up0| {
        let mut kernel = Netlink::open().unwrap();
        let changes: Vec<_> = (0..2000u32)
            .map(|i| {
                let via = if i % 500 == 7 { "192.0.2.1" } else { "172.30.0.12" };
                let p = Prefix::new(IpAddr::from((0x0af4_0000 + i).to_be_bytes()), 32)
                    .unwrap()
                    .to_string();
                Change::Create(unicast(&p, Protocol::BIRD, 1024, vec![NextHop::via(addr(via), up0)]).into())
            })
            .collect();
        let refused = kernel.apply(&changes).unwrap();
        assert_eq!(
            refused.iter().map(|r| r.index).collect::<Vec<_>>(),
            [7, 507, 1007, 1507]
        );
        assert!(
            refused[0].to_string().contains("invalid gateway"),
            "the kernel's own words: {}",
            refused[0]
        );
        assert_eq!(dump(&mut kernel).len(), 1996);
    });
}

#[test]
fn a_delete_takes_only_what_it_describes() {
    in_namespace(|up0| {
        let mut kernel = Netlink::open().unwrap();
        ip("route add 10.1.0.0/16 via 172.30.0.12 proto static metric 1024");
        ip("-6 route add fd01::/64 via fd30::12 proto static metric 1024");
        for prefix in ["10.1.0.0/16", "fd01::/64"] {
            let via = if prefix.starts_with('f') {
                "fd30::12"
            } else {
                "172.30.0.12"
            };
            let ours = unicast(prefix, Protocol::BIRD, 1024, vec![NextHop::via(addr(via), up0)]);
            assert_eq!(
                kernel.apply(&[Change::Delete(ours.into())]).unwrap()[0].errno,
                libc::ESRCH
            );
        }
        assert_eq!(dump(&mut kernel).len(), 2, "the foreign routes stay");
    });
}

#[test]
fn the_monitor_tells_what_others_do_and_not_what_we_do() {
    in_namespace(|up0| {
        let mut kernel = Netlink::open().unwrap();
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Port(kernel.port())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ours = unicast(
            "10.9.0.0/16",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("172.30.0.12"), up0)],
        );
        assert_eq!(kernel.apply(&[Change::Create(ours.clone().into())]).unwrap(), []);
        ip("route add 10.8.0.0/16 via 172.30.0.12 proto static");
        ip("route del 10.9.0.0/16");
        ip("route add 10.7.0.0/16 via 172.30.0.12 table 100");
        ip("addr add 192.0.2.9/24 dev up0");
        ip("link set up0 down");
        ip("link del up0");
        let mut seen = Vec::new();
        runtime.block_on(async {
            while !seen.contains(&Event::InterfaceGone(up0)) {
                let next = tokio::time::timeout(Duration::from_secs(10), monitor.next()).await;
                seen.extend(next.expect("events come").expect("the monitor lives").unwrap());
            }
        });
        let foreign = unicast(
            "10.8.0.0/16",
            Protocol::STATIC,
            0,
            vec![NextHop::via(addr("172.30.0.12"), up0)],
        );
        assert!(seen.contains(&Event::Route(foreign)), "{seen:#?}");
        assert!(
            seen.contains(&Event::RouteGone(ours.clone())),
            "somebody else deleted ours"
        );
        assert!(!seen.contains(&Event::Route(ours)), "what we did ourselves is not told");
        assert!(
            seen.iter()
                .any(|e| matches!(e, Event::Interface(i) if i.index == up0 && !i.up))
        );
        assert!(
            seen.iter()
                .any(|e| matches!(e, Event::Address(a) if a.address == addr("192.0.2.9")))
        );
        let table_100 = "10.7.0.0/16".parse().unwrap();
        assert!(
            !seen
                .iter()
                .any(|e| matches!(e, Event::Route(r) if r.prefix == table_100))
        );
    });
}

#[test]
fn a_monitor_that_cannot_keep_up_says_resync() {
    in_namespace(|up0| {
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        let mut kernel = Netlink::open().unwrap();
        let hop = vec![NextHop::via(addr("172.30.0.12"), up0)];
        // More than queue and buffers hold: nobody reads meanwhile.
        let route = |i: u32| {
            let p = Prefix::new(IpAddr::from((0x0b00_0000 + i).to_be_bytes()), 32).unwrap();
            Change::Create(unicast(&p.to_string(), Protocol::BIRD, 1024, hop.clone()).into())
        };
        let changes: Vec<_> = (0..150_000).map(route).collect();
        let started = Instant::now();
        assert_eq!(kernel.apply(&changes).unwrap(), []);
        eprintln!("{} routes in {:?}", changes.len(), started.elapsed());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let resync = runtime.block_on(async {
            while let Ok(Some(Ok(events))) = tokio::time::timeout(Duration::from_secs(10), monitor.next()).await {
                if events.contains(&Event::Resync) {
                    return true;
                }
            }
            false
        });
        assert!(resync);
        assert_eq!(dump(&mut kernel).len(), changes.len());
    });
}

#[test]
fn a_lookup_gives_the_entry_that_the_kernel_takes() {
    in_namespace(|up0| {
        let mut kernel = Netlink::open().unwrap();
        let block = unicast(
            "10.244.1.0/26",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("172.30.0.12"), up0)],
        );
        let v6 = unicast(
            "fd01::/64",
            Protocol::BIRD,
            1024,
            vec![NextHop::via(addr("fd30::12"), up0)],
        );
        let hops = ["172.30.0.12", "172.30.0.13"].map(|g| NextHop::via(addr(g), up0));
        let both = unicast("10.244.2.0/26", Protocol::BIRD, 1024, hops.to_vec());
        let lost = Route::new("10.244.3.0/26".parse().unwrap(), Kind::Blackhole, Protocol::CALICO);
        let routes = [block.clone(), v6.clone(), both.clone(), lost];
        let refused = kernel.apply(&routes.map(|r| Change::Create(r.into()))).unwrap();
        assert_eq!(refused, []);
        ip("route add prohibit 10.244.4.0/26");
        ip("route add unreachable fd02::/64");
        ip("route add 10.244.1.5/32 dev up0 proto static");

        let mut connection = Connection::open().unwrap();
        let mut look = |text: &str| connection.lookup(addr(text)).unwrap();
        for (address, route) in [("10.244.1.9", block), ("fd01::9", v6), ("10.244.2.9", both)] {
            assert_eq!(look(address), Lookup::Route(route), "{address}");
        }
        let Lookup::Route(foreign) = look("10.244.1.5") else {
            panic!("the more specific one")
        };
        assert_eq!((foreign.protocol, foreign.prefix.len()), (Protocol::STATIC, 32));
        assert_eq!(look("10.244.3.9"), Lookup::Dropped(Kind::Blackhole));
        assert_eq!(look("10.244.4.9"), Lookup::Dropped(Kind::Prohibit));
        assert_eq!(look("fd02::9"), Lookup::Dropped(Kind::Unreachable));
        for nowhere in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(look(nowhere), Lookup::NoRoute, "{nowhere}");
        }
    });
}
