//! What a change of the cluster's documents would do before it is made: to objects, sessions, announced prefixes, pools and
//! workloads' addresses.
//!
//! A pure function of two states. Sessions and announcements come from confd's own view of each node.

mod addresses;
mod text;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use tortie_bgp_view::all_nodes::{ClusterDocuments, node_of};
use tortie_bgp_view::change::{NodeChange, change};
use tortie_bgp_view::state::ClusterState;
use tortie_model::{Key, key};
use tortie_net::NodeName;

pub(crate) use addresses::{PoolChange, WorkloadChange};

use crate::store::{Snapshot, short_name};

/// Everything that would be otherwise.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Foretold {
    /// Documents.
    pub(crate) objects: Vec<ObjectChange>,
    /// Sessions and announcements, by node.
    pub(crate) nodes: Vec<NodeChange>,
    /// Pools, and how packets to their addresses travel.
    pub(crate) pools: Vec<PoolChange>,
    /// Workloads whose addresses come to be outside every pool, or come back into one.
    pub(crate) workloads: Vec<WorkloadChange>,
}

/// A document that would be otherwise.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ObjectChange {
    /// `ippool/default`.
    pub(crate) object: String,
    /// `created`, `changed` or `deleted`.
    pub(crate) what: &'static str,
    /// The fields, unless the whole object comes or goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fields: Vec<FieldChange>,
}

/// A field that would be otherwise.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct FieldChange {
    /// Its path.
    pub(crate) field: String,
    /// Null: it is not there.
    pub(crate) before: Value,
    /// Null: it is not there any more.
    pub(crate) after: Value,
}

impl Foretold {
    /// Would nothing be otherwise?
    pub(crate) fn is_empty(&self) -> bool {
        *self == Foretold::default()
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        text::text(self)
    }
}

/// What all documents that matter begin with.
pub(crate) fn prefixes() -> BTreeSet<String> {
    let mut prefixes: BTreeSet<String> = ClusterState::key_prefixes().into_iter().collect();
    prefixes.insert(key::BLOCKS.to_owned());
    prefixes
}

/// What the step from one state to the other does. `progress` is told how many nodes of how many are done.
pub(crate) fn foretell(before: &Snapshot, after: &Snapshot, progress: &mut dyn FnMut(usize, usize)) -> Foretold {
    let keys: BTreeSet<&str> = before
        .documents()
        .chain(after.documents())
        .map(|(key, ..)| key)
        .collect();
    let changed: Vec<&str> = keys
        .into_iter()
        .filter(|key| before.json(key) != after.json(key))
        .collect();
    Foretold {
        objects: changed.iter().filter_map(|key| object(key, before, after)).collect(),
        nodes: nodes(&changed, before, after, progress),
        pools: addresses::pools(before, after),
        workloads: addresses::workloads(before, after),
    }
}

fn nodes(
    changed: &[&str],
    before: &Snapshot,
    after: &Snapshot,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<NodeChange> {
    let matters = ClusterState::key_prefixes();
    let changed = changed
        .iter()
        .filter(|key| matters.iter().any(|prefix| key.starts_with(prefix)));
    let whose: Vec<Option<NodeName>> = changed.map(|key| node_of(key)).collect();
    if whose.is_empty() {
        return Vec::new();
    }
    let mut old = ClusterDocuments::new(before.documents());
    let mut new = ClusterDocuments::new(after.documents());
    // A document that is a node's own concerns that node alone.
    let nodes: BTreeSet<NodeName> = match whose.iter().cloned().collect::<Option<BTreeSet<_>>>() {
        Some(only) => only,
        None => old.nodes().into_iter().chain(new.nodes()).collect(),
    };
    let mut all = Vec::new();
    for (done, node) in nodes.iter().enumerate() {
        progress(done, nodes.len());
        let (was, is) = (old.view(node).ok(), new.view(node).ok());
        let change = change(node, was.as_ref(), is.as_ref());
        if !change.is_empty() {
            all.push(change);
        }
    }
    progress(nodes.len(), nodes.len());
    all
}

fn object(key: &str, before: &Snapshot, after: &Snapshot) -> Option<ObjectChange> {
    let name = short_name(&key.parse::<Key>().ok()?);
    let (old, new) = (before.json(key), after.json(key));
    let (what, fields) = match (&old, &new) {
        (None, _) => ("created", Vec::new()),
        (Some(_), None) => ("deleted", Vec::new()),
        (Some(old), Some(new)) => {
            let mut fields = Vec::new();
            compare("", old, new, &mut fields);
            ("changed", fields)
        }
    };
    Some(ObjectChange {
        object: name,
        what,
        fields,
    })
}

/// Fields that differ, objects taken apart, lists as a whole.
fn compare(path: &str, old: &Value, new: &Value, out: &mut Vec<FieldChange>) {
    let (Value::Object(was), Value::Object(is)) = (old, new) else {
        if old != new {
            out.push(FieldChange {
                field: path.to_owned(),
                before: old.clone(),
                after: new.clone(),
            });
        }
        return;
    };
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for name in names {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let (old, new) = (was.get(name), is.get(name));
        compare(&path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), out);
    }
}
