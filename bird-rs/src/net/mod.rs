//! Sockets: connections to and from peers, listeners, the host's addresses.

pub(crate) mod connection;
pub(crate) mod interfaces;
pub(crate) mod listener;
pub(crate) mod socket;
