//! Resolution in cases, and against a model that looks at everything each time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn rule(recursive: bool) -> Arc<Rule> {
    Arc::new(Rule {
        recursive,
        igp: Igp::KERNEL,
        peer: Some("10.0.0.2".parse().unwrap()),
        interface: None,
        cost: 0,
        ..Rule::RECURSIVE
    })
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn via(metric: u32, gateways: &[(&str, &str)]) -> Option<KernelRoute> {
    let gateway = |(address, interface): &(&str, &str)| Gateway {
        address: (!address.is_empty()).then(|| addr(address)),
        interface: Arc::from(*interface),
        weight: 1,
        onlink: false,
    };
    Some(KernelRoute {
        metric,
        gateways: gateways.iter().map(gateway).collect(),
    })
}

/// `metric: gateway%interface ..`, or what else it is.
fn shown(resolved: &Resolved) -> String {
    match resolved {
        Resolved::Assumed => "assumed".to_owned(),
        Resolved::Unreachable => "unreachable".to_owned(),
        Resolved::Reached { metric, hops } => {
            let hops: Vec<String> = hops
                .iter()
                .map(|hop| {
                    let interface = hop.interface.as_deref().unwrap_or("?");
                    format!("{}%{interface}", hop.address.unwrap())
                })
                .collect();
            format!("{metric}: {}", hops.join(" "))
        }
    }
}

#[test]
fn the_longest_match_resolves_and_only_those_it_concerns_change() {
    let mut hops = NextHops::default();
    let recursive = rule(true);
    let near = hops.id(addr("10.0.0.9"), &recursive);
    let far = hops.id(addr("192.0.2.1"), &recursive);
    let v6 = hops.id(addr("fd00::1"), &recursive);
    assert_eq!(hops.id(addr("192.0.2.1"), &rule(true)), far, "equal rules are one");
    assert_eq!(shown(hops.get(far)), "assumed");
    assert!(hops.take_changes().is_none());

    let link = (prefix("10.0.0.0/24"), via(0, &[("", "eth0")]));
    let default = (prefix("0.0.0.0/0"), via(100, &[("10.0.0.1", "eth0")]));
    hops.kernel(true, vec![link, default]);
    assert_eq!(shown(hops.get(near)), "0: 10.0.0.9%eth0");
    assert_eq!(shown(hops.get(far)), "100: 10.0.0.1%eth0", "a default route resolves");
    assert_eq!(shown(hops.get(v6)), "unreachable");
    assert!(
        hops.take_changes()
            .is_some_and(|c| c.has(near) && c.has(far) && c.has(v6))
    );

    hops.kernel(
        false,
        vec![(
            prefix("192.0.2.0/24"),
            via(20, &[("10.0.0.3", "eth0"), ("10.1.0.3", "eth1")]),
        )],
    );
    assert_eq!(shown(hops.get(far)), "20: 10.0.0.3%eth0 10.1.0.3%eth1");
    assert!(
        hops.take_changes()
            .is_some_and(|c| c.has(far) && !c.has(near) && !c.has(v6))
    );

    for route in [None, via(7, &[("10.0.0.7", "eth0")])] {
        hops.kernel(false, vec![(prefix("0.0.0.0/0"), route)]);
        assert!(!hops.is_changed(), "covering routes come and go unnoticed");
    }
    hops.kernel(false, vec![(prefix("192.0.2.1/32"), via(0, &[]))]);
    assert_eq!(shown(hops.get(far)), "unreachable", "a blackhole is no way");
    hops.kernel(
        false,
        vec![(prefix("192.0.2.1/32"), None), (prefix("192.0.2.0/24"), None)],
    );
    assert_eq!(shown(hops.get(far)), "7: 10.0.0.7%eth0", "back to the covering route");
}

#[test]
fn direct_next_hops_are_on_a_link() {
    let mut hops = NextHops::default();
    hops.kernel(true, vec![(prefix("0.0.0.0/0"), via(0, &[("10.0.0.1", "eth0")]))]);
    let link = |net: &str, name: &str| (prefix(net), Arc::from(name));
    hops.set_links(vec![link("10.0.0.0/24", "eth0"), link("10.1.0.0/24", "eth1")]);
    let direct = rule(false);
    let near = hops.id(addr("10.1.0.9"), &direct);
    let far = hops.id(addr("192.0.2.1"), &direct);
    let scoped = Arc::new(Rule {
        cost: 5,
        interface: Some("eth1".into()),
        ..(*direct).clone()
    });
    let elsewhere = hops.id(addr("10.0.0.9"), &scoped);
    let link_local = hops.id(addr("fe80::1"), &scoped);
    let by_peer = hops.id(addr("fe80::1"), &direct);
    assert_eq!(shown(hops.get(near)), "0: 10.1.0.9%eth1");
    assert_eq!(shown(hops.get(far)), "unreachable", "no route is asked");
    assert_eq!(
        shown(hops.get(elsewhere)),
        "unreachable",
        "neither is on that interface"
    );
    assert_eq!(shown(hops.get(link_local)), "5: fe80::1%eth1");
    assert_eq!(shown(hops.get(by_peer)), "0: fe80::1%eth0");
    hops.set_links(vec![link("10.1.0.0/24", "eth1")]);
    assert!(
        hops.take_changes()
            .is_some_and(|c| c.has(by_peer) && !c.has(far) && !c.has(near) && !c.has(link_local))
    );
}

#[test]
fn a_gateway_beyond_every_link_is_on_the_link_by_decree() {
    let mut hops = NextHops::default();
    let mut route = via(3, &[("169.254.1.1", "eth0")]);
    if let Some(route) = &mut route {
        route.gateways[0].onlink = true;
    }
    hops.kernel(true, vec![(prefix("0.0.0.0/0"), route)]);
    let far = hops.id(addr("192.0.2.1"), &rule(true));
    let Resolved::Reached { metric: 3, hops } = hops.get(far) else {
        panic!("{:?}", hops.get(far));
    };
    let [hop] = &**hops else { panic!("{hops:?}") };
    assert_eq!(
        (hop.address, hop.interface.as_deref(), hop.onlink),
        (Some(addr("169.254.1.1")), Some("eth0"), true)
    );
}

#[test]
fn what_nobody_uses_is_swept_and_its_number_used_again() {
    let mut hops = NextHops::default();
    let recursive = rule(true);
    let ids: Vec<HopId> = (0..200)
        .map(|n| hops.id(IpAddr::V4(Ipv4Addr::from_bits(n)), &recursive))
        .collect();
    assert!(hops.wants_sweep());
    hops.sweep(ids[..10].iter().copied());
    assert_eq!(hops.len(), 10);
    assert!(!hops.wants_sweep());
    let again = hops.id(addr("203.0.113.1"), &recursive);
    assert!(ids[10..].contains(&again));
    assert_eq!(hops.id(IpAddr::V4(Ipv4Addr::from_bits(3)), &recursive), ids[3]);
}

/// What the model does: looks at every route for each question.
fn model(routes: &BTreeMap<Prefix, KernelRoute>, address: IpAddr, rule: &Rule) -> Resolved {
    let longest = routes
        .iter()
        .filter(|(p, _)| p.contains(address))
        .max_by_key(|(p, _)| p.len());
    longest.map_or(Resolved::Unreachable, |(_, route)| through(route, address, rule))
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u32),
    Change(u32, u8, Option<u32>),
    Complete(Vec<(u32, u8, u32)>),
    Sweep,
}

fn network(bits: u32, len: u8) -> Prefix {
    Prefix::new(IpAddr::V4(Ipv4Addr::from_bits(bits << 28)), len).unwrap()
}

fn gateways(n: u32) -> Option<KernelRoute> {
    match n {
        0 => via(n, &[]),
        n if n < 4 => via(n, &[("", "eth0")]),
        n => via(n, &[("10.0.0.1", "eth1"), ("10.0.0.2", "eth2")]),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few distinct bits, so that prefixes nest and next hops are in several of them.
    let step = prop_oneof![
        4 => (0u32..16).prop_map(Step::Ask),
        6 => (0u32..16, 0u8..=5, proptest::option::of(0u32..6)).prop_map(|(b, l, n)| Step::Change(b, l, n)),
        1 => proptest::collection::vec((0u32..16, 0u8..=5, 0u32..6), 0..6).prop_map(Step::Complete),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn step_by_step_is_as_good_as_from_scratch(steps in steps()) {
        let mut hops = NextHops::default();
        hops.kernel(true, Vec::new());
        let recursive = rule(true);
        let mut routes = BTreeMap::new();
        let mut asked: BTreeMap<IpAddr, HopId> = BTreeMap::new();
        for step in steps {
            let before: BTreeMap<HopId, Resolved> = asked.values().map(|id| (*id, hops.get(*id).clone())).collect();
            match step {
                Step::Ask(bits) => {
                    let address = IpAddr::V4(Ipv4Addr::from_bits(bits << 28));
                    let id = hops.id(address, &recursive);
                    prop_assert_eq!(*asked.entry(address).or_insert(id), id);
                }
                Step::Change(bits, len, n) => {
                    let (net, route) = (network(bits, len), n.and_then(gateways));
                    hops.kernel(false, vec![(net, route.clone())]);
                    match route {
                        Some(route) => drop(routes.insert(net, route)),
                        None => drop(routes.remove(&net)),
                    }
                }
                Step::Complete(all) => {
                    let all: Vec<_> = all.into_iter().map(|(b, l, n)| (network(b, l), gateways(n))).collect();
                    hops.kernel(true, all.clone());
                    routes = all.into_iter().filter_map(|(net, route)| Some((net, route?))).collect();
                }
                Step::Sweep => {
                    let mut at = 0;
                    asked.retain(|_, _| {
                        at += 1;
                        at % 2 == 0
                    });
                    hops.sweep(asked.values().copied());
                    prop_assert_eq!(hops.len(), asked.len());
                }
            }
            let changes = hops.take_changes();
            for (address, id) in &asked {
                prop_assert_eq!(hops.get(*id), &model(&routes, *address, &Rule::RECURSIVE), "{}", address);
                if let Some(before) = before.get(id) {
                    let told = changes.as_ref().is_some_and(|changes| changes.has(*id));
                    prop_assert_eq!(told, before != hops.get(*id), "{} is told exactly when it changed", address);
                }
            }
        }
    }
}

#[test]
fn a_link_local_address_beside_the_global_one_is_the_gateway_on_its_link_alone() {
    let mut hops = NextHops::default();
    let (near, far) = (addr("fd00::9"), addr("fd01::9"));
    let beside = Some("fe80::9".parse().unwrap());
    let rule = Arc::new(Rule::RECURSIVE);
    let global = Arc::new(Rule {
        prefer_global: true,
        ..Rule::RECURSIVE
    });
    let ids = [
        hops.id(near, &rule.with_link_local(beside)),
        hops.id(far, &rule.with_link_local(beside)),
        hops.id(near, &rule.with_link_local(None)),
        hops.id(near, &global.with_link_local(beside)),
    ];
    hops.kernel(
        true,
        vec![
            (prefix("fd00::/64"), via(0, &[("", "eth0")])),
            (prefix("fd01::/64"), via(0, &[("fd00::1", "eth0")])),
        ],
    );
    let reached = ids.map(|id| shown(hops.get(id)));
    let by = |gateway: &str| format!("0: {gateway}%eth0");
    assert_eq!(reached, [by("fe80::9"), by("fd00::1"), by("fd00::9"), by("fd00::9")]);
}
