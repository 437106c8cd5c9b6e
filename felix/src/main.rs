//! felix, the program: parse, log, run, drain.

use std::process::ExitCode;

use clap::Parser;
use felix::config::Config;

/// `EX_USAGE`: the command line cannot be used.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(e) => {
            // Nothing is left to say when even standard error is closed.
            let _ = e.print();
            return if e.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(e) = tortie_kit::telemetry::init(&config.log) {
        eprintln!("felix: {e}");
        return ExitCode::from(USAGE);
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("felix: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()?;
    runtime.block_on(async {
        let token = tortie_kit::shutdown::token()?;
        felix::run::run(config, token).await
    })
}
