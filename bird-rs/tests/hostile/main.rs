//! The real program and peers that mean no good. Each test has a second, healthy session, which must never miss a
//! keepalive, and looks at the process's memory and descriptors from outside. Needs root and iproute2.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod deaf;
#[path = "../scripted/framed.rs"]
mod framed;
#[allow(
    dead_code,
    reason = "the laboratory is shared with the interop tests, which use more of it"
)]
#[path = "../interop/lab.rs"]
mod lab;
mod opens;
mod queries;
mod scripted;
mod station;

use std::io::Write;

use crate::lab::{Client, Lab, Running, eventually, eventually_or};
use crate::scripted::{KEEPALIVE, Peer, Witness, attribute, attributes, connect, message, open, prefix, read_table};
use crate::scripted::{shown, update};

const ODD: [u8; 4] = [10, 77, 0, 4];
const STRANGER: [u8; 4] = [10, 77, 0, 6];

struct Scene {
    client: Client,
    witness: Witness,
    daemon: Running,
    lab: Lab,
}

impl Scene {
    /// One of us with a witness, a bad peer (`Odd`, with these options in its channel) and a source of routes.
    fn new(limits: &str) -> Self {
        Scene::with(limits, "")
    }

    /// The same, and more protocols.
    fn with(limits: &str, more: &str) -> Self {
        let lab = Lab::new();
        for number in [4, 5, 6] {
            lab.address("b", "eth0", &format!("10.77.0.{number}/24"));
        }
        let protocol = |name: &str, number: u8, limits: &str| {
            format!(
                "protocol bgp {name} from t {{ neighbor 10.77.0.{number} as {}; ipv4 {{ import all; export all; {limits} }}; }}\n",
                65_000 + u32::from(number)
            )
        };
        let config = format!(
            "router id 10.77.0.1;
protocol device {{ }}
template bgp t {{
  local 10.77.0.1 as 64512; passive on; hold time 90; error wait time 1, 1; enable extended messages on;
}}
{}{}{}{more}",
            protocol("Witness", 2, ""),
            protocol("Odd", 4, limits),
            protocol("Feeder", 5, "")
        );
        let daemon = lab.bird_rs("a", &config);
        let client = lab.client("a");
        let witness = Witness::start(&lab);
        Scene {
            client,
            witness,
            daemon,
            lab,
        }
    }

    /// Resident memory in kB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.daemon.0.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn grew_at_most(&self, before: u64, kb: u64) {
        let now = self.memory();
        assert!(now <= before + kb, "memory went from {before} kB to {now} kB");
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.daemon.0.id()))
            .unwrap()
            .count()
    }

    /// How many routes of a protocol are in the table.
    fn imported(&mut self, name: &str) -> u64 {
        let protocols = self.client.protocols();
        let protocol = protocols.iter().find(|protocol| protocol.name == name).unwrap();
        protocol.channels[0].imported
    }

    fn imports(&mut self, name: &str, count: u64) {
        eventually_or(|| {
            let now = self.imported(name);
            if now == count {
                Ok(())
            } else {
                Err(format!("{now} routes of {name}, wanted {count}"))
            }
        });
    }

    /// Everything is as if nothing had been: the witness's first session is its only one.
    fn unharmed(&mut self) {
        self.witness.stays_well();
        assert!(self.daemon.0.try_wait().unwrap().is_none(), "the process ended");
        let log = self.lab.log("a");
        let ups = log
            .lines()
            .filter(|line| line.contains("protocol=\"Witness\"") && line.contains("to=\"Established\""));
        assert_eq!(ups.count(), 1);
        assert!(!log.contains("internal error") && !log.contains("panicked"), "{log}");
    }
}

/// Octets without meaning, the same in every run.
fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn garbage_and_silence_after_half_an_open() {
    let mut scene = Scene::new("");
    let before = scene.memory();
    let mut silent = Vec::new();
    for round in 0..100u32 {
        let mut stream = connect(&scene.lab, ODD, None).unwrap();
        let whole = open(65_004, 90, ODD);
        let octets = match round % 5 {
            0 => noise(round, 4096),
            1 => message(9, &noise(round, 100)),
            2 => [whole.clone(), message(2, &noise(round, 2000))].concat(),
            3 => [whole.clone(), message(KEEPALIVE, &[]), message(2, &noise(round, 2000))].concat(),
            _ => whole[..whole.len() / 2].to_vec(),
        };
        // It may have closed already.
        let _ = stream.write_all(&octets);
        if round % 5 == 4 {
            silent.push(stream);
        }
    }
    eventually("the connections are let go", || {
        (scene.descriptors() < 40).then_some(())
    });
    assert_eq!(scene.imported("Odd"), 0);
    scene.grew_at_most(before, 8_000);
    // Nothing is held against it: a session as it should be comes up.
    let mut odd = Peer::established(&scene.lab, 4, 90, None);
    odd.announce(0..10, 0).unwrap();
    scene.imports("Odd", 10);
    scene.witness.has(10);
    drop(silent);
    scene.unharmed();
}

#[test]
fn a_thousand_connections_from_one_host() {
    // This process holds the other ends.
    let own = std::process::id().to_string();
    lab::run(std::process::Command::new("prlimit").args(["--pid", &own, "--nofile=8192"]));
    for from in [ODD, STRANGER] {
        let mut scene = Scene::new("");
        let (before, descriptors) = (scene.memory(), scene.descriptors());
        let held: Vec<_> = (0..1000).filter_map(|_| connect(&scene.lab, from, None).ok()).collect();
        assert!(held.len() > 900, "only {} connections", held.len());
        eventually_or(|| {
            let now = scene.descriptors();
            if now <= descriptors + 4 {
                Ok(())
            } else {
                Err(format!("{now} descriptors"))
            }
        });
        scene.grew_at_most(before, 16_000);
        scene.unharmed();
        drop(held);
        let _odd = Peer::established(&scene.lab, 4, 90, None);
    }
}

#[test]
fn a_peer_that_stops_reading_while_there_is_much_to_send() {
    const ROUTES: u32 = 100_000;
    let mut scene = Scene::new("");
    let mut odd = Peer::established(&scene.lab, 4, 90, Some(4096));
    let mut feeder = Peer::established(&scene.lab, 5, 90, None);
    feeder.announce(0..ROUTES, 0).unwrap();
    scene.imports("Feeder", ROUTES.into());
    scene.witness.has(100_000);
    // What it does not read changes again and again, and more often costs no more.
    let mut settled = 0;
    for med in 1..=8 {
        feeder.announce(0..ROUTES, med).unwrap();
        let last = shown(&prefix(ROUTES - 1));
        eventually("the change arrives", || {
            scene.witness.is_well();
            (scene.client.route("Feeder", &last)?.med == Some(med)).then_some(())
        });
        if med == 3 {
            settled = scene.memory();
        }
    }
    scene.grew_at_most(settled, 16_000);
    scene.witness.has(100_000);
    let table = read_table(&mut odd, 100_000);
    assert!(table.contains(&prefix(ROUTES - 1)[..]));
    scene.unharmed();
}

#[test]
fn a_peer_that_flaps_fifty_times() {
    let mut scene = Scene::new("");
    let mut settled = 0;
    for round in 0..50 {
        let mut odd = Peer::established(&scene.lab, 4, 90, None);
        odd.announce(0..1000, round).unwrap();
        scene.witness.has(1000);
        if round % 10 == 9 {
            // Cease, administrative shutdown.
            odd.framed.stream.write_all(&message(3, &[6, 2])).unwrap();
        }
        drop(odd);
        scene.witness.has(0);
        if round == 4 {
            settled = scene.memory();
        }
    }
    assert_eq!(scene.imported("Odd"), 0);
    scene.grew_at_most(settled, 8_000);
    scene.unharmed();
}

/// More than there may be, far more.
const TOO_MANY: u32 = 1_000_000;

#[test]
fn a_peer_far_past_its_limit_loses_its_session() {
    let mut scene = Scene::new("receive limit 1000 action restart;");
    let before = scene.memory();
    let mut odd = Peer::established(&scene.lab, 4, 90, None);
    // The connection ends under it.
    let _ = odd.announce(0..TOO_MANY, 0);
    assert_eq!(odd.notified(), (6, 1), "Cease, Maximum Number of Prefixes Reached");
    scene.imports("Odd", 0);
    scene.witness.has(0);
    scene.grew_at_most(before, 12_000);
    scene.unharmed();
}

#[test]
fn a_peer_far_past_its_limit_is_not_listened_to() {
    far_past("receive limit 1000 action block;", TOO_MANY);
    // What the import limit keeps out is remembered, for the case that the limit changes.
    far_past("import limit 1000 action block;", TOO_MANY / 5);
}

fn far_past(limits: &str, routes: u32) {
    let mut scene = Scene::new(limits);
    let before = scene.memory();
    let mut odd = Peer::established(&scene.lab, 4, 90, None);
    odd.announce(0..routes, 0).unwrap();
    // A withdrawal of what was accepted comes behind it all.
    let first = prefix(0);
    odd.framed
        .stream
        .write_all(&message(2, &[&[0, 4][..], &first, &[0, 0]].concat()))
        .unwrap();
    scene.imports("Odd", 999);
    scene.witness.has(999);
    assert_eq!(scene.client.session("Odd").state, "Established");
    scene.grew_at_most(before, 12_000);
    scene.unharmed();
}

/// An UPDATE of exactly so many octets: a path of 2,000, 1,000 communities, 1,000 large ones, and what nobody knows.
fn large(route: [u8; 4], octets: usize) -> Vec<u8> {
    let mut attrs = attributes(&[65_004; 2000], ODD, None);
    let communities = (0..1000u32).flat_map(|n| (0xfc00_0000 + n).to_be_bytes());
    attrs.extend(attribute(0xc0, 8, &communities.collect::<Vec<_>>()));
    let large = (0..1000u32).flat_map(|n| [64_512, 1, n].map(u32::to_be_bytes).concat());
    attrs.extend(attribute(0xc0, 32, &large.collect::<Vec<_>>()));
    let rest = octets - update(&attrs, &[route]).len() - 4;
    attrs.extend(attribute(0xc0, 200, &vec![7; rest]));
    update(&attrs, &[route])
}

#[test]
fn the_largest_legal_attributes() {
    let mut scene = Scene::new("");
    let mut odd = Peer::established(&scene.lab, 4, 90, None);
    let largest = large(prefix(0), 65_535);
    assert_eq!(largest.len(), 65_535);
    odd.framed.stream.write_all(&largest).unwrap();
    odd.framed.stream.write_all(&large(prefix(1), 65_000)).unwrap();
    scene.imports("Odd", 2);
    let route = scene.client.route("Odd", &shown(&prefix(0))).unwrap();
    assert_eq!(
        (route.communities.len(), route.as_path.split(' ').count()),
        (2000, 2000)
    );
    // With our AS in front the first one fits into no message any more; the other does.
    scene.witness.has(1);
    assert!(scene.witness.has_route(&prefix(1)));

    let before = scene.memory();
    for round in 0..200 {
        odd.framed.stream.write_all(&large(prefix(1), 60_000 + round)).unwrap();
    }
    odd.announce(2..3, 0).unwrap();
    scene.imports("Odd", 3);
    scene.grew_at_most(before, 16_000);
    assert_eq!(scene.client.session("Odd").state, "Established");
    scene.unharmed();
}
