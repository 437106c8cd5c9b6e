//! What is done to a kernel, and what never is.

use tortie_netlink::fake;

use super::*;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn link(index: u32, name: &str, kind: Option<&str>, addresses: &[&str]) -> Link {
    Link {
        kind: kind.map(str::to_owned),
        ..fake::link(index, name, addresses)
    }
}

const MAC: [u8; 6] = [0x66, 1, 2, 3, 4, 5];
const OTHER: [u8; 6] = [0x66, 9, 9, 9, 9, 9];

fn wanted(tunnel: Tunnel) -> Wanted {
    let local = LocalTunnel {
        host: Some(ip("10.0.0.1")),
        address: Some(ip("10.244.0.1")),
        mac: (tunnel != Tunnel::Ipip).then_some(MAC),
    };
    let vtep = Vtep {
        address: ip("10.244.1.1"),
        mac: OTHER,
        host: ip("10.0.0.2"),
    };
    Wanted {
        known: true,
        live: true,
        tunnels: [(tunnel, local)].into(),
        vteps: [((Tunnel::VxlanV4, "n2".parse().unwrap()), vtep)].into(),
        own: vec![ip("10.0.0.1")],
        pools: vec!["10.244.0.0/16".parse().unwrap()],
        settings: Settings::default(),
    }
}

fn eth0() -> Link {
    link(2, "eth0", None, &["10.0.0.1/24"])
}

fn vxlan() -> Vxlan {
    made_of(&wanted(Tunnel::VxlanV4), &eth0(), ip("10.0.0.1"))
}

/// A kernel with the device as it shall be.
fn whole() -> Seen {
    let mut device = link(7, "vxlan.calico", Some("vxlan"), &["10.244.0.1/32", "fe80::1/64"]);
    (device.mtu, device.mac) = (1450, Some(MacAddr(MAC)));
    let its = SeenVxlan {
        made_of: vxlan(),
        fdb: [FdbEntry {
            mac: MacAddr(OTHER),
            host: ip("10.0.0.2"),
        }]
        .into(),
        neighbours: [Neighbour {
            address: ip("10.244.1.1"),
            mac: MacAddr(OTHER),
        }]
        .into(),
    };
    Seen {
        links: vec![eth0(), device],
        vxlan: [(Tunnel::VxlanV4, its)].into(),
    }
}

fn objects(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::object).collect()
}

#[test]
fn a_device_that_is_as_it_shall_be_is_left_alone() {
    let plan = plan(&wanted(Tunnel::VxlanV4), &whole(), |_| true);
    assert_eq!(plan, Plan::default(), "a restart changes nothing");
}

#[test]
fn a_device_is_made_when_the_node_knows_itself() {
    let mut want = wanted(Tunnel::VxlanV4);
    let mut seen = Seen::default();
    assert!(plan(&want, &seen, |_| true).waiting[0].1.contains("no interface has"));
    seen.links.push(eth0());
    let made = plan(&want, &seen, |_| true).steps;
    assert_eq!(made, [Step::CreateVxlan(Tunnel::VxlanV4, vxlan(), MacAddr(MAC), 1450)]);
    want.tunnels.get_mut(&Tunnel::VxlanV4).unwrap().host = None;
    let none = plan(&want, &seen, |_| true);
    assert!(none.steps.is_empty() && none.waiting[0].1.contains("no address of the family"));
}

#[test]
fn drift_is_repaired_step_by_step() {
    let mut seen = whole();
    let device = &mut seen.links[1];
    (device.mtu, device.mac, device.up) = (1400, Some(MacAddr(OTHER)), false);
    device.addresses = vec![(ip("10.244.0.9"), "10.244.0.9/32".parse().unwrap())];
    let its = seen.vxlan.get_mut(&Tunnel::VxlanV4).unwrap();
    its.fdb = [FdbEntry {
        mac: MacAddr(MAC),
        host: ip("10.0.0.3"),
    }]
    .into();
    its.neighbours.clear();
    let mut want = wanted(Tunnel::VxlanV4);
    let repairs = [
        "vxlan.calico address 66:01:02:03:04:05",
        "vxlan.calico 66:09:09:09:09:09 dst 10.0.0.2",
        "vxlan.calico 10.244.1.1 lladdr 66:09:09:09:09:09",
        "vxlan.calico 66:01:02:03:04:05 dst 10.0.0.3 (removal)",
        "vxlan.calico mtu 1450",
        "vxlan.calico address 10.244.0.1",
        "vxlan.calico address 10.244.0.9 (removal)",
        "vxlan.calico up",
    ];
    assert_eq!(objects(&plan(&want, &seen, |_| true)), repairs);
    want.live = false;
    let careful = objects(&plan(&want, &seen, |_| true));
    assert!(careful.iter().all(|o| !o.contains("removal")), "{careful:?}");
    assert_eq!(careful.len(), 6);
}

#[test]
fn a_device_of_other_parts_is_made_anew_once_the_datastore_is_known_for_sure() {
    let mut seen = whole();
    seen.vxlan.get_mut(&Tunnel::VxlanV4).unwrap().made_of.vni = 1;
    let mut want = wanted(Tunnel::VxlanV4);
    let again = objects(&plan(&want, &seen, |_| true));
    assert_eq!(again, ["device vxlan.calico (removal)", "device vxlan.calico"]);
    want.live = false;
    assert!(plan(&want, &seen, |_| true).steps.is_empty());
}

#[test]
fn what_nobody_wants_goes_when_its_time_has_come() {
    let mut want = wanted(Tunnel::VxlanV4);
    want.tunnels.clear();
    assert!(plan(&want, &whole(), |_| false).steps.is_empty());
    assert_eq!(
        plan(&want, &whole(), |_| true).steps,
        [Step::RemoveDevice(Tunnel::VxlanV4)]
    );
    want.live = false;
    assert!(
        plan(&want, &whole(), |_| true).steps.is_empty(),
        "a snapshot is no reason"
    );
}

#[test]
fn an_interface_that_only_has_the_name_is_not_touched() {
    let mut seen = whole();
    seen.links[1].kind = Some("dummy".into());
    seen.vxlan.clear();
    let mut want = wanted(Tunnel::VxlanV4);
    let foreign = plan(&want, &seen, |_| true);
    assert!(foreign.steps.is_empty());
    assert!(foreign.waiting[0].1.contains("no such tunnel but dummy"), "{foreign:?}");
    want.tunnels.clear();
    assert!(plan(&want, &seen, |_| true).steps.is_empty());
}

#[test]
fn tunl0_is_shared() {
    let want = wanted(Tunnel::Ipip);
    let mut seen = Seen {
        links: vec![eth0()],
        ..Seen::default()
    };
    assert_eq!(plan(&want, &seen, |_| true).steps, [Step::CreateIpip]);
    let mut tunl0 = link(3, "tunl0", Some("ipip"), &["192.0.2.1/32", "10.244.0.9/32"]);
    (tunl0.up, tunl0.mtu) = (false, 1480);
    seen.links.push(tunl0);
    let steps = objects(&plan(&want, &seen, |_| true));
    assert_eq!(
        steps,
        [
            "tunl0 address 10.244.0.1",
            "tunl0 address 10.244.0.9 (removal)",
            "tunl0 up"
        ],
        "somebody else's address stays"
    );
    let mut without = want;
    without.tunnels.clear();
    let steps = objects(&plan(&without, &seen, |_| true));
    assert_eq!(steps, ["tunl0 address 10.244.0.9 (removal)"], "and so does the device");
}
