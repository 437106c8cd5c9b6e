//! A session with one cache (RFC 8210 section 8), without IO and under the caller's clock.
//!
//! Fail static: what a cache said holds until it says something else, or until the expire interval is over without an
//! answer. A lost connection, a cache that restarts, and one that has no data change nothing before that. What is said between
//! Cache Response and End of Data counts as a whole or not at all.
//!
//! Versions: the first query is of version 1. A cache that answers in version 0, or says that it does not know version 1, is
//! spoken to in version 0 for that connection.

use std::sync::Arc;
use std::time::Duration;

use super::pdu::{self, BadPdu, Decoded, ErrorCode, Intervals, Pdu, VERSION};
use super::state::{Action, CacheStatus, Event, Interval, State, Timers};
use crate::roa::{BadUpdate, Roa, RoaSet, RoaUpdate};

/// The first pause after a failure; it doubles with each, up to the retry interval.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Connecting may take this long.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// A cache that was asked and says nothing for so long is given up.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// More changes than this in one answer are no cache's: some ten times of all there are.
const MAX_CHANGES: usize = 8_000_000;

/// A session with a cache.
#[derive(Debug)]
pub struct Session {
    timers: Timers,
    ignore_max_length: bool,
    intervals: Intervals,
    state: State,
    /// When the state ends by itself.
    due: Duration,
    /// The version of this connection, and whether the cache agreed.
    version: u8,
    agreed: bool,
    /// The version that the next connection begins with.
    next_version: u8,
    /// What was read of the next PDU.
    buffer: Vec<u8>,
    /// Is it asked for changes only?
    incremental: bool,
    /// What the answer says so far, and of which session.
    update: RoaUpdate,
    answering: u16,
    /// The serial number that a notify told of while the cache was busy.
    notified: Option<(u16, u32)>,
    known: Option<(u16, u32)>,
    roas: Arc<RoaSet>,
    updated: Option<Duration>,
    failures: u32,
    problem: Option<String>,
}

/// The connection cannot go on.
struct Fatal {
    /// To be sent before closing; never in answer to an error report.
    report: Option<Vec<u8>>,
    problem: String,
}

impl Session {
    /// A session that begins at once: with the first `Tick`. With `ignore_max_length` payloads allow parts of their prefixes
    /// however long.
    pub fn new(now: Duration, timers: Timers, ignore_max_length: bool) -> Self {
        Session {
            timers,
            ignore_max_length,
            intervals: effective(&timers, None),
            state: State::Waiting,
            due: now,
            version: VERSION,
            agreed: false,
            next_version: VERSION,
            buffer: Vec::new(),
            incremental: false,
            update: RoaUpdate::default(),
            answering: 0,
            notified: None,
            known: None,
            roas: Arc::default(),
            updated: None,
            failures: 0,
            problem: None,
        }
    }

    /// Other intervals. What the cache said of those that are not kept is forgotten until it says it again.
    pub fn set_timers(&mut self, timers: Timers) {
        self.timers = timers;
        self.intervals = effective(&timers, None);
        if let (State::Idle, Some(updated)) = (self.state, self.updated) {
            self.due = updated + self.intervals.refresh;
        }
    }

    /// How it is.
    pub fn status(&self) -> CacheStatus {
        CacheStatus {
            state: self.state,
            version: self.version,
            known: self.known,
            payloads: self.roas.len(),
            updated: self.updated,
            refresh_at: (self.state == State::Idle).then_some(self.due),
            retry_at: matches!(self.state, State::Waiting | State::NoData).then_some(self.due),
            expire_at: self.expires(),
            intervals: self.intervals,
            problem: self.problem.clone(),
        }
    }

    /// When to call with [`Event::Tick`] if nothing happens before.
    pub fn next_deadline(&self) -> Duration {
        self.expires().map_or(self.due, |expires| expires.min(self.due))
    }

    fn expires(&self) -> Option<Duration> {
        self.updated.map(|updated| updated + self.intervals.expire)
    }

    /// Takes an event and appends what is to be done.
    pub fn handle(&mut self, now: Duration, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Tick => self.tick(now, out),
            Event::Connected if self.state == State::Connecting => {
                self.version = self.next_version;
                self.next_version = VERSION;
                self.agreed = false;
                self.buffer.clear();
                self.notified = None;
                self.ask(now, out);
            }
            Event::Received(octets) if self.is_connected() => {
                if let Err(fatal) = self.received(now, octets, out) {
                    out.extend(fatal.report.map(Action::Send));
                    out.push(Action::Close);
                    self.failed(now, fatal.problem);
                }
            }
            Event::Closed(reason) if self.state == State::Connecting || self.is_connected() => {
                let reason = if reason.is_empty() {
                    "the cache closed the connection".to_owned()
                } else {
                    reason
                };
                self.failed(now, reason);
            }
            // Of a connection that is given up.
            Event::Connected | Event::Received(_) | Event::Closed(_) => {}
        }
    }

    fn is_connected(&self) -> bool {
        match self.state {
            State::Asked | State::Loading | State::Idle | State::NoData => true,
            State::Waiting | State::Connecting => false,
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.expires().is_some_and(|expires| expires <= now) {
            (self.known, self.updated) = (None, None);
            if !self.roas.is_empty() {
                self.roas = Arc::default();
                out.push(Action::Roas(self.roas.clone()));
            }
        }
        if self.due > now {
            return;
        }
        match self.state {
            State::Waiting => {
                self.state = State::Connecting;
                self.due = now + CONNECT_TIME;
                out.push(Action::Connect);
            }
            State::Connecting => {
                out.push(Action::Close);
                self.failed(now, "connecting took too long".to_owned());
            }
            State::Asked | State::Loading => {
                out.push(Action::Close);
                self.failed(now, "the cache does not answer".to_owned());
            }
            State::Idle | State::NoData => self.ask(now, out),
        }
    }

    /// Asks for what has changed, or for everything.
    fn ask(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.incremental = self.known.is_some();
        let query = match self.known {
            Some((session, serial)) => Pdu::SerialQuery { session, serial },
            None => Pdu::ResetQuery,
        };
        self.state = State::Asked;
        self.due = now + ANSWER_TIME;
        out.push(Action::Send(query.encode(self.version)));
    }

    /// The connection is gone.
    fn failed(&mut self, now: Duration, problem: String) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting;
        self.due = now + pause.min(self.intervals.retry);
        self.problem = Some(problem);
        self.update = RoaUpdate::default();
        self.buffer = Vec::new();
        if self.next_version < self.version {
            // It was no failure: the cache only wants to be spoken to otherwise.
            self.due = now;
        }
    }

    fn received(&mut self, now: Duration, octets: &[u8], out: &mut Vec<Action>) -> Result<(), Fatal> {
        if matches!(self.state, State::Asked | State::Loading) {
            self.due = now + ANSWER_TIME;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(octets);
        let mut rest = buffer.as_slice();
        while let Some(Decoded { version, pdu, length }) = pdu::decode(rest).map_err(|bad| self.corrupt(&bad))? {
            self.check_version(version, &pdu)?;
            self.pdu(now, (version, pdu), out)?;
            rest = rest.get(length..).unwrap_or_default();
        }
        let taken = buffer.len() - rest.len();
        buffer.drain(..taken);
        self.buffer = buffer;
        Ok(())
    }

    fn corrupt(&self, bad: &BadPdu) -> Fatal {
        const ERROR_REPORT: u8 = 10;
        let answer = bad.quoted.get(1) != Some(&ERROR_REPORT);
        Fatal {
            report: answer.then(|| bad.report(self.version)),
            problem: format!("the cache sent {bad}"),
        }
    }

    fn wrong(&self, code: ErrorCode, text: impl Into<String>) -> Fatal {
        let text = text.into();
        let problem = format!("{}: {text}", code.as_str());
        Fatal {
            report: Some(Pdu::ErrorReport { code, text }.encode(self.version)),
            problem,
        }
    }

    /// RFC 8210 section 7: the first answer decides on the version.
    fn check_version(&mut self, version: u8, pdu: &Pdu) -> Result<(), Fatal> {
        match pdu {
            // A notify before that, and an error report at any time, may have the cache's own version.
            Pdu::ErrorReport { .. } => Ok(()),
            Pdu::SerialNotify { .. } if !self.agreed => Ok(()),
            _ if version == self.version => {
                self.agreed = true;
                Ok(())
            }
            _ if !self.agreed && version < self.version => {
                (self.version, self.agreed) = (version, true);
                Ok(())
            }
            _ => Err(self.wrong(
                ErrorCode::UnexpectedVersion,
                format!("version {version} instead of {}", self.version),
            )),
        }
    }

    fn pdu(&mut self, now: Duration, (version, pdu): (u8, Pdu), out: &mut Vec<Action>) -> Result<(), Fatal> {
        match (pdu, self.state) {
            (Pdu::SerialNotify { session, serial }, state) => {
                if self.agreed && state == State::Idle && self.known != Some((session, serial)) {
                    self.known = self.known.filter(|(known, _)| *known == session);
                    self.ask(now, out);
                } else {
                    self.notified = Some((session, serial));
                }
            }
            (Pdu::CacheResponse { session }, State::Asked) => {
                if self.incremental && self.known.is_some_and(|(known, _)| known != session) {
                    // What we know is of another session. It holds until there is something else.
                    self.known = None;
                    return Err(self.wrong(ErrorCode::CorruptData, "an answer of another session"));
                }
                self.answering = session;
                self.update = RoaUpdate::default();
                self.state = State::Loading;
            }
            (Pdu::Prefix { announced, roa }, State::Loading) => {
                self.update.push(roa, announced);
                if self.update.len() > MAX_CHANGES {
                    return Err(self.wrong(ErrorCode::InternalError, "more payloads than we take"));
                }
            }
            (Pdu::RouterKey, State::Loading) => {}
            (
                Pdu::EndOfData {
                    session,
                    serial,
                    intervals,
                },
                State::Loading,
            ) if session == self.answering => self.complete(now, (session, serial), intervals, out)?,
            (Pdu::CacheReset, State::Asked) if self.incremental => {
                self.known = None;
                self.ask(now, out);
            }
            (Pdu::ErrorReport { code, text }, _) => return self.reported(now, version, code, &text),
            (Pdu::SerialQuery { .. } | Pdu::ResetQuery, _) => {
                return Err(self.wrong(ErrorCode::InvalidRequest, "a router is asked"));
            }
            (
                Pdu::CacheResponse { .. }
                | Pdu::Prefix { .. }
                | Pdu::RouterKey
                | Pdu::EndOfData { .. }
                | Pdu::CacheReset,
                _,
            ) => return Err(self.wrong(ErrorCode::CorruptData, "a PDU that answers nothing")),
        }
        Ok(())
    }

    /// An answer is complete.
    fn complete(
        &mut self,
        now: Duration,
        known: (u16, u32),
        intervals: Option<Intervals>,
        out: &mut Vec<Action>,
    ) -> Result<(), Fatal> {
        let update = std::mem::take(&mut self.update);
        let nothing = self.incremental && update.is_empty();
        if !nothing {
            let before = if self.incremental {
                &*self.roas
            } else {
                &RoaSet::default()
            };
            let new = before.updated(update).map_err(|bad| {
                let (code, roa) = match bad {
                    BadUpdate::Duplicate(roa) => (ErrorCode::DuplicateAnnouncement, roa),
                    BadUpdate::Unknown(roa) => (ErrorCode::UnknownWithdrawal, roa),
                };
                self.wrong(code, roa.as_ref().map(Roa::to_string).unwrap_or_default())
            });
            let new = match new {
                Ok(new) => new,
                Err(fatal) => {
                    // What we have is not what the cache thinks we have: next time everything is wanted.
                    self.known = None;
                    return Err(fatal);
                }
            };
            if new != *self.roas {
                self.roas = Arc::new(new);
                out.push(Action::Roas(self.told()));
            }
        }
        self.intervals = effective(&self.timers, intervals);
        self.known = Some(known);
        self.updated = Some(now);
        (self.failures, self.problem) = (0, None);
        self.state = State::Idle;
        self.due = now + self.intervals.refresh;
        // What came to be known while the answer was made up.
        let news = self
            .notified
            .take()
            .filter(|(session, serial)| *session == known.0 && is_newer(*serial, known.1));
        if news.is_some() {
            self.ask(now, out);
        }
        Ok(())
    }

    /// The payloads as they are used.
    fn told(&self) -> Arc<RoaSet> {
        if !self.ignore_max_length {
            return self.roas.clone();
        }
        // What the cache said is kept as it is: of two payloads that differ in nothing else one may go.
        let all = [true, false].into_iter().flat_map(|is_v4| self.roas.after(is_v4, None));
        Arc::new(all.map(Roa::of_any_length).collect())
    }

    /// The cache says that something is wrong. It is not answered (section 5.11).
    fn reported(&mut self, now: Duration, version: u8, code: ErrorCode, text: &str) -> Result<(), Fatal> {
        let problem = match text {
            "" => format!("the cache says: {}", code.as_str()),
            text => format!("the cache says: {}: {text}", code.as_str()),
        };
        match code {
            ErrorCode::NoData if matches!(self.state, State::Asked) => {
                self.state = State::NoData;
                self.due = now + self.intervals.retry;
                self.problem = Some(problem);
                return Ok(());
            }
            ErrorCode::UnsupportedVersion if self.version > 0 && !self.agreed => {
                self.next_version = version.min(self.version - 1);
            }
            // Whatever it did not like, a question about what it said before may be it: next time everything is wanted.
            _ => self.known = None,
        }
        Err(Fatal { report: None, problem })
    }
}

/// Serial number arithmetic (RFC 1982).
fn is_newer(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// The intervals in force, within RFC 8210's bounds.
fn effective(timers: &Timers, said: Option<Intervals>) -> Intervals {
    let bounded = |interval: Interval, said: Option<Duration>, low: u64, high: u64| {
        let time = said.filter(|_| !interval.keep).unwrap_or(interval.time);
        time.clamp(Duration::from_secs(low), Duration::from_secs(high))
    };
    Intervals {
        refresh: bounded(timers.refresh, said.map(|i| i.refresh), 1, 86_400),
        retry: bounded(timers.retry, said.map(|i| i.retry), 1, 7_200),
        expire: bounded(timers.expire, said.map(|i| i.expire), 600, 172_800),
    }
}
