//! Which tables somebody changed: a hint to look again.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::wire;
use crate::follow::Follower;
use crate::route::{Frame, Frames, KernelError, Message, decode, set_buffers, socket_error};

/// NFNLGRP_NFTABLES as the mask bind(2) wants.
const GROUPS: u32 = 1 << 6;
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Follows the tables whose names begin alike, on a thread that ends with it.
#[derive(Debug)]
pub struct Changes {
    changed: Follower<bool>,
}

impl Changes {
    /// Joins the group in the calling thread's network namespace; to be called before the first look.
    ///
    /// # Errors
    /// [`KernelError::Socket`]: the kernel has no netfilter.
    pub fn open(beginning: &'static str) -> Result<Self, KernelError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(socket_error("open a monitor of nftables"))?;
        set_buffers(&socket, RECEIVE_BUFFER, 64 * 1024)?;
        let groups = SocketAddr::new(0, GROUPS);
        socket
            .bind(&groups)
            .map_err(socket_error("bind a monitor of nftables"))?;
        let changed = Follower::start(socket, "netlink-nft", move |changed, datagram| {
            *changed |= datagram.is_none_or(|d| Frames(d).any(|f| tells(beginning, &f)));
        })?;
        Ok(Changes { changed })
    }

    /// Returns when one of the tables changed, or when changes were lost, of which one may have been theirs. Cancelling
    /// loses nothing.
    ///
    /// # Errors
    /// When the socket failed for good.
    pub async fn next(&mut self) -> io::Result<()> {
        self.changed.next().await.map(drop)
    }
}

/// Does a message tell of such a table, or that messages were lost?
fn tells(beginning: &str, frame: &Frame<'_>) -> bool {
    matches!(decode(frame), Message::Overrun) || wire::concerns(beginning, frame.kind, frame.body)
}
