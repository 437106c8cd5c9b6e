//! Builds the tasks, watches over them, ends them.

use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tortie_kit::address::Target;
use tortie_kit::health::{Guard, Health};
use tortie_netlink::monitor::{Monitor, Without};
use tortie_netlink::route::{Netlink, TABLE_MAIN};
use tortie_netlink::touch::Touches;
use tortie_proto::common::Hello;
use tortie_typha_client::{Store, SyncOptions};

use crate::config::Config;
use crate::dataplane;
use crate::dataplane::manager::Input;
use crate::endpoint;
use crate::failures::Failing;
use crate::fib::{EMPTY_PATIENCE, FibClient, FibStatus};
use crate::forwarding;
use crate::ipam::Ipam;
use crate::links;
use crate::metrics::Metrics;
use crate::peering;
use crate::report::Reporter;
use crate::show::Show;
use crate::state::{StateHandle, StateWriter};
use crate::sync::{DatastoreStatus, Drivers, Sync};
use crate::tables;
use crate::tunnel::{self, address::Addresses};

/// Runs until the token is cancelled.
///
/// # Errors
/// What kept it from starting, or ended a task it cannot do without.
pub async fn run(config: Config, token: CancellationToken) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("--state-dir {}", config.state_dir.display()))?;
    let hello = Hello::new("felix", config.node.as_str(), &tortie_kit::instance());
    let netlink = Netlink::open()?;
    forwarding::switch_on()?;
    // Before the first dump, so that nothing falls between.
    let monitor = Monitor::start(TABLE_MAIN, Without::Port(netlink.port()))?;
    let touches = [Touches::open()?, Touches::open()?];
    let marks = config.state_dir.join("marks.json");
    let running = dataplane::start(netlink, monitor, &marks, token.clone())?;

    let mut tasks = JoinSet::new();
    let sources = Sources::start(&config, &hello, running.inputs, touches, (&mut tasks, &token));
    let show = Show {
        node: config.node.clone(),
        hello: hello.clone(),
        state: sources.state.clone(),
        dataplane: running.handle.clone(),
        summary: running.summary,
        datastore: sources.datastore,
        fib: sources.fib,
        tunnels: sources.tunnels.clone(),
        tables: sources.tables,
        peering: sources.peering,
    };
    tasks.spawn(forwarding::follow(sources.state.clone(), token.clone()));
    let health = Health::new();
    serve_http(&config, (&show, &health), &mut tasks, &token).await?;

    let store = Store::new(typha(&config), hello);
    let ipam = Ipam::start(config.node.clone(), store.clone(), sources.state.clone());
    let addresses = Addresses {
        node: config.node.clone(),
        ipam: ipam.clone(),
        store: store.clone(),
        state: sources.state.clone(),
        status: sources.tunnels,
    };
    tasks.spawn(addresses.run(token.clone()));
    let reporter = Reporter {
        show: show.clone(),
        health,
        bird: config.bird.clone(),
        store: store.clone(),
    };
    tasks.spawn(reporter.run(token.clone()));
    let parts = endpoint::Parts {
        node: config.node.clone(),
        ipam,
        store,
        state: sources.state,
        dataplane: running.handle,
    };
    let incoming = config.socket.listen().await?;
    tracing::info!(node = config.node.as_str(), socket = %config.socket, "felix runs");
    crate::gc::Collector::of(&parts, config.ipam_leak_grace.0).start(&token);
    let server = tonic::transport::Server::builder()
        .add_service(show.service())
        .add_service(endpoint::service(parts))
        .serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned());

    tokio::select! {
        ended = server => ended.context("serve gRPC")?,
        ended = running.task => match ended.context("the dataplane task panicked")? {
            Ok(()) => {}
            Err(error) => bail!(error),
        },
        Some(ended) = tasks.join_next() => match ended {
            _ if token.is_cancelled() => {}
            Ok(()) => bail!("a task ended before its time"),
            Err(error) => bail!("a task panicked: {error}"),
        },
    }
    token.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// What feeds the dataplane, and how each stands.
struct Sources {
    state: StateHandle,
    datastore: watch::Receiver<DatastoreStatus>,
    fib: watch::Receiver<FibStatus>,
    tunnels: watch::Receiver<Arc<tunnel::Status>>,
    tables: watch::Receiver<Arc<tables::Status>>,
    peering: watch::Receiver<Vec<Failing>>,
}

impl Sources {
    fn start(
        config: &Config,
        hello: &Hello,
        inputs: mpsc::Sender<Input>,
        [touches, also]: [Touches; 2],
        (tasks, token): (&mut JoinSet<()>, &CancellationToken),
    ) -> Self {
        let (writer, state) = StateWriter::new(config.node.clone());
        let (status, datastore) = watch::channel(DatastoreStatus::Waiting("not connected yet".to_owned()));
        let events = tortie_typha_client::sync(sync_options(config, hello), token.clone());
        let (wanted, shall) = watch::channel(Arc::default());
        let (wanted_tables, shall_tables) = watch::channel(Arc::default());
        let (wanted_peering, shall_peering) = watch::channel(Arc::default());
        let drivers = Drivers {
            tunnels: wanted,
            tables: wanted_tables,
            peering: wanted_peering,
        };
        let sync = Sync::new(config.node.clone(), writer, inputs.clone(), status, drivers);
        tasks.spawn(sync.run(events));
        let (status, tunnels) = watch::channel(Arc::default());
        tasks.spawn(links::keep::<tunnel::Driver>(shall, touches, status, token.clone()));
        let (status, tables) = watch::channel(Arc::default());
        tasks.spawn(tables::run(shall_tables, tables::kernel(), status, token.clone()));
        let (status, peering) = watch::channel(Vec::new());
        tasks.spawn(links::keep::<peering::Driver>(
            shall_peering,
            also,
            status,
            token.clone(),
        ));
        let (status, fib) = watch::channel(FibStatus::Away("not connected yet".to_owned()));
        let client = FibClient {
            bird: config.bird.clone(),
            hello: hello.clone(),
            inputs,
            status,
            empty_patience: EMPTY_PATIENCE,
        };
        tasks.spawn(client.run(token.clone()));
        Sources {
            state,
            datastore,
            fib,
            tunnels,
            tables,
            peering,
        }
    }
}

async fn serve_http(
    config: &Config,
    (show, health): (&Show, &Health),
    tasks: &mut JoinSet<()>,
    token: &CancellationToken,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let watcher = Watcher {
        metrics: Metrics::register(&mut registry),
        show: show.clone(),
        tables_guard: health.guard("tables"),
        dataplane_guard: health.guard("dataplane"),
        datastore_guard: health.guard("datastore"),
    };
    tasks.spawn(watcher.run(token.clone()));
    let certificates = registry.sub_registry_with_prefix("felix");
    tortie_kit::tls::watch_client(config.tls.files(), certificates, token.clone());
    let shown = show.clone();
    let state = Arc::new(move || shown.debug_state());
    let registry = Arc::new(Mutex::new(registry));
    tortie_kit::http::serve(&config.http, health.clone(), registry, state, token.clone()).await?;
    Ok(())
}

fn typha(config: &Config) -> Target {
    Target::new(config.typha.clone(), config.tls.files())
}

fn sync_options(config: &Config, hello: &Hello) -> SyncOptions {
    SyncOptions {
        typha: typha(config),
        hello: hello.clone(),
        prefixes: crate::sync::prefixes(),
        snapshot: Some(config.state_dir.join("datastore.snapshot")),
    }
}

/// Carries the state over to metrics and readiness.
struct Watcher {
    metrics: Arc<Metrics>,
    show: Show,
    tables_guard: Guard,
    dataplane_guard: Guard,
    datastore_guard: Guard,
}

impl Watcher {
    async fn run(mut self, token: CancellationToken) {
        let mut caught_up = false;
        let watch = async {
            loop {
                self.take_over(&mut caught_up);
                let show = &mut self.show;
                tokio::select! {
                    changed = show.summary.changed() => if changed.is_err() { return },
                    changed = show.datastore.changed() => if changed.is_err() { return },
                    changed = show.tunnels.changed() => if changed.is_err() { return },
                    changed = show.tables.changed() => if changed.is_err() { return },
                    changed = show.peering.changed() => if changed.is_err() { return },
                    () = show.state.changed() => {}
                }
            }
        };
        token.run_until_cancelled(watch).await;
    }

    fn take_over(&mut self, caught_up: &mut bool) {
        let summary = Arc::clone(&self.show.summary.borrow_and_update());
        self.metrics.update(&summary);
        match &*self.show.datastore.borrow_and_update() {
            DatastoreStatus::Waiting(reason) => self.datastore_guard.not_ready(reason),
            // Fail static: what was received counts, whatever the connection does.
            DatastoreStatus::FromSnapshot { .. }
            | DatastoreStatus::InSync { .. }
            | DatastoreStatus::Stale { .. }
            | DatastoreStatus::Disconnected { .. } => self.datastore_guard.ready(),
        }
        match self.show.tables.borrow_and_update().compared {
            true => self.tables_guard.ready(),
            false => self
                .tables_guard
                .not_ready("nftables was not compared with what is wanted yet"),
        }
        self.show.tunnels.mark_unchanged();
        self.show.peering.mark_unchanged();
        // What fails is shown and makes nothing else useless.
        let failing = self.show.failing(&summary);
        self.metrics.failing(failing.counts());
        self.dataplane_guard.note(failing.lines());
        *caught_up |= summary.loaded && summary.datastore_known && summary.pending == 0;
        match (summary.loaded, *caught_up) {
            (_, true) => self.dataplane_guard.ready(),
            (false, _) => self.dataplane_guard.not_ready("the kernel was not read yet"),
            (true, false) => self
                .dataplane_guard
                .not_ready("the first routes are not in the kernel yet"),
        }
    }
}
