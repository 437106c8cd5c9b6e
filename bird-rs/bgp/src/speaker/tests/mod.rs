//! Speakers wired to each other in memory, under virtual time.

mod network;
mod propagation;
mod random;
mod restart;
mod sessions;

use self::network::Network;
