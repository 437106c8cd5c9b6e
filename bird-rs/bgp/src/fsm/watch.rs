//! What a peer shows of itself beside its state: timers, what is kept over a restart, why it was last down; and what it
//! says of its own start.

use std::time::Duration;

use super::connection::{Connection, Phase};
use super::event::DownReason;
use super::negotiate;
use super::peer::Peer;
use crate::packet::{AfiSafi, Capability, Open};

/// When what happens, as points in time; none of what is not waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerTimers {
    /// The end of the pause after an error.
    pub error_wait: Option<Duration>,
    /// How long that pause is in whole.
    pub error_wait_total: Duration,
    /// The next attempt to connect.
    pub connect: Option<Duration>,
    /// The peer counts as dead.
    pub hold: Option<Duration>,
    /// Our next KEEPALIVE.
    pub keepalive: Option<Duration>,
}

/// Routes of a lost session that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of which family.
    pub family: AfiSafi,
    /// Until then, unless the peer comes back.
    pub until: Duration,
    /// As long-lived stale ones (RFC 9494).
    pub long_lived: bool,
}

impl Peer {
    /// What it waits for.
    pub fn timers(&self) -> PeerTimers {
        let established = self.connections.iter().find_map(|connection| match &connection.phase {
            Phase::Established(live) => Some(live),
            Phase::Connecting { .. } | Phase::Delayed { .. } | Phase::OpenSent { .. } | Phase::OpenConfirm(_) => None,
        });
        PeerTimers {
            error_wait: self.idle_until,
            error_wait_total: self.damping.wait(),
            connect: self.connect_at,
            hold: established.and_then(|live| live.hold_until),
            keepalive: established.and_then(|live| live.keepalive_at),
        }
    }

    /// Routes of sessions before this one that are still kept.
    pub fn kept(&self) -> impl Iterator<Item = Kept> + '_ {
        self.retained.iter().map(|retained| Kept {
            family: retained.family,
            until: retained.until,
            long_lived: retained.is_long_lived(),
        })
    }

    /// Why the session last failed, as [`Peer::last_error`] says in words.
    pub fn last_failure(&self) -> Option<&DownReason> {
        self.last_failure.as_ref()
    }

    /// The process has just started and nobody kept anything for it: until the tables are complete, OPENs say that no
    /// forwarding state was preserved (RFC 4724 section 3), so that the peer forgets what it kept.
    pub fn start_afresh(&mut self) {
        self.restarting = false;
        self.fresh = true;
    }

    /// What we offer now.
    pub(super) fn our_open(&self) -> Open {
        let mut open = negotiate::our_open(&self.config, self.restarting, self.offers_capabilities());
        for capability in open.capabilities.iter_mut().filter(|_| self.fresh) {
            match capability {
                Capability::GracefulRestart(ours) => ours.families.iter_mut().for_each(|f| f.forwarding = false),
                Capability::LongLivedGracefulRestart(ours) => ours.iter_mut().for_each(|f| f.forwarding = false),
                _ => {}
            }
        }
        open
    }

    /// The peer cannot be accepted from, for this reason: shown like an attempt to connect that failed.
    pub fn cannot_accept(&mut self, reason: &str) {
        self.last_connect_failure = Some(reason.to_owned());
    }

    pub(super) fn failed(&mut self, reason: &DownReason) {
        self.last_error = Some(reason.to_string());
        self.last_failure = Some(reason.clone());
    }

    /// Is its connection one that we opened?
    pub fn is_outgoing(&self) -> bool {
        let furthest = self.connections.iter().max_by_key(|connection| connection.state());
        furthest.is_some_and(Connection::is_outgoing)
    }
}
