//! `make bench-pods`: pods in a burst, pods again and again, and a cluster's nodes claiming blocks, on the real programs.
//!
//! Every row measures, and fails when what must hold does not: no address twice, nothing left behind, few transactions.

mod again;
mod burst;
mod claims;
mod plugin;
mod publish;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tortie_tests::lab::watch_signals;

use site::Site;

/// What to run.
#[derive(Debug, Parser)]
struct Args {
    /// Rows: burst, again, claims.
    #[arg(long, value_delimiter = ',', default_value = "burst,again,claims")]
    rows: Vec<String>,
    /// Pods of the burst.
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// How long `again` goes on.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Nodes that claim at once.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// A folder that has benchmarks.md: what was found is written into it.
    #[arg(long)]
    docs: Option<PathBuf>,
}

/// What a row found.
#[derive(Debug, Default)]
struct Row {
    title: String,
    /// What was measured, and how much.
    figures: Vec<(String, String)>,
    /// What must hold and does not.
    broken: Vec<String>,
}

impl Row {
    fn new(title: String) -> Self {
        Row {
            title,
            ..Row::default()
        }
    }

    fn figure(&mut self, what: &str, value: String) {
        self.figures.push((what.to_owned(), value));
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    fn print(&self) {
        println!("{}", self.title);
        for (what, value) in &self.figures {
            println!("  {what:<44} {value}");
        }
        for broken in &self.broken {
            println!("  BROKEN: {broken}");
        }
    }
}

/// Every client has a connection, and typha the other end of it: the daemons inherit the limit.
fn raise_limit(clients: usize) -> Result<()> {
    let need = u64::try_from(clients)? + 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft < need {
        setrlimit(Resource::RLIMIT_NOFILE, need, hard.max(need)).with_context(|| format!("{need} open files"))?;
    }
    Ok(())
}

fn run(args: &Args) -> Result<()> {
    watch_signals()?;
    raise_limit(args.nodes)?;
    let mut rows = Vec::new();
    for name in &args.rows {
        // Each has programs of its own: what one leaves in their memory is not the other's.
        let typha = if name == "again" { again::TYPHA } else { &[] };
        let site = Site::start(typha).context("start a node")?;
        let row = match name.as_str() {
            "burst" => burst::run(&site, args.pods),
            "again" => again::run(&site, args.seconds),
            "claims" => claims::run(&site, args.nodes),
            other => bail!("no row '{other}': want burst, again or claims"),
        };
        let row = row.with_context(|| format!("row {name}"))?;
        row.print();
        rows.push(row);
    }
    if let Some(folder) = &args.docs {
        publish::publish(&rows, folder)?;
    }
    let broken: usize = rows.iter().map(|r| r.broken.len()).sum();
    if broken > 0 {
        bail!("{broken} of what must hold does not, see BROKEN above");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-pods: {e:#}");
            ExitCode::FAILURE
        }
    }
}
