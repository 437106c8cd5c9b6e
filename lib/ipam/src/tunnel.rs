//! The addresses of a node's tunnel devices: which it needs, from which pools, under which handle.
//!
//! Handles and attributes are Calico's, so its tools name the addresses and its own allocator takes them up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tortie_model::resource::{AllowedUse, EncapMode, IpPool, NodeBgp, NodeSpec};
use tortie_net::NodeName;

use crate::pools::{Pool, PoolQuery, choose};
use crate::{IpFamily, Want};

/// A tunnel device of a node that has an address from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunnel {
    /// `tunl0`.
    Ipip,
    /// `vxlan.calico`.
    VxlanV4,
    /// `vxlan-v6.calico`.
    VxlanV6,
}

impl Tunnel {
    /// Every tunnel.
    pub const ALL: [Tunnel; 3] = [Tunnel::Ipip, Tunnel::VxlanV4, Tunnel::VxlanV6];

    /// The family of its address.
    pub fn family(self) -> IpFamily {
        match self {
            Tunnel::Ipip | Tunnel::VxlanV4 => IpFamily::V4,
            Tunnel::VxlanV6 => IpFamily::V6,
        }
    }

    /// The field of a Node that holds its address.
    pub fn field(self) -> &'static str {
        match self {
            Tunnel::Ipip => "bgp.ipv4IPIPTunnelAddr",
            Tunnel::VxlanV4 => "ipv4VXLANTunnelAddr",
            Tunnel::VxlanV6 => "ipv6VXLANTunnelAddr",
        }
    }

    /// The handle of its address.
    pub fn handle(self, node: &NodeName) -> String {
        match self {
            Tunnel::Ipip => format!("ipip-tunnel-addr-{node}"),
            Tunnel::VxlanV4 => format!("vxlan-tunnel-addr-{node}"),
            Tunnel::VxlanV6 => format!("vxlan-v6-tunnel-addr-{node}"),
        }
    }

    /// What its address says of itself.
    pub fn want(self, node: &NodeName) -> Want {
        let kind = match self {
            Tunnel::Ipip => "ipipTunnelAddress",
            Tunnel::VxlanV4 => "vxlanTunnelAddress",
            Tunnel::VxlanV6 => "vxlanV6TunnelAddress",
        };
        let attributes = [("node", node.as_str()), ("type", kind)];
        Want {
            handle: self.handle(node),
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }
    }

    /// The pools its address may be from: enabled, for tunnels, selecting the node, and with this encapsulation. None:
    /// the node needs no such tunnel.
    pub fn pools(self, pools: &[IpPool], node: &NodeName, labels: &BTreeMap<String, String>) -> Vec<Pool> {
        let mode = |p: &IpPool| match self {
            Tunnel::Ipip => p.spec.ipip_mode(),
            Tunnel::VxlanV4 | Tunnel::VxlanV6 => p.spec.vxlan_mode(),
        };
        let encapsulating = pools.iter().filter(|p| mode(p) != EncapMode::Never);
        let query = PoolQuery {
            node,
            family: self.family(),
            named: &[],
            node_labels: labels,
            namespace_labels: &BTreeMap::new(),
            usage: AllowedUse::Tunnel,
        };
        choose(encapsulating, &query).unwrap_or_default()
    }

    /// Its address as a Node has it.
    pub fn address(self, spec: &NodeSpec) -> Option<IpAddr> {
        match self {
            Tunnel::Ipip => spec
                .bgp
                .as_ref()
                .and_then(|b| b.ipv4_ipip_tunnel_addr)
                .map(IpAddr::from),
            Tunnel::VxlanV4 => spec.ipv4_vxlan_tunnel_addr.map(IpAddr::from),
            Tunnel::VxlanV6 => spec.ipv6_vxlan_tunnel_addr.map(IpAddr::from),
        }
    }

    /// Writes its address into a Node. An address of the other family is none.
    pub fn set_address(self, spec: &mut NodeSpec, address: Option<IpAddr>) {
        let v4 = match address {
            Some(IpAddr::V4(a)) => Some(a),
            _ => None,
        };
        let v6 = match address {
            Some(IpAddr::V6(a)) => Some(a),
            _ => None,
        };
        match self {
            Tunnel::Ipip => {
                if v4.is_some() || spec.bgp.is_some() {
                    spec.bgp.get_or_insert_default().ipv4_ipip_tunnel_addr = v4;
                }
                // A Node does not hold an empty bgp.
                if spec.bgp.as_ref().is_some_and(|b| *b == NodeBgp::default()) {
                    spec.bgp = None;
                }
            }
            Tunnel::VxlanV4 => spec.ipv4_vxlan_tunnel_addr = v4,
            Tunnel::VxlanV6 => spec.ipv6_vxlan_tunnel_addr = v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, spec: serde_json::Value) -> IpPool {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_node_needs_an_address_for_each_encapsulation_of_a_pool_that_selects_it() {
        let pools = [
            pool("plain", serde_json::json!({"cidr": "10.0.0.0/16"})),
            pool(
                "ipip",
                serde_json::json!({"cidr": "10.1.0.0/16", "ipipMode": "CrossSubnet"}),
            ),
            pool(
                "vxlan",
                serde_json::json!({"cidr": "10.2.0.0/16", "vxlanMode": "Always", "nodeSelector": "rack == 'a'"}),
            ),
            pool(
                "pods",
                serde_json::json!({"cidr": "10.3.0.0/16", "vxlanMode": "Always", "allowedUses": ["Workload"]}),
            ),
            pool(
                "six",
                serde_json::json!({"cidr": "fd00::/48", "vxlanMode": "Always", "disabled": true}),
            ),
        ];
        let node: NodeName = "n1".parse().unwrap();
        let names = |tunnel: Tunnel, rack: &str| {
            let labels = BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
            let pools = tunnel.pools(&pools, &node, &labels);
            pools.into_iter().map(|p| p.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Tunnel::Ipip, "b"), ["ipip"]);
        assert_eq!(names(Tunnel::VxlanV4, "a"), ["vxlan"]);
        assert_eq!(names(Tunnel::VxlanV4, "b"), [""; 0]);
        assert_eq!(names(Tunnel::VxlanV6, "a"), [""; 0]);
    }

    #[test]
    fn addresses_are_where_calico_has_them() {
        let mut spec = NodeSpec::default();
        for tunnel in Tunnel::ALL {
            let address = match tunnel.family() {
                IpFamily::V4 => "10.0.0.1".parse().unwrap(),
                IpFamily::V6 => "fd00::1".parse().unwrap(),
            };
            tunnel.set_address(&mut spec, Some(address));
            assert_eq!(tunnel.address(&spec), Some(address));
            let json = serde_json::to_value(&spec).unwrap();
            let pointer = format!("/{}", tunnel.field().replace('.', "/"));
            assert_eq!(json.pointer(&pointer), Some(&address.to_string().into()), "{json}");
            tunnel.set_address(&mut spec, None);
            assert_eq!(spec, NodeSpec::default());
        }
    }
}
