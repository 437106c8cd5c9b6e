//! The differential suite: stock BIRD and bird-rs with the same configuration and the same neighbours, side by side in
//! network namespaces of the same addresses. What every neighbour receives must be the same, and so must be what both
//! programs' control sockets say of routes and protocols. Needs root, iproute2 and BIRD 2.
//!
//! A case is a file in `cases`, whose README explains the format. A difference is a bug of ours, or is named in the file
//! with the sentence of the documentation that admits it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod filters;
#[path = "../scripted/framed.rs"]
mod framed;
#[allow(
    dead_code,
    reason = "the laboratory is shared with the interop tests, which use more of it"
)]
#[path = "../interop/lab.rs"]
mod lab;
mod listing;
mod neighbour;
mod octets;
mod received;
mod script;
mod side;
