//! `make bench`: bird-rs and its rivals under the same load, side by side in the same run.

mod daemon;
mod policy;
mod report;
mod tester;
mod wire;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tortie_tests::lab::{Lab, Netns, missing_requirements, run, wait_for, watch_signals};

use daemon::{Program, usage};
use report::{Measured, Row};
use tester::{Goal, Tester, Timing};
use workload::{DAEMON, Import, Workload};

#[derive(Debug, Parser)]
#[command(about = "Drives BGP daemons with the same load and compares them")]
struct Args {
    /// Which daemons: bird-rs, bird, frr, gobgp, openbgpd; default all that are installed
    #[arg(long, value_delimiter = ',')]
    daemons: Vec<String>,
    /// Which workloads: full, full-v6, rr200, rr200-v6, rr1000, exchange, filter; default all
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Divides the number of routes, for a quick look
    #[arg(long, default_value_t = 1)]
    shrink: u32,
    /// Writes the picture here
    #[arg(long)]
    svg: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn all(shrink: u32) -> Vec<Workload> {
    let full = Workload::full_table(1_000_000 / shrink);
    let (few, many) = (Workload::reflector(200, 20), Workload::reflector(1000, 10));
    vec![
        full.clone(),
        full.with_family(true),
        few.clone(),
        few.with_family(true),
        many,
        Workload::exchange(30, 20_000 / shrink),
        Workload::filter(1_000_000 / shrink, Import::Rich),
        Workload::filter(1_000_000 / shrink, Import::Filtered),
    ]
}

fn bench(args: &Args) -> Result<()> {
    let missing = missing_requirements();
    if !missing.is_empty() {
        bail!("{}", missing.join("; "));
    }
    watch_signals()?;
    let workloads = choose(all(args.shrink), &args.workloads, |w| w.name.clone())?;
    let programs = choose(Program::ALL.to_vec(), &args.daemons, |p| p.name().to_owned())?;
    let mut rows = Vec::new();
    for workload in &workloads {
        let mut of_workload = Vec::new();
        for program in programs.iter().filter(|program| program.runs(workload)) {
            if !program.installed() {
                bail!("{} is not installed: run `make deps build`", program.name());
            }
            eprintln!("{} on {}", program.name(), workload.title);
            of_workload.extend(measure(*program, workload)?);
        }
        of_workload.sort_by_key(|row: &Row| PHASES.iter().position(|p| *p == row.phase));
        rows.extend(of_workload);
    }
    print!("{}", report::table(&rows, Program::BirdRs.name()));
    print!("{}", report::filter(&rows));
    if let Some(path) = &args.svg {
        std::fs::write(path, report::svg(&rows)).with_context(|| format!("write {}", path.display()))?;
    }
    let ours_failed = rows
        .iter()
        .any(|r| r.daemon == Program::BirdRs.name() && r.result.is_err());
    if ours_failed {
        bail!("bird-rs failed a workload");
    }
    Ok(())
}

fn choose<T>(all: Vec<T>, wanted: &[String], name: impl Fn(&T) -> String) -> Result<Vec<T>> {
    let names: Vec<String> = all.iter().map(&name).collect();
    if let Some(unknown) = wanted.iter().find(|w| !names.contains(w)) {
        bail!("unknown name '{unknown}': want some of {}", names.join(", "));
    }
    Ok(all
        .into_iter()
        .filter(|x| wanted.is_empty() || wanted.contains(&name(x)))
        .collect())
}

const PHASES: [&str; 4] = ["sessions up", "announce", "change", "withdraw"];

/// Runs one daemon through all phases of a workload. A phase that fails ends the run and is a row of its own.
fn measure(program: Program, workload: &Workload) -> Result<Vec<Row>> {
    let lab = Lab::for_test("bench")?;
    let (ours, theirs) = wire_up(&lab)?;
    let _daemon = program.start(&lab, &theirs, workload)?;
    let mut rows = Vec::new();
    let row = |phase, result| Row {
        workload: workload.title.clone(),
        phase,
        daemon: program.name(),
        result,
    };
    ours.within(|| {
        listening()?;
        let mut tester = Tester::new(workload)?;
        let senders = |make: &dyn Fn(u32) -> Vec<u8>| (0..workload.peers()).map(make).collect::<Vec<_>>();
        for phase in PHASES {
            let bytes = match phase {
                "announce" => senders(&|peer| wire::announce(workload, peer, 1)),
                "change" => senders(&|peer| wire::announce(workload, peer, 2)),
                "withdraw" => senders(&|peer| wire::withdraw(workload, peer)),
                _ => Vec::new(),
            };
            let before = usage(&theirs).map(|(cpu, _)| cpu).unwrap_or_default();
            let timing = match phase {
                "sessions up" => tester.establish(Duration::from_secs(180)),
                "announce" => tester.phase(Goal::Version(1), bytes),
                "change" => tester.phase(Goal::Version(2), bytes),
                _ => tester.phase(Goal::Nothing, bytes),
            };
            let result = timing.and_then(|timing| measured(&theirs, before, timing));
            let failed = result.is_err();
            rows.push(row(phase, result.map_err(|e| format!("{e:#}"))));
            if failed {
                break;
            }
        }
        Ok(rows)
    })
}

/// The clock starts when the daemon takes connections: how long it reads its configuration is not measured.
fn listening() -> Result<()> {
    let daemon = std::net::SocketAddr::new(DAEMON.into(), 179);
    wait_for("the daemon to listen", Duration::from_secs(30), || {
        std::net::TcpStream::connect_timeout(&daemon, Duration::from_secs(1))
            .map(drop)
            .context("connect")
    })
}

fn measured(ns: &Netns, before: Duration, timing: Timing) -> Result<Measured> {
    let (cpu, peak_kb) = usage(ns)?;
    let share = timing.own_cpu.as_secs_f64() / timing.wall.as_secs_f64().max(0.01);
    Ok(Measured {
        wall: timing.wall,
        cpu: cpu.saturating_sub(before),
        peak_kb,
        updates: timing.updates,
        // One thread cannot use more than one core: near that, it was waiting for nobody.
        tester_bound: share > 0.9,
    })
}

/// Two namespaces and a wire: the peers' whole /16 is local on the tester's side.
fn wire_up(lab: &Lab) -> Result<(Netns, Netns)> {
    let (ours, theirs) = (lab.namespace("tester")?, lab.namespace("daemon")?);
    run(&[
        "ip",
        "link",
        "add",
        "eth0",
        "netns",
        ours.name(),
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        theirs.name(),
    ])?;
    theirs.ip(&["addr", "add", &format!("{DAEMON}/16"), "dev", "eth0"])?;
    theirs.ip(&["addr", "add", "fd99::ffff:1/64", "dev", "eth0", "nodad"])?;
    ours.ip(&["addr", "add", "10.99.255.253/16", "dev", "eth0"])?;
    ours.ip(&["addr", "add", "fd99::ffff:2/64", "dev", "eth0", "nodad"])?;
    for ns in [&ours, &theirs] {
        ns.ip(&["link", "set", "eth0", "up"])?;
    }
    // Any of the peers' addresses may be bound without being configured one by one.
    ours.ip(&["route", "add", "local", "10.99.0.0/18", "dev", "lo"])?;
    Ok((ours, theirs))
}
