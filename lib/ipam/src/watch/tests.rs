use super::*;
use crate::Want;

const T0: i64 = 1_777_630_000;

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(T0 + minutes * 60).unwrap()
}

fn empty(cidr: &str, owner: Option<&str>) -> Block {
    let mut block = block::claimed(cidr.parse().unwrap(), Owner::Host(node("x")), at(0));
    block.affinity = owner.map(|o| Owner::Host(node(o)));
    block
}

/// Gives an address: handle, node, and what else it says.
fn give(block: &mut Block, handle: &str, of: &str, more: (&str, &str)) -> IpAddr {
    let attributes = [("node", of), more];
    let want = Want {
        handle: handle.to_owned(),
        attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    };
    block::touch(block);
    block::assign(block, &[want], |_| false)[0]
}

/// A cluster in which nothing changes but the time.
struct Cluster {
    blocks: Vec<Block>,
    affinities: Vec<(Owner, Prefix)>,
    handles: Vec<(String, Handle)>,
    live: Vec<IpAddr>,
    pooled: bool,
}

impl Cluster {
    fn of(blocks: Vec<Block>) -> Self {
        let affinities = blocks
            .iter()
            .filter_map(|b| Some((b.affinity.clone()?, b.cidr)))
            .collect();
        Cluster {
            blocks,
            affinities,
            handles: Vec::new(),
            live: Vec::new(),
            pooled: true,
        }
    }

    fn look(&self, watch: &mut Watch, scope: &Scope, minutes: i64) -> Vec<Garbage> {
        let view = View {
            now: at(minutes),
            blocks: self.blocks.iter().collect(),
            affinities: self.affinities.clone(),
            handles: self.handles.iter().map(|(id, h)| (id.clone(), h)).collect(),
            unreadable: BTreeSet::new(),
            is_live: &|ip| self.live.contains(&ip),
            is_pooled: &|_, _| self.pooled,
        };
        watch.look(scope, &view)
    }
}

fn own() -> Scope {
    Scope::Node(node("n1"))
}

const POD: (&str, &str) = ("pod", "web-0");

#[test]
fn an_address_without_its_workload_is_released_after_the_grace_time_and_not_before() {
    let mut block = empty("10.0.0.0/30", Some("n1"));
    let leaked = give(&mut block, "net.a", "n1", POD);
    let live = give(&mut block, "net.b", "n1", POD);
    let mut cluster = Cluster::of(vec![block]);
    cluster.live.push(live);
    let mut watch = Watch::new(DEFAULT_GRACE);
    for minutes in [0, 1, 14] {
        assert_eq!(cluster.look(&mut watch, &own(), minutes), [], "{minutes}");
    }
    let Garbage::Leaked { handle, addresses } = &cluster.look(&mut watch, &own(), 15)[0] else {
        panic!("no leak")
    };
    assert_eq!(
        (handle.as_str(), addresses[0].ip, addresses.len()),
        ("net.a", leaked, 1)
    );
    // Seen alive in between: the time begins anew.
    let mut watch = Watch::new(DEFAULT_GRACE);
    cluster.look(&mut watch, &own(), 0);
    cluster.live.push(leaked);
    cluster.look(&mut watch, &own(), 10);
    cluster.live.pop();
    assert_eq!(cluster.look(&mut watch, &own(), 20), []);
}

#[test]
fn the_same_address_under_another_allocation_is_another_suspect() {
    let mut block = empty("10.0.0.0/32", Some("n1"));
    let ip = give(&mut block, "net.a", "n1", POD);
    let mut cluster = Cluster::of(vec![block]);
    let mut watch = Watch::new(DEFAULT_GRACE);
    cluster.look(&mut watch, &own(), 0);
    block::release(&mut cluster.blocks[0], &[ip], SignedDuration::ZERO, at(5));
    give(&mut cluster.blocks[0], "net.a", "n1", POD);
    assert_eq!(cluster.look(&mut watch, &own(), 16), []);
}

#[test]
fn one_address_in_use_keeps_all_of_its_handles() {
    let mut block = empty("10.0.0.0/30", Some("n1"));
    let live = give(&mut block, "net.a", "n1", POD);
    let mut six = empty("fd00::/126", Some("n1"));
    give(&mut six, "net.a", "n1", POD);
    let mut cluster = Cluster::of(vec![block, six]);
    cluster.live.push(live);
    let mut watch = Watch::new(DEFAULT_GRACE);
    cluster.look(&mut watch, &own(), 0);
    assert_eq!(cluster.look(&mut watch, &own(), 60), []);
    cluster.live.clear();
    cluster.look(&mut watch, &own(), 61);
    let garbage = cluster.look(&mut watch, &own(), 76);
    assert!(
        matches!(&garbage[0], Garbage::Leaked { addresses, .. } if addresses.len() == 2),
        "{garbage:?}"
    );
}

#[test]
fn what_others_allocated_or_says_nothing_of_itself_stays() {
    let mut block = empty("10.0.0.0/29", Some("n1"));
    give(&mut block, "net.of-n2", "n2", POD);
    give(&mut block, "ipip-tunnel-addr-n1", "n1", ("type", "ipipTunnelAddress"));
    give(&mut block, "openstack", "n1", ("port", "1"));
    let cluster = Cluster::of(vec![block]);
    let mut watch = Watch::new(DEFAULT_GRACE);
    cluster.look(&mut watch, &own(), 0);
    assert_eq!(cluster.look(&mut watch, &own(), 600), []);
}

#[test]
fn a_node_that_is_gone_loses_its_tunnels_at_the_second_look_and_its_workloads_after_the_grace_time() {
    let mut block = empty("10.0.0.0/29", Some("gone"));
    give(&mut block, "net.a", "gone", POD);
    give(
        &mut block,
        "ipip-tunnel-addr-gone",
        "gone",
        ("type", "ipipTunnelAddress"),
    );
    give(&mut block, "net.b", "n1", POD);
    let mut cluster = Cluster::of(vec![block]);
    let scope = Scope::Gone([node("n1")].into());
    let mut watch = Watch::new(DEFAULT_GRACE);
    assert_eq!(cluster.look(&mut watch, &scope, 0), []);
    let handles = |garbage: Vec<Garbage>| -> Vec<String> {
        let handle = |g| match g {
            Garbage::Leaked { handle, .. } => handle,
            other => format!("{other:?}"),
        };
        garbage.into_iter().map(handle).collect()
    };
    assert_eq!(handles(cluster.look(&mut watch, &scope, 1)), ["ipip-tunnel-addr-gone"]);
    assert_eq!(
        handles(cluster.look(&mut watch, &scope, 15)),
        ["ipip-tunnel-addr-gone", "net.a"]
    );
    // Its claim goes when its block is empty, and so does one whose block was never made.
    cluster.blocks = vec![empty("10.0.0.0/29", Some("gone"))];
    cluster
        .affinities
        .push((Owner::Host(node("gone")), "10.0.0.8/29".parse().unwrap()));
    cluster
        .affinities
        .push((Owner::Virtual("load-balancer".into()), "10.0.1.0/29".parse().unwrap()));
    assert_eq!(cluster.look(&mut watch, &scope, 16), []);
    let claim = |b: &str| Garbage::GoneClaim(node("gone"), b.parse().unwrap());
    assert_eq!(
        cluster.look(&mut watch, &scope, 17),
        [claim("10.0.0.0/29"), claim("10.0.0.8/29")]
    );
}

#[test]
fn empty_blocks_are_given_up_but_for_one_of_each_family() {
    let blocks = ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30", "fd00::/126"];
    let mut cluster = Cluster::of(blocks.iter().map(|b| empty(b, Some("n1"))).collect());
    let mut watch = Watch::new(DEFAULT_GRACE);
    cluster.look(&mut watch, &own(), 0);
    assert_eq!(cluster.look(&mut watch, &own(), 14), []);
    let idle = |b: &str| Garbage::IdleBlock(node("n1"), b.parse().unwrap());
    assert_eq!(cluster.look(&mut watch, &own(), 15), [idle(blocks[0]), idle(blocks[1])]);
    // Used in between: the time begins anew.
    block::touch(&mut cluster.blocks[0]);
    assert_eq!(cluster.look(&mut watch, &own(), 16), [idle(blocks[1]), idle(blocks[2])]);
    // The pool is deleted, disabled, or no longer selects the node: nothing is kept, and nothing waits.
    cluster.pooled = false;
    let mut watch = Watch::new(DEFAULT_GRACE);
    assert_eq!(cluster.look(&mut watch, &own(), 20), []);
    assert_eq!(cluster.look(&mut watch, &own(), 21).len(), 4);
}

#[test]
fn handles_without_addresses_and_blocks_of_nobody_are_swept_by_the_leader() {
    let mut used = empty("10.0.0.0/30", Some("n1"));
    give(&mut used, "net.a", "n1", POD);
    let mut cluster = Cluster::of(vec![used, empty("10.0.0.4/30", None)]);
    let counting = |cidr: &str| Handle {
        block: [(cidr.parse().unwrap(), 1)].into(),
        ..Handle::default()
    };
    cluster.handles = vec![
        ("net.a".into(), counting("10.0.0.0/30")),
        ("net.lost".into(), counting("10.0.0.0/30")),
        ("net.older".into(), counting("10.0.9.0/30")),
    ];
    let scope = Scope::Gone([node("n1")].into());
    let mut watch = Watch::new(DEFAULT_GRACE);
    let nobodys = Garbage::Unswept("10.0.0.4/30".parse().unwrap());
    assert_eq!(cluster.look(&mut watch, &scope, 0), std::slice::from_ref(&nobodys));
    let empty = |id: &str| Garbage::EmptyHandle(id.into());
    assert_eq!(
        cluster.look(&mut watch, &scope, 15),
        [empty("net.lost"), empty("net.older"), nobodys]
    );
}
