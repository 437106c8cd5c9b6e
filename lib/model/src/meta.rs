//! What every resource has: type, metadata, specification, and whatever a newer writer added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kind::Kind;

/// `apiVersion` of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// Fields this version does not know. They survive a read and a write, so that an older program does not destroy what a
/// newer one stored.
pub type Extra = Map<String, Value>;

/// The metadata of a resource (the part of Kubernetes' ObjectMeta that Calico uses).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The name, unique for its kind and namespace.
    pub name: String,
    /// The namespace, for namespaced kinds only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Given at creation, never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Opaque version of the stored object; never stored itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// RFC 3339, given at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// What selectors look at.
    #[serde(deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What selectors do not look at.
    #[serde(deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A map of texts; null, which Go writes for an empty map, is empty.
fn text_map<'de, D: serde::Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// A specification with a kind of its own.
pub trait Spec: Serialize + serde::de::DeserializeOwned {
    /// The kind.
    const KIND: Kind;
}

/// A resource as Calico stores it: the whole object, with its kind, metadata, specification and perhaps a status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource<S> {
    /// The kind's name.
    #[serde(default)]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: Meta,
    /// The specification. An object stored without one is read by [`crate::decode`] as having an empty one.
    pub spec: S,
    /// What programs report about the object, untyped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl<S: Spec> Resource<S> {
    /// A resource of a cluster-scoped kind.
    pub fn new(name: &str, spec: S) -> Self {
        Resource {
            kind: S::KIND.name().to_owned(),
            api_version: API_VERSION.to_owned(),
            metadata: Meta {
                name: name.to_owned(),
                ..Meta::default()
            },
            spec,
            status: None,
            extra: Extra::new(),
        }
    }

    /// A resource of a namespaced kind.
    pub fn namespaced(namespace: &str, name: &str, spec: S) -> Self {
        let mut resource = Resource::new(name, spec);
        resource.metadata.namespace = Some(namespace.to_owned());
        resource
    }

    /// The key it is stored under.
    pub fn key(&self) -> crate::key::Key {
        crate::key::Key::resource(S::KIND, self.metadata.namespace.as_deref(), &self.metadata.name)
    }
}

impl<S> Resource<S> {
    /// The name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The namespace, or `""`.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
}
