//! The resources of `projectcalico.org/v3`: typed keys and values, selectors, defaults, validation.
//!
//! * [`Key`] is a datastore key (Calico's etcd layout), [`decode`] gives the [`Object`] stored under it.
//! * [`resource`] has the specifications, [`ipam`] the IPAM documents, [`report`] what felix reports, [`selector`] the selector language.
//! * [`read_manifests`] reads what people write, strictly, with lines in its messages.
//! * [`admit`] decides what may be stored: defaults, every rule of a kind, rules between objects, what cannot change.
//! * [`without_effect`] says what of a document no program acts on yet.
//!
//! Pure: no IO, no clock. What is stored by a newer program survives: unknown fields are kept through a read and a write.

#![warn(missing_docs)]

mod admit;
mod inert;
mod invalid;
pub mod ipam;
pub mod key;
mod kind;
mod manifest;
mod meta;
pub mod node_report;
mod object;
mod port_range;
pub mod report;
pub mod resource;
mod scalar;
mod schema;
pub mod selector;
mod workload_name;

pub use admit::{View, admit, admit_delete};
pub use inert::without_effect;
pub use invalid::{Invalid, Refused};
pub use key::{Key, Owner};
pub use kind::Kind;
pub use manifest::{Manifest, Place, Problem, What, read_manifests};
pub use meta::{API_VERSION, Extra, Meta, Resource, Spec};
pub use object::{DecodeError, Object, decode, decode_value};
pub use port_range::{BadPortRange, PortRange};
pub use report::{ReportKey, ReportOf};
pub use scalar::{BadDuration, BadPeerAddr, BadText, GoDuration, InterfaceAddr, PeerAddr};
pub use selector::Selector;
pub use workload_name::{BadWorkloadName, WorkloadName, interface_name};
