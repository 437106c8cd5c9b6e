//! certs: made, shown, and used with a typha that serves tcp.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Said, tortiectl, typha_binary};

const POOL: &str = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.1.0.0/16}\n";

#[test]
fn an_authority_and_what_each_capacity_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let certs = |args: &[&str]| tortiectl(&[&["certs"], args, &["--dir", &path("pki")]].concat(), "");
    assert_eq!(certs(&["init"]).status, 0);
    certs(&["init"]).failed(1, &["ca.pem exists", "move it away first"]);
    certs(&["issue", "typha", "typha"]).failed(64, &["typha needs --host"]);
    certs(&["issue", "node", "n1", "--host", "x"]).failed(64, &["--host is for typha"]);
    certs(&["issue", "admin", "ca"]).failed(64, &["'ca' cannot be the name"]);
    for (capacity, name, host) in [
        ("typha", "typha", &["--host", "127.0.0.1"][..]),
        ("admin", "alice", &[]),
        ("operator", "bob", &[]),
        ("reader", "carol", &[]),
        ("node", "n1", &[]),
    ] {
        let issued = certs(&[&["issue", capacity, name], host].concat());
        assert_eq!(issued.status, 0, "{}", issued.err);
    }
    let shown = tortiectl(&["certs", "show", &path("pki/n1.pem")], "");
    assert!(
        shown.out.contains("n1.pem: tortie:nodes n1, until "),
        "{}{}",
        shown.out,
        shown.err
    );
    let key = std::fs::metadata(path("pki/n1.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );

    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let addr = format!("tcp:127.0.0.1:{port}");
    let tls = |name: &str| {
        let own = |what: &str| path(&format!("pki/{name}.{what}"));
        [
            "--tls-ca".into(),
            path("pki/ca.pem"),
            "--tls-cert".into(),
            own("pem"),
            "--tls-key".into(),
            own("key"),
        ]
    };
    let mut typha = Command::new(typha_binary())
        .args(["--datastore", &path("store"), "--listen", &addr])
        .args(tls("typha"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = |name: &str, args: &[&str], input: &str| -> Said {
        let tls = tls(name);
        let tls = tls.iter().map(String::as_str);
        let all: Vec<&str> = ["--typha", &addr]
            .into_iter()
            .chain(tls)
            .chain(args.iter().copied())
            .collect();
        tortiectl(&all, input)
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while run("alice", &["get", "nodes"], "").status != 0 {
        assert!(Instant::now() < deadline, "{}", run("alice", &["get", "nodes"], "").err);
        std::thread::sleep(Duration::from_millis(50));
    }
    run("bob", &["apply", "-f", "-"], POOL).is("ippool/a created");
    let denied = run("n1", &["delete", "pool", "a"], "");
    denied.failed(1, &["connection is unauthorized: node n1 may not write IPPool(a)"]);
    run("carol", &["delete", "pool", "a"], "").failed(1, &["a reader may not write IPPool(a)"]);
    assert!(run("carol", &["get", "pools"], "").out.contains("10.1.0.0/16"));
    let export = run("alice", &["datastore", "export"], "").out;
    run("bob", &["datastore", "import", "--replace", "-f", "-"], &export)
        .is("0 documents written, 0 deleted: the datastore holds the 2 of the file");
    assert_eq!(run("n1", &["apply", "-f", "-"], "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\nspec: {bgp: {ipv4Address: 172.16.3.11/24}}\n").status, 0);
    run("bob", &["datastore", "import", "--replace", "-f", "-"], &export).failed(1, &["an operator may not"]);
    // A typha asks others how many clients they have: it reads, and no more.
    assert_eq!(run("typha", &["get", "nodes"], "").status, 0);
    run("typha", &["delete", "pool", "a"], "").failed(1, &["a reader may not write IPPool(a)"]);
    // No certificate.
    tortiectl(&["--typha", &addr, "get", "nodes"], "").failed(1, &[]);
    typha.kill().unwrap();
    typha.wait().unwrap();
}
