//! Every node's view of one cluster state.
//!
//! What all nodes depend on is held once; what only one node depends on (its blocks, its workloads) is laid over it while
//! that node's view is computed.

use std::collections::BTreeMap;

use tortie_model::{Key, Kind, Owner, WorkloadName};
use tortie_net::NodeName;

use crate::state::{ClusterState, Secret};
use crate::{BgpView, NoView, RouterIdChoice, compute};

/// A stored document.
#[derive(Debug, Clone)]
struct Document {
    key: String,
    json: Vec<u8>,
    revision: u64,
}

/// A cluster's documents as far as BGP on its nodes depends on them.
#[derive(Debug, Clone)]
pub struct ClusterDocuments {
    shared: ClusterState,
    own: BTreeMap<NodeName, Vec<Document>>,
}

impl ClusterDocuments {
    /// Documents by key, each with the revision of its last change; what BGP does not depend on is left out.
    ///
    /// Which secrets there are is not known here: every one that an object names is taken to be there, and its password to
    /// be good.
    pub fn new<'a>(documents: impl IntoIterator<Item = (&'a str, &'a [u8], u64)>) -> Self {
        let nobody = "nobody".parse();
        let mut shared = ClusterState::new(nobody.expect("invariant: 'nobody' is a node's name"));
        let mut own: BTreeMap<NodeName, Vec<Document>> = BTreeMap::new();
        for (key, json, revision) in documents {
            match node_of(key) {
                Some(node) => own.entry(node).or_default().push(Document {
                    key: key.to_owned(),
                    json: json.to_vec(),
                    revision,
                }),
                None => {
                    shared.set(key, json, revision);
                }
            }
        }
        for secret in shared.wanted_secrets() {
            shared.secrets.insert(secret, Secret("unknown".to_owned()));
        }
        ClusterDocuments { shared, own }
    }

    /// The nodes, sorted.
    pub fn nodes(&self) -> Vec<NodeName> {
        self.shared.nodes.keys().cloned().collect()
    }

    /// What the node's BGP speaker should do.
    ///
    /// # Errors
    /// [`NoView`] when there is no such node.
    pub fn view(&mut self, node: &NodeName) -> Result<BgpView, NoView> {
        self.shared.node = node.clone();
        let documents = self.own.get(node).map(Vec::as_slice).unwrap_or_default();
        for document in documents {
            self.shared.set(&document.key, &document.json, document.revision);
        }
        let view = compute(&self.shared, RouterIdChoice::Auto);
        for document in documents {
            self.shared.delete(&document.key);
        }
        view
    }
}

/// The only node whose view depends on a document; none: every node's does, or none's.
pub fn node_of(key: &str) -> Option<NodeName> {
    match key.parse::<Key>().ok()? {
        Key::Affinity {
            owner: Owner::Host(node),
            ..
        } => Some(node),
        Key::Resource {
            kind: Kind::WorkloadEndpoint,
            name,
            ..
        } => name.parse::<WorkloadName>().ok()?.node().parse().ok(),
        Key::Resource { .. }
        | Key::Affinity {
            owner: Owner::Virtual(_),
            ..
        }
        | Key::Block(_)
        | Key::Handle(_)
        | Key::IpamConfig
        | Key::IpamHost(_)
        | Key::Lease(_)
        | Key::Report(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn each_node_has_what_is_its_own() {
        let node = |name: &str, address: &str| json!({"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": {"ipv4Address": address}}});
        let resource = |kind: Kind, name: &str| Key::resource(kind, Some("web"), name).to_string();
        let documents: Vec<(String, Value)> = vec![
            (resource(Kind::Node, "n1"), node("n1", "172.30.0.11/24")),
            (resource(Kind::Node, "n1-b"), node("n1-b", "172.30.0.12/24")),
            (
                "/calico/ipam/v2/host/n1/ipv4/block/10.244.0.0-26".to_owned(),
                json!({"state": "confirmed", "deleted": false}),
            ),
            (
                resource(Kind::WorkloadEndpoint, "n1--b-k8s-web-eth0"),
                json!({"kind": "WorkloadEndpoint", "metadata": {"name": "n1--b-k8s-web-eth0", "namespace": "web"},
                    "spec": {"node": "n1-b", "orchestrator": "k8s", "pod": "web", "endpoint": "eth0",
                        "ipNetworks": ["10.244.0.5/32"]}}),
            ),
        ];
        let texts: Vec<(String, String)> = documents.into_iter().map(|(k, v)| (k, v.to_string())).collect();
        let mut cluster = ClusterDocuments::new(texts.iter().map(|(k, v)| (k.as_str(), v.as_bytes(), 1)));
        let names: Vec<String> = cluster.nodes().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["n1", "n1-b"]);
        let mut originated = |node: &str| -> Vec<String> {
            let view = cluster.view(&node.parse().unwrap()).unwrap();
            view.families[0]
                .originated
                .iter()
                .map(|o| o.prefix.to_string())
                .collect()
        };
        for _ in 0..2 {
            assert_eq!(originated("n1"), ["10.244.0.0/26"]);
            assert_eq!(originated("n1-b"), ["10.244.0.5/32"]);
        }
        assert!(cluster.view(&"n2".parse().unwrap()).is_err());
    }
}
