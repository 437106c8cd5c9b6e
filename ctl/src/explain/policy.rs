//! What the cluster's documents ask for: which nodes are to have a session, and which rule of a BGPFilter decides on a
//! route. Sessions are those of confd's own view; of filters, what can be told of a route that is known in parts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tortie_bgp_view::all_nodes::ClusterDocuments;
use tortie_bgp_view::{BgpView, PeerKind, PeerView};
use tortie_model::resource::{BgpFilterSpec, BgpPeer, FilterAction, FilterPeerType, FilterRule, MatchOperator, Node};
use tortie_model::{Key, Kind};
use tortie_net::Prefix;

use super::facts::{ClusterFacts, Path};

/// Which way a filter is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Import,
    Export,
}

/// What the documents say of a session between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peering {
    /// There is to be one, because of this.
    Wanted(String),
    /// There is none: why.
    None(String),
}

impl ClusterFacts {
    pub(super) fn addresses(&self, node: &str) -> Vec<IpAddr> {
        self.nodes
            .get(node)
            .map(|n| n.spec.bgp_addresses().collect())
            .unwrap_or_default()
    }

    /// The node that has this BGP address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        let (name, _) = nodes.find(|(_, n)| n.spec.bgp_addresses().any(|a| a == address))?;
        Some(name)
    }

    fn mesh(&self) -> bool {
        self.configurations.get("default").is_none_or(|c| c.spec.mesh_enabled())
    }

    /// Route reflectors among the nodes.
    pub(super) fn reflectors(&self) -> impl Iterator<Item = &str> {
        let reflects = |n: &Node| {
            n.spec
                .bgp
                .as_ref()
                .is_some_and(|b| b.route_reflector_cluster_id.is_some())
        };
        self.nodes
            .iter()
            .filter(move |(_, n)| reflects(n))
            .map(|(name, _)| name.as_str())
    }

    /// What confd makes of these documents on the node.
    fn view(&self, node: &str) -> Option<BgpView> {
        fn json<T: Serialize>(kind: Kind, objects: &BTreeMap<String, T>) -> impl Iterator<Item = (String, Vec<u8>)> {
            objects.iter().filter_map(move |(name, object)| {
                let key = Key::resource(kind, None, name).to_string();
                Some((key, serde_json::to_vec(object).ok()?))
            })
        }
        let documents: Vec<(String, Vec<u8>)> = json(Kind::Node, &self.nodes)
            .chain(json(Kind::BgpPeer, &self.peers))
            .chain(json(Kind::BgpFilter, &self.filters))
            .chain(json(Kind::BgpConfiguration, &self.configurations))
            .collect();
        let documents = documents.iter().map(|(key, json)| (key.as_str(), json.as_slice(), 0));
        ClusterDocuments::new(documents).view(&node.parse().ok()?).ok()
    }

    /// Are these two nodes to have a session?
    pub(super) fn peering(&self, a: &str, b: &str) -> Peering {
        for name in [a, b] {
            match self.nodes.get(name) {
                None => return Peering::None(format!("there is no Node {name}")),
                Some(node) if node.spec.bgp_addresses().next().is_none() => {
                    return Peering::None(format!("Node {name} has no BGP address"));
                }
                Some(_) => {}
            }
        }
        let view = self.view(a);
        let to_b = |p: &&Arc<PeerView>| p.remote_node.as_ref().is_some_and(|n| n.as_str() == b);
        if let Some(peer) = view.iter().flat_map(|v| &v.peers).find(to_b) {
            return Peering::Wanted(match peer.kind {
                PeerKind::Mesh => "the node-to-node mesh".to_owned(),
                PeerKind::Global | PeerKind::Node | PeerKind::LocalWorkload => format!("BGPPeer {}", peer.origin.name),
            });
        }
        let reflector = self.reflectors().find(|r| *r == a || *r == b);
        match (self.mesh(), reflector) {
            (true, None) => Peering::None(format!("Nodes {a} and {b} have no address family in common")),
            (true, Some(r)) => Peering::None(format!(
                "{r} is a route reflector, which takes no part in the mesh, and no BGPPeer matches both{}",
                self.idle_peers()
            )),
            (false, _) => Peering::None(format!(
                "the node-to-node mesh is disabled, and no BGPPeer matches both{}",
                self.idle_peers()
            )),
        }
    }

    /// A BGPPeer selects no node at all: why.
    pub(super) fn selects_nobody(&self, peer: &BgpPeer) -> Option<String> {
        let spec = &peer.spec;
        if self
            .nodes
            .iter()
            .any(|(name, node)| spec.selects(name, &node.metadata.labels))
        {
            return None;
        }
        Some(match (&spec.node, &spec.node_selector) {
            (Some(node), _) => format!("its node {node} does not exist"),
            (None, Some(selector)) => format!("its nodeSelector {} matches no node", selector.as_str()),
            (None, None) => "there is no node".to_owned(),
        })
    }

    /// Whether BGPPeer selects this node.
    pub(super) fn selected(&self, peer: &BgpPeer, node: &str) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|n| peer.spec.selects(node, &n.metadata.labels))
    }

    fn idle_peers(&self) -> String {
        let idle = self
            .peers
            .iter()
            .find_map(|(name, p)| Some((name, self.selects_nobody(p)?)));
        idle.map(|(name, why)| format!(" (BGPPeer {name}: {why})"))
            .unwrap_or_default()
    }

    /// BGPFilters of the session that a node has with this address, in order.
    fn filters_of(&self, node: &str, peer: IpAddr) -> Vec<(&str, &BgpFilterSpec)> {
        let view = self.view(node);
        let session = view.iter().flat_map(|v| &v.peers).find(|p| p.address == peer);
        let object = session.and_then(|session| match session.kind {
            PeerKind::Mesh => None,
            PeerKind::Global | PeerKind::Node | PeerKind::LocalWorkload => self.peers.get(&session.origin.name),
        });
        let named = object.into_iter().flat_map(|p| &p.spec.filters);
        named
            .filter_map(|name| self.filters.get_key_value(name))
            .map(|(name, filter)| (name.as_str(), &filter.spec))
            .collect()
    }

    /// The rule of a BGPFilter that rejects this route on the session of `node` with `peer`, if one does.
    pub(super) fn rejecting_rule(
        &self,
        (node, peer): (&str, IpAddr),
        direction: Direction,
        route: &Route<'_>,
    ) -> Option<String> {
        for (name, spec) in self.filters_of(node, peer) {
            let (field, rules) = match (direction, route.prefix.is_v4()) {
                (Direction::Import, true) => ("importV4", &spec.import_v4),
                (Direction::Import, false) => ("importV6", &spec.import_v6),
                (Direction::Export, true) => ("exportV4", &spec.export_v4),
                (Direction::Export, false) => ("exportV6", &spec.export_v6),
            };
            let deciding = rules.iter().zip(1..).find(|(rule, _)| route.matches(rule));
            match deciding {
                Some((rule, number)) if rule.action == FilterAction::Reject => {
                    return Some(format!("rule {number} of {field} of BGPFilter {name} rejects it"));
                }
                Some(_) => return None,
                None => {}
            }
        }
        None
    }
}

/// A route as a filter sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) prefix: Prefix,
    /// Its path, as far as one is known.
    pub(super) path: Option<&'a Path>,
    /// Is the session within the AS?
    pub(super) internal: bool,
    /// Did a peer tell it?
    pub(super) learned: bool,
}

impl Route<'_> {
    /// Conditions on metrics and interfaces are not known here, and are taken not to hold.
    fn matches(&self, rule: &FilterRule) -> bool {
        let known = rule.priority.is_none() && rule.interface.as_deref().is_none_or(|i| i == "*");
        let kind = match rule.peer_type {
            Some(FilterPeerType::Ibgp) => self.internal,
            Some(FilterPeerType::Ebgp) => !self.internal,
            None => true,
        };
        let source = rule.source.is_none() || self.learned;
        known && kind && source && self.network(rule) && self.attributes(rule)
    }

    fn network(&self, rule: &FilterRule) -> bool {
        let Some(cidr) = rule.cidr else { return true };
        let bounds = rule.prefix_length.map(|l| {
            let least = l.min.unwrap_or(cidr.len()).max(cidr.len());
            (least, l.max.unwrap_or(cidr.max_len()))
        });
        let within = bounds.is_none_or(|(least, most)| (least..=most).contains(&self.prefix.len()));
        let equal = self.prefix == cidr && within;
        let inside = cidr.covers(self.prefix) && within;
        match rule.match_operator {
            Some(MatchOperator::Equal) => equal,
            Some(MatchOperator::NotEqual) => !equal,
            Some(MatchOperator::In) => inside,
            Some(MatchOperator::NotIn) => !inside,
            None => false,
        }
    }

    fn attributes(&self, rule: &FilterRule) -> bool {
        let communities = self.path.map(|p| p.communities.as_slice()).unwrap_or_default();
        let mut wanted = rule.communities.iter().flat_map(|c| &c.values);
        let has = wanted.all(|value| {
            let plain = |text: &str| text.replace(['(', ')', ' '], "").replace(',', ":");
            communities.iter().any(|c| plain(c) == plain(value))
        });
        let path: Vec<&str> = self
            .path
            .map(|p| p.as_path.split_whitespace().collect())
            .unwrap_or_default();
        let begins = path.len() >= rule.as_path_prefix.len()
            && rule
                .as_path_prefix
                .iter()
                .zip(&path)
                .all(|(asn, word)| asn.to_string() == *word);
        has && begins
    }
}
