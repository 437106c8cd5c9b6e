//! etcd as the datastore: the same data as Calico's programs, and what happens when it goes away.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tortie_typha_client::{Store, StoreError, Write};

use crate::etcd_server::Etcd;
use crate::process::{DEADLINE, HANDLES, Typha, handle};

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const BLOCK: &str = "/calico/ipam/v2/assignment/ipv4/block/10.50.7.64-26";

/// typha in front of the etcd that is found there.
pub(crate) fn command_at(urls: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_typha"));
    command.args(["--etcd-endpoints", urls, "--log-level", "warn", "--listen"]);
    command.arg(format!("unix:{}", dir.join("typha.sock").display()));
    // Not where typhas of this machine keep theirs; an option says otherwise.
    command.env("TORTIE_STATE", "none");
    command
}

/// typha in front of this etcd.
pub(crate) fn command(etcd: &Etcd, dir: &Path) -> Command {
    let mut command = command_at(&etcd.urls(), dir);
    if let Some(pki) = &etcd.pki {
        command.arg("--etcd-ca").arg(&pki.ca).arg("--etcd-cert").arg(&pki.cert);
        command.arg("--etcd-key").arg(&pki.key);
    }
    command
}

pub(crate) async fn typha(etcd: &Etcd) -> Typha {
    let mut typha = Typha::new();
    let command = command(etcd, &typha.dir);
    typha.run(command).await;
    typha
}

pub(crate) fn handle_key(name: &str) -> String {
    format!("{HANDLES}{name}")
}

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Writes until it succeeds; how often it was refused, each time for the given reason.
pub(crate) async fn write_again(store: &Store, key: &str, reason: &str) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(e) = store.put(key, handle(7)).await {
        assert!(
            matches!(&e, StoreError::Unavailable(said) if said.contains(reason)),
            "{e:?}"
        );
        assert!(Instant::now() < deadline, "{e}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calicos_programs_and_typha_see_the_same_data() {
    let etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let block = json!({ "cidr": "10.50.7.64/26", "affinity": "host:n1", "strictAffinity": false,
        "allocations": vec![Value::Null; 64], "unallocated": (0..64).collect::<Vec<u32>>(), "attributes": [],
        "sequenceNumber": u64::MAX, "deleted": false });
    let documents = [
        (
            format!("{RESOURCES}ippools/lab-pool"),
            json!({ "spec": { "cidr": "10.50.0.0/16" } }),
        ),
        (
            format!("{RESOURCES}workloadendpoints/web/n1-k8s-web--0-eth0"),
            json!({ "spec": { "orchestrator": "k8s", "node": "n1", "pod": "web-0", "endpoint": "eth0",
                "ipNetworks": ["10.50.7.66/32"], "interfaceName": "calic3928f99cbc" } }),
        ),
        (
            format!("{RESOURCES}nodes/n1"),
            json!({ "spec": { "bgp": { "ipv4Address": "172.16.3.11/24" } } }),
        ),
        (BLOCK.to_owned(), block),
        (
            "/calico/ipam/v2/host/n1/ipv4/block/10.50.7.64-26".to_owned(),
            json!({ "state": "confirmed", "deleted": false }),
        ),
        (
            format!("{HANDLES}k8s-pod-network.6fd1"),
            json!({ "block": { "10.50.7.64/26": 1 }, "deleted": false }),
        ),
        (
            "/calico/ipam/v2/config".to_owned(),
            json!({ "strict_affinity": false, "auto_allocate_blocks": true }),
        ),
    ];
    for (key, value) in &documents {
        let written = store.create(key, value.to_string()).await.unwrap();
        let (held, revision) = etcd.stored(key).unwrap();
        assert_eq!(revision, written.revision, "{key}: etcd's revisions are typha's");
        assert_eq!(held.as_bytes(), written.entry.unwrap().value, "{key}");
    }
    let mut keys: Vec<&str> = documents.iter().map(|(key, _)| key.as_str()).collect();
    let information = format!("{RESOURCES}clusterinformations/default");
    keys.extend(["/calico/tortie/v1/history", "/calico/tortie/v1/mark", &information]);
    keys.sort_unstable();
    assert_eq!(etcd.keys("/calico/"), keys, "these keys and no others");
    let held = document(
        etcd.stored(&format!("{RESOURCES}ippools/lab-pool"))
            .unwrap()
            .0
            .as_bytes(),
    );
    assert_eq!(
        (&held["kind"], &held["spec"]["blockSize"]),
        (&json!("IPPool"), &json!(26))
    );
    assert_eq!(held["metadata"].get("resourceVersion"), None);

    // Written by another program, with what this typha does not know: read, changed, written back.
    let foreign = format!("{RESOURCES}ippools/foreign");
    let value = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"foreign","uid":"u"},"spec":{"cidr":"10.60.0.0/16","fromTheFuture":{"n":18446744073709551615}}}"#;
    etcd.must(&["put", &foreign, value]);
    let entry = store.get(&foreign).await.unwrap();
    assert_eq!(&entry.value[..], value.as_bytes());
    let mut edited = document(&entry.value);
    edited["spec"]["disabled"] = json!(true);
    store
        .update(&foreign, edited.to_string(), entry.revision)
        .await
        .unwrap();
    let held = document(etcd.stored(&foreign).unwrap().0.as_bytes());
    assert_eq!(held["spec"]["fromTheFuture"]["n"], json!(u64::MAX));
    assert_eq!(
        (&held["spec"]["disabled"], &held["metadata"]["uid"]),
        (&json!(true), &json!("u"))
    );
    let sequence = document(etcd.stored(BLOCK).unwrap().0.as_bytes())["sequenceNumber"].clone();
    assert_eq!(sequence, json!(u64::MAX));

    // What is not Calico's is not seen.
    etcd.must(&["put", "/registry/secrets/x", "secret"]);
    assert!(matches!(
        store.get("/registry/secrets/x").await,
        Err(StoreError::NotFound(_))
    ));
    assert!(store.list("/registry/").await.unwrap().entries.is_empty());
    assert_eq!(store.list("").await.unwrap().entries.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_compared_and_changes_of_others_are_seen() {
    let etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let key = format!("{HANDLES}a");
    let first = store.create(&key, handle(1)).await.unwrap();
    assert!(matches!(
        store.create(&key, handle(1)).await,
        Err(StoreError::AlreadyExists(_))
    ));
    let mut client = typha.client(&[HANDLES]);
    client.until("the first", |c| c.map.len() == 1).await;

    etcd.must(&["put", &key, &String::from_utf8(handle(2)).unwrap()]);
    let stale = store.update(&key, handle(3), first.revision).await.unwrap_err();
    assert!(
        matches!(&stale, StoreError::Conflict(said) if said.starts_with("update conflict: IPAMHandle(a)")),
        "{stale}"
    );
    assert!(matches!(
        store.delete(&key, Some(first.revision)).await,
        Err(StoreError::Conflict(_))
    ));
    assert!(matches!(
        store.delete(&format!("{HANDLES}none"), None).await,
        Err(StoreError::NotFound(_))
    ));
    client
        .until("another's change", |c| c.map[&key].value == handle(2))
        .await;
    let dry = store
        .dry_run()
        .update(&key, handle(9), etcd.stored(&key).unwrap().1)
        .await
        .unwrap();
    assert!(dry.previous.is_some());
    assert_eq!(
        etcd.stored(&key).unwrap().0.into_bytes(),
        handle(2),
        "a dry run changes nothing"
    );

    let gone = store.delete(&key, None).await.unwrap();
    assert_eq!((gone.entry, gone.previous.unwrap().value), (None, handle(2).into()));
    client.until("our deletion", |c| c.deletes == 1).await;
    etcd.must(&["put", &key, "{}"]);
    etcd.must(&["del", &key]);
    client.until("another's deletion", |c| c.deletes == 2).await;

    // Several keys at one revision, and more than a page of them.
    let many = |n: usize| format!("{HANDLES}m{n:05}");
    for chunk in (0..2500).collect::<Vec<_>>().chunks(100) {
        let puts: String = chunk.iter().map(|n| format!("put {} {{}}\n", many(*n))).collect();
        etcd.script(&format!("\n{puts}\n\n"));
    }
    client.until("all of them", |c| c.map.len() == 2500).await;
    client.until_equal(&store, HANDLES).await;
    assert_eq!(client.deletes, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writes_are_one_transaction_of_etcd() {
    let etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let keys: Vec<String> = (0..128).map(|n| handle_key(&format!("m{n:03}"))).collect();
    let mut client = typha.client(&[HANDLES]);
    // As many as etcd takes.
    let made = store
        .write_many(keys.iter().map(|k| Write::create(k, handle(1))))
        .await
        .unwrap();
    assert!(made.iter().all(|r| *r == made[0]), "one revision for all: {made:?}");
    client.until("all of them", |c| c.map.len() == 128).await;
    assert_eq!(etcd.stored(&keys[127]).unwrap().1, made[0]);

    etcd.must(&["put", &keys[1], &String::from_utf8(handle(2)).unwrap()]);
    let stale = [
        Write::update(&keys[0], handle(3), made[0]),
        Write::update(&keys[1], handle(3), made[0]),
        Write::delete(&keys[2], made[0]),
    ];
    let refused = store.write_many(stale).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Conflict(said) if said.starts_with("update conflict: IPAMHandle(m001)")),
        "{refused}"
    );
    assert_eq!(etcd.stored(&keys[0]).unwrap().1, made[0], "nothing was written");
    let deleted = [
        Write::update(&keys[0], handle(3), made[0]),
        Write::delete(&keys[2], made[0]),
    ];
    store.write_many(deleted).await.unwrap();
    assert_eq!(etcd.stored(&keys[0]).unwrap().0.into_bytes(), handle(3));
    assert_eq!(etcd.stored(&keys[2]), None);
    client.until("the deletion", |c| c.deletes == 1).await;
    client.until_equal(&store, HANDLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn felixs_status_goes_with_a_lease_of_etcd() {
    let etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let key = |of: &str| format!("/calico/felix/v2/no-region/host/n1/{of}");
    let report = json!({ "time": "2026-05-01T10:00:00Z", "uptime": 12.5, "first_update": true }).to_string();
    let mut client = typha.client(&["/calico/felix/"]);
    // As felix does it: both in one transaction.
    let both = |ttl: u64| {
        let ttl = Duration::from_secs(ttl);
        let status = Write::put_for(&key("status"), report.clone(), ttl);
        [status, Write::put(&key("last_reported_status"), report.clone())]
    };
    let leases = || etcd.must(&["lease", "list"]).lines().skip(1).count();
    store.write_many(both(3600)).await.unwrap();
    assert_eq!(leases(), 1);
    assert_eq!(
        etcd.stored(&key("status")).unwrap().0,
        report,
        "Calico's key and document"
    );
    let fields = etcd.must(&["get", &key("last_reported_status"), "-w", "fields"]);
    assert!(fields.contains("\"Lease\" : 0"), "{fields}");
    store
        .dry_run()
        .put_for(&key("status"), report.clone(), Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(leases(), 1, "a dry run makes none");

    // Written anew it goes with the new lease: that felix stopped is told, and what it said last stays.
    store.write_many(both(2)).await.unwrap();
    client.until("the status is gone", |c| c.deletes == 1).await;
    assert!(client.map.contains_key(&key("last_reported_status")));
    assert_eq!((etcd.stored(&key("status")), leases()), (None, 1));
    client.until_equal(&store, "/calico/felix/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_at_a_typha_that_was_not_there_before() {
    let etcd = Etcd::start(1).await;
    let mut typha = typha(&etcd).await;
    let store = typha.store();
    for n in 0..20 {
        store.create(&handle_key(&format!("h{n:02}")), handle(n)).await.unwrap();
    }
    let mut client = typha.client(&[HANDLES]);
    client.until("all", |c| c.map.len() == 20).await;
    typha.kill();
    etcd.must(&["del", &handle_key("h07")]);
    etcd.must(&["put", &handle_key("new"), "{}"]);
    let port = crate::etcd_server::free_port();
    let mut next = command(&etcd, &typha.dir);
    next.arg("--http").arg(format!("127.0.0.1:{port}"));
    typha.run(next).await;
    client.until("what happened meanwhile", |c| c.in_syncs == 2).await;
    client.until_equal(&store, HANDLES).await;
    assert_eq!((client.map.len(), client.deletes), (20, 1));
    let sent = Typha::metric(port, "typha_snapshots_sent_total").await;
    assert_eq!(sent, 0, "it was sent what it missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_racing_on_a_block_lose_no_update() {
    const EACH: u64 = 40;
    let etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let block = json!({ "cidr": "10.50.7.64/26", "affinity": "host:n1", "strictAffinity": false,
        "allocations": vec![Value::Null; 64], "unallocated": (0..64).collect::<Vec<u32>>(), "attributes": [],
        "sequenceNumber": 0, "deleted": false });
    store.create(BLOCK, block.to_string()).await.unwrap();
    let next = |held: &[u8]| {
        let mut block = document(held);
        block["sequenceNumber"] = json!(block["sequenceNumber"].as_u64().unwrap() + 1);
        block.to_string()
    };
    let ours = tokio::spawn(async move {
        let mut refused = 0;
        let mut done = 0;
        while done < EACH {
            let entry = store.get(BLOCK).await.unwrap();
            match store.update(BLOCK, next(&entry.value), entry.revision).await {
                Ok(_) => done += 1,
                Err(StoreError::Conflict(_)) => refused += 1,
                Err(e) => panic!("{e}"),
            }
            // etcdctl starts a process for each step: without a pause it would never be in time.
            sleep(Duration::from_millis(15)).await;
        }
        refused
    });
    let theirs = tokio::task::spawn_blocking(move || {
        let (mut refused, mut done) = (0, 0);
        while done < EACH {
            let (held, at) = etcd.stored(BLOCK).unwrap();
            if etcd.replace(BLOCK, &next(held.as_bytes()), at) {
                done += 1
            } else {
                refused += 1
            }
        }
        (refused, etcd)
    });
    let ours_refused = ours.await.unwrap();
    let (theirs_refused, etcd) = theirs.await.unwrap();
    let held = document(etcd.stored(BLOCK).unwrap().0.as_bytes());
    assert_eq!(held["sequenceNumber"], json!(2 * EACH));
    assert!(ours_refused + theirs_refused > 0, "they never met");
    println!(
        "{} updates; refused: {ours_refused} ours, {theirs_refused} theirs",
        2 * EACH
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_while_typha_looks_away_deletes_only_what_is_gone() {
    let mut etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    for n in 0..20 {
        store.create(&format!("{HANDLES}h{n:02}"), handle(n)).await.unwrap();
    }
    let mut client = typha.client(&[HANDLES]);
    client.until("all", |c| c.map.len() == 20).await;

    typha.signal(Signal::SIGSTOP);
    etcd.kill(0);
    etcd.launch(0);
    etcd.answers().await;
    etcd.must(&["del", &format!("{HANDLES}h03")]);
    etcd.must(&["put", &format!("{HANDLES}h04"), "{}"]);
    etcd.must(&["put", "/elsewhere", "y"]);
    let (_, now) = etcd.stored("/elsewhere").unwrap();
    etcd.must(&["compact", &now.to_string()]);
    typha.signal(Signal::SIGCONT);

    client.until("the deletion", |c| c.map.len() == 19).await;
    client.until_equal(&store, HANDLES).await;
    assert_eq!(client.deletes, 1, "nothing else was deleted");
    assert_eq!(client.map[&format!("{HANDLES}h04")].value, "{}");
    etcd.must(&["put", &format!("{HANDLES}h05"), "{}"]);
    client
        .until("it follows again", |c| c.map[&format!("{HANDLES}h05")].value == "{}")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_reads_are_answered_and_writes_refused() {
    let mut etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let key = |n: u64| format!("{HANDLES}h{n}");
    for n in 0..5 {
        store.create(&key(n), handle(n)).await.unwrap();
    }
    let mut client = typha.client(&[HANDLES]);
    client.until("all", |c| c.map.len() == 5).await;

    etcd.kill(0);
    let deadline = Instant::now() + DEADLINE;
    let refused = loop {
        match store.put(&key(0), handle(7)).await {
            Err(e) => break e,
            Ok(_) => assert!(Instant::now() < deadline, "it still writes"),
        }
    };
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{text}");
    assert!(text.contains("the datastore does not answer: etcd"), "{text}");
    assert_eq!(store.list(HANDLES).await.unwrap().entries.len(), 5);
    assert_eq!(store.get(&key(3)).await.unwrap().value, handle(3));
    assert!(
        matches!(store.get(&key(9)).await, Err(StoreError::Unavailable(_))),
        "it may exist by now"
    );
    let mut newcomer = typha.client(&[HANDLES]);
    newcomer
        .until("served from memory", |c| c.in_syncs == 1 && c.map.len() == 5)
        .await;

    etcd.launch(0);
    etcd.answers().await;
    write_again(&store, &key(0), "the datastore does not answer").await;
    etcd.must(&["del", &key(1)]);
    for client in [&mut client, &mut newcomer] {
        client
            .until("what happened since", |c| {
                c.map.len() == 4 && c.map[&key(0)].value == handle(7)
            })
            .await;
        assert_eq!(client.deletes, 1);
        client.until_equal(&store, HANDLES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_lost_and_a_majority_lost() {
    let mut etcd = Etcd::start(3).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    let key = |n: u64| format!("{HANDLES}h{n}");
    store.create(&key(0), handle(0)).await.unwrap();
    let mut client = typha.client(&[HANDLES]);
    client.until("the first", |c| c.map.len() == 1).await;

    let first = etcd.leader().await;
    etcd.kill(first);
    write_again(&store, &key(1), "the datastore does not answer").await;
    client
        .until("a change after the leader's end", |c| c.map.len() == 2)
        .await;

    let second = (first + 1) % 3;
    etcd.kill(second);
    let asked = Instant::now();
    let refused = loop {
        match store.with_timeout(DEADLINE).put(&key(2), handle(2)).await {
            Err(e) => break e.to_string(),
            Ok(_) => assert!(asked.elapsed() < DEADLINE, "it still writes"),
        }
    };
    assert!(refused.contains("the datastore does not answer"), "{refused}");
    assert!(store.with_timeout(DEADLINE).list(HANDLES).await.unwrap().entries.len() >= 2);

    // A frozen member answers nobody and closes no connection.
    etcd.launch(first);
    write_again(&store, &key(3), "the datastore does not answer").await;
    let frozen = (first + 2) % 3;
    etcd.launch(second);
    etcd.answers().await;
    etcd.signal(frozen, Signal::SIGSTOP);
    write_again(&store, &key(4), "").await;
    client
        .until("a change past the frozen member", |c| c.map.contains_key(&key(4)))
        .await;
    etcd.signal(frozen, Signal::SIGCONT);
    assert_eq!(client.deletes, 0, "nothing is ever deleted because something is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_passwords_and_certificates() {
    let mut etcd = Etcd::start_with_tls().await;
    for args in [
        &["user", "add", "root:r00t"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "typha:s3cret"],
        &["role", "add", "calico"],
        &[
            "role",
            "grant-permission",
            "calico",
            "--prefix=true",
            "readwrite",
            "/calico/",
        ],
        &["user", "grant-role", "typha", "calico"],
        &["auth", "enable"],
    ] {
        etcd.must(args);
    }
    etcd.user = Some("root:r00t".to_owned());

    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let mut typha = Typha::new();
    let mut with_user = command(&etcd, &typha.dir);
    with_user
        .args(["--etcd-username", "typha", "--etcd-password-file"])
        .arg(&password);
    typha.run(with_user).await;
    let store = typha.store();
    let mut client = typha.client(&[HANDLES]);
    store.create(&format!("{HANDLES}a"), handle(1)).await.unwrap();
    client.until("a change over TLS", |c| c.map.len() == 1).await;

    // Its token is lost with the server that gave it.
    etcd.kill(0);
    etcd.launch(0);
    etcd.answers().await;
    write_again(&store, &format!("{HANDLES}b"), "the datastore does not answer").await;
    client.until("a change with a new token", |c| c.map.len() == 2).await;

    // Nobody trusts a stranger.
    let stranger = crate::etcd_server::Pki::new(dir.path());
    let listen = format!("unix:{}", dir.path().join("t.sock").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_typha"));
    command.args(["--etcd-endpoints", &etcd.urls(), "--listen", &listen, "--etcd-ca"]);
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut child = command
        .arg(&stranger.ca)
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    let said = loop {
        let said = std::fs::read_to_string(dir.path().join("log")).unwrap();
        if said.contains("cannot read the datastore") || Instant::now() > deadline {
            break said;
        }
        sleep(Duration::from_millis(20)).await;
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("invalid peer certificate"), "{said}");
}
