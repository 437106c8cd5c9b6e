//! The dataplane task on the real kernel, each test in an anonymous network namespace that ends with its thread. Needs
//! root.

#![allow(clippy::unwrap_used)] // Helpers of tests too.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix::dataplane::fib::FibPath;
use felix::dataplane::manager::{Input, RowState};
use felix::dataplane::view::FibHop;
use felix::dataplane::{self, LocalEndpoint, Running};
use tokio_util::sync::CancellationToken;
use tortie_calc::{Endpoint, Update};
use tortie_model::{Key, Kind};
use tortie_net::Prefix;
use tortie_netlink::monitor::{Monitor, Without};
use tortie_netlink::route::{Netlink, TABLE_MAIN};
use tortie_replica::Delta;

#[path = "kernel/objects.rs"]
mod objects;

/// Longer than any step takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the test in a new namespace: `up0` 172.30.0.11/24 with a default route by .1, and `cali1`.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: needs root");
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("link add cali1 type veth peer name pod1");
        // Without addresses of their own, whose coming tests would see among the events they count.
        for i in ["up0", "up1", "cali1", "pod1"] {
            ip(&format!("link set {i} addrgenmode none"));
            ip(&format!("link set {i} up"));
        }
        ip("addr add 172.30.0.11/24 dev up0");
        ip("addr add fd30::11/64 dev up0 nodad");
        ip("route add default via 172.30.0.1");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
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

/// The IPv4 and IPv6 routes of the main table that are no kernel's, one a line, as `ip route` prints them, but for the
/// numbers of nexthop objects.
fn routes() -> Vec<String> {
    let show = |family| {
        let output = Command::new("ip")
            .args([family, "route", "show", "table", "main"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let both = show("-4") + &show("-6");
    let lines = both.lines().filter(|l| !l.contains("proto kernel"));
    lines
        .map(|l| {
            let mut words: Vec<_> = l.split_whitespace().collect();
            if let Some(at) = words.iter().position(|w| *w == "nhid") {
                words.drain(at..at + 2);
            }
            words.join(" ")
        })
        .collect()
}

/// felix's dataplane, until it is dropped.
struct Felix {
    running: Running,
    token: CancellationToken,
}

impl Felix {
    fn start() -> Self {
        let token = CancellationToken::new();
        let netlink = Netlink::open().unwrap();
        let monitor = Monitor::start(TABLE_MAIN, Without::Port(netlink.port())).unwrap();
        // Calico's marks alone, so it is neither there nor written.
        let marks = std::env::temp_dir().join("felix-kernel-test-marks.json");
        let running = dataplane::start(netlink, monitor, &marks, token.clone()).unwrap();
        Felix { running, token }
    }

    async fn give(&self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.running.inputs.send(input).await.unwrap();
        }
    }

    /// Dies, as a process does: nothing is undone.
    async fn die(self) {
        self.token.cancel();
        self.running.task.await.unwrap().unwrap();
    }

    /// Everything was said, everything is in the kernel.
    async fn settled(&self, wanted: u64) {
        let mut summary = self.running.summary.clone();
        let there = summary.wait_for(|s| s.settled && s.classes.values().map(|c| c.programmed).sum::<u64>() == wanted);
        let done = tokio::time::timeout(PATIENCE, there).await.is_ok_and(|r| r.is_ok());
        assert!(done, "not settled: {:#?}", self.running.summary.borrow());
    }
}

/// Polls until the kernel's routes are these.
async fn becomes(want: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while routes() != want {
        assert!(
            Instant::now() < deadline,
            "want {want:#?}, the kernel has {:#?}",
            routes()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn learn(prefix: &str, gateway: &str) -> Delta<Prefix, Arc<FibPath>> {
    Delta::Set(prefix.parse().unwrap(), path(gateway))
}

fn path(gateway: &str) -> Arc<FibPath> {
    let hop = FibHop {
        address: Some(gateway.parse().unwrap()),
        interface: None,
        weight: 1,
        onlink: false,
    };
    let kind = tortie_netlink::route::Kind::Unicast;
    Arc::new(FibPath {
        kind,
        hops: vec![hop],
        protocol: "Mesh".into(),
        stale: false,
    })
}

/// What the datastore says of this node: a block of each family and a pod on cali1.
fn datastore() -> [Input; 2] {
    let key = Key::resource(Kind::WorkloadEndpoint, Some("web"), "n1-k8s-a-eth0");
    let ips = ["10.244.0.5", "fd00::5"].map(|s| s.parse::<IpAddr>().unwrap()).to_vec();
    let endpoint = Endpoint {
        interface: "cali1".into(),
        ips,
    };
    let block = |b: &str| Update::OwnBlock(b.parse().unwrap(), true);
    let updates = vec![
        Update::Endpoint(key, Some(endpoint)),
        block("10.244.0.0/26"),
        block("fd00::/122"),
    ];
    [Input::Desired(updates), Input::DatastoreSynced { live: true }]
}

fn fib() -> Input {
    let routes = [
        learn("10.244.1.0/26", "172.30.0.12"),
        learn("fd00::40/122", "fd30::12"),
        Delta::InSync,
    ];
    Input::Fib(routes.into())
}

const DEFAULT: &str = "default via 172.30.0.1 dev up0";
const WANTED: [&str; 7] = [
    DEFAULT,
    "blackhole 10.244.0.0/26 proto 80",
    "10.244.0.5 dev cali1 scope link metric 1024",
    "10.244.1.0/26 via 172.30.0.12 dev up0 proto bird metric 1024",
    "fd00::5 dev cali1 metric 1024 pref medium",
    "blackhole fd00::/122 dev lo proto 80 metric 1024 pref medium",
    "fd00::40/122 via fd30::12 dev up0 proto bird metric 1024 pref medium",
];

#[test]
fn the_routes_calico_users_know() {
    in_namespace(|| async {
        let felix = Felix::start();
        felix.give(datastore()).await;
        felix.give([fib()]).await;
        becomes(&WANTED).await;
        felix.settled(6).await;
        felix.die().await;
        assert_eq!(routes(), WANTED, "they outlive the program");
    });
}

#[test]
fn a_restart_without_memory_changes_nothing_and_sweeps_its_own_when_told_all() {
    in_namespace(|| async {
        let felix = Felix::start();
        felix.give(datastore()).await;
        felix.give([fib()]).await;
        becomes(&WANTED).await;
        felix.die().await;
        // While nobody looks: leavings that are ours by number, and foreign routes that resemble them.
        ip("route add 10.244.9.0/26 via 172.30.0.12 proto bird metric 1024");
        ip("route add blackhole 10.244.8.0/26 proto 80");
        ip("route add 10.244.0.77 dev cali1 proto boot scope link metric 1024");
        ip("route add 10.7.0.0/16 via 172.30.0.12 proto bird metric 32");
        ip("route add 10.8.0.0/16 via 172.30.0.12 proto static metric 1024");
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        let before = routes();

        let felix = Felix::start();
        let mut summary = felix.running.summary.clone();
        summary.wait_for(|s| s.loaded).await.unwrap();
        felix
            .give([
                Input::DatastoreSynced { live: false },
                Input::Fib(vec![learn("10.244.1.0/26", "172.30.0.12")]),
            ])
            .await;
        // The dataplane handles one thing after the other: its answer says that the inputs were handled.
        felix.running.handle.rows().await.unwrap();
        felix.running.handle.rows().await.unwrap();
        assert_eq!(routes(), before, "no source is in sync");
        felix.give(datastore()).await;
        felix.give([fib()]).await;
        let mut want = WANTED.to_vec();
        want.insert(1, "10.7.0.0/16 via 172.30.0.12 dev up0 proto bird metric 32");
        want.insert(2, "10.8.0.0/16 via 172.30.0.12 dev up0 proto static metric 1024");
        becomes(&want).await;
        felix.settled(6).await;
        // What the kernel saw happen: three removals, and not one of the wanted routes touched even for a moment.
        let mut events = Vec::new();
        while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_millis(50), monitor.next()).await {
            events.extend(batch.unwrap());
        }
        assert_eq!(events.len(), 3, "{events:#?}");
        felix.die().await;
    });
}

#[test]
fn drift_is_repaired_within_a_second() {
    in_namespace(|| async {
        let felix = Felix::start();
        felix.give(datastore()).await;
        felix.give([fib()]).await;
        becomes(&WANTED).await;
        let started = Instant::now();
        ip("route del 10.244.0.5 dev cali1");
        ip("route replace 10.244.1.0/26 via 172.30.0.99 proto bird metric 1024");
        ip("route del blackhole 10.244.0.0/26 proto 80");
        ip("-6 route del fd00::5 dev cali1 metric 1024");
        ip("route add 10.244.66.0/26 via 172.30.0.12 proto bird metric 1024");
        becomes(&WANTED).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        // Routes that go with their link go without a word.
        ip("link set cali1 down");
        ip("link set up0 down");
        ip("link set cali1 up");
        ip("link set up0 up");
        ip("addr add fd30::11/64 dev up0 nodad");
        ip("route add default via 172.30.0.1");
        becomes(&WANTED).await;
        ip("addr del 172.30.0.11/24 dev up0");
        ip("addr add 172.30.0.11/24 dev up0");
        ip("route add default via 172.30.0.1");
        becomes(&WANTED).await;
        felix.die().await;
    });
}

#[test]
fn an_endpoint_is_up_when_its_routes_are_in_the_kernel() {
    in_namespace(|| async {
        let felix = Felix::start();
        let up = |interface: &str, address: &str| LocalEndpoint {
            interface: interface.into(),
            ips: vec![address.parse().unwrap()],
            key: "k".into(),
        };
        // Told before the interface exists: answers as soon as it does.
        let handle = felix.running.handle.clone();
        let waiting = tokio::spawn(async move { handle.endpoint_up(up("cali9", "10.244.0.9")).await });
        felix
            .running
            .handle
            .endpoint_up(up("cali1", "10.244.0.5"))
            .await
            .unwrap();
        assert_eq!(routes(), [DEFAULT, "10.244.0.5 dev cali1 scope link metric 1024"]);
        ip("link add cali9 type veth peer name pod9");
        ip("link set cali9 up");
        waiting.await.unwrap().unwrap();
        // Its other end is down: `ip route` adds that to the line.
        let there = |r: &String| r.starts_with("10.244.0.9 dev cali9 scope link metric 1024");
        assert!(routes().iter().any(there));
        felix.running.handle.endpoint_down("cali1").await.unwrap();
        ip("link del cali9");
        felix.running.handle.endpoint_down("cali9").await.unwrap();
        assert_eq!(routes(), [DEFAULT]);
        let bad = felix
            .running
            .handle
            .endpoint_up(up("up0", "10.244.0.9"))
            .await
            .unwrap_err()
            .to_string();
        assert!(bad.contains("interface up0 is no workload's"), "{bad}");
        felix.die().await;
    });
}

#[test]
fn ten_thousand_routes() {
    in_namespace(|| async {
        let felix = Felix::start();
        felix.give(datastore()).await;
        let prefix = |i: u32| Prefix::new(IpAddr::from((0x0b00_0000 + (i << 6)).to_be_bytes()), 26).unwrap();
        let all = |gateway: &str| -> Vec<_> {
            let path = path(gateway);
            (0..10_000).map(|i| Delta::Set(prefix(i), Arc::clone(&path))).collect()
        };
        let started = Instant::now();
        felix
            .give([Input::Fib(all("172.30.0.12")), Input::Fib(vec![Delta::InSync])])
            .await;
        felix.settled(10_004).await;
        let added = started.elapsed();
        felix.give([Input::Fib(all("172.30.0.13"))]).await;
        let again = Instant::now();
        let deadline = Instant::now() + PATIENCE;
        while routes().iter().filter(|r| r.contains("via 172.30.0.13")).count() != 10_000 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!(
            "10,000 routes added in {added:?}, re-pointed in {:?} (seen by ip route)",
            again.elapsed()
        );
        let gone = (0..10_000).map(|i| Delta::Delete(prefix(i))).collect();
        felix.give([Input::Fib(gone)]).await;
        felix.settled(4).await;
        let rows = felix.running.handle.rows().await.unwrap();
        assert!(rows.iter().all(|r| r.state == RowState::Programmed), "{rows:#?}");
        felix.die().await;
    });
}

/// A route by several routers, as bird-rs gives it with `merge paths`.
fn learn_merged(prefix: &str, gateways: &[&str]) -> Delta<Prefix, Arc<FibPath>> {
    let mut merged = FibPath::clone(&path(gateways[0]));
    merged.hops = gateways.iter().flat_map(|gateway| path(gateway).hops.clone()).collect();
    Delta::Set(prefix.parse().unwrap(), Arc::new(merged))
}

/// The routers of the routes of the main table to a prefix, whatever the form `ip route` shows them in.
fn routers(prefix: &str) -> Vec<String> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let output = Command::new("ip")
        .args([family, "route", "show", prefix])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    let mut routers = Vec::new();
    while words.any(|word| word == "via") {
        routers.extend(words.next().map(str::to_owned));
    }
    routers.sort();
    routers
}

async fn go_by(wanted: &[(&str, &[&str])]) {
    let deadline = Instant::now() + PATIENCE;
    for (prefix, gateways) in wanted {
        while routers(prefix) != *gateways {
            assert!(
                Instant::now() < deadline,
                "{prefix}: want {gateways:?}, the kernel has {:?}",
                routers(prefix)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[test]
fn several_next_hops_are_programmed_changed_repaired_and_known_after_a_restart() {
    const V4: &str = "10.244.1.0/26";
    const V6: &str = "fd00::40/122";
    const BOTH: [(&str, &[&str]); 2] = [(V4, &["172.30.0.12", "172.30.0.13"]), (V6, &["fd30::12", "fd30::13"])];
    fn merged() -> Input {
        let routes = BOTH.map(|(prefix, gateways)| learn_merged(prefix, gateways));
        Input::Fib(routes.into_iter().chain([Delta::InSync]).collect())
    }
    in_namespace(|| async {
        let felix = Felix::start();
        felix.give(datastore()).await;
        felix.give([merged()]).await;
        go_by(&BOTH).await;
        felix.settled(6).await;
        // Fewer, more, other ones.
        felix
            .give([Input::Fib(vec![
                learn_merged(V4, &["172.30.0.13"]),
                learn_merged(V6, &["fd30::14", "fd30::12", "fd30::15"]),
            ])])
            .await;
        go_by(&[(V4, &["172.30.0.13"]), (V6, &["fd30::12", "fd30::14", "fd30::15"])]).await;
        felix.give([merged()]).await;
        go_by(&BOTH).await;
        // Somebody meddles.
        ip("route replace 10.244.1.0/26 proto bird metric 1024 nexthop via 172.30.0.12 nexthop via 172.30.0.99");
        ip("-6 route del fd00::40/122 via fd30::13 dev up0 metric 1024");
        go_by(&BOTH).await;
        felix.settled(6).await;
        felix.die().await;
        // A new one finds them and touches nothing.
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        let felix = Felix::start();
        felix.give(datastore()).await;
        felix.give([merged()]).await;
        felix.settled(6).await;
        go_by(&BOTH).await;
        let quiet = tokio::time::timeout(Duration::from_millis(100), monitor.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        felix
            .give([Input::Fib(
                BOTH.map(|(prefix, _)| Delta::Delete(prefix.parse().unwrap())).into(),
            )])
            .await;
        go_by(&[(V4, &[]), (V6, &[])]).await;
        felix.die().await;
    });
}

/// A host that forwards would take no more router advertisements: its default route would go.
#[test]
fn forwarding_keeps_what_routers_tell() {
    in_namespace(|| async {
        let path = |interface: &str, name: &str| format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
        let read = |interface: &str, name: &str| {
            let value = std::fs::read_to_string(path(interface, name)).unwrap();
            value.trim().to_owned()
        };
        std::fs::write(path("all", "forwarding"), "0").unwrap();
        for (interface, accept) in [("up0", "1"), ("up1", "0"), ("pod1", "2"), ("cali1", "1")] {
            std::fs::write(path(interface, "accept_ra"), accept).unwrap();
        }
        let mut netlink = Netlink::open().unwrap();
        felix::forwarding::switch_on_v6(&mut netlink).unwrap();
        let accepting = || ["up0", "up1", "pod1", "cali1"].map(|i| read(i, "accept_ra"));
        assert_eq!(accepting(), ["2", "0", "2", "1"], "a pod is no router");
        assert_eq!(read("up0", "forwarding"), "1");
        // Somebody says otherwise later: that counts, also when felix starts again.
        std::fs::write(path("up0", "accept_ra"), "1").unwrap();
        felix::forwarding::switch_on_v6(&mut netlink).unwrap();
        assert_eq!(accepting(), ["1", "0", "2", "1"]);
    });
}
