//! Sessions that BGPPeers ask for, on the side that is selected and on the side that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_model::PeerAddr;
use tortie_model::resource::{BgpPeer, BgpPeerSpec, NextHopMode, ReversePeering, SourceAddress};

use super::cluster::{Cluster, NodeFacts, Problems};
use super::mesh::{Draft, distance, is_passive, protocol_name, seconds, with_node};
use super::problem::ProblemKind;
use super::types::{Family, NextHop, Origin, PeerKind};
use super::workloads;
use crate::state::Stored;

/// Sessions by scope, address and port; the first that asks for one gets it.
#[derive(Default)]
pub(super) struct Sessions {
    drafts: BTreeMap<(PeerKind, IpAddr, Option<u16>), Draft>,
    /// Those of all of them, in whatever scope.
    addresses: BTreeSet<(IpAddr, Option<u16>)>,
}

impl Sessions {
    pub(super) fn offer(&mut self, draft: Draft, problems: &mut Problems) {
        let p = &draft.peer;
        let global = (PeerKind::Global, p.address, p.port);
        let same = (p.kind, p.address, p.port);
        if let Some(kept) = self.drafts.get(&global).or_else(|| self.drafts.get(&same)) {
            if kept.peer.origin != p.origin {
                let kind = ProblemKind::DuplicatePeer {
                    kept: kept.peer.origin.clone(),
                    address: p.address,
                };
                problems.add(&p.origin, "spec", kind);
            }
            return;
        }
        self.addresses.insert((p.address, p.port));
        self.drafts.insert(same, draft);
    }
}

/// A BGPPeer as it is looked at.
pub(super) struct Ask<'a> {
    pub(super) spec: &'a BgpPeerSpec,
    pub(super) origin: Origin,
}

impl<'a> Ask<'a> {
    fn new(name: &str, stored: &'a Stored<BgpPeer>) -> Self {
        let origin = Origin {
            kind: "BGPPeer",
            name: name.to_owned(),
            revision: stored.revision,
        };
        Ask {
            spec: &stored.object.spec,
            origin,
        }
    }

    /// Is the node on the side that gets the configuration?
    fn selects(&self, node: &NodeFacts<'_>) -> bool {
        self.spec.selects(node.name.as_str(), node.labels)
    }

    /// Does it mean to configure both sides?
    fn reverses(&self) -> bool {
        self.spec.reverse_peering != Some(ReversePeering::Manual) && self.spec.local_workload_selector.is_none()
    }
}

/// All of them, sorted by kind, address and port.
pub(super) fn peers(cluster: &Cluster<'_>, problems: &mut Problems) -> Vec<Draft> {
    let asks: Vec<Ask<'_>> = cluster
        .state
        .peers
        .iter()
        .map(|(name, stored)| Ask::new(name, stored))
        .collect();
    let mut sessions = Sessions::default();
    if cluster.own.v4.is_none() && cluster.own.v6.is_none() {
        return Vec::new();
    }
    for kind in [PeerKind::Global, PeerKind::Node] {
        for ask in asks.iter().filter(|a| a.spec.is_global() == (kind == PeerKind::Global)) {
            if ask.selects(&cluster.own) {
                forward(cluster, kind, ask, &mut sessions, problems);
            }
        }
    }
    for ask in asks.iter().filter(|a| a.reverses()) {
        reverse(cluster, ask, &mut sessions, problems);
    }
    sessions.drafts.into_values().collect()
}

/// Our node is selected: peer with the remote side.
fn forward(cluster: &Cluster<'_>, kind: PeerKind, ask: &Ask<'_>, sessions: &mut Sessions, problems: &mut Problems) {
    if let Some(selector) = &ask.spec.local_workload_selector {
        return workloads::peers(cluster, ask, selector, sessions, problems);
    }
    match (&ask.spec.peer_selector, ask.spec.peer_ip) {
        (Some(selector), _) => {
            ignored_with_selector(ask, problems);
            for node in cluster.others.iter().filter(|n| selector.matches(n.labels)) {
                to_node(cluster, kind, ask, node, problems)
                    .into_iter()
                    .for_each(|d| sessions.offer(d, problems));
            }
        }
        (None, Some(peer)) => {
            to_address(cluster, kind, ask, peer, problems)
                .into_iter()
                .for_each(|d| sessions.offer(d, problems));
        }
        (None, None) => problems.add(&ask.origin, "spec.peerIP", ProblemKind::PeerWithoutRemote),
    }
}

/// Calico leaves these out on such sessions, and must: the other node would not expect them.
fn ignored_with_selector(ask: &Ask<'_>, problems: &mut Problems) {
    let because = || ProblemKind::NoEffect {
        reason: "sessions between nodes use the AS of each node",
    };
    if ask.spec.local_as_number.is_some() {
        problems.add(&ask.origin, "spec.localASNumber", because());
    }
    if ask.spec.num_allowed_local_as_numbers.is_some() {
        problems.add(&ask.origin, "spec.numAllowedLocalASNumbers", because());
    }
}

/// Our node is on the remote side: peer with every node that is selected.
fn reverse(cluster: &Cluster<'_>, ask: &Ask<'_>, sessions: &mut Sessions, problems: &mut Problems) {
    let only = match (&ask.spec.peer_selector, ask.spec.peer_ip) {
        (Some(selector), _) if selector.matches(cluster.own.labels) => None,
        (None, Some(peer)) if is_own(cluster, ask, peer) => Some(Family::of(peer.ip)),
        _ => return,
    };
    for node in cluster.others.iter().filter(|n| ask.selects(n)) {
        let Some(mut draft) = to_node(cluster, PeerKind::Node, ask, node, problems) else {
            continue;
        };
        if let Some(family) = only {
            let Some(narrow) = narrowed(cluster, draft, node, family) else {
                continue;
            };
            draft = narrow;
        }
        // A node that selects itself and is selected by others asks once.
        if !sessions.addresses.contains(&(draft.peer.address, draft.peer.port)) {
            sessions.offer(draft, problems);
        }
    }
}

/// Does peerIP mean our own node?
fn is_own(cluster: &Cluster<'_>, ask: &Ask<'_>, peer: PeerAddr) -> bool {
    let port = peer.port.is_none() || peer.port == Some(cluster.own.listen_port.unwrap_or(179));
    cluster.own.has(peer.ip) && port && ask.spec.as_number == Some(cluster.own.asn)
}

/// The session in this family only.
fn narrowed(cluster: &Cluster<'_>, mut draft: Draft, node: &NodeFacts<'_>, family: Family) -> Option<Draft> {
    let (own, theirs) = (cluster.own.address(family)?, node.address(family)?);
    draft.families = vec![family];
    draft.peer.address = theirs.addr;
    draft.peer.name = protocol_name(draft.peer.kind, theirs.addr, draft.peer.port);
    draft.peer.source_address = draft.peer.source_address.map(|_| own.addr);
    Some(draft)
}

fn to_node(
    cluster: &Cluster<'_>,
    kind: PeerKind,
    ask: &Ask<'_>,
    node: &NodeFacts<'_>,
    problems: &mut Problems,
) -> Option<Draft> {
    let Some(mut draft) = with_node(cluster, kind, node, &ask.origin) else {
        let lacks = if node.v4.is_none() && node.v6.is_none() {
            ProblemKind::NodeWithoutAddress
        } else {
            ProblemKind::NoCommonFamily {
                node: cluster.own.name.clone(),
            }
        };
        problems.add(&node.origin(), "spec.bgp", lacks);
        return None;
    };
    if cluster.own.has(draft.peer.address) {
        let kind = ProblemKind::OwnAddressTaken {
            address: draft.peer.address,
        };
        problems.add(&node.origin(), "spec.bgp", kind);
        return None;
    }
    options(cluster, ask, &mut draft, problems);
    reflect(cluster, &mut draft);
    Some(draft)
}

fn to_address(
    cluster: &Cluster<'_>,
    kind: PeerKind,
    ask: &Ask<'_>,
    peer: PeerAddr,
    problems: &mut Problems,
) -> Option<Draft> {
    let (address, family) = (peer.ip, Family::of(peer.ip));
    if cluster.own.has(address) {
        return None;
    }
    let Some(asn) = ask.spec.as_number.filter(|a| a.0 != 0) else {
        problems.add(&ask.origin, "spec.asNumber", ProblemKind::PeerWithoutAs);
        return None;
    };
    let Some(own) = cluster.own.address(family) else {
        problems.add(&ask.origin, "spec.peerIP", ProblemKind::FamilyDisabled { address });
        return None;
    };
    let node = cluster.node_at(address);
    let port = peer
        .port
        .or_else(|| node.filter(|n| n.asn == asn).and_then(|n| n.listen_port));
    let local_asn = ask.spec.local_as_number.filter(|a| *a != cluster.own.asn);
    let mut draft = Draft::new(kind, (address, port), asn, &ask.origin);
    let session = &mut draft.peer;
    session.remote_node = node.map(|n| n.name.clone());
    session.local_asn = local_asn;
    session.internal = asn == local_asn.unwrap_or(cluster.own.asn);
    session.source_address = Some(own.addr);
    // A BGPPeer for every node that names a node makes the two ask for each other.
    session.passive = kind == PeerKind::Global && node.is_some() && is_passive(own.addr, address);
    let allowed = ask.spec.num_allowed_local_as_numbers;
    session.allow_local_as = allowed.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    options(cluster, ask, &mut draft, problems);
    reflect(cluster, &mut draft);
    Some(draft)
}

/// What a BGPPeer says of its sessions, whoever they are with.
fn options(cluster: &Cluster<'_>, ask: &Ask<'_>, draft: &mut Draft, problems: &mut Problems) {
    let (spec, peer) = (ask.spec, &mut draft.peer);
    if spec.source_address == Some(SourceAddress::None) {
        peer.source_address = None;
    }
    peer.ttl_security_hops = spec.ttl_security.filter(|hops| *hops > 0);
    peer.restart_time_s = spec.max_restart_time.map(|d| seconds(d.0));
    peer.keepalive_s = spec.keepalive_time.map(|d| seconds(d.0)).filter(|s| *s > 0);
    peer.password = cluster.password(spec.password.as_ref(), (&ask.origin, "spec.password"), problems);
    draft.filters.clone_from(&spec.filters);
    draft.next_hop = match spec.next_hop_mode {
        Some(NextHopMode::SelfHop) => NextHop::Own,
        Some(NextHopMode::Keep) => NextHop::Keep,
        _ if spec.keep_original_next_hop && !peer.internal => NextHop::Keep,
        Some(NextHopMode::Auto) | None => NextHop::Auto,
    };
    match spec.reachable_by {
        Some(gateway) if Family::of(gateway) != Family::of(peer.address) => {
            problems.add(&ask.origin, "spec.reachableBy", ProblemKind::GatewayFamily { gateway });
        }
        other => draft.reachable_by = other,
    }
    if peer.ttl_security_hops.is_none() && draft.reachable_by.is_none() {
        peer.distance = distance(cluster, peer.internal, peer.address);
    }
}

/// We reflect to internal peers that are not reflectors of our own cluster id (RFC 4456).
pub(super) fn reflect(cluster: &Cluster<'_>, draft: &mut Draft) {
    let theirs = cluster.node_at(draft.peer.address).and_then(|n| n.cluster_id);
    draft.peer.rr_client_of = cluster
        .own
        .cluster_id
        .filter(|own| draft.peer.internal && theirs != Some(*own));
}
