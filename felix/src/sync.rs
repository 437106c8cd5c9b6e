//! The sync task: typha's documents, through the calculation, to the dataplane and to whoever reads the state.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tortie_calc::{Calc, Update};
use tortie_model::{Key, key};
use tortie_net::NodeName;
use tortie_replica::Delta;
use tortie_typha_client::{SyncEvent, SyncStatus, Versioned};

use crate::dataplane::manager::Input;
use crate::peering;
use crate::state::{Source, StateWriter};
use crate::tables;
use crate::tunnel::Wanted;

/// Events taken at once at most, to be computed together.
const BATCH: usize = 4096;

/// What felix wants to see of the datastore.
pub fn prefixes() -> Vec<String> {
    use tortie_model::Kind::{
        BgpConfiguration, BgpPeer, ClusterInformation, FelixConfiguration, IpPool, IpReservation, Node,
        WorkloadEndpoint,
    };
    let all = [
        BgpConfiguration,
        BgpPeer,
        ClusterInformation,
        FelixConfiguration,
        IpPool,
        IpReservation,
        Node,
        WorkloadEndpoint,
    ];
    let kinds = all.map(Key::collection);
    let ipam = [key::BLOCKS, key::HOSTS, key::IPAM_CONFIG].map(str::to_owned);
    kinds.into_iter().chain(ipam).collect()
}

/// How felix stands with the datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatastoreStatus {
    /// Nothing was received yet.
    Waiting(String),
    /// The last good state on disk is in force.
    FromSnapshot {
        /// Its revision.
        revision: u64,
        /// How old it was when read.
        age: Duration,
    },
    /// In sync with typha.
    InSync {
        /// The revision.
        revision: u64,
    },
    /// In sync with typha, whose datastore does not answer: what it held when that last did is in force.
    Stale {
        /// The revision.
        revision: u64,
        /// How old it was when typha said so.
        age: Duration,
        /// Why, in words.
        reason: String,
    },
    /// The connection is lost; what was received stays in force.
    Disconnected {
        /// The last revision received.
        revision: u64,
        /// Why.
        reason: String,
    },
}

impl DatastoreStatus {
    fn revision(&self) -> Option<u64> {
        match self {
            DatastoreStatus::Waiting(_) => None,
            DatastoreStatus::FromSnapshot { revision, .. }
            | DatastoreStatus::InSync { revision }
            | DatastoreStatus::Stale { revision, .. }
            | DatastoreStatus::Disconnected { revision, .. } => Some(*revision),
        }
    }
}

/// What is wanted of the kernel besides routes, for those who compare all of it at every change.
#[derive(Debug)]
pub struct Drivers {
    /// Of the tunnel devices.
    pub tunnels: watch::Sender<Arc<Wanted>>,
    /// Of the tables of nftables.
    pub tables: watch::Sender<Arc<tables::Wanted>>,
    /// Of the addresses at which workloads find the speaker.
    pub peering: watch::Sender<Arc<peering::Wanted>>,
}

/// The task's state.
#[derive(Debug)]
pub struct Sync {
    calc: Calc,
    state: StateWriter,
    inputs: mpsc::Sender<Input>,
    status: watch::Sender<DatastoreStatus>,
    /// What the next `Delta::InSync` ends: where the documents came from.
    source: (Source, u64),
    known: bool,
    /// What the dataplane was told of it last.
    unknown_endpoint: bool,
    updates: Vec<Update>,
    drivers: Drivers,
    /// typha itself has spoken, in this life.
    live: bool,
}

impl Sync {
    /// Of this node; `status` tells how it stands, `drivers` what is wanted besides routes.
    pub fn new(
        node: NodeName,
        state: StateWriter,
        inputs: mpsc::Sender<Input>,
        status: watch::Sender<DatastoreStatus>,
        drivers: Drivers,
    ) -> Self {
        let (calc, source) = (Calc::new(node), (Source::Unknown, 0));
        Sync {
            calc,
            state,
            inputs,
            status,
            source,
            known: false,
            unknown_endpoint: false,
            updates: Vec::new(),
            drivers,
            live: false,
        }
    }

    /// Runs until the events end or the dataplane is gone.
    pub async fn run(mut self, mut events: mpsc::Receiver<SyncEvent>) {
        let mut batch = Vec::new();
        while events.recv_many(&mut batch, BATCH).await > 0 {
            let mut synced = Vec::new();
            for event in batch.drain(..) {
                synced.extend(self.event(event));
            }
            if self.tell(synced).await.is_err() {
                return;
            }
        }
    }

    /// Publishes, and passes on what changed; nothing before the first whole state, for half of one is no state.
    async fn tell(&mut self, synced: Vec<Input>) -> Result<(), mpsc::error::SendError<Input>> {
        if !self.known {
            return Ok(());
        }
        self.updates.extend(self.calc.flush());
        self.state.settings(&self.calc.desired().settings);
        self.state.publish();
        let live = self.live || self.source.0 == Source::Typha && !synced.is_empty();
        self.tell_drivers(live);
        if !self.updates.is_empty() {
            self.inputs
                .send(Input::Desired(std::mem::take(&mut self.updates)))
                .await?;
        }
        let unknown = self.state.has_unknown_endpoint();
        if std::mem::replace(&mut self.unknown_endpoint, unknown) != unknown {
            self.inputs.send(Input::UnknownEndpoint(unknown)).await?;
        }
        for input in synced {
            self.inputs.send(input).await?;
        }
        Ok(())
    }

    /// Passes on what the drivers want to know, if it changed.
    fn tell_drivers(&mut self, live: bool) {
        let tunnels = |u: &Update| {
            matches!(
                u,
                Update::Tunnel(..) | Update::Vtep(..) | Update::NodeAddresses(_) | Update::Pool(..)
            )
        };
        let tables = |u: &Update| {
            matches!(
                u,
                Update::Tunnel(..) | Update::Host(..) | Update::Settings(_) | Update::Pool(..) | Update::Floating(..)
            )
        };
        let first = live != self.live || !self.drivers.tunnels.borrow().known;
        self.live = live;
        let desired = self.calc.desired();
        if first
            || self
                .updates
                .iter()
                .any(|u| tunnels(u) || matches!(u, Update::Settings(_)))
        {
            let wanted = Wanted::of(desired, live);
            self.drivers.tunnels.send_replace(Arc::new(wanted));
        }
        let peering = |u: &Update| matches!(u, Update::Peering(_) | Update::Settings(_));
        if first || self.updates.iter().any(peering) {
            let wanted = peering::Wanted::of(desired, live);
            self.drivers.peering.send_replace(Arc::new(wanted));
        }
        let unknown = self.state.unknown();
        if first || unknown != self.drivers.tables.borrow().unknown || self.updates.iter().any(tables) {
            let wanted = tables::Wanted::of(desired, live, unknown);
            self.drivers.tables.send_replace(Arc::new(wanted));
        }
    }

    fn event(&mut self, event: SyncEvent) -> Option<Input> {
        match event {
            SyncEvent::Delta(Delta::Set(key, value)) => self.set(&key, &value),
            SyncEvent::Delta(Delta::Delete(key)) => {
                if let Ok(key) = key.parse::<Key>() {
                    self.calc.apply(&key, None);
                    self.state.apply(&key, None, 0);
                }
            }
            SyncEvent::Delta(Delta::InSync) => {
                let (source, revision) = self.source;
                self.known = true;
                self.state.synced(source, revision);
                return Some(Input::DatastoreSynced {
                    live: source == Source::Typha,
                });
            }
            SyncEvent::Status(status) => self.status(status),
        }
        None
    }

    fn set(&mut self, text: &str, value: &Versioned) {
        let Ok(key) = text.parse::<Key>() else {
            tracing::debug!(key = text, "a key of no known form, ignored");
            return;
        };
        match tortie_model::decode(&key, &value.value) {
            Ok(object) => {
                self.calc.apply(&key, Some(&object));
                self.state.apply(&key, Some(&object), value.revision);
            }
            Err(error) => {
                tracing::warn!(key = text, %error, "a document that cannot be read, keeping the one before");
                self.state.unreadable(text, error.to_string());
            }
        }
    }

    fn status(&mut self, status: SyncStatus) {
        let before = self.status.borrow().clone();
        let now = match status {
            SyncStatus::Connecting => return,
            SyncStatus::FromSnapshot { revision, age } => {
                self.source = (Source::Snapshot, revision);
                DatastoreStatus::FromSnapshot { revision, age }
            }
            SyncStatus::InSync { revision } => {
                self.source = (Source::Typha, revision);
                DatastoreStatus::InSync { revision }
            }
            SyncStatus::Stale { revision, age, reason } => {
                self.source = (Source::Typha, revision);
                DatastoreStatus::Stale { revision, age, reason }
            }
            SyncStatus::Disconnected { reason } => match before.revision() {
                Some(revision) => DatastoreStatus::Disconnected { revision, reason },
                None => DatastoreStatus::Waiting(reason),
            },
        };
        // The client logs what becomes of the connection; here it is shown.
        self.status.send_replace(now);
    }
}
