//! Sessions that come and go: which of the peer's routes are kept meanwhile (RFC 4724, RFC 8538, RFC 9494).
//!
//! Each family has a time of its own. It begins with the peer's restart time. When that is over the routes go, or become
//! long-lived stale for the time the peer asked for. Once they are, nothing but the End-of-RIB, the end of that time, or
//! a peer that comes back without them ends it: another loss of the session does not begin it anew. When the time is over
//! while the peer is back and has not said End-of-RIB, another loss leaves nothing.
//!
//! A peer that is lost again before its End-of-RIB loses what was stale (RFC 4724 section 4.2), unless long-lived graceful
//! restart was agreed on: then that is kept too (RFC 9494 section 4.2), and the restart time goes on from the first loss,
//! so that a peer that never gets so far as to say what it has does not keep stale routes in use for ever.

use std::time::Duration;

use super::connection::Connection;
use super::event::{Action, DownReason, LongLivedRoutes, Negotiated, StopReason};
use super::peer::Peer;
use crate::packet::{AfiSafi, Cease, FamilySet};

/// Routes of a lost session that are kept.
#[derive(Debug, Clone)]
pub(super) struct Retained {
    pub(super) family: AfiSafi,
    /// First the end of the peer's restart time; once the session is back, of [`super::PeerConfig::stale_time`]. Or the
    /// end of the long-lived stale time.
    pub(super) until: Duration,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// As RFC 4724 has it; after that so long as RFC 9494 has it, if at all.
    Restart {
        /// When the peer's restart time is over, counted from the first loss.
        over: Duration,
        then: Option<Duration>,
    },
    LongLived,
}

impl Peer {
    /// The session is established. Stale routes of families that the peer did not preserve go at once (RFC 4724
    /// section 4.2, RFC 9494 section 4.2); the others wait for its End-of-RIB.
    pub(super) fn up(&mut self, now: Duration, negotiated: &Negotiated, out: &mut Vec<Action>) {
        let stale_until = now + self.config.stale_time;
        out.push(Action::Up(Box::new(negotiated.clone())));
        let graceful = negotiated.graceful_restart;
        let preserved = graceful.map_or(FamilySet::EMPTY, |graceful| graceful.forwarding);
        let mut lost = Vec::new();
        for retained in &mut self.retained {
            let kept = match retained.phase {
                Phase::Restart { over, .. } => {
                    retained.until = stale_until;
                    retained.phase = Phase::Restart { over, then: None };
                    preserved.contains(retained.family)
                }
                Phase::LongLived => long_lived(negotiated, retained.family).is_some_and(|routes| routes.forwarding),
            };
            if !kept {
                lost.push(retained.family);
            }
        }
        for family in lost {
            self.sweep(family, out);
        }
    }

    /// The session is over; `connections` holds its connection no more.
    pub(super) fn down(&mut self, now: Duration, negotiated: &Negotiated, reason: DownReason, out: &mut Vec<Action>) {
        let mut retain = retain(negotiated, &reason);
        let exits = reason == DownReason::Stopped(StopReason::ProcessExit);
        let spent = std::mem::replace(&mut self.spent, FamilySet::EMPTY);
        if !exits {
            retain = retain.difference(spent);
        }
        // What was still stale from before and is not kept again is gone with the session's other routes. Nobody counts
        // the time when the process is about to end.
        let before = std::mem::take(&mut self.retained);
        if !exits {
            let again = |family| match before.iter().find(|r| r.family == family) {
                Some(earlier) => earlier.lost_again(now, negotiated),
                None => Retained::new(now, negotiated, family),
            };
            self.retained = retain.iter().map(again).collect();
        }
        self.reason = reason.to_string();
        // Whoever comes back may be another program.
        self.without_capabilities = false;
        if self.started {
            self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay));
        }
        out.push(Action::Down { reason, retain });
        let aged = self.retained.iter().filter(|r| r.phase == Phase::LongLived);
        out.extend(aged.map(|r| Action::LongLived { family: r.family }));
    }

    /// The time of some stale routes may be over.
    pub(super) fn age(&mut self, now: Duration, out: &mut Vec<Action>) {
        let synchronizing = self.connections.iter().any(Connection::is_established);
        let mut over = Vec::new();
        for retained in self.retained.iter_mut().filter(|retained| retained.until <= now) {
            match retained.phase {
                Phase::Restart { then: Some(time), .. } => {
                    retained.phase = Phase::LongLived;
                    retained.until = now + time;
                    out.push(Action::LongLived {
                        family: retained.family,
                    });
                }
                Phase::Restart { then: None, .. } => over.push(retained.family),
                Phase::LongLived => {
                    if synchronizing {
                        self.spent.insert(retained.family);
                    }
                    over.push(retained.family);
                }
            }
        }
        for family in over {
            self.sweep(family, out);
        }
    }

    /// When to call `age`.
    pub(super) fn next_age(&self) -> Option<Duration> {
        self.retained.iter().map(|retained| retained.until).min()
    }

    /// The peer's table is complete.
    pub(super) fn synchronized(&mut self, family: AfiSafi, out: &mut Vec<Action>) {
        self.spent.remove(family);
        self.sweep(family, out);
    }

    /// Stale routes of this family, if there are any, have had their time.
    pub(super) fn sweep(&mut self, family: AfiSafi, out: &mut Vec<Action>) {
        let before = self.retained.len();
        self.retained.retain(|retained| retained.family != family);
        if self.retained.len() < before {
            out.push(Action::SweepStale { family });
        }
    }

    pub(super) fn sweep_all(&mut self, out: &mut Vec<Action>) {
        for family in AfiSafi::ALL {
            self.sweep(family, out);
        }
    }
}

impl Retained {
    pub(super) fn is_long_lived(&self) -> bool {
        self.phase == Phase::LongLived
    }

    /// A family of a session that was just lost.
    fn new(now: Duration, negotiated: &Negotiated, family: AfiSafi) -> Self {
        let stale_time = negotiated.long_lived_time(family);
        let graceful = negotiated
            .graceful_restart
            .filter(|graceful| graceful.families.contains(family));
        match (graceful, stale_time) {
            (None, Some(time)) => Retained {
                family,
                until: now + time,
                phase: Phase::LongLived,
            },
            (graceful, then) => {
                let over = now + graceful.map_or(Duration::ZERO, |graceful| graceful.restart_time);
                Retained {
                    family,
                    until: over,
                    phase: Phase::Restart { over, then },
                }
            }
        }
    }

    /// A family of which routes are stale already.
    fn lost_again(&self, now: Duration, negotiated: &Negotiated) -> Retained {
        match self.phase {
            Phase::LongLived => self.clone(),
            Phase::Restart { over, .. } => match negotiated.long_lived_time(self.family) {
                Some(time) => Retained {
                    family: self.family,
                    until: over,
                    phase: Phase::Restart { over, then: Some(time) },
                },
                None => Retained::new(now, negotiated, self.family),
            },
        }
    }
}

/// What the peer asked for a family.
fn long_lived(negotiated: &Negotiated, family: AfiSafi) -> Option<&LongLivedRoutes> {
    let all = negotiated.long_lived.as_ref()?;
    all.iter().find(|routes| routes.family == family)
}

/// The families whose routes outlive the session.
fn retain(negotiated: &Negotiated, reason: &DownReason) -> FamilySet {
    let Some(graceful) = negotiated.graceful_restart else {
        return match reason {
            DownReason::Stopped(StopReason::ProcessExit) => negotiated.context.families,
            _ => FamilySet::EMPTY,
        };
    };
    let kept = match reason {
        // The routes die with the process; what it told others about them stays as it is.
        DownReason::Stopped(StopReason::ProcessExit) => return negotiated.context.families,
        DownReason::Stopped(StopReason::BfdDown { graceful }) => *graceful,
        DownReason::Stopped(_) => false,
        DownReason::ConnectionLost(_) | DownReason::PeerRestarted => true,
        DownReason::Sent(_) => graceful.notification,
        DownReason::Received(notification) => graceful.notification && !notification.is_cease(Cease::HardReset),
    };
    if !kept {
        return FamilySet::EMPTY;
    }
    let long_lived = |family: &AfiSafi| negotiated.long_lived_time(*family).is_some();
    let long_lived = AfiSafi::ALL.into_iter().filter(long_lived);
    graceful.families.iter().chain(long_lived).collect()
}
