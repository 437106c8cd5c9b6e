//! The differential suite: stock BIRD and bird-rs with the same configuration and the same neighbours, side by side in
//! network namespaces. What every neighbour receives must be the same. Needs root, iproute2 and BIRD 2.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filters;
#[allow(
    dead_code,
    reason = "the laboratory is shared with the interop tests, which use more of it"
)]
#[path = "../interop/lab.rs"]
mod lab;
