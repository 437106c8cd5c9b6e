//! One TCP connection: a task that reads, a task that writes.
//!
//! The reader waits when the engine has enough to do: the peer's window closes, and memory is bounded. The writer's queue
//! is bounded too; what the engine puts in is bounded by the speaker's window (see [`tortie_bgp::speaker::SEND_WINDOW`]).
//! A panic in either task is reported as the connection's end.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tortie_bgp::fsm::ConnId;
use tortie_bgp::speaker::Input;

use crate::engine::{Engine, Request};

/// Messages that wait for the writer. The smallest UPDATE has 23 octets, and so many of them fill the speaker's window.
const QUEUE: usize = 16 * 1024;

/// After `Close`: how long the last messages may take, and how long we wait for the peer to close too. Without the wait
/// unread input would make the kernel reset the connection and the peer lose our last NOTIFICATION.
const LINGER: Duration = Duration::from_secs(1);

/// What is read at once at most.
const READ: usize = 64 * 1024;

/// The engine's end of a connection. Dropping it closes the connection after what was sent.
#[derive(Debug)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Bytes>,
    closing: CancellationToken,
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
    supervise(conn, engine, tasks, reader);
    supervise(conn, engine, tasks, writer);
    Handle { queue, closing }
}

/// Runs a task; whichever way it ends, the engine hears of it (and ignores what it knows).
fn supervise<F>(conn: ConnId, engine: &Engine, tasks: &TaskTracker, task: F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let engine = engine.clone();
    tasks.spawn(async move {
        let reason = match tokio::spawn(task).await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => {
                tracing::error!(%conn, %error, "connection task failed");
                "internal error".to_owned()
            }
        };
        engine.request(Request::Input(Input::Closed { conn, reason })).await;
    });
}

async fn reader(conn: ConnId, mut read: OwnedReadHalf, engine: Engine, closing: CancellationToken) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let count = tokio::select! {
            biased;
            () = closing.cancelled() => return drain(read).await,
            count = read.read_buf(&mut buffer) => count?,
        };
        if count == 0 {
            return Ok(());
        }
        let bytes = buffer.split().freeze();
        let received = engine.request(Request::Input(Input::Received { conn, bytes }));
        tokio::select! {
            biased;
            () = closing.cancelled() => return drain(read).await,
            () = received => {}
        }
    }
}

/// Reads on for nobody until the peer closes, or long enough.
async fn drain(mut read: OwnedReadHalf) -> io::Result<()> {
    let mut sink = [0; 4096];
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
    let work = async {
        while let Some(bytes) = messages.recv().await {
            write.write_all(&bytes).await?;
            engine
                .request(Request::Input(Input::Sent {
                    conn,
                    bytes: bytes.len(),
                }))
                .await;
        }
        write.shutdown().await
    };
    let too_late = async {
        closing.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let result = tokio::select! {
        result = work => result,
        () = too_late => Ok(()),
    };
    if result.is_ok() && !closing.is_cancelled() {
        return Err(io::Error::other("writer stopped"));
    }
    result
}
