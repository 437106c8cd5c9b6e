//! bird-rs: a BGP speaker with BIRD 2's configuration language. See DESIGN.md.

mod args;
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
mod privileges;
mod sockets;
mod source;

use std::process::ExitCode;

use tortie_kit::start::start;

use self::args::Args;

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
