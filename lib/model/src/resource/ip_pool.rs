//! IPPool: where addresses of workloads come from.

use serde::{Deserialize, Serialize};
use tortie_net::Prefix;

use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{is_false, list, network, text, text_enum};
use crate::selector::Selector;

/// A pool.
pub type IpPool = Resource<IpPoolSpec>;

text_enum! {
    /// When traffic between nodes is encapsulated.
    EncapMode, "encapsulation mode" {
        /// Never.
        Never = "Never",
        /// Always.
        Always = "Always",
        /// Between nodes of different subnets only.
        CrossSubnet = "CrossSubnet",
    }
}

text_enum! {
    /// What addresses of a pool may be used for.
    AllowedUse, "allowed use" {
        /// Workloads.
        Workload = "Workload",
        /// Tunnel devices of nodes.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer.
        LoadBalancer = "LoadBalancer",
    }
}

text_enum! {
    /// Who chooses a pool.
    AssignmentMode, "assignment mode" {
        /// IPAM may choose it.
        Automatic = "Automatic",
        /// Used only when named.
        Manual = "Manual",
    }
}

/// The specification of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// Its addresses.
    #[serde(with = "network")]
    pub cidr: Prefix,
    /// VXLAN encapsulation.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// IPIP encapsulation.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// Masquerade what leaves the cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nat_outgoing: bool,
    /// No new allocations.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Keep its routes out of BGP.
    #[serde(default, rename = "disableBGPExport", skip_serializing_if = "is_false")]
    pub disable_bgp_export: bool,
    /// Prefix length of its blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Nodes that use it.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Selector>,
    /// Namespaces that use it.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// What for; empty means the default.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<AllowedUse>,
    /// Who chooses it.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
}

impl IpPoolSpec {
    /// Block length of IPv4 pools that set none.
    pub const DEFAULT_BLOCK_SIZE_V4: u8 = 26;
    /// Block length of IPv6 pools that set none.
    pub const DEFAULT_BLOCK_SIZE_V6: u8 = 122;

    /// A pool of these addresses, with defaults.
    pub fn new(cidr: Prefix) -> Self {
        IpPoolSpec {
            cidr,
            vxlan_mode: None,
            ipip_mode: None,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: None,
            node_selector: None,
            namespace_selector: None,
            allowed_uses: Vec::new(),
            assignment_mode: None,
            extra: Extra::new(),
        }
    }

    /// Prefix length of its blocks: 26 or 122 unless set.
    pub fn block_size(&self) -> u8 {
        let default = if self.cidr.is_v4() {
            Self::DEFAULT_BLOCK_SIZE_V4
        } else {
            Self::DEFAULT_BLOCK_SIZE_V6
        };
        self.block_size.unwrap_or(default)
    }

    /// IPIP encapsulation: Never unless set.
    pub fn ipip_mode(&self) -> EncapMode {
        self.ipip_mode.unwrap_or(EncapMode::Never)
    }

    /// VXLAN encapsulation: Never unless set.
    pub fn vxlan_mode(&self) -> EncapMode {
        self.vxlan_mode.unwrap_or(EncapMode::Never)
    }

    /// Who chooses it: Automatic unless set.
    pub fn assignment_mode(&self) -> AssignmentMode {
        self.assignment_mode.unwrap_or(AssignmentMode::Automatic)
    }

    /// May its addresses be used for this? Workload and Tunnel unless set.
    pub fn allows(&self, usage: AllowedUse) -> bool {
        if self.allowed_uses.is_empty() {
            matches!(usage, AllowedUse::Workload | AllowedUse::Tunnel)
        } else {
            self.allowed_uses.contains(&usage)
        }
    }

    /// Do nodes with these labels use it? All do unless it has a node selector.
    pub fn selects_node(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.node_selector.as_ref().is_none_or(|s| s.matches(labels))
    }
}
