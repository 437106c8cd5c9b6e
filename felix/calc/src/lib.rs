//! From cluster state to one node's desired dataplane, as a pure function.
//!
//! [`Calc`] takes the datastore's documents one by one, in any order, and keeps [`Desired`] equal to what a full
//! recomputation from the current documents would give; [`Calc::flush`] tells what changed since the last time.
//!
//! Invariants:
//! * the result depends on the current documents only, never on the order or number of steps that led to them;
//! * the work of a flush is proportional to what the changed documents touch, not to the cluster.
//!
//! Not here: what the kernel holds, routes learned from peers, and any decision that needs either.

#![warn(missing_docs)]

mod bgp;
mod desired;
mod graph;
mod settings;
mod tunnel;

pub use bgp::{LocalPeering, RouteMetrics};
pub use desired::{Desired, Endpoint, Floating, Pool, Remote, Update};
pub use graph::Calc;
pub use settings::{Nat, Refresh, Settings};
pub use tunnel::{Carriage, LocalTunnel, Tunnel, Vtep, carriage};
