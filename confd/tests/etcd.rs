//! `confd files` and a real etcd: changes, a user with a password, an etcd that goes away and returns.

#![allow(clippy::unwrap_used)] // A test may panic.

#[allow(dead_code)] // The fake programs are for the other tests.
mod fakes;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fakes::eventually;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quiet(command: &mut Command) -> Running {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(silent.spawn().unwrap())
}

/// Two ports that are free now.
fn ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|l| l.local_addr().unwrap().port())
}

struct Etcd {
    ports: [u16; 2],
    data: std::path::PathBuf,
    login: Option<&'static str>,
}

impl Etcd {
    fn new(dir: &Path) -> Self {
        Etcd {
            ports: ports(),
            data: dir.join("etcd"),
            login: None,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Waits until it answers.
    fn start(&self) -> Running {
        let (clients, peers) = (self.url(), format!("http://127.0.0.1:{}", self.ports[1]));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(&self.data).arg("--unsafe-no-fsync");
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        let running = quiet(&mut command);
        eventually("etcd answers", || self.ctl(&["endpoint", "health"]));
        running
    }

    fn ctl(&self, args: &[&str]) -> bool {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url()]);
        command.args(self.login.iter().flat_map(|login| ["--user", login]));
        let silent = command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        silent.stderr(Stdio::null()).status().unwrap().success()
    }

    fn must(&self, args: &[&str]) {
        assert!(self.ctl(args), "etcdctl {args:?}");
    }

    /// Writes these keys, each with its number, a hundred at once.
    fn put_many(&self, prefix: &str, keys: std::ops::Range<u32>) {
        let all: Vec<u32> = keys.collect();
        for some in all.chunks(100) {
            let mut command = Command::new("etcdctl");
            command
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &self.url(), "txn"]);
            let mut running = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            let mut text = "\n".to_owned();
            some.iter()
                .for_each(|n| text.push_str(&format!("put {prefix}{n:05} {n}\n")));
            text.push_str("\n\n");
            running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(running.wait().unwrap().success());
        }
    }
}

/// A resource that prints what is below `/db`, and the name.
fn site(dir: &Path) -> String {
    for folder in ["conf.d", "templates", "out"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    let out = dir.join("out/app").display().to_string();
    let resource =
        format!("[template]\nprefix = \"/app\"\nkeys = [\"/db\", \"/name\"]\nsrc = \"app\"\ndest = \"{out}\"\n");
    fs::write(dir.join("conf.d/app.toml"), resource).unwrap();
    let template = "{{getv \"/name\"}}:{{range gets \"/db/*\"}} {{base .Key}}={{.Value}}{{end}}\n";
    fs::write(dir.join("templates/app"), template).unwrap();
    out
}

fn confd(dir: &Path, etcd: &Etcd, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confd"));
    command
        .args(["files", "--confdir"])
        .arg(dir)
        .args(["--backend", "etcd"]);
    command.args(["--etcd-endpoints", &etcd.url()]).args(args);
    command
}

#[test]
fn keys_of_etcd_are_watched_and_files_stay_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::new(dir.path());
    let out = site(dir.path());
    let shows = |text: &str| fs::read_to_string(&out).is_ok_and(|held| held == text);
    let server = etcd.start();
    etcd.must(&["put", "/app/name", "one"]);
    etcd.must(&["put", "/app/db/url", "x"]);
    etcd.must(&["put", "/application/db/url", "another's"]);
    let _confd = quiet(&mut confd(dir.path(), &etcd, &[]));
    eventually("what is there", || shows("one: url=x\n"));
    etcd.must(&["put", "/app/db/user", "u"]);
    eventually("a new key", || shows("one: url=x user=u\n"));
    etcd.must(&["del", "/app/db/url"]);
    eventually("a deleted key", || shows("one: user=u\n"));
    drop(server);
    fs::write(dir.path().join("out/mark"), "").unwrap();
    let _server = etcd.start();
    assert!(shows("one: user=u\n"), "without etcd nothing changes");
    etcd.must(&["put", "/app/name", "two"]);
    eventually("a change after its return", || shows("two: user=u\n"));
}

#[test]
fn more_keys_than_one_answer_holds_are_all_there_also_after_what_was_missed() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::new(dir.path());
    let out = site(dir.path());
    let template = "{{getv \"/name\"}} {{len (gets \"/db/*\")}}\n";
    fs::write(dir.path().join("templates/app"), template).unwrap();
    let shows = |text: &str| fs::read_to_string(&out).is_ok_and(|held| held == text);
    let server = etcd.start();
    etcd.must(&["put", "/app/name", "one"]);
    etcd.put_many("/app/db/", 0..4100);
    let _confd = quiet(&mut confd(dir.path(), &etcd, &[]));
    eventually("three answers", || shows("one 4100\n"));
    // Two watches: one of each path.
    etcd.put_many("/app/db/", 4100..4200);
    eventually("a hundred at once", || shows("one 4200\n"));
    etcd.must(&["put", "/app/name", "two"]);
    eventually("the other path", || shows("two 4200\n"));
    // What a list misses is gone from the file: it must not happen on the way back.
    drop(server);
    let _server = etcd.start();
    etcd.must(&["del", "--prefix", "/app/db/041"]);
    eventually("after its return", || shows("two 4100\n"));
}

#[test]
fn a_user_that_may_read_these_keys_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = Etcd::new(dir.path());
    let out = site(dir.path());
    let _server = etcd.start();
    etcd.must(&["put", "/app/name", "one"]);
    for args in [
        &["user", "add", "root:r00t"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "app"],
        &["role", "grant-permission", "app", "--prefix=true", "read", "/app/"],
        &["user", "add", "confd:s3cret"],
        &["user", "grant-role", "confd", "app"],
        &["auth", "enable"],
    ] {
        etcd.must(args);
    }
    etcd.login = Some("root:r00t");
    let once = |password: &str| {
        let mut command = confd(dir.path(), &etcd, &["--onetime", "--etcd-username", "confd"]);
        command.env("ETCD_PASSWORD", password).output().unwrap()
    };
    let refused = once("wrong");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("authentication failed"),
        "{said}"
    );
    let done = once("s3cret");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), "one:\n");
    let _confd = quiet(confd(dir.path(), &etcd, &["--etcd-username", "confd"]).env("ETCD_PASSWORD", "s3cret"));
    etcd.must(&["put", "/app/db/url", "x"]);
    eventually("a change", || fs::read_to_string(&out).unwrap() == "one: url=x\n");
}

#[test]
fn killed_at_any_time_it_leaves_a_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::new(dir.path());
    let out = site(dir.path());
    // Long, with a mark at both ends that is the same in a whole file.
    let template = "{{getv \"/name\"}}\n{{range gets \"/db/*\"}}{{.Key}}={{.Value}}\n{{end}}{{getv \"/name\"}}\n";
    fs::write(dir.path().join("templates/app"), template).unwrap();
    let _server = etcd.start();
    etcd.must(&["put", "/app/name", "0"]);
    etcd.put_many("/app/db/", 0..1500);
    let mut running = quiet(&mut confd(dir.path(), &etcd, &[]));
    eventually("the file", || fs::metadata(&out).is_ok());
    for round in 1..=12 {
        etcd.must(&["put", "/app/name", &round.to_string()]);
        // Now it renders, replaces, or has not heard of it yet; one that is gone leaves what it had begun.
        drop(running);
        let text = fs::read_to_string(&out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines.len(), lines.first()),
            (1502, lines.last()),
            "a torn file in round {round}"
        );
        running = quiet(&mut confd(dir.path(), &etcd, &[]));
        let begins = format!("{round}\n");
        eventually("the next life goes on", || {
            fs::read_to_string(&out).is_ok_and(|text| text.starts_with(&begins))
        });
    }
}

/// A certificate of 127.0.0.1 and its key, signed by the authority; PEM files of this name.
fn issue(dir: &Path, name: &str, authority: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>) -> rcgen::KeyPair {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.self_signed(&key).unwrap()
        }
    };
    fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    key
}

#[test]
fn an_etcd_that_wants_certificates_is_read_with_one_and_refused_without() {
    let dir = tempfile::tempdir().unwrap();
    let ca = issue(dir.path(), "ca", None);
    let pem = fs::read_to_string(dir.path().join("ca.crt")).unwrap();
    let authority = rcgen::Issuer::from_ca_cert_pem(&pem, ca).unwrap();
    issue(dir.path(), "etcd", Some(&authority));
    issue(dir.path(), "client", Some(&authority));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let [clients, peers] = ports();
    let url = format!("https://127.0.0.1:{clients}");
    let mut command = Command::new("etcd");
    command.args(["--data-dir", &file("data"), "--unsafe-no-fsync", "--client-cert-auth"]);
    command.args(["--trusted-ca-file", &file("ca.crt")]);
    command.args(["--cert-file", &file("etcd.crt"), "--key-file", &file("etcd.key")]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    let peer = format!("http://127.0.0.1:{peers}");
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    let _server = quiet(&mut command);
    let put = |key: &str, value: &str| {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &url, "--cacert", &file("ca.crt")]);
        command.args([
            "--cert",
            &file("client.crt"),
            "--key",
            &file("client.key"),
            "put",
            key,
            value,
        ]);
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        silent.status().unwrap().success()
    };
    eventually("etcd answers", || put("/app/name", "secret"));
    let out = site(dir.path());
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confd"));
        command
            .args(["files", "--confdir"])
            .arg(dir.path())
            .args(["--backend", "etcd", "--onetime"]);
        command
            .args(["--etcd-endpoints", &url, "--etcd-ca", &file("ca.crt")])
            .args(more);
        command.output().unwrap()
    };
    let refused = run(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&url), "{said}");
    assert!(fs::metadata(&out).is_err(), "nothing is written");
    let half = run(&["--etcd-cert", &file("client.crt")]);
    let said = String::from_utf8_lossy(&half.stderr).into_owned();
    assert!(said.contains("--etcd-cert and --etcd-key need each other"), "{said}");
    let done = run(&["--etcd-cert", &file("client.crt"), "--etcd-key", &file("client.key")]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), "secret:\n");
}
