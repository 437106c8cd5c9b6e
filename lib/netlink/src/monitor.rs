//! What changes in the kernel, as events.
//!
//! The kernel's notifications are a hint, not a log: when the reader is slow the kernel drops some and says so, and some
//! changes (routes that go with their interface or with an address, IPv4) are never told at all. A reader therefore
//! holds what a dump gave, follows with [`Event`]s, and dumps anew on [`Event::Resync`].

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockFilter, SockRef};
use tokio::sync::mpsc;

use crate::route::object::{Object, ObjectId};
use crate::route::{
    Frames, IfIndex, Interface, InterfaceAddress, KernelError, Message, Route, TABLE_MAIN, decode, set_buffers,
    socket_error,
};

/// RTNLGRP_LINK, IPV4_IFADDR, IPV6_IFADDR as the mask bind(2) wants.
const LINKS: u32 = 1 | 1 << 4 | 1 << 8;
/// RTNLGRP_IPV4_ROUTE, IPV6_ROUTE, NEXTHOP likewise.
const ROUTES: u32 = 1 << 6 | 1 << 10 | 1 << 31;
/// Room for the burst of a full table written by somebody else.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;
const DATAGRAM: usize = 64 * 1024;
/// Where a message's header has the port of who caused it.
const PORT_AT: u32 = 12;
/// Events given at once at most, so that a storm does not keep the reader from its other work.
const BATCH: usize = 4096;
/// Batches that wait for the reader.
const QUEUE: usize = 16;

/// A change in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The route is there now (new, or in place of the one with its key).
    Route(Route),
    /// The route is gone.
    RouteGone(Route),
    /// The interface is there now, like this.
    Interface(Interface),
    /// The interface is gone.
    InterfaceGone(IfIndex),
    /// The address is there now.
    Address(InterfaceAddress),
    /// The address is gone.
    AddressGone(InterfaceAddress),
    /// The nexthop object is there now, like this.
    Object(Object),
    /// The nexthop object is gone, and with it its routes: of IPv4 ones nothing is told.
    ObjectGone(ObjectId),
    /// Events were lost: what is known may be wrong anywhere.
    Resync,
}

/// Follows the kernel, on a thread that ends with it.
#[derive(Debug)]
pub struct Monitor {
    events: mpsc::Receiver<io::Result<Vec<Event>>>,
    /// Closing it wakes the thread.
    _stop: UnixStream,
}

/// What the thread needs.
struct Reader {
    socket: Socket,
    stopped: UnixStream,
    table: u32,
    own_port: u32,
    events: mpsc::Sender<io::Result<Vec<Event>>>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Joins the groups in the calling thread's network namespace; to be called before the first dump, so that nothing
    /// falls between. Routes of other tables are left out, and so is what the socket with `own_port` causes (0: nothing
    /// is): whoever writes knows what it wrote.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn start(table: u32, own_port: u32) -> Result<Self, KernelError> {
        let socket = join(LINKS | ROUTES, own_port, RECEIVE_BUFFER)?;
        Monitor::follow(socket, table, own_port)
    }

    /// As [`Monitor::start`], but of interfaces and addresses alone: whoever wants no routes is not woken by them.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn of_links() -> Result<Self, KernelError> {
        Monitor::follow(join(LINKS, 0, RECEIVE_BUFFER)?, TABLE_MAIN, 0)
    }

    fn follow(socket: Socket, table: u32, own_port: u32) -> Result<Self, KernelError> {
        let (stop, stopped) = UnixStream::pair().map_err(socket_error("make a pair of sockets"))?;
        let (sender, events) = mpsc::channel(QUEUE);
        let reader = Reader {
            socket,
            stopped,
            table,
            own_port,
            events: sender,
            buffer: vec![0; DATAGRAM],
        };
        std::thread::Builder::new()
            .name("netlink-monitor".to_owned())
            .spawn(move || reader.run())
            .map_err(socket_error("start the monitor's thread"))?;
        Ok(Monitor { events, _stop: stop })
    }

    /// The next events, at least one, in the kernel's order. Cancelling loses none. `None` when the thread has ended,
    /// which it does after an error.
    ///
    /// # Errors
    /// When the socket failed for good.
    pub async fn next(&mut self) -> Option<io::Result<Vec<Event>>> {
        self.events.recv().await
    }
}

/// A socket that has joined the groups.
fn join(groups: u32, own_port: u32, receive: usize) -> Result<Socket, KernelError> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(socket_error("open a monitor"))?;
    set_buffers(&socket, receive, 64 * 1024)?;
    if own_port != 0 {
        SockRef::from(&socket)
            .attach_filter(&not_from(own_port))
            .map_err(socket_error("filter a monitor"))?;
    }
    socket
        .bind(&SocketAddr::new(0, groups))
        .map_err(socket_error("bind a monitor"))?;
    socket
        .set_non_blocking(true)
        .map_err(socket_error("set a monitor non-blocking"))?;
    Ok(socket)
}

/// A filter for the kernel to run: nothing that this port caused comes to the socket, so that whoever writes 100,000
/// routes is not woken to read 100,000 messages about them.
fn not_from(port: u32) -> [SockFilter; 4] {
    let code = |parts: u32| u16::try_from(parts).expect("invariant: an instruction's code has one octet");
    // The load takes the port (`nlmsg_pid`) in network order.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    [
        SockFilter::new(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0, PORT_AT),
        SockFilter::new(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, port),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
    ]
}

impl Reader {
    fn run(mut self) {
        while let Some(events) = self.next() {
            // A reader that is behind makes the kernel's buffer fill and overrun, which is told as Resync: the bound.
            if self.events.blocking_send(events).is_err() {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<io::Result<Vec<Event>>> {
        loop {
            let readable = PollFlags::POLLIN;
            let mut fds = [
                PollFd::new(self.socket.as_fd(), readable),
                PollFd::new(self.stopped.as_fd(), readable),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Some(Err(errno.into())),
            }
            if fds.last().and_then(PollFd::any).unwrap_or(false) {
                return None;
            }
            match self.read_all() {
                Ok(events) if events.is_empty() => {}
                other => return Some(other),
            }
        }
    }

    /// Everything that can be read without waiting, up to a bound.
    fn read_all(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(len) => {
                    let datagram = self.buffer.get(..len).unwrap_or_default();
                    events.extend(read(datagram, self.table, self.own_port));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    // What is still queued is older than what was lost. Told after the reader's dump, the last word on a
                    // route could be an old one.
                    self.discard();
                    return Ok(vec![Event::Resync]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(events)
    }
}

impl Reader {
    /// Empties the socket, up to more than its buffer holds.
    fn discard(&mut self) {
        for _ in 0..RECEIVE_BUFFER / 256 {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn read(datagram: &[u8], table: u32, own_port: u32) -> impl Iterator<Item = Event> + '_ {
    let foreign = Frames(datagram).filter(move |f| own_port == 0 || f.port != own_port);
    foreign.filter_map(move |frame| match decode(&frame) {
        Message::Route(r) => (r.table == table).then_some(Event::Route(r)),
        Message::RouteGone(r) => (r.table == table).then_some(Event::RouteGone(r)),
        Message::Interface(i) => Some(Event::Interface(i)),
        Message::InterfaceGone(i) => Some(Event::InterfaceGone(i)),
        Message::Address(a) => Some(Event::Address(a)),
        Message::AddressGone(a) => Some(Event::AddressGone(a)),
        Message::Object(o) => Some(Event::Object(o)),
        Message::ObjectGone(id) => Some(Event::ObjectGone(id)),
        Message::Overrun => Some(Event::Resync),
        Message::Answer { .. } | Message::Done { .. } | Message::Ignored => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Change, Kernel, Kind, Netlink, Protocol};

    #[test]
    fn what_the_writer_did_does_not_even_wake_the_reader() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let (mut own, mut other) = (Netlink::open().unwrap(), Netlink::open().unwrap());
            let socket = join(LINKS | ROUTES, own.port(), 64 * 1024).unwrap();
            let mut buffer = vec![0; DATAGRAM];
            let mut received = || socket.recv(&mut buffer.as_mut_slice(), 0).map_err(|e| e.kind());
            let blackhole = |prefix: &str| Route::new(prefix.parse().unwrap(), Kind::Blackhole, Protocol::STATIC);
            let create = |prefix| [Change::Create(blackhole(prefix).into())];
            for prefix in ["10.9.0.0/24", "fd09::/64"] {
                assert_eq!(own.apply(&create(prefix)).unwrap(), []);
                assert_eq!(received(), Err(io::ErrorKind::WouldBlock), "{prefix}");
            }
            let links = join(LINKS, 0, 64 * 1024).unwrap();
            assert_eq!(other.apply(&create("10.9.1.0/24")).unwrap(), []);
            assert!(received().is_ok_and(|len| len > 0));
            let mut buffer = vec![0; DATAGRAM];
            let of_links = links.recv(&mut buffer.as_mut_slice(), 0).map_err(|e| e.kind());
            assert_eq!(of_links, Err(io::ErrorKind::WouldBlock), "a route is no link");
        });
        thread.join().unwrap();
    }

    #[test]
    fn after_an_overrun_nothing_old_is_told() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let socket = join(LINKS | ROUTES, 0, 4096).unwrap();
            let (_stop, stopped) = UnixStream::pair().unwrap();
            let mut reader = Reader {
                socket,
                stopped,
                table: TABLE_MAIN,
                own_port: 0,
                events: mpsc::channel(1).0,
                buffer: vec![0; DATAGRAM],
            };
            let mut kernel = Netlink::open().unwrap();
            let route = Route::new("10.9.0.0/24".parse().unwrap(), Kind::Blackhole, Protocol::STATIC);
            let toggle = [
                Change::Create(route.clone().into()),
                Change::Delete(route.clone().into()),
            ];
            for _ in 0..100 {
                assert_eq!(kernel.apply(&toggle).unwrap(), []);
            }
            assert_eq!(reader.read_all().unwrap(), [Event::Resync]);
            assert_eq!(reader.read_all().unwrap(), []);
            assert_eq!(kernel.apply(&toggle[..1]).unwrap(), []);
            assert_eq!(
                reader.read_all().unwrap(),
                [Event::Route(route)],
                "what comes after is told"
            );
        });
        thread.join().unwrap();
    }
}
