//! What a peer is told, and what it wants done.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tortie_net::{Asn, RouterId};

use crate::packet::{
    AfiSafi, Capability, ControlMessage, FamilySet, Message, Notification, RouteRefresh, SessionContext, Update,
};

/// A TCP connection, unique in the process for all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// We opened it, or are about to. Numbered by the peer.
    Outgoing {
        /// [`super::Peer::key`] of the peer.
        peer: u32,
        /// From 0.
        serial: u32,
    },
    /// The other side opened it. Numbered by whoever accepts.
    Incoming(u64),
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnId::Outgoing { peer, serial } => write!(f, "out-{peer}-{serial}"),
            ConnId::Incoming(serial) => write!(f, "in-{serial}"),
        }
    }
}

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum State {
    /// Nothing wanted, or waiting after an error.
    Idle,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// Connecting.
    Connect,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN was good.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl State {
    /// The RFC's name.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Active => "Active",
            State::Connect => "Connect",
            State::OpenSent => "OpenSent",
            State::OpenConfirm => "OpenConfirm",
            State::Established => "Established",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session is wanted.
    Start,
    /// The session is not wanted any more, or is to be taken down. After [`StopReason::restarts`] reasons it comes back
    /// by itself.
    Stop(StopReason),
    /// Time has passed.
    Tick,
    /// The connection asked for by [`Action::Connect`] is there.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// It could not be made.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// The system's words.
        error: String,
    },
    /// The peer connected to us. Who may connect is the owner's decision; it asks the peer only for the right address.
    Accepted {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// A message arrived. `Err`: something that the RFCs answer with this NOTIFICATION.
    Message {
        /// On which connection.
        conn: ConnId,
        /// See [`crate::packet::decode`].
        message: Result<Message, Notification>,
    },
    /// The connection is gone. `error`: empty when the peer closed it in the regular way.
    Closed {
        /// Which.
        conn: ConnId,
        /// The system's words.
        error: String,
    },
    /// The peer has stopped taking our bytes: the send buffer is full.
    Blocked {
        /// Which.
        conn: ConnId,
    },
    /// It takes some again.
    Unblocked {
        /// Which.
        conn: ConnId,
    },
    /// BFD says something about the path to the peer.
    Bfd(BfdVerdict),
    /// How the link to a directly connected peer is now. Until the first such event it is usable.
    Link(LinkState),
    /// After a start of the process: the initial tables are complete, so OPENs no longer say "restarting".
    Converged,
}

/// What BFD says about the path to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BfdVerdict {
    /// Packets pass both ways.
    Up,
    /// Nothing is known: it began anew, or the peer's operator took it down (RFC 5882 section 3.2).
    Silent,
    /// It was up, and the path or the peer failed.
    Failed {
        /// The peer's BFD does not end with its control plane: this is not just a restart of the peer's processes.
        independent: bool,
    },
}

/// How the link to a directly connected peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Packets may pass, as far as is known.
    Usable,
    /// It has no carrier, and the configuration says `check link`.
    NoCarrier,
    /// No interface of ours is on the peer's subnet any more.
    Gone,
}

/// Why a session is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// An operator disabled it. The text is sent to the peer (RFC 9003).
    AdministrativeShutdown(String),
    /// An operator restarts it. It starts again at once.
    AdministrativeReset(String),
    /// It is not in the configuration any more.
    Deconfigured,
    /// Its configuration changed in a way that needs a new session. It starts again when told to.
    ConfigurationChange,
    /// More prefixes than allowed; starts again by itself after the error wait when `restart`, else never.
    PrefixLimit {
        /// Start again?
        restart: bool,
    },
    /// We announce more routes than the protocol may; starts again as with [`StopReason::PrefixLimit`].
    ExportLimit {
        /// Start again?
        restart: bool,
    },
    /// This daemon lacks the means (a panic while handling the peer, memory). It starts again after the error wait.
    OutOfResources,
    /// BFD says that the path is down (RFC 9384). It starts again when BFD is up, at the latest after the error wait.
    BfdDown {
        /// The routes are kept as if the connection had broken, where graceful restart was agreed on.
        graceful: bool,
    },
    /// The link to the peer has no carrier. It starts again when there is one.
    LinkDown,
    /// The peer's subnet is none of ours any more. It starts again when it is.
    NeighborLost,
    /// The process ends. With graceful restart agreed the connection is closed without NOTIFICATION, so that the peer
    /// keeps our routes.
    ProcessExit,
}

impl StopReason {
    /// Does the session come back without another [`Event::Start`]?
    pub fn restarts(&self) -> bool {
        matches!(
            self,
            StopReason::AdministrativeReset(_)
                | StopReason::PrefixLimit { restart: true }
                | StopReason::ExportLimit { restart: true }
                | StopReason::OutOfResources
                | StopReason::BfdDown { .. }
                | StopReason::LinkDown
                | StopReason::NeighborLost
        )
    }
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer, and report [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect {
        /// The connection's id from now on.
        conn: ConnId,
    },
    /// Close the connection once everything sent before is written (bounded by a short wait), or give up connecting.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Send a message.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: ControlMessage,
    },
    /// The session is established: send the initial table, and End-of-RIB for every family.
    Up(Box<Negotiated>),
    /// The session is over.
    Down {
        /// Why.
        reason: DownReason,
        /// Families whose routes are kept, marked stale; those of the others go at once.
        retain: FamilySet,
    },
    /// Remove routes of this family still marked stale: the peer's table is complete, or it did not come back in time.
    SweepStale {
        /// Which family.
        family: AfiSafi,
    },
    /// The restart time of this family's stale routes is over, and they are kept on as long-lived stale ones (RFC 9494).
    LongLived {
        /// Which family.
        family: AfiSafi,
    },
    /// Apply an UPDATE.
    Update(Box<Update>),
    /// Send the family again ([`crate::packet::RefreshKind::Request`]), or what follows is everything.
    Refresh(RouteRefresh),
    /// The peer's state changed. For the log.
    StateChange {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// In words, without addresses.
        reason: String,
    },
}

/// Why an established session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// We were told to stop.
    Stopped(StopReason),
    /// We sent this.
    Sent(Notification),
    /// The peer sent this.
    Received(Notification),
    /// The connection broke.
    ConnectionLost(String),
    /// The peer opened a new connection while this one seemed alive: it restarted (RFC 4724 section 5).
    PeerRestarted,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Stopped(StopReason::AdministrativeShutdown(_)) => f.write_str("Administrative shutdown"),
            DownReason::Stopped(StopReason::AdministrativeReset(_)) => f.write_str("Administrative reset"),
            DownReason::Stopped(StopReason::Deconfigured) => f.write_str("Peer de-configured"),
            DownReason::Stopped(StopReason::ConfigurationChange) => f.write_str("Other configuration change"),
            DownReason::Stopped(StopReason::PrefixLimit { .. }) => f.write_str("Maximum number of prefixes reached"),
            DownReason::Stopped(StopReason::ExportLimit { .. }) => f.write_str("Export limit exceeded"),
            DownReason::Stopped(StopReason::OutOfResources) => f.write_str("Out of resources"),
            DownReason::Stopped(StopReason::BfdDown { .. }) => f.write_str("BFD session down"),
            DownReason::Stopped(StopReason::LinkDown) => f.write_str("Link down"),
            DownReason::Stopped(StopReason::NeighborLost) => f.write_str("Neighbor lost"),
            DownReason::Stopped(StopReason::ProcessExit) => f.write_str("Shutting down"),
            DownReason::Sent(notification) => write!(f, "{notification}"),
            DownReason::Received(notification) => write!(f, "Received: {notification}"),
            DownReason::ConnectionLost(error) if error.is_empty() => f.write_str("Connection closed"),
            DownReason::ConnectionLost(error) => write!(f, "Connection lost ({error})"),
            DownReason::PeerRestarted => f.write_str("Neighbor restarted"),
        }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The connection that carries the session.
    pub conn: ConnId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The peer's AS.
    pub peer_as: Asn,
    /// The peer's identifier.
    pub peer_id: RouterId,
    /// How to read and write messages; `context.families` are the session's families.
    pub context: SessionContext,
    /// Zero: no KEEPALIVEs and no hold timer.
    pub hold_time: Duration,
    /// Between our KEEPALIVEs; zero when the hold time is.
    pub keepalive_time: Duration,
    /// May we ask the peer to send everything again?
    pub route_refresh: bool,
    /// Are refreshes demarcated?
    pub enhanced_route_refresh: bool,
    /// The peer's graceful restart capability, if both sides have it.
    pub graceful_restart: Option<PeerGracefulRestart>,
    /// Which of its routes the peer asked us to keep beyond that, if both sides have long-lived graceful restart.
    pub long_lived: Option<Vec<LongLivedRoutes>>,
    /// What we offered.
    pub local_capabilities: Vec<Capability>,
    /// What the peer offered.
    pub peer_capabilities: Vec<Capability>,
}

impl Negotiated {
    /// How long the peer wants us to keep its routes of a family as a last resort; `None`: not at all.
    pub fn long_lived_time(&self, family: AfiSafi) -> Option<Duration> {
        let mut all = self.long_lived.iter().flatten();
        let time = all.find(|routes| routes.family == family)?.stale_time;
        (!time.is_zero()).then_some(time)
    }
}

/// What the peer said about a family of its routes in the long-lived graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLivedRoutes {
    /// Which family.
    pub family: AfiSafi,
    /// How long we keep them beyond the restart time; not zero.
    pub stale_time: Duration,
    /// It kept its forwarding state over its restart.
    pub forwarding: bool,
}

/// What the peer said about graceful restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerGracefulRestart {
    /// It has just restarted: its End-of-RIB comes late, and it must not wait for ours.
    pub restarting: bool,
    /// It keeps routes over NOTIFICATIONs, and so do we (RFC 8538).
    pub notification: bool,
    /// How long we keep its routes.
    pub restart_time: Duration,
    /// Families whose routes we keep when the session is lost.
    pub families: FamilySet,
    /// Families whose forwarding state it kept over its restart.
    pub forwarding: FamilySet,
}
