//! A datastore's state as it was read, and whether clients that hold another one may be led there.

use std::time::Duration;

use tortie_proto::state::State;

use super::log::{Limits, Log};
use crate::datastore::{Backend, Entry, Event, History, Listing, Revision, StorageError, WatchError};

/// A state and which history it belongs to.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(super) history: History,
    pub(super) log: Log,
}

/// The state, and as much of its past as the datastore remembers and the log holds.
///
/// # Errors
/// [`StorageError`] when it cannot be read.
pub(crate) async fn load(backend: &dyn Backend, limits: Limits) -> Result<Loaded, StorageError> {
    let history = backend.history().await?;
    let listing = backend.list("").await?;
    let past = backend.past(listing.revision, limits.changes).await?;
    let log = Log::new(listing, past.oldest, past.events, limits);
    Ok(Loaded { history, log })
}

impl Loaded {
    /// What a typha kept in a file; of its past nothing is known.
    pub(crate) fn kept(state: State, limits: Limits) -> Self {
        let entry = |document: tortie_proto::state::Document| Entry {
            key: document.key,
            value: document.value,
            revision: document.revision,
            create_revision: 0,
        };
        let entries = state.documents.into_iter().map(entry).collect();
        let listing = Listing {
            entries,
            revision: state.revision,
        };
        let history = History {
            id: state.cluster_id,
            succeeds: state.succeeds,
        };
        Loaded {
            history,
            log: Log::new(listing, state.revision, Vec::new(), limits),
        }
    }

    /// The same as it is kept in a file; `at` is the time since the epoch when it was current.
    pub(super) fn keep(history: &History, log: &Log, at: Duration) -> State {
        State {
            cluster_id: history.id.clone(),
            succeeds: history.succeeds.clone(),
            revision: log.revision(),
            at,
            documents: log.documents(),
        }
    }

    /// How much of the past it may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.log.limits()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.log.revision()
    }

    /// May clients that hold a state of `history` at `held` be led to this?
    ///
    /// # Errors
    /// [`WatchError`]: why not.
    pub(super) fn leads_from(&self, history: &History, held: Revision) -> Result<(), WatchError> {
        let found = self.revision();
        if self.history.id == history.id && found < held {
            return Err(WatchError::Backwards { held, found });
        }
        if self.history.id == history.id || self.history.succeeds.contains(&history.id) {
            return Ok(());
        }
        let (held, found) = (history.id.clone(), self.history.id.clone());
        Err(WatchError::OtherHistory { held, found })
    }

    /// May clients that hold `kept` be led to this, which the datastore holds now?
    ///
    /// # Errors
    /// [`WatchError`]: why not, or that the datastore does not answer.
    pub(crate) async fn follows(&self, kept: &Loaded, backend: &dyn Backend) -> Result<(), WatchError> {
        self.leads_from(&kept.history, kept.revision())?;
        match check(backend, &kept.history, kept.log.newest().cloned()).await {
            // An operator said so.
            Err(WatchError::Succeeded) => Ok(()),
            other => other,
        }
    }
}

/// Does the datastore hold this history, with its newest change?
pub(super) async fn check(backend: &dyn Backend, history: &History, newest: Option<Event>) -> Result<(), WatchError> {
    let found = backend.history().await?;
    if found.succeeds.contains(&history.id) {
        return Err(WatchError::Succeeded);
    }
    if found.id != history.id {
        let (held, found) = (history.id.clone(), found.id);
        return Err(WatchError::OtherHistory { held, found });
    }
    let Some(newest) = newest else { return Ok(()) };
    let revision = newest.revision;
    match backend.happened(newest).await? {
        Some(false) => Err(WatchError::Rewritten { revision }),
        Some(true) | None => Ok(()),
    }
}

/// Why clients are not led where the datastore is now.
pub(crate) fn refused(why: &WatchError) -> String {
    format!("{why}; nobody is led there until an operator says so (tortiectl datastore accept)")
}
