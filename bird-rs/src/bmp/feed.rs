//! The queue of messages to one monitoring station: bounded in octets, and never waited for by the engine.
//!
//! Everything goes through it in the order in which it was true: what happens, and the pages of what there is. Whoever
//! puts in pages waits for room first ([`Feed::room`]); what happens does not wait, and a queue that cannot take it is
//! broken from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tortie_bgp::bmp::Message;
use tortie_bgp::config::BmpConfig;

/// No station is told anything in fewer octets than this at a time: a per-peer header.
const SMALLEST: usize = 48;

/// The station did not read, and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the monitoring station does not read fast enough")]
pub(crate) struct Broken;

#[derive(Debug)]
struct Shared {
    limit: usize,
    queued: AtomicUsize,
    /// Half of the queue is free again.
    room: Notify,
    broken: CancellationToken,
}

/// The end that is filled. The engine has one, and the station's task.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Bytes>,
    pre_policy: bool,
    post_policy: bool,
    /// Time since 1970 at which the process started.
    boot: Duration,
}

/// The end that is written to the station.
#[derive(Debug)]
pub(crate) struct Drain {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Bytes>,
}

/// A queue for a station.
pub(crate) fn queue(config: &BmpConfig, boot: Duration) -> (Feed, Drain) {
    let limit = config.limit_octets();
    let shared = Arc::new(Shared {
        limit,
        queued: AtomicUsize::new(0),
        room: Notify::new(),
        broken: CancellationToken::new(),
    });
    let (sender, receiver) = mpsc::channel((limit / SMALLEST).max(1));
    let feed = Feed {
        shared: shared.clone(),
        queue: sender,
        pre_policy: config.pre_policy,
        post_policy: config.post_policy,
        boot,
    };
    let queue = receiver;
    (feed, Drain { shared, queue })
}

impl Feed {
    /// Queues those of the messages that the station monitors.
    ///
    /// # Errors
    /// [`Broken`]: they do not fit, and nothing will be taken any more.
    pub(crate) fn push(&self, messages: &[Message]) -> Result<(), Broken> {
        if self.shared.broken.is_cancelled() {
            return Err(Broken);
        }
        let mut octets = Vec::new();
        let wanted = messages.iter().filter(|m| m.is_for(self.pre_policy, self.post_policy));
        wanted.for_each(|message| message.encode(self.boot, &mut octets));
        if octets.is_empty() {
            return Ok(());
        }
        // What is counted is all that is held.
        let octets = Bytes::from(octets.into_boxed_slice());
        let count = octets.len();
        let before = self.shared.queued.fetch_add(count, Ordering::Relaxed);
        let fits = before.saturating_add(count) <= self.shared.limit;
        // A receiver that is gone has ended by itself, and its task says so.
        if fits && !matches!(self.queue.try_send(octets), Err(mpsc::error::TrySendError::Full(_))) {
            return Ok(());
        }
        self.shut();
        Err(Broken)
    }

    /// Waits until half of the queue is free.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            if self.shared.queued.load(Ordering::Relaxed) <= self.shared.limit / 2 {
                return;
            }
            room.await;
        }
    }

    /// Breaks the queue: something is missing in it.
    pub(crate) fn shut(&self) {
        self.shared.broken.cancel();
    }

    /// Waits until the queue is broken.
    pub(crate) async fn broken(&self) {
        self.shared.broken.cancelled().await;
    }
}

impl Drain {
    /// Writes until nobody fills the queue any more, and closes.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn write(mut self, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        while let Some(octets) = self.queue.recv().await {
            to.write_all(&octets).await?;
            let before = self.shared.queued.fetch_sub(octets.len(), Ordering::Relaxed);
            if before.saturating_sub(octets.len()) <= self.shared.limit / 2 {
                self.shared.room.notify_one();
            }
        }
        to.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tortie_bgp::bmp::{Peer, Policy};
    use tortie_net::{Asn, RouterId};

    use super::*;

    fn config() -> BmpConfig {
        BmpConfig {
            station: ([127, 0, 0, 1], 1).into(),
            pre_policy: true,
            post_policy: false,
            tx_buffer_limit: 1,
            statistics_period: Duration::ZERO,
            system_name: None,
            system_description: None,
        }
    }

    fn route(policy: Policy, octets: usize) -> Message {
        let peer = Peer {
            address: [10, 0, 0, 1].into(),
            asn: Asn(1),
            router_id: RouterId(1),
        };
        Message::Route {
            peer,
            at: Duration::ZERO,
            policy,
            update: vec![0; octets].into(),
        }
    }

    #[tokio::test]
    async fn a_queue_that_is_full_is_broken_for_good() {
        let (feed, drain) = queue(&config(), Duration::ZERO);
        let message = route(Policy::Pre, 100_000);
        for _ in 0..10 {
            feed.push(std::slice::from_ref(&message)).unwrap();
        }
        feed.push(&[route(Policy::Post, 100_000)]).unwrap();
        assert_eq!(feed.push(&[message]), Err(Broken));
        feed.broken().await;
        drop(drain);
        assert_eq!(feed.push(&[Message::Termination]), Err(Broken));
    }

    #[tokio::test]
    async fn there_is_room_when_the_station_has_read() {
        let (feed, drain) = queue(&config(), Duration::ZERO);
        let message = route(Policy::Pre, 100_000);
        for _ in 0..8 {
            feed.push(std::slice::from_ref(&message)).unwrap();
        }
        let (ours, mut station) = tokio::io::duplex(4096);
        let writer = tokio::spawn(drain.write(ours));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), feed.room())
                .await
                .is_err(),
            "nothing was read"
        );
        let mut read = vec![0; 400_000];
        station.read_exact(&mut read).await.unwrap();
        feed.room().await;
        drop(feed);
        let mut rest = Vec::new();
        station.read_to_end(&mut rest).await.unwrap();
        assert_eq!(read.len() + rest.len(), 8 * 100_048);
        writer.await.unwrap().unwrap();
    }
}
