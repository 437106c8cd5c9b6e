//! One TCP connection on its way to a session.

use std::net::SocketAddr;
use std::time::Duration;

use super::event::{ConnId, Negotiated, State};
use crate::packet::SessionContext;

/// A connection. While it is in a peer's list, no `Close` was issued for it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) phase: Phase,
    /// When it came to this phase.
    pub(super) since: Duration,
    /// When a peer that takes none of our bytes has had its time.
    pub(super) blocked_until: Option<Duration>,
}

/// How far it is. Deadlines are points in time.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// We are connecting, until then.
    Connecting { until: Duration },
    /// It stands, and our OPEN waits until then for the peer's: the DelayOpenTimer (RFC 4271 section 8.1.1).
    Delayed {
        local: SocketAddr,
        remote: SocketAddr,
        until: Duration,
    },
    /// Our OPEN is out.
    OpenSent {
        local: SocketAddr,
        remote: SocketAddr,
        hold_until: Duration,
    },
    /// The peer's OPEN was good.
    OpenConfirm(Confirming),
    /// The session.
    Established(Live),
}

/// Between the OPENs and the KEEPALIVEs. Both KEEPALIVEs can have been exchanged here, when a collision is not decided.
#[derive(Debug, Clone)]
pub(super) struct Confirming {
    pub(super) live: Live,
    /// Our KEEPALIVE is out: from now on the peer may take this connection for the session.
    pub(super) said: bool,
    /// Since when the peer's is in.
    pub(super) heard: Option<Duration>,
}

/// What both phases after the OPENs have.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) negotiated: Box<Negotiated>,
    /// `None`: no hold timer.
    pub(super) hold_until: Option<Duration>,
    pub(super) keepalive_at: Option<Duration>,
}

impl Live {
    /// The peer is alive.
    pub(super) fn heard(&mut self, now: Duration) {
        let hold = self.negotiated.hold_time;
        self.hold_until = (!hold.is_zero()).then_some(now + hold);
    }
}

impl Connection {
    /// A connection that has just begun.
    pub(super) fn new(id: ConnId, phase: Phase, now: Duration) -> Self {
        Connection {
            id,
            phase,
            since: now,
            blocked_until: None,
        }
    }

    pub(super) fn set_phase(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    pub(super) fn is_outgoing(&self) -> bool {
        matches!(self.id, ConnId::Outgoing { .. })
    }

    /// Has the peer heard of us? One that has not is told nothing when the connection ends.
    pub(super) fn has_said_open(&self) -> bool {
        !matches!(self.phase, Phase::Connecting { .. } | Phase::Delayed { .. })
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established(_))
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Delayed { .. } if !self.is_outgoing() => State::Active,
            Phase::Connecting { .. } | Phase::Delayed { .. } => State::Connect,
            Phase::OpenSent { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established(_) => State::Established,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::OpenConfirm(Confirming { live, .. }) | Phase::Established(live) => Some(live),
            Phase::Connecting { .. } | Phase::Delayed { .. } | Phase::OpenSent { .. } => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::OpenConfirm(Confirming { live, .. }) | Phase::Established(live) => Some(live),
            Phase::Connecting { .. } | Phase::Delayed { .. } | Phase::OpenSent { .. } => None,
        }
    }

    /// How to decode what arrives on it.
    pub(super) fn context(&self) -> SessionContext {
        self.live()
            .map_or_else(SessionContext::default, |live| live.negotiated.context)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let own = match &self.phase {
            Phase::Connecting { until } | Phase::Delayed { until, .. } => Some(*until),
            Phase::OpenSent { hold_until, .. } => Some(*hold_until),
            Phase::OpenConfirm(Confirming { live, .. }) | Phase::Established(live) => {
                live.hold_until.into_iter().chain(live.keepalive_at).min()
            }
        };
        own.into_iter().chain(self.blocked_until).min()
    }
}
