//! Speakers wired to each other in memory, under virtual time.

mod add_path;
mod bfd;
mod dump;
mod filters;
mod in_sync;
mod kernel;
mod limits;
mod long_lived;
mod maintenance;
mod merge;
mod monitor;
mod network;
mod next_hops;
mod operate;
mod propagation;
mod random;
mod reconfigure;
mod restart;
mod roas;
mod roles;
mod sessions;
mod soft;
mod stats;
mod watch;

use self::network::Network;
