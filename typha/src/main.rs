//! typha: the only program that talks to the datastore. It sends every agent the cluster state and takes their writes.

mod access;
mod begin;
mod cluster;
mod config;
mod datastore;
mod metrics;
mod run;
mod state;
mod store;
mod sync;

use std::process::ExitCode;

use tortie_kit::start::{USAGE, start};

use crate::config::Config;

fn main() -> ExitCode {
    let config = match start("typha", |config: &Config| &config.log) {
        Ok(config) => config,
        Err(status) => return status,
    };
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
