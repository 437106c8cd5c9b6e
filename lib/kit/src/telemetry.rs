//! Logs, to standard error, and to wherever a program routes them.

use std::io::Stderr;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Where events go that `--log-level` lets through, besides or instead of standard error.
pub trait Route: Send + Sync {
    /// Does standard error get events of this kind?
    fn on_stderr(&self, metadata: &Metadata<'_>) -> bool;

    /// Takes an event. Must not block, nor log anything.
    fn event(&self, event: &Event<'_>);
}

static ROUTE: OnceLock<Box<dyn Route>> = OnceLock::new();

/// Routes all events from now on. The first call in a process counts.
pub fn route(route: Box<dyn Route>) {
    let _already_set = ROUTE.set(route);
}

/// Standard error, as far as the route lets it have an event.
struct Routed;

impl<'a> MakeWriter<'a> for Routed {
    type Writer = OptionalWriter<Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::some(std::io::stderr())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        match ROUTE.get().is_none_or(|route| route.on_stderr(metadata)) {
            true => OptionalWriter::some(std::io::stderr()),
            false => OptionalWriter::none(),
        }
    }
}

impl<S: Subscriber> Layer<S> for Routed {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(route) = ROUTE.get() {
            route.event(event);
        }
    }
}

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Routed);
    let _already_set = match args.log_format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .with(Routed)
            .try_init(),
        LogFormat::Json => builder.json().finish().with(Routed).try_init(),
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
