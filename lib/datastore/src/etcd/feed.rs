//! The changes of a watch in order: what has arrived, what was given, how far that reaches. [`RawFeed`] says which answers
//! can be true, of whatever keys; [`Feed`] keeps Calico's until they are given.

use std::collections::VecDeque;

use bytes::Bytes;

use super::proto::event::EventType;
use super::proto::{self, KeyValue, WatchCreateRequest, WatchResponse};
use super::{AnswerError, HISTORY, ROOT, at, prefix_end, revisions, signed, text};
use crate::{Changes, Event, Past, Revision, StorageError, WatchError};

/// A watch of every key of ours, after a revision.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Every change up to this one was given.
    given: Revision,
    waiting: VecDeque<Event>,
    arrived: RawFeed,
    /// When another history of changes began, if that was seen.
    begun: Option<Revision>,
}

/// Why a watch gives nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Changes that were wanted are forgotten.
    Compacted {
        /// Only changes after this one are known.
        oldest: Revision,
    },
    /// etcd ended it, and why.
    Cancelled(String),
    /// What it says cannot be true.
    Answer(AnswerError),
}

impl From<AnswerError> for Ended {
    fn from(e: AnswerError) -> Self {
        Ended::Answer(e)
    }
}

impl From<Ended> for WatchError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Compacted { oldest } => WatchError::Compacted { oldest },
            Ended::Cancelled(reason) => StorageError(format!("etcd: watch: it was cancelled: {reason}")).into(),
            Ended::Answer(e) => StorageError::from(e).into(),
        }
    }
}

/// One watch of any keys: what it says, as far as that can be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFeed {
    /// The newest change that arrived, of whatever key.
    seen: Revision,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is this now.
    Put(KeyValue),
    /// It is gone; of the rest of this only `mod_revision` means something.
    Delete(KeyValue),
}

impl RawFeed {
    /// Of the changes after this one.
    pub fn after(revision: Revision) -> Self {
        RawFeed { seen: revision }
    }

    /// Takes the first answer, which says how far etcd is, and gives the changes in it.
    ///
    /// # Errors
    /// [`WatchError::Backwards`]: not as far as what was read; else as [`RawFeed::take`].
    pub fn begin(&mut self, first: WatchResponse) -> Result<Vec<Change>, WatchError> {
        let (header, held) = (first.header, self.seen);
        let changes = self.take(first)?;
        let found = at(header.as_ref()).map_err(Ended::from)?;
        if found < held {
            return Err(WatchError::Backwards { held, found });
        }
        Ok(changes)
    }

    /// Takes what etcd says next: changes of one revision come in one answer, so all of this one are later than those
    /// before. After an error nothing more may be taken.
    ///
    /// # Errors
    /// [`Ended`]
    pub fn take(&mut self, response: WatchResponse) -> Result<Vec<Change>, Ended> {
        if let Some(oldest) = Revision::try_from(response.compact_revision).ok().filter(|r| *r > 0) {
            return Err(Ended::Compacted { oldest });
        }
        if response.canceled {
            return Err(Ended::Cancelled(response.cancel_reason));
        }
        if response.events.is_empty() {
            return Ok(Vec::new());
        }
        let now = at(response.header.as_ref())?;
        let mut last = self.seen.saturating_add(1);
        let mut changes = Vec::with_capacity(response.events.len());
        for event in response.events {
            let (change, revision) = change(event, last, now)?;
            changes.push(change);
            last = revision;
        }
        self.seen = last;
        Ok(changes)
    }
}

/// A change of `oldest` at the earliest, in an answer of revision `now`, and the change's revision.
fn change(event: proto::Event, oldest: Revision, now: Revision) -> Result<(Change, Revision), AnswerError> {
    let odd = |what| AnswerError::Change { at: now, what };
    let kind = EventType::try_from(event.r#type).map_err(|_| odd("neither put nor delete"))?;
    let kv = event.kv.ok_or(odd("no key"))?;
    let revision = Revision::try_from(kv.mod_revision).unwrap_or_default();
    if revision < oldest {
        return Err(AnswerError::Backwards {
            held: oldest,
            found: revision,
        });
    }
    if now < revision {
        return Err(revisions(&kv, now));
    }
    let change = match kind {
        EventType::Put => Change::Put(kv),
        EventType::Delete => Change::Delete(kv),
    };
    Ok((change, revision))
}

impl Feed {
    /// Of the changes after this one.
    pub fn after(given: Revision) -> Self {
        Feed {
            given,
            waiting: VecDeque::new(),
            arrived: RawFeed::after(given),
            begun: None,
        }
    }

    /// What etcd is asked.
    pub fn question(&self) -> WatchCreateRequest {
        WatchCreateRequest {
            key: ROOT.into(),
            range_end: prefix_end(ROOT),
            start_revision: signed(self.given.saturating_add(1)),
        }
    }

    /// Every change up to this one was given.
    pub fn given(&self) -> Revision {
        self.given
    }

    /// The newest change that arrived, of whatever key; at least [`Feed::given`].
    pub fn seen(&self) -> Revision {
        self.arrived.seen
    }

    /// At which revision another history of changes began, if that was seen.
    pub fn begun(&self) -> Option<Revision> {
        self.begun
    }

    /// Changes that arrived and were not given.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the first answer, which says how far etcd is.
    ///
    /// # Errors
    /// [`WatchError::Backwards`]: not as far as what was read; else as [`Feed::take`].
    pub fn begin(&mut self, first: WatchResponse) -> Result<(), WatchError> {
        let changes = self.arrived.begin(first)?;
        self.keep(changes);
        Ok(())
    }

    /// Takes what etcd says next. After an error nothing more may be taken: the watch begins anew after [`Feed::given`].
    ///
    /// # Errors
    /// [`Ended`]
    pub fn take(&mut self, response: WatchResponse) -> Result<(), Ended> {
        let changes = self.arrived.take(response)?;
        self.keep(changes);
        Ok(())
    }

    fn keep(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (kv, put) = match change {
                Change::Put(kv) => (kv, true),
                Change::Delete(kv) => (kv, false),
            };
            let revision = Revision::try_from(kv.mod_revision).unwrap_or_default();
            if kv.key == HISTORY.as_bytes() {
                self.begun = Some(revision);
            }
            self.waiting.extend(text(kv.key).map(|key| Event {
                key,
                revision,
                value: put.then(|| Bytes::from(kv.value)),
            }));
        }
    }

    /// Is there nothing to give, not even a revision?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.seen() <= self.given
    }

    /// What waits, about `limit` at most, cut between revisions only.
    pub fn give(&mut self, limit: usize) -> Changes {
        let mut events: Vec<Event> = Vec::new();
        while let Some(next) = self.waiting.front() {
            if events.len() >= limit && events.last().is_some_and(|last| last.revision < next.revision) {
                break;
            }
            events.extend(self.waiting.pop_front());
        }
        let given = match (self.waiting.is_empty(), events.last()) {
            (true, _) => self.seen(),
            (false, last) => last.map_or(self.given, |e| e.revision),
        };
        self.given = self.given.max(given);
        Changes {
            events,
            revision: self.given,
        }
    }

    /// What waits, up to `to`, of this history.
    pub fn past(self, to: Revision) -> Past {
        let from = self.given;
        let oldest = self.begun.map_or(from, |begun| begun.max(from)).min(to);
        let events = self.waiting.into_iter();
        let events = events.filter(|e| oldest < e.revision && e.revision <= to).collect();
        Past { oldest, events }
    }
}
