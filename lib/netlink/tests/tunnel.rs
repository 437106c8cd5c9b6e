//! A VXLAN device and its peers, in a real namespace, whose name begins with `tt-`.

#![allow(clippy::unwrap_used)]

mod named;

use std::net::IpAddr;
use std::time::Duration;

use tortie_netlink::link::MacAddr;
use tortie_netlink::request::Connection;
use tortie_netlink::touch::Touches;
use tortie_netlink::tunnel::{FdbEntry, Neighbour, Vxlan};

use named::Named;

const MAC: MacAddr = MacAddr([0x66, 1, 2, 3, 4, 5]);
const PEER: MacAddr = MacAddr([0x66, 9, 8, 7, 6, 5]);

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

/// The device on a dummy with an address of this family; its peers are written, read back, replaced, removed.
fn a_device_and_its_peers(topic: &str, local: &str, hosts: [&str; 2], inside: [&str; 2]) {
    let ns = Named::new(topic);
    ns.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    let length = if local.contains(':') { 64 } else { 24 };
    ns.ip(&["addr", "add", &format!("{local}/{length}"), "dev", "eth0"]);
    ns.ip(&["link", "set", "eth0", "up"]);
    let mut c = ns.open().run(|| Connection::open().unwrap()).unwrap();
    let parent = c.link("eth0").unwrap().unwrap().index;
    let made_of = Vxlan {
        vni: 4096,
        port: 4789,
        parent,
        local: ip(local),
        learning: false,
    };
    assert_eq!(c.vxlan("vxlan.calico").unwrap(), None);
    c.create_vxlan("vxlan.calico", &made_of, MAC, 1400).unwrap();
    assert!(
        c.create_vxlan("vxlan.calico", &made_of, MAC, 1400)
            .unwrap_err()
            .is_exists()
    );
    assert_eq!(c.vxlan("vxlan.calico").unwrap(), Some(made_of));
    assert_eq!(c.vxlan("eth0").unwrap(), None, "no VXLAN device");

    let link = c.link("vxlan.calico").unwrap().unwrap();
    assert_eq!(
        (link.kind.as_deref(), link.mac, link.mtu),
        (Some("vxlan"), Some(MAC), 1400)
    );
    let index = link.index;
    c.set_mtu(index, 1380).unwrap();
    c.set_mac(index, PEER).unwrap();
    let link = c.link("vxlan.calico").unwrap().unwrap();
    assert_eq!((link.mac, link.mtu), (Some(PEER), 1380));
    c.set_up(index).unwrap();

    let [near, far] = hosts.map(ip);
    let entry = |host| FdbEntry { mac: PEER, host };
    c.set_fdb(index, entry(near)).unwrap();
    assert_eq!(c.fdb(index).unwrap(), [entry(near)]);
    c.set_fdb(index, entry(far)).unwrap();
    assert_eq!(c.fdb(index).unwrap(), [entry(far)], "in its place");
    c.remove_fdb(index, entry(near)).unwrap();
    c.remove_fdb(index, entry(far)).unwrap();
    assert_eq!(c.fdb(index).unwrap(), []);

    let [own, other] = inside.map(ip);
    let neighbour = Neighbour {
        address: other,
        mac: PEER,
    };
    c.set_neighbour(index, other, PEER).unwrap();
    assert_eq!(c.permanent_neighbours(index, other.is_ipv4()).unwrap(), [neighbour]);
    c.remove_neighbour(index, other).unwrap();
    c.remove_neighbour(index, other).unwrap();
    assert_eq!(c.permanent_neighbours(index, other.is_ipv4()).unwrap(), []);

    let len = if own.is_ipv4() { 32 } else { 128 };
    let addresses = |c: &mut Connection| {
        let links = c.links().unwrap();
        let device = links.into_iter().find(|l| l.index == index).unwrap();
        device.addresses.iter().any(|(a, _)| *a == own)
    };
    c.add_address(index, own, len).unwrap();
    assert!(addresses(&mut c));
    c.remove_address(index, own, len).unwrap();
    c.remove_address(index, own, len).unwrap();
    assert!(!addresses(&mut c));
    assert!(c.remove_link("vxlan.calico").unwrap());
}

#[test]
fn a_vxlan_device_over_ipv4() {
    a_device_and_its_peers(
        "vx4",
        "10.0.0.1",
        ["10.0.0.2", "10.0.1.3"],
        ["10.244.0.1", "10.244.1.1"],
    );
}

#[test]
fn a_vxlan_device_over_ipv6() {
    a_device_and_its_peers("vx6", "fd00::1", ["fd00::2", "fd01::3"], ["fd10::1", "fd11::1"]);
}

#[test]
fn what_is_touched_is_told() {
    let ns = Named::new("touch");
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut touches = Touches::open().unwrap();
            ns.ip(&["link", "add", "eth7", "type", "veth", "peer", "name", "other"]);
            ns.ip(&["link", "set", "eth7", "up"]);
            ns.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth7"]);
            ns.ip(&["neigh", "add", "10.0.0.2", "lladdr", "66:01:02:03:04:05", "dev", "eth7"]);
            let index = Connection::open().unwrap().link("eth7").unwrap().unwrap().index;
            let all = async {
                let (mut named, mut addressed) = (false, false);
                while !(named && addressed) {
                    let touched = touches.next().await.unwrap();
                    assert!(!touched.anything);
                    named |= touched.names.contains("eth7") && touched.interfaces.contains(&index);
                    addressed |= touched.addresses.contains(&ip("10.0.0.1"));
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all)
                .await
                .expect("told of the link and its address");
            ns.ip(&["neigh", "del", "10.0.0.2", "dev", "eth7"]);
            let gone = async { while !touches.next().await.unwrap().interfaces.contains(&index) {} };
            tokio::time::timeout(Duration::from_secs(20), gone)
                .await
                .expect("told of the neighbour");
        });
    };
    ns.open().run(work).unwrap();
}
