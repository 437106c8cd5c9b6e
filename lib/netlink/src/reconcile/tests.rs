use super::*;
use crate::fake::FakeKernel;
use crate::route::{Filter, IfIndex, Kernel, Kind, NextHop, Protocol};

struct Swept(bool);

impl Rules for Swept {
    const RANKS: usize = 1;

    fn rank(&self, route: &Route) -> Option<usize> {
        (route.protocol == Protocol::BIRD).then_some(0)
    }

    fn is_taken(&self, _key: &RouteKey) -> bool {
        false
    }

    fn may_remove(&self, _route: &Route) -> bool {
        self.0
    }
}

fn route(prefix: &str, gateway: &str) -> Arc<Route> {
    let mut route = Route::new(prefix.parse().unwrap(), Kind::Unicast, Protocol::BIRD);
    route.next_hops = Arc::new([NextHop::via(gateway.parse().unwrap(), IfIndex(2))]);
    Arc::new(route.canonical())
}

fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_interface(2, "eth0", true);
    kernel.add_address(2, "10.0.0.1/24");
    kernel
}

fn round(reconciler: &mut Reconciler, kernel: &mut FakeKernel, now: u64, rules: &Swept) -> (usize, bool) {
    let now = Duration::from_secs(now);
    let changes = reconciler.plan(now, rules);
    let result = kernel.apply(&changes);
    let written = reconciler.applied(&changes, result, now);
    (changes.len(), written.look_again)
}

#[test]
fn what_is_wanted_is_written_and_what_is_not_goes_when_it_may() {
    let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
    let old = route("10.9.0.0/24", "10.0.0.9");
    assert_eq!(kernel.apply(&[Change::Create(Arc::clone(&old))]).unwrap(), []);
    reconciler.found_all([old]);
    assert!(reconciler.want(&route("10.1.0.0/24", "10.0.0.2")));
    assert!(!reconciler.want(&route("10.1.0.0/24", "10.0.0.2")), "known");
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(false)), (1, false));
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(false)), (0, false));
    reconciler.want(&route("10.1.0.0/24", "10.0.0.3"));
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)), (2, false));
    let there = kernel.routes(Filter::MAIN).unwrap();
    let ours: Vec<_> = there.iter().filter(|r| r.protocol == Protocol::BIRD).collect();
    assert_eq!(ours, [&*route("10.1.0.0/24", "10.0.0.3")]);
    assert!(reconciler.is_settled());
}

#[test]
fn a_refusal_delays_itself_alone_and_another_route_is_tried_at_once() {
    let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
    reconciler.want(&route("10.1.0.0/24", "192.0.2.1"));
    reconciler.want(&route("10.2.0.0/24", "10.0.0.2"));
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)).0, 2);
    let key = route("10.1.0.0/24", "192.0.2.1").key();
    assert_eq!(reconciler.failure(&key).map(|f| f.attempts), Some(1));
    assert_eq!(
        reconciler.next_deadline(Duration::ZERO),
        Some(RETRY_MIN),
        "the other one is there"
    );
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)).0, 0);
    assert_eq!(round(&mut reconciler, &mut kernel, 1, &Swept(true)).0, 1);
    let failure = reconciler.failure(&key).unwrap();
    assert_eq!((failure.attempts, failure.since), (2, Duration::ZERO));
    assert_eq!(failure.not_before, Duration::from_secs(1) + 2 * RETRY_MIN);
    reconciler.want(&route("10.1.0.0/24", "10.0.0.7"));
    assert_eq!(round(&mut reconciler, &mut kernel, 1, &Swept(true)).0, 1);
    assert!(reconciler.is_settled() && reconciler.failure(&key).is_none());
}

/// BIRD's routes can wait.
struct Ranked;

impl Rules for Ranked {
    const RANKS: usize = 2;

    fn rank(&self, route: &Route) -> Option<usize> {
        Some(usize::from(route.protocol == Protocol::BIRD))
    }

    fn is_taken(&self, _key: &RouteKey) -> bool {
        false
    }

    fn may_remove(&self, _route: &Route) -> bool {
        true
    }
}

#[test]
fn what_waited_its_turn_and_became_urgent_waits_no_longer() {
    let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
    let many: Vec<_> = (0..3 * BATCH)
        .map(|i| route(&format!("10.{}.{}.0/24", 64 + i / 256, i % 256), "10.0.0.2"))
        .collect();
    assert!(many.iter().all(|r| reconciler.want(r)));
    let first = reconciler.plan(Duration::ZERO, &Ranked);
    assert_eq!(first.len(), BATCH);
    let urgent = Route {
        protocol: Protocol::BOOT,
        ..Route::clone(&many[3 * BATCH - 1])
    };
    reconciler.want(&urgent);
    let second = reconciler.plan(Duration::ZERO, &Ranked);
    assert_eq!((second.len(), second[0].route()), (BATCH, Some(&urgent)));
    for changes in [first, second] {
        let result = kernel.apply(&changes);
        reconciler.applied(&changes, result, Duration::ZERO);
    }
    // One that was to be removed after all others, and is wanted again.
    many.iter().for_each(|r| reconciler.unwant(&r.key()));
    let removed = reconciler.plan(Duration::ZERO, &Ranked);
    assert!(matches!(removed[..], [Change::Delete(_), ..]), "{}", removed.len());
    let again = Route {
        protocol: Protocol::BOOT,
        ..Route::clone(&many[2 * BATCH - 2])
    };
    reconciler.want(&again);
    let next = reconciler.plan(Duration::ZERO, &Ranked);
    assert_eq!(next[0].route(), Some(&again));
}

#[test]
fn somebody_elses_route_in_the_way_is_left_and_looked_at() {
    let (mut kernel, mut reconciler) = (kernel(), Reconciler::default());
    let foreign = Route {
        protocol: Protocol::STATIC,
        ..Route::clone(&route("10.1.0.0/24", "10.0.0.9"))
    };
    assert_eq!(kernel.apply(&[Change::Create(foreign.clone().into())]).unwrap(), []);
    reconciler.want(&route("10.1.0.0/24", "10.0.0.2"));
    assert_eq!(round(&mut reconciler, &mut kernel, 0, &Swept(true)), (1, true));
    assert!(kernel.routes(Filter::MAIN).unwrap().contains(&foreign));
}
