//! A run from its command line to its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tortie_tests::lab::{Lab, missing_requirements, watch_signals};

use crate::daemon::Program;
use crate::filter::Filter;
use crate::plan::{self, Budget};
use crate::record::{Machine, Record, Row};
use crate::workload::Workload;
use crate::{budget, document, picture, report, scenario};

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "Drives BGP daemons with the same load and compares them")]
pub(crate) struct Args {
    /// Which daemons, in every row they can run; default those that docs/benchmarks.md says of each row
    #[arg(long, value_delimiter = ',')]
    daemons: Vec<String>,
    /// Which rows, by their names in docs/benchmarks.md; default all
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Divides the number of routes, or of clients, changes and seconds where a row has its own, for a quick look
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shrink: u32,
    /// All rows end within so many minutes: what is left goes to our own programs first
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Checks only that bird-rs takes no more memory than it may
    #[arg(long)]
    budget: bool,
    /// Writes results.json, benchmarks.txt and benchmarks.svg into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measures nothing: writes the figures of the folder given with --out into this folder's benchmarks.md
    #[arg(long, value_name = "DIR", requires = "out")]
    docs: Option<PathBuf>,
}

/// Does what the command line says.
///
/// # Errors
/// When something cannot be measured or written, or bird-rs does not do what it must.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(docs), Some(out)) = (&args.docs, &args.out) {
        return document::publish(&Record::read(&out.join("results.json"))?, docs);
    }
    let missing = missing_requirements();
    if !missing.is_empty() {
        bail!("{}", missing.join("; "));
    }
    watch_signals()?;
    if args.budget {
        plan::raise_open_files(budget::SESSIONS + budget::FEW)?;
        print!("{}", budget::check(args.shrink)?);
        return Ok(());
    }
    measure(args)
}

fn measure(args: &Args) -> Result<()> {
    let workloads = plan::choose(plan::all(args.shrink), &args.workloads, |w| w.name.clone())?;
    let programs = plan::choose(Program::ALL.to_vec(), &args.daemons, |p| p.name().to_owned())?;
    let runs = |program: &Program, workload: &Workload| {
        program.runs(workload) && (!args.daemons.is_empty() || plan::usual(workload).contains(program))
    };
    let needed = |program: &&Program| workloads.iter().any(|w| runs(program, w));
    if let Some(absent) = programs.iter().filter(needed).find(|p| !p.installed()) {
        bail!("{} is not installed: run `make deps build`", absent.name());
    }
    plan::raise_open_files(workloads.iter().map(Workload::peers).max().unwrap_or(0))?;
    let start = Instant::now();
    let time = Budget::new(Duration::from_secs(60 * args.minutes));
    let mut record = Record {
        machine: Machine::look(args.shrink)?,
        rows: Vec::new(),
        budget: String::new(),
    };
    for (at, workload) in workloads.iter().enumerate() {
        let rest = workloads.get(at + 1..).unwrap_or_default();
        for program in programs.iter().filter(|p| runs(p, workload)) {
            eprintln!(
                "{:>5.0} s: {} on {}",
                start.elapsed().as_secs_f64(),
                program.name(),
                workload.title
            );
            record.rows.extend(match time.until(*program, workload, rest) {
                Some(until) => scenario::measure(&Lab::for_test("bench")?, *program, workload, until)?,
                None => vec![left_out(*program, workload, args.minutes)],
            });
        }
        record.machine.took_s = start.elapsed().as_secs_f64();
        // What was measured outlives whatever comes next.
        write(&record, args.out.as_deref())?;
    }
    let all = args.workloads.is_empty() && programs.contains(&Program::BirdRs);
    let checked = if all {
        budget::check(args.shrink)
    } else {
        Ok(String::new())
    };
    record.budget = checked.as_ref().map_or_else(|e| format!("{e:#}"), Clone::clone);
    record.machine.done(start)?;
    write(&record, args.out.as_deref())?;
    print!("{}", text(&record));
    verdict(&record)?;
    checked.map(drop)
}

fn left_out(program: Program, workload: &Workload, minutes: u64) -> Row {
    Row {
        row: workload.row().to_owned(),
        workload: workload.title.clone(),
        phase: "not run".to_owned(),
        daemon: program.name().to_owned(),
        result: Err(format!("no time left of {minutes} minutes")),
    }
}

fn text(record: &Record) -> String {
    let Record { machine, rows, budget } = record;
    format!(
        "{}\n{}\nto reach{}\n{}\n{budget}\nall of it took {:.0} s; something else used {:.0} % of the CPUs before and \
         {:.0} % after\n",
        report::table(rows),
        report::costs(rows),
        if machine.shrink == 1 {
            ""
        } else {
            " (with the whole load, which this was not)"
        },
        report::targets(rows),
        machine.took_s,
        100.0 * machine.busy_before,
        100.0 * machine.busy_after
    )
}

fn write(record: &Record, out: Option<&Path>) -> Result<()> {
    let Some(out) = out else { return Ok(()) };
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    record.write(&out.join("results.json"))?;
    for (name, content) in [
        ("benchmarks.txt", text(record)),
        ("benchmarks.svg", picture::svg(&record.rows)),
    ] {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Did our own programs do everything they must?
fn verdict(record: &Record) -> Result<()> {
    let failed = record
        .rows
        .iter()
        .filter(|r| Program::is_ours(&r.daemon) && r.result.is_err());
    let failed: Vec<String> = failed
        .map(|r| format!("{} failed {}, {}", r.daemon, r.row, r.phase))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    if let Some(filter) = Filter::of(&record.rows).filter(|f| f.is_too_much()) {
        bail!("{filter}");
    }
    Ok(())
}
