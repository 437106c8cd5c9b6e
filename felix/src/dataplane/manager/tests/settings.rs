//! What FelixConfiguration says of routes.

use tortie_calc::{Floating, Settings};

use super::*;

fn settings(change: impl FnOnce(&mut Settings)) -> Input {
    let mut settings = Settings::default();
    change(&mut settings);
    Input::Desired(vec![Update::Settings(Box::new(settings))])
}

fn with_protocol(protocol: u8) -> Input {
    settings(|s| s.device_route_protocol = protocol)
}

fn floats(ip: &str, interface: Option<&str>) -> Input {
    let floating = interface.map(|i| Floating {
        interface: i.into(),
        to: "10.244.0.5".parse().unwrap(),
    });
    Input::Desired(vec![Update::Floating(ip.parse().unwrap(), floating)])
}

/// Workload, own block: what the settings' number is given to.
fn protocols(node: &Node) -> Vec<u8> {
    let ours = node.kernel.all_routes().into_iter();
    let of_pools = ours.filter(|r| p("10.244.0.0/16").covers(r.prefix));
    of_pools.map(|r| r.protocol.0).collect()
}

#[test]
fn the_protocol_number_changes_in_place_and_is_known_after_a_restart() {
    let wishes = || [own_block("10.244.0.0/26"), told("cali1", "10.244.0.5")];
    let mut node = Node::synced();
    node.give(wishes());
    assert_eq!(protocols(&node), [80, 3]);
    node.kernel.take_applied();
    node.give([with_protocol(99)]);
    assert_eq!(protocols(&node), [99, 99]);
    let replaced = node.kernel.take_applied();
    assert!(replaced.iter().all(|c| matches!(c, Change::Replace(_))), "{replaced:?}");

    let mut node = node.restarted();
    node.give([with_protocol(99)]);
    node.give(wishes());
    node.give([Input::DatastoreSynced { live: true }, fib_in_sync()]);
    assert_eq!(node.kernel.take_applied(), [], "they are known as ours");
    node.give([settings(|_| ())]);
    assert_eq!(protocols(&node), [80, 3], "and still are when the number is another");
}

#[test]
fn routes_of_others_to_workloads_stay_unless_they_are_to_go() {
    let mut external = pod("10.244.0.77/32", 3);
    (external.protocol, external.metric) = (Protocol::STATIC, 0);
    let elsewhere = via("10.9.0.0/16", "172.30.0.9", Protocol::STATIC, 0);
    for stays in [false, true] {
        let mut node = Node::new();
        node.kernel.put(external.clone());
        node.kernel.put(elsewhere.clone());
        node.give([settings(|s| s.remove_external_routes = !stays)]);
        let there = |node: &Node| node.kernel.all_routes().contains(&external);
        assert!(there(&node), "not before the datastore is in sync");
        node.give([Input::DatastoreSynced { live: true }, fib_in_sync()]);
        assert_eq!(there(&node), stays);
        assert!(node.kernel.all_routes().contains(&elsewhere));
        node.give([settings(|s| s.remove_external_routes = true)]);
        assert!(!there(&node));
    }
}

#[test]
fn without_ipv6_no_route_of_it_is_ours() {
    let mut node = Node::synced();
    node.kernel.add_address(2, "fd30::11/64");
    let mut up = told("cali1", "10.244.0.5");
    if let Input::Up(endpoint) = &mut up {
        endpoint.ips.push(ip("fd00::5"));
    }
    node.give([up, own_block("fd00::/122"), learn("fd00:1::/64", &["fd30::12"])]);
    assert_eq!(node.ours().len(), 4);
    node.give([settings(|s| s.ipv6 = false)]);
    assert_eq!(node.ours().len(), 1);
    assert_eq!(node.manager.endpoint_is_up("cali1"), Ok(()));
    node.give([settings(|_| ())]);
    assert_eq!(node.ours().len(), 4);
}

#[test]
fn a_floating_address_leads_to_the_interface_and_no_peer_takes_it() {
    let mut node = Node::synced();
    node.give([told("cali1", "10.244.0.5"), floats("192.0.2.7", Some("cali1"))]);
    let there = |node: &Node| node.kernel.all_routes().contains(&pod("192.0.2.7/32", 3));
    assert!(there(&node));
    node.give([learn("192.0.2.7/32", &["172.30.0.12"])]);
    assert!(there(&node));
    assert_eq!(node.manager.summary().refused.len(), 1);
    node.kernel.set_interface(3, "cali1", false);
    node.work();
    node.kernel.set_interface(3, "cali1", true);
    node.work();
    assert!(there(&node), "it comes back with its interface");
    node.give([floats("192.0.2.7", None)]);
    assert!(!there(&node), "and the peer may have it");
    assert_eq!(node.row("192.0.2.7/32").class, RouteClass::Bgp);
}

#[test]
fn how_often_the_kernel_is_looked_at_is_a_setting() {
    let mut node = Node::synced();
    assert_eq!(node.manager.refresh(), Some(Duration::from_secs(300)));
    node.give([settings(|s| s.refresh.routes = None)]);
    assert_eq!(node.manager.refresh(), None);
}
