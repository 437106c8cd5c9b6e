//! From cluster state to what one node's BGP speaker should do.
//!
//! [`compute`] is a pure function: the same state gives the same view, whatever happened before. Every part of a
//! [`BgpView`] names the stored object behind it; what cannot be done as asked is left out and listed as a [`Problem`].
//!
//! The rules are Calico's: which nodes are in the mesh, who dials, what a BGPPeer means on both sides, in which order
//! exports are decided. Where Tortie differs, DESIGN.md says why.
//!
//! Not here: text. Templates make that.

#![warn(missing_docs)]

pub mod all_nodes;
pub mod announce;
pub mod change;
mod cluster;
mod explicit;
mod filter_types;
mod filters;
mod mesh;
mod policy;
mod problem;
mod rules;
mod services;
pub mod state;
#[cfg(test)]
mod tests;
mod types;
mod workloads;

pub use problem::{Problem, ProblemKind};
pub use services::{ReadyEndpoint, Service};
pub use types::*;

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tortie_net::{NodeName, RouterId};

use crate::state::ClusterState;
use cluster::{Cluster, Problems};

/// How the BGP identifier is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouterIdChoice {
    /// The node's IPv4 address, or a hash of its name when it has none.
    #[default]
    Auto,
    /// A hash of the node's name.
    Hash,
    /// This one.
    Fixed(RouterId),
}

/// Text that is no choice of router id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no router id: want auto, hash or a dotted quad that is not 0.0.0.0")]
pub struct BadRouterId(String);

impl FromStr for RouterIdChoice {
    type Err = BadRouterId;

    fn from_str(s: &str) -> Result<Self, BadRouterId> {
        match s {
            "" | "auto" => Ok(RouterIdChoice::Auto),
            "hash" => Ok(RouterIdChoice::Hash),
            quad => match quad.parse::<Ipv4Addr>() {
                Ok(a) if !a.is_unspecified() => Ok(RouterIdChoice::Fixed(a.into())),
                _ => Err(BadRouterId(s.to_owned())),
            },
        }
    }
}

/// There is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoView {
    /// The node is not part of the cluster.
    #[error("there is no Node '{0}'")]
    NoNode(NodeName),
}

/// What the node's BGP speaker should do.
///
/// # Errors
/// [`NoView`] when the node does not exist: then nothing can be said, and what is in force should stay.
pub fn compute(state: &ClusterState, router_id: RouterIdChoice) -> Result<BgpView, NoView> {
    Views::default().compute(state, router_id)
}

/// Views of a state that changes, one after the other: of the mesh, what did not change is taken from the view before. What comes
/// before decides how long a view takes, and nothing else.
#[derive(Debug, Default)]
pub struct Views {
    mesh: mesh::Mesh,
}

impl Views {
    /// As [`compute`] has it.
    ///
    /// # Errors
    /// [`NoView`] when the node does not exist: then nothing can be said, and what is in force should stay.
    pub fn compute(&mut self, state: &ClusterState, router_id: RouterIdChoice) -> Result<BgpView, NoView> {
        let mut problems = Problems::default();
        problems.extend(state.unreadable.values().cloned());
        let cluster = Cluster::new(state, &mut problems).ok_or_else(|| NoView::NoNode(state.node.clone()))?;
        let origin = cluster.own.origin();
        if cluster.own.v4.is_none() && cluster.own.v6.is_none() {
            problems.add(&origin, "spec.bgp", ProblemKind::OwnNodeWithoutAddress);
        }
        let mut drafts = explicit::peers(&cluster, &mut problems);
        let (reason, mesh) = self.mesh.peers(&cluster, &drafts, &mut problems);
        let compiled = filters::Compiled::new(&cluster, &drafts, &mut problems);
        let policies = policies(&cluster, &mut drafts, (&mesh, &compiled));
        let (router_id, router_id_from) = router_id_of(&cluster, router_id);
        let mut view = BgpView {
            node: state.node.clone(),
            origin,
            router_id,
            router_id_from,
            asn: cluster.own.asn,
            asn_origin: cluster.own_asn_origin(),
            listen_port: cluster.own.listen_port,
            bind_node_ip: cluster.bind_node_ip(),
            severity: cluster.severity(),
            cluster_id: cluster.own.cluster_id,
            mesh: reason,
            ignored_interfaces: cluster.ignored_interfaces(),
            families: rules::families(&cluster, &drafts, &compiled, &mut problems),
            filters: compiled.into_functions(),
            policies,
            peers: mesh,
            problems: problems.into_sorted(),
        };
        view.peers.extend(drafts.into_iter().map(|d| Arc::new(d.peer)));
        view.peers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(view)
    }

    /// How many sessions of the mesh were made, ever.
    pub fn made(&self) -> u64 {
        self.mesh.made()
    }
}

/// Gives BGPPeers' channels their policies; returns all that are used, sorted by name.
fn policies(
    cluster: &Cluster<'_>,
    drafts: &mut [mesh::Draft],
    (mesh, compiled): (&[Arc<PeerView>], &filters::Compiled),
) -> Vec<Policy> {
    let mut all = policy::assign(cluster, drafts, compiled);
    for family in Family::ALL {
        if mesh.iter().any(|p| p.channels.iter().any(|c| c.family == family)) {
            all.extend(policy::plain(family).map(|p| (p.name.clone(), p)));
        }
    }
    all.into_values().collect()
}

fn router_id_of(cluster: &Cluster<'_>, choice: RouterIdChoice) -> (RouterId, RouterIdFrom) {
    match (choice, cluster.own.v4.map(|a| a.addr)) {
        (RouterIdChoice::Fixed(id), _) => (id, RouterIdFrom::Configured),
        (RouterIdChoice::Auto, Some(std::net::IpAddr::V4(a))) => (a.into(), RouterIdFrom::Ipv4Address),
        (RouterIdChoice::Auto | RouterIdChoice::Hash, _) => (hashed(cluster.own.name), RouterIdFrom::Hash),
    }
}

/// Calico's hash: the first four octets of SHA-256 of the name, kept out of the multicast range.
fn hashed(name: &NodeName) -> RouterId {
    let digest = Sha256::digest(name.as_str());
    let mut octets = [0u8; 4];
    for (to, from) in octets.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    if octets[0] > 223 {
        octets[0] -= 32;
    }
    Ipv4Addr::from(octets).into()
}

/// The eight hexadecimal digits that tell names apart which were cut or have no room for what they stand for.
fn short_hash(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .take(4)
        .map(|b| format!("{b:02x}"))
        .collect()
}
