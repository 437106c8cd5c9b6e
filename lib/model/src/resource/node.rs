//! Node: a machine that routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tortie_net::{Asn, Prefix, RouterId};

use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{InterfaceAddr, list, text, text_enum};

/// A node.
pub type Node = Resource<NodeSpec>;

impl Node {
    /// The prefixes from which another plugin gives this node's pods their addresses: `status.podCIDRs`, in its order.
    /// Entries that are no prefix come as they are written.
    pub fn pod_cidrs(&self) -> Vec<Result<Prefix, String>> {
        let listed = self.status.as_ref().and_then(|s| s.get("podCIDRs"));
        let listed = listed.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let read = |c: &Value| {
            let prefix = c.as_str().and_then(|text| text.parse().ok());
            prefix.ok_or_else(|| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
        };
        listed.iter().map(read).collect()
    }
}

/// The specification of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// BGP addresses and numbers. Absent: the node does not speak BGP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    /// Address of the IPv4 VXLAN device.
    #[serde(
        default,
        rename = "ipv4VXLANTunnelAddr",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_vxlan_tunnel_addr: Option<Ipv4Addr>,
    /// Address of the IPv6 VXLAN device.
    #[serde(
        default,
        rename = "ipv6VXLANTunnelAddr",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_vxlan_tunnel_addr: Option<Ipv6Addr>,
    /// MAC address of the IPv4 VXLAN device.
    #[serde(default, rename = "vxlanTunnelMACAddr", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr: Option<String>,
    /// MAC address of the IPv6 VXLAN device.
    #[serde(default, rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_tunnel_mac_addr_v6: Option<String>,
    /// Names the node has in orchestrators.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// All addresses known of the node.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Unknown fields, and those of other features (`wireguard`, `interfaces`).
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
}

/// How a node speaks BGP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBgp {
    /// Its AS number, when not the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// Its IPv4 address; the length is its subnet's.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<InterfaceAddr>,
    /// Its IPv6 address; the length is its subnet's.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<InterfaceAddr>,
    /// Address of its IPIP device.
    #[serde(
        default,
        rename = "ipv4IPIPTunnelAddr",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_ipip_tunnel_addr: Option<Ipv4Addr>,
    /// Cluster id; present: the node is a route reflector (RFC 4456).
    #[serde(
        default,
        rename = "routeReflectorClusterID",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub route_reflector_cluster_id: Option<RouterId>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The name a node has in an orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrchRef {
    /// The name.
    #[serde(default)]
    pub node_name: String,
    /// `k8s` and so on.
    #[serde(default)]
    pub orchestrator: String,
}

text_enum! {
    /// Where an address of a node is known from.
    NodeAddressType, "address type" {
        /// Its BGP address.
        CalicoNodeIp = "CalicoNodeIP",
        /// The orchestrator's internal one.
        InternalIp = "InternalIP",
        /// The orchestrator's external one.
        ExternalIp = "ExternalIP",
    }
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The address, perhaps with its subnet's length.
    pub address: String,
    /// Where it is known from.
    #[serde(default, rename = "type", with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<NodeAddressType>,
}

impl NodeSpec {
    /// The BGP addresses of the node, IPv4 first.
    pub fn bgp_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.bgp
            .iter()
            .flat_map(|b| [b.ipv4_address, b.ipv6_address])
            .flatten()
            .map(|a| a.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pod_cidrs_are_those_of_the_status() {
        let mut node = Node::new("n1", NodeSpec::default());
        assert!(node.pod_cidrs().is_empty());
        node.status = Some(json!({"podCIDRs": ["10.65.1.0/24", 7, "nonsense", "fd00:65::/64"]}));
        let found: Vec<String> = node.pod_cidrs().into_iter().flatten().map(|p| p.to_string()).collect();
        assert_eq!(found, ["10.65.1.0/24", "fd00:65::/64"]);
        let bad: Vec<String> = node.pod_cidrs().into_iter().filter_map(Result::err).collect();
        assert_eq!(bad, ["7", "nonsense"]);
    }
}
