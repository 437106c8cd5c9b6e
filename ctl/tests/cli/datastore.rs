//! datastore export, import, status.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tortie_model::{Key, Kind};

use crate::{Typha, tortiectl};

/// What an export says without its first and last line: keys and documents, octet for octet.
fn documents(export: &str) -> Vec<&str> {
    let lines: Vec<_> = export.lines().collect();
    lines[1..lines.len() - 1].to_vec()
}

fn pool(name: &str, cidr: &str) -> String {
    let spec = json!({ "cidr": cidr });
    let (version, metadata) = ("projectcalico.org/v3", json!({ "name": name }));
    json!({ "apiVersion": version, "kind": "IPPool", "metadata": metadata, "spec": spec }).to_string()
}

#[test]
fn what_is_exported_imports_to_the_same() {
    let first = Typha::start();
    assert_eq!(first.apply(&pool("a", "10.1.0.0/16")).status, 0);
    first.store(
        "/calico/ipam/v2/handle/x",
        r#"{"block":  {"10.1.0.0/26": 1}, "later": 18446744073709551615}"#,
    );
    let exported = first.run(&["datastore", "export"]);
    assert_eq!(exported.status, 0, "{}", exported.err);
    assert_eq!(documents(&exported.out).len(), 3);
    let damaged = exported.out.replacen("10.1.0.0", "10.2.0.0", 1);

    let second = Typha::start();
    second
        .run_with(&["datastore", "import", "-f", "-"], &damaged)
        .failed(1, &["checksum", "changed or damaged"]);
    let cut: String = exported.out.lines().take(3).map(|l| format!("{l}\n")).collect();
    second
        .run_with(&["datastore", "import", "-f", "-"], &cut)
        .failed(1, &["cut off"]);
    let dry = second.run_with(&["datastore", "import", "--dry-run", "-f", "-"], &exported.out);
    assert!(
        dry.out.starts_with("3 documents to be written, 0 to be deleted"),
        "{}",
        dry.out
    );
    let imported = second.run_with(&["datastore", "import", "-f", "-"], &exported.out);
    assert_eq!(imported.status, 0, "{}", imported.err);
    assert!(
        imported.out.contains("the datastore holds the 3 of the file"),
        "{}",
        imported.out
    );
    let again = second.run(&["datastore", "export"]);
    assert_eq!(documents(&again.out), documents(&exported.out));

    // Into what is not empty only on request.
    assert_eq!(second.apply(&pool("b", "10.9.0.0/16")).status, 0);
    let refused = second.run_with(&["datastore", "import", "-f", "-"], &exported.out);
    refused.failed(1, &["not empty", "ippools/b", "--replace"]);
    let replaced = second.run_with(&["datastore", "import", "--replace", "-f", "-"], &exported.out);
    assert!(
        replaced.out.starts_with("0 documents written, 1 deleted"),
        "{}",
        replaced.out
    );
    assert_eq!(
        documents(&second.run(&["datastore", "export"]).out),
        documents(&exported.out)
    );
    tortiectl(&["datastore", "import"], "").failed(64, &["--filename"]);
}

/// An etcd of one member, killed when dropped.
struct Etcd {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Etcd {
        let dir = tempfile::tempdir().unwrap();
        let free = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (url, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let mut command = Command::new("etcd");
        let arch = std::env::consts::ARCH.replace("aarch64", "arm64");
        command
            .env("ETCD_UNSUPPORTED_ARCH", arch)
            .args(["--name", "m", "--data-dir"]);
        command
            .arg(dir.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("m={peer}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let etcd = Etcd {
            child: child.expect("etcd is installed (make deps)"),
            url,
            _dir: dir,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while etcd.etcdctl(&["put", "/elsewhere", "x"]).is_none() {
            assert!(Instant::now() < deadline, "etcd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    fn etcdctl(&self, args: &[&str]) -> Option<Vec<u8>> {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url])
            .args(args);
        let output = command.output().expect("etcdctl is installed (make deps)");
        output.status.success().then_some(output.stdout)
    }

    fn typha(&self) -> Typha {
        let dir = tempfile::tempdir().unwrap();
        Typha::launch(dir, &["--etcd-endpoints", &self.url, "--state", "none"])
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A document of every kind and of address management, with what no program of today knows.
fn everything() -> Vec<(String, Vec<u8>)> {
    let resource = |kind: &Kind| {
        let name = if *kind == Kind::ClusterInformation {
            "default"
        } else {
            "x"
        };
        let key = Key::resource(*kind, Some("ns"), name).to_string();
        // Numbers that no double holds, and spaces that no printer would write.
        let json = format!(
            "{{\"kind\":\"{kind}\", \"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{{\"name\":\"{name}\"}},\
             \"spec\":{{\"later\":[18446744073709551615,-9223372036854775808,1.0e2]}},  \"\u{e9}\":null}}"
        );
        (key, json.into_bytes())
    };
    let own = [
        (
            "/calico/ipam/v2/assignment/ipv4/block/10.50.7.64-30",
            r#"{"cidr":"10.50.7.64/30","affinity":"host:n1","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":[],"sequenceNumber":18446744073709551615,"later":{}}"#,
        ),
        ("/calico/ipam/v2/assignment/ipv6/block/fd00:5::40-122", "{}"),
        ("/calico/ipam/v2/host/n1", ""),
        ("/calico/ipam/v2/host/n1/ipv4/block/10.50.7.64-30", ""),
        (
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.50.8.64-30",
            r#"{"state":"confirmed","deleted":false}"#,
        ),
        (
            "/calico/ipam/v2/handle/k8s-pod-network.6fd1",
            r#"{"block":{"10.50.7.64/30":1},"deleted":false}"#,
        ),
        ("/calico/ipam/v2/config", r#"{"strict_affinity":true}"#),
        ("/calico/tortie/lease/ipam-gc", r#"{"holder":"n1","termSeconds":60}"#),
        (
            "/calico/felix/v2/no-region/host/n1/last_reported_status",
            r#"{"time":"t","uptime":1.5,"first_update":true}"#,
        ),
        ("/calico/felix/v1/host/n1/endpoint/eth0", r#"{"status":"up"}"#),
    ];
    let own = own.map(|(key, json)| (key.to_owned(), json.as_bytes().to_vec()));
    let no_text = ("/calico/of/another/program".to_owned(), vec![0xff, 0, 0x80]);
    Kind::ALL.iter().map(resource).chain(own).chain([no_text]).collect()
}

#[test]
fn everything_goes_from_a_file_to_etcd_and_back_and_stays_what_it_is() {
    let (first, etcd, third) = (Typha::start(), Etcd::start(), Typha::start());
    let second = etcd.typha();
    let all = everything();
    first.with_store(async |store| {
        for (key, document) in &all {
            store.restore(key, Some(document.clone())).await?;
        }
        // What says who is alive is true here only.
        let (status, minute) = ("/calico/felix/v2/no-region/host/n1/status", Duration::from_secs(60));
        let report = r#"{"time":"t","uptime":1.5,"first_update":true}"#;
        store.put_for(status, report, minute).await.map(drop)
    });
    let exported = first.run(&["datastore", "export"]);
    assert_eq!(
        (exported.status, documents(&exported.out).len()),
        (0, all.len()),
        "{}",
        exported.err
    );
    let through = |typha: &Typha, export: &str| {
        let imported = typha.run_with(&["datastore", "import", "-f", "-"], export);
        assert_eq!(imported.status, 0, "{}", imported.err);
        let again = typha.run(&["datastore", "export"]);
        assert_eq!(documents(&again.out), documents(export));
        again.out
    };
    let from_etcd = through(&second, &exported.out);
    for (key, document) in &all {
        let mut held = etcd.etcdctl(&["get", key, "--print-value-only"]).unwrap();
        assert_eq!(held.pop(), Some(b'\n'));
        assert_eq!(&held, document, "{key}: as another program sees it");
    }
    through(&third, &from_etcd);
}

#[test]
fn what_is_served_and_how_current_it_is() {
    let mut etcd = Etcd::start();
    let typha = etcd.typha();
    let status = || typha.run(&["datastore", "status"]);
    let said = status();
    let lines: Vec<(&str, &str)> = said.out.lines().map(|l| l.split_once(':').unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["history", "revision", "documents", "clients", "datastore"],
        "{}",
        said.err
    );
    let values: Vec<&str> = lines.iter().map(|(_, value)| value.trim()).collect();
    assert!(
        values[0].len() == 32 && values[1].parse::<u64>().is_ok_and(|r| r > 0),
        "{}",
        said.out
    );
    assert_eq!(values[2..], ["1", "0", "answers"]);

    etcd.child.kill().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let stale = loop {
        let said = status();
        assert_eq!(said.status, 0, "{}", said.err);
        if said.out.contains("STALE") {
            break said.out;
        }
        assert!(Instant::now() < deadline, "{}", said.out);
        std::thread::sleep(Duration::from_millis(50));
    };
    let last = stale.lines().last().unwrap();
    assert!(
        last.starts_with("datastore: STALE, last good ")
            && last.contains(" s ago: the datastore does not answer: etcd"),
        "{stale}"
    );
    assert!(
        stale.contains(&format!("history:   {}\n", values[0])),
        "it serves what it had: {stale}"
    );
}
