//! The peer: its state, and what each event does to it.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::PeerConfig;
use super::connection::{Connection, Phase};
use super::event::{Action, ConnId, DownReason, Event, LinkState, Negotiated, State, StopReason};
use super::restart::Retained;
use super::timer::Damping;
use crate::packet::{self, Cease, ControlMessage, ErrorCode, FamilySet, Notification, SessionContext};

/// A configured peer and everything that happens to it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub(super) key: u32,
    pub(super) config: PeerConfig,
    /// The process has started and its tables are not complete yet.
    pub(super) restarting: bool,
    /// Likewise, but nothing was kept for it.
    pub(super) fresh: bool,
    /// The session is wanted.
    pub(super) started: bool,
    /// The peer has refused an OPEN for its optional parameters (RFC 5492 section 3).
    pub(super) without_capabilities: bool,
    pub(super) connections: Vec<Connection>,
    /// The serial of the next outgoing connection.
    serial: u32,
    /// When to connect next. Only while started, not passive, and without an outgoing connection.
    pub(super) connect_at: Option<Duration>,
    /// Nothing happens before then: the pause after an error.
    pub(super) idle_until: Option<Duration>,
    /// How the link to it is.
    pub(super) link: LinkState,
    /// BFD's last word was that it is up.
    pub(super) bfd_up: bool,
    /// The end of the pause that BFD began.
    pub(super) bfd_wait: Option<Duration>,
    pub(super) damping: Damping,
    /// At most one for each family.
    pub(super) retained: Vec<Retained>,
    /// Families whose long-lived stale time was over before the session's table was complete: nothing of them is to
    /// outlive the session (RFC 9494 section 4.2). Empty without a session.
    pub(super) spent: FamilySet,
    state: State,
    /// Why the state will be another at the end of this event.
    pub(super) reason: String,
    /// Of a connection that stood.
    pub(super) last_error: Option<String>,
    pub(super) last_failure: Option<DownReason>,
    /// Of an attempt to make one.
    pub(super) last_connect_failure: Option<String>,
}

impl Peer {
    /// A peer that nothing is wanted of yet. `key` must be unique in the process for all time; `restarting` says that
    /// the process has just started, see [`Event::Converged`].
    pub fn new(key: u32, config: PeerConfig, restarting: bool) -> Self {
        Peer {
            key,
            damping: Damping::new(key),
            config,
            restarting,
            fresh: false,
            started: false,
            without_capabilities: false,
            connections: Vec::new(),
            serial: 0,
            connect_at: None,
            idle_until: None,
            link: LinkState::Usable,
            bfd_up: false,
            bfd_wait: None,
            retained: Vec::new(),
            spent: FamilySet::EMPTY,
            state: State::Idle,
            reason: String::new(),
            last_error: None,
            last_failure: None,
            last_connect_failure: None,
        }
    }

    /// The key it was made with.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// What it is configured to be.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Gives it another configuration. It holds from the next connection on; that a change needs a new session is the
    /// caller's knowledge.
    pub fn set_config(&mut self, config: PeerConfig) {
        self.config = config;
    }

    /// The state of its connection furthest along, else Active if it is waiting for one, else Idle.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the session last failed, or was refused by either side. Attempts to connect that fail later do not change it.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Why the peer could last not be connected to.
    pub fn last_connect_failure(&self) -> Option<&str> {
        self.last_connect_failure.as_deref()
    }

    /// What was agreed on, from the peer's OPEN on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.connections
            .iter()
            .filter_map(Connection::live)
            .map(|live| &*live.negotiated)
            .max_by_key(|n| self.connection(n.conn).is_some_and(Connection::is_established))
    }

    /// How to decode what arrives on a connection. `None`: it is not one of this peer's (any more).
    pub fn context(&self, conn: ConnId) -> Option<SessionContext> {
        self.connection(conn).map(Connection::context)
    }

    /// Takes one frame as it came from a connection: [`packet::decode`] and [`Peer::handle`].
    pub fn receive(&mut self, now: Duration, conn: ConnId, frame: &[u8], out: &mut Vec<Action>) {
        if let Some(context) = self.context(conn) {
            let message = packet::decode(frame, &context);
            self.handle(now, Event::Message { conn, message }, out);
        }
    }

    /// Takes an event; appends what is to be done.
    pub fn handle(&mut self, now: Duration, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Start => self.start(now),
            Event::Stop(reason) => self.stop(now, reason, out),
            Event::Tick => self.tick(now, out),
            Event::Connected { conn, local, remote } => self.connected(now, conn, local, remote, out),
            Event::ConnectFailed { conn, error } | Event::Closed { conn, error } => self.closed(now, conn, error, out),
            Event::Accepted { conn, local, remote } => self.accepted(now, conn, local, remote, out),
            Event::Message { conn, message } => self.message(now, conn, message, out),
            Event::Blocked { conn } => self.blocked(now, conn),
            Event::Unblocked { conn } => self.set_blocked(conn, None),
            Event::Bfd(verdict) => self.bfd(now, verdict, out),
            Event::Link(link) => self.link(now, link, out),
            Event::Converged => (self.restarting, self.fresh) = (false, false),
        }
        self.settle(now, out);
        self.schedule_connect(now);
        self.report_state(out);
    }

    fn report_state(&mut self, out: &mut Vec<Action>) {
        let waiting = if self.started && !self.is_held() {
            State::Active
        } else {
            State::Idle
        };
        let to = self.connections.iter().map(Connection::state).max().unwrap_or(waiting);
        let from = std::mem::replace(&mut self.state, to);
        let reason = std::mem::take(&mut self.reason);
        if from != to {
            out.push(Action::StateChange { from, to, reason });
        }
    }

    // === connections ===

    pub(super) fn connection(&self, conn: ConnId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == conn)
    }

    pub(super) fn connection_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == conn)
    }

    /// There is one most of the time: no room is kept for more.
    fn add(&mut self, connection: Connection) {
        self.connections.reserve_exact(1);
        self.connections.push(connection);
    }

    /// Forgets a connection. `Close` is the caller's, if there is still something to close.
    pub(super) fn forget(&mut self, conn: ConnId) -> Option<Connection> {
        let at = self.connections.iter().position(|connection| connection.id == conn)?;
        Some(self.connections.swap_remove(at))
    }

    /// Opens a connection now.
    pub(super) fn connect(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.connect_at = None;
        let conn = ConnId::Outgoing {
            peer: self.key,
            serial: self.serial,
        };
        self.serial = self.serial.wrapping_add(1);
        let until = now + self.config.connect_retry.max(Duration::from_secs(1));
        let phase = Phase::Connecting { until };
        self.add(Connection::new(conn, phase, now));
        out.push(Action::Connect { conn });
        self.reason = "connecting".to_owned();
    }

    fn connected(&mut self, now: Duration, conn: ConnId, local: SocketAddr, remote: SocketAddr, out: &mut Vec<Action>) {
        let connecting = |connection: &&mut Connection| matches!(connection.phase, Phase::Connecting { .. });
        if self.connection_mut(conn).filter(connecting).is_some() {
            self.open(now, conn, (local, remote), out);
        }
    }

    /// A new connection is there: says who we are, or waits for the peer to say it first.
    fn open(&mut self, now: Duration, conn: ConnId, ends: (SocketAddr, SocketAddr), out: &mut Vec<Action>) {
        if self.config.delay_open.is_zero() {
            return self.say_open(now, conn, ends, out);
        }
        let (local, remote) = ends;
        let until = now + self.config.delay_open;
        if let Some(connection) = self.connection_mut(conn) {
            connection.set_phase(now, Phase::Delayed { local, remote, until });
        }
        self.reason = "connection established, OPEN delayed".to_owned();
    }

    /// Says who we are.
    pub(super) fn say_open(
        &mut self,
        now: Duration,
        conn: ConnId,
        ends: (SocketAddr, SocketAddr),
        out: &mut Vec<Action>,
    ) {
        let hold_until = now + self.config.startup_hold_time.max(Duration::from_secs(3));
        let open = self.our_open();
        let (local, remote) = ends;
        if let Some(connection) = self.connection_mut(conn) {
            let phase = Phase::OpenSent {
                local,
                remote,
                hold_until,
            };
            connection.set_phase(now, phase);
        }
        out.push(Action::Send {
            conn,
            message: ControlMessage::Open(open),
        });
        self.reason = "connection established".to_owned();
    }

    pub(super) fn offers_capabilities(&self) -> bool {
        self.config.capabilities && !self.without_capabilities
    }

    fn accepted(&mut self, now: Duration, conn: ConnId, local: SocketAddr, remote: SocketAddr, out: &mut Vec<Action>) {
        if self.connection(conn).is_some() {
            return;
        }
        if !self.started || self.is_held() {
            return refuse(conn, Cease::ConnectionRejected, out);
        }
        let mut older = None;
        for connection in &self.connections {
            match connection.phase {
                // With graceful restart the peer's OPEN on the new connection tells that it restarted.
                Phase::Established(ref live) if live.negotiated.graceful_restart.is_some() => {}
                Phase::Established(_) => return refuse(conn, Cease::CollisionResolution, out),
                // The newer of two that said nothing yet: the older one may be a leftover of a peer that is gone.
                Phase::OpenSent { .. } | Phase::Delayed { .. } if !connection.is_outgoing() => {
                    older = Some(connection.id);
                }
                // What an OPEN on the new one means is decided when it is there.
                Phase::OpenConfirm(_) | Phase::OpenSent { .. } | Phase::Delayed { .. } | Phase::Connecting { .. } => {}
            }
        }
        if let Some(older) = older {
            self.abandon(older, Notification::cease(Cease::CollisionResolution, ""), out);
        }
        let hold_until = now;
        let phase = Phase::OpenSent {
            local,
            remote,
            hold_until,
        };
        self.add(Connection::new(conn, phase, now));
        self.open(now, conn, (local, remote), out);
    }

    /// Closes a connection that is not the session's, telling the peer if it is listening.
    pub(super) fn abandon(&mut self, conn: ConnId, notification: Notification, out: &mut Vec<Action>) {
        let Some(connection) = self.forget(conn) else { return };
        if connection.has_said_open() {
            out.push(Action::Send {
                conn,
                message: ControlMessage::Notification(notification),
            });
        }
        out.push(Action::Close { conn });
    }

    fn closed(&mut self, now: Duration, conn: ConnId, error: String, out: &mut Vec<Action>) {
        let Some(connection) = self.forget(conn) else { return };
        match connection.phase {
            Phase::Established(live) => {
                let reason = DownReason::ConnectionLost(error);
                self.failed(&reason);
                self.down(now, &live.negotiated, reason, out);
            }
            Phase::Connecting { .. } => {
                self.connect_at = Some(self.retry_at(now));
                self.reason.clone_from(&error);
                self.last_connect_failure = Some(error);
            }
            Phase::Delayed { .. } | Phase::OpenSent { .. } | Phase::OpenConfirm(_) => {
                let reason = DownReason::ConnectionLost(error);
                self.reason = reason.to_string();
                self.failed(&reason);
                self.connect_at = Some(self.retry_at(now));
            }
        }
    }

    // === errors ===

    /// Ends a connection by an error of the peer's: tells it, and if this was the session or the only hope of one, waits.
    pub(super) fn fail(&mut self, now: Duration, conn: ConnId, notification: Notification, out: &mut Vec<Action>) {
        let Some(connection) = self.forget(conn) else { return };
        out.push(Action::Send {
            conn,
            message: ControlMessage::Notification(notification.clone()),
        });
        out.push(Action::Close { conn });
        self.damage(now, &connection, DownReason::Sent(notification), true, out);
    }

    /// What follows from a connection lost with a NOTIFICATION. `error`: it was one, and counts for the back-off.
    pub(super) fn damage(
        &mut self,
        now: Duration,
        connection: &Connection,
        reason: DownReason,
        error: bool,
        out: &mut Vec<Action>,
    ) {
        self.failed(&reason);
        self.reason = reason.to_string();
        if let Phase::Established(live) = &connection.phase {
            self.down(now, &live.negotiated, reason, out);
        }
        let alive = self
            .connections
            .iter()
            .any(|other| !matches!(other.phase, Phase::Connecting { .. }));
        if !error || alive {
            self.connect_at = self.connect_at.or(Some(self.retry_at(now)));
        } else if self.config.disable_after_error {
            self.abandon_all(out);
            self.started = false;
        } else {
            self.pause(now, out);
        }
    }

    /// Waits, longer after every error.
    pub(super) fn pause(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.abandon_all(out);
        self.connect_at = None;
        self.idle_until = Some(now + self.damping.error(now, &self.config));
    }

    pub(super) fn abandon_all(&mut self, out: &mut Vec<Action>) {
        while let Some(conn) = self.connections.first().map(|connection| connection.id) {
            self.abandon(conn, Notification::cease(Cease::ConnectionRejected, ""), out);
        }
    }

    // === start and stop ===

    fn start(&mut self, now: Duration) {
        if self.started {
            return;
        }
        self.started = true;
        self.without_capabilities = false;
        self.idle_until = None;
        self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay));
        self.reason = "started".to_owned();
    }

    pub(super) fn stop(&mut self, now: Duration, reason: StopReason, out: &mut Vec<Action>) {
        self.started = false;
        self.connect_at = None;
        self.idle_until = None;
        self.reason = DownReason::Stopped(reason.clone()).to_string();
        for connection in std::mem::take(&mut self.connections) {
            let conn = connection.id;
            let live = connection.live().map(|live| &live.negotiated);
            if let Some(notification) = farewell(&reason, &connection, live.and_then(|n| n.graceful_restart)) {
                out.push(Action::Send {
                    conn,
                    message: ControlMessage::Notification(notification),
                });
            }
            out.push(Action::Close { conn });
            if let Phase::Established(live) = connection.phase {
                self.down(now, &live.negotiated, DownReason::Stopped(reason.clone()), out);
            }
        }
        if !matches!(reason, StopReason::ProcessExit | StopReason::BfdDown { graceful: true }) {
            self.sweep_all(out);
        }
        if matches!(
            reason,
            StopReason::PrefixLimit { .. }
                | StopReason::ExportLimit { .. }
                | StopReason::OutOfResources
                | StopReason::BfdDown { .. }
                | StopReason::LinkDown
                | StopReason::NeighborLost
        ) {
            self.failed(&DownReason::Stopped(reason.clone()));
        }
        if !reason.restarts() {
            return;
        }
        self.started = true;
        match reason {
            StopReason::PrefixLimit { .. }
            | StopReason::ExportLimit { .. }
            | StopReason::OutOfResources
            | StopReason::BfdDown { .. } => self.pause(now, out),
            _ => self.connect_at = Some(now + self.damping.jitter(self.config.connect_delay)),
        }
    }
}

fn refuse(conn: ConnId, subcode: Cease, out: &mut Vec<Action>) {
    let message = ControlMessage::Notification(Notification::cease(subcode, ""));
    out.push(Action::Send { conn, message });
    out.push(Action::Close { conn });
}

/// What to tell the peer on a connection when we stop. Nothing before our OPEN, and nothing when it is to keep our
/// routes over our restart.
fn farewell(
    reason: &StopReason,
    connection: &Connection,
    graceful: Option<super::PeerGracefulRestart>,
) -> Option<Notification> {
    if !connection.has_said_open() {
        return None;
    }
    let notification = match reason {
        StopReason::ProcessExit | StopReason::BfdDown { graceful: true } if graceful.is_some() => return None,
        StopReason::ProcessExit => Notification::cease(Cease::AdministrativeShutdown, ""),
        StopReason::AdministrativeShutdown(text) => Notification::cease(Cease::AdministrativeShutdown, text),
        StopReason::AdministrativeReset(text) => Notification::cease(Cease::AdministrativeReset, text),
        StopReason::Deconfigured => Notification::cease(Cease::PeerDeconfigured, ""),
        StopReason::ConfigurationChange => Notification::cease(Cease::OtherConfigurationChange, ""),
        StopReason::PrefixLimit { .. } => Notification::cease(Cease::MaximumPrefixes, ""),
        // The limit is on us: the peer did nothing wrong.
        StopReason::ExportLimit { restart: true } => Notification::cease(Cease::AdministrativeReset, ""),
        StopReason::ExportLimit { restart: false } => Notification::cease(Cease::AdministrativeShutdown, ""),
        StopReason::OutOfResources => Notification::cease(Cease::OutOfResources, ""),
        StopReason::BfdDown { .. } => Notification::cease(Cease::BfdDown, ""),
        // No subcode says it.
        StopReason::LinkDown | StopReason::NeighborLost => Notification::new(ErrorCode::Cease, 0),
    };
    let notified = connection.is_established() && graceful.is_some_and(|graceful| graceful.notification);
    // The peer would keep our routes over any other NOTIFICATION. A restart that comes back soon may do just that.
    let keep = matches!(
        reason,
        StopReason::AdministrativeReset(_) | StopReason::ConfigurationChange
    );
    Some(if notified && !keep {
        notification.hard_reset()
    } else {
        notification
    })
}

/// A NOTIFICATION about a message that the state has no place for (RFC 6608).
pub(super) fn unexpected(state: State) -> Notification {
    let subcode = match state {
        State::OpenSent => 1,
        State::OpenConfirm => 2,
        State::Established => 3,
        State::Idle | State::Active | State::Connect => 0,
    };
    Notification::new(ErrorCode::Fsm, subcode)
}
