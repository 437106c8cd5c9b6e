//! Starts typha in a directory of its own, ends it, and follows it as clients do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tortie_kit::address::{ServiceAddr, Target};
use tortie_proto::common::Hello;
use tortie_replica::Delta;
use tortie_typha_client::{Store, SyncEvent, SyncOptions, SyncStatus, Versioned, sync};

/// Nothing here takes nearly as long on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A datastore and the typha that serves it, which may come and go.
pub(crate) struct Typha {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
    _owned: Option<tempfile::TempDir>,
}

impl Typha {
    /// A directory in which nothing runs yet.
    pub(crate) fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        Typha {
            dir: owned.path().to_owned(),
            child: None,
            _owned: Some(owned),
        }
    }

    /// A new datastore, served.
    pub(crate) async fn start() -> Self {
        let mut typha = Typha::new();
        typha.restart().await;
        typha
    }

    pub(crate) fn addr(&self) -> ServiceAddr {
        ServiceAddr::Unix(self.dir.join("typha.sock"))
    }

    pub(crate) fn command(dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_typha"));
        command.arg("--datastore").arg(dir.join("store")).arg("--listen");
        command.arg(format!("unix:{}", dir.join("typha.sock").display()));
        command.args(["--log-level", "warn"]);
        command
    }

    /// Starts it (again) and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.run(Typha::command(&self.dir)).await;
    }

    pub(crate) async fn run(&mut self, mut command: Command) {
        assert!(self.child.is_none());
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + DEADLINE;
        while self.store().list("/none/").await.is_err() {
            assert!(Instant::now() < deadline, "typha does not answer");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().unwrap();
        Pid::from_raw(child.id().try_into().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Ends it like a power cut of the process.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "typha does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.addr(), Hello::new("test", "", "1"))
    }

    /// A metric of a typha that was started with `--http` on this port.
    pub(crate) async fn metric(port: u16, name: &str) -> u64 {
        let text = Typha::http(port, "/metrics").await;
        value_of(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// The same, of a metric that is not there before it counts something.
    pub(crate) async fn metric_or_zero(port: u16, name: &str) -> u64 {
        value_of(&Typha::http(port, "/metrics").await, name).unwrap_or_default()
    }

    /// What it answers on the port for probes.
    pub(crate) async fn http(port: u16, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    pub(crate) fn client(&self, prefixes: &[&str]) -> Client {
        Client::start(self.addr(), prefixes, None)
    }
}

fn value_of(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

impl Drop for Typha {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) const HANDLES: &str = "/calico/ipam/v2/handle/";

/// A small document that any writer may store.
pub(crate) fn handle(n: u64) -> Vec<u8> {
    handle_of(&json!({ "10.0.0.0/26": n }))
}

/// A document of about this many octets.
pub(crate) fn large_handle(octets: usize) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(&handle(1)).unwrap();
    document["padding"] = Value::from("x".repeat(octets));
    document.to_string().into_bytes()
}

fn handle_of(blocks: &Value) -> Vec<u8> {
    json!({ "block": blocks, "deleted": false }).to_string().into_bytes()
}

/// A sync client and what it was told.
pub(crate) struct Client {
    events: mpsc::Receiver<SyncEvent>,
    pub(crate) map: BTreeMap<String, Versioned>,
    pub(crate) deletes: usize,
    pub(crate) statuses: Vec<SyncStatus>,
    pub(crate) in_syncs: usize,
    _stop: DropGuard,
}

impl Client {
    pub(crate) fn start(typha: impl Into<Target>, prefixes: &[&str], snapshot: Option<PathBuf>) -> Self {
        let token = CancellationToken::new();
        let prefixes = prefixes.iter().map(|&p| p.to_owned()).collect();
        let options = SyncOptions {
            typha: typha.into(),
            hello: Hello::new("test", "n1", "1"),
            prefixes,
            snapshot,
        };
        let events = sync(options, token.clone());
        let (map, statuses) = (BTreeMap::new(), Vec::new());
        Client {
            events,
            map,
            deletes: 0,
            statuses,
            in_syncs: 0,
            _stop: token.drop_guard(),
        }
    }

    fn take(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Delta(Delta::Set(key, value)) => {
                let before = self.map.insert(key, value.clone());
                assert!(
                    before.is_none_or(|b| b.revision < value.revision),
                    "time runs backwards"
                );
            }
            SyncEvent::Delta(Delta::Delete(key)) => {
                assert!(self.map.remove(&key).is_some(), "{key} was never there");
                self.deletes += 1;
            }
            SyncEvent::Delta(Delta::InSync) => self.in_syncs += 1,
            SyncEvent::Status(status) => self.statuses.push(status),
        }
    }

    /// Reads until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Client) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("{what}: the client ended"),
                Err(_) => panic!(
                    "{what}: not within {DEADLINE:?}; {} keys, {:?}",
                    self.map.len(),
                    self.statuses
                ),
            }
        }
    }

    /// Reads until it holds what the store has under the prefix.
    pub(crate) async fn until_equal(&mut self, store: &Store, prefix: &str) {
        let listing = store.list(prefix).await.unwrap();
        let wanted: BTreeMap<_, _> = listing
            .entries
            .into_iter()
            .map(|e| {
                (
                    e.key,
                    Versioned {
                        value: e.value,
                        revision: e.revision,
                    },
                )
            })
            .collect();
        self.until("equal to the store", |c| c.map == wanted).await;
    }
}
