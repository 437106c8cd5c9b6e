//! What is to be in the kernel's tables, and what others put there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::Prefix;
use tortie_replica::Delta;

use super::network::config;
use crate::filter::{Krt, RouteDestination, RouteSource};
use crate::speaker::{
    Alien, Command, FibNextHop, Input, InterfaceAddress, KernelEntry, KernelSpec, Operated, Output, RouteQuery,
    RouteView, Speaker,
};

/// A router and the kernel that it writes.
struct Router {
    speaker: Speaker,
    now: Duration,
    specs: Vec<KernelSpec>,
    table: BTreeMap<Prefix, KernelEntry>,
    told: usize,
    in_sync: usize,
    /// The writer is at work: nothing more may come.
    busy: Option<(Arc<str>, u32)>,
    holds: bool,
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

impl Router {
    fn start(text: &str) -> Router {
        let now = Duration::ZERO;
        let mut router = Router {
            speaker: Speaker::new(now, config(text)).unwrap(),
            now,
            specs: Vec::new(),
            table: BTreeMap::new(),
            told: 0,
            in_sync: 0,
            busy: None,
            holds: false,
        };
        router.input(Input::Interfaces(vec![InterfaceAddress {
            interface: "eth0".into(),
            address: "10.0.0.1".parse().unwrap(),
            subnet: prefix("10.0.0.0/24"),
        }]));
        router
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        self.take(out);
        for _ in 0..100 {
            if self.speaker.next_deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
            let mut out = Vec::new();
            self.speaker.handle(self.now, Input::Tick, &mut out);
            self.take(out);
        }
        panic!("there is always something to do");
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Kernels(specs) => {
                    // A writer begins anew with another epoch, and ends with its spec.
                    let epochs = |specs: &[KernelSpec]| specs.iter().map(|spec| spec.epoch).collect::<Vec<_>>();
                    if epochs(&specs) != epochs(&self.specs) {
                        self.table.clear();
                        self.busy = None;
                    }
                    self.specs = specs;
                }
                Output::Kernel {
                    protocol,
                    epoch,
                    deltas,
                } => {
                    assert!(self.specs.iter().any(|s| s.protocol == protocol && s.epoch == epoch));
                    assert!(self.busy.replace((protocol, epoch)).is_none(), "it has not written yet");
                    self.told += deltas.len();
                    for delta in deltas {
                        match delta {
                            Delta::Set(net, entry) => drop(self.table.insert(net, entry)),
                            Delta::Delete(net) => assert!(self.table.remove(&net).is_some()),
                            Delta::InSync => self.in_sync += 1,
                        }
                    }
                }
                _ => {}
            }
        }
        if !self.holds {
            self.written();
        }
    }

    fn written(&mut self) {
        if let Some((protocol, epoch)) = self.busy.take() {
            self.input(Input::Written { protocol, epoch });
        }
    }

    fn reconfigure(&mut self, text: &str) {
        self.input(Input::Reconfigure(config(text)));
    }

    fn operate(&mut self, command: Command) -> Operated {
        let mut out = Vec::new();
        let operated = self.speaker.operate(self.now, ("k", command), "", &mut out);
        self.take(out);
        self.input(Input::Tick);
        operated
    }

    fn learn(&mut self, complete: bool, aliens: &[(&str, Option<Alien>)]) {
        let aliens = aliens.iter().map(|(net, alien)| (prefix(net), alien.clone()));
        self.input(Input::Learned {
            protocol: "k".into(),
            complete,
            aliens: aliens.collect(),
        });
    }

    fn routes(&self) -> Vec<RouteView> {
        self.speaker.routes(&RouteQuery::default())
    }

    /// The prefixes of the kernel's and their metrics.
    fn shown(&self) -> Vec<String> {
        let shown = self.table.iter().map(|(net, entry)| format!("{net} {}", entry.metric));
        shown.collect()
    }
}

fn router(kernel: &str, routes: &str) -> String {
    format!(
        "router id 10.0.0.1;\nprotocol device {{ }}\nprotocol kernel k {{ {kernel} }}\n\
         protocol static {{ ipv4; {routes} }}\n"
    )
}

const TWO: &str = "route 10.1.0.0/24 via 10.0.0.2 { krt_metric = 7; krt_prefsrc = 10.0.0.1; };\n\
                   route 10.2.0.0/24 blackhole;";

fn hop(address: &str) -> FibNextHop {
    FibNextHop {
        address: Some(address.parse().unwrap()),
        interface: Some("eth0".into()),
        weight: 1,
        onlink: false,
    }
}

fn alien(gateway: &str, metric: u32, protocol: u8) -> Option<Alien> {
    let entry = KernelEntry {
        destination: RouteDestination::Unicast,
        next_hops: vec![hop(gateway)],
        metric,
        source: None,
    };
    Some(Alien { entry, protocol })
}

#[test]
fn what_the_policy_exports_is_told_with_the_protocols_metric_or_its_own() {
    let mut router_ = Router::start(&router("ipv4 { export all; };", TWO));
    let entry = &router_.table[&prefix("10.1.0.0/24")];
    assert_eq!(entry.next_hops, [hop("10.0.0.2")]);
    assert_eq!(entry.source, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(router_.shown(), ["10.1.0.0/24 32", "10.2.0.0/24 32"]);
    assert_eq!(
        router_.table[&prefix("10.2.0.0/24")].destination,
        RouteDestination::Blackhole
    );
    let spec = &router_.specs[0];
    assert_eq!(
        (spec.table, spec.metric, spec.learn, spec.persist),
        (254, 32, false, false)
    );
    // Another metric is another protocol in the kernel: everything is told anew.
    let epoch = spec.epoch;
    router_.reconfigure(&router("metric 0; kernel table 7; ipv4 { export all; };", TWO));
    assert_eq!(router_.shown(), ["10.1.0.0/24 7", "10.2.0.0/24 0"]);
    assert_eq!((router_.specs[0].table, router_.specs[0].epoch != epoch), (7, true));
    // A filter is not.
    let (epoch, told) = (router_.specs[0].epoch, router_.told);
    let only = "metric 0; kernel table 7; persist; ipv4 { export where dest = RTD_BLACKHOLE; };";
    router_.reconfigure(&router(only, TWO));
    assert_eq!(router_.shown(), ["10.2.0.0/24 0"]);
    assert_eq!((router_.specs[0].epoch, router_.specs[0].persist), (epoch, true));
    assert_eq!(router_.told - told, 1, "what did not change is not told again");
}

#[test]
fn one_batch_at_a_time_and_what_waits_coalesces() {
    let kernel = "ipv4 { export all; };";
    let mut router_ = Router::start(&router(kernel, TWO));
    router_.holds = true;
    router_.reconfigure(&router(kernel, "route 10.1.0.0/24 via 10.0.0.3;"));
    assert_eq!(router_.shown(), ["10.1.0.0/24 32"], "withdrawn and changed at once");
    let told = router_.told;
    // To and fro while the writer is at work.
    router_.reconfigure(&router(
        kernel,
        "route 10.1.0.0/24 via 10.0.0.4; route 10.3.0.0/24 blackhole;",
    ));
    router_.reconfigure(&router(kernel, "route 10.1.0.0/24 via 10.0.0.5;"));
    assert_eq!(router_.told, told);
    router_.written();
    assert_eq!(router_.table[&prefix("10.1.0.0/24")].next_hops, [hop("10.0.0.5")]);
    assert_eq!(router_.told, told + 1);
    // An answer from before a restart is nobody's.
    router_.holds = false;
    router_.input(Input::Written {
        protocol: "k".into(),
        epoch: 0,
    });
}

#[test]
fn in_sync_waits_for_the_initial_table_and_is_never_said_where_nothing_is_exported() {
    let peer =
        "protocol bgp absent { local 10.0.0.1 as 1; neighbor 10.0.0.9 as 2; ipv4 { import all; export none; }; }\n";
    let text = router("ipv4 { export all; };", TWO) + peer;
    let mut router_ = Router::start(&text);
    assert_eq!(
        (router_.table.len(), router_.in_sync),
        (2, 0),
        "told at once, swept later"
    );
    for _ in 0..40 {
        router_.now += Duration::from_secs(1);
        router_.input(Input::Tick);
    }
    assert_eq!(router_.in_sync, 1);
    let silent = Router::start(&router("learn; ipv4 { export none; };", TWO));
    assert_eq!((silent.in_sync, silent.told), (0, 0));
    assert!(!silent.specs[0].exports && silent.specs[0].learn);
}

#[test]
fn routes_of_others_are_imported_and_never_given_back() {
    let kernel = "learn; ipv4 { import all; export all; };";
    let mut router_ = Router::start(&router(kernel, TWO));
    router_.learn(
        true,
        &[
            ("10.1.0.0/24", alien("10.0.0.8", 0, 4)),
            ("10.9.0.0/24", alien("10.0.0.9", 5, 186)),
        ],
    );
    let learned = |router: &Router| -> Vec<RouteView> {
        let all = router.routes().into_iter();
        all.filter(|view| view.source == RouteSource::Inherit).collect()
    };
    let views = learned(&router_);
    assert_eq!(views.len(), 2);
    assert!(!views[0].best && views[1].best, "static is preferred");
    assert_eq!(
        (views[1].preference, views[1].next_hops.clone()),
        (10, vec![hop("10.0.0.9")])
    );
    let krt = Krt {
        metric: Some(5),
        source: Some(186),
        prefsrc: None,
    };
    assert_eq!(views[1].krt, krt);
    assert_eq!(router_.shown(), ["10.1.0.0/24 32", "10.2.0.0/24 32"]);
    // One change, then all.
    router_.learn(false, &[("10.9.0.0/24", alien("10.0.0.7", 5, 186))]);
    assert_eq!(learned(&router_)[1].next_hops, [hop("10.0.0.7")]);
    router_.learn(true, &[("10.8.0.0/24", alien("10.0.0.7", 5, 4))]);
    assert_eq!(learned(&router_).len(), 1);
    // Filters and preference are changed without asking the kernel.
    let refused = "learn; ipv4 { import where krt_source != 4; export all; };";
    router_.reconfigure(&router(refused, TWO));
    assert_eq!(learned(&router_).len(), 0);
    router_.reconfigure(&router("learn; ipv4 { preference 250; import all; export all; };", TWO));
    assert_eq!(learned(&router_)[0].preference, 250);
    // An alien that is best keeps ours out.
    router_.learn(false, &[("10.1.0.0/24", alien("10.0.0.8", 0, 4))]);
    assert_eq!(router_.shown(), ["10.2.0.0/24 32"]);
    assert_eq!(router_.operate(Command::Disable), Operated::Disabled);
    assert_eq!(learned(&router_).len(), 0);
    router_.learn(true, &[("10.8.0.0/24", alien("10.0.0.7", 5, 4))]);
    assert_eq!(learned(&router_).len(), 0, "nobody asked");
}

#[test]
fn a_table_ends_with_its_protocol_and_begins_anew() {
    let mut router_ = Router::start(&router("ipv4 { export all; };", TWO));
    let first = router_.specs[0].epoch;
    assert_eq!(router_.operate(Command::Disable), Operated::Disabled);
    assert_eq!(router_.specs, []);
    assert_eq!(router_.operate(Command::Enable), Operated::Enabled);
    assert!(router_.specs[0].epoch != first);
    assert_eq!((router_.table.len(), router_.in_sync), (2, 2));
    let mut out = Vec::new();
    assert!(router_.speaker.next_deadline().is_none_or(|at| at > router_.now));
    router_.speaker.tell_kernels_anew();
    assert_eq!(
        router_.speaker.next_deadline(),
        Some(router_.now),
        "nothing else may happen"
    );
    router_.speaker.handle(router_.now, Input::Tick, &mut out);
    router_.take(out);
    assert_eq!((router_.table.len(), router_.in_sync), (2, 3));
    router_.input(Input::Stop);
    assert_eq!(router_.specs, []);
}
