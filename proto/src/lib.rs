//! The four gRPC contracts between Tortie's programs: sync, store, bird, felix.
//!
//! Generated at build time from `proto/tortie/*.proto` by protox, so no `protoc` is needed. No resource kinds live here:
//! what travels over `sync` and `store` are Calico's keys and JSON documents; `tortie-model` gives them types.
//!
//! Wire types are converted to domain types at the edge, once, before any state is touched.

#![allow(missing_docs, clippy::all, unreachable_pub)]

/// Who is speaking, and plain network values.
pub mod common {
    pub use v1::*;
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("tortie.common.v1");
    }
}
/// typha to its clients.
pub mod sync {
    pub use v1::*;
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("tortie.sync.v1");
    }
}
/// Reads and writes through typha.
pub mod store {
    pub use v1::*;
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("tortie.store.v1");
    }
}
/// bird-rs.
pub mod bird {
    pub use v1::*;
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("tortie.bird.v1");
    }
}
/// felix.
pub mod felix {
    pub use v1::*;
    /// Version 1 of the contract.
    pub mod v1 {
        tonic::include_proto!("tortie.felix.v1");
    }
}

mod hello;
mod prefix;
pub mod state;

pub use hello::{Incompatible, PROTOCOL_MAJOR, PROTOCOL_MINOR, capability};
pub use prefix::{BadPrefix, ip, octets};
