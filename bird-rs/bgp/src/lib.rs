//! BGP without IO: packets, state machine, tables, policy, configuration.
//!
//! Everything here is a pure function of its inputs: no socket, file, task, clock or randomness. Time is a parameter,
//! `now: Duration` since the process started; a deadline is state that its owner reports by a `next_deadline`. The same
//! code therefore runs in the daemon and, wired back to back in memory, in the simulator.
//!
//! | module | is |
//! |---|---|
//! | [`attr`] | path attributes as owned, canonical values that can be interned |
//! | [`packet`] | bytes to messages and back, with RFC 7606's verdicts |
//! | [`fsm`] | one peer's session: two connections, collision, timers, graceful restart |
//! | [`nexthop`] | where BGP next hops lead, by the kernel's routes |
//! | [`rib`] | tables and the decision process |
//! | [`filter`] | the policy language, compiled and run |
//! | [`bmp`] | messages to monitoring stations (RFC 7854) |
//! | [`mrt`] | dumps of tables (RFC 6396) |
//! | [`roa`], [`rtr`] | ROAs, the validity of origins by them (RFC 6811), and the caches they come from (RFC 8210) |
//! | [`config`] | the configuration language, and the difference of two configurations |
//! | [`speaker`] | all of it together: a router without IO |

pub mod attr;
pub mod bmp;
pub mod config;
pub mod filter;
pub mod fsm;
pub mod mrt;
pub mod nexthop;
pub mod packet;
pub mod rib;
pub mod roa;
pub mod rtr;
pub mod speaker;
