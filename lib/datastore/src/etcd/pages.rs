//! A list, page by page, all of one revision.
//!
//! Between two pages nothing may be missing: each begins after the last key of the one before. [`RawPages`] are any keys,
//! [`Pages`] sees only Calico's.

use std::collections::VecDeque;

use super::proto::{KeyValue, RangeRequest, RangeResponse};
use super::{AnswerError, ROOT, at, entry, possible, prefix_end, shown, signed};
use crate::{Entry, Listing, Revision};

/// Keys asked for at once.
const PAGE: i64 = 2000;

/// Everything under some prefixes, whoever's keys they are: ask [`RawPages::question`] until there is none.
#[derive(Debug, Clone)]
pub struct RawPages {
    /// What is not read yet: the first key that may come next, and the first that may not.
    left: VecDeque<(Vec<u8>, Vec<u8>)>,
    limit: i64,
    /// Of the first page, and so of all.
    revision: Option<Revision>,
}

impl RawPages {
    /// Of these, which are text and not empty.
    pub fn new<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = prefixes.into_iter().map(|p| (p.into(), prefix_end(p)));
        RawPages {
            left: ranges.collect(),
            limit: PAGE,
            revision: None,
        }
    }

    /// What is to be asked next; nothing when all is read.
    pub fn question(&self) -> Option<RangeRequest> {
        let (from, end) = self.left.front()?;
        Some(RangeRequest {
            key: from.clone(),
            range_end: end.clone(),
            limit: self.limit,
            revision: self.revision.map_or(0, signed),
        })
    }

    /// Takes the answer: its keys, which are in order, were asked for and are of [`RawPages::revision`].
    ///
    /// # Errors
    /// [`AnswerError`]: nothing of this list may be believed.
    pub fn take(&mut self, answer: RangeResponse) -> Result<Vec<KeyValue>, AnswerError> {
        let now = at(answer.header.as_ref())?;
        let held = *self.revision.get_or_insert(now);
        if now < held {
            return Err(AnswerError::Backwards { held, found: now });
        }
        if answer.more && answer.kvs.is_empty() {
            return Err(AnswerError::NoneOfMore);
        }
        // Nothing is asked any more: this is no answer to it.
        let Some((from, end)) = self.left.front_mut() else {
            return Ok(Vec::new());
        };
        for kv in &answer.kvs {
            if kv.key < *from {
                return Err(AnswerError::Order { key: shown(&kv.key) });
            }
            if kv.key >= *end {
                return Err(AnswerError::NotAsked { key: shown(&kv.key) });
            }
            possible(kv, held)?;
            from.clone_from(&kv.key);
            from.push(0);
        }
        if !answer.more {
            self.left.pop_front();
        }
        Ok(answer.kvs)
    }

    /// Of which revision all of this is; none before the first answer.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }
}

/// A list of documents that is being read: ask [`Pages::question`] until [`Pages::take`] says that it is all.
#[derive(Debug, Clone)]
pub struct Pages {
    raw: RawPages,
    /// Is there anything of Calico's under the prefix? Else only the revision is wanted.
    wanted: bool,
    entries: Vec<Entry>,
}

impl Pages {
    /// Of everything under a prefix.
    pub fn new(prefix: &str) -> Self {
        let inside = prefix.starts_with(ROOT);
        // What lies elsewhere is asked for only to learn the revision.
        let from = if inside { prefix } else { ROOT };
        let mut raw = RawPages::new([from]);
        let wanted = inside || ROOT.starts_with(prefix);
        if !wanted {
            raw.limit = 1;
        }
        Pages {
            raw,
            wanted,
            entries: Vec::new(),
        }
    }

    /// What is to be asked next; nothing when all is read.
    pub fn question(&self) -> Option<RangeRequest> {
        self.raw
            .question()
            .filter(|_| self.wanted || self.raw.revision.is_none())
    }

    /// Takes the answer; was it the last?
    ///
    /// # Errors
    /// [`AnswerError`]: nothing of this list may be believed.
    pub fn take(&mut self, answer: RangeResponse) -> Result<bool, AnswerError> {
        let found = self.raw.take(answer)?;
        if self.wanted {
            self.entries.extend(found.into_iter().filter_map(entry));
        }
        Ok(self.question().is_none())
    }

    /// Everything that was read.
    ///
    /// # Errors
    /// [`AnswerError::NoRevision`]: nothing was.
    pub fn listing(self) -> Result<Listing, AnswerError> {
        Ok(Listing {
            entries: self.entries,
            revision: self.raw.revision.ok_or(AnswerError::NoRevision)?,
        })
    }
}

/// The answer to the question for one key.
///
/// # Errors
/// [`AnswerError`]
pub fn one(key: &str, answer: RangeResponse) -> Result<Option<Entry>, AnswerError> {
    let now = at(answer.header.as_ref())?;
    let mut found = None;
    for kv in answer.kvs {
        if kv.key != key.as_bytes() {
            return Err(AnswerError::NotAsked { key: shown(&kv.key) });
        }
        if found.is_some() {
            return Err(AnswerError::Order { key: shown(&kv.key) });
        }
        possible(&kv, now)?;
        found = Some(entry(kv));
    }
    Ok(found.flatten())
}
