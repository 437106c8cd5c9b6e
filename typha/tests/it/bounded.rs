//! Memory is bounded: clients that never read cost a bounded amount, however much changes, and are told in the end; what
//! was there and is gone costs nothing.

use std::time::Duration;

use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_typha_client::{Store, Write};

use crate::etcd_server::free_port;
use crate::links::{command, unread};
use crate::process::{Client, HANDLES, Typha, large_handle};

/// Documents that change together: one transaction holds 1.25 MiB.
const TOGETHER: usize = 24;
const OCTETS: usize = 25_000;
/// Transactions that hold more than the log, 64 MiB.
const LOG: usize = 115;
const STUCK: usize = 4;
/// What DESIGN.md promises for each, in octets: 4 frames of 256 KiB, and as much again on its connection.
const EACH: usize = 2 << 20;
/// How a process of this size breathes by itself (the allocator keeps what it has: up to 45 MB were seen). With it the
/// four may not cost what a single copy of the changes is, 69 MB.
const SLACK: usize = 52 << 20;

/// What typha may hold of changes, and of the file, in MiB, where it is to be full soon.
const SMALL: &str = "2";
/// Documents of a round: each is created, changed and deleted, under a name that never comes again.
const ROUND: usize = 64;
/// Rounds that change 7 MB, and then 33 MB: 12,800 documents.
const FILL: usize = 40;
const THEN: usize = 200;
/// A disk that others use may take long.
const PATIENCE: Duration = Duration::from_secs(120);
/// How typha may breathe meanwhile, on a busy machine too: far less than the changes that have passed are.
const BREATH: usize = 12 << 20;

/// So many transactions of the same documents.
async fn churn(store: &Store, times: usize) {
    for _ in 0..times {
        let write = |n| Write::put(&format!("{HANDLES}h{n}"), large_handle(OCTETS));
        store.write_many((0..TOGETHER).map(write)).await.unwrap();
    }
}

/// Octets of memory that are resident.
fn resident(typha: &Typha) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", typha.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_cost_a_bounded_amount_and_are_told() {
    let mut typha = Typha::new();
    let (tcp, http) = (free_port(), free_port());
    typha.run(command(&typha, tcp, http)).await;
    let store = typha.store();
    churn(&store, 1).await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(unread(&typha).await);
    }
    // The log and what is encoded of it are full before it is measured.
    churn(&store, LOG).await;
    let before = resident(&typha);
    // 2,760 changes, 69 MB, that nobody takes: as much as the whole log again.
    churn(&store, LOG).await;
    let grown = resident(&typha).saturating_sub(before);
    assert!(grown < STUCK * EACH + SLACK, "{grown} octets more, from {before}");
    assert_eq!(Typha::metric(http, "typha_connections_active").await, STUCK as u64);
    assert_eq!(Typha::metric(http, "typha_connections_dropped_total").await, 0);
    for mut stream in stuck {
        let (mut told, mut keys) = (false, 0);
        loop {
            match stream.message().await.unwrap().unwrap().message.unwrap() {
                ServerMsg::Coalesced(_) => told = true,
                ServerMsg::SnapshotBegin(_) => keys = 0,
                ServerMsg::Batch(batch) => keys += batch.changes.len(),
                ServerMsg::InSync(_) if told => break,
                _ => {}
            }
        }
        assert_eq!(keys, TOGETHER, "the newest of each");
    }
    assert_eq!(Typha::metric(http, "typha_clients_coalesced_total").await, STUCK as u64);
}

/// Documents that come, change and go, `client` being told of each.
async fn come_and_go(store: &Store, client: &mut Client, rounds: std::ops::Range<usize>) {
    for round in rounds {
        let key = |n| format!("{HANDLES}r{round}-{n}");
        let all = |octets| (0..ROUND).map(move |n| Write::put(&key(n), large_handle(octets)));
        store.write_many(all(1000)).await.unwrap();
        store.write_many(all(1500)).await.unwrap();
        let gone = store.list(HANDLES).await.unwrap().entries;
        let gone = gone.into_iter().map(|e| Write::delete(&e.key, e.revision));
        store.write_many(gone).await.unwrap();
        let all = (round + 1) * ROUND;
        client.until("they are gone", |c| c.deletes == all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_passed_costs_nothing() {
    let mut typha = Typha::new();
    let (tcp, http) = (free_port(), free_port());
    let mut command = command(&typha, tcp, http);
    command.args(["--changes-memory", SMALL, "--cache-memory", SMALL]);
    // Each of many threads would else keep what it once needed.
    command.env("MALLOC_ARENA_MAX", "1");
    typha.run(command).await;
    let store = typha.store().with_timeout(PATIENCE);
    // One that is sent every change, so that each is encoded.
    let mut client = Client::start(typha.addr(), &[HANDLES], None);
    client.until("in sync", |c| c.in_syncs == 1).await;
    come_and_go(&store, &mut client, 0..FILL).await;
    let forgotten = Typha::metric(http, "typha_changes_forgotten_total").await;
    assert!(forgotten > 0, "the log of changes is full");
    let before = resident(&typha);
    come_and_go(&store, &mut client, FILL..FILL + THEN).await;
    let grown = resident(&typha).saturating_sub(before);
    assert!(grown < BREATH, "{grown} octets more, from {before}");
    assert!(Typha::metric(http, "typha_changes_held_octets").await <= 2 << 20);
}
