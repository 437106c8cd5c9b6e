//! Sockets: connections to and from peers, listeners, the host's addresses, the kernel's routes.

pub(crate) mod connection;
pub(crate) mod guard;
pub(crate) mod interfaces;
pub(crate) mod keys;
pub(crate) mod listener;
pub(crate) mod routes;
pub(crate) mod socket;
