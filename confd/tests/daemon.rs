//! The real program between a fake typha and a fake bird-rs that rejects, dies and returns.

#![allow(clippy::unwrap_used)] // A test may panic.

mod fakes;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fakes::{FakeBird, FakeTypha, eventually};
use tempfile::TempDir;

const NODE1: &str = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"172.30.0.11/24"}}}"#;
const NODE2: &str = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n2"},"spec":{"bgp":{"ipv4Address":"172.30.0.12/24"}}}"#;
const POOL: &str =
    r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"p"},"spec":{"cidr":"10.244.0.0/16"}}"#;
const RESOURCES: &str = "/calico/resources/v3/projectcalico.org";

fn peer(asn: u32) -> String {
    format!(
        r#"{{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{{"name":"tor"}},"spec":{{"peerIP":"172.30.0.1","asNumber":{asn}}}}}"#
    )
}

/// A running confd; killed when dropped.
struct Confd {
    child: Child,
    http: SocketAddr,
}

impl Drop for Confd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Confd {
    /// Status and body.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    fn ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    fn not_ready_because(&self, part: &str) -> bool {
        self.get("/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains(part))
    }
}

/// A directory with everybody's sockets and files.
struct Bench {
    dir: TempDir,
    typha: FakeTypha,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let typha = FakeTypha::start(dir.path().join("typha.sock"));
        typha.set(&format!("{RESOURCES}/nodes/n1"), NODE1);
        typha.set(&format!("{RESOURCES}/nodes/n2"), NODE2);
        typha.set(&format!("{RESOURCES}/ippools/p"), POOL);
        typha.set(
            "/calico/ipam/v2/host/n1/ipv4/block/10.244.0.0-26",
            r#"{"state":"confirmed","deleted":false}"#,
        );
        Bench { dir, typha }
    }

    fn bird(&self) -> FakeBird {
        FakeBird::start(self.dir.path().join("bird.sock"))
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("bird.conf")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.output()).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let dir = self.dir.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_confd"));
        command
            .args([
                "--node",
                "n1",
                "--typha",
                &format!("unix:{}", dir.join("typha.sock").display()),
            ])
            .args(["--bird", &format!("unix:{}", dir.join("bird.sock").display())])
            .args(["--output".as_ref(), self.output().as_os_str()])
            .args(["--state-dir".as_ref(), dir.join("state").as_os_str()])
            .args(["--secrets-dir".as_ref(), dir.join("secrets").as_os_str()]);
        command
    }

    fn confd(&self) -> Confd {
        self.confd_with(&[])
    }

    fn confd_with(&self, args: &[String]) -> Confd {
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = self
            .command()
            .args(["--http", &http.to_string()])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Confd { child, http }
    }
}

#[test]
fn the_end_of_its_certificate_is_a_metric() {
    let bench = Bench::new();
    let _bird = bench.bird();
    let dir = bench.dir.path();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    for (name, text) in [
        ("ca", &certificate),
        ("cert", &certificate),
        ("key", &key.serialize_pem()),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    let files = ["ca", "cert", "key"].map(|name| format!("--tls-{name}={}", dir.join(name).display()));
    let confd = bench.confd_with(&files);
    let end = rcgen::date_time_ymd(2090, 1, 1).unix_timestamp();
    let line = format!("confd_certificate_not_after_seconds{{certificate=\"Own\"}} {end}\n");
    eventually("the end is shown", || {
        confd.get("/metrics").is_some_and(|(_, text)| text.contains(&line))
    });
}

#[test]
fn renders_checks_writes_and_applies() {
    let bench = Bench::new();
    let bird = bench.bird();
    let confd = bench.confd();
    eventually("ready", || confd.ready());
    let text = bench.text();
    assert!(text.contains("protocol bgp Mesh_172_30_0_12"), "{text}");
    assert!(text.contains("route 10.244.0.0/26 blackhole;"), "{text}");
    assert_eq!(bird.applied_text(), text);
    assert_eq!(bird.calls()[..2], [fakes::Call::Check, fakes::Call::Apply]);

    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &peer(65001));
    eventually("the new peer is in force", || {
        bird.applied_text().contains("Global_172_30_0_1 ")
    });
    bench.typha.delete(&format!("{RESOURCES}/bgppeers/tor"));
    eventually("the peer is gone", || {
        !bird.applied_text().contains("Global_172_30_0_1 ")
    });
    let metrics = || confd.get("/metrics").map(|(_, body)| body).unwrap_or_default();
    eventually("metrics say so", || metrics().contains("confd_in_force 1"));
    let text = metrics();
    assert!(text.contains("confd_renders_total{result=\"Rendered\"} 3"), "{text}");
    assert!(
        text.contains("confd_desired_revision 5") && text.contains("confd_applied_revision 5"),
        "{text}"
    );
}

#[test]
fn a_rejected_configuration_changes_nothing_and_names_its_object() {
    let bench = Bench::new();
    let bird = bench.bird();
    let confd = bench.confd();
    eventually("ready", || confd.ready());
    let (good, revision) = (bench.text(), bird.applied_revision());

    bird.reject_lines_with(Some("as 65666"));
    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &peer(65666));
    eventually("not ready", || confd.not_ready_because("from BGPPeer tor, revision 5"));
    assert_eq!(bench.text(), good, "the file is as it was");
    assert_eq!(bird.applied_revision(), revision, "what is in force is as it was");
    let state = confd.get("/debug/state").unwrap().1;
    assert!(
        state.contains("\"message\": \"no such AS\"") || state.contains("\"message\":\"no such AS\""),
        "{state}"
    );

    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &peer(65001));
    eventually("ready again", || confd.ready());
    eventually("the mended one is in force", || {
        bird.applied_text().contains("as 65001")
    });
    assert_eq!(bird.applied_text(), bench.text());
}

#[test]
fn a_rejected_configuration_is_tried_again() {
    let bench = Bench::new();
    let bird = bench.bird();
    bird.reject_lines_with(Some("router id"));
    let confd = bench.confd();
    eventually("rejected twice", || bird.calls().len() >= 2);
    assert!(!confd.ready());
    assert_eq!(bench.text(), "", "nothing was written");
    bird.reject_lines_with(None);
    eventually("accepted at last", || confd.ready());
}

#[test]
fn bird_away_the_file_stays_current_and_is_applied_on_return() {
    let bench = Bench::new();
    let bird = bench.bird();
    let confd = bench.confd();
    eventually("ready", || confd.ready());
    bird.kill();
    eventually("away is seen", || confd.not_ready_because("does not answer"));
    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &peer(65001));
    eventually("the file is current", || bench.text().contains("as 65001"));

    let bird = bench.bird();
    eventually("applied on return", || bird.applied_text() == bench.text());
    eventually("ready", || confd.ready());
    bird.forget_configuration();
    eventually("applied again when bird-rs has another one", || {
        bird.applied_text() == bench.text()
    });
}

#[test]
fn a_file_written_unchecked_and_then_rejected_gives_way_to_the_accepted_one() {
    let bench = Bench::new();
    let bird = bench.bird();
    let confd = bench.confd();
    eventually("ready", || confd.ready());
    let good = bench.text();
    bird.kill();
    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &peer(65666));
    eventually("written unchecked", || bench.text().contains("as 65666"));
    let bird = bench.bird_rejecting("as 65666");
    eventually("the accepted one is back", || bench.text() == good);
    assert!(confd.not_ready_because("BGPPeer tor"));
    drop(bird);
}

impl Bench {
    fn bird_rejecting(&self, what: &str) -> FakeBird {
        FakeBird::start_rejecting(self.dir.path().join("bird.sock"), what)
    }
}

#[test]
fn typha_away_what_is_known_stays_also_over_a_restart() {
    let bench = Bench::new();
    let bird = bench.bird();
    let confd = bench.confd();
    eventually("ready", || confd.ready());
    let text = bench.text();
    let snapshot = bench.dir.path().join("state/snapshot");
    eventually("a snapshot is kept", || snapshot.exists());
    bench.typha.kill();
    eventually("still ready", || confd.ready());
    drop(confd);
    fs::remove_file(bench.output()).unwrap();
    bird.forget_configuration();

    let confd = bench.confd();
    eventually("ready from the snapshot", || confd.ready());
    assert_eq!(bench.text(), text);
    assert_eq!(bird.applied_text(), text);
}

#[test]
fn without_its_node_nothing_is_rendered() {
    let bench = Bench::new();
    let bird = bench.bird();
    bench.typha.delete(&format!("{RESOURCES}/nodes/n1"));
    let confd = bench.confd();
    eventually("the reason is given", || {
        confd.not_ready_because("there is no Node 'n1'")
    });
    assert_eq!(bench.text(), "");
    bench.typha.set(&format!("{RESOURCES}/nodes/n1"), NODE1);
    eventually("ready", || confd.ready());
    let text = bench.text();
    bench.typha.delete(&format!("{RESOURCES}/nodes/n1"));
    eventually("the reason is given", || {
        confd.not_ready_because("there is no Node 'n1'")
    });
    assert_eq!(bench.text(), text, "what was there stays");
    assert_eq!(bird.applied_text(), text);
}

#[test]
fn a_password_that_appears_is_used() {
    let bench = Bench::new();
    let bird = bench.bird();
    let spec = r#""peerIP":"172.30.0.1","asNumber":65001,"password":{"secretKeyRef":{"name":"bgp","key":"tor"}}"#;
    let json = format!(r#"{{"kind":"BGPPeer","metadata":{{"name":"tor"}},"spec":{{{spec}}}}}"#);
    bench.typha.set(&format!("{RESOURCES}/bgppeers/tor"), &json);
    let confd = bench.confd();
    eventually("ready without", || confd.ready());
    assert!(confd.get("/debug/state").unwrap().1.contains("missing-secret"));
    let dir = bench.dir.path().join("secrets/bgp");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("tor"), "hunter2\n").unwrap();
    eventually("with password", || {
        bird.applied_text().contains("password \"hunter2\";")
    });
    let state = confd.get("/debug/state").unwrap().1;
    assert!(!state.contains("hunter2"), "{state}");
}

#[test]
fn once_and_dry_run() {
    let bench = Bench::new();
    let bird = bench.bird();
    let dry = bench.command().arg("--dry-run").output().unwrap();
    assert!(dry.status.success(), "{dry:?}");
    assert!(String::from_utf8_lossy(&dry.stdout).contains("protocol bgp Mesh_172_30_0_12"));
    assert!(String::from_utf8_lossy(&dry.stderr).contains("+protocol bgp Mesh_172_30_0_12"));
    assert!(
        !bench.output().exists() && bird.calls().is_empty(),
        "a dry run touches nothing"
    );

    bird.reject_lines_with(Some("neighbor 172.30.0.12"));
    let once = bench.command().arg("--once").output().unwrap();
    assert_eq!(once.status.code(), Some(1));
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    assert!(
        said.contains("bird.conf:") && said.contains("from Node n2, revision 2"),
        "{said}"
    );
    assert!(!bench.output().exists());

    bird.reject_lines_with(None);
    assert!(bench.command().arg("--once").output().unwrap().status.success());
    assert!(bench.text().contains("protocol bgp Mesh_172_30_0_12"));
    assert!(!bird.calls().contains(&fakes::Call::Apply), "once does not apply");
}

#[test]
fn wrong_flags_and_templates_are_refused_before_anything_happens() {
    let usage = Command::new(env!("CARGO_BIN_EXE_confd"))
        .args(["--node", "N1"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(64));
    assert!(
        String::from_utf8_lossy(&usage.stderr).contains("'N1' is no node name"),
        "{usage:?}"
    );

    let bench = Bench::new();
    let templates = bench.dir.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("bird-rs.conf.tmpl"), "router id x;\n{{ if }}{{ end }}\n").unwrap();
    let out = bench
        .command()
        .args(["--templates".as_ref(), templates.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("template bird-rs.conf.tmpl, line 2"), "{said}");

    let out = bench.command().args(["--templates", "/nonexistent"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("read template /nonexistent: No such file"), "{said}");
    let out = bench.command().args(["--log-level", "debig"]).output().unwrap();
    assert_eq!(out.status.code(), Some(64));
}
