//! What other speakers have options for and BIRD's language says with filters, and where our own routes come from.

use super::Network;
use super::sessions::node;
use crate::speaker::Input;

/// Three in a row, in ASes of their own unless said; the middle one tells the last with this channel.
fn row(first: u32, middle: &str, last: u32) -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, first, &[(2, 64512, "")]));
    net.start(1, "10.0.0.2", &node(2, 64512, &[(1, first, ""), (3, last, middle)]));
    net.start(2, "10.0.0.3", &node(3, last, &[(2, 64512, "")]));
    net.seconds(40);
    net
}

fn path(net: &Network, prefix: &str) -> Option<String> {
    Some(net.best(2, prefix)?.attributes.as_path.to_string())
}

#[test]
fn private_numbers_are_taken_out_by_a_filter() {
    let strip = "import all; export filter { bgp_path.delete([64513..65534, 4200000000..4294967294]); accept; };|";
    let net = row(64600, strip, 3333);
    assert_eq!(path(&net, "10.1.0.0/24").unwrap(), "64512");
    let net = row(64600, "", 3333);
    assert_eq!(path(&net, "10.1.0.0/24").unwrap(), "64512 64600");
}

#[test]
fn sites_that_share_a_number_reach_each_other_by_a_filter_or_by_allowing_it() {
    let net = row(64600, "", 64600);
    assert_eq!(path(&net, "10.1.0.0/24"), None, "a loop, as it looks");
    let as_override = "import all; export filter { bgp_path.delete(64600); bgp_path.prepend(64512); accept; };|";
    let net = row(64600, as_override, 64600);
    assert_eq!(path(&net, "10.1.0.0/24").unwrap(), "64512 64512");
}

#[test]
fn one_router_may_have_another_number_towards_each_peer() {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &node(1, 64600, &[(2, 64999, "")]));
    let middle = node(2, 64512, &[(1, 64600, ""), (3, 3333, "")]).replacen("as 64512", "as 64999", 1);
    net.start(1, "10.0.0.2", &middle);
    net.start(2, "10.0.0.3", &node(3, 3333, &[(2, 64512, "")]));
    net.seconds(40);
    assert_eq!(path(&net, "10.1.0.0/24").unwrap(), "64512 64600");
    let back = net.best(0, "10.3.0.0/24").unwrap();
    assert_eq!(back.attributes.as_path.to_string(), "64999 3333");
}

#[test]
fn subnets_of_the_host_are_announced_while_they_are_there() {
    let mut net = Network::default();
    let with_direct = node(1, 64600, &[(2, 64512, "")]) + "protocol direct { ipv4; ipv6; interface \"dummy*\"; }\n";
    net.start(0, "10.0.0.1", &with_direct);
    net.start(1, "10.0.0.2", &node(2, 64512, &[(1, 64600, "")]));
    net.seconds(30);
    let before = net.node(0).speaker.addresses.to_vec();
    let mut addresses = before.clone();
    for (address, subnet) in [("10.44.0.1", "10.44.0.0/24"), ("fd44::1", "fd44::/64")] {
        let mut more = before[0].clone();
        more.interface = "dummy0".into();
        more.address = address.parse().unwrap();
        more.subnet = subnet.parse().unwrap();
        addresses.push(more);
    }
    net.input(0, Input::Interfaces(addresses));
    net.seconds(2);
    for prefix in ["10.44.0.0/24", "fd44::/64"] {
        assert_eq!(
            net.best(1, prefix).unwrap().attributes.as_path.to_string(),
            "64600",
            "{prefix}"
        );
    }
    assert!(net.best(1, "10.0.0.0/24").is_none(), "of another interface");
    net.input(0, Input::Interfaces(before));
    net.seconds(2);
    assert!(net.best(1, "10.44.0.0/24").is_none() && net.best(1, "fd44::/64").is_none());
}
