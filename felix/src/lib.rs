//! felix: the one program that writes a node's kernel.
//!
//! The library holds everything but the process: `main.rs` parses, builds and drains. See DESIGN.md for the tasks.

#![warn(missing_docs)]

pub mod config;
pub mod dataplane;
pub mod endpoint;
pub mod failures;
pub mod fib;
pub mod forwarding;
pub mod gather;
pub mod gc;
pub mod ipam;
mod links;
pub mod metrics;
pub mod peering;
pub mod report;
pub mod run;
pub mod show;
pub mod state;
pub mod sync;
pub mod tables;
pub mod tunnel;
