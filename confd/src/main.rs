//! The program: flags, logging, then the daemon or one rendering.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use clap::Parser;
use confd::config::Config;
use confd::daemon::{Daemon, Reporting};
use confd::once;
use prometheus_client::registry::Registry;
use tortie_kit::health::Health;
use tortie_kit::{http, shutdown, telemetry};

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(e) = telemetry::init(&config.log) {
        eprintln!("confd: {e}");
        return ExitCode::from(EX_USAGE);
    }
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("confd: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(config: Config) -> Result<()> {
    let token = shutdown::token()?;
    if config.once {
        return once::write(&config, token).await;
    }
    if config.dry_run {
        return once::show(&config, token).await;
    }
    let dir = &config.state_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("make state directory {}", dir.display()))?;
    let (health, registry) = (Health::new(), Arc::new(Mutex::new(Registry::default())));
    let http_args = config.http.clone();
    let daemon = Daemon::new(
        config,
        Reporting {
            health: health.clone(),
            registry: registry.clone(),
        },
    )?;
    http::serve(&http_args, health, registry, daemon.state_fn(), token.clone()).await?;
    daemon.run(token).await;
    tracing::info!("stopped");
    Ok(())
}
