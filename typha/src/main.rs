//! typha: the only program that talks to the datastore. It sends every agent the cluster state and takes their writes.

mod cluster;
mod config;
mod datastore;
mod metrics;
mod run;
mod store;
mod sync;

use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;

/// `EX_USAGE`: the command line cannot be used.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(e) => {
            // Nothing is left to say when even standard error is closed.
            let _ = e.print();
            return if e.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(e) = tortie_kit::telemetry::init(&config.log) {
        eprintln!("typha: {e}");
        return ExitCode::from(USAGE);
    }
    let errors = config.errors();
    if !errors.is_empty() {
        errors.iter().for_each(|e| eprintln!("typha: {e}"));
        return ExitCode::from(USAGE);
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("typha: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let token = tortie_kit::shutdown::token()?;
        run::run(config, token).await
    })
    // Dropping the runtime waits for the write that is being synced, if any.
}
