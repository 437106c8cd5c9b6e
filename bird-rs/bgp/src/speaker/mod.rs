//! A whole router without IO.

mod io;
mod show;

pub use io::{
    Command, ConnectSpec, FibNextHop, FibRoute, Input, InterfaceAddress, ListenSpec, Log, LogEvent, Output,
};
pub use show::{
    BgpStatus, ChannelStatus, ProtocolState, ProtocolStatus, RouteQuery, RouteView, Status,
};

pub use crate::fsm::ConnId;
pub use crate::rib::Filtered;

/// Octets of UPDATEs that may be unconfirmed on one connection. Two messages of the largest size fit, and a slow peer
/// holds no more than this; what it did not take coalesces in the tables.
pub const SEND_WINDOW: usize = 256 * 1024;
