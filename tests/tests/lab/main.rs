//! End-to-end tests: real programs, real kernel, real BGP, in namespaces. Need root and release binaries
//! (`make test` builds them). Run one at a time: each is a cluster of some fifteen processes.

mod asked;
mod bad_input;
mod cluster;
mod cni;
mod demo;
mod ecmp;
mod explain;
mod filter;
mod floating;
mod ipam;
mod mesh;
mod password;
mod podman;
mod racks;
mod reflectors;
mod restart;
mod soak;
mod status;
mod traffic;
mod tunnels;
mod workloads;

use anyhow::Result;
use tortie_tests::lab::{Cluster, Lab, Spec};

/// Builds a cluster for one test and runs the body on it. On an error everything is shown and the logs are kept.
fn on_cluster(topic: &str, spec: &Spec, body: impl FnOnce(&mut Cluster) -> Result<()>) {
    let lab = Lab::for_test(topic).unwrap_or_else(|e| panic!("{topic}: {e:#}"));
    let mut cluster = Cluster::start(lab, spec).unwrap_or_else(|e| panic!("{topic}: start: {e:#}"));
    if let Err(e) = cluster.settle().and_then(|()| body(&mut cluster)) {
        panic!("{topic}: {e:#}");
    }
}
