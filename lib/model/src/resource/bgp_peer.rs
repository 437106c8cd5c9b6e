//! BGPPeer: whom some or all nodes peer with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tortie_net::Asn;

use super::Password;
use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{GoDuration, PeerAddr, is_false, list, text, text_enum};
use crate::selector::Selector;

/// A peering.
pub type BgpPeer = Resource<BgpPeerSpec>;

text_enum! {
    /// What becomes of next hops.
    NextHopMode, "next hop mode" {
        /// As the protocol has it.
        Auto = "Auto",
        /// Always ourselves.
        SelfHop = "Self",
        /// Always as received.
        Keep = "Keep",
    }
}

text_enum! {
    /// Which source address a session uses.
    SourceAddress, "source address" {
        /// The node's BGP address.
        UseNodeIp = "UseNodeIP",
        /// What the kernel chooses.
        None = "None",
    }
}

text_enum! {
    /// Whether the session is also made on the node that was selected as a peer.
    ReversePeering, "reverse peering mode" {
        /// It is.
        Auto = "Auto",
        /// It is not.
        Manual = "Manual",
    }
}

/// The specification of a peering.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// The one node that peers. Without this and `nodeSelector`: all nodes.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The nodes that peer.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Selector>,
    /// The peer's address.
    #[serde(default, rename = "peerIP", with = "text", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<PeerAddr>,
    /// The peer's AS number; absent with `peerSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// Our AS number towards this peer, when not the node's.
    #[serde(default, rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<Asn>,
    /// The peers are the nodes with these labels.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<Selector>,
    /// The peers are local workloads with these labels.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub local_workload_selector: Option<Selector>,
    /// Deprecated form of [`NextHopMode::Keep`], for eBGP sessions.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_original_next_hop: bool,
    /// What becomes of next hops.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// TCP-MD5 password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Source address of the session.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// Graceful restart time.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<GoDuration>,
    /// Keepalive interval.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<GoDuration>,
    /// How often our own AS may be in a path.
    #[serde(
        default,
        rename = "numAllowedLocalASNumbers",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_allowed_local_as_numbers: Option<i32>,
    /// Hops to the peer, checked by TTL (RFC 5082); 0 or absent is off.
    #[serde(default, rename = "ttlSecurity", skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Gateway to the peer's address.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub reachable_by: Option<IpAddr>,
    /// Names of BGPFilters, applied in order.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Whether the selected peer peers back by itself.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
}

impl BgpPeerSpec {
    /// Does every node peer?
    pub fn is_global(&self) -> bool {
        self.node.is_none() && self.node_selector.is_none()
    }

    /// Is the node of this name, with these labels, on the side that gets the configuration?
    pub fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let by_name = self.node.as_deref().is_none_or(|n| n == name);
        by_name && self.node_selector.as_ref().is_none_or(|s| s.matches(labels))
    }
}
