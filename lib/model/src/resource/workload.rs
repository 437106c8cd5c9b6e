//! WorkloadEndpoint: the place where a workload is attached to a node.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tortie_net::Prefix;

use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{list, text};

/// An endpoint.
pub type WorkloadEndpoint = Resource<WorkloadEndpointSpec>;

/// The specification of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// Who runs the workload: `k8s`, `cni` and so on.
    pub orchestrator: String,
    /// The workload's name, for orchestrators without pods.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The node it is on.
    pub node: String,
    /// The container runtime's id of the sandbox.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The pod's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The interface's name inside.
    pub endpoint: String,
    /// The pod's service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Its addresses, each as a prefix of full length.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<Prefix>,
    /// Addresses translated to its own.
    #[serde(rename = "ipNATs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// IPv4 gateway inside.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<IpAddr>,
    /// IPv6 gateway inside.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<IpAddr>,
    /// Policy profiles.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Name of the host's side of the veth pair.
    pub interface_name: String,
    /// MAC address inside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Named ports.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Value>,
    /// Networks it may use as a source.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<Prefix>,
    /// Unknown fields, and those of other features (`qosControls`).
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
}

/// An address translated to a workload's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNat {
    /// The workload's own.
    #[serde(rename = "internalIP")]
    pub internal_ip: IpAddr,
    /// What others use.
    #[serde(rename = "externalIP")]
    pub external_ip: IpAddr,
}
