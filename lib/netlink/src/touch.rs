//! Which interfaces, addresses and neighbours change in the kernel: a hint to look again, for whoever compares what is
//! with what should be. [`crate::monitor`] tells of routes, in full.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::follow::Follower;
use crate::route::{Frames, KernelError, Message, decode, set_buffers, socket_error};

/// RTNLGRP_LINK, NEIGH, IPV4_IFADDR, IPV6_IFADDR as the mask bind(2) wants.
const GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 8;
const RECEIVE_BUFFER: usize = 1024 * 1024;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Interfaces by index: they, their addresses or their neighbours.
    pub interfaces: BTreeSet<u32>,
    /// The names of interfaces that came, changed or went, as far as they were told.
    pub names: BTreeSet<String>,
    /// Addresses that came or went.
    pub addresses: BTreeSet<IpAddr>,
    /// Something was lost: anything may have changed.
    pub anything: bool,
}

/// Follows the kernel, on a thread that ends with it.
#[derive(Debug)]
pub struct Touches {
    touched: Follower<Touched>,
}

impl Touches {
    /// Joins the groups in the calling thread's network namespace; to be called before the first look.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn open() -> Result<Self, KernelError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(socket_error("open a link monitor"))?;
        set_buffers(&socket, RECEIVE_BUFFER, 64 * 1024)?;
        let groups = SocketAddr::new(0, GROUPS);
        socket.bind(&groups).map_err(socket_error("bind a link monitor"))?;
        let touched = Follower::start(
            socket,
            "netlink-links",
            |touched: &mut Touched, datagram| match datagram {
                Some(datagram) => touched.take(datagram),
                None => touched.anything = true,
            },
        )?;
        Ok(Touches { touched })
    }

    /// What changed since the last call; waits until something does. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the socket failed for good.
    pub async fn next(&mut self) -> io::Result<Touched> {
        self.touched.next().await
    }
}

impl Touched {
    fn take(&mut self, datagram: &[u8]) {
        for frame in Frames(datagram) {
            match decode(&frame) {
                Message::Interface(i) => {
                    self.interfaces.insert(i.index.0);
                    self.names.insert(i.name);
                }
                Message::InterfaceGone(index) => {
                    self.interfaces.insert(index.0);
                }
                Message::Address(a) | Message::AddressGone(a) => {
                    self.interfaces.insert(a.interface.0);
                    self.addresses.insert(a.address);
                }
                Message::Overrun => self.anything = true,
                _ if frame.kind == RTM_NEWNEIGH || frame.kind == RTM_DELNEIGH => {
                    let index = frame.body.get(4..8).and_then(|b| b.try_into().ok());
                    self.interfaces.extend(index.map(u32::from_ne_bytes));
                }
                _ => {}
            }
        }
    }
}
