//! One peer's session: two possible connections, collision, timers, graceful restart.
//!
//! [`Peer::handle`] takes an event and the time and appends actions; it never fails, and every (state, event) is defined.
//! The owner executes the actions in order, reports what became of them as events, and calls with [`Event::Tick`] when
//! [`Peer::next_deadline`] has passed. Nothing here owns a socket or reads a clock; jitter is a hash of the peer's key.
//!
//! A peer may have an outgoing and an incoming connection at once. Each has its own state (Connect, OpenSent,
//! OpenConfirm, Established), so that RFC 4271 section 6.8 can choose between them; the peer's state is that of the
//! connection furthest along.
//!
//! Invariants: at most one connection is Established, at most one is outgoing, at most one incoming is on its way; `Up`
//! and `Down` alternate; a connection that a `Close` was issued for, or that was reported closed, gets no further action,
//! and events for it are ignored; a deadline in the past is acted upon by the next `Tick`; a started peer without a
//! connection always has a deadline, unless it is passive.
//!
//! RFC 4271 (section 6.8, 8), 4486, 4724, 6286, 6608, 8538, 9494, 9687. Not here: routes, policy, encoding.

mod bfd;
mod collision;
mod config;
mod connection;
mod event;
mod link;
mod long_lived;
mod message;
mod negotiate;
mod peer;
mod restart;
#[cfg(test)]
mod tests;
mod timer;
mod watch;

pub use config::{GracefulRestartMode, PeerAs, PeerConfig};
pub use event::{
    Action, BfdVerdict, ConnId, DownReason, Event, LinkState, LongLivedRoutes, Negotiated, PeerGracefulRestart, State,
    StopReason,
};
pub use peer::Peer;
pub use watch::{Kept, PeerTimers};
