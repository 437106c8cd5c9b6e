//! Which interfaces, addresses and neighbours change in the kernel: a hint to look again, for whoever compares what is
//! with what should be. [`crate::monitor`] tells of routes, in full.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use crate::route::{Frames, KernelError, Message, decode, set_buffers, socket_error};

/// RTNLGRP_LINK, NEIGH, IPV4_IFADDR, IPV6_IFADDR as the mask bind(2) wants.
const GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 8;
const RECEIVE_BUFFER: usize = 1024 * 1024;
const DATAGRAM: usize = 64 * 1024;
/// Hints that wait for the reader.
const QUEUE: usize = 16;
/// Datagrams read before what they say is told.
const BURST: usize = 256;
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
    touched: mpsc::Receiver<io::Result<Touched>>,
    /// Closing it wakes the thread.
    _stop: UnixStream,
}

/// What the thread needs.
struct Reader {
    socket: Socket,
    stopped: UnixStream,
    touched: mpsc::Sender<io::Result<Touched>>,
    buffer: Vec<u8>,
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
        socket
            .set_non_blocking(true)
            .map_err(socket_error("set a link monitor non-blocking"))?;
        let (stop, stopped) = UnixStream::pair().map_err(socket_error("make a pair of sockets"))?;
        let (sender, touched) = mpsc::channel(QUEUE);
        let reader = Reader {
            socket,
            stopped,
            touched: sender,
            buffer: vec![0; DATAGRAM],
        };
        std::thread::Builder::new()
            .name("netlink-links".to_owned())
            .spawn(move || reader.run())
            .map_err(socket_error("start the link monitor's thread"))?;
        Ok(Touches { touched, _stop: stop })
    }

    /// What changed since the last call; waits until something does. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the socket failed for good.
    pub async fn next(&mut self) -> io::Result<Touched> {
        let ended = || Err(io::ErrorKind::BrokenPipe.into());
        self.touched.recv().await.unwrap_or_else(ended)
    }
}

impl Reader {
    fn run(mut self) {
        loop {
            let readable = PollFlags::POLLIN;
            let mut fds = [
                PollFd::new(self.socket.as_fd(), readable),
                PollFd::new(self.stopped.as_fd(), readable),
            ];
            let polled = poll(&mut fds, PollTimeout::NONE);
            if fds.last().and_then(PollFd::any).unwrap_or(false) {
                return;
            }
            let told = match polled {
                Ok(_) | Err(Errno::EINTR) => self.read(),
                Err(errno) => Err(errno.into()),
            };
            let failed = told.is_err();
            // Whoever is behind makes the kernel's buffer fill and overrun, which is told: the bound.
            let nothing = matches!(&told, Ok(t) if *t == Touched::default());
            if !nothing && self.touched.blocking_send(told).is_err() || failed {
                return;
            }
        }
    }

    /// What can be read without waiting, up to a bound.
    fn read(&mut self) -> io::Result<Touched> {
        let mut touched = Touched::default();
        for _ in 0..BURST {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(len) => touched.take(self.buffer.get(..len).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => touched.anything = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(touched)
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
