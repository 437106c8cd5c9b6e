//! A pod's interface, made in real namespaces: names begin with `tt-` and are removed also when a test fails.

#![allow(clippy::unwrap_used)]

mod named;

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use tortie_net::Prefix;
use tortie_netlink::link::{MacAddr, VethPair};
use tortie_netlink::netns::{Netns, NetnsError};
use tortie_netlink::request::Connection;
use tortie_netlink::sysctl::Sysctl;

use named::Named;

const MAC: MacAddr = MacAddr([0xee; 6]);

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

#[test]
fn a_veth_pair_is_born_in_two_namespaces_and_carries_packets() {
    let (host, pod) = (Named::new("host"), Named::new("pod"));
    let (host_ns, pod_ns) = (host.open(), pod.open());
    let mut connection = host_ns.run(|| Connection::open().unwrap()).unwrap();
    let pair = VethPair {
        name: "cali0123456789a",
        mac: MAC,
        peer_name: "eth0",
        peer_netns: &pod_ns,
        mtu: 1400,
    };
    connection.create_veth(&pair).unwrap();
    let again = connection.create_veth(&pair).unwrap_err();
    assert!(again.is_exists(), "{again}");

    let link = connection.link("cali0123456789a").unwrap().unwrap();
    assert_eq!(
        (link.mac, link.mtu, link.up, link.kind.as_deref()),
        (Some(MAC), 1400, false, Some("veth"))
    );
    assert_eq!(connection.link("eth0").unwrap(), None, "the peer is in the pod alone");
    host.ip(&["link", "property", "add", "dev", "cali0123456789a", "altname", "other"]);
    assert_eq!(
        connection.link("other").unwrap(),
        None,
        "an alternative name is none of ours"
    );
    connection.set_up(link.index).unwrap();
    connection.add_address(link.index, ip("169.254.1.1"), 32).unwrap();
    connection
        .set_device_route(link.index, "10.9.0.2/32".parse::<Prefix>().unwrap())
        .unwrap();

    let pod_mac = pod_ns
        .run(|| {
            let mut inside = Connection::open().unwrap();
            let eth0 = inside.link("eth0").unwrap().unwrap();
            assert_eq!(eth0.mtu, 1400);
            inside.set_up(eth0.index).unwrap();
            inside.add_address(eth0.index, ip("10.9.0.2"), 32).unwrap();
            inside.add_address(eth0.index, ip("10.9.0.2"), 32).unwrap(); // again is fine
            inside.add_address(eth0.index, ip("fd00::2"), 128).unwrap();
            inside
                .set_device_route(eth0.index, "169.254.1.1/32".parse().unwrap())
                .unwrap();
            inside
                .set_gateway_route(eth0.index, "0.0.0.0/0".parse().unwrap(), ip("169.254.1.1"))
                .unwrap();
            assert!(inside.has_default_via(ip("169.254.1.1")).unwrap());
            assert!(!inside.has_default_via(ip("fe80::1")).unwrap());
            Sysctl::interface(["ipv4", "conf"], "eth0", "forwarding")
                .unwrap()
                .write("0")
                .unwrap();
            let links = inside.links().unwrap();
            let addresses = &links.iter().find(|l| l.name == "eth0").unwrap().addresses;
            assert!(
                addresses.contains(&(ip("10.9.0.2"), "10.9.0.2/32".parse().unwrap())),
                "{addresses:?}"
            );
            eth0.mac.unwrap()
        })
        .unwrap();
    connection.set_neighbour(link.index, ip("10.9.0.2"), pod_mac).unwrap();
    let neighbours = host.ip(&["neigh", "show"]);
    assert!(
        neighbours.contains(&format!("10.9.0.2 dev cali0123456789a lladdr {pod_mac} PERMANENT")),
        "{neighbours}"
    );
    assert!(pod.ip(&["route"]).contains("default via 169.254.1.1 dev eth0"));
    assert!(pod.ip(&["-6", "addr"]).contains("fd00::2/128"));

    let ping = Command::new("ip")
        .args(["netns", "exec", &pod.0, "ping", "-c1", "-W2", "-n", "169.254.1.1"])
        .output()
        .unwrap();
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));

    assert!(connection.remove_link("cali0123456789a").unwrap());
    assert!(!connection.remove_link("cali0123456789a").unwrap());
    let left = pod_ns
        .run(|| Connection::open().unwrap().link("eth0").unwrap())
        .unwrap();
    assert_eq!(left, None, "both ends go");
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    let (a, b) = (Named::new("sys-a"), Named::new("sys-b"));
    let forwarding = Sysctl::global("net/ipv4/ip_forward");
    a.open().run(|| forwarding.write("1").unwrap()).unwrap();
    b.open().run(|| forwarding.write("0").unwrap()).unwrap();
    assert_eq!(a.open().run(|| forwarding.read().unwrap()).unwrap(), "1");
    assert_eq!(b.open().run(|| forwarding.read().unwrap()).unwrap(), "0");
}

#[test]
fn a_removed_namespace_is_named() {
    let path = {
        let gone = Named::new("gone");
        format!("/run/netns/{}", gone.0)
    };
    assert!(matches!(Netns::open(&path), Err(NetnsError::Missing(p)) if p.to_str() == Some(&path)));
}

#[test]
fn what_is_sent_at_once_arrives() {
    let (host, pod) = (Named::new("first"), Named::new("first-pod"));
    let (host_ns, pod_ns) = (host.open(), pod.open());
    let mut connection = host_ns.run(|| Connection::open().unwrap()).unwrap();
    for round in 0..30 {
        let pair = VethPair {
            name: "cali0",
            mac: MAC,
            peer_name: "eth0",
            peer_netns: &pod_ns,
            mtu: 1500,
        };
        connection.create_veth(&pair).unwrap();
        let index = connection.link("cali0").unwrap().unwrap().index;
        host.ip(&["address", "add", "10.9.0.1/24", "dev", "cali0"]);
        pod.ip(&["address", "add", "10.9.0.2/24", "dev", "eth0"]);
        connection.set_up(index).unwrap();
        let (mac, hears) = pod_ns
            .run(|| {
                let mut inside = Connection::open().unwrap();
                let link = inside.link("eth0").unwrap().unwrap();
                let hears = UdpSocket::bind("10.9.0.2:7").unwrap();
                inside.set_up(link.index).unwrap();
                (link.mac.unwrap(), hears)
            })
            .unwrap();
        connection.activate(index).unwrap();
        connection.set_neighbour(index, ip("10.9.0.2"), mac).unwrap();
        let speaks = host_ns.run(|| UdpSocket::bind("10.9.0.1:0").unwrap()).unwrap();
        speaks.send_to(b"first", "10.9.0.2:7").unwrap();
        hears.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut octets = [0; 16];
        let heard = hears.recv(&mut octets);
        assert_eq!(heard.ok(), Some(5), "round {round}: the first packet is lost");
        connection.remove_link("cali0").unwrap();
    }
    assert!(connection.activate(9999).is_err(), "there is no such interface");
}
