//! Connections that are bad in one way or another: half open, slow; and how much is encoded for many clients.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::IntervalStream;
use tonic::Streaming;
use tortie_kit::address::ServiceAddr;
use tortie_proto::capability;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::sync_client::SyncClient;
use tortie_proto::sync::{ClientMessage, Open, Pong, ServerMessage};
use tortie_typha_client::SyncStatus;

use crate::etcd_server::free_port;
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle, large_handle};

/// typha on a unix socket, on a tcp port, and with metrics.
pub(crate) fn command(typha: &Typha, tcp: u16, http: u16) -> Command {
    let mut command = Typha::command(&typha.dir);
    command.args(["--listen", &format!("tcp:127.0.0.1:{tcp}"), "--insecure"]);
    command.args(["--http", &format!("127.0.0.1:{http}")]);
    command
}

/// Carries connections to a port until it is cut: then what is there stays open and nothing passes any more, as when a
/// machine is gone. Connections made later pass.
async fn wire(to: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cut = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (flag, fresh) = (Arc::clone(&flag), !flag.load(Ordering::SeqCst));
            tokio::spawn(async move {
                let dead = async {
                    while !(fresh && flag.load(Ordering::SeqCst)) {
                        sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    () = dead => {}
                }
                // Both ends believe that the other is there.
                std::future::pending::<()>().await;
            });
        }
    });
    (port, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_from_both_ends() {
    let mut typha = Typha::new();
    let (tcp, http) = (free_port(), free_port());
    typha.run(command(&typha, tcp, http)).await;
    let store = typha.store();
    store.create(&format!("{HANDLES}a"), handle(1)).await.unwrap();
    let (port, cut) = wire(tcp).await;
    let through: ServiceAddr = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let mut client = Client::start(through, &[HANDLES], None);
    client.until("in sync", |c| c.in_syncs == 1).await;
    assert_eq!(Typha::metric(http, "typha_connections_active").await, 1);
    cut.store(true, Ordering::SeqCst);
    store.create(&format!("{HANDLES}b"), handle(1)).await.unwrap();
    let lost = |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
    client.until("lost", |c| c.statuses.iter().any(lost)).await;
    client.until("in sync again", |c| c.in_syncs == 2).await;
    client.until_equal(&store, HANDLES).await;
    assert_eq!(client.deletes, 0);
    let deadline = Instant::now() + DEADLINE;
    while Typha::metric(http, "typha_connections_active").await != 1 {
        assert!(Instant::now() < deadline, "typha believes that the dead one is there");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The stream of a client that is in sync, lives, and says so unasked, but takes nothing.
pub(crate) async fn unread(typha: &Typha) -> Streaming<ServerMessage> {
    let hello = Hello::new("slow", "", "1").with_capabilities(&[capability::COALESCED]);
    let open = ClientMsg::Open(Open {
        hello: Some(hello),
        prefixes: vec![HANDLES.to_owned()],
        resume: None,
    });
    let alive = IntervalStream::new(tokio::time::interval(Duration::from_millis(500)));
    let alive = alive.map(|_| ClientMsg::Pong(Pong::default()));
    let requests = tokio_stream::once(open).chain(alive);
    let requests = requests.map(|m| ClientMessage { message: Some(m) });
    let channel = typha.addr().connect(DEADLINE).await.unwrap();
    let answer = SyncClient::new(channel).watch(requests).await.unwrap();
    let mut stream = answer.into_inner();
    loop {
        let message = stream.message().await.unwrap().unwrap();
        if matches!(message.message, Some(ServerMsg::InSync(_))) {
            return stream;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_too_slow_for_the_log_is_told_and_sent_the_state() {
    let mut typha = Typha::new();
    let (tcp, http) = (free_port(), free_port());
    typha.run(command(&typha, tcp, http)).await;
    let store = typha.store();
    let mut stream = unread(&typha).await;
    // More than the log holds, 64 MiB, of one key: the state stays small.
    for _ in 0..90 {
        store
            .put(&format!("{HANDLES}large"), large_handle(900 << 10))
            .await
            .unwrap();
    }
    store.put(&format!("{HANDLES}last"), handle(1)).await.unwrap();
    let (mut told, mut snapshot, mut complete, mut keys) = (false, false, false, 0);
    // The state may be sent before the last change was made; that one comes after it then.
    while !(complete && keys >= 2) {
        let next = tokio::time::timeout(DEADLINE, stream.message()).await;
        match next.unwrap().unwrap().unwrap().message.unwrap() {
            ServerMsg::Coalesced(_) => told = true,
            ServerMsg::SnapshotBegin(_) => (snapshot, keys) = (told, 0),
            ServerMsg::Batch(batch) => keys += batch.changes.len(),
            ServerMsg::InSync(_) => complete |= snapshot,
            _ => {}
        }
    }
    assert_eq!(keys, 2, "the newest of each");
    assert_eq!(Typha::metric(http, "typha_clients_coalesced_total").await, 1);
    assert_eq!(Typha::metric(http, "typha_connections_dropped_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_cost_one_encoding() {
    let mut typha = Typha::new();
    let (tcp, http) = (free_port(), free_port());
    typha.run(command(&typha, tcp, http)).await;
    let store = typha.store();
    for n in 0..20 {
        let document = large_handle(20_000);
        store.create(&format!("{HANDLES}h{n}"), document).await.unwrap();
    }
    let mut clients: Vec<Client> = (0..60).map(|_| typha.client(&[HANDLES])).collect();
    for client in &mut clients {
        client.until("in sync", |c| c.in_syncs == 1).await;
    }
    let metric = |name: &'static str| Typha::metric(http, name);
    assert_eq!(metric("typha_encoded_total{part=\"Snapshot\"}").await, 1);
    let sent = metric("typha_sent_octets_total{part=\"Snapshot\"}").await;
    assert!(sent < 60 * 20 * 20_000 / 10, "compressed: {sent}");
    for n in 0..30 {
        store.put(&format!("{HANDLES}h{}", n % 20), handle(n)).await.unwrap();
    }
    for client in &mut clients {
        client.until_equal(&store, HANDLES).await;
    }
    let batches = metric("typha_encoded_total{part=\"Changes\"}").await;
    assert!(
        (1..=50).contains(&batches),
        "{batches} encoded for 60 clients and 50 writes at most"
    );
    assert_eq!(metric("typha_encoded_total{part=\"Snapshot\"}").await, 1);
    assert_eq!(metric("typha_snapshots_sent_total").await, 60);
}
