//! The port for probes and metrics: `/livez`, `/readyz`, `/metrics`, `/debug/state`.
//!
//! Nothing here changes anything, and nothing is served to other hosts unless the operator names an address for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Args;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Where to serve.
#[derive(Debug, Clone, Default, Args)]
pub struct HttpArgs {
    /// Serve /livez, /readyz, /metrics and /debug/state here; nowhere when not given
    #[arg(long, env = "TORTIE_HTTP", value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
}

/// The port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("serve http on {addr}: {reason}")]
pub struct HttpError {
    addr: SocketAddr,
    // Not `source`: it is in the text already, and who prints the whole chain would say it twice.
    reason: std::io::Error,
}

/// What `/debug/state` shows: sorted JSON, so that two of them can be compared line by line.
pub type StateFn = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

#[derive(Clone)]
struct Shared {
    health: Health,
    registry: Arc<Mutex<Registry>>,
    state: StateFn,
}

/// Serves until the token is cancelled; at once done when no address was given.
///
/// # Errors
/// [`HttpError`] when the address cannot be listened on.
pub async fn serve(
    args: &HttpArgs,
    health: Health,
    registry: Arc<Mutex<Registry>>,
    state: StateFn,
    token: CancellationToken,
) -> Result<(), HttpError> {
    let Some(addr) = args.http else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(addr)
        .await
        .map_err(|reason| HttpError { addr, reason })?;
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "here are /livez, /readyz, /metrics and /debug/state\n",
            )
        })
        .with_state(Shared {
            health,
            registry,
            state,
        });
    tokio::spawn(async move {
        let served = axum::serve(listener, app)
            .with_graceful_shutdown(token.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "http server ended");
        }
    });
    Ok(())
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let waiting = shared.health.not_ready();
    let notes: String = shared.health.notes().iter().map(|n| format!("{n}\n")).collect();
    if waiting.is_empty() {
        return (StatusCode::OK, format!("ok\n{notes}"));
    }
    let lines: String = waiting
        .iter()
        .map(|w| format!("not ready: {}: {}\n", w.part, w.reason))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines + &notes)
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    let encoded = {
        let registry = shared
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
    };
    match encoded {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(e) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            format!("cannot encode metrics: {e}\n"),
        ),
    }
}

async fn debug_state(State(shared): State<Shared>) -> impl IntoResponse {
    let text = serde_json::to_string_pretty(&(shared.state)()).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"));
    ([(header::CONTENT_TYPE, "application/json")], text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_metrics_and_state() {
        // A free port: bound, looked at, released.
        let addr = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let health = Health::new();
        let guard = health.guard("datastore");
        let token = CancellationToken::new();
        let registry = Arc::new(Mutex::new(Registry::default()));
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.lock().unwrap().register("tests", "Tests run", counter.clone());
        counter.inc();
        let state: StateFn = Arc::new(|| serde_json::json!({"revision": 7}));
        serve(
            &HttpArgs { http: Some(addr) },
            health,
            registry.clone(),
            state.clone(),
            token.clone(),
        )
        .await
        .unwrap();

        assert!(fetch(addr, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(addr, "/readyz").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("not ready: datastore: starting"),
            "{waiting}"
        );
        guard.ready();
        guard.note(vec!["failing: table ip x: EBUSY".into()]);
        let ready = fetch(addr, "/readyz").await;
        assert!(
            ready.starts_with("HTTP/1.1 200") && ready.ends_with("\r\n\r\nok\nfailing: table ip x: EBUSY\n"),
            "{ready}"
        );
        assert!(fetch(addr, "/metrics").await.contains("tests_total 1"));
        assert!(fetch(addr, "/debug/state").await.contains("\"revision\": 7"));
        let taken = serve(
            &HttpArgs { http: Some(addr) },
            Health::new(),
            registry,
            state,
            token.clone(),
        )
        .await;
        let taken = taken.unwrap_err();
        assert!(taken.to_string().starts_with(&format!("serve http on {addr}: ")));
        assert!(
            std::error::Error::source(&taken).is_none(),
            "the reason would be told twice"
        );
        let lost = fetch(addr, "/").await;
        assert!(
            lost.starts_with("HTTP/1.1 404") && lost.contains("/debug/state"),
            "{lost}"
        );
        token.cancel();
    }
}
