//! Stored documents by key: what lies under a key, typed.

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::ipam::{Affinity, AffinityState, Block, Handle, IpamConfig, Lease};
use crate::key::Key;
use crate::kind::Kind;
use crate::meta::{Extra, Resource};
use crate::report::{EndpointReport, ReportOf, StatusReport};
use crate::resource::*;
use crate::schema;

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Node.
    Node(Box<Node>),
    /// IPPool.
    IpPool(Box<IpPool>),
    /// BGPConfiguration.
    BgpConfiguration(Box<BgpConfiguration>),
    /// BGPPeer.
    BgpPeer(Box<BgpPeer>),
    /// BGPFilter.
    BgpFilter(Box<BgpFilter>),
    /// WorkloadEndpoint.
    WorkloadEndpoint(Box<WorkloadEndpoint>),
    /// FelixConfiguration.
    FelixConfiguration(Box<FelixConfiguration>),
    /// ClusterInformation.
    ClusterInformation(Box<ClusterInformation>),
    /// IPReservation.
    IpReservation(Box<IpReservation>),
    /// IPAMConfiguration.
    IpamConfiguration(Box<IpamConfiguration>),
    /// A resource of a kind Tortie does not act on.
    Other(Box<Resource<Extra>>),
    /// An allocation block.
    Block(Box<Block>),
    /// A claim on a block.
    Affinity(Affinity),
    /// A handle.
    Handle(Handle),
    /// The IPAM configuration document.
    IpamConfig(IpamConfig),
    /// A node's placeholder in IPAM; its value means nothing.
    IpamHost,
    /// Who does what only one should do.
    Lease(Lease),
    /// How felix is on a node.
    StatusReport(StatusReport),
    /// How an endpoint of a workload is.
    EndpointReport(EndpointReport),
}

/// A stored document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct DecodeError {
    /// The object, as [`Key::object_name`] has it.
    pub object: String,
    /// What is wrong, with the field where it is known.
    pub reason: String,
}

/// Reads the document stored under a key.
///
/// Absent parts get the meaning Calico gives them; unknown fields are kept. An affinity without content is confirmed.
///
/// # Errors
/// [`DecodeError`] when it is not JSON, is of another kind than its key says, or a field has a wrong type or value.
pub fn decode(key: &Key, json: &[u8]) -> Result<Object, DecodeError> {
    if let Key::Affinity { .. } = key
        && json.is_empty()
    {
        return Ok(Object::Affinity(Affinity::new(AffinityState::Confirmed)));
    }
    if let Key::IpamHost(_) = key {
        return Ok(Object::IpamHost);
    }
    let value = serde_json::from_slice(json).map_err(|e| error(key, format!("not JSON: {e}")))?;
    decode_value(key, value)
}

/// The same for a document that has been parsed.
///
/// # Errors
/// As [`decode`].
pub fn decode_value(key: &Key, value: Value) -> Result<Object, DecodeError> {
    let reason = |e: serde_json::Error| error(key, e.to_string());
    Ok(match key {
        Key::Resource { kind, namespace, name } => resource(key, *kind, namespace.as_deref(), name, value)?,
        Key::Block(cidr) => {
            let mut block: Block = serde_json::from_value(value).map_err(reason)?;
            if block.cidr != *cidr {
                return Err(error(key, format!("cidr is {}, the key says {cidr}", block.cidr)));
            }
            block.fold_legacy();
            Object::Block(Box::new(block))
        }
        Key::Affinity { .. } => Object::Affinity(serde_json::from_value(value).map_err(reason)?),
        Key::Handle(_) => Object::Handle(serde_json::from_value(value).map_err(reason)?),
        Key::IpamConfig => Object::IpamConfig(serde_json::from_value(value).map_err(reason)?),
        Key::IpamHost(_) => Object::IpamHost,
        Key::Lease(_) => Object::Lease(serde_json::from_value(value).map_err(reason)?),
        Key::Report(report) => match report.of {
            ReportOf::Status | ReportOf::LastStatus => {
                Object::StatusReport(serde_json::from_value(value).map_err(reason)?)
            }
            ReportOf::Endpoint { .. } => Object::EndpointReport(serde_json::from_value(value).map_err(reason)?),
        },
    })
}

fn error(key: &Key, reason: String) -> DecodeError {
    DecodeError {
        object: key.object_name(),
        reason,
    }
}

fn resource(
    key: &Key,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    mut value: Value,
) -> Result<Object, DecodeError> {
    let Value::Object(fields) = &mut value else {
        return Err(error(key, "want a JSON object".to_owned()));
    };
    let stated = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !stated.is_empty() && stated != kind.name() {
        return Err(error(key, format!("kind is {stated}, the key says {kind}")));
    }
    // Go leaves an empty specification out, or writes null.
    let spec = fields.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = Value::Object(Map::new());
    }
    match kind {
        Kind::Node => typed(&value).map(Object::Node),
        Kind::IpPool => typed(&value).map(Object::IpPool),
        Kind::BgpConfiguration => typed(&value).map(Object::BgpConfiguration),
        Kind::BgpPeer => typed(&value).map(Object::BgpPeer),
        Kind::BgpFilter => typed(&value).map(Object::BgpFilter),
        Kind::WorkloadEndpoint => typed(&value).map(Object::WorkloadEndpoint),
        Kind::FelixConfiguration => typed(&value).map(Object::FelixConfiguration),
        Kind::ClusterInformation => typed(&value).map(Object::ClusterInformation),
        Kind::IpReservation => typed(&value).map(Object::IpReservation),
        Kind::IpamConfiguration => typed(&value).map(Object::IpamConfiguration),
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::GlobalNetworkPolicy
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::KubeControllersConfiguration
        | Kind::LiveMigration
        | Kind::NetworkPolicy
        | Kind::NetworkSet
        | Kind::Profile
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::Tier => typed(&value).map(Object::Other),
    }
    .map_err(|e: serde_json::Error| error(key, explain(kind, &value).unwrap_or_else(|| e.to_string())))
    .and_then(|object| {
        let meta = object.meta().expect("invariant: a resource has metadata");
        // Policies of older releases are stored under another name than they show, so only the typed kinds are compared.
        let same = meta.name == name && meta.namespace.as_deref() == namespace;
        if same || !kind.supported() {
            Ok(object)
        } else {
            Err(error(
                key,
                format!("metadata.name is '{}', the key says '{name}'", meta.name),
            ))
        }
    })
}

fn typed<S: DeserializeOwned>(value: &Value) -> Result<Box<Resource<S>>, serde_json::Error> {
    Resource::deserialize(value).map(Box::new)
}

/// The first field that is wrong, which serde's message does not name.
fn explain(kind: Kind, value: &Value) -> Option<String> {
    let mut invalid = Vec::new();
    schema::check_fields(value, schema::of(kind)?, "", &mut invalid);
    invalid.first().map(|i| format!("error with field {i}"))
}

impl Object {
    /// The metadata, for resources.
    pub fn meta(&self) -> Option<&crate::meta::Meta> {
        match self {
            Object::Node(r) => Some(&r.metadata),
            Object::IpPool(r) => Some(&r.metadata),
            Object::BgpConfiguration(r) => Some(&r.metadata),
            Object::BgpPeer(r) => Some(&r.metadata),
            Object::BgpFilter(r) => Some(&r.metadata),
            Object::WorkloadEndpoint(r) => Some(&r.metadata),
            Object::FelixConfiguration(r) => Some(&r.metadata),
            Object::ClusterInformation(r) => Some(&r.metadata),
            Object::IpReservation(r) => Some(&r.metadata),
            Object::IpamConfiguration(r) => Some(&r.metadata),
            Object::Other(r) => Some(&r.metadata),
            Object::Block(_)
            | Object::Affinity(_)
            | Object::Handle(_)
            | Object::IpamConfig(_)
            | Object::IpamHost
            | Object::Lease(_)
            | Object::StatusReport(_)
            | Object::EndpointReport(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
