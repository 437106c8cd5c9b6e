//! The program: flags, logging, then the daemon or one rendering.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use confd::config::Config;
use confd::daemon::{Daemon, Reporting};
use confd::once;
use prometheus_client::registry::Registry;
use tortie_kit::health::Health;
use tortie_kit::start::start;
use tortie_kit::{http, shutdown};

fn main() -> ExitCode {
    let config = match start("confd", |config: &Config| &config.log) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("confd: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<()> {
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
