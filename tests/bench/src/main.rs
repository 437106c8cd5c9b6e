//! `make bench`: bird-rs and its rivals under the same load, side by side in the same run.

mod budget;
mod daemon;
mod figures;
mod goal;
mod peer;
mod policy;
mod report;
mod scenario;
mod tester;
mod wire;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tortie_tests::lab::{Lab, Netns, missing_requirements, run, watch_signals};

use daemon::Program;
use report::Row;
use workload::{DAEMON, Import, Scenario, Workload};

#[derive(Debug, Parser)]
#[command(about = "Drives BGP daemons with the same load and compares them")]
struct Args {
    /// Which daemons: bird-rs, bird, frr, gobgp, openbgpd; default all that are installed
    #[arg(long, value_delimiter = ',')]
    daemons: Vec<String>,
    /// Which workloads: full, full-v6, rr200, rr200-v6, rr1000, rr5000, cold, deliver, slow, restart, exchange, churn,
    /// filter; default all
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Divides the number of routes, or of clients, changes and seconds where a row has its own, for a quick look
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shrink: u32,
    /// Checks only that bird-rs takes no more memory than it may
    #[arg(long)]
    budget: bool,
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

/// All-changes while one client reads nothing: more than the kernel's buffers of its connection hold.
const SLOW_ROUNDS: u32 = 10;

fn all(shrink: u32) -> Vec<Workload> {
    let full = Workload::full_table(1_000_000 / shrink);
    let (few, many) = (Workload::reflector(200, 20), Workload::reflector(1000, 10));
    let rounds = (200 / shrink).max(20);
    let of_thousand = |name: &str, what| Workload::scenario(name, (1000 / shrink).max(2), what);
    vec![
        full.clone(),
        full.with_family(true),
        few.clone(),
        few.with_family(true),
        many,
        Workload::reflector(5000 / shrink, 2).named("rr5000"),
        of_thousand("cold", Scenario::Cold),
        of_thousand("deliver", Scenario::Deliver { rounds }),
        of_thousand("slow", Scenario::Slow { rounds: SLOW_ROUNDS }),
        of_thousand("restart", Scenario::Restart),
        Workload::exchange(30, 20_000 / shrink),
        Workload::churn(200_000 / shrink, (60 / shrink).max(15)),
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
    if args.budget {
        raise_open_files(budget::SESSIONS + budget::FEW)?;
        print!("{}", budget::check(args.shrink)?);
        return Ok(());
    }
    let workloads = choose(all(args.shrink), &args.workloads, |w| w.name.clone())?;
    let programs = choose(Program::ALL.to_vec(), &args.daemons, |p| p.name().to_owned())?;
    raise_open_files(workloads.iter().map(Workload::peers).max().unwrap_or(0))?;
    let mut rows = Vec::new();
    for workload in &workloads {
        let mut of_workload = Vec::new();
        for program in programs.iter().filter(|program| program.runs(workload)) {
            if !program.installed() {
                bail!("{} is not installed: run `make deps build`", program.name());
            }
            eprintln!("{} on {}", program.name(), workload.title);
            of_workload.extend(scenario::measure(&Lab::for_test("bench")?, *program, workload)?);
        }
        rows.extend(by_phase(of_workload));
    }
    print!("{}", report::table(&rows, Program::BirdRs.name()));
    let filter = report::Filter::of(&rows);
    if let Some(filter) = &filter {
        println!("\n{filter}");
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, report::svg(&rows)).with_context(|| format!("write {}", path.display()))?;
    }
    let ours_failed = rows
        .iter()
        .any(|r| r.daemon == Program::BirdRs.name() && r.result.is_err());
    if ours_failed {
        bail!("bird-rs failed a workload");
    }
    if filter.is_some_and(report::Filter::is_too_much) {
        bail!("the import filter costs bird-rs too much");
    }
    if args.workloads.is_empty() && programs.contains(&Program::BirdRs) {
        print!("{}", budget::check(args.shrink)?);
    }
    Ok(())
}

/// The rows of one phase stand together, phases in the order they were run.
fn by_phase(mut rows: Vec<Row>) -> Vec<Row> {
    let mut order: Vec<&str> = Vec::new();
    for row in &rows {
        if !order.contains(&row.phase) {
            order.push(row.phase);
        }
    }
    rows.sort_by_key(|row| order.iter().position(|p| *p == row.phase));
    rows
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

/// The tester has a socket for each peer, and so has the daemon, which inherits the limit.
fn raise_open_files(peers: u32) -> Result<()> {
    // Listening and control sockets, files, pipes.
    const BESIDE: u64 = 1024;
    let need = u64::from(peers) + BESIDE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft < need {
        setrlimit(Resource::RLIMIT_NOFILE, need, hard.max(need))
            .with_context(|| format!("raise the limit of open files from {soft} to {need}"))?;
    }
    Ok(())
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
    // Thousands of neighbours on the wire are more than the kernel's table of them holds: the daemon knows one.
    theirs.ip(&["route", "add", "10.99.0.0/18", "via", "10.99.255.253"])?;
    // Any of the peers' addresses may be bound without being configured one by one.
    ours.ip(&["route", "add", "local", "10.99.0.0/18", "dev", "lo"])?;
    Ok((ours, theirs))
}
