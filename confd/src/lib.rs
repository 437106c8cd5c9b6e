//! Renders one node's BGP configuration from cluster state and has bird-rs apply it.
//!
//! ```text
//!  typha ──sync──▶ daemon ──▶ state ──▶ view ──▶ render ──watch──▶ applier ──gRPC──▶ bird-rs
//!                 (1 task)   (pure)   (pure)    (pure)            (1 task) └─file
//! ```
//!
//! `confd files` keeps any other file, made of any template: [`files`].
//!
//! See DESIGN.md for the tasks, what is bounded, and the invariants.

#![warn(missing_docs)]

pub mod apply;
pub mod bird;
pub mod config;
pub mod daemon;
pub mod diff;
pub mod files;
mod metrics;
pub mod once;
pub mod render;
pub mod secrets;

pub use tortie_bgp_view as view;
pub use tortie_bgp_view::state;
