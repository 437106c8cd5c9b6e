//! bird-rs: a BGP speaker with BIRD 2's configuration language. See DESIGN.md.

mod bfd;
mod bmp;
mod caches;
mod configure;
mod control;
mod daemon;
mod engine;
mod export;
mod fib;
mod grpc;
mod kernel;
mod log;
mod metrics;
mod mrt;
mod net;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tortie_kit::address::{ServiceAddr, local_only};
use tortie_kit::http::HttpArgs;
use tortie_kit::start::start;
use tortie_kit::telemetry::LogArgs;

/// A BGP speaker with BIRD 2's configuration language.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE", default_value = "/etc/tortie/bird.conf")]
    config: PathBuf,
    /// Parse the configuration and exit: 0 when it is good, 1 with the errors on standard error
    #[arg(short, long)]
    parse_only: bool,
    /// Serve gRPC here: unix:/path
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR", value_parser = local_only)]
    grpc: Option<ServiceAddr>,
    /// Serve BIRD's control protocol on this unix socket, for birdc
    #[arg(short = 's', long = "control", value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Write the process id here
    #[arg(short = 'P', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    let args = match start("bird-rs", |args: &Args| &args.log) {
        Ok(args) => args,
        Err(status) => return status,
    };
    // Before anything is opened or written: a wrong configuration leaves no trace.
    let config = match source::load(&args.config) {
        Ok(config) => config,
        Err(rejected) => {
            eprintln!("{rejected}");
            return ExitCode::FAILURE;
        }
    };
    if args.parse_only {
        return ExitCode::SUCCESS;
    }
    match daemon::run(args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bird-rs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
