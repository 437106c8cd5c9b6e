//! The Linux kernel's network state, read and written by netlink and `/proc/sys`.
//!
//! Everything here answers with typed values and typed errors; policy (what a node should hold) lives in the programs.
//! Routes go through the [`route::Kernel`] trait, which the real socket ([`route::Netlink`]) and
//! [`fake::FakeKernel`] implement, so that a reconciler's behaviour under faults is a unit test.
//!
//! What a program wants to be there and what is there meet in a [`reconcile::Reconciler`].
//!
//! A socket stays in the network namespace it was opened in. Unsafe code is allowed in [`sockopt`] alone.

#![warn(missing_docs)]

pub mod addr;
pub mod fake;
mod follow;
pub mod gateway;
pub mod link;
pub mod lookup;
pub mod monitor;
pub mod neigh;
pub mod netns;
pub mod nft;
pub mod reconcile;
pub mod request;
pub mod route;
#[allow(unsafe_code)]
pub mod sockopt;
pub mod sysctl;
pub mod touch;
pub mod tunnel;
pub mod worker;
