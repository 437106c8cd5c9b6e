//! Wires the parts together, serves, drains.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use futures::stream::BoxStream;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tortie_kit::address::Conn;
use tortie_kit::health::Health;
use tortie_kit::tls::ServerTls;
use tortie_proto::capability;
use tortie_proto::common::Hello;
use tortie_proto::store::store_server::StoreServer;

use crate::begin::Beginning;
use crate::config::Config;
use crate::datastore::Backend;
use crate::datastore::embedded::Embedded;
use crate::datastore::etcd::Etcd;
use crate::metrics::Metrics;
use crate::state::{self, Keeper};
use crate::store::StoreService;
use crate::sync::balance::Balance;
use crate::sync::hub::Hub;
use crate::sync::peers::Peers;
use crate::sync::session::Context;
use crate::sync::wire::SyncService;

/// What this side of the protocol can do.
const CAPABILITIES: [&str; 4] = [
    capability::CURRENCY,
    capability::DRAIN,
    capability::COALESCED,
    capability::ZSTD,
];
/// A connection whose machine is gone is found within twice this.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long writes that began and clients that are told to leave may take when typha stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until the token is cancelled.
///
/// # Errors
/// Whatever keeps typha from serving: the datastore, an address.
pub(crate) async fn run(config: Config, token: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let health = Health::new();
    let backend = open(&config)?;
    let beginning = Beginning {
        backend: Arc::clone(&backend),
        guard: health.guard("datastore"),
        metrics: Arc::clone(&metrics),
        patient: config.etcd.is_used(),
        kept: config.state_file().and_then(state::read),
        limits: config.memory.limits(),
    };
    let hub = tokio::select! {
        hub = beginning.begin() => hub?,
        () = token.cancelled() => return Ok(()),
    };
    let keeper = config.state_file().map(|path| {
        let keeper = Keeper::new(path.to_owned(), hub.clone(), Arc::clone(&metrics));
        tokio::spawn(keeper.run(token.clone()))
    });

    let tls = config.tls.files().map(ServerTls::new).transpose()?.map(Arc::new);
    if let Some(tls) = &tls {
        let registry = registry.sub_registry_with_prefix("typha");
        tortie_kit::tls::watch_server(Arc::clone(tls), registry, token.clone());
    }
    // Every address is opened before the first client is served.
    let mut listeners = Vec::new();
    for addr in &config.listen {
        let incoming = addr.listen().await?;
        listeners.push((addr.clone(), incoming.connections(tls.clone())));
    }
    let registry = Arc::new(Mutex::new(registry));
    tortie_kit::http::serve(&config.http, health, registry, state(&hub), token.clone()).await?;

    let hello = Hello::new("typha", "", &tortie_kit::instance()).with_capabilities(&CAPABILITIES);
    let context = Context {
        hub: hub.clone(),
        hello: hello.clone(),
        metrics: Arc::clone(&metrics),
        peers: Arc::new(Peers::new(&config.peers)),
        drain: token.clone(),
    };
    let balance = Balance::new(&config.peers, config.tls.files().as_ref(), context.clone());
    tokio::spawn(balance.run());
    let peers = Peers::new(&config.peers);
    let store = StoreServer::new(StoreService::new(backend, hub.clone(), hello, peers, metrics));
    let sync = SyncService::new(context);
    let mut servers = JoinSet::new();
    for (addr, incoming) in listeners {
        tracing::info!(%addr, cluster_id = hub.history().borrow().id, revision = *hub.head().borrow(), "serving");
        servers.spawn(serve(incoming, sync.clone(), store.clone(), token.clone()));
    }
    drop((hub, sync, store));

    while let Some(ended) = tokio::select! {
        ended = servers.join_next() => ended,
        () = drained(&token) => None,
    } {
        ended.context("a listener's task failed")?.context("a listener ended")?;
    }
    if let Some(keeper) = keeper {
        // A panic is reported by the runtime.
        let _ = tokio::time::timeout(DRAIN, keeper).await;
    }
    for addr in &config.listen {
        if let tortie_kit::address::ServiceAddr::Unix(path) = addr {
            // Left behind it would only make the next client wait for a refusal.
            let _ = std::fs::remove_file(path);
        }
    }
    tracing::info!("stopped");
    Ok(())
}

fn open(config: &Config) -> anyhow::Result<Arc<dyn Backend>> {
    Ok(match &config.datastore {
        Some(file) => Arc::new(Embedded::open(file, config.memory.cache())?),
        None => Arc::new(Etcd::new(&config.etcd)?),
    })
}

async fn serve(
    incoming: BoxStream<'static, std::io::Result<Conn>>,
    sync: SyncService,
    store: StoreServer<StoreService>,
    token: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(sync)
        .add_service(store)
        .serve_with_incoming_shutdown(incoming, token.cancelled_owned())
        .await
}

/// Resolves when stopping takes too long.
async fn drained(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    tracing::warn!(seconds = DRAIN.as_secs(), "clients did not leave in time");
}

fn state(hub: &Hub) -> tortie_kit::http::StateFn {
    let (head, history, hub) = (hub.head(), hub.history(), hub.clone());
    Arc::new(move || {
        let away = hub.away();
        let stale = away.as_ref().map(|away| away.age().as_secs());
        serde_json::json!({
            "cluster_id": history.borrow().id,
            "revision": *head.borrow(),
            "datastore": away.map_or_else(|| "answers".to_owned(), |away| away.reason),
            "stale_seconds": stale,
        })
    })
}
