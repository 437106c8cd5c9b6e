//! The core of bird-rs alone, with scripted peers, for counting its instructions: `bench-core WORKLOAD`.
//!
//! No sockets, no clock and no threads: the same work each time, so a count means something on any machine. What it counts
//! is compared by `tests/bench/smoke.sh`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tortie_bgp::config::{NoInclude, parse};
use tortie_bgp::speaker::{ConnId, Input, Output, Speaker};

const DAEMON_AS: u32 = 65000;
const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 99, 255, 254);

/// The policy of the workload `filter`: what an operator writes at an exchange, about.
const POLICY: &str = "
define OURS = [ 10.0.0.0/8+, 172.16.0.0/12+, 192.168.0.0/16+ ];
function too_long() { return net.len > 24 || net.len < 8; }
filter mine {
  if net ~ OURS then reject;
  if too_long() then reject;
  if bgp_path ~ [= * 64496 * =] then reject;
  if (65000, 666) ~ bgp_community then bgp_local_pref = 10;
  case bgp_path.len { 0..2: bgp_local_pref = 200; 3..5: bgp_local_pref = 150; else: bgp_local_pref = 100; }
  bgp_community.add((65000, 1));
  bgp_large_community.add((65000, 1, bgp_path.len));
  accept;
}
";

fn main() -> Result<()> {
    let workload = std::env::args().nth(1).context("which workload?")?;
    let routes = match &*workload {
        "full" => full("all", 1),
        "change" => full("all", 3),
        "filter" => full("filter mine", 1),
        "reflector" => everyone(200, 20, true),
        "exchange" => everyone(10, 2_000, false),
        other => bail!("no workload {other}: full, change, filter, reflector, exchange"),
    }?;
    println!("{workload}: {routes} routes told");
    Ok(())
}

/// One peer tells another 40,000 routes, so many times with other attributes, and takes them back.
fn full(policy: &str, times: u32) -> Result<u64> {
    const ROUTES: u32 = 40_000;
    let mut router = Router::new(2, &|peer| 4_200_000_000 + peer, policy, false)?;
    for time in 0..times {
        for number in 0..ROUTES / 4 {
            router.receive(0, &announcement(4_200_000_000, 0, time, number * 4..number * 4 + 4)?);
            if number % 250 == 0 {
                router.flush();
            }
        }
        router.flush();
    }
    let status = router.speaker.status();
    ensure!(
        status.prefixes == ROUTES as usize,
        "{} prefixes arrived",
        status.prefixes
    );
    router.receive(0, &message(3, &[6, 2])?);
    router.flush();
    let left = router.speaker.status().prefixes;
    ensure!(left == 0, "{left} prefixes are left when the session is");
    Ok(u64::from(ROUTES * times))
}

/// Everyone tells everyone so many routes, ten in a message, and then changes them all.
fn everyone(peers: u32, routes: u32, internal: bool) -> Result<u64> {
    let asn = move |peer: u32| if internal { DAEMON_AS } else { 4_200_000_000 + peer };
    let mut router = Router::new(peers, &asn, "all", internal)?;
    for time in 0..2 {
        for batch in 0..routes / 10 {
            for peer in 0..peers {
                let first = peer * routes + batch * 10;
                router.receive(peer, &announcement(asn(peer), peer, time, first..first + 10)?);
            }
            router.flush();
        }
    }
    let all = (peers * routes) as usize;
    let status = router.speaker.status();
    ensure!(status.prefixes == all, "{} of {all} prefixes arrived", status.prefixes);
    let told = u64::from(peers * routes) * u64::from(peers - 1);
    ensure!(
        router.sent as u64 > 2 * told * 4,
        "{} octets for {told} routes",
        router.sent
    );
    Ok(2 * told)
}

fn address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A63_0001 + peer)
}

fn message(kind: u8, body: &[u8]) -> Result<Vec<u8>> {
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

/// /24 prefixes with a path of their own.
fn announcement(asn: u32, peer: u32, time: u32, prefixes: std::ops::Range<u32>) -> Result<Vec<u8>> {
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

/// A speaker whose peers take everything at once.
struct Router {
    speaker: Speaker,
    sent: usize,
}

impl Router {
    fn new(peers: u32, asn: &dyn Fn(u32) -> u32, policy: &str, clients: bool) -> Result<Self> {
        let client = if clients { "rr client;" } else { "" };
        let mut text = format!(
            "router id {DAEMON};\n{POLICY}\ntemplate bgp t {{ local {DAEMON} as {DAEMON_AS}; passive on;
             ipv4 {{ import {policy}; export all; }}; }}\n"
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

    fn receive(&mut self, peer: u32, octets: &[u8]) {
        let conn = ConnId::Incoming(u64::from(peer));
        let bytes = Bytes::copy_from_slice(octets);
        self.input(Input::Received { conn, bytes });
    }

    fn flush(&mut self) {
        while self.speaker.next_deadline() == Some(Duration::ZERO) {
            self.input(Input::Tick);
        }
    }
}
