//! BGPConfiguration: what holds for BGP in the whole cluster (`default`) or on one node (`node.<name>`).

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use tortie_net::{Asn, Prefix};

use super::{CidrEntry, Password, Switch};
use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{GoDuration, list, network, text, text_enum};

/// BGP settings.
pub type BgpConfiguration = Resource<BgpConfigurationSpec>;

text_enum! {
    /// Which addresses the BGP listener binds.
    BindMode, "bind mode" {
        /// All of the host's.
        None = "None",
        /// Only the node's BGP address.
        NodeIp = "NodeIP",
    }
}

text_enum! {
    /// Which pools' routes the BGP daemon (not felix) programs.
    ProgramClusterRoutes, "route programming mode" {
        /// All.
        Enabled = "Enabled",
        /// None.
        Disabled = "Disabled",
        /// Those of IPIP pools.
        EnabledIpipOnly = "EnabledIPIPOnly",
        /// Those of pools without encapsulation.
        EnabledNoEncapOnly = "EnabledNoEncapOnly",
    }
}

/// The specification of BGP settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpConfigurationSpec {
    /// Log level, as written: Trace, Debug, Info, Warning, Error or Fatal in any case.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Does every node peer with every other? Absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The cluster's AS number; absent means 64512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// TCP port of the listener; absent means 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Which addresses the listener binds.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Load balancer addresses to advertise.
    #[serde(
        default,
        rename = "serviceLoadBalancerIPs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_load_balancer_ips: Vec<CidrEntry>,
    /// External addresses of services to advertise.
    #[serde(
        default,
        rename = "serviceExternalIPs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_external_ips: Vec<CidrEntry>,
    /// Cluster addresses of services to advertise.
    #[serde(
        default,
        rename = "serviceClusterIPs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_cluster_ips: Vec<CidrEntry>,
    /// Advertise load balancer networks whole rather than address by address.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Switch>,
    /// Names for communities.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<NamedCommunity>,
    /// Communities to attach, by prefix.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP-MD5 password of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<Password>,
    /// Graceful restart time of the mesh.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// Interfaces not to learn from, with `*` as a wildcard.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// IPv4 address workloads peer with.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV4",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ipv4: Option<Ipv4Addr>,
    /// IPv6 address workloads peer with.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV6",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ipv6: Option<Ipv6Addr>,
    /// Which pools' routes the BGP daemon programs. In Tortie felix programs them all; kept for compatibility.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Kernel metric of IPv4 routes; absent means 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<u32>,
    /// Kernel metric of IPv6 routes; absent means 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<u32>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
}

impl BgpConfigurationSpec {
    /// AS number of clusters that set none.
    pub const DEFAULT_ASN: Asn = Asn(64512);

    /// Does every node peer with every other?
    pub fn mesh_enabled(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    /// The cluster's AS number.
    pub fn as_number(&self) -> Asn {
        self.as_number.unwrap_or(Self::DEFAULT_ASN)
    }
}

/// A name for a community.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCommunity {
    /// The name.
    #[serde(default)]
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    #[serde(default)]
    pub value: String,
}

/// Communities to attach to what lies in a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixAdvertisement {
    /// The prefix.
    #[serde(with = "network")]
    pub cidr: Prefix,
    /// Names from `communities`, or values.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
}
