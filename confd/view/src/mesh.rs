//! Sessions, and those of the node-to-node mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cluster::{Cluster, NodeFacts, Problems};
use super::problem::ProblemKind;
use super::types::{Distance, Family, MeshReason, NextHop, Origin, PeerKind, PeerView};

/// A session whose channels have no policies yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) peer: PeerView,
    /// What the session carries.
    pub(super) families: Vec<Family>,
    /// Names of BGPFilters, in order.
    pub(super) filters: Vec<String>,
    pub(super) next_hop: NextHop,
    /// The gateway of a host route to the peer.
    pub(super) reachable_by: Option<IpAddr>,
}

/// `prefix` and the address with what no symbol may have replaced, as Calico names protocols.
pub(super) fn protocol_name(kind: PeerKind, address: IpAddr, port: Option<u16>) -> String {
    let address = address.to_string().replace(['.', ':'], "_");
    match (kind, port) {
        (PeerKind::Mesh, _) | (_, None) => format!("{}{address}", kind.prefix()),
        (_, Some(port)) => format!("{}{address}_port_{port}", kind.prefix()),
    }
}

/// A session with another node over the first family they share, carrying all that they share.
pub(super) fn with_node(cluster: &Cluster<'_>, kind: PeerKind, node: &NodeFacts<'_>, origin: &Origin) -> Option<Draft> {
    let families = cluster.own.shared(node);
    let family = *families.first()?;
    let (own, theirs) = (cluster.own.address(family)?, node.address(family)?);
    let peer = PeerView {
        name: protocol_name(kind, theirs.addr, node.listen_port),
        kind,
        address: theirs.addr,
        port: node.listen_port,
        asn: node.asn,
        remote_node: Some(node.name.clone()),
        local_asn: None,
        internal: node.asn == cluster.own.asn,
        source_address: Some(own.addr),
        distance: Distance::Multihop,
        ttl_security_hops: None,
        passive: false,
        restart_time_s: None,
        keepalive_s: None,
        rr_client_of: None,
        password: None,
        allow_local_as: None,
        channels: Vec::new(),
        origin: origin.clone(),
    };
    Some(Draft {
        peer,
        families,
        filters: Vec::new(),
        next_hop: NextHop::Auto,
        reachable_by: None,
    })
}

/// Exactly one of two nodes dials: the one whose address is the lesser text. Calico compares texts, so we do.
pub(super) fn is_passive(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

/// External peers in our own subnet are one hop away.
pub(super) fn distance(cluster: &Cluster<'_>, internal: bool, peer: IpAddr) -> Distance {
    let own = cluster
        .own
        .address(Family::of(peer))
        .map(tortie_model::InterfaceAddr::network);
    match own {
        Some(subnet) if !internal && !subnet.is_host() && subnet.contains(peer) => Distance::Direct,
        _ => Distance::Multihop,
    }
}

/// The mesh: every other node that has an address and is no route reflector. A BGPPeer for the same address goes first.
pub(super) fn peers(cluster: &Cluster<'_>, explicit: &[Draft], problems: &mut Problems) -> (MeshReason, Vec<Draft>) {
    if !cluster.mesh_enabled() {
        return (MeshReason::Disabled, Vec::new());
    }
    if cluster.own.cluster_id.is_some() {
        return (MeshReason::RouteReflector, Vec::new());
    }
    if cluster.own.v4.is_none() && cluster.own.v6.is_none() {
        return (MeshReason::Enabled, Vec::new());
    }
    let mut taken: BTreeMap<IpAddr, &Draft> = BTreeMap::new();
    for draft in explicit.iter().rev() {
        taken.insert(draft.peer.address, draft);
    }
    let settings = MeshSettings::new(cluster, problems);
    let mut mesh = Vec::new();
    for node in cluster.others.iter().filter(|n| n.cluster_id.is_none()) {
        let Some(mut draft) = draft(cluster, node, problems) else {
            continue;
        };
        if let Some(kept) = taken.get(&draft.peer.address) {
            let kind = ProblemKind::DuplicatePeer {
                kept: kept.peer.origin.clone(),
                address: draft.peer.address,
            };
            problems.add(&node.origin, "spec.bgp", kind);
            continue;
        }
        draft.peer.restart_time_s = settings.restart_time_s;
        draft.peer.password.clone_from(&settings.password);
        mesh.push(draft);
    }
    (MeshReason::Enabled, mesh)
}

struct MeshSettings {
    restart_time_s: Option<u64>,
    password: Option<super::types::SecretRef>,
}

impl MeshSettings {
    fn new(cluster: &Cluster<'_>, problems: &mut Problems) -> Self {
        let global = cluster.global();
        let at = (&cluster.global_origin(), "spec.nodeMeshPassword");
        MeshSettings {
            restart_time_s: global.and_then(|g| g.node_mesh_max_restart_time).map(|d| seconds(d.0)),
            password: cluster.password(global.and_then(|g| g.node_mesh_password.as_ref()), at, problems),
        }
    }
}

/// Rounded, and at most what a graceful restart capability can say (RFC 4724: 12 bits).
pub(super) fn seconds(duration: std::time::Duration) -> u64 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    rounded.min(4095)
}

fn draft(cluster: &Cluster<'_>, node: &NodeFacts<'_>, problems: &mut Problems) -> Option<Draft> {
    if node.v4.is_none() && node.v6.is_none() {
        problems.add(&node.origin, "spec.bgp", ProblemKind::NodeWithoutAddress);
        return None;
    }
    let Some(mut draft) = with_node(cluster, PeerKind::Mesh, node, &node.origin) else {
        let kind = ProblemKind::NoCommonFamily {
            node: cluster.own.name.clone(),
        };
        problems.add(&node.origin, "spec.bgp", kind);
        return None;
    };
    let address = draft.peer.address;
    if cluster.own.has(address) {
        problems.add(&node.origin, "spec.bgp", ProblemKind::OwnAddressTaken { address });
        return None;
    }
    if let Some(first) = cluster.node_at(address)
        && first.name != node.name
    {
        let kind = ProblemKind::SharedAddress {
            address,
            node: first.name.clone(),
        };
        problems.add(&node.origin, "spec.bgp", kind);
        return None;
    }
    draft.peer.passive = draft.peer.source_address.is_some_and(|own| is_passive(own, address));
    draft.peer.distance = distance(cluster, draft.peer.internal, address);
    Some(draft)
}
