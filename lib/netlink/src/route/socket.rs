//! The real kernel: one blocking socket, requests in batches, one acknowledgement for each.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::object::{self, Body, Object, ObjectChange};
use super::wire::{self, Message};
use super::{Change, Filter, Interface, InterfaceAddress, Kernel, KernelError, Refusal, Route};

/// How many changes share one acknowledgement. Beyond some hundreds nothing is gained (measured), and a lost answer
/// costs a look at all of them.
const BATCH: usize = 512;
/// A batch ends early at this many octets, whatever its next hops weigh: far below the send buffer.
const BATCH_OCTETS: usize = 128 * 1024;
/// Answers of one batch, all refused with the kernel's words, fit many times over. Dumps need no room: the kernel waits.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
const SEND_BUFFER: usize = 1024 * 1024;
/// The kernel answers in microseconds; this is for a machine that hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel makes no datagram longer than 32 KiB for a dump.
const DATAGRAM: usize = 64 * 1024;

/// A route socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

pub(crate) fn socket_error(what: &'static str) -> impl Fn(std::io::Error) -> KernelError {
    move |e| KernelError::Socket {
        what,
        errno: e.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}

/// Sets both buffers, beyond the system's limit where the process may.
pub(crate) fn set_buffers(socket: &Socket, receive: usize, send: usize) -> Result<(), KernelError> {
    let fd = Fd(socket);
    let failed = |errno| KernelError::Socket {
        what: "set the netlink socket's buffers",
        errno,
    };
    setsockopt(&fd, sockopt::RcvBufForce, &receive)
        .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &receive))
        .map_err(failed)?;
    setsockopt(&fd, sockopt::SndBuf, &send).map_err(failed)
}

/// A netlink socket as what nix wants; it is borrowed for as long.
struct Fd<'a>(&'a Socket);

impl AsFd for Fd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    ///
    /// # Errors
    /// [`KernelError::Socket`].
    pub fn open() -> Result<Self, KernelError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(socket_error("open a netlink socket"))?;
        let bound = socket.bind_auto().map_err(socket_error("bind a netlink socket"))?;
        set_buffers(&socket, RECEIVE_BUFFER, SEND_BUFFER)?;
        let option = socket_error("set an option of a netlink socket");
        socket.set_netlink_get_strict_chk(true).map_err(&option)?;
        socket.set_ext_ack(true).map_err(&option)?;
        socket.set_cap_ack(true).map_err(&option)?;
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&Fd(&socket), sockopt::ReceiveTimeout, &patience).map_err(|errno| KernelError::Socket {
            what: "set a netlink socket's patience",
            errno,
        })?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(socket_error("connect a netlink socket"))?;
        Ok(Netlink {
            socket,
            port: bound.port_number(),
            sequence: 0,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// The socket's port: the notifications its own changes cause carry it (see [`crate::monitor::Monitor`]).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The routes of a filter that `keep` wants; the others are not held while the dump is read.
    ///
    /// # Errors
    /// As [`Kernel::routes`].
    pub fn routes_where(&mut self, filter: Filter, keep: impl Fn(&Route) -> bool) -> Result<Vec<Route>, KernelError> {
        let wanted = |r: &Route| r.table == filter.table && filter.protocol.is_none_or(|p| p == r.protocol) && keep(r);
        let mut routes = Vec::new();
        for v4 in [true, false] {
            let dumped = self.dump(
                "dump routes",
                |s| wire::route_dump(v4, filter, s),
                |message| {
                    if let Message::Route(r) = message
                        && wanted(&r)
                    {
                        routes.push(r);
                    }
                },
            );
            match dumped {
                // A host without IPv6 has no IPv6 routes.
                Err(KernelError::Refused {
                    errno: Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP,
                    ..
                }) if !v4 => {}
                other => other?,
            }
        }
        Ok(routes)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, octets: &[u8]) -> Result<(), KernelError> {
        loop {
            match self.socket.send(octets, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(socket_error("send to the kernel")(e)),
            }
        }
    }

    /// Reads one datagram and gives its messages to `each`, with flags and sequence number, until it wants no more.
    fn receive(&mut self, mut each: impl FnMut(u16, u32, Message)) -> Result<(), KernelError> {
        let len = loop {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(len) => break len,
                Err(e) => match e.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    Some(Errno::EAGAIN) => {
                        return Err(KernelError::Timeout {
                            seconds: PATIENCE.as_secs(),
                        });
                    }
                    Some(Errno::ENOBUFS) => return Err(KernelError::Overrun),
                    _ => return Err(socket_error("receive from the kernel")(e)),
                },
            }
        };
        for frame in wire::Frames(self.buffer.get(..len).unwrap_or_default()) {
            each(frame.flags, frame.sequence, wire::decode(&frame));
        }
        Ok(())
    }

    /// Empties the socket of answers to questions given up.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if !matches!(self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_DONTWAIT), Ok(n) if n > 0) {
                return;
            }
        }
    }

    fn dump(
        &mut self,
        what: &'static str,
        request: impl FnOnce(u32) -> Vec<u8>,
        mut take: impl FnMut(Message),
    ) -> Result<(), KernelError> {
        let sequence = self.next_sequence();
        self.send(&request(sequence))?;
        let mut interrupted = false;
        let mut end = None;
        while end.is_none() {
            let read = self.receive(|flags, answered, message| {
                if answered != sequence || end.is_some() {
                    return;
                }
                interrupted |= flags & wire::NLM_F_DUMP_INTR != 0;
                match message {
                    Message::Done { errno } | Message::Answer { errno, .. } => end = Some(errno),
                    other => take(other),
                }
            });
            if let Err(error) = read {
                self.drain();
                return Err(error);
            }
        }
        match end {
            _ if interrupted => Err(KernelError::DumpInterrupted),
            Some(0) | None => Ok(()),
            // A table that was never used does not exist.
            Some(libc::ENOENT) => Ok(()),
            Some(libc::EINTR) => Err(KernelError::DumpInterrupted),
            Some(errno) => Err(KernelError::Refused {
                what,
                errno: Errno::from_raw(errno),
            }),
        }
    }

    /// Sends one batch and collects its refusals, whose indices count from `base`.
    fn batch(&mut self, changes: &[Change], base: usize, refusals: &mut Vec<Refusal>) -> Result<(), KernelError> {
        let mut octets = Vec::with_capacity(changes.len() * 96);
        let first = self.sequence.wrapping_add(1);
        let mut last = first;
        for (i, change) in changes.iter().enumerate() {
            last = self.next_sequence();
            wire::encode_change(&mut octets, change, last, i + 1 == changes.len());
        }
        self.send(&octets)?;
        let mut done = false;
        while !done {
            let read = self.receive(|_, sequence, message| {
                let offset = sequence.wrapping_sub(first) as usize;
                let Message::Answer { errno, message } = message else {
                    return;
                };
                if offset >= changes.len() {
                    return;
                }
                if errno != 0 {
                    refusals.push(Refusal {
                        index: base + offset,
                        errno,
                        message,
                    });
                }
                done |= sequence == last;
            });
            if let Err(error) = read {
                self.drain();
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How many next hops a change may carry.
fn weight(change: &Change) -> usize {
    match change {
        Change::Create(r) | Change::Replace(r) | Change::Delete(r) if r.object.is_none() => r.next_hops.len(),
        Change::Object(ObjectChange::Create(o) | ObjectChange::Replace(o)) => match &o.body {
            Body::Group(members) => members.len(),
            Body::Single(_) | Body::Other => 1,
        },
        Change::Create(_) | Change::Replace(_) | Change::Delete(_) | Change::Object(ObjectChange::Delete(_)) => 1,
    }
}

impl Kernel for Netlink {
    fn routes(&mut self, filter: Filter) -> Result<Vec<Route>, KernelError> {
        self.routes_where(filter, |_| true)
    }

    fn interfaces(&mut self) -> Result<Vec<Interface>, KernelError> {
        let mut interfaces = Vec::new();
        self.dump("list interfaces", wire::link_dump, |message| {
            if let Message::Interface(i) = message {
                interfaces.push(i);
            }
        })?;
        Ok(interfaces)
    }

    fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, KernelError> {
        let mut addresses = Vec::new();
        self.dump("list addresses", wire::address_dump, |message| {
            if let Message::Address(a) = message {
                addresses.push(a);
            }
        })?;
        Ok(addresses)
    }

    fn objects(&mut self) -> Result<Option<Vec<Object>>, KernelError> {
        let mut objects = Vec::new();
        let dumped = self.dump("list nexthop objects", object::dump, |message| {
            if let Message::Object(o) = message {
                objects.push(o);
            }
        });
        match dumped {
            Ok(()) => Ok(Some(objects)),
            Err(KernelError::Refused {
                errno: Errno::EOPNOTSUPP,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, KernelError> {
        let mut refusals = Vec::new();
        let mut base = 0;
        while base < changes.len() {
            // Multipath routes weigh more: count their next hops as messages.
            let mut octets = 0;
            let fits = |c: &&Change| {
                octets += 80 + 40 * weight(c);
                octets <= BATCH_OCTETS
            };
            let rest = changes.get(base..).unwrap_or_default();
            let count = rest.iter().take(BATCH).take_while(fits).count().max(1);
            self.batch(rest.get(..count).unwrap_or_default(), base, &mut refusals)?;
            base += count;
        }
        Ok(refusals)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}
