//! Deadlines, and the back-off after errors.

use std::time::Duration;

use super::config::PeerConfig;
use super::connection::{Confirming, Connection, Phase};
use super::event::{Action, ConnId};
use super::peer::Peer;
use crate::packet::{ControlMessage, ErrorCode, Notification};

/// RFC 9687 section 3's lower bound.
const SEND_HOLD_MIN: Duration = Duration::from_secs(8 * 60);

/// The pause after errors, and where jitter comes from.
#[derive(Debug, Clone)]
pub(super) struct Damping {
    wait: Duration,
    last_error: Option<Duration>,
    seed: u64,
}

impl Damping {
    pub(super) fn new(key: u32) -> Self {
        Damping {
            wait: Duration::ZERO,
            last_error: None,
            seed: u64::from(key),
        }
    }

    /// The pause after the last error, without jitter.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// How long to wait after an error now: twice as long as the last time, unless that was long ago. A session that was
    /// up for a moment in between does not count as time without error. A longest time below the first one counts from
    /// the second error on, as in BIRD.
    pub(super) fn error(&mut self, now: Duration, config: &PeerConfig) -> Duration {
        let (min, max) = config.error_wait;
        let recent = self
            .last_error
            .is_some_and(|last| now.saturating_sub(last) <= self.wait + config.error_forget);
        self.wait = if recent { (self.wait * 2).max(min).min(max) } else { min };
        self.last_error = Some(now);
        self.jitter(self.wait)
    }

    /// Three quarters of a time to all of it (RFC 4271 section 10), by SplitMix64.
    pub(super) fn jitter(&mut self, time: Duration) -> Duration {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.seed;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let quarter = u32::try_from((hash ^ (hash >> 31)) & 0xff).unwrap_or(0);
        time * 3 / 4 + time / 4 * quarter / 255
    }
}

impl Peer {
    /// When to call with `Tick`.
    pub fn next_deadline(&self) -> Option<Duration> {
        let connections = self.connections.iter().filter_map(Connection::next_deadline);
        let own = [self.connect_at, self.idle_until, self.next_age(), self.next_verdict()];
        connections.chain(own.into_iter().flatten()).min()
    }

    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        self.age(now, out);
        if due(self.idle_until) {
            self.idle_until = None;
            self.connect_at = Some(now);
            self.reason = "error wait over".to_owned();
        }
        let ids: Vec<ConnId> = self.connections.iter().map(|connection| connection.id).collect();
        for conn in ids {
            self.tick_connection(now, conn, out);
        }
        if due(self.connect_at) && self.may_connect() {
            self.connect(now, out);
        }
    }

    fn tick_connection(&mut self, now: Duration, conn: ConnId, out: &mut Vec<Action>) {
        let Some(connection) = self.connection_mut(conn) else {
            return;
        };
        if connection.blocked_until.is_some_and(|until| until <= now) {
            return self.fail(now, conn, Notification::new(ErrorCode::SendHoldTimer, 0), out);
        }
        let hold_until = match &connection.phase {
            Phase::Connecting { until } if *until <= now => {
                self.forget(conn);
                out.push(Action::Close { conn });
                self.connect_at = Some(now);
                self.reason = "connection timed out".to_owned();
                self.last_connect_failure = Some(self.reason.clone());
                return;
            }
            Phase::Delayed { local, remote, until } if *until <= now => {
                let ends = (*local, *remote);
                return self.say_open(now, conn, ends, out);
            }
            Phase::Connecting { .. } | Phase::Delayed { .. } => return,
            Phase::OpenSent { hold_until, .. } => Some(*hold_until),
            Phase::OpenConfirm(Confirming { live, .. }) | Phase::Established(live) => live.hold_until,
        };
        if hold_until.is_some_and(|until| until <= now) {
            return self.fail(now, conn, Notification::new(ErrorCode::HoldTimer, 0), out);
        }
        let Some(live) = connection.live() else { return };
        if live.keepalive_at.is_some_and(|at| at <= now) {
            let every = live.negotiated.keepalive_time;
            let next = self.keepalive_at(now, every);
            if let Some(live) = self.connection_mut(conn).and_then(Connection::live_mut) {
                live.keepalive_at = next;
            }
            out.push(Action::Send {
                conn,
                message: ControlMessage::Keepalive,
            });
        }
    }

    pub(super) fn keepalive_at(&mut self, now: Duration, every: Duration) -> Option<Duration> {
        (!every.is_zero()).then(|| now + self.damping.jitter(every))
    }

    pub(super) fn retry_at(&mut self, now: Duration) -> Duration {
        now + self
            .damping
            .jitter(self.config.connect_retry.max(Duration::from_secs(1)))
    }

    /// Is there room for an outgoing connection, and sense in one?
    fn may_connect(&self) -> bool {
        self.started
            && !self.config.passive
            && !self.is_held()
            && !self
                .connections
                .iter()
                .any(|connection| connection.is_outgoing() || connection.live().is_some())
    }

    /// Keeps the invariant that `connect_at` is set exactly while an attempt makes sense.
    pub(super) fn schedule_connect(&mut self, now: Duration) {
        if !self.may_connect() {
            self.connect_at = None;
        } else if self.connect_at.is_none() {
            self.connect_at = Some(self.retry_at(now));
        }
    }

    pub(super) fn blocked(&mut self, now: Duration, conn: ConnId) {
        let Some(live) = self.connection(conn).and_then(Connection::live) else {
            return;
        };
        let default = SEND_HOLD_MIN.max(live.negotiated.hold_time * 2);
        let limit = self.config.send_hold_time.unwrap_or(default);
        if !limit.is_zero() {
            self.set_blocked(conn, Some(now + limit));
        }
    }

    pub(super) fn set_blocked(&mut self, conn: ConnId, until: Option<Duration>) {
        if let Some(connection) = self.connection_mut(conn) {
            connection.blocked_until = match (connection.blocked_until, until) {
                (Some(since), Some(_)) => Some(since),
                (_, until) => until,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses after five errors in a row.
    fn pauses(min: u64, max: u64) -> Vec<u64> {
        let families = crate::packet::FamilySet::EMPTY;
        let (asn, id) = (tortie_net::Asn(1), tortie_net::RouterId(1));
        let mut config = PeerConfig::new(asn, super::super::PeerAs::Exactly(asn), id, families);
        config.error_wait = (Duration::from_secs(min), Duration::from_secs(max));
        let mut damping = Damping::new(1);
        let errors = (0..5).map(|n| {
            damping.error(Duration::from_secs(n), &config);
            damping.wait().as_secs()
        });
        errors.collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(pauses(5, 30), [5, 10, 20, 30, 30]);
        // As in BIRD.
        assert_eq!(pauses(10, 5), [10, 5, 5, 5, 5]);
        assert_eq!(pauses(0, 5), [0, 0, 0, 0, 0]);
    }
}
