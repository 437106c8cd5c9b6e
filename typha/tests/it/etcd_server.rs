//! Real etcd members on loopback, and etcdctl as the plain client that Calico's own programs are.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::process::DEADLINE;

/// Certificates in files.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    /// An authority, and one certificate for 127.0.0.1 that both sides use.
    pub(crate) fn new(dir: &Path) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::from_params(&params, &ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let pki = Pki {
            ca: dir.join("ca.pem"),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        std::fs::write(&pki.ca, ca.pem()).unwrap();
        std::fs::write(&pki.cert, leaf.pem()).unwrap();
        std::fs::write(&pki.key, key.serialize_pem()).unwrap();
        pki
    }
}

/// One member of an etcd cluster, which may come and go.
pub(crate) struct Member {
    name: String,
    dir: PathBuf,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

/// Where members run when it is not beside the test.
pub(crate) struct Place {
    pub(crate) namespace: String,
    /// At which clients find them.
    pub(crate) addr: String,
}

/// An etcd cluster.
pub(crate) struct Etcd {
    pub(crate) members: Vec<Member>,
    pub(crate) pki: Option<Pki>,
    /// `user:password` for etcdctl.
    pub(crate) user: Option<String>,
    place: Option<Place>,
    dir: tempfile::TempDir,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder in memory, where there is room for what members set aside: a busy disk may take longer for a write than typha
/// waits for an answer.
fn roomy_memory() -> Option<tempfile::TempDir> {
    const ROOM: u64 = 2 << 30;
    let memory = "/dev/shm";
    let there = nix::sys::statvfs::statvfs(memory).ok()?;
    let free = there.blocks_available() * there.fragment_size();
    (free > ROOM).then(|| tempfile::tempdir_in(memory).ok())?
}

impl Etcd {
    pub(crate) async fn start(members: usize) -> Self {
        Etcd::begin(members, false, None).await
    }

    pub(crate) async fn start_with_tls() -> Self {
        Etcd::begin(1, true, None).await
    }

    /// One member in a network namespace.
    pub(crate) async fn start_at(place: Place) -> Self {
        Etcd::begin(1, false, Some(place)).await
    }

    async fn begin(members: usize, tls: bool, place: Option<Place>) -> Self {
        let dir = roomy_memory().unwrap_or_else(|| tempfile::tempdir().unwrap());
        let member = |n| Member {
            name: format!("m{n}"),
            dir: dir.path().join(format!("m{n}")),
            client_port: free_port(),
            peer_port: free_port(),
            child: None,
        };
        let members = (0..members).map(member).collect();
        let pki = tls.then(|| Pki::new(dir.path()));
        let user = None;
        let mut etcd = Etcd {
            members,
            pki,
            user,
            place,
            dir,
        };
        (0..etcd.members.len()).for_each(|n| etcd.launch(n));
        etcd.answers().await;
        etcd
    }

    fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "https" } else { "http" }
    }

    /// Where clients find a member.
    pub(crate) fn url(&self, n: usize) -> String {
        let addr = self.place.as_ref().map_or("127.0.0.1", |place| &place.addr);
        format!("{}://{addr}:{}", self.scheme(), self.members[n].client_port)
    }

    /// A program beside the members.
    fn program(&self, name: &str) -> Command {
        let Some(place) = &self.place else {
            return Command::new(name);
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &place.namespace, name]);
        command
    }

    pub(crate) fn urls(&self) -> String {
        let urls: Vec<String> = (0..self.members.len()).map(|n| self.url(n)).collect();
        urls.join(",")
    }

    /// Starts a member (again).
    pub(crate) fn launch(&mut self, n: usize) {
        let peer = |m: &Member| format!("http://127.0.0.1:{}", m.peer_port);
        let cluster: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name, peer(m))).collect();
        let (client, peer) = (self.url(n), peer(&self.members[n]));
        let mut command = self.program("etcd");
        command.env(
            "ETCD_UNSUPPORTED_ARCH",
            std::env::consts::ARCH.replace("aarch64", "arm64"),
        );
        command.args(["--log-level", "error", "--name", &self.members[n].name, "--data-dir"]);
        command.arg(&self.members[n].dir);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster.join(","), "--enable-v2=false"]);
        if let Some(pki) = &self.pki {
            command
                .arg("--trusted-ca-file")
                .arg(&pki.ca)
                .arg("--cert-file")
                .arg(&pki.cert);
            command.arg("--key-file").arg(&pki.key).arg("--client-cert-auth");
        }
        let log = std::fs::File::create(self.dir.path().join(format!("etcd-{n}.log"))).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().expect("etcd is installed (make deps)");
        self.members[n].child = Some(child);
    }

    /// Waits until a write goes through.
    pub(crate) async fn answers(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.etcdctl(&["put", "/elsewhere", "x"]).status.success() {
            assert!(Instant::now() < deadline, "etcd does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn kill(&mut self, n: usize) {
        let mut child = self.members[n].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Saves the state of the only member.
    pub(crate) fn back_up(&self) {
        self.must(&[
            "snapshot",
            "save",
            &self.dir.path().join("backup").display().to_string(),
        ]);
    }

    /// Starts the only member with what was saved, as etcd's manual says.
    pub(crate) fn restore(&mut self) {
        let backup = self.dir.path().join("backup").display().to_string();
        let member = &mut self.members[0];
        member.dir = self.dir.path().join("restored");
        let (dir, peer) = (
            member.dir.display().to_string(),
            format!("http://127.0.0.1:{}", member.peer_port),
        );
        let cluster = format!("{}={peer}", member.name);
        let name = member.name.clone();
        self.must(&[
            "snapshot",
            "restore",
            &backup,
            "--data-dir",
            &dir,
            "--name",
            &name,
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        self.launch(0);
    }

    /// Removes everything a member has.
    pub(crate) fn wipe(&self, n: usize) {
        std::fs::remove_dir_all(&self.members[n].dir).unwrap();
    }

    /// Which member leads, as soon as one does.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(leader) = self.leads() {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn leads(&self) -> Option<usize> {
        let told = |n: usize| {
            let output = self.etcdctl_at(&self.url(n), &["endpoint", "status", "-w", "json"]);
            // One that does not answer in time says nothing.
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            (status["leader"].as_u64(), status["header"]["member_id"].as_u64())
        };
        let is_leader = |n: &usize| {
            let (leader, me) = told(*n);
            leader.is_some() && leader == me
        };
        (0..self.members.len()).find(is_leader)
    }

    pub(crate) fn signal(&self, n: usize, signal: Signal) {
        let pid = self.members[n].child.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Runs etcdctl against the whole cluster.
    pub(crate) fn etcdctl(&self, args: &[&str]) -> Output {
        self.etcdctl_at(&self.urls(), args)
    }

    fn command(&self, endpoints: &str) -> Command {
        let mut command = self.program("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints]);
        if let Some(pki) = &self.pki {
            command.arg("--cacert").arg(&pki.ca).arg("--cert").arg(&pki.cert);
            command.arg("--key").arg(&pki.key);
        }
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        command
    }

    fn etcdctl_at(&self, endpoints: &str, args: &[&str]) -> Output {
        self.command(endpoints)
            .args(args)
            .output()
            .expect("etcdctl is installed (make deps)")
    }

    /// The same, which must succeed; what it printed.
    pub(crate) fn must(&self, args: &[&str]) -> String {
        let output = self.etcdctl(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A document and the revision of its last change, as etcd has it.
    pub(crate) fn stored(&self, key: &str) -> Option<(String, u64)> {
        let text = self.must(&["get", key, "-w", "fields"]);
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("\"{name}\" : ")));
        let value: String = serde_json::from_str(field("Value")?).unwrap();
        Some((value, field("ModRevision")?.parse().unwrap()))
    }

    /// Every key under a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let text = self.must(&["get", "--prefix", prefix, "--keys-only"]);
        text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }

    /// Replaces a document if its last change is `at`, with the transaction that Calico uses. Was it done?
    pub(crate) fn replace(&self, key: &str, value: &str, at: u64) -> bool {
        let value = serde_json::to_string(value).unwrap();
        self.script(&format!(
            "mod(\"{key}\") = \"{at}\"\n\nput {key} {value}\n\nget {key}\n\n"
        ))
    }

    /// A transaction in etcdctl's language: comparisons, an empty line, what is done, an empty line, what else. Did the
    /// comparisons hold?
    pub(crate) fn script(&self, script: &str) -> bool {
        use std::io::Write as _;
        let mut child = self
            .command(&self.urls())
            .arg("txn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).starts_with("SUCCESS")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|m| m.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
