//! felix, the program: parse, log, run, drain.

use clap::Parser;
use felix::config::Config;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    tortie_kit::telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()?;
    runtime.block_on(async {
        let token = tortie_kit::shutdown::token()?;
        felix::run::run(config, token).await
    })
}
