//! Encapsulation: which packets to other nodes travel in a tunnel, and what the tunnels' ends are.
//!
//! The decisions are Calico's, so that nodes of both agree: a pool says `Never`, `Always` or `CrossSubnet`, and
//! `CrossSubnet` looks at the other node's address and this node's own mask (the length in `spec.bgp.ipv4Address`). A
//! VTEP's hardware address that its Node does not tell is derived from the node's name, alike on every node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use sha1::{Digest, Sha1};
use tortie_model::InterfaceAddr;
use tortie_model::resource::{EncapMode, IpPoolSpec, Node};

use crate::desired::Pool;

/// A tunnel device of a node. VXLAN has one for each family of addresses inside; IPIP carries IPv4 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// `tunl0`.
    Ipip,
    /// `vxlan.calico`.
    VxlanV4,
    /// `vxlan-v6.calico`.
    VxlanV6,
}

impl Tunnel {
    /// Every one.
    pub const ALL: [Tunnel; 3] = [Tunnel::Ipip, Tunnel::VxlanV4, Tunnel::VxlanV6];

    /// The device's name, which is Calico's.
    pub fn device(self) -> &'static str {
        match self {
            Tunnel::Ipip => "tunl0",
            Tunnel::VxlanV4 => "vxlan.calico",
            Tunnel::VxlanV6 => "vxlan-v6.calico",
        }
    }

    /// Are the addresses inside it, and of its ends, IPv4?
    pub fn is_v4(self) -> bool {
        self != Tunnel::VxlanV6
    }

    /// What its headers take of a packet, in octets.
    pub fn overhead(self) -> u32 {
        match self {
            Tunnel::Ipip => 20,
            Tunnel::VxlanV4 => 50,
            Tunnel::VxlanV6 => 70,
        }
    }
}

/// How packets to a prefix of another node travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// As they are, along routes that BGP brings: no pool, or one without encapsulation.
    Plain,
    /// As they are although the pool has this tunnel: the node is in this node's subnet.
    SameSubnet(Tunnel),
    /// In this tunnel.
    Tunnel(Tunnel),
}

impl Carriage {
    /// The device that packets need.
    pub fn tunnel(self) -> Option<Tunnel> {
        match self {
            Carriage::Tunnel(tunnel) => Some(tunnel),
            Carriage::Plain | Carriage::SameSubnet(_) => None,
        }
    }
}

/// The end of another node's VXLAN tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// The tunnel device's address: the next hop of routes.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The node's own address, to which packets are sent.
    pub host: IpAddr,
}

/// A tunnel device that this node shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTunnel {
    /// The node's own address, from which packets are sent; `None`: not known (yet).
    pub host: Option<IpAddr>,
    /// The device's address; `None`: none was allocated (yet).
    pub address: Option<IpAddr>,
    /// The device's hardware address, if it is Ethernet's.
    pub mac: Option<[u8; 6]>,
}

/// What matters of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) addresses: Vec<InterfaceAddr>,
    /// Every address that is known of it, sorted.
    pub(crate) known: Vec<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
    ends: [Option<IpAddr>; 3],
    macs: [[u8; 6]; 3],
}

impl NodeFacts {
    pub(crate) fn of(name: &str, node: &Node) -> Self {
        let (bgp, spec) = (node.spec.bgp.as_ref(), &node.spec);
        let addresses = bgp.into_iter().flat_map(|b| [b.ipv4_address, b.ipv6_address]);
        let v4 = |a: Option<Ipv4Addr>| a.map(IpAddr::from);
        let mac = |told: &Option<String>, v4: bool| {
            let told = told.as_deref().and_then(parse_mac);
            told.unwrap_or_else(|| vtep_mac(name, v4))
        };
        let addresses: Vec<InterfaceAddr> = addresses.flatten().collect();
        let listed = spec.addresses.iter().filter_map(|a| {
            let address = a.address.split('/').next()?;
            address.parse().ok()
        });
        let known: BTreeSet<IpAddr> = addresses.iter().map(|a| a.addr).chain(listed).collect();
        NodeFacts {
            addresses,
            known: known.into_iter().collect(),
            labels: node.metadata.labels.clone(),
            ends: [
                v4(bgp.and_then(|b| b.ipv4_ipip_tunnel_addr)),
                v4(spec.ipv4_vxlan_tunnel_addr),
                spec.ipv6_vxlan_tunnel_addr.map(IpAddr::from),
            ],
            macs: [
                [0; 6],
                mac(&spec.vxlan_tunnel_mac_addr, true),
                mac(&spec.vxlan_tunnel_mac_addr_v6, false),
            ],
        }
    }

    /// The node's own address of a family.
    pub(crate) fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().map(|a| a.addr).find(|a| a.is_ipv4() == v4)
    }

    /// The end of its VXLAN tunnel, when all of it is known.
    pub(crate) fn vtep(&self, tunnel: Tunnel) -> Option<Vtep> {
        if tunnel == Tunnel::Ipip {
            return None;
        }
        Some(Vtep {
            address: self.ends[tunnel as usize]?,
            mac: self.macs[tunnel as usize],
            host: self.address(tunnel.is_v4())?,
        })
    }

    /// The device it shall have.
    pub(crate) fn local(&self, tunnel: Tunnel) -> LocalTunnel {
        LocalTunnel {
            host: self.address(tunnel.is_v4()),
            address: self.ends[tunnel as usize],
            mac: (tunnel != Tunnel::Ipip).then_some(self.macs[tunnel as usize]),
        }
    }
}

/// How packets from `own` to a prefix of this pool at a node with this address travel.
pub fn carriage(pool: Option<&Pool>, own: &[InterfaceAddr], remote: Option<IpAddr>) -> Carriage {
    let Some((tunnel, mode)) = pool.and_then(Pool::tunnel) else {
        return Carriage::Plain;
    };
    let near = |ip: IpAddr| own.iter().any(|a| a.network().contains(ip));
    match mode {
        EncapMode::CrossSubnet if remote.is_some_and(near) => Carriage::SameSubnet(tunnel),
        EncapMode::CrossSubnet | EncapMode::Always => Carriage::Tunnel(tunnel),
        EncapMode::Never => Carriage::Plain,
    }
}

impl Pool {
    /// Of a pool's specification.
    pub fn of(spec: &IpPoolSpec) -> Self {
        Pool {
            cidr: spec.cidr,
            ipip: spec.ipip_mode(),
            vxlan: spec.vxlan_mode(),
            nat_outgoing: spec.nat_outgoing,
        }
    }

    /// Its tunnel, and when packets go through it. `None`: never.
    pub fn tunnel(&self) -> Option<(Tunnel, EncapMode)> {
        let vxlan = if self.cidr.is_v4() {
            Tunnel::VxlanV4
        } else {
            Tunnel::VxlanV6
        };
        let both = [(vxlan, self.vxlan), (Tunnel::Ipip, self.ipip)];
        let fits =
            |(tunnel, mode): &(Tunnel, EncapMode)| *mode != EncapMode::Never && tunnel.is_v4() == self.cidr.is_v4();
        both.into_iter().find(fits)
    }
}

/// The hardware address of a node's VXLAN device when its Node tells none: locally administered, of the name's digest.
fn vtep_mac(node: &str, v4: bool) -> [u8; 6] {
    let mut digest = Sha1::new();
    digest.update(node);
    digest.update(if v4 { "" } else { "-v6" });
    let [a, b, c, d, e, ..]: [u8; 20] = digest.finalize().into();
    [0x66, a, b, c, d, e]
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let octet = |part: &str| match part.len() {
        2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
        _ => None,
    };
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    octets?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, ipip: EncapMode, vxlan: EncapMode) -> Pool {
        Pool {
            cidr: cidr.parse().unwrap(),
            ipip,
            vxlan,
            nat_outgoing: false,
        }
    }

    #[test]
    fn cross_subnet_looks_at_our_own_mask_alone() {
        use EncapMode::{Always, CrossSubnet, Never};
        let own: Vec<InterfaceAddr> = vec!["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        let ip = |s: &str| Some(s.parse().unwrap());
        let (near, far) = (ip("10.0.0.2"), ip("10.0.1.3"));
        let v4 = |ipip, vxlan| pool("10.244.0.0/16", ipip, vxlan);
        for (pool, remote, want) in [
            (v4(Never, Never), far, Carriage::Plain),
            (v4(Always, Never), near, Carriage::Tunnel(Tunnel::Ipip)),
            (v4(CrossSubnet, Never), near, Carriage::SameSubnet(Tunnel::Ipip)),
            (v4(CrossSubnet, Never), far, Carriage::Tunnel(Tunnel::Ipip)),
            (v4(Never, Always), near, Carriage::Tunnel(Tunnel::VxlanV4)),
            (v4(Never, CrossSubnet), near, Carriage::SameSubnet(Tunnel::VxlanV4)),
            (v4(Never, CrossSubnet), far, Carriage::Tunnel(Tunnel::VxlanV4)),
            (v4(Never, CrossSubnet), None, Carriage::Tunnel(Tunnel::VxlanV4)),
        ] {
            assert_eq!(carriage(Some(&pool), &own, remote), want, "{pool:?} {remote:?}");
        }
        let v6 = pool("fd10::/48", Never, CrossSubnet);
        assert_eq!(
            carriage(Some(&v6), &own, ip("fd00::2")),
            Carriage::SameSubnet(Tunnel::VxlanV6)
        );
        assert_eq!(
            carriage(Some(&v6), &own, ip("fd01::2")),
            Carriage::Tunnel(Tunnel::VxlanV6)
        );
        assert_eq!(carriage(None, &own, near), Carriage::Plain);
        // A node registered as a host of its own takes everybody for remote.
        let host = ["10.0.0.1/32".parse().unwrap()];
        assert_eq!(
            carriage(Some(&v4(Never, CrossSubnet)), &host, near),
            Carriage::Tunnel(Tunnel::VxlanV4)
        );
    }

    #[test]
    fn hardware_addresses_follow_from_names_alike_on_every_node() {
        assert_eq!(vtep_mac("n1", true), [0x66, 0x40, 0xb3, 0xea, 0xb6, 0x3f]);
        assert_eq!(vtep_mac("n1", false), [0x66, 0x46, 0x32, 0x55, 0x72, 0x28]);
        assert_eq!(parse_mac("66:00:0a:Ff:01:02"), Some([0x66, 0, 10, 255, 1, 2]));
        for bad in ["", "66", "66:00:0a:ff:01", "66:00:0a:ff:01:02:03", "6g:00:0a:ff:01:02"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
