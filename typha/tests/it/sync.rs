//! Sync clients of the real binary.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt;
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::sync_client::SyncClient;
use tortie_proto::sync::{ClientMessage, Open};
use tortie_typha_client::{Store, StoreError, SyncStatus};

use crate::process::{Client, DEADLINE, HANDLES, Typha, handle, large_handle};

const INFORMATION: &str = "/calico/resources/v3/projectcalico.org/clusterinformations/default";

async fn put(store: &Store, name: &str, n: u64) {
    store.put(&format!("{HANDLES}{name}"), handle(n)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_follow_through_kill_9_and_restart() {
    let mut typha = Typha::start().await;
    let store = typha.store();
    let information = store.get(INFORMATION).await.unwrap();
    let information: serde_json::Value = serde_json::from_slice(&information.value).unwrap();
    assert_eq!(information["spec"]["datastoreReady"], true);
    assert_eq!(information["spec"]["clusterGUID"].as_str().unwrap().len(), 32);

    let mut clients: Vec<_> = (0..3).map(|_| typha.client(&[HANDLES])).collect();
    let mut everything = typha.client(&[]);
    for n in 0..50 {
        put(&store, &format!("h{n}"), n).await;
    }
    for client in &mut clients {
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.map.len(), 50);
    }
    everything.until("all keys", |c| c.map.len() == 51).await;

    // A free port: bound, looked at, released.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for round in 0..3 {
        typha.kill();
        let mut command = Typha::command(&typha.dir);
        command.arg("--http").arg(format!("127.0.0.1:{port}"));
        typha.run(command).await;
        // Written before the clients are back: they must catch up.
        put(&store, "h0", 1000 + round).await;
        store.delete(&format!("{HANDLES}h{}", 10 + round), None).await.unwrap();
        for client in clients.iter_mut().chain([&mut everything]) {
            let wanted = usize::try_from(round).unwrap() + 2;
            client.until("in sync again", |c| c.in_syncs == wanted).await;
        }
        assert_eq!(Typha::metric(port, "typha_connections_accepted_total").await, 4);
        assert_eq!(
            Typha::metric(port, "typha_snapshots_sent_total").await,
            0,
            "all resume where they were"
        );
    }
    for client in &mut clients {
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 3, "only what was deleted");
    }
    everything.until_equal(&store, "").await;
    assert_eq!(everything.deletes, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_read_gets_the_newest_values_and_costs_nobody() {
    let typha = Typha::start().await;
    let store = typha.store();
    let mut slow = typha.client(&[HANDLES]);
    slow.until("in sync", |c| c.in_syncs == 1).await;
    let mut quick = typha.client(&[HANDLES]);
    for n in 0..1500u64 {
        put(&store, &format!("h{}", n % 300), n).await;
    }
    quick.until_equal(&store, HANDLES).await;
    slow.until_equal(&store, HANDLES).await;
    assert_eq!(slow.in_syncs, 1, "it was never cut: {:?}", slow.statuses);
    assert_eq!(slow.deletes, 0);
}

/// A client without our library, which reads when it likes and never answers pings.
async fn raw(typha: ServiceAddr) -> tonic::Streaming<tortie_proto::sync::ServerMessage> {
    let open = Open {
        hello: Some(Hello::new("raw", "", "1")),
        prefixes: vec![],
        resume: None,
    };
    let open = ClientMessage {
        message: Some(ClientMsg::Open(open)),
    };
    let requests = tokio_stream::once(open).chain(tokio_stream::pending());
    let channel = typha.connect(DEADLINE).await.unwrap();
    SyncClient::new(channel).watch(requests).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_lives_while_it_takes_messages_and_a_dead_one_is_cut() {
    let typha = Typha::start().await;
    let store = typha.store();
    for n in 0..64 {
        store
            .put(&format!("{HANDLES}h{n}"), large_handle(200 << 10))
            .await
            .unwrap();
    }
    let mut busy = typha.client(&[HANDLES]);
    let (mut slow, mut dead) = (raw(typha.addr()).await, raw(typha.addr()).await);
    // Longer than typha's patience in total, shorter between messages.
    let (mut keys, start) = (0, Instant::now());
    while keys < 65 {
        sleep(Duration::from_millis(200)).await;
        // Changes more often than pings: they must not keep typha from seeing that the others live.
        put(&store, "busy", u64::try_from(keys).unwrap()).await;
        let message = slow.message().await.unwrap().unwrap();
        if let Some(ServerMsg::Batch(batch)) = message.message {
            keys += batch.changes.iter().filter(|c| !c.key.ends_with("/busy")).count();
        }
    }
    assert!(start.elapsed() > Duration::from_secs(12), "slow enough to prove it");
    busy.until_equal(&store, HANDLES).await;
    assert_eq!(busy.in_syncs, 1, "{:?}", busy.statuses);
    // The other one has taken nothing meanwhile. What is on its way still arrives, then the end.
    let end = loop {
        match timeout(DEADLINE, dead.message()).await.expect("it ends") {
            Ok(Some(_)) => {}
            Ok(None) => break "ended".to_owned(),
            Err(status) => break status.message().to_owned(),
        }
    };
    assert!(
        end == "ended" || end.contains("neither took a message nor answered"),
        "{end}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_major_version_is_refused_by_name() {
    let typha = Typha::start().await;
    let newer = Hello {
        major: 9,
        ..Hello::new("newer", "", "1")
    };
    let store = Store::new(typha.addr(), newer.clone());
    let refused = store.put(&format!("{HANDLES}a"), handle(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Incompatible(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("newer") && refused.to_string().contains("protocol 9."),
        "{refused}"
    );

    let first = |message| {
        let addr = typha.addr();
        async move {
            let channel = addr.connect(DEADLINE).await.unwrap();
            let requests = tokio_stream::once(ClientMessage { message }).chain(tokio_stream::pending());
            SyncClient::new(channel).watch(requests).await.unwrap_err()
        }
    };
    let open = Open {
        hello: Some(newer),
        prefixes: vec![],
        resume: None,
    };
    let status = first(Some(ClientMsg::Open(open.clone()))).await;
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    let status = first(None).await;
    assert_eq!(status.message(), "the first message must be open");
    let many = Open {
        hello: Some(Hello::new("raw", "", "1")),
        prefixes: vec!["/a".into(); 300],
        ..open
    };
    let status = first(Some(ClientMsg::Open(many))).await;
    assert!(status.message().contains("open.prefixes has 300 members"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_sends_clients_away_and_ends_soon() {
    let mut typha = Typha::start().await;
    let mut client = typha.client(&[]);
    client.until("in sync", |c| c.in_syncs == 1).await;
    let start = Instant::now();
    typha.signal(Signal::SIGTERM);
    assert!(typha.ended().await.success());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let stopping =
        |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { reason } if reason.contains("typha is stopping"));
    client.until("told", |c| c.statuses.iter().any(stopping)).await;
    assert!(!typha.dir.join("typha.sock").exists());
    let away = typha
        .store()
        .with_timeout(Duration::from_secs(2))
        .get("/calico/x")
        .await
        .unwrap_err();
    assert!(matches!(away, StoreError::Unavailable(_)), "{away:?}");
    assert!(away.to_string().contains("typha.sock"), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_typha_the_last_good_state_is_used_and_later_only_differences_come() {
    let mut typha = Typha::start().await;
    let store = typha.store();
    put(&store, "stays", 1).await;
    put(&store, "goes", 1).await;
    let snapshot = typha.dir.join("snapshot");
    let mut client = Client::start(typha.addr(), &[HANDLES], Some(snapshot.clone()));
    client.until_equal(&store, HANDLES).await;
    let deadline = Instant::now() + DEADLINE;
    while !snapshot.exists() {
        assert!(Instant::now() < deadline, "no snapshot file");
        client.until("alive", |_| true).await;
        sleep(Duration::from_millis(10)).await;
    }
    drop(client);
    typha.kill();

    let mut client = Client::start(typha.addr(), &[HANDLES], Some(snapshot.clone()));
    client.until("in sync from disk", |c| c.in_syncs == 1).await;
    assert_eq!(client.map.len(), 2);
    let from_disk = |s: &SyncStatus| matches!(s, SyncStatus::FromSnapshot { revision: 3, .. });
    assert!(client.statuses.iter().any(from_disk), "{:?}", client.statuses);
    typha.restart().await;
    store.delete(&format!("{HANDLES}goes"), None).await.unwrap();
    client
        .until("in sync with typha", |c| c.in_syncs >= 2 && c.deletes == 1)
        .await;
    assert_eq!(client.map.len(), 1);
    drop(client);

    // A damaged file is not used, and does not stand in the way.
    std::fs::write(&snapshot, b"tortie-snapshot1 and rubbish").unwrap();
    let mut client = Client::start(typha.addr(), &[HANDLES], Some(snapshot));
    client.until_equal(&store, HANDLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_of_the_same_cluster_is_refused() {
    let mut typha = Typha::start().await;
    let store = typha.store();
    put(&store, "a", 1).await;
    typha.signal(Signal::SIGTERM);
    typha.ended().await;
    let file = typha.dir.join("store");
    let backup = std::fs::read(&file).unwrap();
    typha.restart().await;
    put(&store, "b", 1).await;
    let mut client = typha.client(&[HANDLES]);
    client.until_equal(&store, HANDLES).await;
    typha.kill();
    std::fs::write(&file, backup).unwrap();
    typha.restart().await;
    let refused =
        |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { reason } if reason.contains("never runs backwards"));
    client.until("refused", |c| c.statuses.iter().any(refused)).await;
    assert_eq!(
        (client.map.len(), client.deletes),
        (2, 0),
        "what was held is still held"
    );
    // Unless an operator says so.
    typha.store().accept_history().await.unwrap();
    client.until("led back", |c| c.map.len() == 1).await;
    client.until_equal(&typha.store(), HANDLES).await;
    assert_eq!(client.deletes, 1);
}
