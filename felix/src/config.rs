//! What felix is told on its command line.

use std::path::PathBuf;

use clap::Parser;
use tortie_kit::address::{ServiceAddr, ServiceAddrs, local_only};
use tortie_kit::http::HttpArgs;
use tortie_kit::telemetry::LogArgs;
use tortie_kit::tls::TlsArgs;
use tortie_net::NodeName;

/// felix: writes this node's kernel: workload interfaces, routes
#[derive(Debug, Clone, Parser)]
#[command(name = "felix", version)]
pub struct Config {
    /// This node's name, as in its Node resource
    #[arg(long, env = "TORTIE_NODE", value_name = "NAME")]
    pub node: NodeName,
    /// Where typha is; or where several are, separated by commas
    #[arg(long, env = "TORTIE_TYPHA", value_name = "ADDR")]
    pub typha: ServiceAddrs,
    /// For a typha on tcp: who we are to it, and whom it must be
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where bird-rs is
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR")]
    pub bird: ServiceAddr,
    /// Where to serve the CNI plugin and tortiectl
    #[arg(
        long,
        env = "TORTIE_FELIX",
        value_name = "ADDR",
        default_value = "unix:/run/tortie/felix.sock",
        value_parser = local_only
    )]
    pub socket: ServiceAddr,
    /// Where the last good state is kept; made when missing
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tortie/felix")]
    pub state_dir: PathBuf,
    /// How long an address may be allocated without a workload before it is released, such as 15m; 0 never releases any
    #[arg(long, env = "TORTIE_IPAM_LEAK_GRACE", value_name = "TIME", default_value = "15m")]
    pub ipam_leak_grace: tortie_model::GoDuration,
    /// Probes and metrics
    #[command(flatten)]
    pub http: HttpArgs,
    /// Logs
    #[command(flatten)]
    pub log: LogArgs,
}
