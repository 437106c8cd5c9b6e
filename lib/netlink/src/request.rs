//! Blocking requests on a route-netlink socket: send, and wait for the kernel's answer.
//!
//! For the few requests that set one interface up. The kernel does the work of a request before `send` returns, so a
//! blocking socket costs less than a task, and one may be opened inside another network namespace and used there. Bulk
//! route programming is [`crate::route`]'s.
//!
//! Invariants: one request at a time; every wait has a deadline ([`ANSWER_WITHIN`]); a dump that the kernel marks as
//! interrupted is repeated, and given up after [`DUMP_ATTEMPTS`], never returned in part.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

/// How long the kernel may take for an answer. Its answers are there when `send` returns, unless a dump is large.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often an interrupted dump is begun anew.
pub const DUMP_ATTEMPTS: u32 = 16;

/// What the kernel (or the socket) did not do.
#[derive(Debug, thiserror::Error)]
#[error("{act} {object}: {source}")]
pub struct RequestError {
    /// What was asked, as a verb and a noun: "create veth".
    pub act: &'static str,
    /// What it was asked of: an interface, an address.
    pub object: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl RequestError {
    /// An error of `act` on `object`.
    pub fn new(act: &'static str, object: impl ToString, source: io::Error) -> Self {
        RequestError {
            act,
            object: object.to_string(),
            source,
        }
    }

    /// Did the kernel say that it exists already?
    pub fn is_exists(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
    }

    /// Did the kernel say that there is no such interface, address or entry?
    pub fn is_missing(&self) -> bool {
        let missing = [
            libc::ENODEV,
            libc::ENOENT,
            libc::ESRCH,
            libc::EADDRNOTAVAIL,
            libc::ENXIO,
        ];
        self.source.raw_os_error().is_some_and(|e| missing.contains(&e))
    }
}

/// A route-netlink socket in one network namespace.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// Opens a socket in the network namespace of the calling thread. It stays there.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, RequestError> {
        let failed = |e| RequestError::new("open netlink socket", "NETLINK_ROUTE", e);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        SockRef::from(&socket)
            .set_read_timeout(Some(ANSWER_WITHIN))
            .map_err(failed)?;
        // Without it the kernel ignores a dump's filters.
        socket.set_netlink_get_strict_chk(true).map_err(failed)?;
        Ok(Connection { socket, sequence: 0 })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        Ok(self.sequence)
    }

    /// Asks for a change and waits until the kernel says that it is done.
    ///
    /// # Errors
    /// The kernel's error number, or `TimedOut`.
    pub fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let sequence = self.send(message, NLM_F_ACK | flags)?;
        let mut answered = Err(io::Error::from(io::ErrorKind::TimedOut));
        self.receive(sequence, |_, payload| match payload {
            NetlinkPayload::Error(e) => {
                answered = if e.code.is_none() { Ok(()) } else { Err(e.to_io()) };
                Progress::Finished
            }
            _ => Progress::More,
        })?;
        answered
    }

    /// Asks a question that has one answer.
    ///
    /// # Errors
    /// The kernel's error number, or `TimedOut`.
    pub fn ask(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let sequence = self.send(message, 0)?;
        let mut answer = Err(io::Error::from(io::ErrorKind::TimedOut));
        self.receive(sequence, |_, payload| {
            answer = match payload {
                NetlinkPayload::InnerMessage(m) => Ok(m),
                NetlinkPayload::Error(e) => Err(e.to_io()),
                _ => return Progress::More,
            };
            Progress::Finished
        })?;
        answer
    }

    /// Asks for a list and collects what `read` makes of its messages: a message that is read is a hundred times the size of
    /// what is wanted of it, and the list as long as the node has workloads.
    ///
    /// # Errors
    /// The kernel's error number, `TimedOut`, or `Interrupted` when it changed under every attempt.
    pub fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.send(message.clone(), NLM_F_DUMP)?;
            let mut found = Vec::new();
            let mut interrupted = false;
            let mut failure = None;
            self.receive(sequence, |flags, payload| {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(m) => found.extend(read(m)),
                    NetlinkPayload::Done(_) => return Progress::Finished,
                    NetlinkPayload::Error(e) => {
                        failure = Some(e.to_io());
                        return Progress::Finished;
                    }
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
                    _ => {}
                }
                Progress::More
            })?;
            match failure {
                Some(e) => return Err(e),
                None if !interrupted => return Ok(found),
                None => {}
            }
        }
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    /// Hands over every message that answers `sequence`, until told to stop.
    fn receive(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(u16, NetlinkPayload<RouteNetlinkMessage>) -> Progress,
    ) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < deadline {
            let (datagram, _) = match self.socket.recv_from_full() {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                let (header, payload) = message.into_parts();
                if header.sequence_number == sequence && each(header.flags, payload) == Progress::Finished {
                    return Ok(());
                }
                let advance = usize::try_from(header.length)
                    .unwrap_or(usize::MAX)
                    .next_multiple_of(4)
                    .max(16);
                rest = rest.get(advance..).unwrap_or_default();
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }
}

#[derive(PartialEq, Eq)]
enum Progress {
    More,
    Finished,
}
