//! Logs, to standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
    let filter = filter(&args.log_level)?;
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

/// To the library a lone word that is no level is a module, logged at every level, and all others are silent: who
/// misspells `debug` would see nothing at all. So a module has to be written with its level.
fn filter(text: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |reason: String| BadFilter {
        filter: text.to_owned(),
        reason,
    };
    let words = text.split(',');
    for word in words.filter(|w| !w.is_empty() && !w.contains(['=', '['])) {
        if word.parse::<LevelFilter>().is_err() {
            return Err(bad(format!(
                "'{word}' is no level: want off, error, warn, info, debug or trace, or MODULE=LEVEL"
            )));
        }
    }
    EnvFilter::try_new(text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_module() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,bird_rs=debug",
            "warn,typha::sync=trace",
            "error,[peer]=debug",
            "",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["debig", "verbose", "info,bird_rs", "info,bird_rs=loud"] {
            let said = filter(bad).unwrap_err().to_string();
            assert!(said.starts_with(&format!("--log-level '{bad}': ")), "{said}");
        }
        let said = filter("info,bird_rs").unwrap_err().to_string();
        assert!(
            said.contains("'bird_rs' is no level") && said.contains("MODULE=LEVEL"),
            "{said}"
        );
    }
}
