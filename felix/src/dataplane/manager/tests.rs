//! The manager on the fake kernel: what it does to a node, whatever goes wrong.

use std::time::Duration;

use nix::errno::Errno;
use proptest::prelude::*;
use tortie_calc::Endpoint;
use tortie_model::Key;
use tortie_netlink::fake::FakeKernel;
use tortie_netlink::route::{Change, Filter, IfIndex, Kernel, KernelError, NextHops, RouteKey};

use super::*;
use crate::dataplane::view::FibHop;

mod objects;
mod settings;
mod tunneled;

/// A node: eth0 172.30.0.11/24, default by .1; what the task does, without the task.
struct Node {
    kernel: FakeKernel,
    manager: Manager,
    now: Duration,
    /// What the sources say while the next batch is written; `None`: they say it at once.
    meanwhile: Option<Vec<Input>>,
}

fn p(s: &str) -> Prefix {
    s.parse().unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn via(prefix: &str, gateway: &str, protocol: Protocol, metric: u32) -> Route {
    let mut r = Route::new(p(prefix), Kind::Unicast, protocol);
    (r.metric, r.next_hops) = (metric, NextHops::from([NextHop::via(ip(gateway), IfIndex(2))]));
    r.canonical()
}

fn pod(prefix: &str, interface: u32) -> Route {
    let mut r = Route::new(p(prefix), Kind::Unicast, Protocol::BOOT);
    (r.metric, r.scope) = (1024, Scope::LINK);
    r.next_hops = Arc::new([NextHop::device(IfIndex(interface))]);
    r.canonical()
}

fn path(gateways: &[&str]) -> Arc<FibPath> {
    let hop = |g: &&str| FibHop {
        address: Some(ip(g)),
        interface: None,
        weight: 1,
        onlink: false,
    };
    let hops = gateways.iter().map(hop).collect();
    Arc::new(FibPath {
        kind: Kind::Unicast,
        hops,
        protocol: "Mesh_172_30_0_12".into(),
        stale: false,
    })
}

fn learn(prefix: &str, gateways: &[&str]) -> Input {
    Input::Fib(vec![Delta::Set(p(prefix), path(gateways))])
}

fn endpoint(pod: &str, interface: &str, address: &str) -> Update {
    let key = Key::resource(tortie_model::Kind::WorkloadEndpoint, Some("d"), pod);
    Update::Endpoint(
        key,
        Some(Endpoint {
            interface: interface.into(),
            ips: vec![ip(address)],
        }),
    )
}

fn own_block(block: &str) -> Input {
    Input::Desired(vec![Update::OwnBlock(p(block), true)])
}

fn told(interface: &str, address: &str) -> Input {
    Input::Up(LocalEndpoint {
        interface: interface.into(),
        ips: vec![ip(address)],
        key: "k".into(),
    })
}

fn fib_in_sync() -> Input {
    Input::Fib(vec![Delta::InSync])
}

impl Node {
    fn new() -> Self {
        Node::with(FakeKernel::new())
    }

    fn with(kernel: FakeKernel) -> Self {
        kernel.set_interface(2, "eth0", true);
        kernel.set_interface(3, "cali1", true);
        kernel.add_address(2, "172.30.0.11/24");
        kernel.put(via("0.0.0.0/0", "172.30.0.1", Protocol::STATIC, 0));
        Node::on(kernel)
    }

    fn on(kernel: FakeKernel) -> Self {
        Node::remembering(kernel, &Remembered::default())
    }

    fn remembering(kernel: FakeKernel, marks: &Remembered) -> Self {
        kernel.take_events();
        Node {
            kernel,
            manager: Manager::new(jiff::Timestamp::UNIX_EPOCH, marks),
            now: Duration::ZERO,
            meanwhile: None,
        }
    }

    /// Both sources in sync.
    fn synced() -> Self {
        let mut node = Node::new();
        node.give([Input::DatastoreSynced { live: true }, fib_in_sync()]);
        node
    }

    /// felix dies and comes back without a memory.
    fn restarted(self) -> Self {
        self.kernel.take_applied();
        Node::on(self.kernel)
    }

    fn give(&mut self, inputs: impl IntoIterator<Item = Input>) {
        inputs.into_iter().for_each(|i| self.manager.handle(i));
        self.work();
    }

    /// What the task's loop does until there is nothing more to do at once.
    fn work(&mut self) {
        for _ in 0..100 {
            let events = self.kernel.take_events();
            let idle = events.is_empty();
            self.manager.handle(Input::Kernel(events));
            if self.manager.wants_dump() {
                let k = &mut self.kernel;
                if let (Ok(interfaces), Ok(addresses), Ok(objects), Ok(routes)) =
                    (k.interfaces(), k.addresses(), k.objects(), k.routes(Filter::MAIN))
                {
                    self.manager.loaded(Dump {
                        interfaces,
                        addresses,
                        objects,
                        routes,
                    });
                }
                continue;
            }
            self.manager.tick(self.now);
            let changes = self.manager.plan(self.now);
            let told: Vec<_> = self.meanwhile.iter_mut().flat_map(std::mem::take).collect();
            if changes.is_empty() && idle && told.is_empty() {
                return;
            }
            let result = self.kernel.apply(&changes);
            told.into_iter().for_each(|input| self.manager.handle(input));
            // Another one is under way before the first is answered.
            let second = self.manager.plan(self.now);
            let keys = |changes: &[Change]| {
                changes
                    .iter()
                    .filter_map(Change::route)
                    .map(Route::key)
                    .collect::<BTreeSet<_>>()
            };
            assert!(keys(&changes).is_disjoint(&keys(&second)), "{changes:?} {second:?}");
            let second_result = self.kernel.apply(&second);
            self.manager.applied(&changes, result, self.now);
            if !second.is_empty() {
                self.manager.applied(&second, second_result, self.now);
            }
        }
        panic!("does not come to rest");
    }

    /// A source says this: at once, or while the next batch is written.
    fn tell(&mut self, input: Input) {
        match &mut self.meanwhile {
            Some(later) => later.push(input),
            None => self.manager.handle(input),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.work();
    }

    /// The routes that are ours, as text.
    fn ours(&self) -> Vec<String> {
        let routes = self.kernel.all_routes().into_iter();
        let ours = routes.filter(|r| self.manager.view.class(r).is_some());
        ours.map(|r| self.manager.text(&r)).collect()
    }

    fn row(&self, prefix: &str) -> Row {
        self.manager
            .rows()
            .find(|r| r.prefix == p(prefix))
            .unwrap_or_else(|| panic!("no row for {prefix}"))
    }
}

fn metric(learned: u32) -> Input {
    let mut settings = Settings::default();
    settings.metrics.learned = [learned; 2];
    Input::Desired(vec![Update::Settings(Box::new(settings))])
}

#[test]
fn a_metric_given_up_while_felix_was_down_leaves_no_route_behind() {
    let far = REMOTE.replace("1024", "2000");
    let mut node = Node::synced();
    node.give([metric(2000), learn("10.244.1.0/26", &["172.30.0.12"])]);
    assert_eq!(node.ours(), [far.as_str()]);
    let remembered = node.manager.marks().to_remember();
    node.kernel.take_applied();

    // A life that knows nothing of its sources changes nothing, whichever way it knows the metric.
    let mut node = Node::remembering(node.kernel, &remembered);
    node.work();
    assert_eq!(node.ours(), [far.as_str()]);
    let mut node = node.restarted();
    node.give([metric(2000), Input::DatastoreSynced { live: false }]);
    assert_eq!(node.ours(), [far.as_str()]);
    assert!(node.kernel.take_applied().is_empty());

    // Another metric is asked for meanwhile.
    let mut node = Node::remembering(node.kernel, &remembered);
    node.give([metric(1024), Input::DatastoreSynced { live: true }]);
    node.give([learn("10.244.1.0/26", &["172.30.0.12"]), fib_in_sync()]);
    assert_eq!(node.ours(), [REMOTE]);

    // Seen without any, the kernel may have such routes of others.
    node.manager.want_dump();
    node.work();
    assert_eq!(node.manager.marks().to_remember(), Remembered::default());
    let other = via("10.9.0.0/16", "172.30.0.9", Protocol::BIRD, 2000);
    node.kernel.put(other.clone());
    node.manager.want_dump();
    node.work();
    assert!(node.kernel.all_routes().contains(&other));
}

const POD: &str = "10.244.0.5 dev cali1 proto boot scope link metric 1024";
const BLOCK: &str = "blackhole 10.244.0.0/26 proto 80";
const REMOTE: &str = "10.244.1.0/26 via 172.30.0.12 dev eth0 proto bird metric 1024";

/// A node with one of each class.
fn busy() -> Node {
    let mut node = Node::synced();
    node.give([
        own_block("10.244.0.0/26"),
        Input::Desired(vec![endpoint("a", "cali1", "10.244.0.5")]),
        learn("10.244.1.0/26", &["172.30.0.12"]),
    ]);
    node
}

#[test]
fn what_bird_withdraws_goes_also_before_it_is_in_sync() {
    let mut node = busy().restarted();
    node.give([Input::DatastoreSynced { live: true }, own_block("10.244.0.0/26")]);
    node.give([
        Input::Desired(vec![endpoint("a", "cali1", "10.244.0.5")]),
        learn("10.244.1.0/26", &["172.30.0.12"]),
        learn("10.244.2.0/26", &["172.30.0.12"]),
    ]);
    assert_eq!(node.ours().len(), 4);
    node.give([Input::Fib(vec![Delta::Delete(p("10.244.2.0/26"))])]);
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    node.give([Input::Fib(vec![Delta::Delete(p("10.244.1.0/26"))])]);
    assert_eq!(node.ours(), [BLOCK, POD], "the one found at start likewise");
    node.give([learn("10.244.1.0/26", &["172.30.0.12"])]);
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
}

#[test]
fn a_withdrawal_of_what_bird_never_told_takes_no_route_found_at_start() {
    let mut node = busy().restarted();
    node.give([Input::DatastoreSynced { live: true }, own_block("10.244.0.0/26")]);
    let gone = || Input::Fib(vec![Delta::Delete(p("10.244.1.0/26"))]);
    node.give([Input::FibBegins, gone()]);
    assert!(
        node.ours().contains(&REMOTE.to_owned()),
        "another peer may still bring it"
    );
    node.give([fib_in_sync()]);
    assert!(!node.ours().contains(&REMOTE.to_owned()));
}

#[test]
fn a_new_stream_removes_what_it_does_not_name_when_it_is_complete() {
    let mut node = busy();
    node.give([learn("10.244.2.0/26", &["172.30.0.12"]), fib_in_sync()]);
    let all = node.ours();
    assert_eq!(all.len(), 4, "a mark without a beginning says nothing of what is gone");
    node.give([Input::FibBegins, learn("10.244.1.0/26", &["172.30.0.12"])]);
    assert_eq!(node.ours(), all);
    node.kernel.take_applied();
    // It breaks off, and the next one names only the other.
    node.give([Input::FibBegins, learn("10.244.2.0/26", &["172.30.0.12"])]);
    assert_eq!((node.ours(), node.kernel.take_applied()), (all, vec![]));
    node.give([fib_in_sync()]);
    let left = node.ours();
    assert_eq!(left.len(), 3);
    assert!(left.iter().any(|r| r.starts_with("10.244.2.0/26 ")), "{left:?}");
    node.give([fib_in_sync()]);
    assert_eq!(node.ours(), left);
}

#[test]
fn interfaces_taken_down_are_not_remembered_for_ever() {
    let mut node = busy();
    let down = |n: usize| Input::Down(format!("cali{n}"));
    node.give((1..500).map(down));
    assert_eq!(node.ours(), [BLOCK, REMOTE]);
    assert!(node.manager.workloads.is_taken_down("cali1"), "it is still there");
    assert!((2..500).all(|n| !node.manager.workloads.is_taken_down(&format!("cali{n}"))));
    node.kernel.remove_interface(3);
    node.work();
    assert!(
        node.manager.workloads.is_taken_down("cali1"),
        "the datastore names it still"
    );
    let key = Key::resource(tortie_model::Kind::WorkloadEndpoint, Some("d"), "a");
    node.give([Input::Desired(vec![Update::Endpoint(key, None)])]);
    assert!(!node.manager.workloads.is_taken_down("cali1"));
    // One that felix made and removed before the datastore told of it.
    node.kernel.set_interface(7, "cali7", true);
    node.work();
    node.give([told("cali7", "10.244.0.7"), down(7)]);
    assert!(node.manager.workloads.is_taken_down("cali7"));
    node.kernel.remove_interface(7);
    node.work();
    assert!(!node.manager.workloads.is_taken_down("cali7"));
}

#[test]
fn an_endpoint_that_cannot_be_read_loses_no_route_by_a_restart() {
    let mut node = busy().restarted();
    node.give([
        own_block("10.244.0.0/26"),
        Input::UnknownEndpoint(true),
        Input::DatastoreSynced { live: true },
    ]);
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    // The others are served as ever.
    node.give([told("cali1", "10.244.0.6"), Input::Down("cali1".into())]);
    assert_eq!(
        node.ours(),
        [BLOCK, REMOTE],
        "the endpoint service knows what it removes"
    );
    let mut node = busy().restarted();
    node.give([Input::UnknownEndpoint(true), Input::DatastoreSynced { live: true }]);
    node.give([Input::UnknownEndpoint(false)]);
    assert_eq!(node.ours(), [REMOTE], "read or deleted");
}

#[test]
fn one_of_each_class() {
    let node = busy();
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    let row = node.row("10.244.1.0/26");
    assert_eq!(
        (row.class, row.state, row.route.as_str()),
        (RouteClass::Bgp, RowState::Programmed, REMOTE)
    );
    let s = node.manager.summary();
    assert!(s.settled);
    assert_eq!(
        s.classes[&RouteClass::LocalWorkload],
        ClassCount {
            wanted: 1,
            programmed: 1
        }
    );
}

#[test]
fn a_restart_without_memory_changes_nothing_and_sweeps_only_its_own_when_told_all() {
    let node = busy();
    node.kernel.put(via("10.9.0.0/16", "172.30.0.9", Protocol::STATIC, 0));
    node.kernel
        .put(via("10.244.7.0/26", "172.30.0.9", Protocol::BIRD, 1024));
    node.kernel
        .put(Route::new(p("10.244.8.0/26"), Kind::Blackhole, Protocol::CALICO));
    node.kernel.put(pod("10.244.0.99/32", 3));
    let before = node.kernel.all_routes();

    let mut node = node.restarted();
    node.work();
    assert_eq!(node.kernel.all_routes(), before, "before anybody spoke");
    // The last good snapshot and a bird-rs that is not ready yet: still nothing.
    node.give([own_block("10.244.0.0/26"), Input::DatastoreSynced { live: false }]);
    assert_eq!(node.kernel.all_routes(), before, "a snapshot is no reason to remove");
    node.give([learn("10.244.1.0/26", &["172.30.0.12"])]);
    assert_eq!(node.kernel.all_routes(), before, "half a fib is none");
    assert_eq!(node.kernel.take_applied(), [], "not even rewritten");
    node.give([fib_in_sync()]);
    let swept: Vec<String> = node
        .kernel
        .take_applied()
        .iter()
        .map(|c| c.route().unwrap().prefix.to_string())
        .collect();
    assert_eq!(swept, ["10.244.7.0/26"], "bird-rs's leavings, and no class but its own");
    node.give([
        Input::Desired(vec![endpoint("a", "cali1", "10.244.0.5")]),
        Input::DatastoreSynced { live: true },
    ]);
    let mut swept: Vec<String> = node
        .kernel
        .take_applied()
        .iter()
        .map(|c| c.route().unwrap().prefix.to_string())
        .collect();
    swept.sort();
    assert_eq!(swept, ["10.244.0.99/32", "10.244.8.0/26"]);
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    assert!(
        node.kernel
            .all_routes()
            .contains(&via("10.9.0.0/16", "172.30.0.9", Protocol::STATIC, 0))
    );
}

#[test]
fn before_the_datastore_is_known_peers_get_nothing_new_and_take_nothing() {
    let mut node = busy().restarted();
    node.give([
        learn("10.244.0.5/32", &["172.30.0.66"]),
        learn("10.244.9.0/26", &["172.30.0.12"]),
        learn("10.244.1.0/26", &["172.30.0.12"]),
        fib_in_sync(),
    ]);
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    assert_eq!(node.row("10.244.9.0/26").state, RowState::Withheld);
    node.give([Input::DatastoreSynced { live: false }]);
    assert_eq!(node.row("10.244.9.0/26").state, RowState::Programmed);
    assert_eq!(
        node.row("10.244.0.5/32").route,
        POD,
        "found at start, and nobody has said it is gone"
    );
}

#[test]
fn drift_is_repaired_from_the_event() {
    let mut node = busy();
    for route in node
        .kernel
        .all_routes()
        .iter()
        .filter(|r| r.protocol != Protocol::KERNEL)
    {
        if node.manager.view.class(route).is_some() {
            node.kernel.delete(&route.key());
            let edited = Route {
                next_hops: Arc::new([NextHop::device(IfIndex(2))]),
                kind: Kind::Unicast,
                ..route.clone()
            };
            node.kernel.put(
                Route {
                    protocol: Protocol::CALICO,
                    ..edited
                }
                .canonical(),
            );
        }
    }
    node.work();
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    // An unwanted one that looks like ours goes.
    node.kernel
        .put(via("10.244.50.0/26", "172.30.0.12", Protocol::BIRD, 1024));
    node.work();
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
}

#[test]
fn lost_notifications_answers_and_dumps_are_made_up_for() {
    let mut node = busy();
    node.kernel.lose_events(true);
    node.kernel
        .delete(&via("10.244.1.0/26", "172.30.0.12", Protocol::BIRD, 1024).key());
    node.kernel
        .put(Route::new(p("10.244.8.0/26"), Kind::Blackhole, Protocol::CALICO));
    node.kernel.interrupt_dumps(7);
    node.kernel.lose_events(false);
    node.work();
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    node.kernel.lose_answers(3);
    node.give([
        learn("10.244.1.0/26", &["172.30.0.13"]),
        learn("10.244.2.0/26", &["172.30.0.12"]),
    ]);
    assert_eq!(node.ours().len(), 4);
    assert!(node.manager.summary().settled);
}

#[test]
fn one_refused_route_delays_itself_alone() {
    for errno in [
        Errno::EEXIST,
        Errno::ENOBUFS,
        Errno::EBUSY,
        Errno::ENODEV,
        Errno::EINVAL,
    ] {
        let mut node = Node::synced();
        node.kernel.refuse(p("10.244.1.0/26"), errno, 3);
        let routes = (1..200).map(|i| Delta::Set(p(&format!("10.244.{i}.0/26")), path(&["172.30.0.12"])));
        node.give([Input::Fib(routes.collect())]);
        assert_eq!(node.ours().len(), 198, "{errno}: the others are there");
        let row = node.row("10.244.1.0/26");
        assert_eq!(row.state, RowState::Failing, "{errno}");
        assert!(row.reason.contains(&format!("{errno:?}")), "{}", row.reason);
        assert_eq!(node.manager.summary().failing[0].attempts, 1);
        let first = node.manager.next_deadline(node.now).expect("a retry");
        assert_eq!(first, node.now + Duration::from_millis(100));
        node.wait(Duration::from_millis(100));
        assert_eq!(
            node.manager.next_deadline(node.now),
            Some(node.now + Duration::from_millis(200)),
            "doubled"
        );
        node.wait(Duration::from_millis(200));
        node.wait(Duration::from_millis(400));
        assert_eq!(node.row("10.244.1.0/26").state, RowState::Programmed, "{errno}");
        assert_eq!(node.manager.next_deadline(node.now), None);
    }
}

#[test]
fn a_link_that_vanishes_between_plan_and_write_takes_its_own_routes_alone() {
    let mut node = Node::synced();
    node.manager.handle(told("cali1", "10.244.0.5"));
    node.manager.handle(learn("10.244.1.0/26", &["172.30.0.12"]));
    let changes = node.manager.plan(node.now);
    node.kernel.remove_interface(3);
    let result = node.kernel.apply(&changes);
    node.manager.applied(&changes, result, node.now);
    node.work();
    assert_eq!(node.ours(), [REMOTE]);
    assert!(node.manager.endpoint_is_up("cali1").is_err());
    // In the other direction: it goes while what is to be written next is on its way out by it.
    node.kernel.set_interface(9, "cali1", true);
    node.work();
    assert_eq!(node.ours(), [POD, REMOTE]);
    node.kernel.remove_interface(2);
    node.manager.handle(learn("10.244.2.0/26", &["172.30.0.12"]));
    let changes = node.manager.plan(node.now);
    let result = node.kernel.apply(&changes);
    node.manager.applied(&changes, result, node.now);
    node.work();
    assert_eq!(node.ours(), [POD]);
    node.kernel.set_interface(2, "eth0", true);
    node.kernel.add_address(2, "172.30.0.11/24");
    for _ in 0..8 {
        node.wait(Duration::from_secs(31));
    }
    assert_eq!(node.ours().len(), 3, "{:?}", node.ours());
}

#[test]
fn peers_take_nothing_that_is_this_nodes() {
    let mut node = busy();
    let bad = [
        "0.0.0.0/0",
        "10.244.0.0/26",
        "10.244.0.5/32",
        "10.244.0.9/32",
        "172.30.0.0/24",
        "172.30.0.12/32",
    ];
    node.give(bad.map(|prefix| learn(prefix, &["172.30.0.66"])));
    assert_eq!(node.ours(), [BLOCK, POD, REMOTE]);
    assert_eq!(
        node.row("172.30.0.12/32").reason,
        "in 172.30.0.0/24, which is on this node's link"
    );
    let row = node.row("10.244.0.0/26");
    assert_eq!((row.class, row.state), (RouteClass::OwnBlock, RowState::Programmed));
    assert_eq!(row.losers, ["bgp (in 10.244.0.0/26, which this node owns)"]);
    let s = node.manager.summary();
    assert_eq!(s.refused.values().sum::<u64>(), 6, "{:?}", s.refused);
    // Another node borrows one of our addresses: then, and only then, a peer may have it.
    let lend = |to: Option<&str>| Update::Borrowed(ip("10.244.0.9"), to.map(|n| n.parse().unwrap()));
    node.give([Input::Desired(vec![lend(Some("n2"))])]);
    assert_eq!(node.row("10.244.0.9/32").state, RowState::Programmed);
    node.give([Input::Desired(vec![lend(None)])]);
    assert_eq!(node.row("10.244.0.9/32").state, RowState::Refused);
    // The block is given up: what the peer says of it counts.
    node.give([Input::Desired(vec![Update::OwnBlock(p("10.244.0.0/26"), false)])]);
    assert_eq!(node.row("10.244.0.0/26").class, RouteClass::Bgp);
    assert_eq!(node.row("10.244.0.5/32").class, RouteClass::LocalWorkload);
}

#[test]
fn next_hops_are_resolved_and_resolved_again() {
    let mut node = Node::synced();
    node.give([
        learn("10.1.0.0/16", &["172.30.0.12"]),
        learn("10.2.0.0/16", &["192.168.7.7"]),
        learn("10.3.0.0/16", &["10.1.0.1"]),
        learn("10.4.0.0/16", &["172.30.0.11"]),
        learn("10.5.0.0/16", &["172.30.0.13", "172.30.0.12"]),
    ]);
    let route = |node: &Node, prefix| node.row(prefix).route;
    assert_eq!(
        route(&node, "10.1.0.0/16"),
        "10.1.0.0/16 via 172.30.0.12 dev eth0 proto bird metric 1024"
    );
    assert_eq!(
        route(&node, "10.2.0.0/16"),
        "10.2.0.0/16 via 172.30.0.1 dev eth0 proto bird metric 1024",
        "recursive"
    );
    assert_eq!(
        route(&node, "10.3.0.0/16"),
        "10.3.0.0/16 via 172.30.0.1 dev eth0 proto bird metric 1024",
        "not by BGP"
    );
    assert_eq!(node.row("10.4.0.0/16").reason, "the next hop 172.30.0.11 is this node");
    assert!(route(&node, "10.5.0.0/16").ends_with("dev eth0 weight 1 nexthop via 172.30.0.13 dev eth0 weight 1"));

    // A better way to 192.168.7.7 appears, then every way goes, then the link comes back.
    node.kernel
        .put(via("192.168.7.0/24", "172.30.0.2", Protocol::STATIC, 0));
    node.work();
    assert_eq!(
        route(&node, "10.2.0.0/16"),
        "10.2.0.0/16 via 172.30.0.2 dev eth0 proto bird metric 1024"
    );
    node.kernel.set_interface(2, "eth0", false);
    node.work();
    assert_eq!(node.row("10.1.0.0/16").reason, "no route to the next hop 172.30.0.12");
    assert_eq!(node.ours(), [""; 0], "the kernel dropped them with the link");
    node.kernel.set_interface(2, "eth0", true);
    node.kernel.add_address(2, "172.30.0.11/24");
    node.work();
    assert_eq!(
        route(&node, "10.1.0.0/16"),
        "10.1.0.0/16 via 172.30.0.12 dev eth0 proto bird metric 1024"
    );
    assert_eq!(node.row("10.1.0.0/16").state, RowState::Programmed);
    assert_eq!(
        node.row("10.2.0.0/16").state,
        RowState::Withheld,
        "the default route did not come back"
    );
}

#[test]
fn foreign_routes_are_never_touched_and_reported_where_they_matter() {
    let mut node = Node::synced();
    let same_key = via("10.1.0.0/16", "172.30.0.9", Protocol::STATIC, 1024);
    let better = via("10.2.0.0/16", "172.30.0.9", Protocol::STATIC, 5);
    node.kernel.put(same_key.clone());
    node.kernel.put(better.clone());
    // One that no event tells of: found out by the kernel's refusal.
    node.kernel.lose_events(true);
    let untold = via("10.3.0.0/16", "172.30.0.9", Protocol::STATIC, 1024);
    node.kernel.put(untold.clone());
    node.give(["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"].map(|q| learn(q, &["172.30.0.12"])));
    node.wait(Duration::from_secs(1));
    let there = node.kernel.all_routes();
    assert!(
        [&same_key, &better, &untold].iter().all(|r| there.contains(r)),
        "{there:?}"
    );
    let text = "somebody else's route is in its place: 10.1.0.0/16 via 172.30.0.9 dev eth0 proto static metric 1024";
    assert_eq!(
        (node.row("10.1.0.0/16").state, node.row("10.1.0.0/16").reason.as_str()),
        (RowState::Failing, text)
    );
    assert_eq!(node.row("10.3.0.0/16").state, RowState::Failing);
    let row = node.row("10.2.0.0/16");
    assert_eq!(row.state, RowState::Programmed);
    assert_eq!(
        row.reason,
        "shadowed by 10.2.0.0/16 via 172.30.0.9 dev eth0 proto static metric 5"
    );
    node.kernel.lose_events(false);
    node.kernel.delete(&same_key.key());
    node.work();
    assert_eq!(node.row("10.1.0.0/16").state, RowState::Programmed);
}

#[test]
fn endpoints_count_when_told_and_until_taken_back() {
    let mut node = Node::new();
    node.give([told("cali1", "10.244.0.5"), told("cali2", "10.244.0.6")]);
    assert_eq!(node.ours(), [POD], "long before the datastore is in sync");
    assert_eq!(node.manager.endpoint_is_up("cali1"), Ok(()));
    let waits = "10.244.0.6/32 is withheld: interface cali2 does not exist";
    assert_eq!(node.manager.endpoint_is_up("cali2"), Err(waits.to_owned()));
    node.kernel.set_interface(4, "cali2", true);
    node.work();
    assert_eq!(node.manager.endpoint_is_up("cali2"), Ok(()));
    node.give([Input::DatastoreSynced { live: true }]);
    assert_eq!(node.ours().len(), 2, "the datastore's echo is still to come");
    node.give([Input::Down("cali1".into())]);
    assert_eq!(node.manager.endpoint_is_down("cali1"), Ok(()));
    assert_eq!(node.ours().len(), 1);
    // The interface goes and comes with another index: the route follows.
    node.kernel.remove_interface(4);
    node.work();
    assert_eq!(node.ours(), [""; 0]);
    node.kernel.set_interface(9, "cali2", true);
    node.work();
    assert_eq!(node.manager.endpoint_is_up("cali2"), Ok(()));
}

#[test]
fn an_endpoint_taken_down_right_after_a_restart_goes_at_once() {
    let mut node = busy().restarted();
    node.work();
    node.give([Input::Down("cali1".into())]);
    assert_eq!(node.ours(), [BLOCK, REMOTE]);
    assert_eq!(node.manager.endpoint_is_down("cali1"), Ok(()));
}

#[test]
fn endpoints_go_first_in_a_batch() {
    let mut node = Node::synced();
    let routes = (0..20_000u32).map(|i| {
        let prefix = Prefix::host(IpAddr::from((0x0b00_0000 + i).to_be_bytes()));
        Delta::Set(prefix, path(&["172.30.0.12"]))
    });
    node.manager.handle(Input::Fib(routes.collect()));
    node.manager.handle(told("cali1", "10.244.0.5"));
    let changes = node.manager.plan(node.now);
    assert!(changes.len() < 20_000, "bounded");
    assert_eq!(changes[0], Change::Create(pod("10.244.0.5/32", 3).into()));
}

#[test]
fn what_is_said_while_a_batch_is_written_counts() {
    let mut node = busy();
    node.manager.handle(learn("10.7.0.0/16", &["172.30.0.12"]));
    node.manager.handle(Input::Fib(vec![Delta::Delete(p("10.244.1.0/26"))]));
    node.kernel.refuse(p("10.7.0.0/16"), Errno::EBUSY, 1);
    node.meanwhile = Some(vec![
        learn("10.7.0.0/16", &["172.30.0.13"]),
        learn("10.244.1.0/26", &["172.30.0.12"]),
        Input::Down("cali1".into()),
    ]);
    node.work();
    let other = "10.7.0.0/16 via 172.30.0.13 dev eth0 proto bird metric 1024";
    assert_eq!(
        node.ours(),
        [other, BLOCK, REMOTE],
        "what was refused is not what is wanted now"
    );
    assert!(node.manager.summary().settled);
    // Taken back while it is written: it is written, and removed.
    node.manager.handle(learn("10.8.0.0/16", &["172.30.0.12"]));
    node.meanwhile = Some(vec![Input::Fib(vec![Delta::Delete(p("10.8.0.0/16"))])]);
    node.work();
    assert_eq!(node.ours(), [other, BLOCK, REMOTE]);
}

/// One random thing that happens to a node.
#[derive(Debug, Clone)]
enum Happening {
    Learn(u8, u8),
    Withdraw(u8),
    Stream,
    InSync,
    Block(u8, bool),
    Endpoint(u8, u8),
    NoEndpoint(u8),
    Told(u8),
    Down(u8),
    Drift(u8),
    Intrude(u8, bool),
    Link(u8, bool),
    Refuse(u8),
    LoseAnswers,
    LoseEvents(bool),
    Interrupt,
    Meanwhile(bool),
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        (0u8..6, 0u8..4).prop_map(|(a, b)| Learn(a, b)),
        (0u8..6).prop_map(Withdraw),
        Just(Stream),
        Just(InSync),
        (0u8..3, any::<bool>()).prop_map(|(a, b)| Block(a, b)),
        (0u8..3, 0u8..3).prop_map(|(a, b)| Endpoint(a, b)),
        (0u8..3).prop_map(NoEndpoint),
        (0u8..3).prop_map(Told),
        (0u8..3).prop_map(Down),
        any::<u8>().prop_map(Drift),
        (0u8..6, any::<bool>()).prop_map(|(a, b)| Intrude(a, b)),
        (0u8..3, any::<bool>()).prop_map(|(a, b)| Link(a, b)),
        (0u8..6).prop_map(Refuse),
        Just(LoseAnswers),
        any::<bool>().prop_map(LoseEvents),
        Just(Interrupt),
        any::<bool>().prop_map(Meanwhile),
        Just(Wait),
    ]
}

/// Prefixes that blocks, pods and peers contend for.
fn contended(i: u8) -> Prefix {
    p([
        "10.244.0.0/26",
        "10.244.0.5/32",
        "10.244.1.0/26",
        "10.244.1.7/32",
        "10.244.2.0/26",
        "10.9.0.0/16",
    ][i as usize])
}

fn happen(node: &mut Node, what: &Happening) {
    let gateways = ["172.30.0.12", "172.30.0.13", "192.168.1.1", "10.9.0.1"];
    let pods = ["10.244.0.5", "10.244.1.7", "10.244.2.9"];
    let blocks = ["10.244.0.0/26", "10.244.1.0/26", "10.244.2.0/26"];
    let cali = |i: u8| format!("cali{i}");
    let key = |i: u8| Key::resource(tortie_model::Kind::WorkloadEndpoint, Some("d"), &format!("p{i}"));
    match what {
        Happening::Learn(q, g) => node.tell(Input::Fib(vec![Delta::Set(
            contended(*q),
            path(&[gateways[*g as usize]]),
        )])),
        Happening::Withdraw(q) => node.tell(Input::Fib(vec![Delta::Delete(contended(*q))])),
        Happening::Stream => node.tell(Input::FibBegins),
        Happening::InSync => node.tell(fib_in_sync()),
        Happening::Block(b, on) => {
            node.tell(Input::Desired(vec![Update::OwnBlock(p(blocks[*b as usize]), *on)]));
        }
        Happening::Endpoint(i, a) => {
            let e = Endpoint {
                interface: cali(*i),
                ips: vec![ip(pods[*a as usize])],
            };
            node.tell(Input::Desired(vec![Update::Endpoint(key(*i), Some(e))]));
        }
        Happening::NoEndpoint(i) => node.tell(Input::Desired(vec![Update::Endpoint(key(*i), None)])),
        Happening::Told(i) => node.tell(told(&cali(*i), pods[*i as usize])),
        Happening::Down(i) => node.tell(Input::Down(cali(*i))),
        Happening::Drift(n) => {
            let routes = node.kernel.all_routes();
            if let Some(r) = routes
                .get(*n as usize % routes.len().max(1))
                .filter(|r| r.protocol != Protocol::KERNEL)
            {
                node.kernel.delete(&r.key());
            }
        }
        Happening::Intrude(q, ours) => {
            let protocol = if *ours { Protocol::BIRD } else { Protocol::STATIC };
            node.kernel
                .put(via(&contended(*q).to_string(), "172.30.0.99", protocol, 1024));
        }
        Happening::Link(i, up) => node.kernel.set_interface(10 + u32::from(*i), &cali(*i), *up),
        Happening::Refuse(q) => node.kernel.refuse(contended(*q), Errno::EBUSY, 2),
        Happening::LoseAnswers => node.kernel.lose_answers(1),
        Happening::LoseEvents(lose) => node.kernel.lose_events(*lose),
        Happening::Interrupt => node.kernel.interrupt_dumps(2),
        Happening::Meanwhile(on) => {
            let told = if *on {
                node.meanwhile.get_or_insert_default();
                Vec::new()
            } else {
                node.meanwhile.take().unwrap_or_default()
            };
            told.into_iter().for_each(|input| node.tell(input));
        }
        Happening::Wait => node.wait(Duration::from_secs(1)),
    }
}

proptest! {
    /// Whatever happened, when it stops happening the kernel holds what is wanted and nothing else of ours; and while
    /// events come, no foreign route is touched.
    #[test]
    fn whatever_happens_it_converges(happenings in proptest::collection::vec(happening(), 0..60), lazy in 1usize..6) {
        let mut node = Node::synced();
        let mut losing = false;
        for (i, what) in happenings.iter().enumerate() {
            happen(&mut node, what);
            if let Happening::LoseEvents(lose) = what {
                losing = *lose;
            }
            if i % lazy == 0 {
                let foreign = |n: &Node| {
                    let all = n.kernel.all_routes().into_iter();
                    all.filter(|r| n.manager.view.class(r).is_none()).collect::<Vec<_>>()
                };
                let before = foreign(&node);
                node.work();
                // One that took a key of ours unseen may be replaced: the kernel has no compare-and-swap for routes.
                prop_assert!(losing || before == foreign(&node));
            }
        }
        node.kernel.lose_events(false);
        for _ in 0..8 {
            node.wait(Duration::from_secs(31));
        }
        let wanted: BTreeMap<RouteKey, Route> = node.manager.routes.all_desired()
            .filter(|(k, _)| node.manager.view.foreign_at(k).is_none())
            .map(|(k, way)| (*k, way.to(k.prefix))).collect();
        let ours: BTreeMap<RouteKey, Route> = node.kernel.all_routes().into_iter()
            .filter(|r| node.manager.view.class(r).is_some()).map(|r| (r.key(), r)).collect();
        prop_assert_eq!(&ours, &wanted);

        // A restart that is told the same comes to the same, and one told nothing changes nothing.
        let before = node.kernel.all_routes();
        let mut again = node.restarted();
        again.work();
        prop_assert_eq!(again.kernel.all_routes(), before);
        prop_assert_eq!(again.kernel.take_applied(), []);
    }
}

#[test]
fn an_error_of_the_whole_batch_is_followed_by_a_look() {
    let mut node = busy();
    let changes = [Change::Create(
        via("10.7.0.0/16", "172.30.0.12", Protocol::BIRD, 1024).into(),
    )];
    node.manager
        .applied(&changes, Err(KernelError::Timeout { seconds: 10 }), node.now);
    assert!(node.manager.wants_dump());
    assert_eq!(node.manager.plan(node.now), [], "nothing is written blindly");
    node.work();
    assert!(node.manager.summary().settled);
}
