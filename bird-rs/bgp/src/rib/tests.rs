//! The decision process in tables, and tables under all orders of arrival.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use tortie_net::{Asn, Community, Family, Prefix4, Prefix6, RouterId};

use super::*;
use crate::attr::{AsPath, Attributes, Origin};
use crate::filter::RouteDestination;
use crate::nexthop::NextHops;

fn learned(attributes: Attributes) -> Learned {
    Learned {
        attributes,
        preference: 100,
        destination: RouteDestination::Unicast,
        igp_metric: None,
        krt: crate::filter::Krt::default(),
        gateways: Box::default(),
        hop: None,
    }
}

fn traits(kind: SourceKind, n: u8) -> Traits {
    Traits {
        interface: None,
        cluster: None,
        kind,
        router_id: RouterId(u32::from(n)),
        address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))),
        default_local_pref: 100,
        default_med: 0,
    }
}

fn path(asns: &[u32]) -> AsPath {
    AsPath::sequence(asns.iter().copied().map(Asn))
}

struct Rib {
    table: Table<Prefix4>,
    interner: Interner<Learned>,
    sources: Vec<Option<Traits>>,
    decision: Decision,
    hops: NextHops,
}

impl Rib {
    fn new(decision: Decision) -> Self {
        Rib {
            table: Table::default(),
            interner: Interner::default(),
            sources: vec![None; 16],
            decision,
            hops: NextHops::default(),
        }
    }

    fn add(&mut self, source: u16, path_id: u32, traits: &Traits, route: &Learned, since: u32) {
        self.put(net(), (source, path_id, since), traits, route);
    }

    fn add_at(&mut self, prefix: Prefix4, source: u16, traits: &Traits, route: &Learned) {
        self.put(prefix, (source, 0, 0), traits, route);
    }

    fn put(&mut self, prefix: Prefix4, (source, path_id, since): (u16, u32, u32), traits: &Traits, route: &Learned) {
        self.sources[usize::from(source)] = Some(traits.clone());
        let received = self.interner.intern(route);
        let imported = Ok(self.interner.retain(received));
        let new = NewPath {
            source: SourceId(source),
            path_id,
            received,
            imported,
            since,
        };
        self.table.insert(prefix, new, &mut self.interner);
    }

    fn settle(&mut self) -> Option<(SourceId, u32)> {
        self.table
            .settle(&self.decision, &self.sources, &self.interner, &self.hops);
        let id = self.table.id(net())?;
        self.table.best(id).map(|p| (p.source(), p.path_id()))
    }

    /// For each path, the best one first: whose it is and why it is where it is.
    fn reasons(&self) -> Vec<(SourceId, Reason)> {
        let id = self.table.id(net()).unwrap();
        let candidates = self.table.candidates(id, &self.sources, &self.interner, &self.hops);
        (0..candidates.len())
            .map(|i| (candidates[i].path.source(), self.decision.explain(&candidates, 0, i)))
            .collect()
    }
}

fn net() -> Prefix4 {
    Prefix4::new(Ipv4Addr::new(10, 0, 0, 0), 8).unwrap()
}

type Route = (Traits, Learned);

/// A route of an external peer that loses or wins by what `change` does to it.
fn route(n: u8, change: impl FnOnce(&mut Traits, &mut Learned)) -> Route {
    let mut route = (
        traits(SourceKind::Ebgp, n),
        learned(Attributes {
            as_path: path(&[65001, 65002]),
            ..Attributes::default()
        }),
    );
    change(&mut route.0, &mut route.1);
    route
}

#[test]
fn each_comparison_decides_and_says_so() {
    let plain = |n| route(n, |_, _| ());
    let ibgp = SourceKind::Ibgp { client: false };
    let cases: Vec<(Reason, Route, Route)> = vec![
        (Reason::Preference, route(9, |_, l| l.preference = 101), plain(1)),
        (
            Reason::Local,
            route(9, |t, _| t.kind = SourceKind::Local),
            route(1, |_, l| l.attributes.local_pref = Some(999)),
        ),
        (
            Reason::Stale,
            plain(9),
            route(1, |_, l| {
                l.attributes.local_pref = Some(999);
                l.attributes.communities.insert(Community::LLGR_STALE);
            }),
        ),
        (
            Reason::LocalPref,
            route(9, |_, l| l.attributes.local_pref = Some(101)),
            route(1, |_, l| l.attributes.as_path = path(&[65001])),
        ),
        (
            Reason::AsPathLength,
            route(9, |_, l| l.attributes.as_path = path(&[65009])),
            plain(1),
        ),
        (
            Reason::Origin,
            plain(9),
            route(1, |_, l| l.attributes.origin = Origin::Incomplete),
        ),
        (Reason::Med, plain(9), route(1, |_, l| l.attributes.med = Some(1))),
        (Reason::EbgpOverIbgp, plain(9), route(1, |t, _| t.kind = ibgp)),
        (
            Reason::IgpMetric,
            route(9, |_, l| l.igp_metric = Some(5)),
            route(1, |_, l| l.igp_metric = Some(6)),
        ),
        (Reason::RouterId, plain(1), plain(9)),
        (
            Reason::RouterId,
            route(9, |_, l| l.attributes.originator_id = Some(RouterId(0))),
            plain(1),
        ),
        (
            Reason::ClusterListLength,
            route(1, |t, l| {
                t.address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)));
                l.attributes.cluster_list = Box::from([RouterId(1)]);
            }),
            route(1, |_, l| {
                l.attributes.cluster_list = Box::from([RouterId(1), RouterId(2)])
            }),
        ),
        (
            Reason::PeerAddress,
            plain(1),
            route(1, |t, _| t.address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)))),
        ),
    ];
    for (reason, winner, loser) in cases {
        for (first, second) in [(0u16, 1u16), (1, 0)] {
            let mut rib = Rib::new(Decision::default());
            rib.add(first, 0, &winner.0, &winner.1, 0);
            rib.add(second, 0, &loser.0, &loser.1, 0);
            assert_eq!(rib.settle(), Some((SourceId(first), 0)), "{reason:?}");
            assert_eq!(rib.reasons(), [(SourceId(first), reason), (SourceId(second), reason)]);
        }
    }
}

/// The comparisons that are left when all that RFC 4271 has are equal.
#[test]
fn the_last_comparisons_decide_and_say_so_too() {
    let older = Decision {
        prefer_older: true,
        ..Decision::default()
    };
    let (peer, other) = (route(1, |_, _| ()), route(9, |_, _| ()));
    let own = route(1, |t, _| t.kind = SourceKind::Local);
    // By whom and with which path id, since when; the first one wins.
    let cases = [
        (Reason::Older, older, [(&other, 1, 0, 5), (&peer, 0, 0, 6)]),
        (
            Reason::PathId,
            Decision::default(),
            [(&peer, 0, 1, 9), (&peer, 0, 2, 1)],
        ),
        (
            Reason::Protocol,
            Decision::default(),
            [(&own, 0, 0, 9), (&own, 1, 0, 1)],
        ),
    ];
    for (reason, decision, paths) in cases {
        for order in [[0, 1], [1, 0]] {
            let mut rib = Rib::new(decision);
            for at in order {
                let ((traits, learned), source, path_id, since) = paths[at];
                rib.add(source, path_id, traits, learned, since);
            }
            let [winner, loser] = paths.map(|(_, source, path_id, _)| (SourceId(source), path_id));
            assert_eq!(rib.settle(), Some(winner), "{reason:?}");
            assert_eq!(rib.reasons(), [(winner.0, reason), (loser.0, reason)]);
        }
    }
    let mut rib = Rib::new(Decision::default());
    rib.add(3, 0, &peer.0, &peer.1, 0);
    rib.settle();
    assert_eq!(rib.reasons(), [(SourceId(3), Reason::Only)]);
}

#[test]
fn routes_stale_by_restart_are_not_set_back() {
    let mut rib = Rib::new(Decision::default());
    let (winner, loser) = (route(1, |_, _| ()), route(2, |_, _| ()));
    rib.add(0, 0, &winner.0, &winner.1, 0);
    rib.add(1, 0, &loser.0, &loser.1, 0);
    rib.table.mark(SourceId(0), Stale::Restart);
    assert_eq!(rib.settle(), Some((SourceId(0), 0)));
}

#[test]
fn med_counts_only_through_the_same_neighbour() {
    // The classic: pairwise a beats b by router id, b beats c by MED... and c beats a by IGP metric.
    let a = route(1, |_, l| {
        (l.attributes.as_path, l.igp_metric) = (path(&[65001, 7]), Some(30))
    });
    let b = route(2, |_, l| {
        (l.attributes.as_path, l.attributes.med, l.igp_metric) = (path(&[65009, 7]), Some(1), Some(40))
    });
    let c = route(3, |_, l| {
        (l.attributes.as_path, l.attributes.med, l.igp_metric) = (path(&[65009, 7]), Some(2), Some(20))
    });
    let mut rib = Rib::new(Decision::default());
    for (source, route) in (0..).zip([&a, &b, &c]) {
        rib.add(source, 0, &route.0, &route.1, 0);
    }
    assert_eq!(
        rib.settle(),
        Some((SourceId(0), 0)),
        "c is out by MED, then a is nearer than b"
    );
    let expected = [(0, Reason::IgpMetric), (1, Reason::IgpMetric), (2, Reason::Med)];
    assert_eq!(
        rib.reasons(),
        expected.map(|(source, reason)| (SourceId(source), reason))
    );
    let always = Decision {
        always_compare_med: true,
        ..Decision::default()
    };
    rib.decision = always;
    rib.table.touch_all();
    assert_eq!(rib.settle(), Some((SourceId(0), 0)), "no MED is the lowest one");
}

fn any_route() -> impl Strategy<Value = Route> {
    let kind = prop_oneof![
        Just(SourceKind::Local),
        Just(SourceKind::Ebgp),
        Just(SourceKind::Ibgp { client: true })
    ];
    let choice = (
        0u32..2,
        proptest::collection::vec(0u32..3, 0..3),
        0u8..2,
        proptest::option::of(0u32..3),
    );
    (kind, 0u8..3, choice, 0u32..3, 0usize..2).prop_map(|(kind, n, (lp, asns, origin, med), igp, clusters)| {
        let attributes = Attributes {
            local_pref: Some(lp),
            as_path: path(&asns),
            origin: Origin::from_code(origin).unwrap_or_default(),
            med,
            cluster_list: vec![RouterId(9); clusters].into(),
            ..Attributes::default()
        };
        (
            traits(kind, n),
            Learned {
                igp_metric: Some(igp),
                ..learned(attributes)
            },
        )
    })
}

proptest! {
    /// The best path and all reasons depend on the set of paths alone, not on the order in which they came or on what
    /// came and went between.
    #[test]
    fn arrival_order_means_nothing(
        routes in proptest::collection::vec(any_route(), 1..7),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        settle_between in any::<bool>(),
        always_compare_med in any::<bool>(),
    ) {
        let decision = Decision { always_compare_med, ..Decision::default() };
        let mut straight = Rib::new(decision);
        for (source, (traits, learned)) in (0..).zip(&routes) {
            straight.add(source, 0, traits, learned, 0);
        }
        let best = straight.settle();
        prop_assert!(best.is_some());
        let mut shuffled = Rib::new(decision);
        // Adds and removes in any order, then whatever is missing, backwards.
        for index in order {
            let source = index.index(routes.len());
            let (traits, learned) = &routes[source];
            let there = shuffled.table.id(net()).is_some_and(|id| {
                shuffled.table.paths(id).iter().any(|p| usize::from(p.source().0) == source)
            });
            if there {
                shuffled.table.remove(net(), SourceId(source as u16), 0, &mut shuffled.interner);
            } else {
                shuffled.add(source as u16, 0, traits, learned, 0);
            }
            if settle_between {
                shuffled.settle();
            }
        }
        for (source, (traits, learned)) in (0..routes.len() as u16).zip(&routes).rev() {
            shuffled.add(source, 0, traits, learned, 0);
        }
        prop_assert_eq!(shuffled.settle(), best);
        prop_assert_eq!(shuffled.reasons(), straight.reasons());
        // And nothing leaks.
        for source in 0..routes.len() as u16 {
            shuffled.table.remove_where(SourceId(source), &mut shuffled.interner, |_| true);
            prop_assert_eq!(shuffled.table.counts(SourceId(source)).accepted, 0);
        }
        shuffled.settle();
        prop_assert!(shuffled.interner.is_empty());
        let counts = (0..routes.len() as u16).map(|s| shuffled.table.counts(SourceId(s)));
        prop_assert!(counts.into_iter().all(|c| c == Counts::default()));
    }
}

#[test]
fn prefix_numbers_are_reused_when_nobody_needs_them() {
    let mut rib = Rib::new(Decision::default());
    rib.sources[0] = Some(traits(SourceKind::Ebgp, 1));
    let prefix = |i: u32| Prefix4::new(Ipv4Addr::from(i << 8), 24).unwrap();
    let fill = |rib: &mut Rib, from: u32| {
        let received = rib.interner.intern(&learned(Attributes::default()));
        for i in from..from + 1000 {
            let (received, used) = (rib.interner.retain(received), rib.interner.retain(received));
            let new = NewPath {
                source: SourceId(0),
                path_id: 0,
                received,
                imported: Ok(used),
                since: 0,
            };
            assert_eq!(rib.table.insert(prefix(i), new, &mut rib.interner), Inserted::New);
        }
        rib.interner.release(received);
    };
    fill(&mut rib, 0);
    rib.settle();
    rib.table.remove_where(SourceId(0), &mut rib.interner, |_| true);
    rib.settle();
    rib.table.reclaim(|id| id.0 < 10);
    assert_eq!(
        rib.table.len(),
        10,
        "those still announced somewhere keep their numbers"
    );
    fill(&mut rib, 5000);
    let highest = (5000..6000).filter_map(|i| rib.table.id(prefix(i))).max().unwrap();
    assert!(highest.0 < 1010, "{highest:?}");
    assert!(rib.interner.len() == 1);
    rib.table.remove_where(SourceId(0), &mut rib.interner, |_| true);
    rib.settle();
    rib.table.reclaim(|_| false);
    assert_eq!(
        (rib.table.len(), rib.table.numbers()),
        (0, 0),
        "an empty table starts anew"
    );
}

#[test]
fn an_empty_prefix_keeps_its_number_until_others_need_the_room() {
    let mut rib = Rib::new(Decision::default());
    let route = route(1, |_, _| ());
    let prefix = |i: u32| Prefix4::new(Ipv4Addr::from(i << 8), 24).unwrap();
    let tell = |rib: &mut Rib, numbers: std::ops::Range<u32>| {
        for i in numbers {
            rib.add_at(prefix(i), 0, &route.0, &route.1);
        }
        rib.settle();
        rib.table.reclaim(|_| false);
    };
    tell(&mut rib, 0..100);
    let before = rib.table.id(prefix(1));
    for i in 1..100 {
        assert!(rib.table.remove(prefix(i), SourceId(0), 0, &mut rib.interner));
    }
    rib.settle();
    rib.table.reclaim(|_| false);
    tell(&mut rib, 1..2);
    assert_eq!(rib.table.id(prefix(1)), before);
    for round in 1..100 {
        tell(&mut rib, round * 1000..round * 1000 + 2);
    }
    assert!(rib.table.numbers() < 300, "{}", rib.table.numbers());
    assert_eq!(rib.table.size(), (200, 200));
}

/// What happens to a table.
#[derive(Debug, Clone)]
enum Step {
    Told { prefix: u32, source: u16 },
    TakenBack { prefix: u32, source: u16 },
    Settled { used: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    // Few prefixes and often neighbours, so that many come back.
    prop_oneof![
        (0u32..40, 0u16..3).prop_map(|(prefix, source)| Step::Told { prefix, source }),
        (0u32..40, 0u16..3).prop_map(|(prefix, source)| Step::TakenBack { prefix, source }),
        any::<u32>().prop_map(|used| Step::Settled { used }),
    ]
}

proptest! {
    #[test]
    fn a_table_has_what_was_told_and_not_taken_back(steps in proptest::collection::vec(step(), 0..400)) {
        let mut rib = Rib::new(Decision::default());
        let route = route(1, |_, _| ());
        let mut model = std::collections::BTreeSet::new();
        let prefix = |i: u32| Prefix4::new(Ipv4Addr::from(i << 8), 24).unwrap();
        for step in steps {
            match step {
                Step::Told { prefix: at, source } => {
                    rib.add_at(prefix(at), source, &route.0, &route.1);
                    model.insert((at, source));
                }
                Step::TakenBack { prefix: at, source } => {
                    let was = rib.table.remove(prefix(at), SourceId(source), 0, &mut rib.interner);
                    prop_assert_eq!(was, model.remove(&(at, source)));
                }
                Step::Settled { used } => {
                    rib.settle();
                    rib.table.reclaim(|id| used & 1 << (id.0 % 32) != 0);
                }
            }
            let mut known = Vec::new();
            for id in rib.table.ids() {
                prop_assert_eq!(rib.table.id(rib.table.prefix(id)), Some(id));
                let paths = rib.table.paths(id).iter();
                known.extend(paths.map(|path| (u32::from(rib.table.prefix(id).addr()) >> 8, path.source().0)));
            }
            known.sort_unstable();
            prop_assert_eq!(known, model.iter().copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_route_takes_few_octets() {
    assert_eq!(std::mem::size_of::<Path>(), 20);
    // A net with one path and its mark, and the index's share: under 48 octets for IPv4.
    assert_eq!(table::octets_per_net::<Prefix4>(), 32 + 4);
    assert_eq!(table::octets_per_net::<Prefix6>(), 48 + 4);
    assert!(
        std::mem::size_of::<Learned>() <= 248,
        "{}",
        std::mem::size_of::<Learned>()
    );
    assert_eq!(Prefix4::BITS, 32);
}

#[test]
fn a_page_ends_with_its_prefixes_or_with_its_paths() {
    let mut rib = Rib::new(Decision::default());
    let (traits, learned) = route(1, |_, _| ());
    for path_id in 0..9 {
        rib.add(1, path_id, &traits, &learned, 0);
    }
    assert_eq!(rib.table.size(), (1, 9));
    assert_eq!(rib.table.page_end(0, 512, 100), 512);
    assert_eq!(rib.table.page_end(0, 512, 9), 1, "full with the first prefix");
    assert_eq!(
        rib.table.page_end(512, 512, 9),
        1024,
        "beyond the end there is nothing to count"
    );
    rib.table.remove(net(), SourceId(1), 0, &mut rib.interner);
    assert_eq!(rib.table.size(), (1, 8));
    rib.table.remove_where(SourceId(1), &mut rib.interner, |_| true);
    assert_eq!(rib.table.size(), (0, 0));
    assert!(rib.table.ids().next().is_none());
}
