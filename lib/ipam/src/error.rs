//! Why no address was given, or none was released.

use std::fmt;
use std::net::IpAddr;

use tortie_net::{NodeName, Prefix};

use crate::plan::StoreFailure;

/// Why a plan failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IpamError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// Others changed the same document before every attempt.
    #[error("{object} is changed by others all the time: given up after {attempts} attempts")]
    Contended {
        /// Which document.
        object: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// Every pool is exhausted.
    #[error("{0}")]
    Full(Full),
    /// No pool holds the address that was asked for.
    #[error("address {0} is in no enabled IPPool; ask for one that is, or for none")]
    NotInPool(IpAddr),
    /// The address that was asked for is somebody's.
    #[error("address {ip} is already assigned{}", .to.as_ref().map(|h| format!(" to {h}")).unwrap_or_default())]
    Taken {
        /// Which.
        ip: IpAddr,
        /// The handle that has it; `None` while it cools down after its release.
        to: Option<String>,
    },
    /// The address that was asked for lies in another node's block, and strict affinity forbids to take it.
    #[error("address {ip} is in block {block} of {owner}, and strictAffinity is set; run the workload there")]
    NotOurs {
        /// Which address.
        ip: IpAddr,
        /// Its block.
        block: Prefix,
        /// The block's owner, or "nobody".
        owner: String,
    },
    /// The address is another handle's.
    #[error("address {ip} is not released: it is assigned to {to}")]
    NotIts {
        /// Which address.
        ip: IpAddr,
        /// Whose it is.
        to: String,
    },
}

/// How full a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUsage {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: Prefix,
    /// How many addresses it has; saturates.
    pub size: u128,
    /// How many are in use or cooling down.
    pub in_use: u64,
    /// Of its blocks, how many this node has.
    pub own_blocks: usize,
}

/// Nothing is left for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Which node.
    pub node: NodeName,
    /// What was tried.
    pub pools: Vec<PoolUsage>,
    /// The rule that kept the node from taking more, when the pools themselves are not full.
    pub limit: Option<Limit>,
}

/// A rule that keeps a node from taking more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The node has as many blocks as it may.
    MaxBlocksPerHost(usize),
    /// Nodes may not claim blocks by themselves.
    AutoAllocateBlocks,
    /// What is free lies in blocks of other nodes.
    StrictAffinity,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no free address for node {}:", self.node)?;
        for (i, pool) in self.pools.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(
                f,
                "{comma} IPPool {} ({}) has {} of {} addresses in use, {} of its blocks are this node's",
                pool.name, pool.cidr, pool.in_use, pool.size, pool.own_blocks
            )?;
        }
        f.write_str(match self.limit {
            None => "; delete workloads, or add an IPPool that selects this node",
            Some(Limit::MaxBlocksPerHost(_)) => {
                "; the node has as many blocks as maxBlocksPerHost allows: raise it, or delete workloads"
            }
            Some(Limit::AutoAllocateBlocks) => {
                "; autoAllocateBlocks is false, so the node claims no further block: set it, or claim one for the node"
            }
            Some(Limit::StrictAffinity) => {
                "; what may be free is in blocks of other nodes, and strictAffinity forbids to borrow: add an IPPool, \
                 or delete workloads"
            }
        })
    }
}
