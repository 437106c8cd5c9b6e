//! One client's place in the log, and what it is sent next.
//!
//! Pure: the session around it owns the socket and the clock.

use super::frame::Framed;
use super::log::{Filter, Step};
use crate::datastore::Revision;

/// A client of the log.
#[derive(Debug)]
pub(crate) struct Reader {
    filter: Filter,
    /// What it was sent up to, if it holds anything.
    position: Option<Revision>,
    /// The revision it can know of: that of the last message sent.
    told: Revision,
    in_sync: bool,
}

impl Reader {
    /// A client that holds everything up to `position`, or nothing.
    pub(crate) fn new(filter: Filter, position: Option<Revision>) -> Self {
        Reader {
            filter,
            position,
            told: position.unwrap_or_default(),
            in_sync: false,
        }
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The same filter, as all clients that want the same share it.
    pub(crate) fn share(&mut self, filter: Filter) {
        debug_assert_eq!(self.filter, filter);
        self.filter = filter;
    }

    pub(crate) fn position(&self) -> Option<Revision> {
        self.position
    }

    /// Is it at this revision, and told so?
    pub(crate) fn is_current(&self, head: Revision) -> bool {
        self.in_sync && self.position.is_some_and(|p| p >= head)
    }

    /// Does it hold more than the log? It had that from another typha, or from this one before it began anew.
    pub(crate) fn is_ahead(&self, head: Revision) -> bool {
        !self.in_sync && self.position.is_some_and(|p| p > head)
    }

    /// Is it in sync at some revision, and too slow for the changes since when it is given this step?
    pub(crate) fn is_too_slow_for(&self, step: &Step) -> Option<Revision> {
        let snapshot = matches!(step, Step::Snapshot(_));
        self.position.filter(|_| snapshot && self.in_sync)
    }

    /// The messages for a step of the log, and whether it is to ask again at once.
    pub(crate) fn take(&mut self, step: Step) -> (Vec<Framed>, bool) {
        match step {
            Step::Snapshot(snapshot) => {
                let mut frames = snapshot.frames.clone();
                frames.push(Framed::in_sync(snapshot.revision));
                self.position = Some(snapshot.revision);
                self.told = snapshot.revision;
                self.in_sync = true;
                (frames, true)
            }
            Step::Changes {
                mut frames,
                said,
                revision,
                more,
            } => {
                self.told = said.unwrap_or(self.told);
                self.position = Some(revision);
                if !self.in_sync && !more {
                    self.in_sync = true;
                    self.told = revision;
                    frames.push(Framed::in_sync(revision));
                }
                (frames, more)
            }
        }
    }

    /// Revisions passed without a change for this client: tells it, so that it can resume from there.
    pub(crate) fn catch_up(&mut self) -> Option<Framed> {
        let position = self.position.filter(|p| self.in_sync && *p > self.told)?;
        self.told = position;
        Some(Framed::in_sync(position))
    }
}
