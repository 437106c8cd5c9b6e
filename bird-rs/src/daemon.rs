//! Putting the program together, and taking it apart again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tortie_bgp::config::Config;
use tortie_bgp::speaker::{Input, Output, Speaker};
use tortie_kit::health::Health;

use crate::Args;
use crate::configure::{Configurator, Text};
use crate::engine::{self, Clock, Engine, Loop};
use crate::grpc::Service;
use crate::metrics::Metrics;
use crate::net::interfaces;
use crate::source;

/// How old `/debug/state` may be.
const STATE_EVERY: Duration = Duration::from_secs(2);
/// How long gRPC clients may take to leave.
const LEAVE: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
///
/// # Errors
/// What could not be set up, or what ended before its time.
pub(crate) fn run(args: Args, config: Arc<Config>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&args, config));
    runtime.shutdown_timeout(LEAVE);
    if let Some(path) = &args.pid_file {
        // It may be gone, or never have been written.
        let _ = std::fs::remove_file(path);
    }
    result
}

async fn serve(args: &Args, config: Arc<Config>) -> anyhow::Result<()> {
    let token = tortie_kit::shutdown::token()?;
    let clock = Clock::start();
    let addresses = interfaces::addresses().context("read the host's addresses")?;
    let file = args.config.display().to_string();
    let config = source::with_router_id(config, &file, &addresses).map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
    let mut speaker = Speaker::new(clock.now(), config.clone()).context("start the speaker")?;
    let mut outputs: Vec<Output> = Vec::new();
    speaker.handle(clock.now(), Input::Interfaces(addresses), &mut outputs);

    let health = Health::new();
    let (metrics, registry) = Metrics::new(health.guard("initial table"));
    let (engine_loop, engine) = Loop::new(speaker, clock, &config, metrics, outputs);
    let configurator = Arc::new(Configurator::new(args.config.clone(), config, engine.clone()));
    let incoming = match &args.grpc {
        Some(addr) => Some(addr.listen().await?),
        None => None,
    };
    if let Some(path) = &args.pid_file {
        let pid = format!("{}\n", std::process::id());
        tortie_kit::file::write_atomic(path, pid.as_bytes(), 0o644)
            .with_context(|| format!("write the process id to {}", path.display()))?;
    }
    let mut engine_task = tokio::spawn(engine_loop.run());
    let follow = tokio::spawn(interfaces::follow(engine.clone(), token.clone()));
    let reload = tokio::spawn(reload_on_hangup(configurator.clone(), token.clone()));
    let server = incoming.map(|incoming| {
        let service = Service::new(engine.clone(), clock, configurator);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned()),
        )
    });
    let state = state(engine.clone(), clock, token.clone());
    let http = tortie_kit::http::serve(&args.http, health, registry, state, token.clone());
    tracing::info!(config = file, "bird-rs runs");

    let http = async {
        http.await?;
        // Not asked for: nothing to wait for but the end.
        token.cancelled().await;
        Ok::<(), tortie_kit::http::HttpError>(())
    };
    tokio::select! {
        ended = &mut engine_task => ended.context("the engine failed")?,
        served = http => served?,
    }
    // What the peers are told must be on its way before anything else ends.
    if engine.ask(engine::Request::Stop).await.is_err() && !token.is_cancelled() {
        anyhow::bail!("the engine ended before its time");
    }
    token.cancel();
    let leave = async {
        // Their results tell nothing any more.
        let _ = tokio::join!(follow, reload);
        if let Some(server) = server {
            let _ = server.await;
        }
    };
    if tokio::time::timeout(LEAVE, leave).await.is_err() {
        tracing::debug!("some clients did not leave in time");
    }
    Ok(())
}

/// SIGHUP reads the file again.
async fn reload_on_hangup(configurator: Arc<Configurator>, token: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "cannot reload on SIGHUP");
            return;
        }
    };
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            received = hangup.recv() => if received.is_none() { return },
        }
        let Ok(outcome) = configurator.apply(Text::Own, String::new()).await else {
            return;
        };
        for diagnostic in &outcome.diagnostics {
            let (file, line, column) = (&diagnostic.file, diagnostic.line, diagnostic.column);
            let (message, hint) = (&diagnostic.message, diagnostic.hint.as_deref().unwrap_or_default());
            tracing::error!(file, line, column, message, hint, "configuration error");
        }
    }
}

/// What `/debug/state` shows: a copy made now and then, since the engine must not wait for whoever looks.
fn state(engine: Engine, clock: Clock, token: CancellationToken) -> tortie_kit::http::StateFn {
    let (sender, receiver) = watch::channel(serde_json::Value::Null);
    tokio::spawn(async move {
        while !token.is_cancelled() {
            let look = engine.query(|speaker| (speaker.status(), speaker.protocols())).await;
            let Ok((status, protocols)) = look else { return };
            let protocols: Vec<_> = protocols
                .iter()
                .map(|protocol| {
                    serde_json::json!({
                        "name": &*protocol.name,
                        "kind": protocol.kind,
                        "state": protocol.state.as_str(),
                        "info": protocol.info,
                        "last_error": protocol.bgp.as_ref().and_then(|bgp| bgp.last_error.clone()),
                        "imported": protocol.channels.iter().map(|channel| channel.imported).sum::<u64>(),
                        "exported": protocol.channels.iter().map(|channel| channel.exported).sum::<u64>(),
                    })
                })
                .collect();
            sender.send_replace(serde_json::json!({
                "as_of_unix_ms": clock.unix_ms(clock.now()),
                "router_id": status.router_id.to_string(),
                "fib_in_sync": status.fib_in_sync,
                "prefixes": status.prefixes,
                "paths": status.paths,
                "attribute_sets": status.attribute_sets,
                "protocols": protocols,
            }));
            tokio::select! {
                () = token.cancelled() => {}
                () = tokio::time::sleep(STATE_EVERY) => {}
            }
        }
    });
    Arc::new(move || receiver.borrow().clone())
}
