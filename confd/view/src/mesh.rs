//! Sessions, and those of the node-to-node mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_model::InterfaceAddr;
use tortie_net::{Asn, NodeName};

use super::cluster::{Cluster, NodeFacts, Problems};
use super::policy::plain_channels;
use super::problem::ProblemKind;
use super::types::{Distance, Family, MeshReason, NextHop, Origin, PeerKind, PeerView, SecretRef};

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

impl Draft {
    /// A session of which is known only whom it is with, in the family of that address.
    pub(super) fn new(kind: PeerKind, (address, port): (IpAddr, Option<u16>), asn: Asn, origin: &Origin) -> Self {
        let peer = PeerView {
            name: protocol_name(kind, address, port),
            kind,
            address,
            port,
            asn,
            remote_node: None,
            local_asn: None,
            internal: false,
            source_address: None,
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
        Draft {
            peer,
            families: vec![Family::of(address)],
            filters: Vec::new(),
            next_hop: NextHop::Auto,
            reachable_by: None,
        }
    }
}

/// A session with another node over the first family they share, carrying all that they share.
pub(super) fn with_node(cluster: &Cluster<'_>, kind: PeerKind, node: &NodeFacts<'_>, origin: &Origin) -> Option<Draft> {
    let family = cluster.own.shared(node).next()?;
    let (own, theirs) = (cluster.own.address(family)?, node.address(family)?);
    let mut draft = Draft::new(kind, (theirs.addr, node.listen_port), node.asn, origin);
    draft.families = cluster.own.shared(node).collect();
    draft.peer.remote_node = Some(node.name.clone());
    draft.peer.internal = node.asn == cluster.own.asn;
    draft.peer.source_address = Some(own.addr);
    Some(draft)
}

/// Exactly one of two nodes dials: the one whose address is the lesser text. Calico compares texts, so we do.
pub(super) fn is_passive(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

/// External peers in our own subnet are one hop away.
pub(super) fn distance(cluster: &Cluster<'_>, internal: bool, peer: IpAddr) -> Distance {
    let own = cluster.own.address(Family::of(peer)).map(InterfaceAddr::network);
    match own {
        Some(subnet) if !internal && !subnet.is_host() && subnet.contains(peer) => Distance::Direct,
        _ => Distance::Multihop,
    }
}

/// Sessions of the mesh as they were last made. One is made again when something that it was made of is another.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    common: Option<Common>,
    /// In the order of nodes' names.
    kept: Vec<Kept>,
    made: u64,
}

/// What every session of the mesh is made of.
#[derive(Debug, PartialEq)]
struct Common {
    addresses: [Option<InterfaceAddr>; 2],
    asn: Asn,
    restart_time_s: Option<u64>,
    password: Option<SecretRef>,
}

/// What a session with this node is made of besides.
#[derive(Debug, PartialEq)]
struct Theirs {
    revision: u64,
    addresses: [Option<InterfaceAddr>; 2],
    asn: Asn,
    listen_port: Option<u16>,
}

#[derive(Debug)]
struct Kept {
    node: NodeName,
    theirs: Theirs,
    peer: Arc<PeerView>,
}

impl Mesh {
    /// How many sessions were made, ever.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// The mesh: every other node that has an address and is no route reflector. A BGPPeer for the same address goes first.
    pub(super) fn peers(
        &mut self,
        cluster: &Cluster<'_>,
        explicit: &[Draft],
        problems: &mut Problems,
    ) -> (MeshReason, Vec<Arc<PeerView>>) {
        let before = std::mem::take(&mut self.kept);
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
        let common = Common::new(cluster, problems);
        let usable = self.common.as_ref() == Some(&common);
        let mut before = before.into_iter().filter(|_| usable).peekable();
        for node in cluster.others.iter().filter(|n| n.cluster_id.is_none()) {
            let Some(address) = obstacles(cluster, node, (&taken, problems)) else {
                continue;
            };
            while before.next_if(|k| k.node < *node.name).is_some() {}
            let theirs = Theirs::new(node);
            let same = before.next_if(|k| k.node == *node.name && k.theirs == theirs);
            let kept = same.or_else(|| {
                self.made += 1;
                let peer = Arc::new(common.session(cluster, node, address)?);
                let node = node.name.clone();
                Some(Kept { node, theirs, peer })
            });
            self.kept.extend(kept);
        }
        self.common = Some(common);
        let peers = self.kept.iter().map(|k| Arc::clone(&k.peer)).collect();
        (MeshReason::Enabled, peers)
    }
}

impl Theirs {
    fn new(node: &NodeFacts<'_>) -> Self {
        Theirs {
            revision: node.revision,
            addresses: [node.v4, node.v6],
            asn: node.asn,
            listen_port: node.listen_port,
        }
    }
}

impl Common {
    fn new(cluster: &Cluster<'_>, problems: &mut Problems) -> Self {
        let global = cluster.global();
        let at = (&cluster.global_origin(), "spec.nodeMeshPassword");
        Common {
            addresses: [cluster.own.v4, cluster.own.v6],
            asn: cluster.own.asn,
            restart_time_s: global.and_then(|g| g.node_mesh_max_restart_time).map(|d| seconds(d.0)),
            password: cluster.password(global.and_then(|g| g.node_mesh_password.as_ref()), at, problems),
        }
    }

    /// The session with a node at this address.
    fn session(&self, cluster: &Cluster<'_>, node: &NodeFacts<'_>, address: IpAddr) -> Option<PeerView> {
        let mut draft = with_node(cluster, PeerKind::Mesh, node, &node.origin())?;
        draft.peer.channels = plain_channels(cluster, &draft);
        let mut peer = draft.peer;
        peer.passive = peer.source_address.is_some_and(|own| is_passive(own, address));
        peer.distance = distance(cluster, peer.internal, address);
        peer.restart_time_s = self.restart_time_s;
        peer.password.clone_from(&self.password);
        Some(peer)
    }
}

/// Rounded, and at most what a graceful restart capability can say (RFC 4724: 12 bits).
pub(super) fn seconds(duration: std::time::Duration) -> u64 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    rounded.min(4095)
}

/// The address of the session with a node; none, and why: there can be no session.
fn obstacles(
    cluster: &Cluster<'_>,
    node: &NodeFacts<'_>,
    (taken, problems): (&BTreeMap<IpAddr, &Draft>, &mut Problems),
) -> Option<IpAddr> {
    let mut keeps = |kind| problems.add(&node.origin(), "spec.bgp", kind);
    if node.v4.is_none() && node.v6.is_none() {
        keeps(ProblemKind::NodeWithoutAddress);
        return None;
    }
    let shared = cluster.own.shared(node).next();
    let Some(address) = shared.and_then(|f| node.address(f)).map(|a| a.addr) else {
        let node = cluster.own.name.clone();
        keeps(ProblemKind::NoCommonFamily { node });
        return None;
    };
    if cluster.own.has(address) {
        keeps(ProblemKind::OwnAddressTaken { address });
        return None;
    }
    if let Some(first) = cluster.node_at(address)
        && first.name != node.name
    {
        let node = first.name.clone();
        keeps(ProblemKind::SharedAddress { address, node });
        return None;
    }
    if let Some(draft) = taken.get(&address) {
        let kept = draft.peer.origin.clone();
        keeps(ProblemKind::DuplicatePeer { kept, address });
        return None;
    }
    Some(address)
}
