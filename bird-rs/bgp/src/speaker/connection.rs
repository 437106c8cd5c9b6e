//! Connections: frames out of octets, events to state machines, and what these want done.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};

use super::instance::{Instance, Kind};
use super::io::{ListenSpec, Log, LogEvent, Output};
use super::{SEND_WINDOW, Speaker};
use crate::config::Authentication;
use crate::fsm::{Action, ConnId, Event, State};
use crate::packet::{self, ControlMessage};
use crate::rib::SourceId;
use tortie_net::Prefix;

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) source: SourceId,
    /// An unfinished message.
    buffer: BytesMut,
    /// Octets given to the shell and not yet confirmed.
    unconfirmed: usize,
    /// Both OPENs as they were on the wire, ours first.
    pub(super) opens: [Bytes; 2],
}

impl Connection {
    fn new(source: SourceId) -> Self {
        Connection {
            source,
            buffer: BytesMut::new(),
            unconfirmed: 0,
            opens: [Bytes::new(), Bytes::new()],
        }
    }

    /// May more UPDATEs be sent?
    pub(super) fn has_room(&self) -> bool {
        self.unconfirmed < SEND_WINDOW
    }
}

impl Speaker {
    /// Whose connection it is, and the event for it.
    pub(super) fn connection_event(&mut self, conn: ConnId, event: Event, out: &mut Vec<Output>) {
        if let Some(source) = self.connections.get(&conn).map(|c| c.source) {
            self.peer_event(source, event, out);
        }
    }

    /// Gives an event to a protocol's state machine, if it has one, and does what that wants done.
    pub(super) fn peer_event(&mut self, source: SourceId, event: Event, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(session) = self.instance_mut(source).and_then(Instance::session_mut) else {
            return;
        };
        let mut actions = Vec::new();
        session.peer.handle(now, event, &mut actions);
        self.act(source, actions, out);
    }

    fn act(&mut self, source: SourceId, actions: Vec<Action>, out: &mut Vec<Output>) {
        // What we said last before the session ended: for monitoring stations.
        let mut goodbye = None;
        for action in actions {
            match action {
                Action::Connect { conn } => {
                    let Some(session) = self.instance(source).and_then(Instance::session) else {
                        continue;
                    };
                    let spec = session.connect_spec();
                    self.connections.insert(conn, Connection::new(source));
                    out.push(Output::Connect { conn, spec });
                }
                Action::Close { conn } => {
                    self.connections.remove(&conn);
                    out.push(Output::Close { conn });
                }
                Action::Send { conn, message } => {
                    let octets = message.encode();
                    match message {
                        ControlMessage::Open(_) => self.seen_open(conn, 0, octets.clone()),
                        ControlMessage::Notification(_) if self.carries(source, conn) => {
                            goodbye = Some(octets.clone());
                        }
                        ControlMessage::Notification(_)
                        | ControlMessage::Keepalive
                        | ControlMessage::RouteRefresh(_) => {}
                    }
                    self.send(conn, octets, out);
                }
                Action::Up(negotiated) => {
                    self.session_up(source, negotiated);
                    self.monitor_up(source, out);
                }
                Action::Down { reason, retain } => {
                    self.monitor_down(source, &reason, goodbye.take(), out);
                    self.session_down(source, &reason, retain, out);
                }
                Action::SweepStale { family } => self.sweep(source, family, out),
                Action::LongLived { family } => self.long_live(source, family, out),
                Action::Update(update) => self.apply(source, *update, out),
                Action::Refresh(refresh) => self.refresh(source, refresh, out),
                Action::StateChange { from, to, reason } => self.state_changed(source, from, to, reason, out),
            }
        }
    }

    fn seen_open(&mut self, conn: ConnId, side: usize, octets: Bytes) {
        let opens = self.connections.get_mut(&conn).map(|connection| &mut connection.opens);
        if let Some(open) = opens.and_then(|opens| opens.get_mut(side)) {
            *open = octets;
        }
    }

    /// Is this the connection of the session?
    fn carries(&self, source: SourceId, conn: ConnId) -> bool {
        let session = self.instance(source).and_then(Instance::session);
        let up = session.and_then(|session| session.up.as_ref());
        up.is_some_and(|up| up.conn == conn)
    }

    fn state_changed(&mut self, source: SourceId, from: State, to: State, reason: String, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        if from == State::Established || to == State::Established {
            instance.since = now;
        }
        out.push(Output::Log(Log {
            protocol: instance.config.name.clone(),
            event: LogEvent::State {
                from: from.as_str(),
                to: to.as_str(),
                reason,
                traced: instance.traced,
            },
        }));
    }

    /// Gives octets to the shell. The state machine learns that the peer has something to take.
    pub(super) fn send(&mut self, conn: ConnId, bytes: Bytes, out: &mut Vec<Output>) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let was_idle = connection.unconfirmed == 0;
        connection.unconfirmed += bytes.len();
        let source = connection.source;
        out.push(Output::Send { conn, bytes });
        if was_idle {
            self.peer_event(source, Event::Blocked { conn }, out);
        }
    }

    /// The peer has taken some octets. One that takes none for long is given up by its state machine (RFC 9687).
    pub(super) fn sent(&mut self, conn: ConnId, bytes: usize, out: &mut Vec<Output>) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        connection.unconfirmed = connection.unconfirmed.saturating_sub(bytes);
        let (source, idle) = (connection.source, connection.unconfirmed == 0);
        self.peer_event(source, Event::Unblocked { conn }, out);
        if !idle {
            self.peer_event(source, Event::Blocked { conn }, out);
        }
        if self.carries(source, conn) {
            self.feed_on(source, out);
        }
        self.wake_for(source);
    }

    /// Cuts frames out of what was received and gives them to the state machine, until it gives the connection up.
    pub(super) fn received(&mut self, conn: ConnId, bytes: Bytes, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let source = connection.source;
        // Mostly the buffer is empty, and whole messages are read from where they are.
        let mut rest = bytes;
        if !connection.buffer.is_empty() {
            connection.buffer.extend_from_slice(&rest);
            rest = std::mem::take(&mut connection.buffer).freeze();
        }
        loop {
            let Some(connection) = self.connections.get_mut(&conn) else {
                return;
            };
            let session = self.instances.get_mut(usize::from(source.0)).and_then(Option::as_mut);
            let Some(session) = session.and_then(Instance::session_mut) else {
                return;
            };
            let Some(context) = session.peer.context(conn) else {
                return;
            };
            let mut actions = Vec::new();
            match packet::frame_length(&rest, &context) {
                Ok(Some(length)) if rest.len() >= length => {
                    let frame = rest.split_to(length);
                    if packet::is_open(&frame) {
                        connection.opens[1] = Bytes::copy_from_slice(&frame);
                    }
                    session.peer.receive(now, conn, &frame, &mut actions);
                }
                Ok(_) => {
                    connection.buffer = BytesMut::from(&*rest);
                    return;
                }
                Err(notification) => {
                    rest.clear();
                    let message = Err(notification);
                    session.peer.handle(now, Event::Message { conn, message }, &mut actions);
                }
            }
            self.act(source, actions, out);
        }
    }

    /// Is a connection between these addresses one that a configured peer may open? A stranger's is not worth a task.
    pub fn expects(&self, local: IpAddr, remote: IpAddr) -> bool {
        let (local, remote) = (local.to_canonical(), remote.to_canonical());
        let mut enabled = self.instances.iter().flatten().filter(|i| i.enabled && !self.stopping);
        enabled.any(|instance| match &instance.kind {
            Kind::Bgp(session) => session.answers_to(remote, local),
            Kind::Range(range) => range.contains(remote),
            Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => false,
        })
    }

    /// Somebody connected to us.
    pub(super) fn incoming(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr, out: &mut Vec<Output>) {
        let (to, from) = (local.ip().to_canonical(), remote.ip().to_canonical());
        let mut sessions = self.instances.iter().flatten().filter(|i| i.enabled && !self.stopping);
        let known = sessions
            .find(|i| i.session().is_some_and(|s| s.answers_to(from, to)))
            .map(|i| i.source);
        let Some(source) = known.or_else(|| self.dynamic_peer(from, out)) else {
            out.push(Output::Close { conn });
            return;
        };
        self.connections.insert(conn, Connection::new(source));
        let event = Event::Accepted {
            conn,
            local: SocketAddr::new(to, local.port()),
            remote: SocketAddr::new(from, remote.port()),
        };
        self.peer_event(source, event, out);
    }

    /// Whoever connects from there is turned away; those whom it concerns show why.
    pub(super) fn unguarded(&mut self, peers: Prefix, reason: &str) {
        for instance in self.instances.iter_mut().flatten() {
            match &mut instance.kind {
                Kind::Bgp(session) if Prefix::host(session.remote) == peers => session.peer.cannot_accept(reason),
                Kind::Range(range) if super::session::neighbour(&range.config) == Err(peers) => {
                    range.unguarded = Some(reason.to_owned());
                }
                Kind::Bgp(_)
                | Kind::Range(_)
                | Kind::Origin(_)
                | Kind::Felix(_)
                | Kind::Kernel(_)
                | Kind::Roas(_)
                | Kind::Quiet => {}
            }
        }
    }

    /// Says where to listen, when that has changed.
    pub(super) fn listen(&mut self, out: &mut Vec<Output>) {
        let mut wanted: Vec<ListenSpec> = Vec::new();
        for instance in self.instances.iter().flatten().filter(|i| i.enabled && !self.stopping) {
            let (config, peers) = match &instance.kind {
                Kind::Bgp(session) if !session.is_dynamic() => (&session.config, Some(Prefix::host(session.remote))),
                Kind::Range(range) => (&range.config, super::session::neighbour(&range.config).err()),
                Kind::Bgp(_) | Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => {
                    continue;
                }
            };
            let spec = ListenSpec {
                address: config.local_address.filter(|_| config.transport.strict_bind),
                port: config.local_port,
                free_bind: config.transport.free_bind,
                keys: Vec::new(),
            };
            let authentication = &config.transport.authentication;
            let key = peers
                .filter(|_| *authentication != Authentication::None)
                .map(|peers| (peers, authentication.clone()));
            let same =
                |w: &&mut ListenSpec| (w.address, w.port, w.free_bind) == (spec.address, spec.port, spec.free_bind);
            match wanted.iter_mut().find(same) {
                Some(same) => same.keys.extend(key),
                None => wanted.push(ListenSpec {
                    keys: key.into_iter().collect(),
                    ..spec
                }),
            }
        }
        wanted.sort_unstable();
        if wanted != self.listening {
            self.listening.clone_from(&wanted);
            out.push(Output::Listen(wanted));
        }
    }
}
