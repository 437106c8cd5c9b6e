//! The task that owns the sessions.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tortie_bfd::{Action, Arrival, Discard, Hops, Key, Packet, Params, Report, Sessions};
use tortie_bgp::speaker::BfdSpec;

use super::{Seen, key, socket};
use crate::engine::Clock;

/// Datagrams taken of one socket before deadlines are looked at.
const BATCH: usize = 64;
/// What does not change a session's state is shown this late; sockets that could not be opened are tried again.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Task {
    clock: Clock,
    wanted: watch::Receiver<Arc<Vec<BfdSpec>>>,
    shown: watch::Sender<super::Sessions>,
    sessions: Sessions,
    protocols: HashMap<Key, Arc<str>>,
    listening: [Listening; 4],
    senders: HashMap<Key, UdpSocket>,
    next_port: u16,
    actions: Vec<Action>,
    /// Datagrams discarded since the last look, and why the last was.
    discarded: (u64, Option<Discard>),
}

/// The socket of a family and a port, while a session needs it.
struct Listening {
    v4: bool,
    hops: Hops,
    needed: bool,
    /// Why it could not be opened has been said.
    complained: bool,
    socket: Option<tokio::net::UdpSocket>,
}

impl Task {
    pub(super) fn new(
        clock: Clock,
        wanted: watch::Receiver<Arc<Vec<BfdSpec>>>,
        shown: watch::Sender<super::Sessions>,
    ) -> Self {
        let listening = |v4, hops| Listening {
            v4,
            hops,
            needed: false,
            complained: false,
            socket: None,
        };
        // Another one at each start: what peers still send to a predecessor's sessions must not fit ours.
        let seed = clock.unix_ms(clock.now()).unsigned_abs() ^ u64::from(std::process::id()) << 44;
        Task {
            clock,
            wanted,
            shown,
            sessions: Sessions::new(seed),
            protocols: HashMap::new(),
            listening: [
                listening(true, Hops::Single),
                listening(false, Hops::Single),
                listening(true, Hops::Multiple),
                listening(false, Hops::Multiple),
            ],
            senders: HashMap::new(),
            next_port: 0,
            actions: Vec::new(),
            discarded: (0, None),
        }
    }

    /// Runs until stopped.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<oneshot::Sender<()>>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.sessions.next_deadline();
            let wait = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
            tokio::select! {
                stop = &mut stopped => {
                    self.apply(&[]);
                    // Whoever asked may have gone; without anybody to ask the process ends anyway.
                    let _ = stop.map(|told| told.send(()));
                    return;
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.apply(&wanted);
                }
                () = readable(&self.listening) => self.receive(),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                _ = look.tick() => self.look(),
            }
            self.sessions.tick(self.clock.now(), &mut self.actions);
            self.execute();
        }
    }

    fn apply(&mut self, wanted: &[BfdSpec]) {
        let sessions: Vec<(Key, Params)> = wanted.iter().map(|spec| (key(&spec.key), params(spec))).collect();
        let protocol = |spec: &BfdSpec| (key(&spec.key), spec.protocol.clone());
        self.protocols = wanted.iter().map(protocol).collect();
        for listening in &mut self.listening {
            let needs = |key: &Key| key.hops == listening.hops && key.peer.is_ipv4() == listening.v4;
            listening.needed = sessions.iter().any(|(key, _)| needs(key));
            listening.complained = false;
        }
        self.open();
        self.sessions.want(self.clock.now(), &sessions, &mut self.actions);
        self.execute();
        self.show();
    }

    /// Opens the sockets that are needed and not there, and closes the others.
    fn open(&mut self) {
        for listening in &mut self.listening {
            if !listening.needed {
                listening.socket = None;
            } else if listening.socket.is_none() {
                match socket::listen(listening.v4, listening.hops) {
                    Ok(socket) => listening.socket = Some(socket),
                    Err(error) => {
                        let (port, ipv4) = (listening.hops.port(), listening.v4);
                        if !std::mem::replace(&mut listening.complained, true) {
                            tracing::error!(port, ipv4, %error, "cannot listen for BFD, trying again");
                        }
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        self.open();
        self.show();
        if let (count @ 1.., Some(reason)) = std::mem::take(&mut self.discarded) {
            tracing::debug!(count, %reason, "BFD packets discarded");
        }
    }

    fn receive(&mut self) {
        for at in 0..self.listening.len() {
            for _ in 0..BATCH {
                let Some(Listening {
                    hops,
                    socket: Some(socket),
                    ..
                }) = self.listening.get(at)
                else {
                    break;
                };
                let (hops, received) = (*hops, socket::receive(socket));
                let datagram = match received {
                    Ok(Some(datagram)) => datagram,
                    Ok(None) => continue,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            tracing::debug!(%error, "cannot receive BFD packets");
                        }
                        break;
                    }
                };
                let arrival = Arrival {
                    source: datagram.source,
                    destination: datagram.destination,
                    interface: &datagram.interface,
                    ttl: datagram.ttl,
                    hops,
                };
                let now = self.clock.now();
                let taken = self
                    .sessions
                    .receive(now, &arrival, datagram.octets(), &mut self.actions);
                if let Err(discard) = taken {
                    self.discarded = (self.discarded.0 + 1, Some(discard));
                }
            }
        }
    }

    fn execute(&mut self) {
        let mut changed = false;
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send(key, packet) => self.send(&key, &packet),
                Action::Report(report) => {
                    changed = true;
                    log(&report);
                }
                Action::Gone(key) => drop(self.senders.remove(&key)),
            }
        }
        if changed {
            self.show();
        }
    }

    /// A packet that cannot be sent is lost, as others are; the socket is made anew for the next one.
    fn send(&mut self, key: &Key, packet: &Packet) {
        let sender = match self.senders.remove(key) {
            Some(sender) => Ok(sender),
            None => socket::sender(key, &mut self.next_port),
        };
        let sent = sender.and_then(|sender| match sender.send(&packet.encode()) {
            // The kernel tells here what became of an earlier packet: the port is closed, or the buffer is full.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
                ) =>
            {
                Err(error)
            }
            Ok(_) | Err(_) => Ok(sender),
        });
        match sent {
            Ok(sender) => drop(self.senders.insert(key.clone(), sender)),
            Err(error) => tracing::trace!(peer = %key.peer, %error, "cannot send a BFD packet"),
        }
    }

    fn show(&self) {
        let seen = self.sessions.views().into_iter().filter_map(|view| {
            let protocol = self.protocols.get(&view.key)?.clone();
            Some(Seen { protocol, view })
        });
        let mut seen: Vec<Seen> = seen.collect();
        seen.sort_by(|a, b| a.protocol.cmp(&b.protocol));
        self.shown.send_if_modified(|shown| {
            let modified = **shown != seen;
            if modified {
                *shown = Arc::new(seen);
            }
            modified
        });
    }
}

fn params(spec: &BfdSpec) -> Params {
    let timing = spec.timing;
    Params {
        min_tx: timing.min_tx,
        min_rx: timing.min_rx,
        idle_tx: timing.idle_tx,
        detect_mult: timing.multiplier,
        passive: timing.passive,
    }
}

/// Waits until one of the sockets has something.
async fn readable(listening: &[Listening]) {
    poll_fn(|context| {
        for socket in listening.iter().filter_map(|listening| listening.socket.as_ref()) {
            // An error shows when reading.
            if socket.poll_recv_ready(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

fn log(report: &Report) {
    let (peer, from, to) = (report.key.peer, report.from.as_str(), report.to.as_str());
    let (interface, reason) = (
        report.key.interface.as_deref().unwrap_or_default(),
        report.cause.as_str(),
    );
    tracing::info!(%peer, interface, from, to, reason, "BFD session");
}
