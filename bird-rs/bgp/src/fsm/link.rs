//! What the link to a directly connected peer does to its session.
//!
//! A link that is lost ends the session at once and takes the peer's routes along: nothing that leads over it is good, and
//! graceful restart is about peers whose forwarding goes on. Nothing is tried until the link is back; then a session is
//! tried after the connect delay, without the pause after errors.

use std::time::Duration;

use super::connection::Connection;
use super::event::{Action, DownReason, LinkState, StopReason};
use super::peer::Peer;

impl Peer {
    /// Takes note of how the link is.
    pub(super) fn link(&mut self, now: Duration, link: LinkState, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.link, link);
        if before == link || !self.started {
            return;
        }
        let reason = match link {
            LinkState::Usable => return self.link_is_back(now),
            LinkState::NoCarrier => StopReason::LinkDown,
            LinkState::Gone => StopReason::NeighborLost,
        };
        if before != LinkState::Usable {
            self.failed(&DownReason::Stopped(reason));
        } else if self.connections.iter().any(Connection::is_established) || !self.retained.is_empty() {
            self.stop(now, reason, out);
        } else {
            self.reason = DownReason::Stopped(reason).to_string();
            self.abandon_all(out);
        }
    }

    /// How the link is.
    pub fn link_state(&self) -> LinkState {
        self.link
    }

    fn link_is_back(&mut self, now: Duration) {
        if self.idle_until.is_none() {
            self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay));
        }
        self.reason = "the link is back".to_owned();
    }
}
