//! Bidirectional forwarding detection, asynchronous mode, without IO.
//!
//! [`Packet`] is what goes over the wire; [`Session`] is the state of one session; [`Sessions`] are all of a router, with
//! the rules of which packet belongs to whom. The shell owns sockets and the clock: it gives each datagram to
//! [`Sessions::receive`], calls [`Sessions::tick`] at [`Sessions::next_deadline`], and executes the [`Action`]s.
//!
//! Invariants: what comes out depends on the sequence of calls and their times, and nothing else; no octets panic; a
//! packet that is discarded changes nothing.
//!
//! RFC 5880, 5881 (one hop), 5883 (several hops). Not here: authentication, the echo function, demand mode of our own (a
//! peer may ask for it), what a client does about a session that is down (RFC 5882: that is the client's).

mod packet;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

pub use packet::{DecodeError, Diagnostic, Packet, State};
pub use session::{Cause, Output, Params, SLOW, Session};
pub use sessions::{Action, Arrival, Discard, Hops, Key, Report, Sessions, View};
