use std::path::Path;

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tortie_proto::store::write_request::{Operation, Precondition as Wire};
use tortie_proto::store::{Delete, WriteManyRequest, WriteRequest};

use super::*;
use crate::access::Subject;
use crate::datastore::Committed;
use crate::datastore::embedded::Embedded;

const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";

fn writer(dir: &Path) -> Writer {
    let backend = Embedded::open(&dir.join("store"), 1 << 20).unwrap();
    Writer::new(Arc::new(backend), Counter::default())
}

fn put(key: &str, document: &Value) -> WriteRequest {
    let operation = Some(Operation::Put(document.to_string().into_bytes()));
    WriteRequest {
        key: key.to_owned(),
        operation,
        ..WriteRequest::default()
    }
}

async fn write(writer: &Writer, request: WriteRequest) -> Result<Committed, WriteError> {
    writer.write(&Change::of(request, Subject::Admin)?).await
}

fn pool(cidr: &str) -> Value {
    json!({ "spec": { "cidr": cidr } })
}

fn document(committed: &Committed) -> Value {
    serde_json::from_slice(&committed.entry.as_ref().unwrap().value).unwrap()
}

#[tokio::test]
async fn a_resource_is_completed_at_creation_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let key = format!("{POOLS}a");
    let created = write(&writer, put(&key, &pool("10.0.0.0/16"))).await.unwrap();
    let first = document(&created);
    assert_eq!(first["kind"], "IPPool");
    assert_eq!(first["spec"]["blockSize"], 26, "defaults are applied");
    assert_eq!(first["metadata"]["uid"].as_str().unwrap().len(), 36);
    let stamp: jiff::Timestamp = first["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(jiff::Timestamp::now().duration_since(stamp).as_secs() < 60);

    // An older client writes back what it read, without fields it does not know: identity stays.
    let mut edited = pool("10.0.0.0/16");
    edited["spec"]["disabled"] = json!(true);
    edited["metadata"] = json!({ "resourceVersion": created.revision.to_string() });
    let updated = write(&writer, put(&key, &edited)).await.unwrap();
    let second = document(&updated);
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(
        second["metadata"]["creationTimestamp"],
        first["metadata"]["creationTimestamp"]
    );
    assert_eq!(second["metadata"].get("resourceVersion"), None, "never stored");
    assert_eq!(updated.previous.unwrap().revision, created.revision);

    let stale = write(&writer, put(&key, &edited)).await.unwrap_err();
    let expected = WriteError::Conflict {
        name: "IPPool(a)".into(),
        held: 2,
        expected: 1,
    };
    assert_eq!(stale, expected);
    assert_eq!(
        stale.to_string(),
        "update conflict: IPPool(a): its revision is 2, not 1"
    );
}

#[tokio::test]
async fn what_typha_does_not_know_is_stored_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let mut document_sent = pool("10.0.0.0/16");
    document_sent["spec"]["fromTheFuture"] = json!({ "n": u64::MAX });
    let stored = write(&writer, put(&format!("{POOLS}a"), &document_sent)).await.unwrap();
    assert_eq!(document(&stored)["spec"]["fromTheFuture"]["n"], json!(u64::MAX));

    let sent = br#"{"block": {"10.0.0.0/26": 1},  "deleted": false, "later": 18446744073709551615}"#;
    let key = "/calico/ipam/v2/handle/k8s-pod-network.x".to_owned();
    let request = WriteRequest {
        key,
        operation: Some(Operation::Put(sent.to_vec())),
        ..WriteRequest::default()
    };
    let stored = write(&writer, request).await.unwrap();
    assert_eq!(&stored.entry.unwrap().value[..], sent, "octet for octet");
}

#[tokio::test]
async fn rules_between_objects_hold_also_for_writes_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let create = |n: usize| {
        let writer = writer.clone();
        tokio::spawn(async move { write(&writer, put(&format!("{POOLS}p{n}"), &pool("10.0.0.0/16"))).await })
    };
    let tasks: Vec<_> = (0..8).map(create).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    assert_eq!(
        outcomes.iter().filter(|o| o.is_ok()).count(),
        1,
        "one pool may have this CIDR"
    );
    for refused in outcomes.into_iter().filter_map(Result::err) {
        let text = refused.to_string();
        assert!(
            text.contains("overlaps with IPPool(p") && text.contains("10.0.0.0/16"),
            "{text}"
        );
    }
    let moved = write(&writer, put(&format!("{POOLS}other"), &pool("10.0.128.0/17")))
        .await
        .unwrap_err();
    assert!(matches!(moved, WriteError::Invalid(_)), "{moved}");
}

#[tokio::test]
async fn preconditions_deletes_and_dry_runs() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let key = format!("{POOLS}a");
    let conditional = |precondition| WriteRequest {
        precondition: Some(precondition),
        ..put(&key, &pool("10.0.0.0/16"))
    };
    let delete = |key: &str| WriteRequest {
        operation: Some(Operation::Delete(Delete {})),
        ..put(key, &Value::Null)
    };

    let missing = write(&writer, conditional(Wire::Revision(1))).await.unwrap_err();
    assert_eq!(missing.to_string(), "resource does not exist: IPPool(a)");
    let dry = WriteRequest {
        dry_run: true,
        ..conditional(Wire::Absent(true))
    };
    assert_eq!(document(&write(&writer, dry).await.unwrap())["spec"]["blockSize"], 26);
    assert!(write(&writer, delete(&key)).await.is_err(), "a dry run creates nothing");
    write(&writer, conditional(Wire::Absent(true))).await.unwrap();
    let again = write(&writer, conditional(Wire::Absent(true))).await.unwrap_err();
    assert_eq!(again.to_string(), "resource already exists: IPPool(a)");
    let wrong = WriteRequest {
        precondition: Some(Wire::Revision(7)),
        ..delete(&key)
    };
    assert!(matches!(
        write(&writer, wrong).await,
        Err(WriteError::Conflict {
            held: 1,
            expected: 7,
            ..
        })
    ));
    let gone = write(&writer, delete(&key)).await.unwrap();
    assert_eq!(
        (gone.entry, gone.previous.unwrap().revision, gone.revision),
        (None, 1, 2)
    );
    assert_eq!(
        write(&writer, delete(&key)).await,
        Err(WriteError::NotFound("IPPool(a)".into()))
    );
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let raw = |key: &str, bytes: &[u8]| WriteRequest {
        key: key.to_owned(),
        operation: Some(Operation::Put(bytes.to_vec())),
        ..WriteRequest::default()
    };
    let pool_key = format!("{POOLS}a");
    let versioned = json!({ "metadata": { "resourceVersion": "x" }, "spec": { "cidr": "10.0.0.0/16" } });
    let cases = [
        (raw("", b"{}"), "is no datastore key"),
        (raw("/etcd/x", b"{}"), "is no datastore key"),
        (raw(&format!("{POOLS}a b"), b"{}"), "white space is not allowed"),
        (
            raw(&format!("{POOLS}{}", "a".repeat(2000)), b"{}"),
            "at most 1024 are allowed",
        ),
        (raw(&pool_key, b"{"), "IPPool(a): document is not JSON"),
        (raw(&pool_key, &[b'['; 100_000]), "IPPool(a): document is not JSON"),
        (raw(&pool_key, &vec![b' '; 2 << 20]), "at most 1048576 are allowed"),
        (raw(&pool_key, b"[]"), "IPPool(a)"),
        (put(&pool_key, &pool("10.0.0.0/99")), "IPPool(a)"),
        (put(&pool_key, &versioned), "metadata.resourceVersion = 'x'"),
        (
            WriteRequest {
                key: pool_key.clone(),
                ..WriteRequest::default()
            },
            "neither put nor delete",
        ),
    ];
    for (request, expected) in cases {
        let refused = write(&writer, request).await.unwrap_err();
        assert!(matches!(refused, WriteError::Invalid(_)), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    let created = write(&writer, put(&pool_key, &pool("10.0.0.0/16"))).await.unwrap();
    assert_eq!(created.revision, 1, "nothing was written before");
}

async fn write_many(
    writer: &Writer,
    subject: &Subject,
    writes: Vec<WriteRequest>,
) -> Result<Vec<Committed>, WriteError> {
    let request = WriteManyRequest {
        writes,
        ..WriteManyRequest::default()
    };
    writer.write_all(&many::changes(request, subject)?, false).await
}

fn handle(name: &str) -> WriteRequest {
    WriteRequest {
        precondition: Some(Wire::Absent(true)),
        ..put(
            &format!("/calico/ipam/v2/handle/{name}"),
            &json!({ "block": { "10.0.0.0/26": 1 }, "deleted": false }),
        )
    }
}

#[tokio::test]
async fn several_writes_are_one_transaction_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let transactions = Counter::default();
    let backend = Arc::new(Embedded::open(&dir.path().join("store"), 1 << 20).unwrap());
    let writer = Writer::new(backend.clone(), transactions.clone());
    let done = write_many(&writer, &Subject::Admin, vec![handle("a"), handle("b"), handle("c")]).await;
    let revisions: Vec<_> = done
        .unwrap()
        .iter()
        .map(|c| c.entry.as_ref().unwrap().revision)
        .collect();
    assert_eq!((revisions, transactions.get()), (vec![1, 2, 3], 1));

    let replace = |name: &str, revision| WriteRequest {
        precondition: Some(Wire::Revision(revision)),
        ..handle(name)
    };
    let remove = |name: &str, revision| WriteRequest {
        operation: Some(Operation::Delete(Delete {})),
        ..replace(name, revision)
    };
    for (bad, said) in [
        (handle("b"), "resource already exists: IPAMHandle(b)"),
        (
            replace("b", 7),
            "update conflict: IPAMHandle(b): its revision is 2, not 7",
        ),
        (remove("none", 7), "resource does not exist: IPAMHandle(none)"),
    ] {
        let refused = write_many(&writer, &Subject::Admin, vec![handle("d"), remove("a", 1), bad]).await;
        assert_eq!(refused.unwrap_err().to_string(), said);
    }
    assert_eq!(
        backend.list("/").await.unwrap().revision,
        3,
        "nothing of them was written"
    );

    let both = vec![remove("a", 1), replace("b", 2)];
    write_many(&writer, &Subject::Admin, both).await.unwrap();
    let left = backend.list("/calico/ipam/v2/handle/").await.unwrap();
    assert_eq!(left.entries.iter().map(|e| e.revision).collect::<Vec<_>>(), [5, 3]);
}

#[tokio::test]
async fn every_one_of_several_writes_is_permitted_admitted_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let node = Subject::Node("n1".to_owned());
    let host = put("/calico/ipam/v2/host/n2", &json!({}));
    let large = |name: &str| {
        let mut sent = json!({ "block": {}, "deleted": false }).to_string().into_bytes();
        sent.resize(700 << 10, b' ');
        WriteRequest {
            operation: Some(Operation::Put(sent)),
            ..handle(name)
        }
    };
    let verbatim = WriteRequest {
        verbatim: true,
        ..handle("a")
    };
    let pools = |cidrs: [&str; 2]| {
        let pool = |(n, cidr): (usize, &str)| put(&format!("{POOLS}p{n}"), &pool(cidr));
        cidrs.into_iter().enumerate().map(pool).collect::<Vec<_>>()
    };
    let cases = [
        (&node, vec![handle("a"), host], "node n1 may not write"),
        (&Subject::Admin, vec![], "0 writes at once, want at least 1"),
        (
            &Subject::Admin,
            (0..129).map(|n| handle(&n.to_string())).collect(),
            "129 writes at once, want at least 1 and at most 128",
        ),
        (
            &Subject::Admin,
            vec![handle("a"), handle("a")],
            "IPAMHandle(a): written twice",
        ),
        (
            &Subject::Admin,
            vec![large("a"), large("b")],
            "octets, at most 1310720 are allowed at once",
        ),
        (
            &Subject::Admin,
            vec![verbatim],
            "/calico/ipam/v2/handle/a: verbatim and dry_run",
        ),
        (
            &Subject::Admin,
            vec![handle("a"), put(&format!("{POOLS}p"), &pool("10.0.0.0/99"))],
            "IPPool(p)",
        ),
        // Each is right alone, and together they overlap.
        (
            &Subject::Admin,
            pools(["10.0.0.0/16", "10.0.0.0/16"]),
            "they are not written at once",
        ),
    ];
    for (subject, writes, said) in cases {
        let refused = write_many(&writer, subject, writes).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let done = write_many(&writer, &node, (0..128).map(|n| handle(&n.to_string())).collect()).await;
    assert_eq!(
        done.unwrap().last().unwrap().revision,
        128,
        "nothing was written before"
    );
}

#[tokio::test]
async fn what_says_who_is_alive_expires_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let report = json!({ "time": "2026-05-01T10:00:00Z", "uptime": 12.5, "first_update": false });
    let [status, last] = ["status", "last_reported_status"].map(|of| {
        let key = format!("/calico/felix/v2/no-region/host/n1/{of}");
        put(&key, &report)
    });
    let of = |request: &WriteRequest, ttl_seconds| WriteRequest {
        ttl_seconds,
        ..request.clone()
    };
    write(&writer, of(&status, 90)).await.unwrap();
    write(&writer, last.clone()).await.unwrap();
    let gone = WriteRequest {
        operation: Some(Operation::Delete(Delete {})),
        ..status.clone()
    };
    for (request, said) in [
        (
            status.clone(),
            "StatusReport(n1): error with field ttl_seconds = '0' (what says who is alive",
        ),
        (
            of(&status, 86_401),
            "StatusReport(n1): error with field ttl_seconds = '86401' (what says",
        ),
        (
            of(&last, 90),
            "LastStatusReport(n1): error with field ttl_seconds = '90' (only a document",
        ),
        (
            of(&gone, 90),
            "StatusReport(n1): error with field ttl_seconds = '90' (only a document",
        ),
    ] {
        let refused = write(&writer, request).await.unwrap_err();
        assert!(refused.to_string().starts_with(said), "{refused}");
    }
    write(&writer, gone).await.unwrap();
    let bad = put(
        "/calico/felix/v2/no-region/host/n1/workload/k8s/a/endpoint/b",
        &json!({ "status": "gone" }),
    );
    let refused = write(&writer, bad).await.unwrap_err().to_string();
    assert!(
        refused.contains("EndpointReport(n1/k8s/a/b)") && refused.contains("'gone'"),
        "{refused}"
    );
}
