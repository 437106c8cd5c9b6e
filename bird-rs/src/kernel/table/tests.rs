use proptest::prelude::*;
use tortie_netlink::fake::FakeKernel;
use tortie_netlink::route::{Filter, Kernel, TABLE_MAIN};

use super::*;

/// A host on 10.0.0.0/24 and 10.1.0.0/24, a table of ours, and what the task does, without the task.
struct Host {
    kernel: FakeKernel,
    table: Table,
    now: Duration,
}

fn spec() -> KernelSpec {
    KernelSpec {
        protocol: "k".into(),
        family: ChannelFamily::Ipv4,
        epoch: 1,
        table: TABLE_MAIN,
        metric: 32,
        exports: true,
        learn: true,
        persist: false,
        scan_time: Duration::from_secs(60),
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn hop(address: &str, interface: Option<&str>) -> FibNextHop {
    FibNextHop {
        address: address.parse().ok(),
        interface: interface.map(Into::into),
        weight: 1,
        onlink: false,
    }
}

fn entry(gateway: &str) -> KernelEntry {
    KernelEntry {
        destination: RouteDestination::Unicast,
        next_hops: vec![hop(gateway, Some("eth0"))],
        metric: 32,
        source: None,
    }
}

/// `ip route` of somebody else.
fn route(net: &str, gateway: &str, metric: u32, protocol: Protocol) -> Route {
    let mut route = Route::new(prefix(net), Kind::Unicast, protocol);
    route.metric = metric;
    route.next_hops = Arc::new([NextHop::via(gateway.parse().unwrap(), IfIndex(2))]);
    route.canonical()
}

impl Host {
    fn new(spec: KernelSpec) -> Host {
        let kernel = FakeKernel::new();
        for (index, name, address) in [(2, "eth0", "10.0.0.1/24"), (3, "eth1", "10.1.0.1/24")] {
            kernel.set_interface(index, name, true);
            kernel.add_address(index, address);
        }
        Host {
            kernel,
            table: Table::new(spec),
            now: Duration::ZERO,
        }
    }

    fn want(&mut self, deltas: Vec<Delta<Prefix, KernelEntry>>) {
        self.table.want(deltas);
        self.work();
    }

    fn work(&mut self) {
        for _ in 0..100 {
            let events = self.kernel.take_events();
            let idle = events.is_empty();
            self.table.follow(events);
            if self.table.wants_dump() {
                let kernel = &mut self.kernel;
                let dump = Dump {
                    interfaces: kernel.interfaces().unwrap(),
                    addresses: kernel.addresses().unwrap(),
                    objects: None,
                    routes: kernel.routes(Filter::MAIN).unwrap(),
                };
                self.table.loaded(dump);
                continue;
            }
            let changes = self.table.plan(self.now);
            if changes.is_empty() && idle {
                return;
            }
            let result = self.kernel.apply(&changes);
            self.table.applied(&changes, result, self.now);
        }
        panic!("it does not come to rest");
    }

    /// What is in the kernel but for its own routes, as `ip route` prints it.
    fn shown(&self) -> Vec<String> {
        let all = self.kernel.all_routes().into_iter();
        let shown = all.filter(|route| route.protocol != Protocol::KERNEL);
        shown.map(|route| route.to_string()).collect()
    }
}

#[test]
fn routes_are_written_replaced_and_withdrawn() {
    let mut host = Host::new(spec());
    let mut several = entry("10.0.0.2");
    several.next_hops.push(FibNextHop {
        weight: 7,
        ..hop("10.1.0.2", None)
    });
    let device = KernelEntry {
        next_hops: vec![hop("", Some("eth1"))],
        source: "10.1.0.1".parse().ok(),
        ..entry("10.0.0.2")
    };
    let dropped = KernelEntry {
        destination: RouteDestination::Prohibit,
        next_hops: Vec::new(),
        metric: 0,
        source: None,
    };
    host.want(vec![
        Delta::Set(prefix("10.9.1.0/24"), several),
        Delta::Set(prefix("10.9.2.0/24"), device),
        Delta::Set(prefix("10.9.3.0/24"), dropped),
    ]);
    assert_eq!(
        host.shown(),
        [
            "10.9.1.0/24 proto bird metric 32 nexthop via 10.0.0.2 dev #2 weight 1 nexthop via 10.1.0.2 dev #3 weight 7",
            "10.9.2.0/24 dev #3 proto bird scope link src 10.1.0.1 metric 32",
            "prohibit 10.9.3.0/24 proto bird",
        ]
    );
    host.kernel.take_applied();
    host.want(vec![
        Delta::Set(prefix("10.9.1.0/24"), entry("10.0.0.3")),
        Delta::Set(
            prefix("10.9.3.0/24"),
            KernelEntry {
                metric: 9,
                ..entry("10.0.0.3")
            },
        ),
        Delta::Delete(prefix("10.9.2.0/24")),
    ]);
    assert_eq!(
        host.shown(),
        [
            "10.9.1.0/24 via 10.0.0.3 dev #2 proto bird metric 32",
            "10.9.3.0/24 via 10.0.0.3 dev #2 proto bird metric 9",
        ],
        "what was wanted in this life goes before the sweep"
    );
    let changes = host.kernel.take_applied();
    assert!(changes.contains(&Change::Replace(
        route("10.9.1.0/24", "10.0.0.3", 32, Protocol::BIRD).into()
    )));
    host.table.end();
    host.work();
    assert!(host.shown().is_empty() && host.table.is_settled());
}

#[test]
fn what_a_former_life_left_goes_when_everything_was_told() {
    let mut host = Host::new(spec());
    let left = ["10.9.1.0/24", "10.9.2.0/24"].map(|net| route(net, "10.0.0.2", 32, Protocol::BIRD));
    left.iter().for_each(|route| host.kernel.put(route.clone()));
    // Those of another BIRD, of another metric, are not ours.
    host.kernel.put(route("10.9.3.0/24", "10.0.0.2", 77, Protocol::BIRD));
    host.kernel.take_events();
    host.want(vec![Delta::Set(prefix("10.9.1.0/24"), entry("10.0.0.2"))]);
    assert_eq!(host.shown().len(), 3);
    assert_eq!(host.kernel.take_applied(), [], "what is right is not touched");
    host.want(vec![Delta::InSync]);
    assert_eq!(host.kernel.take_applied(), [Change::Delete(left[1].clone().into())]);
    // After that whatever looks like ours and is not wanted goes at once.
    host.kernel.put(left[1].clone());
    host.work();
    assert_eq!(host.shown().len(), 2);
}

#[test]
fn somebody_elses_route_is_never_replaced_and_drift_is_repaired() {
    let mut host = Host::new(spec());
    let theirs = route("10.9.1.0/24", "10.0.0.9", 32, Protocol::STATIC);
    host.kernel.put(theirs.clone());
    host.want(vec![
        Delta::Set(prefix("10.9.1.0/24"), entry("10.0.0.2")),
        Delta::Set(prefix("10.9.2.0/24"), entry("10.0.0.2")),
        Delta::InSync,
    ]);
    assert_eq!(host.table.in_the_way.len(), 1);
    assert!(host.kernel.all_routes().contains(&theirs));
    host.kernel.delete(&theirs.key());
    host.work();
    assert_eq!(host.table.in_the_way.len(), 0);
    let ours = ["10.9.1.0/24", "10.9.2.0/24"].map(|net| route(net, "10.0.0.2", 32, Protocol::BIRD));
    let there = |host: &Host| ours.iter().all(|r| host.kernel.all_routes().contains(r));
    assert!(there(&host));
    // Deleted, changed, and gone with their interface.
    host.kernel.delete(&ours[0].key());
    host.kernel.put(route("10.9.2.0/24", "10.0.0.77", 32, Protocol::BIRD));
    host.work();
    assert!(there(&host));
    host.kernel.set_interface(2, "eth0", false);
    host.work();
    assert!(host.shown().is_empty());
    host.kernel.set_interface(2, "eth0", true);
    host.kernel.add_address(2, "10.0.0.1/24");
    host.work();
    // It was refused while the subnet was not there.
    host.now += Duration::from_secs(31);
    host.work();
    assert!(there(&host));
    // One that takes a key of ours away is there to stay.
    host.kernel.put(theirs.clone());
    host.work();
    assert!(host.kernel.all_routes().contains(&theirs));
}

#[test]
fn without_export_nothing_is_touched() {
    let mut host = Host::new(KernelSpec {
        exports: false,
        ..spec()
    });
    host.kernel.put(route("10.9.1.0/24", "10.0.0.2", 32, Protocol::BIRD));
    host.work();
    host.table.end();
    host.work();
    assert_eq!(host.kernel.take_applied(), []);
}

#[test]
fn the_routes_of_others_are_told_once_and_then_what_changes() {
    let mut host = Host::new(spec());
    let nets = [
        ("10.9.1.0/24", 5, Protocol::STATIC),
        ("10.9.1.0/24", 4, Protocol(186)),
        ("10.9.2.0/24", 0, Protocol::BOOT),
        ("10.9.3.0/24", 0, Protocol::BIRD),
    ];
    nets.iter()
        .for_each(|(net, metric, by)| host.kernel.put(route(net, "10.0.0.9", *metric, *by)));
    let throw = Route::new(prefix("10.9.4.0/24"), Kind::Throw, Protocol::STATIC);
    host.kernel.put(throw);
    assert!(host.table.aliens().is_none(), "nothing is known yet");
    host.work();
    let aliens = host.table.aliens().unwrap();
    assert!(aliens.complete);
    let shown: Vec<_> = aliens
        .changes
        .iter()
        .map(|(net, alien)| alien.as_ref().map(|a| (net.to_string(), a.entry.metric, a.protocol)))
        .collect();
    let wanted = [("10.9.1.0/24", 4, 186), ("10.9.2.0/24", 0, 3)];
    assert_eq!(
        shown,
        wanted.map(|(net, metric, by)| Some((net.to_owned(), metric, by)))
    );
    assert!(host.table.aliens().is_none());
    // The one that was better goes; ours do not count.
    host.kernel
        .delete(&route("10.9.1.0/24", "10.0.0.9", 4, Protocol(186)).key());
    host.want(vec![Delta::Set(prefix("10.9.8.0/24"), entry("10.0.0.2"))]);
    let changes = host.table.aliens().unwrap().changes;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1.as_ref().map(|a| a.entry.metric), Some(5));
    host.table.want_dump();
    host.work();
    assert!(host.table.aliens().is_none(), "a look that finds nothing new");
    host.kernel.set_interface(2, "eth0", false);
    host.work();
    let changes = host.table.aliens().unwrap().changes;
    assert_eq!(changes.iter().filter(|(_, alien)| alien.is_none()).count(), 2);
}

/// What may happen to a table.
#[derive(Debug, Clone)]
enum Happening {
    Want(u8, u8),
    Unwant(u8),
    /// Somebody else puts a route where ours would be, or beside it.
    Foreign(u8, bool),
    ForeignGone(u8),
    /// Somebody deletes or changes ours.
    Deleted(u8),
    Changed(u8, u8),
    Link(bool),
    LoseEvents(bool),
    Refuse(u8),
    LoseAnswers,
    InSync,
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let net = 0u8..4;
    prop_oneof![
        4 => (net.clone(), 2u8..5).prop_map(|(net, hop)| Want(net, hop)),
        2 => net.clone().prop_map(Unwant),
        2 => (net.clone(), any::<bool>()).prop_map(|(net, in_the_way)| Foreign(net, in_the_way)),
        1 => net.clone().prop_map(ForeignGone),
        1 => net.clone().prop_map(Deleted),
        1 => (net.clone(), 2u8..5).prop_map(|(net, hop)| Changed(net, hop)),
        1 => any::<bool>().prop_map(Link),
        1 => any::<bool>().prop_map(LoseEvents),
        1 => net.prop_map(Refuse),
        1 => Just(LoseAnswers),
        1 => Just(InSync),
        1 => Just(Wait),
    ]
}

fn net(n: u8) -> String {
    format!("10.9.{n}.0/24")
}

impl Host {
    fn foreign(&self) -> Vec<Route> {
        let all = self.kernel.all_routes().into_iter();
        all.filter(|route| !self.table.is_ours(route)).collect()
    }

    fn happens(&mut self, happening: &Happening) {
        let key = |n: u8, protocol| route(&net(n), "10.0.0.9", 32, protocol).key();
        match happening {
            Happening::Want(n, hop) => {
                let entry = entry(&format!("10.0.0.{hop}"));
                self.table.want(vec![Delta::Set(prefix(&net(*n)), entry)]);
            }
            Happening::Unwant(n) if self.table.wants.contains_key(&prefix(&net(*n))) => {
                self.table.want(vec![Delta::Delete(prefix(&net(*n)))]);
            }
            Happening::Unwant(_) => {}
            Happening::Foreign(n, in_the_way) => {
                let metric = if *in_the_way { 32 } else { 7 };
                self.kernel.put(route(&net(*n), "10.0.0.9", metric, Protocol::STATIC));
            }
            Happening::ForeignGone(n) | Happening::Deleted(n) => self.kernel.delete(&key(*n, Protocol::STATIC)),
            Happening::Changed(n, hop) => {
                let there = self
                    .kernel
                    .all_routes()
                    .into_iter()
                    .find(|r| r.key() == key(*n, Protocol::BIRD));
                if there.is_some_and(|there| self.table.is_ours(&there)) {
                    self.kernel
                        .put(route(&net(*n), &format!("10.0.0.{hop}"), 32, Protocol::BIRD));
                }
            }
            Happening::Link(up) => {
                self.kernel.set_interface(2, "eth0", *up);
                if *up {
                    self.kernel.add_address(2, "10.0.0.1/24");
                }
            }
            Happening::LoseEvents(lose) => self.kernel.lose_events(*lose),
            Happening::Refuse(n) => self.kernel.refuse(prefix(&net(*n)), nix::errno::Errno::ENOMEM, 1),
            Happening::LoseAnswers => self.kernel.lose_answers(1),
            Happening::InSync => self.table.want(vec![Delta::InSync]),
            Happening::Wait => self.now += Duration::from_secs(31),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_it_comes_to_what_is_wanted_and_touches_nothing_else(
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut host = Host::new(spec());
        host.kernel.put(route(&net(3), "10.0.0.4", 32, Protocol::BIRD));
        let mut blind = false;
        for happening in &happenings {
            host.happens(happening);
            if let Happening::LoseEvents(lose) = happening {
                blind = *lose;
            }
            let before = host.foreign();
            host.work();
            // What took a key of ours unseen may be replaced: the kernel has no compare-and-swap for routes.
            prop_assert!(blind || before == host.foreign());
        }
        host.kernel.lose_events(false);
        host.kernel.set_interface(2, "eth0", true);
        host.kernel.add_address(2, "10.0.0.1/24");
        host.table.want(vec![Delta::InSync]);
        for _ in 0..8 {
            host.now += Duration::from_secs(31);
            host.work();
        }
        let wanted: Vec<RouteKey> = host.table.wants.keys()
            .map(|net| route(&net.to_string(), "10.0.0.9", 32, Protocol::BIRD).key())
            .filter(|key| !host.table.foreign.contains_key(key))
            .collect();
        let ours: Vec<Route> = host.kernel.all_routes().into_iter().filter(|r| host.table.is_ours(r)).collect();
        prop_assert_eq!(ours.iter().map(Route::key).collect::<Vec<_>>(), wanted);
        for route in &ours {
            let entry = &host.table.wants[&route.prefix].entry;
            prop_assert_eq!(route.next_hops[0].gateway, entry.next_hops[0].address);
        }
        // And at the end nothing of ours stays.
        host.table.end();
        for _ in 0..8 {
            host.now += Duration::from_secs(31);
            host.work();
        }
        prop_assert!(!host.kernel.all_routes().iter().any(|route| host.table.is_ours(route)));
    }
}
