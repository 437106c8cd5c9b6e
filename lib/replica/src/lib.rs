//! Replicating a keyed map one way, with an in-sync mark.
//!
//! Every edge between Tortie's programs is this one idea: datastore to typha to felix and confd, bird-rs to felix, felix to
//! the kernel. The vocabulary is [`Delta`]; a sink that receives snapshots and changes holds a [`Replica`]; a sink that
//! must make something else equal to a wanted state holds a [`Tracker`]; a source with many readers keeps
//! [`Breadcrumbs`].
//!
//! Invariants, whatever the order of calls:
//! * a deletion is never derived from a read that failed or stopped half way: only [`Replica::in_sync`] sweeps, and only
//!   what a snapshot that was begun did not name;
//! * output is a function of current state, never of history: applying the same deltas twice changes nothing.
//!
//! Pure: no clock, no IO.

#![warn(missing_docs)]

mod breadcrumbs;
mod packed;
mod replica;
mod tracker;

pub use breadcrumbs::{Breadcrumbs, Position, Resume};
pub use packed::PackedMap;
pub use replica::Replica;
pub use tracker::{Pending, Tracker};

/// One step of replicating a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<K, V> {
    /// The key has this value now.
    Set(K, V),
    /// The key is gone.
    Delete(K),
    /// Everything the source had when the stream began (or began anew) has been sent.
    InSync,
}
