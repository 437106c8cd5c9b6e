//! Tables of routes and the decision process.
//!
//! | type | how many | what it holds |
//! |---|---|---|
//! | [`Interner`] | two for a speaker: learned routes, announced attributes | one copy of each distinct value, counted and packed |
//! | [`Table`] | one for each family and table name | for each prefix a dense id and its paths, the best one first |
//! | `Lanes` | one for each table that peers want several paths from | for each path a number by which it is announced (add-path) |
//! | [`Outbox`] | one for each export view (an update group) | what that view announces for each prefix or path, shared by its members |
//! | `Member` (of an outbox) | one for each peer in the view | how far its first feed is, and what it was told of what changed since |
//!
//! Paths, prefixes, sources and attribute sets are small integers; a peer costs an outbox nothing for a prefix unless
//! it has still to be told. All of it is a pure function of its inputs.
//!
//! Invariants:
//! * the best path depends on the set of paths, never on the order of their arrival;
//! * what a member was told and what its pending set says always add up to what its view announces;
//! * a prefix id is reused only when no path, no announcement and no pending withdrawal refers to it, and so is a path's.

mod best;
mod intern;
mod journal;
mod lanes;
mod outbox;
mod packed;
mod path;
mod pending;
mod stats;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub use best::{Candidate, Decision, Reason, SourceKind, Traits, decide};
pub use intern::{AttrId, Interner};
pub use journal::{Before, Journal, Note};
pub use lanes::{Lane, Lanes, Place};
pub use outbox::{MemberId, Outbox, PullItem, Round, RoundItem, Stretch};
pub(crate) use packed::{destination, destination_code, pack_hop, unpack_hop, unpack_text};
pub use path::{Filtered, Hop, Imported, Learned, Path, PrefixId, SourceId, Stale};
pub use stats::{Changes, Tally, Traffic};
pub use table::{Counts, Inserted, NewPath, Sources, Table};
