//! The computed view: everything that is rendered, each part with the object that caused it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tortie_net::{Asn, NodeName, Prefix, RouterId};

use super::problem::Problem;
pub use crate::filter_types::*;

/// The stored object that caused a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// Its kind, for instance `BGPPeer`.
    pub kind: &'static str,
    /// Its name; `namespace/name` for a namespaced kind, the prefix for a block affinity.
    pub name: String,
    /// The datastore revision of its last change.
    pub revision: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, revision {}", self.kind, self.name, self.revision)
    }
}

/// An address family by BIRD's name of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// Both, in the order in which they are rendered.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Is the prefix of this family?
    pub fn has(self, prefix: Prefix) -> bool {
        prefix.is_v4() == (self == Family::Ipv4)
    }

    /// `4` or `6`, as names in the rendered file end.
    pub fn digit(self) -> char {
        match self {
            Family::Ipv4 => '4',
            Family::Ipv6 => '6',
        }
    }
}

/// What one node's BGP speaker should do. A function of [`super::ClusterState`] alone; every list is sorted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BgpView {
    /// The node it is for.
    pub node: NodeName,
    /// Its Node resource.
    pub origin: Origin,
    /// The BGP identifier.
    pub router_id: RouterId,
    /// Where it is from.
    pub router_id_from: RouterIdFrom,
    /// Our AS.
    pub asn: Asn,
    /// Node or BGPConfiguration that says so; none: Calico's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn_origin: Option<Origin>,
    /// The port to listen on; none: 179.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Listen on the node's address only (`bindMode: NodeIP`).
    pub bind_node_ip: bool,
    /// How much the speaker should log of the protocols.
    pub severity: Severity,
    /// We are a route reflector of this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<RouterId>,
    /// Is there a node-to-node mesh for this node, and why.
    pub mesh: MeshReason,
    /// Interfaces that Calico keeps out of the speaker's sight; of use to templates for speakers that look at interfaces.
    pub ignored_interfaces: Vec<String>,
    /// The families the node has an address in, IPv4 first.
    pub families: Vec<FamilyView>,
    /// Functions compiled from BGPFilters that a peer uses, sorted by name.
    pub filters: Vec<FilterFunction>,
    /// Named filters that channels refer to, sorted by name.
    pub policies: Vec<Policy>,
    /// Sessions, sorted by name. One that did not change is the same value as in the view before.
    #[serde(serialize_with = "each")]
    pub peers: Vec<Arc<PeerView>>,
    /// What could not be done as asked, sorted.
    pub problems: Vec<Problem>,
}

/// What is shared is written like what is not.
fn each<S: Serializer>(peers: &[Arc<PeerView>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(peers.iter().map(AsRef::as_ref))
}

/// Where the router id is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouterIdFrom {
    /// The node's IPv4 address.
    Ipv4Address,
    /// A hash of the node's name: it has no IPv4 address, or a hash was asked for.
    Hash,
    /// It was given to confd.
    Configured,
}

/// The least that is told of what happens (`logSeverityScreen`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Everything. Calico's Trace is no more than that.
    Debug,
    /// Session states, and what is worse.
    Info,
    /// What is wrong with peers and their routes, and what is worse.
    Warning,
    /// What the speaker could not do.
    Error,
    /// Why it ends.
    Fatal,
}

/// Why there is a node-to-node mesh for this node, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshReason {
    /// It is on.
    Enabled,
    /// `nodeToNodeMeshEnabled: false`.
    Disabled,
    /// A route reflector is in no mesh.
    RouteReflector,
}

/// One family of the node: its address, what it originates, what it lets through.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FamilyView {
    /// Which.
    pub family: Family,
    /// The node's address.
    pub address: IpAddr,
    /// The subnet its mask describes.
    pub subnet: Prefix,
    /// Prefixes we originate, sorted.
    pub originated: Vec<Originated>,
    /// Routes to peers that are reachable by a gateway only, sorted.
    pub reachable_by: Vec<ReachableBy>,
    /// What BGP peers get, in order; what no rule accepts is not exported.
    pub export: Vec<Rule>,
    /// What felix gets, in order; what no rule rejects is given to it.
    pub kernel: Vec<Rule>,
    /// Should felix get the route priority that the local preference stands for?
    pub priorities: bool,
    /// Does a workload of the node speak BGP with it? What it tells leads to the node: other nodes know no way to a workload's
    /// own address but by a block, which is learned too, and one learned way is not looked for by another.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub workloads: bool,
}

/// A prefix we originate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Originated {
    /// What.
    pub prefix: Prefix,
    /// As what.
    pub what: OriginatedAs,
    /// Why.
    pub origin: Origin,
}

/// The kinds of prefix that a node originates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginatedAs {
    /// A block of addresses that is affine to the node.
    Block,
    /// A prefix from which another plugin gives the node's pods their addresses.
    PodCidr,
    /// The address of a local workload that lies in no block of ours.
    Borrowed,
    /// A floating address of a local workload.
    Floating,
    /// Addresses of services.
    Service,
}

/// A peer's host route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReachableBy {
    /// The peer, as a host prefix.
    pub prefix: Prefix,
    /// The next hop to it.
    pub gateway: IpAddr,
    /// The BGPPeer.
    pub origin: Origin,
}

/// One step of an export or kernel filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Which routes.
    pub prefix: Prefix,
    /// The prefix itself only, or also everything inside it.
    pub exact: bool,
    /// What becomes of them.
    pub action: RuleAction,
    /// Communities that are added, for [`RuleAction::AddCommunities`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<CommunityValue>,
    /// Why.
    pub reason: RuleReason,
    /// The object behind it.
    pub origin: Origin,
}

/// What a [`Rule`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// The route passes, later rules are not asked.
    Accept,
    /// The route does not pass.
    Reject,
    /// The route gets communities, later rules decide.
    AddCommunities,
}

/// Why a [`Rule`] is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleReason {
    /// The pool has `disableBGPExport`.
    ExportDisabled,
    /// `prefixAdvertisements`.
    PrefixAdvertisement,
    /// Our block, or pod CIDR, is announced as a whole.
    OwnBlock,
    /// Single addresses in it are not announced: it is.
    InsideOwnBlock,
    /// We originate it for services.
    Service,
    /// A reflector passes on the addresses of services.
    ReflectedService,
    /// It belongs to a pool.
    Pool,
    /// Routes of VXLAN pools are made by felix from the datastore.
    VxlanPool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerView {
    /// The protocol's name: `Mesh_`, `Global_`, `Node_` or `Local_Workload_`, and the address.
    pub name: String,
    /// Which kind of peering.
    pub kind: PeerKind,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's port; none: 179.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The peer's AS.
    pub asn: Asn,
    /// The node behind the address, if it is one of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_node: Option<NodeName>,
    /// Our AS towards this peer, if another than [`BgpView::asn`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<Asn>,
    /// The AS is the same on both sides.
    pub internal: bool,
    /// The address we speak from; none: the kernel chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// How far away the peer is.
    pub distance: Distance,
    /// Hops allowed by TTL security.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security_hops: Option<u8>,
    /// Never connect, only accept.
    pub passive: bool,
    /// Seconds that the peer should keep our routes while we restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_time_s: Option<u64>,
    /// Seconds between keepalives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_s: Option<u64>,
    /// The peer is our reflector client, in this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rr_client_of: Option<RouterId>,
    /// The secret that holds the session's password. Passwords themselves are never part of a view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// How often our own AS may be in a path from the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_local_as: Option<u32>,
    /// The families spoken.
    pub channels: Vec<ChannelView>,
    /// The object that asks for the session.
    pub origin: Origin,
}

/// Kinds of peering. The prefix of the protocol's name is what Calico's status programs look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// Node to node mesh.
    Mesh,
    /// A BGPPeer for every node.
    Global,
    /// A BGPPeer for some nodes.
    Node,
    /// A BGPPeer for workloads of the node.
    LocalWorkload,
}

impl PeerKind {
    /// What the protocol's name begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            PeerKind::Mesh => "Mesh_",
            PeerKind::Global => "Global_",
            PeerKind::Node => "Node_",
            PeerKind::LocalWorkload => "Local_Workload_",
        }
    }
}

/// How far away a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// An external peer in the node's own subnet. Next hops in that subnet are passed on unchanged (RFC 4271 5.1.3).
    Direct,
    /// Anywhere.
    Multihop,
}

/// Where a password is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretRef {
    /// The secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// One family on a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelView {
    /// Which.
    pub family: Family,
    /// The import [`Policy`].
    pub import: String,
    /// The export [`Policy`].
    pub export: String,
    /// What becomes of next hops.
    pub next_hop: NextHop,
    /// Our own address in this family when the session runs over the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_address: Option<IpAddr>,
}

/// `nextHopMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHop {
    /// BGP's own rule.
    Auto,
    /// Always ours.
    #[serde(rename = "self")]
    Own,
    /// Always as received.
    Keep,
}
