//! `protocol bmp`: a connection to a monitoring station (RFC 7854), one task for each.
//!
//! ```text
//!  engine ──what happens──▶ ┌ queue, bounded ┐ ──▶ writer ──TCP──▶ station
//!  pages of what there is ▶ └────────────────┘
//! ```
//!
//! The engine puts what happens into the queue and waits for nobody. The task has pages of the tables put in from inside
//! the engine, so that they stand where they were true, and waits for room between two. A station that falls behind by
//! more than `tx buffer limit` is disconnected and begins anew: it costs its queue, and no peer a keepalive.
//!
//! The station says nothing (section 3.2); what it sends is read and thrown away, so that its end is seen.

mod feed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tortie_bgp::bmp::Message;
use tortie_bgp::config::BmpConfig;

pub(crate) use self::feed::Feed;
use self::feed::{Broken, Drain};
use crate::engine::{Clock, Engine, Request, Stopped};

/// Prefixes of one page: some milliseconds of the engine's time.
const PAGE: usize = 1024;
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After a connection that lasted so long the pauses begin anew.
const LASTING: Duration = Duration::from_secs(60);
/// How long the last messages may take.
const LINGER: Duration = Duration::from_secs(1);

/// What the engine hears of a station.
#[derive(Debug)]
pub(crate) enum News {
    /// It is connected. This takes what happens, beginning with the sessions that there are.
    Connected(Feed),
    /// It is not, for this reason.
    Lost(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no connection within {} seconds", PATIENCE.as_secs())]
    TimedOut,
    #[error("the monitoring station closed the connection")]
    Closed,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// One `protocol bmp` that runs.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    pub(crate) protocol: Arc<str>,
    pub(crate) config: BmpConfig,
    /// How the engine knows it: a protocol that was configured anew is another.
    pub(crate) serial: u64,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
}

impl Monitor {
    /// Runs until cancelled, and then says goodbye to the station.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                connected = connect(&self.config) => connected,
            };
            let lost = match connected {
                Ok(stream) => self.session(stream, &stop).await,
                Err(lost) => Some(lost),
            };
            let Some(lost) = lost else { return };
            if begun.elapsed() >= LASTING {
                pause = PAUSE.0;
            }
            let (protocol, station) = (&self.protocol, self.config.station);
            tracing::warn!(%protocol, %station, reason = %lost, ?pause, "no connection to the monitoring station");
            self.tell(News::Lost(lost.to_string())).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (2 * pause).min(PAUSE.1);
        }
    }

    async fn tell(&self, news: News) {
        let serial = self.serial;
        self.engine.request(Request::Station { serial, news }).await;
    }

    /// Talks to a station that is connected. None when told to stop.
    async fn session(&self, stream: TcpStream, stop: &CancellationToken) -> Option<Lost> {
        let (read, write) = stream.into_split();
        let boot = u64::try_from(self.clock.unix_ms(Duration::ZERO)).unwrap_or_default();
        let (feed, drain) = feed::queue(&self.config, Duration::from_millis(boot));
        let written = Drain::write(drain, write);
        tokio::pin!(written);
        let lost = tokio::select! {
            () = stop.cancelled() => None,
            () = feed.broken() => Some(Lost::Broken(Broken)),
            written = &mut written => Some(written.err().map_or(Lost::Closed, Lost::Io)),
            lost = closed(read) => Some(lost),
            lost = self.fill(&feed) => Some(lost),
        };
        if lost.is_none() {
            // A queue that is broken is not read either.
            let _ = feed.push(&[Message::Termination]);
            drop(feed);
            // Whether the station reads it in time makes no difference any more.
            let _ = tokio::time::timeout(LINGER, written).await;
        }
        lost
    }

    /// Puts everything into the queue that does not happen by itself. Ends when it cannot.
    async fn fill(&self, feed: &Feed) -> Lost {
        match self.try_fill(feed).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn try_fill(&self, feed: &Feed) -> Result<std::convert::Infallible, Lost> {
        feed.push(&[self.initiation().await])?;
        self.tell(News::Connected(feed.clone())).await;
        let (protocol, station) = (&self.protocol, self.config.station);
        tracing::info!(%protocol, %station, "monitoring station connected");
        let name = self.protocol.clone();
        let begun = self.engine.query(move |speaker| speaker.monitor(&name)).await?;
        // None: the protocol is about to be stopped.
        let mut cursor = begun.ok_or(Stopped)?;
        loop {
            feed.room().await;
            let queue = feed.clone();
            let (pushed, more);
            (pushed, more, cursor) = self
                .engine
                .query(move |speaker| {
                    let page = speaker.monitor_page(&mut cursor, PAGE);
                    (queue.push(&page.messages), page.more, cursor)
                })
                .await?;
            pushed?;
            if !more {
                break;
            }
        }
        tracing::info!(%protocol, %station, "the monitoring station has the initial tables");
        self.report(feed).await
    }

    /// Reports statistics, or nothing, until the queue is broken.
    async fn report(&self, feed: &Feed) -> Result<std::convert::Infallible, Lost> {
        let period = self.config.statistics_period;
        if period.is_zero() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let (queue, clock) = (feed.clone(), self.clock);
            self.engine
                .query(move |speaker| queue.push(&speaker.monitor_statistics(clock.now())))
                .await??;
        }
    }

    async fn initiation(&self) -> Message {
        let name = match &self.config.system_name {
            Some(name) => name.clone(),
            // Who we are is not worth failing for.
            None => tokio::fs::read_to_string("/proc/sys/kernel/hostname")
                .await
                .map(|name| name.trim_end().to_owned())
                .unwrap_or_default(),
        };
        let own = || format!("bird-rs {}", env!("CARGO_PKG_VERSION"));
        Message::Initiation {
            description: self.config.system_description.clone().unwrap_or_else(own),
            name,
        }
    }
}

async fn connect(config: &BmpConfig) -> Result<TcpStream, Lost> {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(config.station)).await;
    let stream = connected.map_err(|_| Lost::TimedOut)??;
    stream.set_nodelay(true)?;
    // There may be nothing to say for long: that the station is gone is then found out by this.
    socket2::SockRef::from(&stream).set_keepalive(true)?;
    Ok(stream)
}

/// Reads for nobody until the station closes.
async fn closed(mut read: tokio::net::tcp::OwnedReadHalf) -> Lost {
    let mut sink = [0; 1024];
    loop {
        match read.read(&mut sink).await {
            Ok(0) => return Lost::Closed,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}
