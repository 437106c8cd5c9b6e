//! The CNI protocol as a runtime sees it: the real binary, and a felix that answers what the test wants.

#![allow(clippy::unwrap_used)]

#[path = "protocol/delegate.rs"]
mod delegate;
#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/install.rs"]
mod install;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::{Request, Response, Status};
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_proto::felix::endpoint_response::Outcome;
use tortie_proto::felix::endpoint_server::{Endpoint, EndpointServer};
use tortie_proto::felix::{
    self, AddRequest, CheckRequest, CollectRequest, DelRequest, EndpointResponse, PrepareRequest, ReadyRequest,
};

/// What felix was asked last, and what it answers.
#[derive(Default)]
struct Script {
    asked: String,
    answer: Option<felix::Failure>,
    silent: bool,
    major: Option<u32>,
    /// The node's, and which addresses the attachment has already.
    pod_cidrs: Vec<String>,
    has: Vec<String>,
}

#[derive(Clone, Default)]
struct Felix(Arc<Mutex<Script>>);

impl Felix {
    async fn answer(&self, request: impl std::fmt::Debug) -> Result<Response<EndpointResponse>, Status> {
        let (answer, silent, major) = {
            let mut script = self.0.lock().unwrap();
            script.asked = format!("{request:?}");
            (script.answer.clone(), script.silent, script.major)
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let mut hello = Hello::new("felix", "n1", "1");
        hello.major = major.unwrap_or(hello.major);
        self.say(made(vec!["10.244.0.5/32".into()]), answer, hello)
    }

    fn say(
        &self,
        made: felix::Result,
        answer: Option<felix::Failure>,
        hello: Hello,
    ) -> Result<Response<EndpointResponse>, Status> {
        let outcome = answer.map_or(Outcome::Result(made), Outcome::Failure);
        Ok(Response::new(EndpointResponse {
            hello: Some(hello),
            outcome: Some(outcome),
        }))
    }
}

fn made(ips: Vec<String>) -> felix::Result {
    felix::Result {
        host_interface: "cali1".into(),
        host_mac: "ee:ee:ee:ee:ee:ee".into(),
        container_mac: "02:00:00:00:00:01".into(),
        mtu: 1500,
        ips,
        routes: vec![felix::result::Route {
            destination: "0.0.0.0/0".into(),
            gateway: "169.254.1.1".into(),
        }],
        ..felix::Result::default()
    }
}

#[tonic::async_trait]
impl Endpoint for Felix {
    async fn add(&self, r: Request<AddRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = r.into_inner();
        if request.given_ips.is_empty() {
            return self.answer(request).await;
        }
        let answer = {
            let mut script = self.0.lock().unwrap();
            script.asked = format!("{request:?}");
            script.answer.clone()
        };
        let bits = |ip: &String| if ip.contains(':') { 128 } else { 32 };
        let ips = request.given_ips.iter().map(|ip| format!("{ip}/{}", bits(ip)));
        self.say(made(ips.collect()), answer, Hello::new("felix", "n1", "1"))
    }
    async fn prepare(&self, _: Request<PrepareRequest>) -> Result<Response<EndpointResponse>, Status> {
        let known = {
            let script = self.0.lock().unwrap();
            felix::Result {
                ips: script.has.clone(),
                pod_cidrs: script.pod_cidrs.clone(),
                ..felix::Result::default()
            }
        };
        self.say(known, None, Hello::new("felix", "n1", "1"))
    }
    async fn del(&self, r: Request<DelRequest>) -> Result<Response<EndpointResponse>, Status> {
        self.answer(r.into_inner()).await
    }
    async fn check(&self, r: Request<CheckRequest>) -> Result<Response<EndpointResponse>, Status> {
        self.answer(r.into_inner()).await
    }
    async fn ready(&self, r: Request<ReadyRequest>) -> Result<Response<EndpointResponse>, Status> {
        self.answer(r.into_inner()).await
    }
    async fn collect(&self, r: Request<CollectRequest>) -> Result<Response<EndpointResponse>, Status> {
        self.answer(r.into_inner()).await
    }
}

/// A felix on a socket of its own, on threads of its own.
struct Node {
    felix: Felix,
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let felix = Felix::default();
        let address = ServiceAddr::Unix(dir.path().join("felix.sock"));
        let incoming = runtime.block_on(address.listen()).unwrap();
        let server = tonic::transport::Server::builder().add_service(EndpointServer::new(felix.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        Node {
            felix,
            dir,
            _runtime: runtime,
        }
    }

    fn conf(&self, version: &str, more: Value) -> Value {
        conf(self.dir.path(), version, more)
    }

    fn asked(&self) -> String {
        self.felix.0.lock().unwrap().asked.clone()
    }
}

fn conf(dir: &Path, version: &str, more: Value) -> Value {
    let felix = format!("unix:{}", dir.join("felix.sock").display());
    let mut conf = json!({"cniVersion": version, "name": "net", "type": "tortie", "felix": felix});
    conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    conf
}

struct Ran {
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {:?} {:?}", self.stdout, self.stderr))
    }

    /// The error's code and message, having checked its form.
    #[track_caller]
    fn error(&self) -> (u64, String) {
        let error = self.json();
        assert!(!self.ok, "exit status 0 with {error}");
        assert!(error["cniVersion"].is_string(), "{error}");
        (
            error["code"].as_u64().unwrap(),
            format!("{} {}", error["msg"].as_str().unwrap(), error["details"]),
        )
    }
}

const ENV: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn run(command: &str, env: &[(&str, &str)], stdin: &[u8]) -> Ran {
    let env: Vec<(&str, &OsStr)> = env.iter().map(|(name, value)| (*name, OsStr::new(value))).collect();
    run_with(command, &env, stdin)
}

fn run_with(command: &str, env: &[(&str, &OsStr)], stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tortie"))
        .env_clear()
        .env("CNI_COMMAND", command)
        .envs(ENV)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its environment does not read: the pipe may break.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let out = child.wait_with_output().unwrap();
    Ran {
        ok: out.status.success(),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

fn ask(command: &str, conf: &Value) -> Ran {
    run(command, &[], conf.to_string().as_bytes())
}

#[test]
fn add_answers_in_the_version_asked_for() {
    let node = Node::new();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let ran = ask("ADD", &node.conf(version, json!({})));
        assert!(ran.ok, "{}", ran.stdout);
        let result = ran.json();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["interfaces"][0]["name"], "cali1");
        assert_eq!(result["interfaces"][1]["name"], "eth0");
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/x");
        assert_eq!(result["ips"][0]["address"], "10.244.0.5/32");
        assert_eq!(result["ips"][0]["interface"], 1);
        assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0");
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn felix_is_asked_for_what_the_runtime_said() {
    let node = Node::new();
    let more = json!({
        "mtu": 1400, "blue": true,
        "ipam": {"type": "calico-ipam", "assign_ipv6": "true", "ipv4_pools": ["blue"]},
        "container_settings": {"allow_ip_forwarding": true},
    });
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0;IP=10.244.0.9";
    let ran = run(
        "ADD",
        &[("CNI_ARGS", args)],
        node.conf("1.0.0", more).to_string().as_bytes(),
    );
    assert!(ran.ok, "{}", ran.stdout);
    assert!(ran.stderr.contains("field 'blue' is not known"), "{}", ran.stderr);
    let asked = node.asked();
    for part in [
        r#"network: "net""#,
        r#"container_id: "c1""#,
        r#"orchestrator: "k8s""#,
        r#"namespace: "web""#,
        r#"pod: "web-0""#,
        r#"requested_ips: ["10.244.0.9"]"#,
        r#"ipv4_pools: ["blue"]"#,
        "assign_ipv4: true",
        "assign_ipv6: true",
        "mtu: 1400",
        "allow_ip_forwarding: true",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
}

#[test]
fn the_other_commands_say_nothing_when_all_is_well() {
    let node = Node::new();
    let previous = ask("ADD", &node.conf("1.1.0", json!({}))).json();
    let check = ask("CHECK", &node.conf("1.1.0", json!({"prevResult": previous})));
    assert!(check.ok && check.stdout.is_empty(), "{}", check.stdout);
    assert!(
        node.asked().contains(r#"expected_ips: ["10.244.0.5/32"]"#),
        "{}",
        node.asked()
    );

    let del = run(
        "DEL",
        &[("CNI_NETNS", "")],
        node.conf("0.3.1", json!({})).to_string().as_bytes(),
    );
    assert!(del.ok && del.stdout.is_empty(), "{}", del.stdout);

    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let gc = ask("GC", &node.conf("1.1.0", json!({"cni.dev/valid-attachments": valid})));
    assert!(gc.ok && gc.stdout.is_empty(), "{}", gc.stdout);
    assert!(node.asked().contains(r#"container_id: "c1""#), "{}", node.asked());

    let status = ask("STATUS", &node.conf("1.1.0", json!({})));
    assert!(status.ok && status.stdout.is_empty(), "{}", status.stdout);

    for stdin in ["", "{\"cniVersion\":\"1.0.0\"}"] {
        let version = run("VERSION", &[], stdin.as_bytes());
        assert!(version.ok);
        let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(
            version.json(),
            json!({"cniVersion": "1.1.0", "supportedVersions": supported})
        );
    }
}

#[test]
fn what_felix_refuses_is_printed_as_it_said() {
    let node = Node::new();
    node.felix.0.lock().unwrap().answer = Some(felix::Failure {
        code: 101,
        message: "no free address".into(),
        details: "pool x".into(),
    });
    for command in ["ADD", "DEL", "STATUS"] {
        let ran = ask(command, &node.conf("1.1.0", json!({})));
        assert!(!ran.ok);
        let want = json!({"cniVersion": "1.1.0", "code": 101, "msg": "no free address", "details": "pool x"});
        assert_eq!(ran.json(), want);
    }
}

#[test]
fn bad_input_is_refused_before_felix_is_asked() {
    let node = Node::new();
    let good = node.conf("1.1.0", json!({})).to_string();
    let huge = "x".repeat(100_000);
    let big = format!("\"{}\"", "x".repeat(5 << 20));
    let text = |version: &str, more: Value| node.conf(version, more).to_string();
    let cases: Vec<(&str, &str, &str, String, u64, &str)> = vec![
        // command, variable, value, standard input, code, what the message names
        ("", "CNI_COMMAND", "", good.clone(), 4, "CNI_COMMAND"),
        ("add", "X", "", good.clone(), 4, "CNI_COMMAND: 'add'"),
        ("ADD", "CNI_CONTAINERID", "", good.clone(), 4, "CNI_CONTAINERID"),
        ("ADD", "CNI_CONTAINERID", "a/../b", good.clone(), 4, "'a/../b'"),
        ("ADD", "CNI_CONTAINERID", &huge, good.clone(), 4, "CNI_CONTAINERID"),
        ("DEL", "CNI_IFNAME", "", good.clone(), 4, "CNI_IFNAME"),
        ("ADD", "CNI_IFNAME", "much-too-long-name", good.clone(), 4, "CNI_IFNAME"),
        ("ADD", "CNI_NETNS", "", good.clone(), 4, "CNI_NETNS"),
        ("CHECK", "CNI_NETNS", "here", good.clone(), 4, "CNI_NETNS"),
        ("ADD", "CNI_ARGS", "x", good.clone(), 4, "CNI_ARGS"),
        ("ADD", "X", "", "hello".into(), 6, "no JSON"),
        ("ADD", "X", "", String::new(), 6, "no JSON"),
        ("ADD", "X", "", "[]".into(), 6, "object"),
        ("ADD", "X", "", "{\"a\":".repeat(100_000), 6, "no JSON"),
        ("ADD", "X", "", big, 6, "more than"),
        ("ADD", "X", "", "{\"name\":\"net\"}".into(), 1, "cniVersion"),
        (
            "ADD",
            "X",
            "",
            text("0.2.0", json!({})),
            1,
            "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        ("ADD", "X", "", text("2.0.0", json!({})), 1, "'2.0.0'"),
        ("CHECK", "X", "", text("0.3.1", json!({})), 1, "0.4.0"),
        ("GC", "X", "", text("1.0.0", json!({})), 1, "1.1.0"),
        ("STATUS", "X", "", text("1.0.0", json!({})), 1, "1.1.0"),
        (
            "ADD",
            "X",
            "",
            text("1.1.0", json!({"name": "a b"})),
            7,
            "'name' = 'a b'",
        ),
        ("ADD", "X", "", text("1.1.0", json!({"mtu": "big"})), 7, "'mtu'"),
        (
            "ADD",
            "X",
            "",
            text("1.1.0", json!({"felix": "/run/x"})),
            7,
            "'felix' = '/run/x'",
        ),
        (
            "ADD",
            "X",
            "",
            text("1.1.0", json!({"ipam": {"type": "dhcp"}})),
            2,
            "'ipam.type' = 'dhcp'",
        ),
        ("CHECK", "X", "", text("1.1.0", json!({})), 7, "'prevResult' missing"),
        (
            "GC",
            "X",
            "",
            text("1.1.0", json!({})),
            7,
            "'cni.dev/valid-attachments' missing",
        ),
    ];
    for (command, variable, value, stdin, code, want) in cases {
        let ran = run(command, &[(variable, value)], stdin.as_bytes());
        let (got, said) = ran.error();
        assert_eq!(got, code, "{command} {variable}: {said}");
        assert!(said.contains(want), "{command} {variable}: wanted {want}: {said}");
        assert!(ran.stdout.len() < 2000, "bounded");
    }
    assert_eq!(node.asked(), "", "nothing of it reached felix");
}

#[test]
fn felix_away_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for (command, code) in [("ADD", 11), ("DEL", 11), ("STATUS", 50)] {
        let begun = Instant::now();
        let (got, said) = ask(command, &conf(dir.path(), "1.1.0", json!({}))).error();
        assert_eq!(got, code, "{said}");
        assert!(
            said.contains("felix does not answer") && said.contains("felix.sock"),
            "{said}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    // A listener that never answers the handshake, too.
    let _silent = std::os::unix::net::UnixListener::bind(dir.path().join("felix.sock")).unwrap();
    let begun = Instant::now();
    let (got, said) = ask("STATUS", &conf(dir.path(), "1.1.0", json!({}))).error();
    assert!(got == 50 || got == 11, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_felix_that_does_not_come_back_is_not_waited_for_for_ever() {
    let node = Node::new();
    node.felix.0.lock().unwrap().silent = true;
    let (code, said) = ask("STATUS", &node.conf("1.1.0", json!({}))).error();
    assert_eq!(code, 11, "{said}");
    assert!(said.contains("no answer within 5 s"), "{said}");
}

#[test]
fn a_felix_of_another_release_is_refused() {
    let node = Node::new();
    node.felix.0.lock().unwrap().major = Some(9);
    let (code, said) = ask("ADD", &node.conf("1.1.0", json!({}))).error();
    assert_eq!(code, 100);
    assert!(
        said.contains("speaks protocol 9.0") && said.contains("different releases"),
        "{said}"
    );
}
