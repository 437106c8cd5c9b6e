//! A datastore that comes back with another past: said, and nobody is led there without an operator's word.

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tortie_typha_client::{Store, StoreError, SyncStatus};

use crate::etcd::{handle_key, typha};
use crate::etcd_server::Etcd;
use crate::process::{Client, DEADLINE, HANDLES, handle};

/// Writes until typha refuses for this reason.
async fn refused(store: &Store, reason: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match store.put(&handle_key("x"), handle(1)).await {
            Err(StoreError::Unavailable(said)) if said.contains(reason) => return,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn keys(client: &Client) -> Vec<&str> {
    client
        .map
        .keys()
        .map(|key| key.strip_prefix(HANDLES).unwrap())
        .collect()
}

async fn a_restored_backup(overtaken: bool) {
    let mut etcd = Etcd::start(1).await;
    let typha = typha(&etcd).await;
    let store = typha.store();
    for name in ["a", "b"] {
        store.create(&handle_key(name), handle(1)).await.unwrap();
    }
    etcd.back_up();
    store.create(&handle_key("c"), handle(1)).await.unwrap();
    store.delete(&handle_key("a"), None).await.unwrap();
    let mut client = typha.client(&[HANDLES]);
    client.until("what is there", |c| keys(c) == ["b", "c"]).await;

    typha.signal(Signal::SIGSTOP);
    etcd.kill(0);
    etcd.restore();
    etcd.answers().await;
    if overtaken {
        // Its revisions are higher by now than those that typha has seen.
        (0..30).for_each(|n| drop(etcd.must(&["put", "/elsewhere", &n.to_string()])));
    }
    typha.signal(Signal::SIGCONT);
    refused(
        &store,
        "it is a restored backup; nobody is led there until an operator says so",
    )
    .await;
    let listed = store.list(HANDLES).await.unwrap().entries;
    assert_eq!(listed.len(), 2, "what typha had");
    let listed_keys: Vec<&str> = listed.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(store.keys(HANDLES).await.unwrap(), listed_keys);
    let mut newcomer = typha.client(&[HANDLES]);
    newcomer
        .until("what typha had", |c| c.in_syncs == 1 && keys(c) == ["b", "c"])
        .await;
    assert_eq!((keys(&client), client.deletes), (vec!["b", "c"], 0));

    let (_, revision) = store.accept_history().await.unwrap();
    assert!(revision > 0);
    for client in [&mut client, &mut newcomer] {
        client.until("what the backup has", |c| keys(c) == ["a", "b"]).await;
        assert_eq!(client.deletes, 1);
    }
    store.create(&handle_key("d"), handle(1)).await.unwrap();
    client.until("what happens since", |c| keys(c) == ["a", "b", "d"]).await;
    client.until_equal(&store, HANDLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_moves_nobody_before_an_operator_says_so() {
    a_restored_backup(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_that_has_overtaken_what_was_seen_is_found_out() {
    a_restored_backup(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_same_place_moves_nobody() {
    let mut etcd = Etcd::start(1).await;
    let first = typha(&etcd).await;
    let store = first.store();
    store.create(&handle_key("a"), handle(1)).await.unwrap();
    let mut client = first.client(&[HANDLES]);
    client.until("what is there", |c| keys(c) == ["a"]).await;
    // A second typha, which is told by the first's word.
    let second = typha(&etcd).await;
    let mut other = second.client(&[HANDLES]);
    other.until("what is there", |c| keys(c) == ["a"]).await;

    etcd.kill(0);
    etcd.wipe(0);
    etcd.launch(0);
    etcd.answers().await;
    for typha in [&first, &second] {
        refused(&typha.store(), "the datastore holds another history of changes").await;
    }
    assert_eq!((keys(&client), keys(&other)), (vec!["a"], vec!["a"]));
    store.accept_history().await.unwrap();
    for client in [&mut client, &mut other] {
        client.until("nothing is there", |c| c.map.is_empty()).await;
        assert_eq!(client.deletes, 1);
        let lost =
            |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { reason } if reason.contains("another history"));
        assert!(client.statuses.iter().any(lost), "{:?}", client.statuses);
    }
}
