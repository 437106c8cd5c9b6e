//! The real `tortiectl` against a real typha, and against a bird-rs that is played.

#![allow(clippy::unwrap_used)] // How a test fails.

mod bgp;
mod bird;
mod certs;
mod datastore;
mod delete;
mod documents;
mod edit;
mod foretold;
mod get;
mod ipam;
mod misc;
mod node_init;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tortie_kit::address::ServiceAddr;
use tortie_typha_client::{Store, StoreError};

/// What a command said.
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    /// Fails unless it succeeded with this output.
    #[track_caller]
    fn is(&self, out: &str) {
        assert_eq!((self.status, self.out.trim_end()), (0, out.trim_end()), "{}", self.err);
    }

    /// Fails unless it failed with this status and these words on standard error.
    #[track_caller]
    fn failed(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "no '{word}' in: {}", self.err);
        }
    }
}

/// Runs tortiectl, with this on its standard input.
fn tortiectl(args: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tortiectl"))
        .args(args)
        .env_remove("TORTIE_TYPHA")
        .env_remove("TORTIE_BIRD")
        .env_remove("TORTIE_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its command line does not read.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        status: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs a command whose last word, added here, is the address of this server.
fn against(server: tonic::transport::server::Router, args: &[&str]) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let addr: ServiceAddr = format!("unix:{}", dir.path().join("bird.sock").display())
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let incoming = runtime.block_on(addr.listen()).unwrap();
    runtime.spawn(server.serve_with_incoming(incoming));
    let addr = addr.to_string();
    let mut all = args.to_vec();
    all.push(&addr);
    tortiectl(&all, "")
}

/// A typha with an empty datastore, killed when dropped.
struct Typha {
    child: Child,
    dir: tempfile::TempDir,
}

impl Typha {
    fn start() -> Typha {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store").display().to_string();
        Typha::launch(dir, &["--datastore", &store])
    }

    /// One in front of something else.
    fn launch(dir: tempfile::TempDir, args: &[&str]) -> Typha {
        let socket = dir.path().join("typha.sock");
        let mut child = Command::new(typha_binary())
            .args(args)
            .args(["--listen", &format!("unix:{}", socket.display())])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if Instant::now() > deadline || child.try_wait().unwrap().is_some() {
                let _already_dead = child.kill();
                let mut log = String::new();
                child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
                panic!("typha does not serve: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Typha { child, dir }
    }

    fn addr(&self) -> String {
        format!("unix:{}", self.dir.path().join("typha.sock").display())
    }

    fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Said {
        let addr = self.addr();
        let mut all = vec!["--typha", &addr];
        all.extend(args);
        tortiectl(&all, input)
    }

    fn apply(&self, manifest: &str) -> Said {
        self.run_with(&["apply", "-f", "-"], manifest)
    }

    /// Stores a document that is no resource, as felix does.
    fn store(&self, key: &str, json: &str) {
        self.with_store(async |store| store.put(key, json).await.map(drop));
    }

    /// Stores a document octet for octet, also of a kind that Tortie does not act on.
    fn restore(&self, key: &str, json: &str) {
        self.with_store(async |store| store.restore(key, Some(json.into())).await.map(drop));
    }

    fn with_store(&self, act: impl AsyncFn(&Store) -> Result<(), StoreError>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let hello = tortie_proto::common::Hello::new("test", "", "1");
            let store = Store::new(self.addr().parse::<ServiceAddr>().unwrap(), hello);
            act(&store).await.unwrap();
        });
    }
}

impl Drop for Typha {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// typha of this very source: in `TORTIE_BIN_DIR`, or built now, into the folder that tortiectl is in.
fn typha_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(dir) = std::env::var_os("TORTIE_BIN_DIR") {
            return Path::new(&dir).join("typha");
        }
        let folder = Path::new(env!("CARGO_BIN_EXE_tortiectl")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--locked", "--quiet", "--package", "typha", "--target-dir"])
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "typha cannot be built");
        folder.join("typha")
    })
}

#[test]
fn wrong_command_lines_exit_64_and_help_exits_0() {
    tortiectl(&["get", "gizmos"], "").failed(64, &["no kind 'gizmos'", "ippool"]);
    tortiectl(&["get", "nodes"], "").failed(64, &["no typha", "TORTIE_TYPHA"]);
    tortiectl(&["apply"], "").failed(64, &["no files"]);
    tortiectl(&["delete"], "").failed(64, &["nothing named", "KIND NAME", "-f FILE"]);
    tortiectl(&["--log-level", "debig", "get", "nodes"], "").failed(64, &["'debig' is no level"]);
    tortiectl(&["frobnicate"], "").failed(64, &["unrecognized subcommand"]);
    tortiectl(&["--typha", "nowhere", "get", "nodes"], "").failed(64, &["nowhere"]);
    tortiectl(&["node", "status"], "").failed(64, &["--bird", "--typha"]);
    assert_eq!(tortiectl(&["--help"], "").status, 0);
    assert!(
        tortiectl(&["version", "--client"], "")
            .out
            .starts_with("Client Version:")
    );
}

#[test]
fn a_bird_rs_address_that_is_typhas_is_said() {
    let typha = Typha::start();
    let said = tortiectl(&["node", "status", "--bird", &typha.addr()], "");
    said.failed(1, &[&format!("bird-rs at {}: another program", typha.addr())]);
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let nowhere = "unix:/nonexistent/typha.sock";
    tortiectl(&["--typha", nowhere, "get", "nodes"], "").failed(1, &["typha at unix:/nonexistent/typha.sock"]);
    tortiectl(&["node", "status", "--bird", nowhere], "").failed(1, &["bird-rs does not answer", nowhere]);
}
