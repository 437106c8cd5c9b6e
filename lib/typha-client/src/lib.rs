//! A client of typha: a replicated copy of the cluster state ([`sync`]) and reads and writes of single keys ([`Store`]).
//!
//! Keys are Calico's datastore keys, values the JSON documents stored there: this crate knows no resource kinds.
//!
//! | task | how many | in | out |
//! |---|---|---|---|
//! | sync | one per [`sync`] call | typha's stream, the snapshot file at start | [`SyncEvent`]s, the snapshot file |
//!
//! What a consumer of [`sync`] can rely on:
//! * deltas are true differences to what it was told before, across reconnects, restarts of typha and snapshots;
//! * nothing is deleted because a connection or a snapshot broke off;
//! * time never runs backwards: an older state of the same cluster is refused and reported, and so is another cluster's
//!   (a datastore that was made anew): an operator accepts it by removing the saved state and restarting the program;
//! * fail static: with typha away at start, the last good snapshot on disk is delivered, marked as such, and what typha
//!   serves while its datastore is away is marked as such, too;
//! * a typha that stops hands its clients to others, where they resume; so do they by themselves when it is gone, and so
//!   do calls of the store;
//! * a slow consumer gets the newest value of each key, not every value; memory is bounded by the size of the map.
//!
//! [`Engine`] is the protocol without sockets and clock; typha's tests drive it against the server's half.

#![warn(missing_docs)]

mod engine;
mod expand;
mod links;
mod outbox;
mod route;
mod snapshot;
mod store;
mod task;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tortie_kit::address::Target;
use tortie_proto::common::Hello;
use tortie_replica::Delta;

pub use engine::{Engine, Position, Progress, ProtocolError};
pub use expand::ExpandError;
pub use store::{Entry, Listing, ServerStatus, Store, StoreError, Write, Written};

/// How many events wait in the channel of [`sync`]. More changes than that coalesce per key.
const EVENTS: usize = 256;

/// What to replicate, from where.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Where typha is.
    pub typha: Target,
    /// What this client says of itself: program, node, instance.
    pub hello: Hello,
    /// Only keys that start with one of these; every key when empty.
    pub prefixes: Vec<String>,
    /// Where the last good state is kept on disk, if it shall be. Its directory must exist.
    pub snapshot: Option<PathBuf>,
}

/// A value and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The JSON document. Cheap to clone.
    pub value: Bytes,
    /// The datastore revision of the last change of this key: what a compare-and-swap names.
    pub revision: u64,
}

/// What [`sync`] delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent {
    /// A change of the map. `Delta::InSync` follows its [`SyncStatus::InSync`], [`SyncStatus::Stale`] or
    /// [`SyncStatus::FromSnapshot`].
    Delta(Delta<String, Versioned>),
    /// Where the map comes from and whether it is current.
    Status(SyncStatus),
}

/// Where the map comes from and whether it is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncStatus {
    /// An attempt to reach typha begins.
    Connecting,
    /// The deltas before this are the last good state on disk: typha was not there in time.
    FromSnapshot {
        /// The datastore revision of that state.
        revision: u64,
        /// How long ago it was saved.
        age: Duration,
    },
    /// The deltas before this are typha's state at `revision`.
    InSync {
        /// The datastore revision.
        revision: u64,
    },
    /// typha serves what it had when its datastore answered last; what happened since is not known. Followed by
    /// [`SyncStatus::InSync`] when it answers again.
    Stale {
        /// The datastore revision of what is held: typha's, or a later one that this client has seen.
        revision: u64,
        /// How long ago the datastore answered typha, when typha said so.
        age: Duration,
        /// Why, in words.
        reason: String,
    },
    /// The connection is lost or was refused; another attempt follows. What was delivered stays valid.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
}

/// Replicates until the token is cancelled or the receiver is dropped. Must be called inside a tokio runtime.
///
/// Reconnects for ever with back-off and resumes where it was. Every completed connection ends its catching up with one
/// [`SyncStatus::InSync`] and `Delta::InSync`, also when nothing changed.
pub fn sync(options: SyncOptions, token: CancellationToken) -> mpsc::Receiver<SyncEvent> {
    let (tx, rx) = mpsc::channel(EVENTS);
    tokio::spawn(task::run(options, token, tx));
    rx
}
