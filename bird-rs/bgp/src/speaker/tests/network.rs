//! A network in memory: connections that keep order, a clock that jumps, nodes that die.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tortie_net::Prefix;
use tortie_replica::Delta;

use super::told::Told;
use crate::bmp::Message;
use crate::config::{Config, NoInclude, parse};
use crate::speaker::{
    BfdSpec, CacheSpec, Command, ConnId, FibRoute, Input, InterfaceAddress, ListenSpec, Log, LogEvent, Operated,
    Output, ProtocolStatus, RouteQuery, RouteView, Speaker,
};

/// A configuration from text, which must be right.
pub(super) fn config(text: &str) -> Arc<Config> {
    match parse("test.conf", text, &mut NoInclude) {
        Ok(config) => Arc::new(config),
        Err(errors) => panic!("{errors:#?}\n{text}"),
    }
}

/// One router and what it did.
pub(super) struct Node {
    pub(super) speaker: Speaker,
    pub(super) address: IpAddr,
    pub(super) fib: BTreeMap<Prefix, FibRoute>,
    pub(super) fib_deletes: usize,
    pub(super) in_sync: usize,
    pub(super) logs: Vec<Log>,
    pub(super) listening: Vec<ListenSpec>,
    pub(super) bfd: Vec<BfdSpec>,
    /// What its stations were told.
    pub(super) monitored: Vec<Message>,
    pub(super) caches: Vec<CacheSpec>,
    /// Octets are not taken from it while this is set; they wait here.
    pub(super) slow: bool,
    /// Or only its UPDATEs are not.
    pub(super) holds_updates: bool,
    waiting: Vec<(ConnId, Bytes)>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Network {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Option<Node>>,
    links: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    queue: VecDeque<(usize, Input)>,
    accepted: u64,
    told: Told,
    /// What is sent arrives in pieces of so many octets; by default in two.
    pub(super) piece: Option<usize>,
}

impl Network {
    /// Starts a router. All are on one segment.
    pub(super) fn start(&mut self, at: usize, address: &str, text: &str) {
        let address: IpAddr = address.parse().unwrap();
        let speaker = Speaker::new(self.now, config(text)).unwrap();
        let node = Node {
            speaker,
            address,
            fib: BTreeMap::new(),
            fib_deletes: 0,
            in_sync: 0,
            logs: Vec::new(),
            listening: Vec::new(),
            bfd: Vec::new(),
            monitored: Vec::new(),
            caches: Vec::new(),
            slow: false,
            holds_updates: false,
            waiting: Vec::new(),
        };
        if self.nodes.len() <= at {
            self.nodes.resize_with(at + 1, || None);
        }
        self.nodes[at] = Some(node);
        self.input(at, Input::Interfaces(interfaces(address)));
        self.input(at, Input::Tick);
    }

    /// The process dies: its connections break.
    pub(super) fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
        self.queue.retain(|(node, _)| *node != at);
        self.told.gone(at);
        let ends: Vec<_> = self.links.keys().filter(|(node, _)| *node == at).copied().collect();
        for end in ends {
            self.cut(end, "connection reset by peer");
        }
    }

    /// Breaks all connections of a node without killing it.
    pub(super) fn cut_all(&mut self, at: usize) {
        let ends: Vec<_> = self.links.keys().filter(|(node, _)| *node == at).copied().collect();
        for end in ends {
            self.queue.push_back((
                end.0,
                Input::Closed {
                    conn: end.1,
                    reason: "broken".to_owned(),
                },
            ));
            self.cut(end, "broken");
        }
    }

    fn cut(&mut self, end: (usize, ConnId), reason: &str) {
        self.told.ended(end);
        if let Some((node, conn)) = self.links.remove(&end) {
            self.links.remove(&(node, conn));
            self.told.ended((node, conn));
            self.queue.push_back((
                node,
                Input::Closed {
                    conn,
                    reason: reason.to_owned(),
                },
            ));
        }
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap()
    }

    pub(super) fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().unwrap()
    }

    /// Gives a node an input and delivers what comes of it.
    pub(super) fn input(&mut self, at: usize, input: Input) {
        let now = self.now;
        let Some(Some(node)) = self.nodes.get_mut(at) else {
            return;
        };
        if let Input::Command { command, .. } = &input {
            self.told.commanded(*command, ends_of(&self.links, at));
        }
        let mut out = Vec::new();
        node.speaker.handle(now, input, &mut out);
        self.deliver(at, out);
    }

    /// An operator's command at a node.
    pub(super) fn operate(&mut self, at: usize, name: &str, command: Command, reason: &str) -> Operated {
        let (now, mut out) = (self.now, Vec::new());
        self.told.commanded(command, ends_of(&self.links, at));
        let what = (name, command);
        let operated = self.node_mut(at).speaker.operate(now, what, reason, &mut out);
        self.deliver(at, out);
        operated
    }

    /// What a shell does when its queue is empty: nothing, unless the speaker has said that something is due.
    fn settle(&mut self, at: usize) {
        let now = self.now;
        let due = |node: &Node| node.speaker.next_deadline().is_some_and(|deadline| deadline <= now);
        if self.nodes[at].as_ref().is_some_and(due) {
            self.input(at, Input::Tick);
        }
    }

    fn deliver(&mut self, at: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Connect { conn, spec } => self.connect(at, conn, spec.remote),
                Output::Close { conn } => self.cut((at, conn), ""),
                Output::Send { conn, bytes } => {
                    let ends = ((at, conn), self.links.get(&(at, conn)).copied());
                    if let Some(Some(node)) = self.nodes.get(at) {
                        self.told.note(&node.speaker, ends, &bytes);
                    }
                    let is_update = bytes.get(18) == Some(&2);
                    if self.node(at).slow || (self.node(at).holds_updates && is_update) {
                        self.node_mut(at).waiting.push((conn, bytes));
                    } else {
                        self.transmit(at, conn, bytes);
                    }
                }
                Output::Fib(delta) => {
                    let node = self.node_mut(at);
                    match delta {
                        Delta::Set(net, route) => {
                            assert_ne!(node.fib.get(&net), Some(&route), "a change that changes nothing");
                            node.fib.insert(net, route);
                        }
                        Delta::Delete(net) => {
                            assert!(node.fib.remove(&net).is_some(), "deletes what is not there");
                            node.fib_deletes += 1;
                        }
                        Delta::InSync => node.in_sync += 1,
                    }
                }
                Output::Log(log) => self.node_mut(at).logs.push(log),
                Output::Exports(_) => {}
                Output::Monitor(messages) => self.node_mut(at).monitored.extend(messages),
                Output::MonitorLost => panic!("more happened than can be noted"),
                Output::Kernels(_) | Output::Kernel { .. } => {}
                Output::Caches(specs) => self.node_mut(at).caches = specs,
                Output::Bfd(specs) => self.node_mut(at).bfd = specs,
                Output::Listen(specs) => self.node_mut(at).listening = specs,
            }
        }
    }

    fn transmit(&mut self, at: usize, conn: ConnId, bytes: Bytes) {
        let sent = Input::Sent {
            conn,
            bytes: bytes.len(),
        };
        if let Some(&(to, conn)) = self.links.get(&(at, conn)) {
            // Cut in the middle, as TCP may.
            let piece = self.piece.unwrap_or(bytes.len() - bytes.len() / 3);
            for part in bytes.chunks(piece.max(1)) {
                let bytes = Bytes::copy_from_slice(part);
                self.queue.push_back((to, Input::Received { conn, bytes }));
            }
        }
        self.queue.push_back((at, sent));
    }

    /// A slow node's octets go out after all, all of a connection's at once.
    pub(super) fn hurry(&mut self, at: usize) {
        self.node_mut(at).slow = false;
        self.node_mut(at).holds_updates = false;
        let mut together: Vec<(ConnId, BytesMut)> = Vec::new();
        for (conn, bytes) in std::mem::take(&mut self.node_mut(at).waiting) {
            match together.iter_mut().find(|(other, _)| *other == conn) {
                Some((_, waiting)) => waiting.extend_from_slice(&bytes),
                None => together.push((conn, BytesMut::from(&bytes[..]))),
            }
        }
        for (conn, bytes) in together {
            self.transmit(at, conn, bytes.freeze());
        }
    }

    fn connect(&mut self, at: usize, conn: ConnId, remote: SocketAddr) {
        let local = SocketAddr::new(self.node(at).address, 40_000);
        let to = self.nodes.iter().position(|n| {
            n.as_ref()
                .is_some_and(|n| n.address == remote.ip() && n.listening.iter().any(|l| l.port == remote.port()))
        });
        let Some(to) = to else {
            let reason = "connection refused".to_owned();
            self.queue.push_back((at, Input::ConnectFailed { conn, reason }));
            return;
        };
        self.accepted += 1;
        let theirs = ConnId::Incoming(self.accepted);
        self.links.insert((at, conn), (to, theirs));
        self.links.insert((to, theirs), (at, conn));
        self.queue.push_back((at, Input::Connected { conn, local, remote }));
        self.queue.push_back((
            to,
            Input::Incoming {
                conn: theirs,
                local: remote,
                remote: local,
            },
        ));
    }

    /// Delivers everything under way without letting time pass.
    pub(super) fn quiesce(&mut self) {
        for _ in 0..1_000_000 {
            while let Some((at, input)) = self.queue.pop_front() {
                self.input(at, input);
            }
            for at in 0..self.nodes.len() {
                self.settle(at);
            }
            if self.queue.is_empty() {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..1_000_000 {
            self.quiesce();
            let due = |node: &Node| node.speaker.next_deadline();
            let next = self.nodes.iter().flatten().filter_map(due).min();
            match next.filter(|next| *next <= until) {
                Some(next) => {
                    self.now = self.now.max(next);
                    for at in 0..self.nodes.len() {
                        self.input(at, Input::Tick);
                    }
                }
                None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    pub(super) fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    pub(super) fn protocol(&self, at: usize, name: &str) -> ProtocolStatus {
        self.node(at)
            .speaker
            .protocols()
            .into_iter()
            .find(|p| &*p.name == name)
            .unwrap()
    }

    pub(super) fn established(&self, at: usize, name: &str) -> bool {
        self.protocol(at, name)
            .bgp
            .is_some_and(|bgp| bgp.state == "Established")
    }

    /// The best route to a prefix.
    pub(super) fn best(&self, at: usize, prefix: &str) -> Option<RouteView> {
        let query = RouteQuery {
            prefix: Some(prefix.parse().unwrap()),
            best_only: true,
            ..RouteQuery::default()
        };
        self.node(at).speaker.routes(&query).pop()
    }

    /// UPDATE messages that a node has sent.
    pub(super) fn updates_sent(&self, at: usize) -> u64 {
        self.node(at)
            .speaker
            .protocols()
            .iter()
            .filter_map(|p| p.bgp.as_ref())
            .map(|b| b.updates_sent)
            .sum()
    }

    /// A node's connection with another.
    pub(super) fn connection(&self, at: usize, with: usize) -> ConnId {
        let (own, _) = self
            .links
            .iter()
            .find(|(own, other)| own.0 == at && other.0 == with)
            .unwrap();
        own.1
    }

    pub(super) fn logged(&self, at: usize, wanted: impl Fn(&LogEvent) -> bool) -> usize {
        self.node(at).logs.iter().filter(|log| wanted(&log.event)).count()
    }
}

/// A node's ends of its connections.
fn ends_of(
    links: &BTreeMap<(usize, ConnId), (usize, ConnId)>,
    at: usize,
) -> impl Iterator<Item = (usize, ConnId)> + '_ {
    links.keys().filter(move |end| end.0 == at).copied()
}

/// An IPv4 address in a /24, and an IPv6 address and a link-local one that end alike.
fn interfaces(address: IpAddr) -> Vec<InterfaceAddress> {
    let IpAddr::V4(v4) = address else {
        panic!("nodes have IPv4 addresses")
    };
    let last = v4.octets()[3];
    let entry = |address: &str, len: u8| {
        let address: IpAddr = address.parse().unwrap();
        InterfaceAddress {
            interface: "eth0".into(),
            address,
            subnet: Prefix::new(address, len).unwrap(),
        }
    };
    vec![
        entry(&v4.to_string(), 24),
        entry(&format!("fd00::{last:x}"), 64),
        entry(&format!("fe80::{last:x}"), 64),
    ]
}
