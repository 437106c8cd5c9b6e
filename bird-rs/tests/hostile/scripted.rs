//! A BGP speaker that does what a test says, byte by byte. It shares no code with what it is to harm.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use crate::framed::Framed;
use crate::lab::{Lab, PATIENCE, eventually, eventually_or};

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// Where bird-rs listens.
const SPEAKER: ([u8; 4], u16) = ([10, 77, 0, 1], 179);

/// A connection from an address of side b. `window` is the size of its receive buffer in octets.
pub(crate) fn connect(lab: &Lab, from: [u8; 4], window: Option<usize>) -> io::Result<TcpStream> {
    let netns = format!("/run/netns/{}", lab.netns("b"));
    // Threads have network namespaces of their own; this one ends in the other.
    let thread = std::thread::spawn(move || -> io::Result<TcpStream> {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(window) = window {
            socket.set_recv_buffer_size(window)?;
        }
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from(SPEAKER).into(), Duration::from_secs(10))?;
        Ok(socket.into())
    });
    thread.join().unwrap()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// IPv4, four-octet AS numbers and extended messages.
pub(crate) fn capabilities(asn: u16) -> Vec<u8> {
    let mut octets = vec![1, 4, 0, 1, 0, 1, 65, 4, 0, 0];
    octets.extend(asn.to_be_bytes());
    octets.extend([6, 0]);
    octets
}

/// An OPEN with those.
pub(crate) fn open(asn: u16, hold: u16, id: [u8; 4]) -> Vec<u8> {
    let capabilities = capabilities(asn);
    let length = u8::try_from(capabilities.len()).unwrap();
    open_with(asn, hold, id, &[&[length + 2, 2, length][..], &capabilities].concat())
}

/// An OPEN with these optional parameters, their length in front.
pub(crate) fn open_with(asn: u16, hold: u16, id: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id);
    body.extend(parameters);
    message(OPEN, &body)
}

/// An attribute, its length in two octets only where one will not do.
pub(crate) fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut octets = match u8::try_from(value.len()) {
        Ok(length) => vec![flags, kind, length],
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
            vec![flags | 0x10, kind, high, low]
        }
    };
    octets.extend(value);
    octets
}

/// ORIGIN, AS_PATH, NEXT_HOP and perhaps MED.
pub(crate) fn attributes(path: &[u16], next_hop: [u8; 4], med: Option<u32>) -> Vec<u8> {
    let mut as_path = Vec::new();
    for segment in path.chunks(255) {
        as_path.extend([2, u8::try_from(segment.len()).unwrap()]);
        for asn in segment {
            as_path.extend(u32::from(*asn).to_be_bytes());
        }
    }
    let mut octets = attribute(0x40, 1, &[0]);
    octets.extend(attribute(0x40, 2, &as_path));
    octets.extend(attribute(0x40, 3, &next_hop));
    if let Some(med) = med {
        octets.extend(attribute(0x80, 4, &med.to_be_bytes()));
    }
    octets
}

/// The numbered /24 out of 20.0.0.0/6 and what follows.
pub(crate) fn prefix(number: u32) -> [u8; 4] {
    let [_, high, middle, low] = number.to_be_bytes();
    [24, 20 + high, middle, low]
}

pub(crate) fn update(attributes: &[u8], routes: &[[u8; 4]]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend(routes.iter().flatten());
    message(UPDATE, &body)
}

/// A session of the test's.
pub(crate) struct Peer {
    pub(crate) framed: Framed,
    address: [u8; 4],
    asn: u16,
}

impl Peer {
    /// Connects until there is a session.
    pub(crate) fn established(lab: &Lab, number: u8, hold: u16, window: Option<usize>) -> Self {
        eventually_or(|| Peer::attempt(lab, number, hold, window))
    }

    fn attempt(lab: &Lab, number: u8, hold: u16, window: Option<usize>) -> io::Result<Self> {
        let asn = 65_000 + u16::from(number);
        Peer::greet(lab, number, &open(asn, hold, [10, 77, 0, number]), window)
    }

    /// One attempt at a session, with this OPEN.
    pub(crate) fn greet(lab: &Lab, number: u8, open: &[u8], window: Option<usize>) -> io::Result<Self> {
        let address = [10, 77, 0, number];
        let asn = 65_000 + u16::from(number);
        let stream = connect(lab, address, window)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut peer = Peer {
            framed: Framed::new(stream),
            address,
            asn,
        };
        peer.framed.stream.write_all(open)?;
        peer.framed.stream.write_all(&message(KEEPALIVE, &[]))?;
        for wanted in [OPEN, KEEPALIVE] {
            let (kind, body) = peer.framed.receive()?;
            if kind != wanted {
                return Err(io::Error::other(format!("message {kind} {body:?} and not {wanted}")));
            }
        }
        Ok(peer)
    }

    /// Announces numbered routes, many in each message.
    pub(crate) fn announce(&mut self, numbers: std::ops::Range<u32>, med: u32) -> io::Result<()> {
        let attributes = attributes(&[self.asn], self.address, Some(med));
        let routes: Vec<[u8; 4]> = numbers.map(prefix).collect();
        for part in routes.chunks(900) {
            self.framed.stream.write_all(&update(&attributes, part))?;
        }
        Ok(())
    }

    /// Reads until a NOTIFICATION: its code and subcode.
    pub(crate) fn notified(&mut self) -> (u8, u8) {
        loop {
            let (kind, body) = self.framed.receive().unwrap();
            if kind == NOTIFICATION {
                return (body[0], body[1]);
            }
        }
    }
}

/// Puts the routes of an UPDATE into a table, and takes out what it withdraws.
pub(crate) fn apply(body: &[u8], table: &mut HashSet<Vec<u8>>) {
    let split = |from: usize| {
        let length = usize::from(u16::from_be_bytes([body[from], body[from + 1]]));
        (from + 2, from + 2 + length)
    };
    let (from, to) = split(0);
    for route in routes(&body[from..to]) {
        table.remove(&route);
    }
    let (_, to) = split(to);
    table.extend(routes(&body[to..]));
}

fn routes(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(&bits) = octets.first() {
        let (route, rest) = octets.split_at(1 + usize::from(bits).div_ceil(8));
        out.push(route.to_vec());
        octets = rest;
    }
    out
}

#[derive(Default)]
struct Seen {
    keepalives: AtomicU64,
    /// Milliseconds.
    longest_silence: AtomicU64,
    leaving: AtomicBool,
    table: Mutex<HashSet<Vec<u8>>>,
    ended: Mutex<Option<String>>,
}

/// A healthy peer with a hold time of six seconds, which notes how long it hears nothing.
pub(crate) struct Witness {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// Twice the shortest there is: a machine that is busy is not a RIB that is.
const HOLD: Duration = Duration::from_secs(6);

impl Witness {
    pub(crate) fn start(lab: &Lab) -> Self {
        let peer = Peer::established(lab, 2, 6, None);
        peer.framed
            .stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        let thread = std::thread::spawn(move || {
            if let Err(error) = watch(peer, &shared) {
                *shared.ended.lock().unwrap() = Some(error.to_string());
            }
        });
        Witness {
            seen,
            thread: Some(thread),
        }
    }

    /// Waits until it has so many routes.
    pub(crate) fn has(&self, count: usize) {
        eventually_or(|| {
            self.is_well();
            let now = self.seen.table.lock().unwrap().len();
            if now == count {
                Ok(())
            } else {
                Err(format!("the witness has {now} routes, wanted {count}"))
            }
        });
    }

    pub(crate) fn has_route(&self, route: &[u8]) -> bool {
        self.seen.table.lock().unwrap().contains(route)
    }

    /// The session never ended and was never silent for its hold time.
    pub(crate) fn is_well(&self) {
        let ended = self.seen.ended.lock().unwrap().clone();
        assert_eq!(ended, None, "the witness's session ended");
        let silence = Duration::from_millis(self.seen.longest_silence.load(Ordering::Relaxed));
        assert!(silence < HOLD, "the witness heard nothing for {silence:?}");
    }

    /// So it is, and three more keepalives come.
    pub(crate) fn stays_well(&self) {
        let before = self.seen.keepalives.load(Ordering::Relaxed);
        eventually("three more keepalives", || {
            self.is_well();
            (self.seen.keepalives.load(Ordering::Relaxed) >= before + 3).then_some(())
        });
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.seen.leaving.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(mut peer: Peer, seen: &Seen) -> io::Result<()> {
    let (mut heard, mut spoke) = (Instant::now(), Instant::now());
    while !seen.leaving.load(Ordering::Relaxed) {
        if spoke.elapsed() > Duration::from_millis(800) {
            peer.framed.stream.write_all(&message(KEEPALIVE, &[]))?;
            spoke = Instant::now();
        }
        let (kind, body) = match peer.framed.receive() {
            Ok(message) => message,
            // Only now: what waits in the socket was said, however late this thread comes to read it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let silence = u64::try_from(heard.elapsed().as_millis()).unwrap();
                seen.longest_silence.fetch_max(silence, Ordering::Relaxed);
                continue;
            }
            Err(error) => return Err(error),
        };
        heard = Instant::now();
        match kind {
            KEEPALIVE => drop(seen.keepalives.fetch_add(1, Ordering::Relaxed)),
            UPDATE => apply(&body, &mut seen.table.lock().unwrap()),
            _ => return Err(io::Error::other(format!("message {kind} {body:?}"))),
        }
    }
    Ok(())
}

/// Reads UPDATEs until the table is complete.
pub(crate) fn read_table(peer: &mut Peer, count: usize) -> HashSet<Vec<u8>> {
    let start = Instant::now();
    let mut table = HashSet::new();
    while table.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} routes of {count}", table.len());
        let (kind, body) = peer.framed.receive().unwrap();
        assert!(kind == UPDATE || kind == KEEPALIVE, "message {kind} {body:?}");
        if kind == UPDATE {
            apply(&body, &mut table);
        }
    }
    table
}

pub(crate) fn shown(route: &[u8]) -> String {
    format!("{}/{}", Ipv4Addr::new(route[1], route[2], route[3], 0), route[0])
}
