//! The RPKI to router protocol (RFC 6810, 8210), the router's side: from a cache to a set of payloads. Pure.
//!
//! | module | is |
//! |---|---|
//! | `pdu` | what goes over the wire |
//! | `session` | one cache: what to ask, what to believe, and for how long |
//! | `state` | what goes into a session and what comes out |
//!
//! Not here: connections and the clock, which the shell has; what payloads mean, which is [`crate::roa`]'s.

mod pdu;
mod session;
mod state;
#[cfg(test)]
mod tests;

pub use pdu::{BadPdu, Decoded, ErrorCode, HEADER, Intervals, MAX_LENGTH, Pdu, VERSION, decode};
pub use session::Session;
pub use state::{Action, CacheStatus, Event, Interval, State, Timers};
