//! The largest packets: of the node's links, of tunnels, of workloads. Pure.

use std::net::IpAddr;

use tortie_calc::Tunnel;
use tortie_netlink::link::Link;

/// When no interface tells another.
const DEFAULT: u32 = 1500;
/// IPv6 works below no smaller one (RFC 8200), and IPv4 hosts take less only in theory.
const MIN: u32 = 1280;

/// Is it a network card by its name? Calico's default `mtuIfacePattern`:
/// `^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)`.
pub(crate) fn is_card(name: &str) -> bool {
    let kernels = ["eth", "wlan", "wwan"];
    let predictable = ["en", "wl", "ww", "sl", "ib"];
    let has_place = |rest: &str| rest.starts_with(['P', 'c', 'o', 'p', 's', 'v', 'x']);
    let named = |prefix: &&str| name.strip_prefix(prefix).is_some_and(has_place);
    kernels.iter().any(|k| name.starts_with(k)) || predictable.iter().any(named)
}

/// What every link that packets may leave by carries: the smallest MTU of the network cards and of the interfaces with the
/// node's own addresses. An address on the loopback interface says nothing of what leaves the node.
pub(crate) fn of_host(links: &[Link], own: &[IpAddr]) -> u32 {
    let has_own = |l: &Link| l.addresses.iter().any(|(a, _)| own.contains(a));
    let outward = links.iter().filter(|l| !l.loopback && (is_card(&l.name) || has_own(l)));
    outward.map(|l| l.mtu).min().unwrap_or(DEFAULT)
}

/// What a tunnel over these links carries: what it is told to, else what fits.
pub(crate) fn of_tunnel(host: u32, tunnel: Tunnel, told: Option<u32>) -> u32 {
    told.unwrap_or_else(|| host.saturating_sub(tunnel.overhead()).max(MIN.min(host)))
}

/// What a workload may send, wherever it goes: what the narrowest of the tunnels in use carries.
pub(crate) fn of_workloads(host: u32, tunnels: impl IntoIterator<Item = (Tunnel, Option<u32>)>) -> u32 {
    let tunnels = tunnels.into_iter().map(|(t, told)| of_tunnel(host, t, told));
    tunnels.min().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use tortie_netlink::fake;

    use super::*;

    fn link(name: &str, mtu: u32, address: Option<&str>) -> Link {
        let address = address.map(|a| format!("{a}/32"));
        let addresses: Vec<&str> = address.iter().map(String::as_str).collect();
        Link {
            mtu,
            loopback: name == "lo",
            ..fake::link(1, name, &addresses)
        }
    }

    #[test]
    fn the_narrowest_way_out_counts() {
        let own: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap()];
        let (lo, pod) = (link("lo", 65536, Some("10.0.0.1")), link("cali1", 1200, None));
        assert_eq!(of_host(&[lo.clone(), pod.clone()], &own), 1500, "nothing tells");
        let bond = link("bond0", 9000, Some("10.0.0.1"));
        assert_eq!(of_host(&[lo.clone(), pod.clone(), bond.clone()], &own), 9000);
        let all = [lo, pod, bond, link("enp3s0", 4000, None), link("eth1", 8000, None)];
        assert_eq!(of_host(&all, &own), 4000);
    }

    #[test]
    fn tunnels_take_their_headers() {
        let vxlan = [(Tunnel::VxlanV4, None), (Tunnel::VxlanV6, None)];
        assert_eq!(of_workloads(1500, []), 1500);
        assert_eq!(of_workloads(1500, [(Tunnel::Ipip, None)]), 1480);
        assert_eq!(of_workloads(1500, vxlan), 1430);
        assert_eq!(of_workloads(9000, [(Tunnel::VxlanV4, None)]), 8950);
        assert_eq!(of_tunnel(1300, Tunnel::VxlanV6, None), 1280, "no less than IPv6 needs");
        assert_eq!(
            of_tunnel(600, Tunnel::VxlanV4, None),
            600,
            "and no more than the link has"
        );
        assert_eq!(of_tunnel(1500, Tunnel::VxlanV4, Some(1400)), 1400, "what it is told");
        assert_eq!(
            of_workloads(1500, [(Tunnel::VxlanV4, Some(1300)), (Tunnel::Ipip, None)]),
            1300
        );
    }

    #[test]
    fn cards_by_their_names() {
        for card in [
            "eth0", "enp3s0", "eno1", "ens4", "enx0012", "wlan0", "ibp5s0", "enP2p1s0",
        ] {
            assert!(is_card(card), "{card}");
        }
        for other in [
            "lo",
            "cali123",
            "tunl0",
            "vxlan.calico",
            "docker0",
            "en",
            "enable",
            "br-1",
            "veth0",
        ] {
            assert!(!is_card(other), "{other}");
        }
    }
}
