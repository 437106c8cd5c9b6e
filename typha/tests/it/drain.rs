//! A rolling restart of three typhas on one etcd: clients are handed over and resume, and are not sent everything again.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tortie_kit::address::ServiceAddr;
use tortie_typha_client::SyncStatus;

use crate::etcd::{command, handle_key};
use crate::etcd_server::{Etcd, free_port};
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle};

const CLIENTS: usize = 300;

/// A document that does not become much smaller when it is compressed.
fn noisy(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let digit = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit(state >> 28, 16).unwrap()
    };
    let padding: String = (0..2000).map(digit).collect();
    let mut document: serde_json::Value = serde_json::from_slice(&handle(1)).unwrap();
    document["padding"] = padding.into();
    document.to_string().into_bytes()
}

/// Three typhas that know of each other, and where each is asked for metrics.
struct Three {
    etcd: Etcd,
    typhas: Vec<Typha>,
    ports: Vec<u16>,
}

impl Three {
    async fn start() -> Self {
        let mut three = Three {
            etcd: Etcd::start(1).await,
            typhas: (0..3).map(|_| Typha::new()).collect(),
            ports: (0..3).map(|_| free_port()).collect(),
        };
        for n in 0..3 {
            three.launch(n).await;
        }
        three
    }

    fn command(&self, n: usize) -> Command {
        let mut command = command(&self.etcd, &self.typhas[n].dir);
        command.arg("--http").arg(format!("127.0.0.1:{}", self.ports[n]));
        let peers = (0..3)
            .filter(|other| *other != n)
            .map(|other| self.typhas[other].addr());
        let peers: Vec<String> = peers.map(|addr| addr.to_string()).collect();
        command.args(["--peers", &peers.join(",")]);
        command
    }

    async fn launch(&mut self, n: usize) {
        let command = self.command(n);
        self.typhas[n].run(command).await;
    }

    async fn sent(&self, n: usize, part: &str) -> u64 {
        let name = format!("typha_sent_octets_total{{part=\"{part}\"}}");
        Typha::metric_or_zero(self.ports[n], &name).await
    }

    async fn clients(&self, n: usize) -> u64 {
        Typha::metric(self.ports[n], "typha_connections_active").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_hands_clients_over_and_sends_next_to_nothing_again() {
    let mut three = Three::start().await;
    let store = three.typhas[0].store();
    for n in 0..100 {
        store.create(&handle_key(&format!("h{n:03}")), noisy(n)).await.unwrap();
    }
    let start = |n: usize| Client::start(three.typhas[n % 3].addr(), &[HANDLES], None);
    let mut clients: Vec<Client> = (0..CLIENTS).map(start).collect();
    for client in &mut clients {
        client.until("all", |c| c.map.len() == 100).await;
    }
    let (mut full, mut again, mut snapshots) = (0, 0, 0);
    let mut before = BTreeMap::new();
    for n in 0..3 {
        let sent = three.sent(n, "Snapshot").await + three.sent(n, "Changes").await;
        full += sent;
        before.insert(n, sent);
    }
    assert!(full > (CLIENTS * 100 * 500) as u64, "{full}");

    for n in 0..3 {
        // Something is written all the time: replicas are not at the same place.
        let other = three.typhas[(n + 1) % 3].store();
        other.put(&handle_key("busy"), handle(n as u64)).await.unwrap();
        again += three.sent(n, "Snapshot").await + three.sent(n, "Changes").await - before[&n];
        let (mine, others) = (three.clients(n).await, three.clients((n + 1) % 3).await);
        three.typhas[n].signal(Signal::SIGTERM);
        other.put(&handle_key("busier"), handle(n as u64)).await.unwrap();
        assert!(three.typhas[n].ended().await.success());
        // They are spread over the other two.
        let deadline = Instant::now() + DEADLINE;
        while three.clients((n + 1) % 3).await + three.clients((n + 2) % 3).await < CLIENTS as u64 {
            assert!(Instant::now() < deadline, "not all have come");
            sleep(Duration::from_millis(20)).await;
        }
        // Later one has far more than another, which began anew or is about to stop and has none: it asks clients to move at
        // any time, and who came to the first is not only who was handed over.
        if n == 0 {
            let came = three.clients((n + 1) % 3).await - others;
            assert!(
                came.abs_diff(mine / 2) <= 2,
                "{came} of {mine} went to the first of two"
            );
        }
        three.launch(n).await;
        before.insert(n, 0);
    }
    other_is_seen(&three, &mut clients).await;
    for n in 0..3 {
        again += three.sent(n, "Snapshot").await + three.sent(n, "Changes").await - before[&n];
        snapshots += Typha::metric(three.ports[n], "typha_snapshots_sent_total").await;
    }
    assert_eq!(snapshots, 0, "every client resumed");
    assert!(again < full / 20, "{again} of {full} octets were sent again");
    let cut = |s: &&SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
    let cut: Vec<_> = clients.iter().flat_map(|c| c.statuses.iter().filter(cut)).collect();
    assert!(cut.is_empty(), "all were handed over, none was cut: {cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_typha_are_spread_over_all_without_a_snapshot() {
    let three = Three::start().await;
    let store = three.typhas[0].store();
    store.create(&handle_key("h"), handle(1)).await.unwrap();
    let start = |_| Client::start(three.typhas[0].addr(), &[HANDLES], None);
    let mut clients: Vec<Client> = (0..CLIENTS).map(start).collect();
    for client in &mut clients {
        client.until("all", |c| c.map.len() == 1).await;
    }
    // The mean is 100; a fifth and 50 more is near enough.
    let near = 170;
    let deadline = Instant::now() + 2 * DEADLINE;
    loop {
        let counts = [three.clients(0).await, three.clients(1).await, three.clients(2).await];
        if counts.iter().sum::<u64>() == CLIENTS as u64 && counts.iter().all(|c| *c <= near) {
            break;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        sleep(Duration::from_millis(50)).await;
    }
    other_is_seen(&three, &mut clients).await;
    let moved = Typha::metric(three.ports[0], "typha_connections_moved_total").await;
    assert!((130..=200).contains(&moved), "{moved}");
    for n in 1..3 {
        let name = "typha_snapshots_sent_total";
        assert_eq!(Typha::metric(three.ports[n], name).await, 0, "all resumed");
    }
    let cut = |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
    assert!(!clients.iter().any(|c| c.statuses.iter().any(cut)));
}

async fn other_is_seen(three: &Three, clients: &mut [Client]) {
    let store = three.typhas[1].store();
    store.put(&handle_key("last"), handle(1)).await.unwrap();
    for client in clients {
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 0);
    }
}

/// Revisions that are nobody's concern (a mark, keys of others) do not make a replica look behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_never_ahead_of_a_replica_for_good() {
    let etcd = Etcd::start(1).await;
    let first = crate::etcd::typha(&etcd).await;
    first.store().create(&handle_key("a"), handle(1)).await.unwrap();
    for n in 0..20 {
        etcd.must(&["put", "/elsewhere", &n.to_string()]);
    }
    let mut second = Typha::new();
    let mut beside = command(&etcd, &second.dir);
    beside.args(["--peers", &first.addr().to_string()]);
    second.run(beside).await;
    let mut client = second.client(&[HANDLES]);
    client.until("in sync", |c| c.in_syncs == 1).await;
    second.signal(Signal::SIGTERM);
    assert!(second.ended().await.success());
    client.until("in sync at the first", |c| c.in_syncs == 2).await;
    let refused = |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
    assert!(!client.statuses.iter().any(refused), "{:?}", client.statuses);

    // A typha that dies without a word: the client knows the others from its welcome.
    let mut third = Typha::new();
    let mut beside = command(&etcd, &third.dir);
    beside.args(["--peers", &first.addr().to_string()]);
    third.run(beside).await;
    let mut client = Client::start(ServiceAddr::clone(&third.addr()), &[HANDLES], None);
    client.until("in sync", |c| c.in_syncs == 1).await;
    third.kill();
    client.until("in sync at the first", |c| c.in_syncs == 2).await;
    assert_eq!(client.deletes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_follow_when_a_typha_stops_and_when_it_dies() {
    let mut three = Three::start().await;
    let store = three.typhas[0].store();
    let key = handle_key("a");
    store.create(&key, handle(1)).await.unwrap();
    // It stops while it is asked all the time: no answer is missing.
    let stop = tokio_util::sync::CancellationToken::new();
    let asking = tokio::spawn({
        let (store, key, stop) = (store.clone(), key.clone(), stop.clone());
        async move {
            while !stop.is_cancelled() {
                assert_eq!(store.get(&key).await.unwrap().value, handle(1));
            }
        }
    });
    three.typhas[0].signal(Signal::SIGTERM);
    assert!(three.typhas[0].ended().await.success());
    store.get(&key).await.unwrap();
    stop.cancel();
    asking.await.unwrap();
    let mut n = 2;
    store.put(&key, handle(n)).await.unwrap();
    three.launch(0).await;
    // Whichever it is asked of now dies; one after the other does.
    for dead in [1, 2, 0, 1] {
        three.typhas[dead].kill();
        assert_eq!(store.get(&key).await.unwrap().value, handle(n));
        n += 1;
        store.put(&key, handle(n)).await.unwrap();
        three.launch(dead).await;
    }
}
