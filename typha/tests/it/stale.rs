//! Fail static: typha begins while etcd is away and serves what it kept in a file, marked as old.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::sync_client::SyncClient;
use tortie_proto::sync::{ClientMessage, Open};
use tortie_typha_client::{StoreError, SyncStatus};

use crate::etcd::{command, handle_key};
use crate::etcd_server::{Etcd, free_port};
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle};

/// typha in front of this etcd, which keeps its state.
fn keeping(etcd: &Etcd, dir: &Path, port: u16) -> Command {
    let mut command = command(etcd, dir);
    command.arg("--state").arg(dir.join("state"));
    command.arg("--http").arg(format!("127.0.0.1:{port}"));
    command
}

async fn kept(port: u16) {
    let deadline = Instant::now() + DEADLINE;
    while Typha::metric(port, "typha_states_kept_total").await == 0 {
        assert!(Instant::now() < deadline, "the state is not kept");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn is_stale(status: &SyncStatus) -> bool {
    matches!(status, SyncStatus::Stale { reason, .. } if reason.contains("the datastore does not answer"))
}

fn is_in_sync(client: &Client) -> bool {
    matches!(client.statuses.last(), Some(SyncStatus::InSync { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn typha_begins_without_etcd_and_serves_what_it_kept() {
    let mut etcd = Etcd::start(1).await;
    for n in 0..20 {
        etcd.must(&["put", &handle_key(&format!("h{n:02}")), "{}"]);
    }
    let mut typha = Typha::new();
    let port = free_port();
    typha.run(keeping(&etcd, &typha.dir, port)).await;
    kept(port).await;
    let store = typha.store();
    // Written after the state was kept: one client knows more than typha will.
    store.create(&handle_key("late"), handle(1)).await.unwrap();
    let mut ahead = typha.client(&[HANDLES]);
    ahead.until("all", |c| c.map.len() == 21).await;
    assert_eq!(store.status().await.unwrap().stale, None);
    typha.kill();
    etcd.kill(0);

    let port = free_port();
    typha.run(keeping(&etcd, &typha.dir, port)).await;
    let mut newcomer = typha.client(&[HANDLES]);
    newcomer.until("what was kept", |c| c.in_syncs == 1).await;
    assert_eq!(newcomer.map.len(), 20);
    assert!(is_stale(newcomer.statuses.last().unwrap()), "{:?}", newcomer.statuses);
    ahead.until("told", |c| c.statuses.iter().any(is_stale)).await;
    let status = store.status().await.unwrap();
    let (reason, _) = status.stale.expect("it says so");
    assert!(reason.contains("the datastore does not answer"), "{reason}");
    assert_eq!(Typha::metric(port, "typha_stale").await, 1);
    assert!(Typha::metric(port, "typha_stale_since_timestamp_seconds").await > 1_700_000_000);
    let readiness = Typha::http(port, "/readyz").await;
    let said = format!("; revision {}, ", status.revision);
    assert!(
        readiness.starts_with("HTTP/1.1 503") && readiness.contains(&said),
        "{readiness}"
    );
    let refused = store.put(&handle_key("x"), handle(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");

    etcd.launch(0);
    etcd.answers().await;
    etcd.must(&["del", &handle_key("h03")]);
    etcd.must(&["put", &handle_key("new"), "{}"]);
    for client in [&mut ahead, &mut newcomer] {
        client
            .until("what happened meanwhile", |c| {
                c.map.len() == 21 && c.deletes == 1 && is_in_sync(c)
            })
            .await;
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 1, "nothing else was deleted");
    }
    let sent = Typha::metric(port, "typha_snapshots_sent_total").await;
    // The one that knew more waits for typha to read on, but not for ever: on a busy machine it may be sent the state, too.
    assert!((1..=2).contains(&sent), "the newcomer's; differences since: {sent}");
    assert_eq!(Typha::metric(port, "typha_stale").await, 0);
    assert_eq!(store.status().await.unwrap().stale, None);
}

/// A client of the release before, which can do nothing that is new: gets the state, and no message it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_of_a_stale_typha_is_sent_what_it_knows() {
    let mut etcd = Etcd::start(1).await;
    etcd.must(&["put", &handle_key("a"), "{}"]);
    let mut typha = Typha::new();
    let port = free_port();
    let with_peer = |typha: &Typha| {
        let mut command = keeping(&etcd, &typha.dir, port);
        command.args(["--peers", "unix:/nonexistent/typha.sock"]);
        command
    };
    typha.run(with_peer(&typha)).await;
    kept(port).await;
    typha.kill();
    let next = with_peer(&typha);
    etcd.kill(0);
    typha.run(next).await;
    let open = Open {
        hello: Some(Hello::new("old", "", "1")),
        prefixes: vec![],
        resume: None,
    };
    let open = ClientMessage {
        message: Some(ClientMsg::Open(open)),
    };
    let requests = tokio_stream::once(open).chain(tokio_stream::pending());
    let channel = typha.addr().connect(DEADLINE).await.unwrap();
    let answer = SyncClient::new(channel).watch(requests).await.unwrap();
    let mut stream = answer.into_inner();
    let (mut keys, mut ended) = (0, false);
    while !ended {
        match stream.message().await {
            Ok(Some(message)) => match message.message.expect("nothing unknown") {
                ServerMsg::Batch(batch) => keys += batch.changes.len(),
                ServerMsg::InSync(_) => typha.signal(Signal::SIGTERM),
                ServerMsg::Welcome(_) | ServerMsg::SnapshotBegin(_) | ServerMsg::Ping(_) => {}
                other => panic!("{other:?}"),
            },
            Ok(None) => ended = true,
            Err(status) => ended = status.message() == "typha is stopping",
        }
    }
    assert_eq!(keys, 2, "the handle and the cluster information");
    assert!(typha.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restored_while_typha_was_down_moves_nobody() {
    let mut etcd = Etcd::start(1).await;
    let mut typha = Typha::new();
    let port = free_port();
    typha.run(keeping(&etcd, &typha.dir, port)).await;
    let store = typha.store();
    store.create(&handle_key("a"), handle(1)).await.unwrap();
    etcd.back_up();
    store.create(&handle_key("b"), handle(1)).await.unwrap();
    let mut client = typha.client(&[HANDLES]);
    client.until("what is there", |c| c.map.len() == 2).await;
    // It keeps what it has when it is asked to stop, however soon after the last time.
    typha.signal(Signal::SIGTERM);
    assert!(typha.ended().await.success());
    etcd.kill(0);
    etcd.restore();
    etcd.answers().await;
    for n in 0..30 {
        etcd.must(&["put", "/elsewhere", &n.to_string()]);
    }

    typha.run(keeping(&etcd, &typha.dir, port)).await;
    let (reason, _) = store.status().await.unwrap().stale.expect("it says so");
    assert!(reason.contains("tortiectl datastore accept"), "{reason}");
    let mut newcomer = typha.client(&[HANDLES]);
    newcomer.until("what was kept", |c| c.in_syncs == 1).await;
    assert_eq!((newcomer.map.len(), client.map.len(), client.deletes), (2, 2, 0));
    store.accept_history().await.unwrap();
    for client in [&mut client, &mut newcomer] {
        client.until("what the backup has", |c| c.map.len() == 1).await;
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_named_and_stands_in_nobodys_way() {
    let etcd = Etcd::start(1).await;
    let mut typha = Typha::new();
    let (port, file) = (free_port(), typha.dir.join("state"));
    typha.run(keeping(&etcd, &typha.dir, port)).await;
    kept(port).await;
    typha.kill();
    let good = std::fs::read(&file).unwrap();
    let cases: [(&[u8], &str); 3] = [
        (&good[..good.len() / 2], "is cut off"),
        (b"tortie-snapshot1 of a client", "is no state file of typha's"),
        (
            b"tortie-typha\0\0\0\x07",
            "is a state file of version 7; this typha reads version 1",
        ),
    ];
    for (content, reason) in cases {
        std::fs::write(&file, content).unwrap();
        let log = typha.dir.join("log");
        let mut next = keeping(&etcd, &typha.dir, port);
        next.stderr(std::fs::File::create(&log).unwrap());
        typha.run(next).await;
        assert_eq!(Typha::metric(port, "typha_stale").await, 0, "etcd answers");
        kept(port).await;
        typha.kill();
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(
            said.contains(reason) && said.contains("state file is not used"),
            "{said}"
        );
        assert_eq!(std::fs::read(&file).unwrap()[..12], good[..12], "it is kept anew");
    }
}
