//! One TCP connection: a task that reads, a task that writes.
//!
//! The reader waits when the engine has enough to do: the peer's window closes, and memory is bounded. The writer's queue
//! is bounded too; what the engine puts in is bounded by the speaker's window (see [`tortie_bgp::speaker::SEND_WINDOW`]).
//! A panic in either task is reported as the connection's end.

use std::io::{self, IoSlice};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tortie_bgp::fsm::ConnId;
use tortie_bgp::speaker::Input;

use super::keys::{Keyring, Signed};
use crate::engine::{Engine, Request};

/// Messages that wait for the writer. The smallest UPDATE has 23 octets, and so many of them fill the speaker's window.
const QUEUE: usize = 16 * 1024;

/// Buffers that are written with one system call at most.
const GATHER: usize = 64;

/// After `Close`: how long the last messages may take, and how long we wait for the peer to close too. Without the wait
/// unread input would make the kernel reset the connection and the peer lose our last NOTIFICATION.
const LINGER: Duration = Duration::from_secs(1);

/// What is read at once at most.
const READ: usize = 64 * 1024;

/// Reads that may wait for the engine, of one connection. A peer with a full table could fill the whole queue otherwise,
/// and what it gains is nothing: the engine is busy with less. What peers have taken waits behind them, so with more we would
/// hear faster than we tell, and keep what we could not tell yet.
const READ_AHEAD: usize = 4;

/// What was read. As long as the engine has not let go of it, it counts against [`READ_AHEAD`].
struct Read {
    octets: BytesMut,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Read {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// The engine's end of a connection. Dropping it closes the connection after what was sent.
#[derive(Debug)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Bytes>,
    closing: CancellationToken,
    signed: Option<Signed>,
}

/// The queue is full: the peer takes nothing, and the speaker has overrun its own window.
#[derive(Debug, thiserror::Error)]
#[error("send queue full")]
pub(crate) struct QueueFull;

impl Handle {
    /// Queues bytes.
    ///
    /// # Errors
    /// [`QueueFull`]. When the writer is gone the bytes are dropped: its end is on its way to the engine.
    pub(crate) fn send(&self, bytes: Bytes) -> Result<(), QueueFull> {
        match self.queue.try_send(bytes) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(QueueFull),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

impl Handle {
    /// The same, of a connection whose keys may change.
    pub(crate) fn signed(mut self, signed: Option<Signed>) -> Self {
        self.signed = signed;
        self
    }

    /// Gives the connection the keys that its peer has now.
    ///
    /// # Errors
    /// The system's. It may have too many or too few keys then.
    pub(crate) fn follow(&mut self, keyring: &Keyring) -> io::Result<()> {
        self.signed.as_mut().map_or(Ok(()), |signed| signed.follow(keyring))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Starts both tasks.
pub(crate) fn start(conn: ConnId, stream: TcpStream, engine: &Engine, tasks: &TaskTracker) -> Handle {
    let (queue, messages) = mpsc::channel(QUEUE);
    let closing = CancellationToken::new();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%conn, %error, "cannot turn off delayed sending");
    }
    let (read, write) = stream.into_split();
    let reader = reader(conn, read, engine.clone(), closing.clone());
    let writer = writer(conn, write, messages, engine.clone(), closing.clone());
    tasks.spawn(supervise(conn, engine, reader));
    tasks.spawn(supervise(conn, engine, writer));
    Handle {
        queue,
        closing,
        signed: None,
    }
}

/// Runs a task; whichever way it ends, the engine hears of it (and ignores what it knows).
///
/// Like all here it holds no future twice, as an async block does that is given one: there are two tasks for each peer, and most
/// of what they are is room for what nearly never happens.
fn supervise<F>(conn: ConnId, engine: &Engine, task: F) -> impl Future<Output = ()> + Send + use<F>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let engine = engine.clone();
    AssertUnwindSafe(task).catch_unwind().then(move |ended| {
        let reason = match ended {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                tracing::error!(%conn, "connection task failed");
                "internal error".to_owned()
            }
        };
        Box::pin(async move { engine.request(Request::Input(Input::Closed { conn, reason })).await })
    })
}

async fn reader(conn: ConnId, read: OwnedReadHalf, engine: Engine, closing: CancellationToken) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(READ_AHEAD));
    loop {
        let room = {
            // No buffer while there is nothing to read: most connections have nothing to say most of the time.
            let mut ready = pin!(async {
                let room = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                read.readable().await?;
                Ok::<_, io::Error>(room)
            });
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                ready = &mut ready => ready?,
            }
        };
        let Some(octets) = take(&read)? else { continue };
        if octets.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from_owner(Read { octets, _room: room });
        let mut place = pin!(engine.place());
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            place = &mut place => place.take(Request::Input(Input::Received { conn, bytes })),
        }
    }
    Box::pin(drain(read)).await
}

/// Reads what there is: nothing at the end, `None` when there was nothing after all.
fn take(read: &OwnedReadHalf) -> io::Result<Option<BytesMut>> {
    let mut buffer = BytesMut::with_capacity(READ);
    let count = match read.try_read_buf(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        count => count?,
    };
    // What is short must not hold all of the buffer while it waits for the engine.
    Ok(Some(if count < READ / 4 {
        BytesMut::from(&buffer[..])
    } else {
        buffer
    }))
}

/// Reads on for nobody until the peer closes, or long enough.
async fn drain(mut read: OwnedReadHalf) -> io::Result<()> {
    let mut sink = vec![0; 4096];
    let all = async { while matches!(read.read(&mut sink).await, Ok(1..)) {} };
    // Whether the peer closed in time makes no difference any more.
    let _ = tokio::time::timeout(LINGER, all).await;
    Ok(())
}

async fn writer(
    conn: ConnId,
    mut write: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Bytes>,
    engine: Engine,
    closing: CancellationToken,
) -> io::Result<()> {
    let result = {
        let mut work = pin!(async {
            let mut batch = Batch::default();
            while messages.recv_many(&mut batch.0, GATHER).await > 0 {
                batch.0.reverse();
                while batch.has_remaining() {
                    let bytes = write.write_buf(&mut batch).await?;
                    if bytes == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    engine.place().await.take(Request::Input(Input::Sent { conn, bytes }));
                }
                batch.rest();
            }
            write.shutdown().await
        });
        let mut too_late = pin!(async {
            closing.cancelled().await;
            Box::pin(tokio::time::sleep(LINGER)).await;
        });
        tokio::select! {
            result = &mut work => result,
            () = &mut too_late => Ok(()),
        }
    };
    if result.is_err() {
        // A peer that resets the connection may have said why, and that still has to be read: the reader comes to the end, too.
        let _ = Box::pin(tokio::time::timeout(LINGER, closing.cancelled())).await;
    }
    if result.is_ok() && !closing.is_cancelled() {
        return Err(io::Error::other("writer stopped"));
    }
    result
}

/// Buffers that are written at once, the last one first.
#[derive(Debug, Default)]
struct Batch(Vec<Bytes>);

impl Batch {
    /// Gives back its room after a burst.
    fn rest(&mut self) {
        if self.0.capacity() > 4 {
            self.0 = Vec::new();
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.last().map(Bytes::as_ref).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(self.0.iter().rev());
        filled.map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(bytes) = self.0.last_mut() {
            if bytes.len() > count {
                return bytes.advance(count);
            }
            count -= bytes.len();
            self.0.pop();
        }
        assert_eq!(count, 0, "advanced beyond the end");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Blocking};

    use super::*;

    const CONN: ConnId = ConnId::Incoming(1);

    /// A connection with its tasks, the other end of it, and what the engine is told.
    fn connection() -> (Handle, Blocking, mpsc::Receiver<Request>, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Blocking::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (engine, requests) = Engine::queue();
        let tasks = TaskTracker::new();
        let handle = start(CONN, TcpStream::from_std(ours).unwrap(), &engine, &tasks);
        (handle, peer, requests, tasks)
    }

    /// Each peer has both: what they take is a good part of what an idle session takes.
    #[tokio::test]
    async fn a_connections_tasks_are_small() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = Blocking::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (read, write) = TcpStream::from_std(ours).unwrap().into_split();
        let (engine, _requests) = Engine::queue();
        let (_queue, messages) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let reader = supervise(CONN, &engine, reader(CONN, read, engine.clone(), closing.clone()));
        let writer = supervise(CONN, &engine, writer(CONN, write, messages, engine.clone(), closing));
        let octets = (size_of_val(&reader), size_of_val(&writer));
        assert!(octets.0 <= 1024 && octets.1 <= 1024, "{octets:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_message_arrives_although_input_was_not_read() {
        let (handle, mut peer, _requests, _tasks) = connection();
        // More than anybody takes: the engine's queue is not emptied.
        peer.set_nonblocking(true).unwrap();
        let chunk = [0; 65_536];
        let mut sent = 0;
        while peer.write(&chunk).is_ok_and(|count| count > 0) && sent < 10_000 {
            sent += 1;
        }
        peer.set_nonblocking(false).unwrap();
        handle.send(Bytes::from_static(b"goodbye")).unwrap();
        drop(handle);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"goodbye");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_peer_that_reads_nothing_cannot_hold_us() {
        let (handle, _peer, mut requests, tasks) = connection();
        for _ in 0..512 {
            handle.send(Bytes::from(vec![0; 65_536])).unwrap();
        }
        let take = tokio::spawn(async move { while requests.recv().await.is_some() {} });
        drop(handle);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(10), tasks.wait())
            .await
            .unwrap();
        take.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_queue_is_bounded() {
        let (handle, _peer, _requests, _tasks) = connection();
        // Nobody takes the reports of what was sent, so the writer stops after the engine's queue is full.
        let refused = (0..10 * QUEUE).any(|_| handle.send(Bytes::from(vec![0; 65_536])).is_err());
        assert!(refused);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_peer_says_before_it_resets_the_connection_is_heard() {
        for _ in 0..100 {
            let (handle, mut peer, mut requests, _tasks) = connection();
            let unread = || handle.send(Bytes::from_static(&[0; 1000])).is_ok();
            assert!(unread());
            peer.peek(&mut [0; 1]).unwrap();
            peer.write_all(b"why").unwrap();
            // It has not read all: this resets the connection, and what is written now fails.
            drop(peer);
            unread();
            let mut heard = Vec::new();
            loop {
                match requests.recv().await.unwrap() {
                    Request::Input(Input::Received { bytes, .. }) => heard.extend_from_slice(&bytes),
                    Request::Input(Input::Closed { .. }) => break,
                    _ => _ = unread(),
                }
            }
            assert_eq!(heard, b"why");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn input_and_end_are_reported_in_order() {
        let (_handle, mut peer, mut requests, _tasks) = connection();
        peer.write_all(b"hello").unwrap();
        drop(peer);
        let mut got = Vec::new();
        loop {
            match requests.recv().await.unwrap() {
                Request::Input(Input::Received { conn, bytes }) => {
                    assert_eq!(conn, CONN);
                    got.extend_from_slice(&bytes);
                }
                Request::Input(Input::Closed { conn, reason }) => {
                    assert_eq!((conn, &*reason, &*got), (CONN, "", &b"hello"[..]));
                    return;
                }
                _ => panic!("something else"),
            }
        }
    }
}
