//! What goes into a session with a cache, what comes out, and how it is.

use std::sync::Arc;
use std::time::Duration;

use super::pdu::Intervals;
use crate::roa::RoaSet;

/// One of the intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// How long, in whole seconds.
    pub time: Duration,
    /// Whatever the cache says.
    pub keep: bool,
}

/// The intervals as they are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Between an answer and the next question. 1 s to a day.
    pub refresh: Interval,
    /// The longest between a failure and the next attempt. 1 s to two hours.
    pub retry: Interval,
    /// How long an answer holds. 600 s to two days.
    pub expire: Interval,
}

impl Default for Timers {
    fn default() -> Self {
        let seconds = |seconds| Interval {
            time: Duration::from_secs(seconds),
            keep: false,
        };
        Timers {
            refresh: seconds(3600),
            retry: seconds(600),
            expire: seconds(7200),
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A deadline was reached.
    Tick,
    /// The connection asked for stands.
    Connected,
    /// The next octets of the stream, cut anywhere.
    Received(&'a [u8]),
    /// The connection could not be made, or was closed by the cache or the system, for this reason.
    Closed(String),
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to the cache. Answered by `Connected` or `Closed`, unless `Close` comes first.
    Connect,
    /// Write these octets.
    Send(Vec<u8>),
    /// Close the connection after what was given to `Send` before, or give up connecting. Not answered.
    Close,
    /// These are the payloads now.
    Roas(Arc<RoaSet>),
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No connection until the pause is over.
    Waiting,
    /// A connection is being made.
    Connecting,
    /// The cache was asked.
    Asked,
    /// The cache is answering.
    Loading,
    /// The cache has answered.
    Idle,
    /// The cache has nothing yet.
    NoData,
}

impl State {
    /// In BIRD's words.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "Transport-Error",
            State::Connecting => "Connecting",
            State::Asked => "Sync-Start",
            State::Loading => "Sync-Running",
            State::Idle => "Established",
            State::NoData => "Cache-Error-No-Data-Available",
        }
    }
}

/// A session as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheStatus {
    /// Where it is.
    pub state: State,
    /// The version agreed on, or to be tried.
    pub version: u8,
    /// The cache's session and serial number, once it said any.
    pub known: Option<(u16, u32)>,
    /// Payloads that hold.
    pub payloads: usize,
    /// When the cache last answered.
    pub updated: Option<Duration>,
    /// When it is asked next, if it is connected and idle.
    pub refresh_at: Option<Duration>,
    /// When the next attempt is made, if the last one failed.
    pub retry_at: Option<Duration>,
    /// When the payloads cease to hold.
    pub expire_at: Option<Duration>,
    /// The intervals that are in force.
    pub intervals: Intervals,
    /// What went wrong last, until all is well again.
    pub problem: Option<String>,
}
