//! The real kernel: a blocking socket of netfilter's.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

use super::wire::{self, Batch, Listing};
use super::{Seen, Table, TableId, Tables};
use crate::request::{ANSWER_WITHIN, DUMP_ATTEMPTS, RequestError};
use crate::route::{Frames, Message, NLM_F_DUMP_INTR, decode, set_buffers};

/// A transaction goes in one datagram: 40,000 addresses fit.
const SEND_BUFFER: usize = 4 * 1024 * 1024;
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
const DATAGRAM: usize = 64 * 1024;
/// Datagrams read for one answer at most.
const DATAGRAMS: usize = 100_000;

/// A netfilter socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What ended a listing.
enum Ended {
    Whole,
    Interrupted,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    ///
    /// # Errors
    /// When the kernel gives none: it has no netfilter.
    pub fn open() -> Result<Self, RequestError> {
        let failed = |e| RequestError::new("open netlink socket", "NETLINK_NETFILTER", e);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        set_buffers(&socket, RECEIVE_BUFFER, SEND_BUFFER).map_err(|e| failed(io::Error::other(e)))?;
        socket.set_cap_ack(true).map_err(failed)?;
        SockRef::from(&socket)
            .set_read_timeout(Some(ANSWER_WITHIN))
            .map_err(failed)?;
        Ok(Nft {
            socket,
            sequence: 0,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Takes sequence numbers for this many messages; gives the first.
    fn numbers(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Reads datagrams and gives their messages (sequence number, flags, kind, body) to `each` until it has enough.
    fn receive<T>(&mut self, mut each: impl FnMut(&Answer<'_>) -> Option<T>) -> io::Result<T> {
        for _ in 0..DATAGRAMS {
            let len = match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(e) => return Err(e),
            };
            for frame in Frames(self.buffer.get(..len).unwrap_or_default()) {
                let answer = Answer {
                    sequence: frame.sequence,
                    flags: frame.flags,
                    kind: frame.kind,
                    body: frame.body,
                    ended: match decode(&frame) {
                        Message::Answer { errno, .. } | Message::Done { errno } => Some(errno),
                        _ => None,
                    },
                };
                if let Some(done) = each(&answer) {
                    return Ok(done);
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn list_once(&mut self, id: TableId, what: Listing<'_>, seen: &mut Seen) -> io::Result<Ended> {
        let sequence = self.numbers(1);
        self.socket.send(&wire::list(id, what, sequence), 0)?;
        let mut interrupted = false;
        let errno = self.receive(|answer| {
            if answer.sequence != sequence {
                return None;
            }
            interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
            if answer.ended.is_none() {
                seen.take(id, answer.kind, answer.body);
            }
            answer.ended
        })?;
        match errno {
            libc::EINTR => Ok(Ended::Interrupted),
            // The set or the table went meanwhile.
            0 | libc::ENOENT if !interrupted => Ok(Ended::Whole),
            0 | libc::ENOENT => Ok(Ended::Interrupted),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Looks at all of a table; `None`: it changed meanwhile.
    fn look(&mut self, id: TableId) -> io::Result<Option<Seen>> {
        let mut seen = Seen::default();
        for what in [Listing::Tables, Listing::Chains, Listing::Sets, Listing::Rules] {
            if matches!(self.list_once(id, what, &mut seen)?, Ended::Interrupted) {
                return Ok(None);
            }
            if !seen.there {
                return Ok(Some(seen));
            }
        }
        for set in seen.set_names() {
            if matches!(
                self.list_once(id, Listing::Elements(&set), &mut seen)?,
                Ended::Interrupted
            ) {
                return Ok(None);
            }
        }
        Ok(Some(seen))
    }

    fn commit(&mut self, batch: Batch) -> io::Result<()> {
        // Numbers of a batch need to differ from those before it only.
        let first = self.numbers(0);
        let (octets, last) = batch.encode(first);
        self.sequence = last.wrapping_add(1);
        self.socket.send(&octets, 0)?;
        let mut refused = None;
        self.receive(|answer| {
            let offset = answer.sequence.wrapping_sub(first);
            let errno = answer.ended.filter(|_| offset <= last.wrapping_sub(first))?;
            if errno != 0 {
                refused.get_or_insert(errno);
            }
            // The first message stands for the whole batch.
            (offset == 0 && errno != 0 || answer.sequence == last).then_some(())
        })?;
        refused.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

/// A message of the kernel's.
struct Answer<'a> {
    sequence: u32,
    flags: u16,
    kind: u16,
    body: &'a [u8],
    /// It ends what was asked, with this error number.
    ended: Option<i32>,
}

impl Tables for Nft {
    fn read(&mut self, id: TableId) -> Result<Option<Seen>, RequestError> {
        let failed = |e| RequestError::new("read", id, e);
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(seen) = self.look(id).map_err(failed)? {
                return Ok(seen.there.then_some(seen));
            }
        }
        Err(failed(io::ErrorKind::Interrupted.into()))
    }

    fn replace(&mut self, id: TableId, table: &Table) -> Result<(), RequestError> {
        let done = self.commit(Batch::replace(id, table));
        done.map_err(|e| RequestError::new("write", id, e))
    }

    fn remove(&mut self, id: TableId) -> Result<(), RequestError> {
        let done = self.commit(Batch::remove(id));
        done.map_err(|e| RequestError::new("remove", id, e))
    }
}
