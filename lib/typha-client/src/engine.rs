//! The client's half of the sync protocol, without sockets, files and clock.
//!
//! A snapshot is put aside until it is whole and then compared with what is held: one that breaks off leaves no trace.
//! Changes are applied as they come; the position moves only with whole batches, so a resume repeats at most what is
//! known already.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{self, Batch, Change, ClientMessage, Open, Pong, ServerMessage};
use tortie_proto::{Incompatible, capability};
use tortie_replica::{Delta, Replica};

use crate::expand::{self, ExpandError};
use crate::outbox::Outbox;
use crate::{SyncEvent, SyncStatus, Versioned};

/// What this side of the protocol can do.
const CAPABILITIES: [&str; 4] = [
    capability::CURRENCY,
    capability::DRAIN,
    capability::COALESCED,
    capability::ZSTD,
];

/// How far a copy reaches: which cluster's state, and up to which datastore revision it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The cluster's identity, made with its datastore.
    pub cluster_id: String,
    /// Every change up to this one is contained.
    pub revision: u64,
}

/// The server said something it may not say, or something this client will not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Another major version.
    #[error("{0}")]
    Incompatible(Box<Incompatible>),
    /// A compressed message that cannot be used.
    #[error("typha sent a compressed message that {0}")]
    Compressed(#[from] ExpandError),
    /// A message that may not come now.
    #[error("typha sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// The server offers an older state of the same cluster than what is held.
    #[error(
        "typha offers revision {offered} of cluster {cluster_id}, revision {held} is held: time never runs backwards, \
         until an operator says so (tortiectl datastore accept)"
    )]
    Backwards {
        /// Which cluster.
        cluster_id: String,
        /// What this client holds.
        held: u64,
        /// What the server has.
        offered: u64,
    },
    /// The server has the state of another cluster, or of a datastore that was made anew.
    #[error(
        "typha serves cluster {offered}, the state held is of cluster {held}: nothing is changed until an operator says so, \
         to typha (tortiectl datastore accept) or by removing this program's saved state and restarting it"
    )]
    OtherCluster {
        /// Whose state this client holds.
        held: String,
        /// Whose the server has.
        offered: String,
    },
}

/// What a message led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do.
    Going,
    /// Send this.
    Answer(ClientMessage),
    /// The copy is current now.
    InSync,
    /// Changes after this revision come as a snapshot: they were not taken quickly enough.
    Slow(u64),
    /// typha is about to stop: connect to one of these, in this order; to where it was when there is none.
    Leave(Vec<String>),
}

#[derive(Debug)]
enum Phase {
    Closed,
    /// `open` is sent.
    Opened,
    /// Welcomed by this cluster.
    Welcomed(String),
    /// A snapshot is coming in.
    Snapshot {
        cluster_id: String,
        revision: u64,
        staged: BTreeMap<String, Versioned>,
    },
    /// Changes after the position are coming in. `live`: it has been in sync on this connection.
    Changes {
        live: bool,
    },
}

/// The client's half of the protocol: messages in; answers, and events for the consumer out.
#[derive(Debug)]
pub struct Engine {
    prefixes: Vec<String>,
    replica: Replica<String, Versioned>,
    position: Option<Position>,
    phase: Phase,
    /// What typha says of its datastore, which does not answer.
    stale: Option<sync::Stale>,
    /// Where typha says that it is served, too.
    peers: Vec<String>,
    outbox: Outbox,
}

impl Engine {
    /// Holds nothing yet. `prefixes` selects keys, as in [`crate::SyncOptions`].
    pub fn new(prefixes: Vec<String>) -> Self {
        Engine {
            prefixes,
            replica: Replica::new(),
            position: None,
            phase: Phase::Closed,
            stale: None,
            peers: Vec::new(),
            outbox: Outbox::default(),
        }
    }

    /// Starts from a state saved earlier. Nothing comes out before the first connection is in sync or
    /// [`Engine::release`] is called.
    pub(crate) fn restore(&mut self, position: Position, entries: impl IntoIterator<Item = (String, Versioned)>) {
        for (key, value) in entries {
            self.set(key, value);
        }
        self.position = Some(position);
        self.outbox.hold();
    }

    /// Typha is not there in time: the restored state comes out, marked as what it is.
    pub(crate) fn release(&mut self, status: SyncStatus) {
        self.outbox.mark(status);
        self.outbox.release();
    }

    /// Does a restored state wait for [`Engine::release`]?
    pub(crate) fn is_held(&self) -> bool {
        self.outbox.is_held()
    }

    /// A connection begins: the message to send first.
    pub fn open(&mut self, hello: Hello) -> ClientMessage {
        self.phase = Phase::Opened;
        self.stale = None;
        let resume = self.position.as_ref().map(|p| sync::Position {
            cluster_id: p.cluster_id.clone(),
            revision: p.revision,
        });
        let open = Open {
            hello: Some(hello.with_capabilities(&CAPABILITIES)),
            prefixes: self.prefixes.clone(),
            resume,
        };
        ClientMessage {
            message: Some(ClientMsg::Open(open)),
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self) {
        self.phase = Phase::Closed;
    }

    /// A message from the server.
    ///
    /// # Errors
    /// [`ProtocolError`]: the connection is to be given up; what is held stays as it is.
    pub fn handle(&mut self, message: ServerMessage) -> Result<Progress, ProtocolError> {
        let result = match message.message {
            Some(ServerMsg::Welcome(w)) => self.welcome(w),
            Some(ServerMsg::SnapshotBegin(s)) => self.snapshot_begin(s.revision),
            Some(ServerMsg::Batch(b)) => self.batch(b),
            Some(ServerMsg::InSync(s)) => self.in_sync(s.revision),
            Some(ServerMsg::Ping(p)) => Ok(Progress::Answer(self.pong(p.sequence))),
            Some(ServerMsg::Currency(c)) => self.currency(c.stale),
            // With nowhere else to go: typha ends the stream soon, and comes back.
            Some(ServerMsg::Drain(d)) if d.peers.is_empty() => Ok(Progress::Going),
            Some(ServerMsg::Drain(d)) => Ok(Progress::Leave(d.peers)),
            Some(ServerMsg::Coalesced(c)) => Ok(Progress::Slow(c.revision)),
            Some(ServerMsg::Compressed(c)) => match expand::expand(&c.zstd) {
                Ok(message) => return self.handle(message),
                Err(e) => Err(e.into()),
            },
            // A newer server's message this client did not ask for by a capability.
            None => Ok(Progress::Going),
        };
        if result.is_err() {
            self.phase = Phase::Closed;
        }
        result
    }

    fn welcome(&mut self, welcome: sync::Welcome) -> Result<Progress, ProtocolError> {
        if !matches!(self.phase, Phase::Opened) {
            return Err(ProtocolError::OutOfTurn("a welcome"));
        }
        Hello::check(welcome.hello.as_ref()).map_err(|e| ProtocolError::Incompatible(Box::new(e)))?;
        // What is held stays until the snapshot of the history that stands in its place is whole.
        let leads = |p: &&Position| p.cluster_id == welcome.cluster_id || welcome.succeeds.contains(&p.cluster_id);
        if let Some(held) = self.position.as_ref().filter(|p| !leads(p)) {
            return Err(ProtocolError::OtherCluster {
                held: held.cluster_id.clone(),
                offered: welcome.cluster_id,
            });
        }
        self.phase = Phase::Welcomed(welcome.cluster_id);
        self.peers = welcome.peers;
        Ok(Progress::Going)
    }

    /// typha says whether what it sends may be old.
    fn currency(&mut self, stale: Option<sync::Stale>) -> Result<Progress, ProtocolError> {
        if matches!(self.phase, Phase::Closed | Phase::Opened) {
            return Err(ProtocolError::OutOfTurn("how current it is"));
        }
        let before = std::mem::replace(&mut self.stale, stale);
        let held = self.position.as_ref().map_or(0, |p| p.revision);
        let live = matches!(self.phase, Phase::Changes { live: true });
        // That it is current again is news only for those who were told that they are in sync; the others will be.
        if self.stale.is_some() || (before.is_some() && live) {
            self.outbox.status(self.source(held));
        }
        Ok(Progress::Going)
    }

    /// What a state of typha's at this revision is.
    fn source(&self, revision: u64) -> SyncStatus {
        match &self.stale {
            None => SyncStatus::InSync { revision },
            Some(stale) => SyncStatus::Stale {
                revision: revision.max(stale.revision),
                age: Duration::from_secs(stale.age_seconds),
                reason: stale.reason.clone(),
            },
        }
    }

    /// Where typha said last that it is served, too.
    pub(crate) fn peers(&self) -> &[String] {
        &self.peers
    }

    fn snapshot_begin(&mut self, revision: u64) -> Result<Progress, ProtocolError> {
        let cluster_id = match &self.phase {
            Phase::Welcomed(cluster_id) => cluster_id.clone(),
            // A client too slow for the change log is sent the whole state again.
            Phase::Changes { .. } => {
                let position = self.position.as_ref().ok_or(ProtocolError::OutOfTurn("a snapshot"))?;
                position.cluster_id.clone()
            }
            Phase::Closed | Phase::Opened | Phase::Snapshot { .. } => {
                return Err(ProtocolError::OutOfTurn("a snapshot"));
            }
        };
        if let Some(held) = &self.position
            && held.cluster_id == cluster_id
            && held.revision > revision
        {
            return Err(ProtocolError::Backwards {
                cluster_id,
                held: held.revision,
                offered: revision,
            });
        }
        self.phase = Phase::Snapshot {
            cluster_id,
            revision,
            staged: BTreeMap::new(),
        };
        Ok(Progress::Going)
    }

    fn batch(&mut self, batch: Batch) -> Result<Progress, ProtocolError> {
        self.resuming("a batch")?;
        match &mut self.phase {
            Phase::Snapshot { staged, .. } => {
                for change in batch.changes {
                    match versioned(change) {
                        (key, Some(value)) => staged.insert(key, value),
                        (key, None) => staged.remove(&key),
                    };
                }
            }
            _ => {
                for change in batch.changes {
                    match versioned(change) {
                        (key, Some(value)) => self.set(key, value),
                        (key, None) => self.delete(key),
                    }
                }
                self.advance(batch.revision);
            }
        }
        Ok(Progress::Going)
    }

    fn in_sync(&mut self, revision: u64) -> Result<Progress, ProtocolError> {
        self.resuming("an in-sync mark")?;
        match std::mem::replace(&mut self.phase, Phase::Changes { live: true }) {
            Phase::Snapshot {
                cluster_id,
                revision,
                staged,
            } => self.replace(Position { cluster_id, revision }, staged),
            // Only the first mark of a connection is news; later ones move the position.
            Phase::Changes { live: true } => {
                self.advance(revision);
                return Ok(Progress::Going);
            }
            _ => self.advance(revision),
        }
        self.outbox.mark(self.source(revision));
        self.outbox.release();
        Ok(Progress::InSync)
    }

    /// After a welcome without a snapshot the server resumes: only right when it is the same cluster.
    fn resuming(&mut self, what: &'static str) -> Result<(), ProtocolError> {
        match &self.phase {
            Phase::Snapshot { .. } | Phase::Changes { .. } => Ok(()),
            Phase::Welcomed(id) if self.position.as_ref().is_some_and(|p| p.cluster_id == *id) => {
                self.phase = Phase::Changes { live: false };
                Ok(())
            }
            Phase::Welcomed(_) | Phase::Closed | Phase::Opened => Err(ProtocolError::OutOfTurn(what)),
        }
    }

    fn replace(&mut self, position: Position, staged: BTreeMap<String, Versioned>) {
        let held = self.replica.iter();
        let mut gone: BTreeMap<String, Versioned> = held
            .filter(|(k, _)| !staged.contains_key(*k))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        self.replica.begin_snapshot();
        for (key, value) in staged {
            self.set(key, value);
        }
        for delta in self.replica.in_sync() {
            if let Delta::Delete(key) = delta {
                let before = gone.remove(&key);
                self.outbox.change(key, before, None);
            }
        }
        self.position = Some(position);
    }

    fn set(&mut self, key: String, value: Versioned) {
        let before = self.replica.get(&key).cloned();
        if let Some(Delta::Set(key, value)) = self.replica.set(key, value) {
            self.outbox.change(key, before, Some(value));
        }
    }

    fn delete(&mut self, key: String) {
        let before = self.replica.get(&key).cloned();
        if let Some(Delta::Delete(key)) = self.replica.delete(key) {
            self.outbox.change(key, before, None);
        }
    }

    fn advance(&mut self, revision: u64) {
        if let Some(position) = &mut self.position {
            position.revision = position.revision.max(revision);
        }
    }

    fn pong(&self, sequence: u64) -> ClientMessage {
        let revision = self.position.as_ref().map_or(0, |p| p.revision);
        ClientMessage {
            message: Some(ClientMsg::Pong(Pong { sequence, revision })),
        }
    }

    /// Tells the consumer something besides deltas.
    pub(crate) fn status(&mut self, status: SyncStatus) {
        self.outbox.status(status);
    }

    /// Would [`Engine::next_event`] give one?
    pub fn has_event(&self) -> bool {
        self.outbox.has_next()
    }

    /// The next event for the consumer.
    pub fn next_event(&mut self) -> Option<SyncEvent> {
        self.outbox.pop()
    }

    /// How far the copy reaches, once it was complete.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The copy, sorted by key.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Versioned)> {
        self.replica.iter()
    }
}

fn versioned(change: Change) -> (String, Option<Versioned>) {
    let revision = change.revision;
    (
        change.key,
        change.value.map(|value| Versioned {
            value: Bytes::from(value),
            revision,
        }),
    )
}

#[cfg(test)]
mod tests;
