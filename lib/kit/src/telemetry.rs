//! Logs, to standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace) or a tracing filter such as `info,bird_rs=debug`
    #[arg(
        long,
        env = "TORTIE_LOG",
        default_value = "info",
        global = true,
        value_name = "FILTER"
    )]
    pub log_level: String,
    /// How log lines look
    #[arg(
        long,
        env = "TORTIE_LOG_FORMAT",
        default_value = "text",
        global = true,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter given is none.
#[derive(Debug, thiserror::Error)]
#[error("--log-level '{filter}': {reason}")]
pub struct BadFilter {
    filter: String,
    reason: String,
}

/// Starts logging. A second call in one process changes nothing.
///
/// # Errors
/// [`BadFilter`] when the filter does not parse.
pub fn init(args: &LogArgs) -> Result<(), BadFilter> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|e| BadFilter {
        filter: args.log_level.clone(),
        reason: e.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _already_set = match args.log_format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}
