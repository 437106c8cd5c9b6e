//! One session: RFC 5880 section 6.8.
//!
//! Invariants: while it is not up it sends at most once a second ([`SLOW`]); changed timers are taken into use only when
//! the peer has confirmed them, where taking them at once could make one side give the other up (section 6.8.3).

use std::num::NonZeroU32;
use std::time::Duration;

use crate::packet::{Diagnostic, Packet, State};

/// A session that is not up sends no more often (RFC 5880 section 6.8.3).
pub const SLOW: Duration = Duration::from_secs(1);

/// Between packets out of turn. Without it a wire that repeats and delays packets lets two sides answer each other's old
/// news with ever more new ones.
const NEWS_GAP: Duration = Duration::from_millis(50);

/// What a session is configured to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// We send no more often while up. More than zero.
    pub min_tx: Duration,
    /// We want to be sent to no more often.
    pub min_rx: Duration,
    /// We send no more often while not up; [`SLOW`] when it is less.
    pub idle_tx: Duration,
    /// Packets of ours the peer may miss; not zero.
    pub detect_mult: u8,
    /// Says nothing before the peer does.
    pub passive: bool,
}

/// Why a session's state is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The handshake went on.
    Handshake,
    /// Nothing was heard for the detection time.
    Expired,
    /// The peer says that it does not hear us, or began anew.
    RemoteDown,
    /// The peer's operator took it down: that says nothing about the path (RFC 5882 section 3.2).
    RemoteAdminDown,
    /// It is not wanted any more.
    Unwanted,
}

impl Cause {
    /// For logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Handshake => "handshake",
            Cause::Expired => "detection time expired",
            Cause::RemoteDown => "neighbor is down",
            Cause::RemoteAdminDown => "neighbor is administratively down",
            Cause::Unwanted => "not wanted any more",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send this now.
    Send(Packet),
    /// The state changed.
    Changed {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Why.
        cause: Cause,
    },
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    params: Params,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    /// What the last packet that was not discarded said; nothing once the detection time is over.
    remote: Option<Remote>,
    /// The peer has not yet confirmed our timers.
    polling: bool,
    /// They changed again meanwhile: the answer on its way is about the old ones.
    poll_again: bool,
    /// Of our timers, those in use until the peer has confirmed the new ones.
    tx_in_use: Duration,
    rx_in_use: Duration,
    /// The next periodic packet, and the interval it was reckoned with.
    send_at: Duration,
    paced: Duration,
    sent_at: Option<Duration>,
    jitter: u64,
}

/// What the peer said last.
#[derive(Debug, Clone, Copy)]
struct Remote {
    packet: Packet,
    /// When.
    at: Duration,
}

impl Session {
    /// A session that begins now. `discriminator` is unique among this router's sessions.
    pub fn new(now: Duration, discriminator: NonZeroU32, params: Params) -> Self {
        Session {
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: None,
            polling: false,
            poll_again: false,
            tx_in_use: params.idle_tx.max(SLOW),
            rx_in_use: params.min_rx,
            send_at: now,
            paced: params.idle_tx.max(SLOW),
            sent_at: None,
            jitter: u64::from(discriminator.get()),
            params,
        }
    }

    /// Our name for it.
    pub fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it left Up last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the peer said last, while it is heard.
    pub fn remote(&self) -> Option<&Packet> {
        self.remote.as_ref().map(|remote| &remote.packet)
    }

    /// Between our packets, before jitter; `None` when the peer wants none.
    pub fn interval(&self) -> Option<Duration> {
        let Some(remote) = &self.remote else {
            return Some(self.tx_in_use);
        };
        let wanted = remote.packet.required_min_rx;
        (!wanted.is_zero()).then(|| self.tx_in_use.max(wanted))
    }

    /// Without a packet for so long the peer is lost; `None` while it is not heard anyway.
    pub fn detection_time(&self) -> Option<Duration> {
        let packet = &self.remote.as_ref()?.packet;
        Some(self.rx_in_use.max(packet.desired_min_tx) * u32::from(packet.detect_mult))
    }

    /// When to call [`Session::tick`].
    pub fn next_deadline(&self) -> Option<Duration> {
        let send = self.is_sending().then_some(self.send_at);
        send.into_iter().chain(self.expires_at()).min()
    }

    fn expires_at(&self) -> Option<Duration> {
        Some(self.remote.as_ref()?.at + self.detection_time()?)
    }

    /// Are periodic packets due (RFC 5880 section 6.8.7)?
    fn is_sending(&self) -> bool {
        let Some(remote) = &self.remote else {
            return !self.params.passive;
        };
        let both_up = self.state == State::Up && remote.packet.state == State::Up;
        let quiet = remote.packet.demand && both_up && !self.polling;
        self.interval().is_some() && !quiet
    }

    /// Takes new parameters into use, by way of a poll sequence while up.
    pub fn set_params(&mut self, now: Duration, params: Params) {
        let before = std::mem::replace(&mut self.params, params);
        if self.state != State::Up {
            self.tx_in_use = params.idle_tx.max(SLOW);
            self.rx_in_use = params.min_rx;
        } else if (before.min_tx, before.min_rx) != (params.min_tx, params.min_rx) {
            // Sending more often, or waiting longer, harms nobody; the opposite waits for the peer's word.
            self.tx_in_use = self.tx_in_use.min(params.min_tx);
            self.rx_in_use = self.rx_in_use.max(params.min_rx);
            self.poll_again = self.polling;
            self.polling = true;
        }
        self.hasten(now);
    }

    /// Takes a packet that belongs to this session.
    pub fn receive(&mut self, now: Duration, packet: &Packet, out: &mut Vec<Output>) {
        if packet.r#final && self.polling {
            self.polling = std::mem::take(&mut self.poll_again);
            if !self.polling {
                self.tx_in_use = self.wanted_tx();
                self.rx_in_use = self.params.min_rx;
            }
        }
        if self.state == State::AdminDown {
            return;
        }
        self.remote = Some(Remote {
            packet: *packet,
            at: now,
        });
        let next = match (packet.state, self.state) {
            (State::AdminDown, State::Init | State::Up) => Some((State::Down, Cause::RemoteAdminDown)),
            (State::Down, State::Down) => Some((State::Init, Cause::Handshake)),
            (State::Down, State::Up) => Some((State::Down, Cause::RemoteDown)),
            (State::Init, State::Down | State::Init) | (State::Up, State::Init) => Some((State::Up, Cause::Handshake)),
            (State::AdminDown, _) | (State::Down | State::Init | State::Up, _) => None,
        };
        if packet.poll {
            // With the state it has now, so that the answer is the news as well.
            self.enter(now, next, out);
            let reply = self.packet(true);
            out.push(Output::Send(reply));
        } else if self.enter(now, next, out) {
            self.tell(now, out);
        }
        self.hasten(now);
    }

    /// Sends and gives up what is due.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.expires_at().is_some_and(|at| at <= now) {
            self.remote = None;
            let lost = matches!(self.state, State::Init | State::Up).then_some((State::Down, Cause::Expired));
            if self.enter(now, lost, out) {
                self.tell(now, out);
            }
        }
        if self.is_sending() && self.send_at <= now {
            self.announce(now, out);
        }
    }

    /// Takes the session down for good: says so twice, since a peer that misses it takes the path for broken.
    pub fn shut(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.enter(now, Some((State::AdminDown, Cause::Unwanted)), out) {
            self.announce(now, out);
            self.announce(now, out);
        }
    }

    /// Changes the state, unless it is the same.
    fn enter(&mut self, now: Duration, next: Option<(State, Cause)>, out: &mut Vec<Output>) -> bool {
        let Some((to, cause)) = next.filter(|(to, _)| *to != self.state) else {
            return false;
        };
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = match cause {
            Cause::Handshake if to == State::Up => Diagnostic::NONE,
            Cause::Handshake => self.diagnostic,
            Cause::Expired => Diagnostic::TIME_EXPIRED,
            Cause::RemoteDown | Cause::RemoteAdminDown => Diagnostic::NEIGHBOR_DOWN,
            Cause::Unwanted => Diagnostic::ADMINISTRATIVE,
        };
        // Up, our timers are others than before, which the peer has to confirm.
        self.polling = to == State::Up;
        self.poll_again = false;
        self.tx_in_use = self.wanted_tx();
        self.rx_in_use = self.params.min_rx;
        self.hasten(now);
        out.push(Output::Changed { from, to, cause });
        true
    }

    fn wanted_tx(&self) -> Duration {
        match self.state {
            State::Up => self.params.min_tx,
            State::AdminDown | State::Down | State::Init => self.params.idle_tx.max(SLOW),
        }
    }

    /// Sends news out of turn, soon at the latest.
    fn tell(&mut self, now: Duration, out: &mut Vec<Output>) {
        match self.sent_at.map(|at| at + NEWS_GAP) {
            Some(at) if at > now => self.send_at = self.send_at.min(at),
            Some(_) | None => self.announce(now, out),
        }
    }

    /// Sends a packet; the next one is an interval later.
    fn announce(&mut self, now: Duration, out: &mut Vec<Output>) {
        if !self.is_sending() {
            return;
        }
        out.push(Output::Send(self.packet(false)));
        self.sent_at = Some(now);
        self.send_at = now + self.jittered();
    }

    /// An interval that became shorter is kept at once.
    fn hasten(&mut self, now: Duration) {
        if self.interval().is_some_and(|interval| interval < self.paced) {
            self.send_at = self.send_at.min(now + self.jittered());
        }
    }

    /// The interval, less up to a quarter; with a multiplier of 1 at least a tenth (RFC 5880 section 6.8.7).
    fn jittered(&mut self) -> Duration {
        let interval = self.interval().unwrap_or(SLOW);
        self.paced = interval;
        let most = if self.params.detect_mult == 1 { 15 } else { 25 };
        // SplitMix64.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.jitter;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::try_from((hash ^ (hash >> 31)) & 0xff).unwrap_or(0);
        interval * 3 / 4 + interval * most / 100 * share / 255
    }

    fn packet(&self, r#final: bool) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling && !r#final,
            r#final,
            // BFD ends with this process, as does BGP.
            control_plane_independent: false,
            demand: false,
            detect_mult: self.params.detect_mult,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.as_ref().map(|remote| remote.packet.my_discriminator),
            desired_min_tx: self.wanted_tx(),
            required_min_rx: self.params.min_rx,
            required_min_echo_rx: Duration::ZERO,
        }
    }
}
