//! felix, the program: parse, log, run, drain.

use std::process::ExitCode;

use felix::config::Config;
use tortie_kit::start::start;

fn main() -> ExitCode {
    let config = match start("felix", |config: &Config| &config.log) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("felix: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Threads for what blocks: the kernel's interfaces, files. Interfaces that go wait side by side in the kernel, so a few would be
/// in each other's way; and each thread that allocates keeps memory for itself, so the hundreds that a burst of pods would start
/// are too many.
const BLOCKING: usize = 32;

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        .build()?;
    runtime.block_on(async {
        let token = tortie_kit::shutdown::token()?;
        felix::run::run(config, token).await
    })
}
