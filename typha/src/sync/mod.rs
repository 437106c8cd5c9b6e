//! The sync service: one copy of the cluster state, sent to every client.
//!
//! | part | what it is |
//! |---|---|
//! | [`log`] | the state and its recent changes, encoded once per distinct set of prefixes; pure |
//! | [`compress`] | a message in fewer octets; pure |
//! | [`frame`] | a message as all clients share it; pure |
//! | [`reader`] | one client's place in it and what it is sent next; pure |
//! | [`loaded`] | a state that was read, and whether clients may be led to it |
//! | [`away`] | that the datastore does not answer |
//! | [`hub`] | the task that owns the log and follows the datastore |
//! | [`peers`] | where else the same state is served |
//! | [`balance`] | the task that asks clients to move when the others have far fewer |
//! | [`session`] | the task of one client |
//! | [`wire`] | the gRPC service that sends octets encoded already |

pub(crate) mod away;
pub(crate) mod balance;
mod compress;
mod frame;
pub(crate) mod hub;
pub(crate) mod loaded;
pub(crate) mod log;
pub(crate) mod peers;
mod reader;
pub(crate) mod session;
pub(crate) mod wire;

#[cfg(test)]
mod model_tests;
