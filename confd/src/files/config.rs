//! Flags of `confd files`. Every flag has the meaning that confd's users know.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tortie_etcd::EtcdArgs;
use tortie_kit::address::ServiceAddrs;
use tortie_kit::http::HttpArgs;
use tortie_kit::telemetry::LogArgs;
use tortie_kit::tls::TlsArgs;
use tortie_net::NodeName;

use crate::view::RouterIdChoice;

/// The command line, when its first word is `files`.
#[derive(Debug, Parser)]
#[command(name = "confd", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What confd does besides rendering this node's BGP configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep any files, made of any templates
    Files(Config),
}

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The environment: /db/url is DB_URL
    Env,
    /// The keys of an etcd cluster
    Etcd,
    /// YAML or JSON files
    File,
    /// Cluster state, by Calico's keys
    Typha,
}

/// Which typha, and as whom.
#[derive(Debug, Args)]
pub struct TyphaArgs {
    /// For --backend typha: unix:/path or tcp:host:port, or several separated by commas
    #[arg(long, env = "TORTIE_TYPHA", value_name = "ADDR", required_if_eq("backend", "typha"))]
    pub typha: Option<ServiceAddrs>,
    /// For a typha on tcp: who we are to it, and whom it must be
    #[command(flatten)]
    pub tls: TlsArgs,
    /// For --backend typha: whose typed BGP view templates get as their data
    #[arg(long, env = "TORTIE_NODE")]
    pub node: Option<NodeName>,
    /// The BGP identifier in that view: `auto`, `hash`, or a dotted quad
    #[arg(long, env = "CALICO_ROUTER_ID", default_value = "auto", value_name = "ID")]
    pub router_id: RouterIdChoice,
    /// Passwords of that view's sessions: the value of key K of secret S is the content of DIR/S/K
    #[arg(long, env = "TORTIE_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Where the last good state is kept, so that confd starts with typha away
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `confd files`.
#[derive(Debug, Args)]
pub struct Config {
    /// The directory with conf.d/*.toml and templates/
    #[arg(long, default_value = "/etc/confd", value_name = "DIR")]
    pub confdir: PathBuf,
    /// Where keys come from
    #[arg(long, value_enum)]
    pub backend: Backend,
    /// For --backend file: a YAML or JSON file; of several, a later one wins
    #[arg(long, value_name = "FILE", required_if_eq("backend", "file"))]
    pub file: Vec<PathBuf>,
    /// For --backend etcd
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// For --backend typha
    #[command(flatten)]
    pub typha: TyphaArgs,
    /// Put before every key at the source, and not seen by templates
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub prefix: String,
    /// Once, and exit: 1 when a file is not as wanted
    #[arg(long)]
    pub onetime: bool,
    /// Whenever the source changes, which is what happens when nothing is said
    #[arg(long, conflicts_with_all = ["onetime", "interval"])]
    pub watch: bool,
    /// Every SECONDS, templates read anew
    #[arg(long, value_name = "SECONDS", conflicts_with = "onetime", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// Print what would change, once; nothing is written, checked or reloaded
    #[arg(long)]
    pub noop: bool,
    /// Probes and metrics
    #[command(flatten)]
    pub http: HttpArgs,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) if (1..=86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a number of seconds from 1 to 86400".to_owned()),
    }
}
