//! A list, page by page, all of one revision.
//!
//! Only Calico's keys are seen. Between two pages nothing may be missing: each begins after the last key of the one before.

use super::proto::{RangeRequest, RangeResponse};
use super::{AnswerError, ROOT, at, entry, prefix_end, shown, signed};
use crate::{Entry, Listing, Revision};

/// Documents asked for at once.
const PAGE: i64 = 2000;

/// A list that is being read: ask [`Pages::question`] until [`Pages::take`] says that it is all.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The first key that may come next.
    from: Vec<u8>,
    end: Vec<u8>,
    /// Is there anything of Calico's under the prefix? Else only the revision is wanted.
    wanted: bool,
    /// Of the first page, and so of all.
    revision: Option<Revision>,
    entries: Vec<Entry>,
}

impl Pages {
    /// Of everything under a prefix.
    pub fn new(prefix: &str) -> Self {
        let inside = prefix.starts_with(ROOT);
        // What lies elsewhere is asked for only to learn the revision.
        let from = if inside { prefix } else { ROOT };
        Pages {
            from: from.into(),
            end: prefix_end(from),
            wanted: inside || ROOT.starts_with(prefix),
            revision: None,
            entries: Vec::new(),
        }
    }

    /// What is to be asked next.
    pub fn question(&self) -> RangeRequest {
        RangeRequest {
            key: self.from.clone(),
            range_end: self.end.clone(),
            limit: if self.wanted { PAGE } else { 1 },
            revision: self.revision.map_or(0, signed),
        }
    }

    /// Takes the answer; was it the last?
    ///
    /// # Errors
    /// [`AnswerError`]: nothing of this list may be believed.
    pub fn take(&mut self, answer: RangeResponse) -> Result<bool, AnswerError> {
        let now = at(answer.header.as_ref())?;
        let held = *self.revision.get_or_insert(now);
        if now < held {
            return Err(AnswerError::Backwards { held, found: now });
        }
        if answer.more && self.wanted && answer.kvs.is_empty() {
            return Err(AnswerError::NoneOfMore);
        }
        for kv in answer.kvs {
            if kv.key < self.from {
                return Err(AnswerError::Order { key: shown(&kv.key) });
            }
            if kv.key >= self.end {
                return Err(AnswerError::NotAsked { key: shown(&kv.key) });
            }
            self.from.clone_from(&kv.key);
            self.from.push(0);
            let entry = entry(kv, held)?;
            if self.wanted {
                self.entries.extend(entry);
            }
        }
        Ok(!(answer.more && self.wanted))
    }

    /// Everything that was read.
    ///
    /// # Errors
    /// [`AnswerError::NoRevision`]: nothing was.
    pub fn listing(self) -> Result<Listing, AnswerError> {
        Ok(Listing {
            entries: self.entries,
            revision: self.revision.ok_or(AnswerError::NoRevision)?,
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
        found = Some(entry(kv, now)?);
    }
    Ok(found.flatten())
}
