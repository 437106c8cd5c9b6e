//! The cluster state as far as one node's BGP configuration depends on it, kept up to date from replicated documents.
//!
//! Documents become typed objects here, once. One that cannot be read leaves the last good version in place and is
//! reported: nothing is withdrawn because of a document this version does not understand.
//!
//! Pure: changes are given to [`ClusterState::set`] and [`ClusterState::delete`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tortie_model::ipam::Affinity;
use tortie_model::resource::{
    BgpConfiguration, BgpFilter, BgpPeer, FelixConfiguration, FelixConfigurationSpec, IpPool, Node, Switch,
    WorkloadEndpoint,
};
use tortie_model::{Key, Kind, Object, Owner, decode, key};
use tortie_net::{NodeName, Prefix};

use crate::{Origin, Problem, ProblemKind, SecretRef, Service};

/// A typed object and the revision it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// The datastore revision of its last change.
    pub revision: u64,
    /// The object.
    pub object: T,
}

/// A password. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Everything that one node's view is computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterState {
    /// The node.
    pub node: NodeName,
    /// Another plugin gives this node's pods addresses of its pod CIDRs (`ipam` host-local): those are announced.
    pub use_pod_cidr: bool,
    /// All nodes, by name.
    pub nodes: BTreeMap<NodeName, Stored<Node>>,
    /// BGPConfigurations, by name.
    pub configurations: BTreeMap<String, Stored<BgpConfiguration>>,
    /// BGPPeers, by name.
    pub peers: BTreeMap<String, Stored<BgpPeer>>,
    /// BGPFilters, by name.
    pub filters: BTreeMap<String, Stored<BgpFilter>>,
    /// IPPools, by name.
    pub pools: BTreeMap<String, Stored<IpPool>>,
    /// FelixConfigurations, by name: do floating addresses lead to workloads?
    pub felix: BTreeMap<String, Stored<FelixConfiguration>>,
    /// Affinities of this node.
    pub affinities: BTreeMap<Prefix, Stored<Affinity>>,
    /// Workloads of this node, by namespace and name.
    pub endpoints: BTreeMap<String, Stored<WorkloadEndpoint>>,
    /// Services, by namespace and name. No document becomes one by itself: who reads a cluster's services puts them here.
    pub services: BTreeMap<String, Service>,
    /// Passwords.
    pub secrets: BTreeMap<SecretRef, Secret>,
    /// Documents that could not be read, by key.
    pub unreadable: BTreeMap<String, Problem>,
}

impl ClusterState {
    /// An empty cluster, seen from `node`.
    pub fn new(node: NodeName) -> Self {
        ClusterState {
            node,
            use_pod_cidr: false,
            nodes: BTreeMap::new(),
            configurations: BTreeMap::new(),
            peers: BTreeMap::new(),
            filters: BTreeMap::new(),
            pools: BTreeMap::new(),
            felix: BTreeMap::new(),
            affinities: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            services: BTreeMap::new(),
            secrets: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        }
    }

    /// The secrets that objects name.
    pub fn wanted_secrets(&self) -> BTreeSet<SecretRef> {
        let default = self.configurations.get("default");
        let mesh = default.and_then(|s| s.object.spec.node_mesh_password.as_ref());
        let peers = self.peers.values().filter_map(|s| s.object.spec.password.as_ref());
        let keys = mesh.into_iter().chain(peers).filter_map(|p| p.secret_key_ref.as_ref());
        keys.map(|k| SecretRef {
            name: k.name.clone(),
            key: k.key.clone(),
        })
        .collect()
    }

    /// Does felix lead floating addresses (`ipNATs`) to this node's workloads?
    pub fn floating_ips(&self) -> bool {
        let none = BTreeMap::new();
        let labels = self.nodes.get(&self.node).map_or(&none, |n| &n.object.metadata.labels);
        let all = self.felix.iter().map(|(name, s)| (name.as_str(), &s.object.spec));
        let layers = FelixConfigurationSpec::layers(&self.node, labels, all);
        layers.iter().rev().find_map(|spec| spec.floating_ips) == Some(Switch::Enabled)
    }

    /// Prefixes of the keys that matter. They are the same on every node, also for what each node keeps only its own of:
    /// typha encodes the state once for all clients that ask for the same.
    pub fn key_prefixes() -> Vec<String> {
        let kinds = [
            Kind::Node,
            Kind::BgpConfiguration,
            Kind::BgpPeer,
            Kind::BgpFilter,
            Kind::IpPool,
            Kind::FelixConfiguration,
        ];
        let mut prefixes: Vec<String> = kinds.into_iter().map(Key::collection).collect();
        prefixes.push(Key::collection(Kind::WorkloadEndpoint));
        prefixes.push(key::HOSTS.to_owned());
        prefixes
    }

    /// A document was written. True when something this state holds changed.
    pub fn set(&mut self, key_text: &str, json: &[u8], revision: u64) -> bool {
        let Ok(key) = key_text.parse::<Key>() else { return false };
        if !self.concerns(&key) {
            return false;
        }
        match decode(&key, json) {
            Ok(object) => {
                self.unreadable.remove(key_text);
                self.insert(key, object, revision)
            }
            Err(e) => {
                let kind = ProblemKind::Unreadable { reason: e.reason };
                let problem = Problem {
                    object: origin_of(&key, revision),
                    field: "",
                    kind,
                };
                self.unreadable.insert(key_text.to_owned(), problem);
                true
            }
        }
    }

    /// A document is gone. True when something this state holds changed.
    pub fn delete(&mut self, key_text: &str) -> bool {
        let unreadable = self.unreadable.remove(key_text).is_some();
        let Ok(key) = key_text.parse::<Key>() else { return false };
        unreadable | self.remove(&key)
    }

    /// Keys of other nodes' workloads are told by their name, so that their documents need not be read.
    fn concerns(&self, key: &Key) -> bool {
        match key {
            Key::Resource {
                kind: Kind::WorkloadEndpoint,
                name,
                ..
            } => {
                let escaped = self.node.as_str().replace('-', "--");
                name.strip_prefix(&escaped).is_some_and(|rest| rest.starts_with('-'))
            }
            Key::Affinity { owner, .. } => *owner == Owner::Host(self.node.clone()),
            Key::Resource { .. } => true,
            Key::Block(_) | Key::Handle(_) | Key::IpamConfig | Key::IpamHost(_) | Key::Lease(_) | Key::Report(_) => {
                false
            }
        }
    }

    fn insert(&mut self, key: Key, object: Object, revision: u64) -> bool {
        match (key, object) {
            (Key::Resource { name, .. }, Object::Node(o)) => match name.parse() {
                Ok(name) => put(&mut self.nodes, name, *o, revision),
                Err(_) => false,
            },
            (Key::Resource { name, .. }, Object::BgpConfiguration(o)) => {
                put(&mut self.configurations, name, *o, revision)
            }
            (Key::Resource { name, .. }, Object::BgpPeer(o)) => put(&mut self.peers, name, *o, revision),
            (Key::Resource { name, .. }, Object::BgpFilter(o)) => put(&mut self.filters, name, *o, revision),
            (Key::Resource { name, .. }, Object::IpPool(o)) => put(&mut self.pools, name, *o, revision),
            (Key::Resource { name, .. }, Object::FelixConfiguration(o)) => put(&mut self.felix, name, *o, revision),
            (Key::Affinity { cidr, .. }, Object::Affinity(o)) => put(&mut self.affinities, cidr, o, revision),
            (Key::Resource { namespace, name, .. }, Object::WorkloadEndpoint(o)) => {
                let id = endpoint_id(namespace.as_deref(), &name);
                if o.spec.node == self.node.as_str() {
                    put(&mut self.endpoints, id, *o, revision)
                } else {
                    self.endpoints.remove(&id).is_some()
                }
            }
            _ => false,
        }
    }

    fn remove(&mut self, key: &Key) -> bool {
        match key {
            Key::Resource { kind, namespace, name } => match kind {
                Kind::Node => name.parse().is_ok_and(|n: NodeName| self.nodes.remove(&n).is_some()),
                Kind::BgpConfiguration => self.configurations.remove(name).is_some(),
                Kind::BgpPeer => self.peers.remove(name).is_some(),
                Kind::BgpFilter => self.filters.remove(name).is_some(),
                Kind::IpPool => self.pools.remove(name).is_some(),
                Kind::FelixConfiguration => self.felix.remove(name).is_some(),
                Kind::WorkloadEndpoint => self
                    .endpoints
                    .remove(&endpoint_id(namespace.as_deref(), name))
                    .is_some(),
                _ => false,
            },
            Key::Affinity { cidr, .. } if self.concerns(key) => self.affinities.remove(cidr).is_some(),
            _ => false,
        }
    }
}

fn endpoint_id(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or("default"))
}

/// Replaces. A new revision alone counts as a change too: it is part of what is shown.
fn put<K: Ord, T: PartialEq>(map: &mut BTreeMap<K, Stored<T>>, key: K, object: T, revision: u64) -> bool {
    let new = Stored { revision, object };
    let same = map.get(&key) == Some(&new);
    map.insert(key, new);
    !same
}

/// How an object is named in views and reports.
pub fn origin_of(key: &Key, revision: u64) -> Origin {
    let (kind, name) = match key {
        Key::Resource {
            kind,
            namespace: Some(namespace),
            name,
        } => (kind.name(), format!("{namespace}/{name}")),
        Key::Resource {
            kind,
            namespace: None,
            name,
        } => (kind.name(), name.clone()),
        Key::Affinity { cidr, .. } => (Kind::BlockAffinity.name(), cidr.to_string()),
        Key::Block(_) | Key::Handle(_) | Key::IpamConfig | Key::IpamHost(_) | Key::Lease(_) => {
            ("IPAM", key.to_string())
        }
        Key::Report(_) => ("felix", key.to_string()),
    };
    Origin { kind, name, revision }
}
