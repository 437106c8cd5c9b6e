//! What BFD's word about the path does to a session (RFC 5882 sections 3.2 and 4, RFC 9384).
//!
//! A path that failed ends the session at once. The peer's routes go with it, unless the configuration says `graceful`.
//! When the session broke first and routes are kept over the peer's restart, a failure says something new only if the
//! peer's BFD does not end with its control plane (the C bit): else it is that restart once more.

use std::time::Duration;

use super::connection::Connection;
use super::event::{Action, BfdVerdict, LinkState, StopReason};
use super::peer::Peer;

impl Peer {
    /// Takes BFD's word.
    pub(super) fn bfd(&mut self, now: Duration, verdict: BfdVerdict, out: &mut Vec<Action>) {
        let was_up = std::mem::replace(&mut self.bfd_up, verdict == BfdVerdict::Up);
        match verdict {
            BfdVerdict::Up if !was_up => self.path_works(now),
            BfdVerdict::Failed { independent } if self.started => self.path_failed(now, independent, out),
            BfdVerdict::Up | BfdVerdict::Silent | BfdVerdict::Failed { .. } => {}
        }
    }

    /// Is BFD up, as far as it has said?
    pub fn bfd_is_up(&self) -> bool {
        self.bfd_up
    }

    /// Nothing is to happen now: the link is not usable, the pause after an error, or `strict` waits for BFD.
    pub(super) fn is_held(&self) -> bool {
        self.link != LinkState::Usable || self.idle_until.is_some() || (self.config.bfd_strict && !self.bfd_up)
    }

    fn path_works(&mut self, now: Duration) {
        let waited = self.idle_until.is_some() && self.idle_until == self.bfd_wait;
        if waited {
            self.idle_until = None;
        }
        if self.started && (waited || self.config.bfd_strict) && !self.is_held() {
            self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay));
            self.reason = "BFD is up".to_owned();
        }
    }

    fn path_failed(&mut self, now: Duration, independent: bool, out: &mut Vec<Action>) {
        let graceful = self.config.bfd_graceful;
        if self.connections.iter().any(Connection::is_established) {
            self.stop(now, StopReason::BfdDown { graceful }, out);
            self.bfd_wait = self.idle_until;
        } else if independent && !graceful {
            self.sweep_all(out);
        }
    }
}
