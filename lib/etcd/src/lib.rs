//! Calls to an etcd cluster: for typha, whose datastore it may be, and for `confd files`, which reads any keys of it.
//!
//! [`EtcdArgs`] are the flags that say where it is and who we are to it; [`Client`] calls whichever member answers. What
//! the answers mean is said elsewhere: messages are those of `tortie_datastore::etcd`.

#![warn(missing_docs)]

mod client;
mod config;

#[allow(missing_docs, clippy::all, unreachable_pub)]
mod services {
    tonic::include_proto!("etcdserverpb");
}

pub use client::{CallError, Client};
pub use config::{Endpoint, EtcdArgs, EtcdConfigError, Secret};
