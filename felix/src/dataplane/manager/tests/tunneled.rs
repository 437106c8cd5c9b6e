//! Routes to other nodes' prefixes in pools with a tunnel.

use tortie_calc::{Carriage, LocalTunnel, Pool, Remote, Tunnel, Vtep};
use tortie_model::resource::EncapMode;

use super::*;

const NEAR: &str = "10.244.1.0/26";
const FAR: &str = "10.244.2.0/26";

fn remote(prefix: &str, node: &str, address: &str, (carriage, vtep): (Carriage, Option<&str>)) -> Update {
    let remote = Remote {
        node: node.parse().unwrap(),
        address: Some(ip(address)),
        carriage,
        vtep: vtep.map(ip),
    };
    Update::Remote(p(prefix), Some(remote))
}

fn pool(ipip: EncapMode, vxlan: EncapMode) -> Update {
    let pool = Pool {
        cidr: p("10.244.0.0/16"),
        ipip,
        vxlan,
        nat_outgoing: false,
    };
    Update::Pool("p".into(), Some(pool))
}

fn own_addresses() -> Update {
    Update::NodeAddresses(vec![
        "172.30.0.11/24".parse().unwrap(),
        "fd00:30::11/64".parse().unwrap(),
    ])
}

const V4: Tunnel = Tunnel::VxlanV4;

/// A pool with VXLAN across subnets; n2 is near, n3 is far.
fn cross_subnet(vtep: Option<&str>) -> Vec<Input> {
    let updates = vec![
        own_addresses(),
        pool(EncapMode::Never, EncapMode::CrossSubnet),
        remote(NEAR, "n2", "172.30.0.12", (Carriage::SameSubnet(V4), None)),
        remote(FAR, "n3", "172.30.1.13", (Carriage::Tunnel(V4), vtep)),
    ];
    vec![Input::Desired(updates)]
}

const NEAR_ROUTE: &str = "10.244.1.0/26 via 172.30.0.12 dev eth0 proto 80 onlink";
const FAR_ROUTE: &str = "10.244.2.0/26 via 10.244.2.1 dev vxlan.calico proto boot onlink";

#[test]
fn routes_of_vxlan_pools_are_calicos() {
    let mut node = Node::synced();
    node.give(cross_subnet(None));
    assert_eq!(node.ours(), [NEAR_ROUTE]);
    let waits = node.row(FAR);
    assert_eq!(
        (waits.state, waits.class),
        (RowState::Withheld, RouteClass::VxlanTunnel)
    );
    assert_eq!(waits.reason, "Node(n3) has no VXLAN tunnel address (yet)");
    node.give(cross_subnet(Some("10.244.2.1")));
    assert_eq!(node.row(FAR).reason, "interface vxlan.calico does not exist");
    node.kernel.set_interface(7, "vxlan.calico", true);
    node.work();
    assert_eq!(node.ours(), [NEAR_ROUTE, FAR_ROUTE]);
    // Whatever happens to the device, the route comes back with it.
    node.kernel.remove_interface(7);
    node.work();
    assert_eq!(node.ours(), [NEAR_ROUTE]);
    node.kernel.set_interface(8, "vxlan.calico", false);
    node.work();
    assert_eq!(node.row(FAR).reason, "interface vxlan.calico is down");
    node.kernel.set_interface(8, "vxlan.calico", true);
    node.work();
    assert_eq!(node.ours(), [NEAR_ROUTE, FAR_ROUTE]);

    let mut again = node.restarted();
    again.work();
    again.give(cross_subnet(Some("10.244.2.1")));
    again.give([Input::DatastoreSynced { live: true }, fib_in_sync()]);
    assert_eq!(again.kernel.take_applied(), [], "a restart changes nothing");
    again.give([Input::Desired(vec![Update::Remote(p(FAR), None)])]);
    assert_eq!(again.ours(), [NEAR_ROUTE]);
}

#[test]
fn a_tunnels_end_may_be_an_address_that_was_borrowed() {
    let mut node = Node::synced();
    node.kernel.set_interface(7, "vxlan.calico", true);
    let end = remote(
        "10.244.1.9/32",
        "n3",
        "172.30.1.13",
        (Carriage::Tunnel(V4), Some("10.244.1.9")),
    );
    let pool = pool(EncapMode::Never, EncapMode::Always);
    node.give([Input::Desired(vec![own_addresses(), pool, end])]);
    assert_eq!(node.ours(), ["10.244.1.9 dev vxlan.calico proto boot scope link"]);
}

#[test]
fn the_ends_of_ipv6_tunnels_have_routes_of_their_own() {
    let mut node = Node::synced();
    node.kernel.set_interface(7, "vxlan-v6.calico", true);
    node.work();
    let vtep = Vtep {
        address: ip("fd00:244::1"),
        mac: [2; 6],
        host: ip("fd00:31::13"),
    };
    let n3 = || "n3".parse().unwrap();
    let device = LocalTunnel {
        host: None,
        address: None,
        mac: None,
    };
    let tunnel = (Carriage::Tunnel(Tunnel::VxlanV6), Some("fd00:244::1"));
    node.give([Input::Desired(vec![
        own_addresses(),
        Update::Vtep(Tunnel::VxlanV6, n3(), Some(vtep)),
        remote("fd00:244::/122", "n3", "fd00:31::13", tunnel),
    ])]);
    let block = "fd00:244::/122 via fd00:244::1 dev vxlan-v6.calico proto boot metric 1024 onlink";
    assert_eq!(node.ours(), [block], "no pool wants the device");
    node.give([Input::Desired(vec![Update::Tunnel(Tunnel::VxlanV6, Some(device))])]);
    let end = "fd00:244::1 dev vxlan-v6.calico proto boot metric 1024";
    assert_eq!(node.ours(), [block, end]);
    node.give([Input::Desired(vec![Update::Vtep(Tunnel::VxlanV6, n3(), None)])]);
    assert_eq!(node.ours(), [block]);
}

const BGP_ROUTE: &str = "10.244.1.0/26 via 172.30.0.12 dev eth0 proto bird metric 1024";

#[test]
fn a_route_stays_until_the_class_that_takes_over_has_its_own() {
    let plain = || Input::Desired(vec![remote(NEAR, "n2", "172.30.0.12", (Carriage::Plain, None))]);
    let tunneled = |vtep| Input::Desired(vec![remote(NEAR, "n2", "172.30.0.12", (Carriage::Tunnel(V4), vtep))]);
    let withdrawn = || Input::Fib(vec![Delta::Delete(p(NEAR))]);
    let end = Some("10.244.1.1");
    let vxlan = "10.244.1.0/26 via 10.244.1.1 dev vxlan.calico proto boot onlink";
    let mut node = Node::synced();
    let pool = pool(EncapMode::Never, EncapMode::Always);
    node.give([
        Input::Desired(vec![own_addresses(), pool]),
        plain(),
        learn(NEAR, &["172.30.0.12"]),
    ]);
    assert_eq!(node.ours(), [BGP_ROUTE]);
    node.give([tunneled(None)]);
    node.give([withdrawn()]);
    assert_eq!(node.ours(), [BGP_ROUTE], "the tunnel is not there yet");
    node.kernel.set_interface(7, "vxlan.calico", true);
    node.give([tunneled(end)]);
    assert_eq!(node.ours(), [vxlan]);
    node.give([plain()]);
    assert_eq!(node.ours(), [vxlan], "BGP has said nothing yet");
    node.give([learn(NEAR, &["172.30.0.12"])]);
    assert_eq!(node.ours(), [BGP_ROUTE]);
    // A change that is none of the kind holds nothing.
    node.give([plain(), withdrawn()]);
    assert_eq!(node.ours(), [""; 0]);
    // Nothing is held for ever, nor when the prefix is nobody's.
    node.give([tunneled(end), plain()]);
    node.wait(Duration::from_secs(29));
    assert_eq!(node.ours(), [vxlan]);
    assert!(node.manager.next_deadline(node.now).is_some());
    node.wait(Duration::from_secs(2));
    assert_eq!(node.ours(), [""; 0]);
    node.give([
        tunneled(end),
        plain(),
        Input::Desired(vec![Update::Remote(p(NEAR), None)]),
    ]);
    assert_eq!(node.ours(), [""; 0]);
}

#[test]
fn routes_of_bgp_go_through_tunl0_in_ipip_pools() {
    use EncapMode::{Always, CrossSubnet, Never};
    let mut node = Node::synced();
    let mode = |ipip| Input::Desired(vec![own_addresses(), pool(ipip, Never)]);
    node.give([
        mode(Always),
        learn(NEAR, &["172.30.0.12"]),
        learn(FAR, &["172.30.1.13"]),
    ]);
    let outside = "198.51.100.0/24 via 172.30.0.1 dev eth0 proto bird metric 1024";
    node.give([learn("198.51.100.0/24", &["172.30.0.1"])]);
    assert_eq!(node.ours(), [outside]);
    assert_eq!(node.row(FAR).reason, "interface tunl0 does not exist");
    node.kernel.set_interface(7, "tunl0", true);
    node.work();
    let near = "10.244.1.0/26 via 172.30.0.12 dev tunl0 proto bird metric 1024 onlink";
    let far = "10.244.2.0/26 via 172.30.1.13 dev tunl0 proto bird metric 1024 onlink";
    assert_eq!(node.ours(), [near, far, outside]);
    node.give([mode(CrossSubnet)]);
    assert_eq!(node.ours(), [BGP_ROUTE, far, outside]);
    node.give([mode(Never)]);
    let routed = "10.244.2.0/26 via 172.30.0.1 dev eth0 proto bird metric 1024";
    assert_eq!(node.ours(), [BGP_ROUTE, routed, outside], "as the network routes");
}

#[test]
fn the_other_end_is_the_node_that_has_the_prefix_and_not_the_router_on_the_way() {
    let mut node = Node::synced();
    node.kernel.set_interface(7, "tunl0", true);
    let block = |carriage| remote(FAR, "n3", "172.30.1.13", (carriage, None));
    let pool = pool(EncapMode::CrossSubnet, EncapMode::Never);
    node.give([
        Input::Desired(vec![own_addresses(), pool, block(Carriage::Tunnel(Tunnel::Ipip))]),
        learn(FAR, &["172.30.0.1"]),
    ]);
    let far = "10.244.2.0/26 via 172.30.1.13 dev tunl0 proto bird metric 1024 onlink";
    assert_eq!(node.ours(), [far], "the router is in our subnet, n3 is not");
    node.give([Input::Desired(vec![block(Carriage::SameSubnet(Tunnel::Ipip))])]);
    let plain = "10.244.2.0/26 via 172.30.0.1 dev eth0 proto bird metric 1024";
    assert_eq!(node.ours(), [plain]);
}
