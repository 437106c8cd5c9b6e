//! Routes into the kernel: by bird-rs and felix, by a `protocol kernel`, by lib/netlink alone, and by `ip -batch`.
//!
//! Daemons are told by BGP, and the kernel is looked at until it has everything: the count of its routes, and for a
//! replacement some routes' gateways. Then the whole table is read once: what is measured was true of every route.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tortie_netlink::route::{Filter, Netlink, Protocol, Route};
use tortie_tests::lab::{Daemon, Lab, Netns, binary, check_interrupt, wait_for};

use crate::daemon::{Prepared, Program};
use crate::goal::Goal;
use crate::record::Row;
use crate::scenario::{Run, listening};
use crate::tester::Tester;
use crate::wire;
use crate::workload::{DAEMON, DAEMON_AS, Workload};
use crate::writer;

/// What is done, and which version of the routes is there then; 0 is none.
const STEPS: [(&str, u8); 4] = [("added", 1), ("replaced", 2), ("re-pointed", 3), ("deleted", 0)];
/// More routes than these are not replaced one by one: it is a matter of minutes.
const REPLACED: u32 = 200_000;
/// Without progress for this long a step has failed.
const STALL: Duration = Duration::from_secs(30);
pub(crate) const SESSION: Duration = Duration::from_secs(30);
/// Looks at the kernel take this share of the time at most: one part of so many.
const LOOKING: u32 = 8;
const OFTEN: Duration = Duration::from_millis(4);
const SELDOM: Duration = Duration::from_millis(500);
/// Routes whose gateways are looked at.
const PROBES: u32 = 64;
/// Where felix says that it is ready, in the daemons' namespace.
const FELIX_HTTP: &str = "127.0.0.1:9099";

/// The steps of a row.
pub(crate) fn steps(workload: &Workload) -> impl Iterator<Item = (&'static str, u8)> {
    let all = workload.prefixes.count <= REPLACED;
    STEPS.into_iter().filter(move |(_, version)| all || *version != 2)
}

/// Runs one way through all steps.
///
/// # Errors
/// When there is nothing to measure: something cannot be started.
pub(crate) fn measure(lab: &Lab, mut run: Run<'_>, ours: &Netns, until: Instant) -> Result<Vec<Row>> {
    // Every gateway is on the wire here.
    run.ns.ip(&["route", "del", "10.99.0.0/18"])?;
    let watch = Watch::new(lab, run.ns, run.workload, until)?;
    match run.program {
        Program::Netlink => writer::reconcile(&mut run, &watch)?,
        Program::IpBatch => writer::batch(lab, &mut run, &watch)?,
        Program::Felix | Program::BirdRs | Program::Bird => {
            let _daemons = start(lab, &run)?;
            ours.within(|| daemon(&mut run, &watch))?;
        }
        Program::Frr | Program::GoBgp | Program::OpenBgpd | Program::Typha => {
            bail!("{} writes no routes here", run.program.name())
        }
    }
    Ok(run.rows)
}

fn daemon(run: &mut Run<'_>, watch: &Watch<'_>) -> Result<()> {
    let workload = run.workload;
    listening()?;
    let mut tester = Tester::new(workload, watch.until)?;
    tester.establish(tester.clock(), SESSION)?;
    for (phase, version) in steps(workload) {
        let bytes = match version {
            0 => wire::withdraw(workload, 0),
            _ => wire::announce(workload, 0, version),
        };
        let result = run.spent(|| {
            let clock = tester.clock();
            // Nobody listens: this only sends, and goes on doing so while the kernel is watched.
            tester.phase(Goal::all(workload, version), vec![bytes])?;
            let end = watch.wait(version, |until| tester.idle(until))?;
            Ok((tester.timing(clock, end), ()))
        });
        if run.row(phase, result.map(|(m, ())| m)).is_none() {
            break;
        }
    }
    Ok(())
}

// === The daemons ===

pub(crate) fn start(lab: &Lab, run: &Run<'_>) -> Result<Vec<Daemon>> {
    let dir = lab.folder(run.program.name())?;
    let speaker = if run.program == Program::Bird {
        Program::Bird
    } else {
        Program::BirdRs
    };
    let command = speaker.like_bird(&dir, &config(run.workload, run.program == Program::Felix))?;
    let mut daemons = vec![Prepared::new(speaker, command, dir.join("log")).start(run.ns)?];
    if run.program == Program::Felix {
        // Not among those whose time is counted: it has nothing to do.
        daemons.push(Daemon::start(
            "typha",
            &lab.namespace("control")?,
            typha(&dir)?,
            dir.join("typha.log"),
        )?);
        let grpc = dir.join("grpc");
        wait_for("bird-rs to serve felix", SESSION, || {
            ensure!(grpc.exists(), "{} is not there", grpc.display());
            Ok(())
        })?;
        daemons.push(Daemon::start("felix", run.ns, felix(&dir)?, dir.join("felix.log"))?);
        let http: SocketAddr = FELIX_HTTP.parse()?;
        wait_for("felix to be ready", SESSION, || run.ns.within(|| ready(http)))?;
    }
    Ok(daemons)
}

/// What BIRD and bird-rs both read, but for felix, which is ours.
fn config(workload: &Workload, felix: bool) -> String {
    let (peer, peer_as) = (workload.address_of(0), workload.asn_of(0));
    let export = "export where source = RTS_BGP;";
    let writer = if felix {
        format!("protocol felix {{ ipv4 {{ {export} }}; }}")
    } else {
        format!(
            "protocol kernel {{ metric {}; ipv4 {{ import none; {export} }}; }}",
            writer::METRIC
        )
    };
    format!(
        "router id {DAEMON};\nlog stderr {{ error, fatal }};\nprotocol device {{ }}\nprotocol direct {{ ipv4; }}\n{writer}\n\
         protocol bgp p0 {{\n  local {DAEMON} as {DAEMON_AS};\n  neighbor {peer} as {peer_as};\n  passive on;\n  \
         hold time 180;\n  ipv4 {{ import all; export none; }};\n}}\n"
    )
}

fn unix(dir: &Path, file: &str) -> String {
    format!("unix:{}", dir.join(file).display())
}

fn typha(dir: &Path) -> Result<Vec<String>> {
    let (program, store) = (binary("typha")?.display().to_string(), dir.join("datastore"));
    let store = store.display().to_string();
    let listen = unix(dir, "typha");
    Ok([&program, "--datastore", &store, "--listen", &listen, "--insecure"]
        .map(str::to_owned)
        .to_vec())
}

fn felix(dir: &Path) -> Result<Vec<String>> {
    let state = dir.join("felix-state");
    fs::create_dir_all(&state)?;
    let program = binary("felix")?.display().to_string();
    let (typha, bird, socket) = (unix(dir, "typha"), unix(dir, "grpc"), unix(dir, "felix"));
    let state = state.display().to_string();
    let args = [
        &program,
        "--node",
        "bench",
        "--typha",
        &typha,
        "--bird",
        &bird,
        "--socket",
        &socket,
        "--state-dir",
        &state,
        "--http",
        FELIX_HTTP,
    ];
    Ok(args.map(str::to_owned).to_vec())
}

/// Does `/readyz` say 200?
fn ready(http: SocketAddr) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect_timeout(&http, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET /readyz HTTP/1.0\r\nHost: felix\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let status = said.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}");
    Ok(())
}

// === Looking at the kernel ===

/// What the kernel of a namespace has of a row's routes.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    ns: &'a Netns,
    workload: &'a Workload,
    /// Routes that were there before.
    before: usize,
    /// Commands of `ip -batch` that ask for the gateways of some routes, and which routes these are.
    probes: (PathBuf, Vec<u32>),
    /// When all must be over.
    pub(crate) until: Instant,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(lab: &Lab, ns: &'a Netns, workload: &'a Workload, until: Instant) -> Result<Self> {
        let count = workload.prefixes.count;
        let apart = (count / PROBES).max(1) as usize;
        let indices: Vec<u32> = (0..count).step_by(apart).chain([count - 1]).collect();
        let asks = indices
            .iter()
            .map(|i| format!("route get {}\n", workload.prefixes.address(*i)));
        let path = lab.folder("kernel")?.join("probes");
        fs::write(&path, asks.collect::<String>())?;
        let before = count_in(ns)?;
        Ok(Watch {
            ns,
            workload,
            before,
            probes: (path, indices),
            until,
        })
    }

    /// Waits until the kernel has every route in this version; `meanwhile` gets the time until which it may work. Gives
    /// when it was so.
    pub(crate) fn wait(&self, version: u8, mut meanwhile: impl FnMut(Instant) -> Result<()>) -> Result<Instant> {
        let (mut pause, mut last, mut progress) = (OFTEN, (0, 0), Instant::now());
        loop {
            check_interrupt()?;
            meanwhile(Instant::now() + pause)?;
            let looked = Instant::now();
            let seen = self.look(version)?;
            if seen == self.all(version) && self.every_route(version)? {
                return Ok(looked);
            }
            if seen != last {
                (last, progress) = (seen, looked);
            }
            let (routes, right) = seen;
            if progress.elapsed() > STALL || looked > self.until {
                bail!(
                    "stalled or out of time: {} of {} routes are there, {right} of {} probes are right",
                    routes.saturating_sub(self.before),
                    self.workload.prefixes.count,
                    self.probes.1.len()
                );
            }
            pause = (looked.elapsed() * LOOKING).clamp(OFTEN, SELDOM);
        }
    }

    /// Fails unless the kernel has every route in this version now.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn check(&self, version: u8) -> Result<()> {
        let seen = self.look(version)?;
        ensure!(
            seen == self.all(version) && self.every_route(version)?,
            "the kernel has other routes than it should: {seen:?} instead of {:?}",
            self.all(version)
        );
        Ok(())
    }

    /// How many routes there are, and how many probes are right.
    fn look(&self, version: u8) -> Result<(usize, usize)> {
        let (file, indices) = &self.probes;
        let count = count_in(self.ns)?;
        if version <= 1 || count != self.all(version).0 {
            // Before they were added there were none, and so none with another gateway.
            return Ok((count, if version <= 1 { indices.len() } else { 0 }));
        }
        // It fails for a route that is not there.
        let said = self.ns.ip(&["-batch", &file.display().to_string()]).unwrap_or_default();
        let answers = said.lines().filter(|l| !l.starts_with(' '));
        let right = |(index, line): (&u32, &str)| {
            let gateway = self.workload.next_hop_of(0, *index, version);
            line.contains(&format!(" via {gateway} "))
        };
        Ok((
            count,
            indices.iter().zip(answers).filter(|(i, l)| right((i, l))).count(),
        ))
    }

    fn all(&self, version: u8) -> (usize, usize) {
        let routes = if version == 0 {
            0
        } else {
            self.workload.prefixes.count as usize
        };
        (self.before + routes, self.probes.1.len())
    }

    /// Reads the whole table.
    fn every_route(&self, version: u8) -> Result<bool> {
        let all = Filter {
            protocol: Some(Protocol::BIRD),
            ..Filter::MAIN
        };
        let wrong = |r: &Route| self.index(r).is_none_or(|index| !self.leads_to(r, index, version));
        self.ns.within(|| {
            let wrong = Netlink::open()?.routes_where(all, wrong)?;
            Ok(wrong.is_empty())
        })
    }

    fn index(&self, route: &Route) -> Option<u32> {
        let IpAddr::V4(address) = route.prefix.addr() else {
            return None;
        };
        self.workload
            .prefixes
            .index(u128::from(address.to_bits()) << 96, route.prefix.len())
    }

    fn leads_to(&self, route: &Route, index: u32, version: u8) -> bool {
        let gateway: Ipv4Addr = self.workload.next_hop_of(0, index, version);
        version > 0 && matches!(&*route.next_hops, [only] if only.gateway == Some(gateway.into()))
    }
}

/// The routes of a namespace's main table.
fn count_in(ns: &Netns) -> Result<usize> {
    let stat = ns.within(|| Ok(fs::read_to_string("/proc/thread-self/net/fib_triestat")?))?;
    let line = stat.lines().find_map(|l| l.trim().strip_prefix("Prefixes:"));
    line.context("no count of prefixes in fib_triestat")?
        .trim()
        .parse()
        .context("the count of prefixes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_routes_are_not_replaced_one_by_one() {
        let of = |routes| {
            steps(&Workload::kernel("k", routes))
                .map(|(phase, _)| phase)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(100_000), ["added", "replaced", "re-pointed", "deleted"]);
        assert_eq!(of(1_000_000), ["added", "re-pointed", "deleted"]);
    }

    #[test]
    fn felix_writes_or_the_daemon_itself() {
        let workload = Workload::kernel("k", 100);
        assert!(
            config(&workload, true).contains("protocol felix {")
                && !config(&workload, true).contains("protocol kernel")
        );
        assert!(config(&workload, false).contains("protocol kernel { metric 1024; ipv4 { import none;"));
    }
}
