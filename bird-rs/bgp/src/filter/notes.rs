//! What runs asked of the prefix.
//!
//! Of all that a filter can see only the prefix, and what ROAs say of it, differ between routes with the same attributes and
//! source. A run is deterministic, so for another prefix that gives the same answers it would come to the same. Filters ask
//! few questions of the prefix and many of the attributes: who has several such routes asks the few again, and leaves out the
//! run when the answers are the same.

use smallvec::SmallVec;
use tortie_net::{Asn, Prefix};

use super::ast::Member;
use super::set::PrefixSet;
use crate::roa::{RoaTables, Validity};

/// Questions that are kept; who asks more has to be run again.
const QUESTIONS: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Asked<'p> {
    /// Is it in this set?
    In(&'p PrefixSet, bool),
    /// Which of these sources may it have, by this table?
    Roa(&'p str, Asn, Validity),
}

/// What runs asked of the prefix, and were told. Of one or several filters, over routes that differ in the prefix only.
#[derive(Debug, Clone, Default)]
pub struct Notes<'p> {
    /// `net.len`.
    len: Option<u8>,
    /// `net.type`.
    is_v4: Option<bool>,
    asked: SmallVec<[Asked<'p>; 4]>,
    /// More was asked, or something was said about the route that has to be said about each.
    whole: bool,
}

impl<'p> Notes<'p> {
    /// Would the runs come to the same for this prefix? The ROAs are those that the runs asked.
    pub fn hold_for(&self, net: Prefix, roas: &RoaTables) -> bool {
        !self.whole
            && self.len.is_none_or(|len| len == net.len())
            && self.is_v4.is_none_or(|is_v4| is_v4 == net.is_v4())
            && self.asked.iter().all(|asked| match *asked {
                Asked::In(set, answer) => set.contains(net) == answer,
                Asked::Roa(table, origin, answer) => roas.validity(table, net, origin) == answer,
            })
    }

    /// The runs hold for their own prefix only.
    pub fn note_whole(&mut self) {
        self.whole = true;
    }

    pub(super) fn note_member(&mut self, member: Member, net: Prefix) {
        match member {
            Member::Len => self.len = Some(net.len()),
            Member::NetType => self.is_v4 = Some(net.is_v4()),
            _ => self.whole = true,
        }
    }

    pub(super) fn note_set(&mut self, set: &'p PrefixSet, answer: bool) {
        let same = |asked: &Asked<'_>| matches!(asked, Asked::In(other, _) if std::ptr::eq(*other, set));
        if !self.asked.iter().any(same) {
            self.note(Asked::In(set, answer));
        }
    }

    pub(super) fn note_roa(&mut self, table: &'p str, origin: Asn, answer: Validity) {
        let same = |asked: &Asked<'_>| matches!(asked, Asked::Roa(t, o, _) if (*t, *o) == (table, origin));
        if !self.asked.iter().any(same) {
            self.note(Asked::Roa(table, origin, answer));
        }
    }

    fn note(&mut self, asked: Asked<'p>) {
        if self.asked.len() < QUESTIONS {
            self.asked.push(asked);
        } else {
            self.whole = true;
        }
    }
}

#[cfg(test)]
mod tests;
