//! Bytes to messages and back.
//!
//! A message arrives as one frame (header included, see [`frame_length`]), is decoded with the [`SessionContext`] that
//! the two OPENs agreed on, and leaves as a [`Message`] whose UPDATE is *validated*: every attribute in it is sound, and
//! what RFC 7606 made of the others is in [`Update::faults`]. Only an error that the RFCs answer with a NOTIFICATION is an
//! `Err`. Decoding never panics and never reads beyond what a length field and its enclosing field both allow; indexing
//! and `unwrap` are denied in this module.
//!
//! RFC 4271 (section 4, 6), 4760, 5492, 9072, 6793, 2918, 7313, 4724, 8538, 8654, 7911, 8950, 9003, 4486, 6608, 7606, 7607,
//! 9234, 9687. Not here: which attributes to send to whom (the speaker), session state (the state machine).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

mod attributes;
mod encode;
mod family;
mod header;
mod message;
mod nlri;
mod notification;
mod open;
mod rib_entry;
#[cfg(test)]
pub(crate) mod tests;
mod update;
mod wire;

pub use encode::{EncodeError, announce, announce_into, end_of_rib, withdraw, withdraw_into, withdraw_message_into};

pub use family::{AfiSafi, FamilySet, SessionContext};
pub(crate) use header::is_open;
pub use header::{decode, frame_length};
pub use message::{
    AddPathMode, Capability, ControlMessage, Fault, FaultReason, GracefulRestart, GracefulRestartFamily,
    LongLivedFamily, Message, Nlri, Open, Reach, RefreshKind, Role, RouteRefresh, Update, Verdict,
};
pub(crate) use nlri::{encode as encode_nlri, prefix as decode_prefix};
pub use notification::{Cease, ErrorCode, Notification};
pub(crate) use rib_entry::{decode_rib_entry, encode_rib_entry};
pub(crate) use wire::Reader;
