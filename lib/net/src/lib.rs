//! Network values: addresses' prefixes, AS numbers, router ids, communities, and longest-prefix match.
//!
//! Pure and total: every constructor returns a canonical value or an error that says what is wrong. A [`Prefix`] never
//! has bits set beyond its length, so equal prefixes are equal values. No clock, no IO, no allocation but in the trie.

#![warn(missing_docs)]

mod asn;
mod community;
mod name;
mod prefix;
mod trie;

pub use asn::{Asn, BadAsn, RouterId};
pub use community::{BadCommunity, Community, ExtCommunity, LargeCommunity};
pub use name::{BadNodeName, NodeName};
pub use prefix::{BadPrefix, Family, Prefix, Prefix4, Prefix6};
pub use trie::PrefixMap;
