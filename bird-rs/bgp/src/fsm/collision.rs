//! Two connections to one peer: which of them becomes the session (RFC 4271 section 6.8, RFC 6286).
//!
//! The connection that the *dominant* side opened survives, the one with the higher identifier (with equal ones, the higher
//! AS). The RFC lets each side decide when an OPEN arrives, and excepts a session that is established. Taken literally that
//! loses both connections: the peer gets our KEEPALIVE on the one and is established there, while we get its OPEN on the
//! other and end the first. The peer of a graceful restart takes that for a second failure and drops the routes it has kept.
//!
//! So no connection that the peer may take for the session is ended by us without the peer's word:
//!
//! * Our KEEPALIVE waits while the peer's OPEN on the other connection is on its way: without it the peer is not established,
//!   and both sides end the same one. It waits for an attempt of ours too, if the peer knows graceful restart: BIRD and
//!   FRR take any connection that they accept in an established session for our restart, and we cannot call back a SYN.
//! * If our KEEPALIVE was out before the winner came, the peer alone knows. Its KEEPALIVE on the winner says that it
//!   took that; its UPDATE on the other, or the end of the winner, that it was established already.
//! * [`DECISION`] later the RFC's rule holds, for a peer that says nothing.

use std::time::Duration;

use super::connection::{Confirming, Connection, Phase};
use super::event::{Action, ConnId, DownReason};
use super::peer::Peer;
use crate::packet::{Cease, ControlMessage, Notification};

/// How long a collision waits for the peer. Below the shortest hold time (3 s, RFC 4271 section 4.2).
const DECISION: Duration = Duration::from_secs(2);

/// A peer is not taken for one that restarted within this time of its session: what it opened before the session arrives
/// late when this machine is busy.
const RESTART: Duration = Duration::from_secs(1);

/// What happens next to the connections.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Our KEEPALIVE goes out on it.
    Say(ConnId),
    /// It is the session.
    Establish(ConnId),
    /// It lost.
    Drop(ConnId),
}

fn collision() -> Notification {
    Notification::cease(Cease::CollisionResolution, "")
}

impl Peer {
    /// The peer's OPEN on this connection was good. An older connection that the peer opened gives way at once, whoever has
    /// the higher identifier: nobody opens a second connection while he has the first, so he has lost it, and we have not
    /// heard. False: this one gives way.
    pub(super) fn make_way(&mut self, now: Duration, conn: ConnId, out: &mut Vec<Action>) -> bool {
        let others: Vec<Connection> = self.connections.iter().filter(|one| one.id != conn).cloned().collect();
        let incoming = matches!(conn, ConnId::Incoming(_));
        for other in others {
            match &other.phase {
                Phase::Established(live) => {
                    let restarted = live.negotiated.graceful_restart.is_some() && now >= other.since + RESTART;
                    if !restarted {
                        self.abandon(conn, collision(), out);
                        return false;
                    }
                    self.forget(other.id);
                    out.push(Action::Close { conn: other.id });
                    self.down(now, &live.negotiated, DownReason::PeerRestarted, out);
                }
                Phase::OpenConfirm(_) if incoming && !other.is_outgoing() => self.abandon(other.id, collision(), out),
                Phase::OpenConfirm(_) | Phase::OpenSent { .. } | Phase::Connecting { .. } | Phase::Delayed { .. } => {}
            }
        }
        true
    }

    /// The peer's KEEPALIVE is in.
    pub(super) fn confirmed(&mut self, now: Duration, conn: ConnId) {
        if let Some(Phase::OpenConfirm(confirming)) = self.connection_mut(conn).map(|connection| &mut connection.phase)
        {
            confirming.heard.get_or_insert(now);
        }
    }

    /// The peer says what only a session's side says: if all was exchanged on this connection, it is the session.
    pub(super) fn is_session_of_the_peer(&mut self, now: Duration, conn: ConnId, out: &mut Vec<Action>) {
        let phase = self.connection(conn).map(|connection| &connection.phase);
        if let Some(Phase::OpenConfirm(Confirming {
            said: true,
            heard: Some(_),
            ..
        })) = phase
        {
            self.establish(now, conn, out);
        }
    }

    /// The peer has decided, and goes on with another connection.
    pub(super) fn loses_a_collision(&self, lost: &Connection) -> bool {
        let goes_on = |other: &Connection| is_rival(lost, other) && other.has_said_open();
        !lost.is_established() && self.connections.iter().any(goes_on)
    }

    /// Does what can be done now for connections that have their OPENs.
    pub(super) fn settle(&mut self, now: Duration, out: &mut Vec<Action>) {
        // Every verdict brings a connection further or ends it, so there are few.
        while let Some(verdict) = self.connections.iter().find_map(|one| self.verdict(now, one)) {
            match verdict {
                Verdict::Say(conn) => self.say_keepalive(now, conn, out),
                Verdict::Establish(conn) => self.establish(now, conn, out),
                Verdict::Drop(conn) => self.abandon(conn, collision(), out),
            }
        }
    }

    /// When a collision that waits is decided without the peer.
    pub(super) fn next_verdict(&self) -> Option<Duration> {
        let waits = |one: &Connection| self.waits(one).map(|(_, until)| until);
        self.connections.iter().filter_map(waits).min()
    }

    fn verdict(&self, now: Duration, one: &Connection) -> Option<Verdict> {
        let Phase::OpenConfirm(confirming) = &one.phase else {
            return None;
        };
        if let Some((rival, until)) = self.waits(one) {
            return (until <= now).then_some(Verdict::Drop(rival));
        }
        let rival = self.rival(one);
        let confirmed = rival.filter(|rival| rival.live().is_some());
        match confirmed {
            Some(rival) if self.wins(one, confirming) => Some(Verdict::Drop(rival.id)),
            Some(_) => None,
            None if !confirming.said => Some(Verdict::Say(one.id)),
            None => confirming.heard.map(|_| Verdict::Establish(one.id)),
        }
    }

    /// The connection because of which this one cannot go on, and until when.
    fn waits(&self, one: &Connection) -> Option<(ConnId, Duration)> {
        let Phase::OpenConfirm(confirming) = &one.phase else {
            return None;
        };
        let rival = self.rival(one)?;
        let wins = self.wins(one, confirming);
        let waits = match &rival.phase {
            Phase::OpenConfirm(theirs) => wins && theirs.said && confirming.heard.is_none(),
            Phase::OpenSent { .. } => !(wins && confirming.said),
            Phase::Connecting { .. } | Phase::Delayed { .. } => {
                !confirming.said && confirming.live.negotiated.graceful_restart.is_some()
            }
            Phase::Established(_) => false,
        };
        // Not longer for new connections that say nothing, however many come.
        let since = if confirming.said {
            confirming.heard.unwrap_or(rival.since)
        } else {
            one.since
        };
        waits.then(|| (rival.id, since + DECISION))
    }

    fn rival(&self, one: &Connection) -> Option<&Connection> {
        self.connections.iter().find(|other| is_rival(one, other))
    }

    /// Did the dominant side open it?
    fn wins(&self, one: &Connection, confirming: &Confirming) -> bool {
        let negotiated = &confirming.live.negotiated;
        let ours = (self.config.router_id, self.config.local_as) > (negotiated.peer_id, negotiated.peer_as);
        one.is_outgoing() == ours
    }

    fn say_keepalive(&mut self, now: Duration, conn: ConnId, out: &mut Vec<Action>) {
        let every = self.connection(conn).and_then(Connection::live);
        let Some(every) = every.map(|live| live.negotiated.keepalive_time) else {
            return;
        };
        let keepalive_at = self.keepalive_at(now, every);
        if let Some(Phase::OpenConfirm(confirming)) = self.connection_mut(conn).map(|connection| &mut connection.phase)
        {
            confirming.said = true;
            confirming.live.keepalive_at = keepalive_at;
        }
        out.push(Action::Send {
            conn,
            message: ControlMessage::Keepalive,
        });
    }

    fn establish(&mut self, now: Duration, conn: ConnId, out: &mut Vec<Action>) {
        let Some(connection) = self.connection_mut(conn) else {
            return;
        };
        let Phase::OpenConfirm(Confirming { live, .. }) = &connection.phase else {
            return;
        };
        let live = live.clone();
        let negotiated = live.negotiated.clone();
        connection.set_phase(now, Phase::Established(live));
        let others: Vec<ConnId> = self
            .connections
            .iter()
            .map(|other| other.id)
            .filter(|&id| id != conn)
            .collect();
        for other in others {
            self.abandon(other, collision(), out);
        }
        self.connect_at = None;
        self.reason = "session established".to_owned();
        self.up(now, &negotiated, out);
    }
}

/// Is the other one opened by the other side?
fn is_rival(one: &Connection, other: &Connection) -> bool {
    one.is_outgoing() != other.is_outgoing()
}
