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
    Frames, IfIndex, Interface, InterfaceAddress, KernelError, Message, NLM_F_REPLACE, Protocol, RTM_DELROUTE,
    RTM_NEWROUTE, Route, TABLE_MAIN, decode, set_buffers, socket_error,
};

/// RTNLGRP_LINK, IPV4_IFADDR, IPV6_IFADDR as the mask bind(2) wants.
const LINKS: u32 = 1 | 1 << 4 | 1 << 8;
/// RTNLGRP_IPV4_ROUTE, IPV6_ROUTE, NEXTHOP likewise.
const ROUTES: u32 = 1 << 6 | 1 << 10 | 1 << 31;
/// Room for the burst of a full table written by somebody else.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;
const DATAGRAM: usize = 64 * 1024;
/// Where a message's header has its type, its flags, and the port of who caused it.
const TYPE_AT: u32 = 4;
const FLAGS_AT: u32 = 6;
const PORT_AT: u32 = 12;
/// Where a route's message has who put it there (`rtm_protocol`).
const PROTOCOL_AT: u32 = 21;
/// Events given at once at most, so that a storm does not keep the reader from its other work.
const BATCH: usize = 4096;
/// Batches that wait for the reader.
const QUEUE: usize = 16;

/// What a monitor is not told, so that it does not even wake for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// Nothing.
    Nothing,
    /// What the socket with this port causes: whoever writes knows what it wrote.
    Port(u32),
    /// Routes that BGP put there or took away ([`Protocol::BIRD`], [`Protocol::BGP`]). One that may have taken another's place
    /// is told of.
    Bgp,
}

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
    without: Without,
    events: mpsc::Sender<io::Result<Vec<Event>>>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Joins the groups in the calling thread's network namespace; to be called before the first dump, so that nothing
    /// falls between. Routes of other tables are left out.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn start(table: u32, without: Without) -> Result<Self, KernelError> {
        let socket = join(LINKS | ROUTES, without, RECEIVE_BUFFER)?;
        Monitor::follow(socket, table, without)
    }

    /// As [`Monitor::start`], but of interfaces and addresses alone: whoever wants no routes is not woken by them.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn of_links() -> Result<Self, KernelError> {
        Monitor::follow(
            join(LINKS, Without::Nothing, RECEIVE_BUFFER)?,
            TABLE_MAIN,
            Without::Nothing,
        )
    }

    fn follow(socket: Socket, table: u32, without: Without) -> Result<Self, KernelError> {
        let (stop, stopped) = UnixStream::pair().map_err(socket_error("make a pair of sockets"))?;
        let (sender, events) = mpsc::channel(QUEUE);
        let reader = Reader {
            socket,
            stopped,
            table,
            without,
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
fn join(groups: u32, without: Without, receive: usize) -> Result<Socket, KernelError> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(socket_error("open a monitor"))?;
    set_buffers(&socket, receive, 64 * 1024)?;
    let filter = match without {
        Without::Nothing => Vec::new(),
        Without::Port(port) => not_from(port),
        Without::Bgp => not_by_bgp(),
    };
    if !filter.is_empty() {
        SockRef::from(&socket)
            .attach_filter(&filter)
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
fn not_from(port: u32) -> Vec<SockFilter> {
    // The load takes the port (`nlmsg_pid`) in network order.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    vec![
        load(libc::BPF_W, PORT_AT),
        jump(libc::BPF_JEQ, port, 0, 1),
        give(0),
        give(u32::MAX),
    ]
}

/// A filter for the kernel to run: routes of BGP's come and go by the hundred thousand, and resolve no next hop.
fn not_by_bgp() -> Vec<SockFilter> {
    // The loads take what the kernel writes in its own order in network order.
    let half = |value: u16| u32::from(u16::from_be_bytes(value.to_ne_bytes()));
    vec![
        load(libc::BPF_H, TYPE_AT),
        jump(libc::BPF_JEQ, half(RTM_DELROUTE), 3, 0),
        jump(libc::BPF_JEQ, half(RTM_NEWROUTE), 0, 6),
        load(libc::BPF_H, FLAGS_AT),
        jump(libc::BPF_JSET, half(NLM_F_REPLACE), 4, 0),
        load(libc::BPF_B, PROTOCOL_AT),
        jump(libc::BPF_JEQ, Protocol::BIRD.0.into(), 1, 0),
        jump(libc::BPF_JEQ, Protocol::BGP.0.into(), 0, 1),
        give(0),
        give(u32::MAX),
    ]
}

fn instruction(parts: u32, yes: u8, no: u8, operand: u32) -> SockFilter {
    let code = u16::try_from(parts).expect("invariant: an instruction's code has one octet");
    SockFilter::new(code, yes, no, operand)
}

/// Loads so much of what is in a message there.
fn load(size: u32, at: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at)
}

/// Skips so many instructions when what was loaded compares so, or does not.
fn jump(how: u32, with: u32, yes: u8, no: u8) -> SockFilter {
    instruction(libc::BPF_JMP | how | libc::BPF_K, yes, no, with)
}

/// Lets so many octets of the message pass.
fn give(octets: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, octets)
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
                    events.extend(read(datagram, self.table, self.without));
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

fn read(datagram: &[u8], table: u32, without: Without) -> impl Iterator<Item = Event> + '_ {
    let foreign = Frames(datagram).filter(move |f| Without::Port(f.port) != without);
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
    use crate::route::{Change, Kernel, Kind, Netlink};

    #[test]
    fn what_the_writer_did_does_not_even_wake_the_reader() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let (mut own, mut other) = (Netlink::open().unwrap(), Netlink::open().unwrap());
            let socket = join(LINKS | ROUTES, Without::Port(own.port()), 64 * 1024).unwrap();
            let mut buffer = vec![0; DATAGRAM];
            let mut received = || socket.recv(&mut buffer.as_mut_slice(), 0).map_err(|e| e.kind());
            let blackhole = |prefix: &str| Route::new(prefix.parse().unwrap(), Kind::Blackhole, Protocol::STATIC);
            let create = |prefix| [Change::Create(blackhole(prefix).into())];
            for prefix in ["10.9.0.0/24", "fd09::/64"] {
                assert_eq!(own.apply(&create(prefix)).unwrap(), []);
                assert_eq!(received(), Err(io::ErrorKind::WouldBlock), "{prefix}");
            }
            let links = join(LINKS, Without::Nothing, 64 * 1024).unwrap();
            assert_eq!(other.apply(&create("10.9.1.0/24")).unwrap(), []);
            assert!(received().is_ok_and(|len| len > 0));
            let mut buffer = vec![0; DATAGRAM];
            let of_links = links.recv(&mut buffer.as_mut_slice(), 0).map_err(|e| e.kind());
            assert_eq!(of_links, Err(io::ErrorKind::WouldBlock), "a route is no link");
        });
        thread.join().unwrap();
    }

    #[test]
    fn routes_of_bgp_do_not_wake_whoever_has_no_use_for_them() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let mut kernel = Netlink::open().unwrap();
            let socket = join(LINKS | ROUTES, Without::Bgp, 64 * 1024).unwrap();
            let mut buffer = vec![0; DATAGRAM];
            let mut told = || {
                let len = socket.recv(&mut buffer.as_mut_slice(), 0).ok()?;
                read(&buffer[..len], TABLE_MAIN, Without::Bgp).next()
            };
            for prefix in ["10.9.0.0/24", "fd09::/64"] {
                let by = |protocol| Route::new(prefix.parse().unwrap(), Kind::Blackhole, protocol);
                for bgp in [Protocol::BIRD, Protocol::BGP] {
                    let (bgp, other) = (by(bgp), by(Protocol::STATIC));
                    let come_and_go = [Change::Create(bgp.clone().into()), Change::Delete(bgp.clone().into())];
                    assert_eq!(kernel.apply(&come_and_go).unwrap(), []);
                    assert_eq!(told(), None, "{bgp}");
                    assert_eq!(kernel.apply(&[Change::Create(other.clone().into())]).unwrap(), []);
                    assert_eq!(told(), Some(Event::Route(other.clone())));
                    // It takes another's place: nothing else tells that the other is gone.
                    let takes = [Change::Replace(bgp.clone().into()), Change::Delete(bgp.clone().into())];
                    assert_eq!(kernel.apply(&takes).unwrap(), []);
                    assert_eq!((told(), told()), (Some(Event::Route(bgp)), None));
                }
            }
        });
        thread.join().unwrap();
    }

    #[test]
    fn after_an_overrun_nothing_old_is_told() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            let socket = join(LINKS | ROUTES, Without::Nothing, 4096).unwrap();
            let (_stop, stopped) = UnixStream::pair().unwrap();
            let mut reader = Reader {
                socket,
                stopped,
                table: TABLE_MAIN,
                without: Without::Nothing,
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
