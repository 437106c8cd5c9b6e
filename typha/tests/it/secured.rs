//! Three typhas on one etcd that are reached with certificates only, also by each other: balance, hand-over, and typhas that
//! are gone before they have said a word.

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tortie_kit::address::{ServiceAddrs, Target};
use tortie_proto::common::Hello;
use tortie_typha_client::{Store, SyncStatus};

use crate::certificates::Authority;
use crate::etcd::{command, handle_key};
use crate::etcd_server::{Etcd, free_port};
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle};

const CLIENTS: usize = 200;

struct Three {
    _etcd: Etcd,
    typhas: Vec<Typha>,
    addrs: Vec<String>,
    http: Vec<u16>,
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl Three {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        for (organization, name) in [("tortie:typha", "typha"), ("tortie:nodes", "n1")] {
            authority.issue(organization, name, 2090);
        }
        let mut three = Three {
            _etcd: Etcd::start(1).await,
            typhas: (0..3).map(|_| Typha::new()).collect(),
            addrs: (0..3).map(|_| format!("tcp:127.0.0.1:{}", free_port())).collect(),
            http: (0..3).map(|_| free_port()).collect(),
            authority,
            _dir: dir,
        };
        for n in 0..3 {
            let mut command = command(&three._etcd, &three.typhas[n].dir);
            command.args([
                "--listen",
                &three.addrs[n],
                "--http",
                &format!("127.0.0.1:{}", three.http[n]),
            ]);
            command.args(three.authority.options("typha"));
            let others = (0..3).filter(|other| *other != n);
            let others: Vec<&str> = others.map(|other| three.addrs[other].as_str()).collect();
            command.args(["--peers", &others.join(",")]);
            three.typhas[n].run(command).await;
        }
        three
    }

    /// These, as a node reaches them.
    fn target(&self, addrs: &str) -> Target {
        Target::new(addrs.parse::<ServiceAddrs>().unwrap(), self.authority.files("n1"))
    }

    async fn clients(&self, n: usize) -> u64 {
        Typha::metric(self.http[n], "typha_connections_active").await
    }
}

/// Waits until the clients of these typhas are all there, and none has more than so many.
async fn spread(three: &Three, typhas: &[usize], most: u64) {
    let deadline = Instant::now() + 2 * DEADLINE;
    loop {
        let mut counts = Vec::new();
        for n in typhas {
            counts.push(three.clients(*n).await);
        }
        if counts.iter().sum::<u64>() == CLIENTS as u64 && counts.iter().all(|c| *c <= most) {
            return;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_spread_and_handed_over_with_certificates_and_without_a_snapshot() {
    let mut three = Three::start().await;
    let store = three.typhas[1].store();
    store.create(&handle_key("h"), handle(1)).await.unwrap();
    let start = |_| Client::start(three.target(&three.addrs[0]), &[HANDLES], None);
    let mut clients: Vec<Client> = (0..CLIENTS).map(start).collect();
    for client in &mut clients {
        client.until("all", |c| c.map.len() == 1).await;
    }
    // The mean is 67; a fifth and 50 more is near enough.
    spread(&three, &[0, 1, 2], 131).await;
    let moved = Typha::metric(three.http[0], "typha_connections_moved_total").await;
    assert!((69..=140).contains(&moved), "{moved}");

    three.typhas[0].signal(Signal::SIGTERM);
    assert!(three.typhas[0].ended().await.success());
    spread(&three, &[1, 2], CLIENTS as u64).await;
    store.put(&handle_key("last"), handle(1)).await.unwrap();
    for client in &mut clients {
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 0);
    }
    for n in 1..3 {
        let snapshots = Typha::metric(three.http[n], "typha_snapshots_sent_total").await;
        assert_eq!(snapshots, 0, "all resumed");
    }
    let cut = |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
    assert!(!clients.iter().any(|c| c.statuses.iter().any(cut)), "none was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typha_that_is_gone_before_it_said_a_word_is_no_dead_end() {
    let mut three = Three::start().await;
    three.typhas[1]
        .store()
        .create(&handle_key("h"), handle(1))
        .await
        .unwrap();
    three.typhas[0].kill();
    let both = three.target(&three.addrs[..2].join(","));
    let store = Store::new(both.clone(), Hello::new("test", "n1", "1"));
    assert_eq!(store.get(&handle_key("h")).await.unwrap().value, handle(1));
    store.put(&handle_key("h"), handle(2)).await.unwrap();
    let mut client = Client::start(both, &[HANDLES], None);
    client
        .until("in sync with the second", |c| c.in_syncs == 1 && c.map.len() == 1)
        .await;
    // What the second named is known now.
    three.typhas[1].kill();
    assert_eq!(store.get(&handle_key("h")).await.unwrap().value, handle(2));
    client.until("in sync with the third", |c| c.in_syncs == 2).await;
    assert_eq!(client.deletes, 0);
}
