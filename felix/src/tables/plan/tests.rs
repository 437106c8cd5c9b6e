use super::*;

fn wanted(pools: &[(&str, bool)]) -> Wanted {
    Wanted {
        known: true,
        live: true,
        pools: pools.iter().map(|(p, nat)| (p.parse().unwrap(), *nat)).collect(),
        hosts: ["172.30.0.11", "172.30.0.12", "fd30::11"]
            .map(|h| h.parse().unwrap())
            .into(),
        ..Wanted::default()
    }
}

fn names(wanted: &Wanted) -> Vec<String> {
    wanted.tables().keys().map(ToString::to_string).collect()
}

fn members(table: &Table, name: &str) -> Vec<String> {
    let set = table.sets.iter().find(|s| s.name == name).unwrap();
    set.members.iter().map(ToString::to_string).collect()
}

#[test]
fn a_table_is_there_when_something_needs_it() {
    assert_eq!(names(&wanted(&[("10.244.0.0/16", false)])), [""; 0]);
    assert_eq!(names(&wanted(&[("10.244.0.0/16", true)])), ["table ip tortie-nat"]);
    let both = wanted(&[("10.244.0.0/16", false), ("fd00::/48", true)]);
    assert_eq!(names(&both), ["table ip6 tortie-nat"]);
    let mut tunnels = wanted(&[]);
    tunnels.tunnels = [Tunnel::Ipip].into();
    assert_eq!(names(&tunnels), ["table ip tortie-tunnels"]);
    tunnels.tunnels = [Tunnel::VxlanV6].into();
    assert_eq!(names(&tunnels), ["table ip6 tortie-tunnels"]);
    let every: BTreeSet<TableId> = ALL.into();
    tunnels.tunnels = Tunnel::ALL.into();
    tunnels.pools = wanted(&[("10.244.0.0/16", true), ("fd00::/48", true)]).pools;
    let tables = tunnels.tables();
    assert_eq!(tables.keys().copied().collect::<BTreeSet<_>>(), every);
    assert!(every.iter().all(|id| id.name.starts_with(OURS)));
}

#[test]
fn every_pool_is_a_destination_that_keeps_its_source() {
    let wanted = wanted(&[("10.244.0.0/16", true), ("10.99.0.0/24", false), ("fd00::/48", true)]);
    let tables = wanted.tables();
    let v4 = &tables[&of(Family::V4, NAT)];
    assert_eq!(members(v4, "nat-pools"), ["10.244.0.0/16"]);
    assert_eq!(members(v4, "pools"), ["10.99.0.0/24", "10.244.0.0/16"]);
    assert_eq!(v4.chains[0].rules.len(), 1);
    assert_eq!(v4.chains[0].rules[0].last(), Some(&Step::Masquerade(None)));
    assert_eq!(members(&tables[&of(Family::V6, NAT)], "pools"), ["fd00::/48"]);
}

#[test]
fn settings_of_translation_count_in_their_family() {
    let mut wanted = wanted(&[("10.244.0.0/16", true), ("fd00::/48", true)]);
    let outside = "192.0.2.9".parse().unwrap();
    wanted.settings.nat = Nat {
        address: Some(outside),
        ports: Some((5000, 6000)),
        spares_nodes: true,
        interface: Some("eth+".into()),
    };
    let tables = wanted.tables();
    let (v4, v6) = (&tables[&of(Family::V4, NAT)], &tables[&of(Family::V6, NAT)]);
    let last = |t: &Table| -> Vec<Step> { t.chains[0].rules.iter().map(|r| r.last().unwrap().clone()).collect() };
    let ports = Some((5000, 6000));
    assert_eq!(
        last(v4),
        [
            Step::Source(outside, ports),
            Step::Source(outside, ports),
            Step::Source(outside, None)
        ]
    );
    assert_eq!(
        last(v6),
        [Step::Masquerade(ports), Step::Masquerade(ports), Step::Masquerade(None)]
    );
    assert_eq!(members(v4, "nodes"), ["172.30.0.11/32", "172.30.0.12/32"]);
    assert_eq!(members(v6, "nodes"), ["fd30::11/128"]);
    assert_eq!(v4.chains[0].rules[0][1], Step::Is(b"eth".to_vec()));
}

#[test]
fn tunnels_take_packets_of_nodes_and_of_hosts_that_are_named() {
    let mut wanted = wanted(&[]);
    wanted.tunnels = [Tunnel::Ipip, Tunnel::VxlanV4].into();
    wanted.settings.external_nodes = ["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()].into();
    let id = of(Family::V4, TUNNELS);
    let table = &wanted.tables()[&id];
    assert_eq!(
        members(table, "nodes"),
        ["172.30.0.11/32", "172.30.0.12/32", "192.0.2.0/24"]
    );
    let counts = |t: &Table| t.chains.iter().map(|c| (c.name, c.rules.len())).collect::<Vec<_>>();
    assert_eq!(counts(table), [("input", 2), ("forward", 2)]);
    wanted.settings.workloads_send_ipip = true;
    assert_eq!(counts(&wanted.tables()[&id]), [("input", 2), ("forward", 1)]);
    wanted.tunnels.remove(&Tunnel::VxlanV4);
    assert_eq!(counts(&wanted.tables()[&id]), [("input", 1), ("forward", 0)]);
}

/// Where a document cannot be read, what it wanted is not taken away.
#[test]
fn what_is_unknown_is_no_absence() {
    let mut wanted = wanted(&[("10.244.0.0/16", true)]);
    let certain = |w: &Wanted| ALL.map(|id| w.is_certain(id));
    assert_eq!(certain(&wanted), [true; 4]);
    wanted.unknown = [Kind::Node].into();
    assert_eq!(certain(&wanted), [true, true, false, false]);
    wanted.settings.nat.spares_nodes = true;
    assert_eq!(certain(&wanted), [false; 4]);
    wanted.unknown = [Kind::WorkloadEndpoint].into();
    assert_eq!(certain(&wanted), [true; 4]);
    wanted.unknown = [Kind::IpPool].into();
    assert_eq!(certain(&wanted), [false; 4]);
    wanted.unknown.clear();
    wanted.live = false;
    assert_eq!(certain(&wanted), [false; 4]);
}

#[test]
fn what_goes_to_a_floating_address_goes_to_its_workload() {
    let mut wanted = wanted(&[("10.244.0.0/16", false)]);
    let ip = |s: &str| -> IpAddr { s.parse().unwrap() };
    wanted.floating = [(ip("192.0.2.7"), ip("10.244.0.5")), (ip("2001:db8::7"), ip("fd00::5"))].into();
    let tables = wanted.tables();
    assert_eq!(names(&wanted), ["table ip tortie-nat", "table ip6 tortie-nat"]);
    for (family, octets, to) in [(Family::V4, 4, "10.244.0.5"), (Family::V6, 16, "fd00::5")] {
        let table = &tables[&of(family, NAT)];
        let hooks: Vec<Hook> = table.chains.iter().map(|c| c.hook).collect();
        assert_eq!(hooks, [Hook::Prerouting, Hook::Output, Hook::Postrouting]);
        for chain in &table.chains[..2] {
            let [rule] = chain.rules.as_slice() else {
                panic!("{chain:?}")
            };
            assert!(matches!(&rule[1], Step::Is(o) if o.len() == octets), "{rule:?}");
            assert_eq!(rule.last(), Some(&Step::Destination(ip(to))));
        }
        assert_eq!(
            table.chains[2].rules.len(),
            2,
            "back to itself, and what leaves the pools"
        );
    }
    wanted.settings.ipv6 = false;
    assert_eq!(names(&wanted), ["table ip tortie-nat"]);
    wanted.floating.clear();
    assert_eq!(names(&wanted), [""; 0]);
}
