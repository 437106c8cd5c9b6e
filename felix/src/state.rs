//! The datastore's objects this node needs, typed, as a snapshot that any task may read.
//!
//! One writer (the sync task) applies typha's changes and publishes; readers hold a [`StateHandle`] and take the current
//! [`State`], which never changes under them. A document that cannot be read is listed
//! in [`State::unreadable`], its last good value stays in force, and nothing else is stopped by it.
//!
//! Only what concerns this node is kept of the large collections: its endpoints, its affinities, its blocks. Snapshots
//! share what did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tortie_calc::Settings;
use tortie_model::ipam::{Affinity, Block, IpamConfig};
use tortie_model::resource::{ClusterInformation, IpPool, IpReservation, Node, WorkloadEndpoint};
use tortie_model::{Key, Object, Owner, WorkloadName};
use tortie_net::{NodeName, Prefix};

/// A document and the datastore revision of its last change: what a compare-and-swap names.
#[derive(Debug, PartialEq)]
pub struct Stored<T> {
    /// The document.
    pub value: Arc<T>,
    /// Its revision.
    pub revision: u64,
}

// Not derived: the document is shared, so it need not be `Clone`.
impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Stored {
            value: Arc::clone(&self.value),
            revision: self.revision,
        }
    }
}

/// Where the state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Nothing was received yet: absent means unknown.
    #[default]
    Unknown,
    /// The last good state on disk: what is there was true once.
    Snapshot,
    /// typha: current, or as current as the connection.
    Typha,
}

/// The datastore as this node sees it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Where it comes from. Absence of an object means something only when this is not [`Source::Unknown`].
    pub source: Source,
    /// The datastore revision it is at.
    pub revision: u64,
    /// This node's own record.
    pub node: Option<Stored<Node>>,
    /// Every pool, by name.
    pub pools: Arc<BTreeMap<String, Stored<IpPool>>>,
    /// Every reservation, by name.
    pub reservations: Arc<BTreeMap<String, Stored<IpReservation>>>,
    /// The IPAM configuration, when there is one.
    pub ipam_config: Option<Stored<IpamConfig>>,
    /// ClusterInformation `default`, when there is one.
    pub cluster: Option<Stored<ClusterInformation>>,
    /// This node's claims on blocks.
    pub affinities: Arc<BTreeMap<Prefix, Stored<Affinity>>>,
    /// The blocks that name this node as their owner.
    pub blocks: Arc<BTreeMap<Prefix, Stored<Block>>>,
    /// Blocks of others that have addresses of this node.
    pub borrowed: Arc<BTreeMap<Prefix, Stored<Block>>>,
    /// The endpoints on this node.
    pub endpoints: Arc<BTreeMap<Key, Stored<WorkloadEndpoint>>>,
    /// What FelixConfigurations say.
    pub settings: Arc<Settings>,
    /// Documents that cannot be read, by datastore key, and why.
    pub unreadable: Arc<BTreeMap<String, String>>,
}

impl State {
    /// Is the datastore known, be it from the last good snapshot?
    pub fn is_known(&self) -> bool {
        self.source != Source::Unknown
    }
}

/// Reads the state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateHandle {
    receiver: watch::Receiver<Arc<State>>,
}

impl StateHandle {
    /// The state now.
    pub fn current(&self) -> Arc<State> {
        Arc::clone(&self.receiver.borrow())
    }

    /// Waits for another state; for ever when felix stops.
    pub(crate) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The first state, from now on, that satisfies `wanted`; the last one when felix stops meanwhile. Bound the wait
    /// with a timeout.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&State) -> bool) -> Arc<State> {
        let mut receiver = self.receiver.clone();
        match receiver.wait_for(|state| wanted(state)).await {
            Ok(state) => Arc::clone(&state),
            Err(_) => self.current(),
        }
    }
}

/// Applies changes and publishes. There is one.
#[derive(Debug)]
pub struct StateWriter {
    node: NodeName,
    next: State,
    sender: watch::Sender<Arc<State>>,
}

impl StateWriter {
    /// Nothing known yet, seen from this node.
    pub fn new(node: NodeName) -> (Self, StateHandle) {
        let (sender, receiver) = watch::channel(Arc::default());
        (
            StateWriter {
                node,
                next: State::default(),
                sender,
            },
            StateHandle { receiver },
        )
    }

    /// The document under `key` is this now; `None`: it is gone. Readers see it after [`StateWriter::publish`].
    pub fn apply(&mut self, key: &Key, object: Option<&Object>, revision: u64) {
        let next = &mut self.next;
        next.revision = next.revision.max(revision);
        let text = key.to_string();
        if next.unreadable.contains_key(&text) {
            Arc::make_mut(&mut next.unreadable).remove(&text);
        }
        match key {
            Key::Block(cidr) => {
                let own = |b: &Block| b.affinity == Some(Owner::Host(self.node.clone()));
                let block = match object {
                    Some(Object::Block(b)) if own(b) => Some((**b).clone()),
                    _ => None,
                };
                let borrowed = match object {
                    Some(Object::Block(b)) if !own(b) && has_addresses_of(b, &self.node) => Some((**b).clone()),
                    _ => None,
                };
                put(&mut next.blocks, cidr, block, revision);
                put(&mut next.borrowed, cidr, borrowed, revision);
            }
            Key::Affinity {
                owner: Owner::Host(node),
                cidr,
            } if *node == self.node => {
                let affinity = match object {
                    Some(Object::Affinity(a)) => Some(a.clone()),
                    _ => None,
                };
                put(&mut next.affinities, cidr, affinity, revision);
            }
            Key::IpamConfig => {
                next.ipam_config = match object {
                    Some(Object::IpamConfig(c)) => Some(Stored {
                        value: Arc::new(c.clone()),
                        revision,
                    }),
                    _ => None,
                };
            }
            Key::Resource { name, .. } => self.resource(key, name, object, revision),
            Key::Affinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::Lease(_) | Key::Report(_) => {}
        }
    }

    fn resource(&mut self, key: &Key, name: &str, object: Option<&Object>, revision: u64) {
        let next = &mut self.next;
        match (key.kind(), object) {
            (Some(tortie_model::Kind::Node), object) if name == self.node.as_str() => {
                next.node = match object {
                    Some(Object::Node(n)) => Some(Stored {
                        value: Arc::new((**n).clone()),
                        revision,
                    }),
                    _ => None,
                };
            }
            (Some(tortie_model::Kind::IpPool), object) => {
                let pool = match object {
                    Some(Object::IpPool(p)) => Some((**p).clone()),
                    _ => None,
                };
                put(&mut next.pools, &name.to_owned(), pool, revision);
            }
            (Some(tortie_model::Kind::IpReservation), object) => {
                let reservation = match object {
                    Some(Object::IpReservation(r)) => Some((**r).clone()),
                    _ => None,
                };
                put(&mut next.reservations, &name.to_owned(), reservation, revision);
            }
            (Some(tortie_model::Kind::ClusterInformation), object) if name == "default" => {
                next.cluster = match object {
                    Some(Object::ClusterInformation(c)) => Some(Stored {
                        value: Arc::new((**c).clone()),
                        revision,
                    }),
                    _ => None,
                };
            }
            (Some(tortie_model::Kind::WorkloadEndpoint), object) => {
                let endpoint = match object {
                    Some(Object::WorkloadEndpoint(w)) if w.spec.node == self.node.as_str() => Some((**w).clone()),
                    _ => None,
                };
                put(&mut next.endpoints, key, endpoint, revision);
            }
            _ => {}
        }
    }

    /// FelixConfigurations say this.
    pub fn settings(&mut self, settings: &Settings) {
        if *self.next.settings != *settings {
            self.next.settings = Arc::new(settings.clone());
        }
    }

    /// The document under this key cannot be read.
    pub fn unreadable(&mut self, key: &str, reason: String) {
        Arc::make_mut(&mut self.next.unreadable).insert(key.to_owned(), reason);
    }

    /// Is there an endpoint of this node whose document was never readable? What it wants is unknown, not nothing.
    pub fn has_unknown_endpoint(&self) -> bool {
        let is_ours = |key: &Key| match key {
            Key::Resource {
                kind: tortie_model::Kind::WorkloadEndpoint,
                name,
                ..
            } => name
                .parse::<WorkloadName>()
                .map_or(true, |name| name.node() == self.node.as_str()),
            _ => false,
        };
        let keys = self.next.unreadable.keys().filter_map(|k| k.parse::<Key>().ok());
        keys.into_iter()
            .any(|k| is_ours(&k) && !self.next.endpoints.contains_key(&k))
    }

    /// The kinds of which a document was never readable: what it wants is unknown, not nothing.
    pub fn unknown(&self) -> BTreeSet<tortie_model::Kind> {
        let kinds = self.next.unreadable.keys().filter_map(|k| k.parse::<Key>().ok());
        let unknown = kinds.filter_map(|k| match &k {
            Key::Resource { kind, name, .. } => {
                let known = *kind == tortie_model::Kind::IpPool && self.next.pools.contains_key(name);
                (!known).then_some(*kind)
            }
            _ => None,
        });
        unknown.collect()
    }

    /// Everything before this was true at `revision`, and comes from `source`.
    pub fn synced(&mut self, source: Source, revision: u64) {
        self.next.source = source;
        self.next.revision = self.next.revision.max(revision);
    }

    /// Shows readers what was applied.
    pub fn publish(&mut self) {
        self.sender.send_replace(Arc::new(self.next.clone()));
    }
}

/// Did this node take addresses of a block?
fn has_addresses_of(block: &Block, node: &NodeName) -> bool {
    let said = block
        .attributes
        .iter()
        .filter_map(|a| a.secondary.as_ref()?.get("node"));
    said.into_iter().any(|n| n == node.as_str())
}

/// Puts or removes, without copying the map when nothing changes.
fn put<K: Ord + Clone, T>(map: &mut Arc<BTreeMap<K, Stored<T>>>, key: &K, value: Option<T>, revision: u64) {
    match value {
        Some(value) => {
            Arc::make_mut(map).insert(
                key.clone(),
                Stored {
                    value: Arc::new(value),
                    revision,
                },
            );
        }
        None if map.contains_key(key) => {
            Arc::make_mut(map).remove(key);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::Kind;

    fn read(writer: &mut StateWriter, key: &str, json: &str, revision: u64) {
        let key: Key = key.parse().unwrap();
        let object = tortie_model::decode(&key, json.as_bytes()).unwrap();
        writer.apply(&key, Some(&object), revision);
    }

    #[tokio::test]
    async fn keeps_what_is_this_nodes_and_shows_it_when_published() {
        let (mut writer, handle) = StateWriter::new("n1".parse().unwrap());
        let before = handle.current();
        read(
            &mut writer,
            "/calico/ipam/v2/host/n1/ipv4/block/10.244.0.0-26",
            r#"{"state":"confirmed"}"#,
            3,
        );
        read(
            &mut writer,
            "/calico/ipam/v2/host/n2/ipv4/block/10.244.1.0-26",
            r#"{"state":"confirmed"}"#,
            4,
        );
        for (node, pod, revision) in [("n1", "a", 5), ("n2", "b", 6)] {
            let key = Key::resource(Kind::WorkloadEndpoint, Some("web"), &format!("{node}-k8s-{pod}-eth0"));
            let json = format!(
                r#"{{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3",
                    "metadata":{{"name":"{node}-k8s-{pod}-eth0","namespace":"web"}},
                    "spec":{{"orchestrator":"k8s","node":"{node}","pod":"{pod}","endpoint":"eth0"}}}}"#
            );
            read(&mut writer, &key.to_string(), &json, revision);
        }
        assert!(handle.current().endpoints.is_empty(), "not published yet");
        writer.synced(Source::Typha, 6);
        writer.publish();
        let state = handle.wait_for(State::is_known).await;
        assert_eq!(state.revision, 6);
        assert_eq!(
            state.affinities.keys().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.244.0.0/26"]
        );
        assert_eq!(
            state
                .endpoints
                .values()
                .map(|w| (w.value.spec.pod.as_str(), w.revision))
                .collect::<Vec<_>>(),
            [("a", 5)]
        );
        assert!(!before.is_known(), "a snapshot does not change");
    }

    #[test]
    fn a_block_that_changes_hands_is_no_longer_ours() {
        let (mut writer, handle) = StateWriter::new("n1".parse().unwrap());
        let key = "/calico/ipam/v2/assignment/ipv4/block/10.244.0.0-26";
        read(&mut writer, key, r#"{"cidr":"10.244.0.0/26","affinity":"host:n1"}"#, 1);
        writer.publish();
        assert_eq!(handle.current().blocks.len(), 1);
        read(&mut writer, key, r#"{"cidr":"10.244.0.0/26","affinity":"host:n2"}"#, 2);
        writer.publish();
        assert!(handle.current().blocks.is_empty());
    }
}
