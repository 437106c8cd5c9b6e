//! A typha and a bird-rs made for tests: each in a runtime of its own, so that killing it closes its connections.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tortie_kit::address::ServiceAddr;
use tortie_proto::bird::bird_server::{Bird, BirdServer};
use tortie_proto::bird::*;
use tortie_proto::common::Hello;
use tortie_proto::sync::server_message::Message;
use tortie_proto::sync::sync_server::{Sync as SyncService, SyncServer};
use tortie_proto::sync::{Batch, Change as KeyChange, ClientMessage, InSync, ServerMessage, SnapshotBegin, Welcome};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs until dropped.
struct Service(Option<Runtime>);

impl Service {
    fn start<F>(socket: PathBuf, serve: impl FnOnce(tortie_kit::address::Incoming) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let incoming = runtime.block_on(ServiceAddr::Unix(socket).listen()).unwrap();
        runtime.spawn(async move { serve(incoming).await.unwrap() });
        Service(Some(runtime))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not in the background: a dead server must not answer one more question.
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// One question about a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Check,
    Apply,
}

#[derive(Default)]
struct BirdState {
    instance: String,
    revision: String,
    text: String,
    reject: Option<String>,
    calls: Vec<Call>,
}

/// A bird-rs that keeps what it is told.
pub(crate) struct FakeBird {
    state: Arc<Mutex<BirdState>>,
    service: Service,
}

struct BirdService(Arc<Mutex<BirdState>>);

#[tonic::async_trait]
impl Bird for BirdService {
    type ShowRoutesStream = Answers<Route>;
    type FibStream = Answers<FibMessage>;

    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state
            .calls
            .push(if request.check_only { Call::Check } else { Call::Apply });
        let text = request.text.unwrap();
        let bad = state.reject.clone();
        let bad_line = bad.and_then(|b| text.lines().position(|l| l.contains(&b)));
        let diagnostics: Vec<Diagnostic> = bad_line
            .into_iter()
            .map(|line| Diagnostic {
                file: request.file.clone(),
                line: line as u32 + 1,
                column: 3,
                message: "no such AS".into(),
                hint: "try another".into(),
            })
            .collect();
        let accepted = diagnostics.is_empty();
        if accepted && !request.check_only {
            state.text = text;
            state.revision = request.revision;
        }
        Ok(Response::new(ConfigureResponse {
            hello: Some(Hello::new("bird-rs", "", &state.instance)),
            accepted,
            diagnostics,
            changes: Vec::new(),
            applied_revision: state.revision.clone(),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let state = self.0.lock().unwrap();
        Ok(Response::new(StatusResponse {
            hello: Some(Hello::new("bird-rs", "", &state.instance)),
            applied_revision: state.revision.clone(),
            ..StatusResponse::default()
        }))
    }

    async fn show_protocols(
        &self,
        _: Request<ShowProtocolsRequest>,
    ) -> Result<Response<ShowProtocolsResponse>, Status> {
        Err(Status::unimplemented("not asked by confd"))
    }

    async fn show_routes(&self, _: Request<ShowRoutesRequest>) -> Result<Response<Self::ShowRoutesStream>, Status> {
        Err(Status::unimplemented("not asked by confd"))
    }

    async fn fib(&self, _: Request<FibRequest>) -> Result<Response<Self::FibStream>, Status> {
        Err(Status::unimplemented("not asked by confd"))
    }
}

impl FakeBird {
    pub(crate) fn start(socket: PathBuf) -> Self {
        Self::with(socket, None)
    }

    pub(crate) fn start_rejecting(socket: PathBuf, what: &str) -> Self {
        Self::with(socket, Some(what.to_owned()))
    }

    fn with(socket: PathBuf, reject: Option<String>) -> Self {
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let instance = STARTS.fetch_add(1, Ordering::Relaxed).to_string();
        let state = Arc::new(Mutex::new(BirdState {
            instance,
            reject,
            ..BirdState::default()
        }));
        let service = BirdServer::new(BirdService(state.clone()));
        let serve = |incoming| {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
        };
        FakeBird {
            service: Service::start(socket, serve),
            state,
        }
    }

    pub(crate) fn kill(self) {
        drop(self.service);
    }

    /// Reject texts with a line that contains this.
    pub(crate) fn reject_lines_with(&self, what: Option<&str>) {
        self.state.lock().unwrap().reject = what.map(str::to_owned);
    }

    /// As if somebody had loaded another file.
    pub(crate) fn forget_configuration(&self) {
        let mut state = self.state.lock().unwrap();
        state.text.clear();
        state.revision.clear();
    }

    pub(crate) fn applied_text(&self) -> String {
        self.state.lock().unwrap().text.clone()
    }

    pub(crate) fn applied_revision(&self) -> String {
        self.state.lock().unwrap().revision.clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }
}

/// Every change so far, in order; revision n is the n-th.
type Log = Vec<(String, Option<String>)>;

/// A typha that always begins with a snapshot.
pub(crate) struct FakeTypha {
    log: watch::Sender<Log>,
    service: Mutex<Option<Service>>,
}

struct TyphaService(watch::Receiver<Log>);

fn message(message: Message) -> Result<ServerMessage, Status> {
    Ok(ServerMessage { message: Some(message) })
}

fn changes(log: &Log, from: usize) -> Vec<KeyChange> {
    let numbered = log.iter().enumerate().skip(from);
    numbered
        .map(|(index, (key, value))| KeyChange {
            key: key.clone(),
            revision: index as u64 + 1,
            value: value.clone().map(String::into_bytes),
        })
        .collect()
}

async fn replicate(mut log: watch::Receiver<Log>, out: mpsc::Sender<Result<ServerMessage, Status>>) -> Option<()> {
    let hello = Hello::new("typha", "", "1");
    out.send(message(Message::Welcome(Welcome {
        hello: Some(hello),
        cluster_id: "c".into(),
        succeeds: vec![],
        peers: vec![],
    })))
    .await
    .ok()?;
    let first = log.borrow_and_update().clone();
    let revision = first.len() as u64;
    let mut last: BTreeMap<String, KeyChange> = BTreeMap::new();
    for change in changes(&first, 0) {
        last.insert(change.key.clone(), change);
    }
    last.retain(|_, c| c.value.is_some());
    let batch = Batch {
        revision,
        changes: last.into_values().collect(),
    };
    out.send(message(Message::SnapshotBegin(SnapshotBegin { revision })))
        .await
        .ok()?;
    out.send(message(Message::Batch(batch))).await.ok()?;
    out.send(message(Message::InSync(InSync { revision }))).await.ok()?;
    let mut sent = first.len();
    while log.changed().await.is_ok() {
        let now = log.borrow_and_update().clone();
        let batch = Batch {
            revision: now.len() as u64,
            changes: changes(&now, sent),
        };
        sent = now.len();
        out.send(message(Message::Batch(batch))).await.ok()?;
    }
    Some(())
}

#[tonic::async_trait]
impl SyncService for TyphaService {
    type WatchStream = Answers<ServerMessage>;

    async fn watch(&self, request: Request<Streaming<ClientMessage>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut from_client = request.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = from_client.message().await {} });
        let (tx, rx) = mpsc::channel(16);
        tokio::spawn(replicate(self.0.clone(), tx));
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}

impl FakeTypha {
    pub(crate) fn start(socket: PathBuf) -> Self {
        let (log, receiver) = watch::channel(Log::new());
        let service = SyncServer::new(TyphaService(receiver));
        let serve = |incoming| {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
        };
        FakeTypha {
            log,
            service: Mutex::new(Some(Service::start(socket, serve))),
        }
    }

    pub(crate) fn set(&self, key: &str, json: &str) {
        self.log
            .send_modify(|log| log.push((key.to_owned(), Some(json.to_owned()))));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.log.send_modify(|log| log.push((key.to_owned(), None)));
    }

    pub(crate) fn kill(&self) {
        self.service.lock().unwrap().take();
    }
}

/// Waits until it holds, at most 60 s.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
