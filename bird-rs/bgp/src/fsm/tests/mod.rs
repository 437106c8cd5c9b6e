//! Two peers wired back to back, and single peers driven by hand.

mod collision;
mod long_lived;
mod network;
mod property;
mod restart;
mod session;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tortie_net::{Asn, RouterId};

use super::*;
use crate::packet::{AfiSafi, ControlMessage, FamilySet, Message, Notification, Open};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn both_families() -> FamilySet {
    AfiSafi::ALL.into_iter().collect()
}

fn config(local: u32, peer: u32, id: u32) -> PeerConfig {
    let mut config = PeerConfig::new(Asn(local), PeerAs::Exactly(Asn(peer)), RouterId(id), both_families());
    config.connect_delay = secs(2);
    config.connect_retry = secs(5);
    config.error_wait = (secs(5), secs(30));
    config.graceful_restart = GracefulRestartMode::On;
    config
}

/// Asks to keep IPv4 for ten minutes beyond the restart time, and IPv6 for twenty.
fn long_lived(mut config: PeerConfig) -> PeerConfig {
    config.long_lived = GracefulRestartMode::On;
    config.long_lived_times = vec![(AfiSafi::Ipv4Unicast, secs(600)), (AfiSafi::Ipv6Unicast, secs(1200))];
    config
}

fn open_of(config: &PeerConfig) -> Open {
    super::negotiate::our_open(config, false, true)
}

/// What one side of the wire did, other than sending.
#[derive(Debug, Default)]
struct Seen {
    ups: Vec<Negotiated>,
    downs: Vec<(DownReason, FamilySet)>,
    swept: Vec<AfiSafi>,
    aged: Vec<AfiSafi>,
    sent: Vec<ControlMessage>,
    states: Vec<(State, State)>,
}

/// A TCP connection between both sides.
#[derive(Debug)]
struct Wire {
    ends: [ConnId; 2],
    open: [bool; 2],
}

/// Two peers on a perfect network, one clock.
struct Pair {
    now: Duration,
    peers: [Peer; 2],
    seen: [Seen; 2],
    wires: Vec<Wire>,
    /// To which side, on its connection: bytes, or the end.
    flight: VecDeque<(usize, ConnId, Option<Bytes>)>,
    connects: VecDeque<(usize, ConnId)>,
    incoming: u64,
    /// Connections cannot be made now.
    partitioned: bool,
}

impl Pair {
    fn new(a: PeerConfig, b: PeerConfig) -> Self {
        let mut pair = Pair {
            now: Duration::ZERO,
            peers: [Peer::new(1, a, false), Peer::new(2, b, false)],
            seen: Default::default(),
            wires: Vec::new(),
            flight: VecDeque::new(),
            connects: VecDeque::new(),
            incoming: 0,
            partitioned: false,
        };
        pair.event(0, Event::Start);
        pair.event(1, Event::Start);
        pair
    }

    fn event(&mut self, side: usize, event: Event) {
        let mut actions = Vec::new();
        self.peers[side].handle(self.now, event, &mut actions);
        self.execute(side, actions);
    }

    fn execute(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect { conn } => self.connects.push_back((side, conn)),
                Action::Close { conn } => self.close(side, conn),
                Action::Send { conn, message } => {
                    if let Some(to) = self.other_end(side, conn) {
                        self.flight.push_back((1 - side, to, Some(message.encode())));
                    }
                    self.seen[side].sent.push(message);
                }
                Action::Up(negotiated) => self.seen[side].ups.push(*negotiated),
                Action::Down { reason, retain } => self.seen[side].downs.push((reason, retain)),
                Action::SweepStale { family } => self.seen[side].swept.push(family),
                Action::LongLived { family } => self.seen[side].aged.push(family),
                Action::StateChange { from, to, reason } => {
                    assert!(!reason.is_empty(), "{from} to {to} without a reason");
                    self.seen[side].states.push((from, to));
                }
                Action::Update(_) | Action::Refresh(_) => {}
            }
        }
    }

    fn other_end(&self, side: usize, conn: ConnId) -> Option<ConnId> {
        self.wires
            .iter()
            .find(|wire| wire.ends[side] == conn && wire.open[side])
            .map(|wire| wire.ends[1 - side])
    }

    fn close(&mut self, side: usize, conn: ConnId) {
        self.connects.retain(|connect| *connect != (side, conn));
        if let Some(to) = self.other_end(side, conn) {
            self.flight.push_back((1 - side, to, None));
        }
        for wire in self.wires.iter_mut().filter(|wire| wire.ends[side] == conn) {
            wire.open[side] = false;
        }
    }

    /// Breaks every connection: both sides see it, unless only one is to.
    fn cut(&mut self, sides: &[usize]) {
        for wire in std::mem::take(&mut self.wires) {
            for &side in sides {
                self.event(
                    side,
                    Event::Closed {
                        conn: wire.ends[side],
                        error: "connection reset".to_owned(),
                    },
                );
            }
        }
        self.flight.clear();
    }

    /// Lets everything under way arrive, then time pass until then.
    fn run_until(&mut self, until: Duration) {
        for _ in 0..100_000 {
            if let Some((side, conn)) = self.connects.pop_front() {
                self.finish_connect(side, conn);
            } else if let Some((side, conn, bytes)) = self.flight.pop_front() {
                self.deliver(side, conn, bytes);
            } else {
                let next = self.peers.iter().filter_map(Peer::next_deadline).min();
                let Some(next) = next.filter(|&next| next <= until) else {
                    self.now = until;
                    return;
                };
                self.now = self.now.max(next);
                self.event(0, Event::Tick);
                self.event(1, Event::Tick);
            }
        }
        panic!("it never comes to rest");
    }

    fn finish_connect(&mut self, side: usize, conn: ConnId) {
        if self.partitioned {
            return self.event(
                side,
                Event::ConnectFailed {
                    conn,
                    error: "no route to host".to_owned(),
                },
            );
        }
        let accepted = ConnId::Incoming(self.incoming);
        self.incoming += 1;
        let mut ends = [conn; 2];
        ends[1 - side] = accepted;
        self.wires.push(Wire { ends, open: [true; 2] });
        let (local, remote) = (addr("10.0.0.1:40000"), addr("10.0.0.2:179"));
        self.event(side, Event::Connected { conn, local, remote });
        self.event(
            1 - side,
            Event::Accepted {
                conn: accepted,
                local: remote,
                remote: local,
            },
        );
    }

    fn deliver(&mut self, side: usize, conn: ConnId, bytes: Option<Bytes>) {
        if !self.wires.iter().any(|wire| wire.ends[side] == conn && wire.open[side]) {
            return;
        }
        match bytes {
            Some(bytes) => {
                let mut actions = Vec::new();
                self.peers[side].receive(self.now, conn, &bytes, &mut actions);
                self.execute(side, actions);
            }
            None => {
                for wire in self.wires.iter_mut().filter(|wire| wire.ends[side] == conn) {
                    wire.open[side] = false;
                }
                self.event(
                    side,
                    Event::Closed {
                        conn,
                        error: String::new(),
                    },
                );
            }
        }
    }

    fn established(&self) -> bool {
        self.peers.iter().all(|peer| peer.state() == State::Established)
    }
}

/// One peer, its actions by hand.
struct Solo {
    now: Duration,
    peer: Peer,
    /// The last connection that it asked for.
    attempt: Option<ConnId>,
}

impl Solo {
    fn new(config: PeerConfig) -> Self {
        let mut solo = Solo {
            now: Duration::ZERO,
            peer: Peer::new(7, config, false),
            attempt: None,
        };
        solo.event(Event::Start);
        solo
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.peer.handle(self.now, event, &mut actions);
        let attempts = actions.iter().filter_map(|action| match action {
            Action::Connect { conn } => Some(*conn),
            _ => None,
        });
        self.attempt = attempts.last().or(self.attempt);
        actions
    }

    /// Nobody listens where it tries to connect to.
    fn refuse_attempt(&mut self) -> Vec<Action> {
        let error = "connection refused".to_owned();
        let conn = self.attempt.take();
        conn.map_or_else(Vec::new, |conn| self.event(Event::ConnectFailed { conn, error }))
    }

    fn accept(&mut self, serial: u64) -> (ConnId, Vec<Action>) {
        let conn = ConnId::Incoming(serial);
        let (local, remote) = (addr("10.0.0.1:179"), addr("10.0.0.2:40000"));
        (conn, self.event(Event::Accepted { conn, local, remote }))
    }

    fn message(&mut self, conn: ConnId, message: Message) -> Vec<Action> {
        self.event(Event::Message {
            conn,
            message: Ok(message),
        })
    }

    /// Brings a session up on a connection the peer opened.
    fn establish(&mut self, serial: u64, theirs: &PeerConfig) -> ConnId {
        self.refuse_attempt();
        let (conn, _) = self.accept(serial);
        self.message(conn, Message::Open(open_of(theirs)));
        self.message(conn, Message::Keepalive);
        assert_eq!(self.peer.state(), State::Established);
        conn
    }
}

fn notifications(actions: &[Action]) -> Vec<&Notification> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send {
                message: ControlMessage::Notification(notification),
                ..
            } => Some(notification),
            _ => None,
        })
        .collect()
}
