//! The core of bird-rs alone, with scripted peers: no sockets, no clock and no threads, and the same work each time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use tortie_bgp::config::{NoInclude, parse};
use tortie_bgp::speaker::{ConnId, Input, Output, Speaker};

/// The speaker's AS.
pub const DAEMON_AS: u32 = 65000;
const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 99, 255, 254);

/// The peers' addresses: 10.99.0.1 and the ones after it.
fn address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A63_0001 + peer)
}

/// A message around a body.
///
/// # Errors
/// When the body is too long for any message.
pub fn message(kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0xFF; 16];
    out.extend(u16::try_from(19 + body.len())?.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    Ok(out)
}

fn open(asn: u32, id: Ipv4Addr) -> Result<Vec<u8>> {
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(180u16.to_be_bytes());
    body.extend(id.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(asn.to_be_bytes());
    message(1, &body)
}

/// An UPDATE with /24 prefixes, by their numbers, from a peer, with a path of their own and a community that says which
/// `time` it is.
///
/// # Errors
/// When they are too many for a message.
pub fn announcement(asn: u32, peer: u32, time: u32, prefixes: std::ops::Range<u32>) -> Result<Vec<u8>> {
    let mut attributes = vec![0x40, 1, 1, 0];
    if asn == DAEMON_AS {
        attributes.extend([0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100]);
    } else {
        attributes.extend([0x40, 2, 10, 2, 2]);
        attributes.extend(asn.to_be_bytes());
        attributes.extend((1_000_000 + prefixes.start).to_be_bytes());
    }
    attributes.extend([0x40, 3, 4]);
    attributes.extend(address(peer).octets());
    attributes.extend([0xC0, 8, 4, 0xFD, 0xE8]);
    attributes.extend(u16::try_from(time)?.to_be_bytes());
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len())?.to_be_bytes());
    body.extend(attributes);
    for i in prefixes {
        body.push(24);
        body.extend_from_slice(&((16 << 24) + (i << 8)).to_be_bytes()[..3]);
    }
    message(2, &body)
}

/// How a [`Router`] is configured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Statements before the protocols.
    pub top: &'a str,
    /// The import policy; empty for `all`.
    pub import: &'a str,
    /// Are the peers clients of a route reflector?
    pub clients: bool,
}

/// A speaker whose peers take everything at once.
#[derive(Debug)]
pub struct Router {
    /// The speaker.
    pub speaker: Speaker,
    /// Octets of messages sent so far.
    pub sent: usize,
}

impl Router {
    /// A speaker with so many peers, whose sessions are established and who have said that their initial tables are
    /// complete.
    ///
    /// # Errors
    /// When the configuration is refused.
    pub fn new(peers: u32, asn: &dyn Fn(u32) -> u32, setup: &Setup<'_>) -> Result<Self> {
        let client = if setup.clients { "rr client;" } else { "" };
        let policy = if setup.import.is_empty() { "all" } else { setup.import };
        let mut text = format!(
            "router id {DAEMON};\n{}\ntemplate bgp t {{ local {DAEMON} as {DAEMON_AS}; passive on;
             ipv4 {{ import {policy}; export all; }}; }}\n",
            setup.top
        );
        for peer in 0..peers {
            text += &format!(
                "protocol bgp p{peer} from t {{ neighbor {} as {}; {client} }}\n",
                address(peer),
                asn(peer)
            );
        }
        let config = match parse("bench.conf", &text, &mut NoInclude) {
            Ok(config) => config,
            Err(errors) => bail!("{errors:?}"),
        };
        let speaker = Speaker::new(Duration::ZERO, Arc::new(config))?;
        let mut router = Router { speaker, sent: 0 };
        router.input(Input::Interfaces(Vec::new()));
        for peer in 0..peers {
            let conn = ConnId::Incoming(u64::from(peer));
            let at = |ip: Ipv4Addr, port| SocketAddr::new(IpAddr::V4(ip), port);
            let (local, remote) = (at(DAEMON, 179), at(address(peer), 40_000));
            router.input(Input::Incoming { conn, local, remote });
            router.receive(peer, &open(asn(peer), address(peer))?);
            router.receive(peer, &message(4, &[])?);
            // End-of-RIB: the initial tables are complete.
            router.receive(peer, &message(2, &[0, 0, 0, 0])?);
        }
        router.flush();
        Ok(router)
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(Duration::ZERO, input, &mut out);
        // What is sent is confirmed until nothing more comes.
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

    /// Octets from a peer.
    pub fn receive(&mut self, peer: u32, octets: &[u8]) {
        let conn = ConnId::Incoming(u64::from(peer));
        let bytes = Bytes::copy_from_slice(octets);
        self.input(Input::Received { conn, bytes });
    }

    /// Lets the speaker work until it has nothing to do.
    pub fn flush(&mut self) {
        while self.speaker.next_deadline() == Some(Duration::ZERO) {
            self.input(Input::Tick);
        }
    }
}
