//! The changes of a watch in order: what has arrived, what was given, how far that reaches.

use std::collections::VecDeque;

use bytes::Bytes;

use super::proto::event::EventType;
use super::proto::{self, WatchCreateRequest, WatchResponse};
use super::{AnswerError, HISTORY, ROOT, at, prefix_end, shown, signed, text};
use crate::{Changes, Event, Past, Revision, StorageError, WatchError};

/// A watch of every key of ours, after a revision.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Every change up to this one was given.
    given: Revision,
    waiting: VecDeque<Event>,
    /// The newest change that arrived, of whatever key.
    seen: Revision,
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

impl Feed {
    /// Of the changes after this one.
    pub fn after(given: Revision) -> Self {
        Feed {
            given,
            waiting: VecDeque::new(),
            seen: given,
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
        self.seen
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
        let header = first.header;
        self.take(first)?;
        let found = at(header.as_ref()).map_err(Ended::from)?;
        if found < self.given {
            return Err(WatchError::Backwards {
                held: self.given,
                found,
            });
        }
        Ok(())
    }

    /// Takes what etcd says next. After an error nothing more may be taken: the watch begins anew after [`Feed::given`].
    ///
    /// # Errors
    /// [`Ended`]
    pub fn take(&mut self, response: WatchResponse) -> Result<(), Ended> {
        if let Some(oldest) = Revision::try_from(response.compact_revision).ok().filter(|r| *r > 0) {
            return Err(Ended::Compacted { oldest });
        }
        if response.canceled {
            return Err(Ended::Cancelled(response.cancel_reason));
        }
        if response.events.is_empty() {
            return Ok(());
        }
        let now = at(response.header.as_ref())?;
        // Changes of one revision come in one answer, so all of this one are later than those before.
        let mut last = self.seen.saturating_add(1);
        for event in response.events {
            last = self.add(event, last, now)?;
        }
        self.seen = last;
        Ok(())
    }

    /// Adds a change of `oldest` at the earliest, in an answer of revision `now`; gives the change's revision.
    fn add(&mut self, event: proto::Event, oldest: Revision, now: Revision) -> Result<Revision, AnswerError> {
        let kind = EventType::try_from(event.r#type);
        let kind = kind.map_err(|_| AnswerError::Change {
            at: now,
            what: "neither put nor delete",
        })?;
        let kv = event.kv.ok_or(AnswerError::Change {
            at: now,
            what: "no key",
        })?;
        let revision = Revision::try_from(kv.mod_revision).unwrap_or_default();
        if revision < oldest {
            return Err(AnswerError::Backwards {
                held: oldest,
                found: revision,
            });
        }
        if now < revision {
            return Err(AnswerError::Revisions {
                key: shown(&kv.key),
                created: kv.create_revision,
                changed: kv.mod_revision,
                at: now,
            });
        }
        if kv.key == HISTORY.as_bytes() {
            self.begun = Some(revision);
        }
        self.waiting.extend(text(kv.key).map(|key| Event {
            key,
            revision,
            value: (kind == EventType::Put).then(|| Bytes::from(kv.value)),
        }));
        Ok(revision)
    }

    /// Is there nothing to give, not even a revision?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.seen <= self.given
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
            (true, _) => self.seen,
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
