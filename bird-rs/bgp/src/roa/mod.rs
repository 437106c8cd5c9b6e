//! Validated ROA payloads, and what they say of the origin of a route (RFC 6811).
//!
//! | type | is |
//! |---|---|
//! | [`Roa`] | a prefix, how long its parts may be, and the AS that may originate them |
//! | [`RoaSet`] | all that one source says: sorted, immutable, shared |
//! | [`RoaTables`] | the tables that filters name, each with the sets of its sources |
//!
//! Invariant: a set is replaced as a whole, so that nobody sees half of what a cache says.
//!
//! Not here: how payloads come from a cache, which is [`crate::rtr`]'s.

mod cover;
mod set;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use tortie_net::{Asn, Prefix};

pub use cover::Cover;
pub use set::{BadUpdate, RoaSet, RoaUpdate};
pub use tables::{RoaSource, RoaTables, TableRoa};

/// A validated ROA payload. Payloads sort by prefix, then by the length, then by the AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roa {
    prefix: Prefix,
    max_len: u8,
    asn: Asn,
}

/// A maximum length that no route within the prefix can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max_len} is no maximum length of {prefix}: {} to {} expected", prefix.len(), prefix.max_len())]
pub struct BadMaxLength {
    /// The prefix.
    pub prefix: Prefix,
    /// What was given.
    pub max_len: u8,
}

impl Roa {
    /// A payload. AS 0 says that nobody may originate the prefix (RFC 6483 section 4).
    ///
    /// # Errors
    /// When `max_len` is shorter than the prefix or longer than an address.
    pub fn new(prefix: Prefix, max_len: u8, asn: Asn) -> Result<Self, BadMaxLength> {
        if (prefix.len()..=prefix.max_len()).contains(&max_len) {
            Ok(Roa { prefix, max_len, asn })
        } else {
            Err(BadMaxLength { prefix, max_len })
        }
    }

    /// The prefix.
    pub fn prefix(self) -> Prefix {
        self.prefix
    }

    /// The longest that a part of the prefix may be.
    pub fn max_len(self) -> u8 {
        self.max_len
    }

    /// The same for parts of the prefix however long.
    pub(crate) fn of_any_length(self) -> Self {
        Roa {
            max_len: self.prefix.max_len(),
            ..self
        }
    }

    /// The AS that may originate it.
    pub fn asn(self) -> Asn {
        self.asn
    }
}

impl fmt::Display for Roa {
    /// As BIRD shows it: `10.0.0.0/8-24 AS65000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} AS{}", self.prefix, self.max_len, self.asn)
    }
}

/// What payloads say of a route (RFC 6811 section 2). In ascending order of who is believed when several sources speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Validity {
    /// No payload covers the prefix.
    Unknown,
    /// Some cover it, but none of them allows it.
    Invalid,
    /// One allows it.
    Valid,
}

impl Validity {
    /// BIRD's number: the value of `ROA_UNKNOWN`, `ROA_VALID`, `ROA_INVALID`.
    pub(crate) fn code(self) -> u8 {
        match self {
            Validity::Unknown => 0,
            Validity::Valid => 1,
            Validity::Invalid => 2,
        }
    }
}
