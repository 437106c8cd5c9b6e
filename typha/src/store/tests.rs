use std::path::Path;

use serde_json::{Value, json};
use tortie_proto::store::write_request::{Operation, Precondition as Wire};
use tortie_proto::store::{Delete, WriteRequest};

use super::*;
use crate::access::Subject;
use crate::datastore::Committed;
use crate::datastore::embedded::Embedded;

const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";

fn writer(dir: &Path) -> Writer {
    Writer::new(Arc::new(Embedded::open(&dir.join("store")).unwrap()))
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
