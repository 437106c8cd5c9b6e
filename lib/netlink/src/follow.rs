//! A thread that reads a socket's notifications and hands on what they say, until whoever listens is gone.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use netlink_sys::Socket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use crate::route::{KernelError, socket_error};

const DATAGRAM: usize = 64 * 1024;
/// Hints that wait for the reader.
const QUEUE: usize = 16;
/// Datagrams read before what they say is told.
const BURST: usize = 256;

/// What is told of a burst of datagrams: `T` begins as its default and takes each; an unchanged one is not told.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    told: mpsc::Receiver<io::Result<T>>,
    /// Closing it wakes the thread.
    _stop: UnixStream,
}

/// What the thread needs.
struct Reader<T, F> {
    socket: Socket,
    stopped: UnixStream,
    told: mpsc::Sender<io::Result<T>>,
    take: F,
    buffer: Vec<u8>,
}

impl<T: Default + PartialEq + Send + 'static> Follower<T> {
    /// Follows a socket that has joined its groups. `take` adds to `T` what a datagram says; `None`: some were lost.
    pub(crate) fn start(
        socket: Socket,
        name: &str,
        take: impl FnMut(&mut T, Option<&[u8]>) + Send + 'static,
    ) -> Result<Self, KernelError> {
        socket
            .set_non_blocking(true)
            .map_err(socket_error("set a monitor non-blocking"))?;
        let (stop, stopped) = UnixStream::pair().map_err(socket_error("make a pair of sockets"))?;
        let (sender, told) = mpsc::channel(QUEUE);
        let reader = Reader {
            socket,
            stopped,
            told: sender,
            take,
            buffer: vec![0; DATAGRAM],
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || reader.run())
            .map_err(socket_error("start a monitor's thread"))?;
        Ok(Follower { told, _stop: stop })
    }

    /// What was told since the last call; waits until something is. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<T> {
        let ended = || Err(io::ErrorKind::BrokenPipe.into());
        self.told.recv().await.unwrap_or_else(ended)
    }
}

impl<T: Default + PartialEq, F: FnMut(&mut T, Option<&[u8]>)> Reader<T, F> {
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
            let nothing = matches!(&told, Ok(t) if *t == T::default());
            if !nothing && self.told.blocking_send(told).is_err() || failed {
                return;
            }
        }
    }

    /// What can be read without waiting, up to a bound.
    fn read(&mut self) -> io::Result<T> {
        let mut told = T::default();
        for _ in 0..BURST {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(len) => (self.take)(&mut told, Some(self.buffer.get(..len).unwrap_or_default())),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => (self.take)(&mut told, None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(told)
    }
}
