//! The program: flags, logging, then the daemon, one rendering, or `confd files`.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use confd::config::Config;
use confd::daemon::{Daemon, Reporting};
use confd::files::config::{Cli, Command};
use confd::{files, once};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tortie_kit::health::Health;
use tortie_kit::start::start;
use tortie_kit::tls::TlsArgs;
use tortie_kit::{http, shutdown};

fn main() -> ExitCode {
    // The first word alone decides, so that flags of the one do not become flags of the other.
    let done = if std::env::args_os().nth(1).is_some_and(|word| word == "files") {
        start(
            "confd",
            |Cli {
                 command: Command::Files(config),
             }: &Cli| &config.log,
        )
        .map(|cli| {
            let Command::Files(config) = cli.command;
            keep_files(&config)
        })
    } else {
        start("confd", |config: &Config| &config.log).map(run)
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            eprintln!("confd: {e:#}");
            ExitCode::FAILURE
        }
        Err(status) => status,
    }
}

#[tokio::main]
async fn keep_files(config: &files::config::Config) -> Result<()> {
    let token = shutdown::token()?;
    let mut registry = Registry::default();
    if matches!(config.backend, files::config::Backend::Typha) {
        show_certificates(&config.typha.tls, &mut registry, &token);
    }
    let (health, registry) = (Health::new(), Arc::new(Mutex::new(registry)));
    let nothing = Arc::new(|| serde_json::Value::Null);
    http::serve(&config.http, health.clone(), registry, nothing, token.clone()).await?;
    files::run::run(config, &health, token).await
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
    let mut registry = Registry::default();
    show_certificates(&config.tls, &mut registry, &token);
    let (health, registry) = (Health::new(), Arc::new(Mutex::new(registry)));
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

/// When the certificates end with which typha is reached.
fn show_certificates(tls: &TlsArgs, registry: &mut Registry, token: &CancellationToken) {
    let registry = registry.sub_registry_with_prefix("confd");
    tortie_kit::tls::watch_client(tls.files(), registry, token.clone());
}
