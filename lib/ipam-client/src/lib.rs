//! Address management through typha: `tortie-ipam`'s decisions, carried out on its store.
//!
//! [`drive`] steps a plan; [`cluster`] reads what plans depend on; [`tunnel`] keeps the address of a node's tunnel device.
//! No task is started here: every function ends with its work.

#![warn(missing_docs)]

pub mod cluster;
mod drive;
pub mod tunnel;

pub use drive::drive;
