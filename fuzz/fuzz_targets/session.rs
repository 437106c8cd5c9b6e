//! A speaker with a peer that sends anything after a good OPEN, and with another that is well behaved: the second one's
//! session stands whatever the first does, what it is sent can be decoded, and the fib is told nothing twice.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tortie_bgp::config::{NoInclude, parse};
use tortie_bgp::fsm::ConnId;
use tortie_bgp::packet::{ControlMessage, Message, SessionContext, decode, frame_length};
use tortie_bgp::speaker::{FibRoute, Input, InterfaceAddress, Output, Speaker};
use tortie_net::Prefix;
use tortie_replica::Delta;

const CONFIG: &str = "router id 10.0.0.1; protocol device {}
    protocol felix { ipv4 { export all; }; ipv6 { export all; }; }
    template bgp common { local 10.0.0.1 as 65000; passive;
        ipv4 { import all; export all; import limit 500 action block; }; ipv6 { import all; export all; }; }
    protocol bgp wild from common { neighbor 10.0.0.2 as 65002; }
    protocol bgp tame from common { neighbor 10.0.0.3 as 65000; rr client; }";
const WILD: ConnId = ConnId::Incoming(1);
const TAME: ConnId = ConnId::Incoming(2);

struct World {
    speaker: Speaker,
    now: Duration,
    fib: BTreeMap<Prefix, FibRoute>,
    /// Octets for the well-behaved peer that are no whole message yet.
    tame: Vec<u8>,
    heard: Vec<Message>,
}

impl World {
    fn new() -> Self {
        let config = parse("fuzz.conf", CONFIG, &mut NoInclude).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let speaker = Speaker::new(Duration::ZERO, Arc::new(config)).expect("a router id");
        let mut world = World {
            speaker,
            now: Duration::ZERO,
            fib: BTreeMap::new(),
            tame: Vec::new(),
            heard: Vec::new(),
        };
        let subnet = "10.0.0.0/24".parse().expect("a prefix");
        world.input(Input::Interfaces(vec![InterfaceAddress {
            interface: "eth0".into(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            subnet,
        }]));
        for (conn, last) in [(WILD, 2), (TAME, 3)] {
            world.input(Input::Incoming {
                conn,
                local: SocketAddr::from(([10, 0, 0, 1], 179)),
                remote: SocketAddr::from(([10, 0, 0, last], 40_000)),
            });
            world.receive(conn, &open(last));
            world.receive(conn, &ControlMessage::Keepalive.encode());
        }
        world
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.input(Input::Received { conn, bytes });
        self.input(Input::Tick);
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { conn, bytes } => {
                    if conn == TAME {
                        self.tame.extend_from_slice(&bytes);
                    }
                    self.input(Input::Sent {
                        conn,
                        bytes: bytes.len(),
                    });
                }
                Output::Fib(Delta::Set(net, route)) => {
                    assert_ne!(self.fib.get(&net), Some(&route), "a change that changes nothing");
                    self.fib.insert(net, route);
                }
                Output::Fib(Delta::Delete(net)) => {
                    assert!(self.fib.remove(&net).is_some(), "deletes what is not there")
                }
                Output::Close { conn } => assert_ne!(conn, TAME, "the well-behaved peer's session is closed"),
                _ => {}
            }
        }
    }

    /// Decodes what the well-behaved peer was sent.
    fn hear(&mut self, context: &SessionContext) {
        while let Some(length) = frame_length(&self.tame, context).expect("we send frames") {
            let Some((frame, _)) = self.tame.split_at_checked(length) else {
                return;
            };
            self.heard
                .push(decode(frame, context).expect("what we send can be decoded"));
            self.tame.drain(..length);
        }
    }
}

/// An OPEN with both families and 4-octet AS numbers. The wild peer is AS 65002, the tame one of our own.
fn open(last: u8) -> Vec<u8> {
    let asn = if last == 2 { 65_002_u32 } else { 65_000 };
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let length = u8::try_from(capabilities.len()).expect("a short list");
    let mut body = vec![4];
    body.extend(u16::try_from(asn).expect("a short AS number").to_be_bytes());
    body.extend([0, 90, 10, 0, 0, last, length + 2, 2, length]);
    body.extend(capabilities);
    tortie_fuzz::message(1, &body)
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    let context = tortie_fuzz::context(0b0000_0110);
    let mut rest = data;
    for _ in 0..32 {
        let Some((&[kind, length], after)) = rest.split_first_chunk() else {
            break;
        };
        let (body, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        match kind {
            0..=127 => world.receive(WILD, &tortie_fuzz::update(body).unwrap_or_default()),
            128..=223 => world.receive(WILD, &tortie_fuzz::message(kind % 8, body)),
            224..=239 => world.receive(WILD, body),
            _ => {
                world.now += Duration::from_secs(u64::from(length) % 20);
                world.receive(TAME, &ControlMessage::Keepalive.encode());
            }
        }
        world.hear(&context);
    }
    let tame = world
        .speaker
        .protocols()
        .into_iter()
        .find(|p| &*p.name == "tame")
        .expect("is configured");
    assert_eq!(tame.bgp.map(|bgp| bgp.state), Some("Established"));
    assert!(
        world
            .heard
            .iter()
            .all(|message| !matches!(message, Message::Notification(_)))
    );
});
