//! Small cluster-wide kinds: ClusterInformation, IPReservation, IPAMConfiguration.

use serde::{Deserialize, Serialize};

use super::Switch;
use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{is_false, list, text};

/// Facts about the cluster.
pub type ClusterInformation = Resource<ClusterInformationSpec>;
/// Addresses IPAM does not give out by itself.
pub type IpReservation = Resource<IpReservationSpec>;
/// How IPAM behaves, as a resource.
pub type IpamConfiguration = Resource<IpamConfigurationSpec>;

/// Facts about the cluster; the object's name is `default`. Written by typha, read by everybody.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInformationSpec {
    /// 32 hexadecimal digits, random.
    #[serde(
        default,
        rename = "clusterGUID",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub cluster_guid: Option<String>,
    /// Comma separated.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,
    /// Release of Calico the cluster claims to be; calicoctl compares it with its own.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,
    /// False: stop changing anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
}

/// The specification of a reservation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IpReservationSpec {
    /// Networks or addresses, as written.
    #[serde(
        default,
        rename = "reservedCIDRs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub reserved_cidrs: Vec<crate::scalar::InterfaceAddr>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for IpReservationSpec {
    const KIND: Kind = Kind::IpReservation;
}

/// How IPAM behaves, as a resource named `default`. IPAM itself obeys the document at [`crate::key::IPAM_CONFIG`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamConfigurationSpec {
    /// Never take addresses from another node's block.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_affinity: bool,
    /// May claim new blocks; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allocate_blocks: Option<bool>,
    /// Cap of blocks per node; 0 or absent: the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<u32>,
    /// Keep a virtual machine's address over restarts.
    #[serde(
        default,
        rename = "kubeVirtVMAddressPersistence",
        with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub kube_virt_vm_address_persistence: Option<Switch>,
    /// How long a released address is not given out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<u32>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for IpamConfigurationSpec {
    const KIND: Kind = Kind::IpamConfiguration;
}
