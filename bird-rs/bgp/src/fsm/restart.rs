//! Sessions that come and go: which of the peer's routes are kept meanwhile (RFC 4724, RFC 8538).

use std::time::Duration;

use super::event::{Action, DownReason, Negotiated, StopReason};
use super::peer::Peer;
use crate::packet::{AfiSafi, Cease, FamilySet};

/// Routes of a lost session that are kept.
#[derive(Debug, Clone)]
pub(super) struct Retained {
    pub(super) families: FamilySet,
    /// First the peer's restart time; once the session is back, [`super::PeerConfig::stale_time`].
    pub(super) until: Duration,
}

impl Peer {
    /// The session is established. Stale routes of families that the peer did not preserve go at once (RFC 4724
    /// section 4.2); the others wait for its End-of-RIB.
    pub(super) fn up(&mut self, now: Duration, negotiated: &Negotiated, out: &mut Vec<Action>) {
        let stale_until = now + self.config.stale_time;
        out.push(Action::Up(Box::new(negotiated.clone())));
        let Some(retained) = &mut self.retained else { return };
        retained.until = stale_until;
        let preserved = negotiated
            .graceful_restart
            .map_or(FamilySet::EMPTY, |graceful| graceful.forwarding);
        let lost = retained.families.difference(preserved);
        for family in lost.iter() {
            self.sweep(family, out);
        }
    }

    /// The session is over; `connections` holds its connection no more.
    pub(super) fn down(&mut self, now: Duration, negotiated: &Negotiated, reason: DownReason, out: &mut Vec<Action>) {
        let retain = retain(negotiated, &reason);
        let restart_time = negotiated
            .graceful_restart
            .map_or(Duration::ZERO, |graceful| graceful.restart_time);
        // What was still stale from before and is not kept again is gone with the session's other routes. Nobody counts
        // the time when the process is about to end.
        let timed = !retain.is_empty() && reason != DownReason::Stopped(StopReason::ProcessExit);
        self.retained = timed.then_some(Retained {
            families: retain,
            until: now + restart_time,
        });
        self.reason = reason.to_string();
        // Whoever comes back may be another program.
        self.without_capabilities = false;
        if self.started {
            self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay));
        }
        out.push(Action::Down { reason, retain });
    }

    /// Stale routes of this family, if there are any, have had their time.
    pub(super) fn sweep(&mut self, family: AfiSafi, out: &mut Vec<Action>) {
        let Some(retained) = &mut self.retained else { return };
        if retained.families.contains(family) {
            retained.families.remove(family);
            out.push(Action::SweepStale { family });
        }
        if retained.families.is_empty() {
            self.retained = None;
        }
    }

    pub(super) fn sweep_all(&mut self, out: &mut Vec<Action>) {
        for family in AfiSafi::ALL {
            self.sweep(family, out);
        }
    }
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
        DownReason::Stopped(_) => false,
        DownReason::ConnectionLost(_) | DownReason::PeerRestarted => true,
        DownReason::Sent(_) => graceful.notification,
        DownReason::Received(notification) => graceful.notification && !notification.is_cease(Cease::HardReset),
    };
    if kept { graceful.families } else { FamilySet::EMPTY }
}
