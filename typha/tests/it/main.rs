//! The real binary over unix sockets: crashes, restarts, slow and dead clients, refusals.

mod cli;
mod crash;
mod disk_full;
mod process;
mod sync;
