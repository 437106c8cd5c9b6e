//! The WorkloadEndpoint of an attachment.

use std::net::IpAddr;

use tortie_model::resource::{IpNat, WorkloadEndpoint, WorkloadEndpointSpec};
use tortie_model::{Object, decode};
use tortie_net::{NodeName, Prefix};
use tortie_netlink::link::MacAddr;
use tortie_typha_client::{Store, StoreError, Write};

use super::failure::Failure;
use super::recorder::Recorder;
use super::request::{Attachment, Orchestrator};

/// Which network made the endpoint: a garbage collection concerns one network only.
pub(super) const NETWORK: &str = "tortie/network";

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) endpoint: WorkloadEndpoint,
    pub(super) revision: u64,
}

impl Record {
    /// Its addresses.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        self.endpoint.spec.ip_networks.iter().map(|p| p.addr()).collect()
    }

    /// Is it of this very container, and not of an older or newer one of the same pod?
    pub(super) fn is_of(&self, attachment: &Attachment) -> bool {
        self.endpoint.spec.container_id == attachment.container_id
    }
}

/// Reads the record of an attachment.
pub(super) async fn read(store: &Store, attachment: &Attachment) -> Result<Option<Record>, Failure> {
    let key = attachment.key();
    let entry = match store.get(&key.to_string()).await {
        Ok(entry) => entry,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    match decode(&key, &entry.value) {
        Ok(Object::WorkloadEndpoint(w)) => Ok(Some(Record {
            endpoint: *w,
            revision: entry.revision,
        })),
        Ok(_) => Err(Failure::internal(format!(
            "{} is stored as something else",
            key.object_name()
        ))),
        Err(e) => Err(Failure::internal(format!(
            "the stored record cannot be read: {e}; correct or delete it, then try again"
        ))),
    }
}

/// What an ADD made.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) ips: &'a [IpAddr],
    pub(super) mac: MacAddr,
    pub(super) nats: Vec<IpNat>,
}

/// Writes the record; what others put into an existing one stays.
pub(super) async fn write(
    recorder: &Recorder,
    node: &NodeName,
    attachment: &Attachment,
    existing: Option<&Record>,
    made: Made<'_>,
) -> Result<(), Failure> {
    let mut endpoint = match existing {
        Some(record) => record.endpoint.clone(),
        None => WorkloadEndpoint::namespaced(&attachment.namespace, &attachment.name, WorkloadEndpointSpec::default()),
    };
    let label = |name: &str| format!("projectcalico.org/{name}");
    endpoint
        .metadata
        .labels
        .insert(label("namespace"), attachment.namespace.clone());
    endpoint
        .metadata
        .labels
        .insert(label("orchestrator"), attachment.orchestrator.as_str().to_owned());
    endpoint
        .metadata
        .annotations
        .insert(NETWORK.to_owned(), attachment.network.clone());
    let spec = &mut endpoint.spec;
    spec.orchestrator = attachment.orchestrator.as_str().to_owned();
    spec.node = node.to_string();
    spec.container_id = attachment.container_id.clone();
    spec.pod = attachment.pod.clone();
    spec.endpoint = attachment.ifname.clone();
    spec.ip_networks = made.ips.iter().map(|ip| Prefix::host(*ip)).collect();
    spec.interface_name = attachment.interface.clone();
    spec.mac = made.mac.to_string();
    // They are the pod's wish, as each of its containers brings it.
    if !made.nats.is_empty() || !existing.is_some_and(|record| record.is_of(attachment)) {
        spec.ip_nats = made.nats;
    }
    if existing.is_none() {
        spec.profiles = vec![match attachment.orchestrator {
            Orchestrator::Kubernetes => format!("kns.{}", attachment.namespace),
            Orchestrator::Cni => attachment.network.clone(),
        }];
    }
    if existing.is_some_and(|record| record.endpoint == endpoint) {
        return Ok(());
    }
    let json = serde_json::to_vec(&endpoint).map_err(|e| Failure::internal(format!("encode the record: {e}")))?;
    let key = attachment.key().to_string();
    let write = match existing {
        Some(record) => Write::update(&key, json, record.revision),
        None => Write::create(&key, json),
    };
    Ok(recorder.write(write).await?)
}

/// Deletes the record, if it is of this container. A few others may write to it meanwhile.
pub(super) async fn delete(store: &Store, recorder: &Recorder, attachment: &Attachment) -> Result<(), Failure> {
    const ATTEMPTS: u32 = 5;
    let key = attachment.key().to_string();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let Some(record) = read(store, attachment).await?.filter(|r| r.is_of(attachment)) else {
            return Ok(());
        };
        match recorder.write(Write::delete(&key, record.revision)).await {
            Ok(()) | Err(StoreError::NotFound(_)) => return Ok(()),
            Err(e @ StoreError::Conflict(_)) => last = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    last.map_or(Ok(()), |e| Err(e.into()))
}
