//! `make bench`: bird-rs and its rivals under the same load, side by side in the same run.

mod budget;
mod daemon;
mod document;
mod figures;
mod filter;
mod goal;
mod kernel;
mod mesh;
mod node;
mod peer;
mod picture;
mod plan;
mod policy;
mod record;
mod report;
mod run;
mod scenario;
mod sync;
mod target;
mod tester;
mod topology;
mod wire;
mod workload;
mod writer;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = run::Args::parse();
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}
