//! The specifications of the kinds Tortie acts on. Absent fields stay absent; methods give the default where one exists.
//!
//! These types read what is stored, leniently where Calico's own readers are lenient; `admit` decides what may be stored.

mod bgp_configuration;
mod bgp_filter;
mod bgp_peer;
mod cluster;
mod felix;
mod ip_pool;
mod node;
mod workload;

pub use bgp_configuration::*;
pub use bgp_filter::*;
pub use bgp_peer::*;
pub use cluster::*;
pub use felix::*;
pub use ip_pool::*;
pub use node::*;
pub use workload::*;

use serde::{Deserialize, Serialize};
use tortie_net::Prefix;

use crate::scalar::text_enum;

text_enum! {
    /// A feature that is on or off.
    Switch, "switch" {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

/// One network in a list of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CidrEntry {
    /// The network.
    #[serde(with = "crate::scalar::network")]
    pub cidr: Prefix,
}

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// The Kubernetes Secret's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key in a Kubernetes Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[serde(default)]
    pub name: String,
    /// The key in it.
    #[serde(default)]
    pub key: String,
}
