//! BGPFilter: ordered rules on routes, by family and direction.

use serde::{Deserialize, Serialize};
use tortie_net::{Asn, Prefix};

use crate::kind::Kind;
use crate::meta::{Extra, Resource, Spec};
use crate::scalar::{list, text, text_enum};

/// A filter.
pub type BgpFilter = Resource<BgpFilterSpec>;

text_enum! {
    /// What a rule does with a route it matches.
    FilterAction, "filter action" {
        /// Accept it.
        Accept = "Accept",
        /// Reject it.
        Reject = "Reject",
    }
}

text_enum! {
    /// How a rule's network is compared.
    MatchOperator, "match operator" {
        /// The route's prefix is this network.
        Equal = "Equal",
        /// It is not.
        NotEqual = "NotEqual",
        /// It lies in this network.
        In = "In",
        /// It does not.
        NotIn = "NotIn",
    }
}

text_enum! {
    /// Where a route came from.
    FilterSource, "route source" {
        /// From a BGP peer.
        RemotePeers = "RemotePeers",
    }
}

text_enum! {
    /// What kind of session a rule is for.
    FilterPeerType, "peer type" {
        /// To another AS.
        Ebgp = "eBGP",
        /// Within the AS.
        Ibgp = "iBGP",
    }
}

/// The specification of a filter: the first rule that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BgpFilterSpec {
    /// On IPv4 routes we send.
    #[serde(
        default,
        rename = "exportV4",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub export_v4: Vec<FilterRule>,
    /// On IPv4 routes we receive.
    #[serde(
        default,
        rename = "importV4",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub import_v4: Vec<FilterRule>,
    /// On IPv6 routes we send.
    #[serde(
        default,
        rename = "exportV6",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub export_v6: Vec<FilterRule>,
    /// On IPv6 routes we receive.
    #[serde(
        default,
        rename = "importV6",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub import_v6: Vec<FilterRule>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
}

/// A rule: every condition that is present must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterRule {
    /// What becomes of the route.
    pub action: FilterAction,
    /// Network, compared by `match_operator`.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Prefix>,
    /// How `cidr` is compared.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Bounds of the route's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Where the route came from.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub source: Option<FilterSource>,
    /// The route's interface, with `*` as a wildcard.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What kind of session.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<FilterPeerType>,
    /// A community the route has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// What the AS path begins with.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<Asn>,
    /// The route's kernel metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What is changed in an accepted route.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<FilterOperation>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Bounds of a prefix length, both inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixLength {
    /// At least; absent means the network's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    /// At most; absent means 32 or 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

/// Communities a route must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommunityMatch {
    /// Exactly one: `aa:nn` or `aa:nn:mm`.
    #[serde(default, deserialize_with = "list")]
    pub values: Vec<String>,
}

/// A change to an accepted route: exactly one of the fields is present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterOperation {
    /// Add a community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Prepend to the AS path.
    #[serde(default, rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Set the kernel metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// Add a community.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddCommunity {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Prepend to the AS path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrependAsPath {
    /// What the path begins with afterwards.
    pub prefix: Vec<Asn>,
}

/// Set the kernel metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPriority {
    /// The metric.
    pub value: u32,
}
