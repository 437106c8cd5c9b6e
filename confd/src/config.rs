//! Flags. Every flag has an environment variable; a flag wins.

use std::path::PathBuf;

use clap::Parser;
use tortie_kit::address::{ServiceAddr, ServiceAddrs};
use tortie_kit::http::HttpArgs;
use tortie_kit::telemetry::LogArgs;
use tortie_kit::tls::TlsArgs;
use tortie_net::NodeName;

use crate::state::ClusterState;
use crate::view::RouterIdChoice;

/// Renders this node's BGP configuration from cluster state and has bird-rs apply it.
#[derive(Debug, Parser)]
#[command(
    name = "confd",
    version,
    after_help = "`confd files` keeps any other file, made of any template: see confd files --help"
)]
pub struct Config {
    /// The node this configuration is for
    #[arg(long, env = "TORTIE_NODE")]
    pub node: NodeName,
    /// Where cluster state comes from: unix:/path or tcp:host:port, or several separated by commas
    #[arg(long, env = "TORTIE_TYPHA", value_name = "ADDR")]
    pub typha: ServiceAddrs,
    /// For a typha on tcp: who we are to it, and whom it must be
    #[command(flatten)]
    pub tls: TlsArgs,
    /// bird-rs, which checks and applies what is rendered: unix:/path or tcp:host:port
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR")]
    pub bird: ServiceAddr,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Where the last good state is kept, so that confd starts with typha away
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Templates found here replace the shipped ones of the same name
    #[arg(long, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Passwords of sessions: the value of key K of secret S is the content of DIR/S/K
    #[arg(long, env = "TORTIE_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// The BGP identifier: `auto` (the node's IPv4 address, else a hash of its name), `hash`, or a dotted quad
    #[arg(long, env = "CALICO_ROUTER_ID", default_value = "auto", value_name = "ID")]
    pub router_id: RouterIdChoice,
    /// Announce this node's pod CIDRs (`status.podCIDRs` of the Node), from which host-local gives addresses
    #[arg(long, env = "USE_POD_CIDR")]
    pub use_pod_cidr: bool,
    /// Render, have bird-rs check, write, and exit; bird-rs is not told to apply
    #[arg(long, conflicts_with = "dry_run")]
    pub once: bool,
    /// Render, print the text and how it differs from the file, and exit; nothing is written or asked
    #[arg(long)]
    pub dry_run: bool,
    /// Probes and metrics
    #[command(flatten)]
    pub http: HttpArgs,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
}

impl Config {
    /// An empty cluster as this node is to see it.
    pub fn empty_state(&self) -> ClusterState {
        ClusterState {
            use_pod_cidr: self.use_pod_cidr,
            ..ClusterState::new(self.node.clone())
        }
    }
}
