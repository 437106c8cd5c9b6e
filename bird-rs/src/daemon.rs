//! Putting the program together, and taking it apart again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tortie_bgp::config::Config;
use tortie_bgp::speaker::{Input, Output, Speaker};
use tortie_kit::address::ServiceAddr;
use tortie_kit::health::Health;

use crate::args::Args;
use crate::bfd::{self, Bfd};
use crate::configure::{Configurator, How, Text};
use crate::control::Control;
use crate::engine::{self, Clock, Engine, Loop};
use crate::grpc::Service;
use crate::grpc::facts::Facts;
use crate::grpc::operator::Operator;
use crate::log::{self, FATAL, Logs};
use crate::metrics::Metrics;
use crate::net::{interfaces, routes};
use crate::privileges::Identity;
use crate::sockets::Sockets;
use crate::source;

/// How old `/debug/state` may be.
const STATE_EVERY: Duration = Duration::from_secs(2);
/// Threads for tasks at most. The engine keeps one busy, all that read, write and answer do not need more than these;
/// each costs memory of its own, and hosts have a hundred cores.
const THREADS: usize = 4;
/// How long gRPC clients may take to leave.
const LEAVE: Duration = Duration::from_secs(1);

/// Opens what clients were promised, gives up root if that is wanted, and runs until a signal ends it.
///
/// # Errors
/// What could not be set up, or what ended before its time.
pub(crate) fn run(args: Args, config: Arc<Config>) -> anyhow::Result<()> {
    if let Some(path) = &args.debug_file {
        let file = std::fs::File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("open the log file {}", path.display()))?;
        nix::unistd::dup2_stderr(file).context("log to a file")?;
    }
    let identity = args.identity()?;
    let control = args.control.clone().map(ServiceAddr::Unix);
    let sockets = Sockets::open(args.grpc.as_ref(), control.as_ref(), identity)?;
    let result = write_pid(&args).and_then(|()| {
        identity.map_or(Ok(()), Identity::assume)?;
        // Not before: a thread that is there already would keep root's capabilities.
        let logs = logs(&args, &config)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?;
        let result = runtime.block_on(serve(&args, config, sockets, logs.clone()));
        runtime.shutdown_timeout(LEAVE);
        if let Err(error) = &result {
            tracing::error!(target: FATAL, error = format!("{error:#}"), "bird-rs ends");
        }
        logs.flush();
        result
    });
    if let Some(path) = &args.pid_file {
        // It may be gone, or never have been written.
        let _ = std::fs::remove_file(path);
    }
    result
}

/// Messages go where the configuration says, from here on.
fn logs(args: &Args, config: &Config) -> anyhow::Result<Logs> {
    let file = args.config.display().to_string();
    let opened = log::open(config, &file).map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
    let logs = Logs::start().context("start the thread that logs")?;
    logs.switch(opened);
    Ok(logs)
}

fn write_pid(args: &Args) -> anyhow::Result<()> {
    let Some(path) = &args.pid_file else { return Ok(()) };
    let pid = format!("{}\n", std::process::id());
    tortie_kit::file::write_atomic(path, pid.as_bytes(), 0o644)
        .with_context(|| format!("write the process id to {}", path.display()))
}

async fn serve(args: &Args, config: Arc<Config>, sockets: Sockets, logs: Logs) -> anyhow::Result<()> {
    let token = tortie_kit::shutdown::token()?;
    let clock = Clock::start();
    let health = Health::new();
    let (metrics, registry) = Metrics::new(health.guard("initial table"));
    let (known, resolving) = match routes::read() {
        Ok((known, input)) => (Some(known), Some(input)),
        Err(error) => {
            tracing::warn!(%error, "cannot read the kernel's routes, no next hop is taken to be unreachable");
            (None, None)
        }
    };
    let bfd = Bfd::start(clock).context("start BFD")?;
    if let Ok(mut registry) = registry.lock() {
        let ours = registry.sub_registry_with_prefix("bird_rs");
        ours.register_collector(Box::new(bfd.clone()));
    }
    let (engine_loop, engine, config) = engine(args, clock, config, (metrics.clone(), bfd.clone()), resolving)?;
    let configurator = Arc::new(Configurator::new(
        args.config.clone(),
        config,
        (engine.clone(), clock),
        (metrics.clone(), logs),
    ));
    let clients = clients(sockets, clock, (&engine, &bfd), &configurator, &token)?;
    let mut engine_task = engine_loop.start();
    clients.spawn(configurator.clone().keep_time(token.clone()));
    clients.spawn(interfaces::follow(engine.clone(), token.clone()));
    clients.spawn(routes::follow(engine.clone(), known, token.clone()));
    clients.spawn(bfd::forward(bfd.clone(), engine.clone(), token.clone()));
    clients.spawn(reload_on_hangup(configurator, token.clone()));
    // Nobody else can ask for it, and it takes a kilobyte or two for each protocol.
    let state: tortie_kit::http::StateFn = match args.http.http {
        Some(_) => state(engine.clone(), clock, token.clone()),
        None => Arc::new(|| serde_json::Value::Null),
    };
    let http = async {
        tortie_kit::http::serve(&args.http, health, registry, state, token.clone()).await?;
        // Not asked for: nothing to wait for but the end.
        token.cancelled().await;
        Ok::<(), tortie_kit::http::HttpError>(())
    };
    tracing::info!(config = %args.config.display(), "bird-rs runs");
    tokio::select! {
        ended = &mut engine_task => ended.context("the engine failed")?,
        served = http => served?,
    }
    // First, or peers take the end of this process for a broken path.
    bfd.stop().await;
    // What the peers are told must be on its way before anything else ends.
    if engine.ask(engine::Request::Stop).await.is_err() && !token.is_cancelled() {
        anyhow::bail!("the engine ended before its time");
    }
    token.cancel();
    clients.close();
    if tokio::time::timeout(LEAVE, clients.wait()).await.is_err() {
        tracing::debug!("some clients did not leave in time");
    }
    Ok(())
}

/// The speaker with the host's addresses, and the engine around it. Gives the configuration with a router id.
fn engine(
    args: &Args,
    clock: Clock,
    config: Arc<Config>,
    (metrics, bfd): (Metrics, Bfd),
    resolving: Option<Input>,
) -> anyhow::Result<(Loop, Engine, Arc<Config>)> {
    let (links, addresses) = interfaces::read().context("read the host's addresses")?;
    let file = args.config.display().to_string();
    let host = source::Host {
        addresses: addresses.clone(),
        name: source::hostname(),
    };
    let config = source::completed(&config, &file, &host, None).map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
    let mut speaker = Speaker::new(clock.now(), config.clone()).context("start the speaker")?;
    if !args.recover {
        speaker.start_afresh();
    }
    let mut outputs: Vec<Output> = Vec::new();
    speaker.handle(clock.now(), Input::Links(links), &mut outputs);
    speaker.handle(clock.now(), Input::Interfaces(addresses), &mut outputs);
    if let Some(input) = resolving {
        speaker.handle(clock.now(), input, &mut outputs);
    }
    let (engine_loop, engine) = Loop::new(speaker, clock, &config, metrics, outputs, bfd);
    Ok((engine_loop, engine, config))
}

/// Serves clients on the sockets that they were promised.
fn clients(
    sockets: Sockets,
    clock: Clock,
    (engine, bfd): (&Engine, &Bfd),
    configurator: &Arc<Configurator>,
    token: &CancellationToken,
) -> anyhow::Result<TaskTracker> {
    let tasks = TaskTracker::new();
    if let Some(bound) = sockets.grpc {
        let incoming = bound.incoming()?;
        let server = tonic::transport::Server::builder()
            .add_service(Service::new(engine.clone(), clock, configurator.clone(), bfd.clone()).into_server())
            .add_service(Operator::new(engine.clone(), clock, configurator.clone()).into_server())
            .add_service(Facts::new(engine.clone(), clock, configurator.clone()).into_server())
            .serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned());
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the gRPC server failed");
            }
        });
    }
    if let Some(bound) = sockets.control {
        let incoming = bound.incoming()?;
        let control = Control {
            engine: engine.clone(),
            clock,
            configurator: configurator.clone(),
            down: token.clone(),
            bfd: bfd.clone(),
        };
        tasks.spawn(control.serve(incoming, token.clone()));
    }
    Ok(tasks)
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
        let Ok(outcome) = configurator.apply(Text::Own, String::new(), How::default()).await else {
            return;
        };
        for diagnostic in &outcome.0.diagnostics {
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
                        "last_connect_failure": protocol.bgp.as_ref().and_then(|bgp| bgp.last_connect_failure.clone()),
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
