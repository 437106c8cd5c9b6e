//! What tables and sessions take, measured as resident memory in a process of their own.
//!
//! The bounds are those of the whole program but for sockets and tasks: a million routes with a quarter of a million
//! attribute sets, from one peer to another, and sessions that have nothing to say.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tortie_bgp::config::{NoInclude, parse};
use tortie_bgp::speaker::{ConnId, Input, Output, Speaker};

const AS_DAEMON: u32 = 65000;
const ROUTES: u32 = 1_000_000;
const PER_UPDATE: u32 = 4;
const SESSIONS: u32 = 1_000;

/// Resident memory of this process, in octets: now, and at its peak.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A63_0001 + peer)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF; 16];
    out.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

fn open(asn: u32, id: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(180u16.to_be_bytes());
    body.extend(id.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(asn.to_be_bytes());
    message(1, &body)
}

/// Four /24 with a path of their own.
fn update(number: u32, asn: u32, next_hop: Ipv4Addr) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 10, 2, 2];
    attributes.extend(asn.to_be_bytes());
    attributes.extend((1_000_000 + number).to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    attributes.extend([0xC0, 8, 4, 0xFD, 0xE8, 0, 1]);
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    for i in number * PER_UPDATE..(number + 1) * PER_UPDATE {
        body.push(24);
        body.extend_from_slice(&((16 << 24) + (i << 8)).to_be_bytes()[..3]);
    }
    message(2, &body)
}

/// A speaker whose peers take everything at once.
struct Router {
    speaker: Speaker,
    sent: usize,
}

impl Router {
    fn new(peers: u32, asn: impl Fn(u32) -> u32) -> Self {
        let mut text = format!(
            "router id 10.99.255.254;\ntemplate bgp t {{ local 10.99.255.254 as {AS_DAEMON}; passive on; ipv4 {{ import all; export all; }}; }}\n"
        );
        for peer in 0..peers {
            text += &format!(
                "protocol bgp p{peer} from t {{ neighbor {} as {}; }}\n",
                address(peer),
                asn(peer)
            );
        }
        let config = parse("test.conf", &text, &mut NoInclude).unwrap();
        let speaker = Speaker::new(Duration::ZERO, Arc::new(config)).unwrap();
        let mut router = Router { speaker, sent: 0 };
        router.input(Input::Interfaces(Vec::new()));
        for peer in 0..peers {
            let conn = ConnId::Incoming(u64::from(peer));
            let at = |ip: Ipv4Addr, port| SocketAddr::new(IpAddr::V4(ip), port);
            let (local, remote) = (at(Ipv4Addr::new(10, 99, 255, 254), 179), at(address(peer), 40_000));
            router.input(Input::Incoming { conn, local, remote });
            router.receive(peer, open(asn(peer), address(peer)));
            router.receive(peer, message(4, &[]));
        }
        router
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(Duration::ZERO, input, &mut out);
        self.take(out);
    }

    /// Confirms what is sent until nothing more comes.
    fn take(&mut self, mut out: Vec<Output>) {
        while !out.is_empty() {
            let mut more = Vec::new();
            for output in out {
                if let Output::Send { conn, bytes } = output {
                    self.sent += bytes.len();
                    let bytes = bytes.len();
                    self.speaker
                        .handle(Duration::ZERO, Input::Sent { conn, bytes }, &mut more);
                }
            }
            out = more;
        }
    }

    fn receive(&mut self, peer: u32, bytes: Vec<u8>) {
        let conn = ConnId::Incoming(u64::from(peer));
        self.input(Input::Received {
            conn,
            bytes: Bytes::from(bytes),
        });
    }

    fn flush(&mut self) {
        while self.speaker.next_deadline() == Some(Duration::ZERO) {
            self.input(Input::Tick);
        }
    }
}

/// One test, so that nothing else runs in the process.
#[test]
fn tables_and_sessions_are_small() {
    let (before, _) = resident();
    let mut idle = Router::new(SESSIONS, |_| AS_DAEMON);
    idle.flush();
    let (after, _) = resident();
    let each = after.saturating_sub(before) / u64::from(SESSIONS);
    println!("an idle session: {each} octets");
    assert!(each <= 12_000, "an idle session takes {each} octets");

    let (before, _) = resident();
    let mut router = Router::new(2, |peer| 4_200_000_000 + peer);
    for number in 0..ROUTES / PER_UPDATE {
        router.receive(0, update(number, 4_200_000_000, address(0)));
        if number % 250 == 0 {
            router.flush();
        }
    }
    router.flush();
    let (after, peak) = resident();
    let status = router.speaker.status();
    assert_eq!((status.prefixes, status.paths), (ROUTES as usize, ROUTES as usize));
    assert!(router.sent > 4 * ROUTES as usize, "everything went to the other peer");
    let (took, peak) = (after.saturating_sub(before) >> 20, peak.saturating_sub(before) >> 20);
    println!("{ROUTES} routes: {took} MiB, {peak} MiB at the peak");
    assert!(
        peak <= 105,
        "{ROUTES} routes take {peak} MiB at the peak, {took} MiB then"
    );
    // Kept until here, so that the routes found no room that the sessions had left.
    assert_eq!(idle.speaker.protocols().len(), SESSIONS as usize);
}
