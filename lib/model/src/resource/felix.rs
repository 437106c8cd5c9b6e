//! FelixConfiguration: settings of felix for the whole cluster (`default`), one node (`node.<name>`), or selected nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tortie_net::NodeName;

use super::{ProgramClusterRoutes, Switch};
use crate::PortRange;
use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{GoDuration, InterfaceAddr, list, text, text_enum};
use crate::selector::Selector;

/// Settings of felix.
pub type FelixConfiguration = Resource<FelixConfigurationSpec>;

text_enum! {
    /// Where packets of a workload may go without being given the node's address.
    NatOutgoingExclusions, "NAT exclusion" {
        /// To the pools.
        IpPoolsOnly = "IPPoolsOnly",
        /// To the pools and to the nodes.
        IpPoolsAndHostIps = "IPPoolsAndHostIPs",
    }
}

/// May felix give its routes this protocol number? Everything in the kernel that has it is felix's then, so it must be
/// nobody else's: not the kernel's or an administrator's (but 3, which counts on workloads' interfaces only), nor of a program
/// that has a number by convention (`/etc/iproute2/rt_protos`).
pub fn is_free_protocol(protocol: u8) -> bool {
    !matches!(protocol, 0..=2 | 4 | 8..=18 | 42 | 186..=192)
}

/// Settings with a type. Calico has about 190; the others are kept untyped in `extra`. Which of them felix acts on, docs/felix.md
/// says; of the others who writes one is told ([`crate::without_effect`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FelixConfigurationSpec {
    /// Nodes it is for, when its name says neither `default` nor `node.<name>`.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Selector>,
    /// Log level, as written.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// How often kernel routes are compared with what they should be.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub route_refresh_interval: Option<GoDuration>,
    /// How often interfaces are compared with what they should be.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub interface_refresh_interval: Option<GoDuration>,
    /// Source address of routes to local workloads.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub device_route_source_address: Option<IpAddr>,
    /// The same for IPv6.
    #[serde(
        default,
        rename = "deviceRouteSourceAddressIPv6",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub device_route_source_address_ipv6: Option<IpAddr>,
    /// Kernel protocol number of routes to local workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_route_protocol: Option<u8>,
    /// Remove foreign routes to workload interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_external_routes: Option<bool>,
    /// Which pools' routes felix programs. In Tortie it programs them all; kept for compatibility.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Turn IP forwarding on.
    #[serde(
        default,
        rename = "ipForwarding",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip_forwarding: Option<Switch>,
    /// Kernel metric of IPv4 routes; absent means 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<u32>,
    /// Kernel metric of IPv6 routes; absent means 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<u32>,
    /// Prefix of workload interfaces' names; absent means `cali`.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// Does the cluster use IPv6? Absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_support: Option<bool>,
    /// Make the IPIP device; absent means when a pool wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipip_enabled: Option<bool>,
    /// MTU of the IPIP device; 0 or absent means by the underlay.
    #[serde(default, rename = "ipipMTU", skip_serializing_if = "Option::is_none")]
    pub ipip_mtu: Option<u32>,
    /// Make the VXLAN device; absent means when a pool wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_enabled: Option<bool>,
    /// MTU of the VXLAN device; 0 or absent means by the underlay.
    #[serde(default, rename = "vxlanMTU", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu: Option<u32>,
    /// MTU of the IPv6 VXLAN device; 0 or absent means by the underlay.
    #[serde(default, rename = "vxlanMTUV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu_v6: Option<u32>,
    /// UDP port of VXLAN; absent means 4789.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<u16>,
    /// VXLAN network identifier; absent means 4096.
    #[serde(default, rename = "vxlanVNI", skip_serializing_if = "Option::is_none")]
    pub vxlan_vni: Option<u32>,
    /// What felix does with packets a workload sends to its host.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub default_endpoint_to_host_action: Option<String>,
    /// Interfaces whose MTU counts.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub mtu_iface_pattern: Option<String>,
    /// Source address of packets that leave the pools; absent means that of the interface they leave by.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_address: Option<IpAddr>,
    /// Where packets keep their source; absent means in the pools.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_exclusions: Option<NatOutgoingExclusions>,
    /// Source ports of packets that leave the pools; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_port_range: Option<PortRange>,
    /// The interfaces by which leaving counts, `+` at the end for any rest; absent means every one.
    #[serde(
        default,
        rename = "iptablesNATOutgoingInterfaceFilter",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub nat_outgoing_interface_filter: Option<String>,
    /// Hosts that are no nodes and may send packets of tunnels.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub external_nodes_list: Vec<InterfaceAddr>,
    /// May workloads send IPIP themselves? Absent means no.
    #[serde(
        default,
        rename = "allowIPIPPacketsFromWorkloads",
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_ipip_packets_from_workloads: Option<bool>,
    /// May workloads send VXLAN themselves? Absent means no.
    #[serde(
        default,
        rename = "allowVXLANPacketsFromWorkloads",
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_vxlan_packets_from_workloads: Option<bool>,
    /// Are addresses of others translated to workloads' (`ipNATs`)? Absent means no.
    #[serde(
        default,
        rename = "floatingIPs",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub floating_ips: Option<Switch>,
    /// How often the tables of nftables are compared with what they should be.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub nftables_refresh_interval: Option<GoDuration>,
    /// How often felix says how it is.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub reporting_interval: Option<GoDuration>,
    /// How long such a word counts.
    #[serde(
        default,
        rename = "reportingTTL",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub reporting_ttl: Option<GoDuration>,
    /// Shall routes share the kernel's nexthop objects? Tortie's own; absent means no. Kernels without them: no.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub nexthop_objects: Option<Switch>,
    /// Unknown fields, and those Tortie does not act on yet.
    #[serde(flatten)]
    pub extra: Extra,
}

impl FelixConfigurationSpec {
    /// Of documents in the order of their names, those that are for this node: `default`, those that select its labels, and
    /// its own. Of a field, the last that says anything counts.
    pub fn layers<'a>(
        node: &NodeName,
        labels: &BTreeMap<String, String>,
        all: impl Iterator<Item = (&'a str, &'a FelixConfigurationSpec)>,
    ) -> Vec<&'a FelixConfigurationSpec> {
        let (mut default, mut selected, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (name, spec) in all {
            match name.strip_prefix("node.") {
                Some(of) if of == node.as_str() => own.push(spec),
                Some(_) => {}
                None if name == "default" => default.push(spec),
                None if spec.node_selector.as_ref().is_some_and(|s| s.matches(labels)) => selected.push(spec),
                None => {}
            }
        }
        [default, selected, own].concat()
    }
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
}
