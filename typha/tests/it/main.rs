//! The real binary over unix sockets: crashes, restarts, slow and dead clients, refusals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bounded;
mod certificates;
mod cli;
mod crash;
mod disk_full;
mod drain;
mod etcd;
mod etcd_server;
mod history;
mod links;
mod partition;
mod process;
mod secured;
mod skew;
mod slow;
mod stale;
mod sync;
