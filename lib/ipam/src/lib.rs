//! Address management decisions: which address a workload gets, with Calico's blocks, affinities and handles.
//!
//! Pure: no IO, no clock, no randomness. A decision is a [`Plan`] that asks for reads and compare-and-swap writes of single
//! documents, or of several at once (all or none), and is stepped by its driver, which may be felix with typha behind it or a test that drives many nodes
//! through every interleaving.
//!
//! What holds after every single write, whatever plans run and wherever they stop:
//!
//! * an address belongs to at most one handle, and lies in one block;
//! * a handle counts at least as many addresses of a block as the block gives it (so a releaser finds all of them);
//! * a confirmed affinity has a block, and the block names its owner;
//! * a block that names a node has an affinity of that node, in whatever state.
//!
//! What a crash leaves behind is less than that only in one direction: a handle that counts too much, an affinity that
//! is not confirmed. The next user of either repairs it.
//!
//! What neither its owner nor the next user repairs, garbage collection does ([`Watch`] and the plans it asks for).
//!
//! Not here: which node's workload asks, and who collects.

#![warn(missing_docs)]

mod affinity;
mod assign;
mod block;
mod collect;
mod error;
mod handle;
mod plan;
mod pools;
mod release;
mod tunnel;
mod watch;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use tortie_model::ipam::IpamConfig;
use tortie_model::{Key, Owner};
use tortie_net::{NodeName, Prefix};

pub use affinity::{release_affinity, restore_affinity};
pub use assign::{Assigned, assign_ip, auto_assign};
pub use block::Want;
pub use collect::{Leak, delete_empty_handle, release_affinity_of_gone, release_leaked, sweep_block, take_lease};
pub use error::{Full, IpamError, PoolUsage};
pub use plan::{Change, Collection, Document, Next, Plan, Request, Response, StoreFailure, Stored};
pub use pools::{Pool, PoolError, PoolQuery, choose, is_enabled};
pub use release::{addresses_of_handle, release_address, release_handle, release_handles, release_others};
pub use tunnel::Tunnel;
pub use watch::{DEFAULT_GRACE, Garbage, Scope, View, Watch};

/// How often a compare-and-swap that lost is tried again.
pub(crate) const RETRIES: usize = 100;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        if prefix.is_v4() { IpFamily::V4 } else { IpFamily::V6 }
    }

    /// As keys have it: `ipv4`, `ipv6`.
    pub fn name(self) -> &'static str {
        match self {
            IpFamily::V4 => "ipv4",
            IpFamily::V6 => "ipv6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        })
    }
}

/// Who decides, when, and by which rules.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The node.
    pub node: NodeName,
    /// The time, for new blocks, claims and cool-downs.
    pub now: Timestamp,
    /// The cluster's configuration.
    pub config: IpamConfig,
    /// Networks from which nothing is given out unless asked for by address.
    pub reservations: Vec<Prefix>,
}

impl Setting {
    pub(crate) fn owner(&self) -> Owner {
        Owner::Host(self.node.clone())
    }

    pub(crate) fn affinity_key(&self, cidr: Prefix) -> Key {
        Key::Affinity {
            owner: self.owner(),
            cidr,
        }
    }

    pub(crate) fn cooldown(&self) -> SignedDuration {
        SignedDuration::from_secs(self.config.ip_cooldown_seconds.into())
    }

    pub(crate) fn is_reserved(&self, ip: std::net::IpAddr) -> bool {
        self.reservations.iter().any(|r| r.contains(ip))
    }

    /// Nothing of it may be given out.
    pub(crate) fn is_wholly_reserved(&self, block: Prefix) -> bool {
        self.reservations.iter().any(|r| r.covers(block))
    }

    /// Blocks a node may have at once.
    pub(crate) fn max_blocks(&self) -> usize {
        /// Calico's safety cap when no limit is configured.
        const BUILT_IN: u32 = 20;
        let configured = self.config.max_blocks_per_host;
        usize::try_from(if configured == 0 { BUILT_IN } else { configured }).unwrap_or(usize::MAX)
    }
}
