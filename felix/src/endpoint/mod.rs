//! The endpoint service: what a container runtime's ADD, DEL, CHECK, STATUS and GC mean on this node.
//!
//! | task | number | ends |
//! |---|---|---|
//! | one per call | as many as calls | with its work, also when the caller is gone |
//! | `recorder` | 1 | with the service |
//!
//! Invariants: an Add answers when address, veth pair, routes and record are all in place, and a failed one leaves nothing
//! behind that this felix could remove; calls for the same endpoint run one after the other; a Del of an old container
//! never touches what a newer one of the same pod has; an address is released last, when nothing routes it any more.
//!
//! Not here: routes ([`crate::dataplane`]), address decisions ([`crate::ipam`]), policy.

mod failure;
mod given;
mod lanes;
mod namespace;
mod ready;
mod record;
mod recorder;
mod request;
mod service;
mod wiring;
mod work;

#[cfg(test)]
mod tests;

use tortie_net::NodeName;
use tortie_proto::felix::endpoint_server::EndpointServer;
use tortie_typha_client::Store;

use crate::dataplane::Dataplane;
use crate::ipam::Ipam;
use crate::state::StateHandle;

pub use service::Service;

/// What the service works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This node.
    pub node: NodeName,
    /// Where records go.
    pub store: Store,
    /// What is known of the cluster.
    pub state: StateHandle,
    /// The owner of this node's routes.
    pub dataplane: Dataplane,
    /// The owner of this node's addresses.
    pub ipam: Ipam,
}

/// The service, to be mounted on felix's gRPC server.
pub fn service(parts: Parts) -> EndpointServer<Service> {
    EndpointServer::new(Service::new(parts))
}
