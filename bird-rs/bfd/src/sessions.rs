//! All sessions of a router: which packet belongs to which (RFC 5880 section 6.3, RFC 5881 sections 3 to 5, RFC 5883
//! section 4), and when what is due.
//!
//! A session that is not wanted any more stays for a while, administratively down, so that the peer learns that this is no
//! fault of the path. A session that two clients want is one session.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::packet::{DecodeError, Diagnostic, Packet, State};
use crate::session::{Cause, Output, Params, SLOW, Session};

/// With this TTL a packet has passed no router (RFC 5881 section 5).
const TTL: u8 = 255;
/// How long a session that is not wanted any more says so.
const FAREWELL: Duration = Duration::from_secs(3);
const _: () = assert!(FAREWELL.as_secs() >= 2 * SLOW.as_secs());

/// How far the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hops {
    /// On the same link: UDP port 3784.
    Single,
    /// Behind routers: UDP port 4784.
    Multiple,
}

impl Hops {
    /// The UDP port that packets go to.
    pub fn port(self) -> u16 {
        match self {
            Hops::Single => 3784,
            Hops::Multiple => 4784,
        }
    }
}

/// What a session is between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The peer's address.
    pub peer: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// The link, of a session over a single hop.
    pub interface: Option<Arc<str>>,
    /// How far.
    pub hops: Hops,
}

/// A datagram's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'n> {
    /// Who sent it.
    pub source: IpAddr,
    /// To which address of ours.
    pub destination: IpAddr,
    /// On which interface.
    pub interface: &'n str,
    /// The TTL or hop limit it arrived with.
    pub ttl: u8,
    /// By the port it was sent to.
    pub hops: Hops,
}

/// Why a datagram was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// It is not from the link that it claims to be from.
    #[error("TTL {0} is not 255")]
    Ttl(u8),
    /// It is no good packet.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// No session has this discriminator, or none is wanted between these addresses.
    #[error("no such session")]
    NoSession,
    /// The session of this discriminator is with another peer, or on another link.
    #[error("the session is not with this peer")]
    WrongPeer,
}

/// What became of a session, for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub key: Key,
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The C bit of the last packet of the peer: its BFD does not end with its control plane (RFC 5882 section 4.3).
    pub control_plane_independent: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this packet to the peer of this session, from its own port.
    Send(Key, Packet),
    /// Tell the client.
    Report(Report),
    /// The session is gone: close its socket.
    Gone(Key),
}

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Between whom.
    pub key: Key,
    /// Its state.
    pub state: State,
    /// What the peer says its state is; `None` while it is not heard.
    pub remote_state: Option<State>,
    /// Why it left Up last.
    pub diagnostic: Diagnostic,
    /// Since when it has its state.
    pub since: Duration,
    /// Between our packets.
    pub interval: Option<Duration>,
    /// The detection time.
    pub timeout: Option<Duration>,
    /// How often it left Up because the path or the peer failed.
    pub failures: u64,
    /// The C bit of the peer's last packet.
    pub control_plane_independent: bool,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    session: Session,
    since: Duration,
    failures: u64,
    /// The peer's C bit; stays when it is not heard any more.
    independent: bool,
    /// Not wanted any more: gone then.
    ends: Option<Duration>,
    /// Its place among the deadlines.
    due: Option<Duration>,
}

/// The sessions of a router.
#[derive(Debug)]
pub struct Sessions {
    entries: HashMap<NonZeroU32, Entry>,
    by_key: HashMap<Key, NonZeroU32>,
    deadlines: BTreeSet<(Duration, NonZeroU32)>,
    /// Of the next discriminator.
    seed: u64,
}

impl Sessions {
    /// None yet. Discriminators follow from `seed`; a process that starts again needs another one, or its peers take its
    /// packets for those of its predecessor.
    pub fn new(seed: u64) -> Self {
        Sessions {
            entries: HashMap::new(),
            by_key: HashMap::new(),
            deadlines: BTreeSet::new(),
            seed,
        }
    }

    /// Makes these the sessions that are wanted; of several with one key the first counts.
    pub fn want(&mut self, now: Duration, wanted: &[(Key, Params)], out: &mut Vec<Action>) {
        let mut kept: BTreeSet<NonZeroU32> = BTreeSet::new();
        for (key, params) in wanted {
            match self.by_key.get(key).copied() {
                Some(name) if kept.contains(&name) => {}
                Some(name) if self.entries.get(&name).is_some_and(|entry| entry.ends.is_none()) => {
                    kept.insert(name);
                    self.with(now, name, out, |session, _| session.set_params(now, *params));
                }
                old => {
                    // One that is about to go makes room.
                    old.into_iter().for_each(|name| self.remove(name));
                    kept.insert(self.add(now, key, *params));
                }
            }
        }
        let unwanted: Vec<NonZeroU32> = self
            .entries
            .keys()
            .copied()
            .filter(|name| !kept.contains(name))
            .collect();
        for name in unwanted {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.ends = entry.ends.or(Some(now + FAREWELL));
            }
            self.with(now, name, out, |session, outputs| session.shut(now, outputs));
        }
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Why it was discarded: nothing has changed then.
    pub fn receive(
        &mut self,
        now: Duration,
        arrival: &Arrival<'_>,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        if arrival.hops == Hops::Single && arrival.ttl != TTL {
            return Err(Discard::Ttl(arrival.ttl));
        }
        let packet = Packet::decode(octets)?;
        let name = match packet.your_discriminator {
            Some(name) => name,
            None => self.find(arrival).ok_or(Discard::NoSession)?,
        };
        let entry = self.entries.get_mut(&name).ok_or(Discard::NoSession)?;
        if !belongs(&entry.key, arrival) {
            return Err(Discard::WrongPeer);
        }
        entry.independent = packet.control_plane_independent;
        self.with(now, name, out, |session, outputs| {
            session.receive(now, &packet, outputs)
        });
        Ok(())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        let after = (now, NonZeroU32::MAX);
        let due: Vec<NonZeroU32> = self.deadlines.range(..=after).map(|(_, name)| *name).collect();
        for name in due {
            let ends = self.entries.get(&name).and_then(|entry| entry.ends);
            if ends.is_some_and(|ends| ends <= now) {
                let key = self.entries.get(&name).map(|entry| entry.key.clone());
                self.remove(name);
                out.extend(key.map(Action::Gone));
            } else {
                self.with(now, name, out, |session, outputs| session.tick(now, outputs));
            }
        }
    }

    /// When to call [`Sessions::tick`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// All sessions that are wanted, by peer.
    pub fn views(&self) -> Vec<View> {
        let wanted = self.entries.values().filter(|entry| entry.ends.is_none());
        let mut views: Vec<View> = wanted.map(Entry::view).collect();
        views.sort_by(|a, b| a.key.cmp(&b.key));
        views
    }

    // === the table ===

    fn find(&self, arrival: &Arrival<'_>) -> Option<NonZeroU32> {
        let key = Key {
            peer: arrival.source,
            local: arrival.destination,
            interface: (arrival.hops == Hops::Single).then(|| arrival.interface.into()),
            hops: arrival.hops,
        };
        self.by_key.get(&key).copied()
    }

    fn add(&mut self, now: Duration, key: &Key, params: Params) -> NonZeroU32 {
        let name = self.discriminator();
        let entry = Entry {
            key: key.clone(),
            session: Session::new(now, name, params),
            since: now,
            failures: 0,
            independent: false,
            ends: None,
            due: None,
        };
        self.entries.insert(name, entry);
        self.by_key.insert(key.clone(), name);
        self.arm(name);
        name
    }

    /// A discriminator that nobody has, not to be guessed by counting.
    fn discriminator(&mut self) -> NonZeroU32 {
        loop {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut hash = self.seed;
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let low = u32::try_from(hash >> 32).ok().and_then(NonZeroU32::new);
            if let Some(name) = low.filter(|name| !self.entries.contains_key(name)) {
                return name;
            }
        }
    }

    fn remove(&mut self, name: NonZeroU32) {
        let Some(entry) = self.entries.remove(&name) else {
            return;
        };
        entry.due.inspect(|due| {
            self.deadlines.remove(&(*due, name));
        });
        if self.by_key.get(&entry.key) == Some(&name) {
            self.by_key.remove(&entry.key);
        }
    }

    /// Gives a session something to do, passes on what it answers, and sets its clock.
    fn with(
        &mut self,
        now: Duration,
        name: NonZeroU32,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Session, &mut Vec<Output>),
    ) {
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        let mut outputs = Vec::new();
        act(&mut entry.session, &mut outputs);
        for output in outputs {
            out.push(entry.translate(now, output));
        }
        self.arm(name);
    }

    fn arm(&mut self, name: NonZeroU32) {
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        let due = entry.session.next_deadline().into_iter().chain(entry.ends).min();
        let before = std::mem::replace(&mut entry.due, due);
        if before != due {
            before.inspect(|at| {
                self.deadlines.remove(&(*at, name));
            });
            self.deadlines.extend(due.map(|at| (at, name)));
        }
    }
}

impl Entry {
    fn translate(&mut self, now: Duration, output: Output) -> Action {
        let (from, to, cause) = match output {
            Output::Send(packet) => return Action::Send(self.key.clone(), packet),
            Output::Changed { from, to, cause } => (from, to, cause),
        };
        self.since = now;
        if from == State::Up && matches!(cause, Cause::Expired | Cause::RemoteDown) {
            self.failures += 1;
        }
        Action::Report(Report {
            key: self.key.clone(),
            from,
            to,
            cause,
            control_plane_independent: self.independent,
        })
    }

    fn view(&self) -> View {
        View {
            key: self.key.clone(),
            state: self.session.state(),
            remote_state: self.session.remote().map(|packet| packet.state),
            diagnostic: self.session.diagnostic(),
            since: self.since,
            interval: self.session.interval(),
            timeout: self.session.detection_time(),
            failures: self.failures,
            control_plane_independent: self.independent,
        }
    }
}

/// May a packet with a session's discriminator be the peer's? Who else knows it has guessed it.
fn belongs(key: &Key, arrival: &Arrival<'_>) -> bool {
    key.hops == arrival.hops
        && key.peer == arrival.source
        && key.local == arrival.destination
        && key
            .interface
            .as_deref()
            .is_none_or(|interface| interface == arrival.interface)
}
