//! A cut between typha and etcd, each in a network namespace of its own: connections stay open, and nothing passes.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tortie_typha_client::StoreError;

use crate::etcd::{command, handle_key, write_again};
use crate::etcd_server::{Etcd, Place};
use crate::process::{DEADLINE, HANDLES, Typha, handle};

/// Where etcd is reached.
const ETCD: &str = "10.99.0.1";

/// Two namespaces and a link between them, removed when dropped.
struct Net {
    etcd: String,
    typha: String,
}

/// How the link is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// It is taken down.
    Link,
    /// etcd's host drops what comes.
    Filter,
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.expect("ip is installed (make deps)").success(), "ip {args}");
}

impl Net {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Net {
            etcd: format!("tt-e{unique}"),
            typha: format!("tt-t{unique}"),
        };
        let (etcd, typha) = (&net.etcd, &net.typha);
        for ns in [etcd, typha] {
            ip(&format!("netns add {ns}"));
            ip(&format!("-n {ns} link set lo up"));
        }
        ip(&format!("-n {etcd} link add v0 type veth peer name v0 netns {typha}"));
        for (ns, addr) in [(etcd, ETCD), (typha, "10.99.0.2")] {
            ip(&format!("-n {ns} addr add {addr}/24 dev v0"));
            ip(&format!("-n {ns} link set v0 up"));
        }
        net
    }

    fn place(&self) -> Place {
        Place {
            namespace: self.etcd.clone(),
            addr: ETCD.to_owned(),
        }
    }

    fn nft(&self, rule: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.etcd, "nft", rule]);
        let status = command.status().unwrap();
        assert!(status.success(), "nft is installed (make deps): {rule}");
    }

    fn cut(&self, cut: Cut) {
        match cut {
            Cut::Link => ip(&format!("-n {} link set v0 down", self.etcd)),
            Cut::Filter => {
                self.nft("add table inet tt");
                self.nft("add chain inet tt in { type filter hook input priority 0; }");
                self.nft("add rule inet tt in iifname v0 drop");
            }
        }
    }

    fn heal(&self, cut: Cut) {
        match cut {
            Cut::Link => ip(&format!("-n {} link set v0 up", self.etcd)),
            Cut::Filter => self.nft("delete table inet tt"),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for ns in [&self.etcd, &self.typha] {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

/// The same command in a namespace.
fn inside(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]).arg(command.get_program());
    inside.args(command.get_args());
    for (name, value) in command.get_envs() {
        inside.env(name, value.unwrap_or_default());
    }
    inside
}

async fn cut_off(cut: Cut, compacts: bool) {
    let net = Net::new();
    let etcd = Etcd::start_at(net.place()).await;
    let mut typha = Typha::new();
    typha.run(inside(&net.typha, &command(&etcd, &typha.dir))).await;
    let store = typha.store().with_timeout(DEADLINE);
    for n in 0..5 {
        store.create(&handle_key(&format!("h{n}")), handle(n)).await.unwrap();
    }
    let mut client = typha.client(&[HANDLES]);
    client.until("all", |c| c.map.len() == 5).await;

    net.cut(cut);
    // Refused in time, with who does not answer and why: were it the client's own patience, it would not say so.
    let refused = store.put(&handle_key("h0"), handle(7)).await.unwrap_err();
    let is_said = |e: &StoreError| {
        matches!(e, StoreError::Unavailable(said)
            if said.split_once("the datastore does not answer: etcd").is_some_and(|(_, why)| why.len() > 10))
    };
    assert!(is_said(&refused), "{refused:?}");
    let deadline = Instant::now() + DEADLINE;
    while store.status().await.unwrap().stale.is_none() {
        assert!(Instant::now() < deadline, "typha believes that etcd is there");
        sleep(Duration::from_millis(50)).await;
    }
    let refused = store.put(&handle_key("h0"), handle(7)).await.unwrap_err();
    assert!(is_said(&refused), "{refused:?}");
    assert_eq!(store.list(HANDLES).await.unwrap().entries.len(), 5);
    assert_eq!(store.get(&handle_key("h3")).await.unwrap().value, handle(3));
    let mut newcomer = typha.client(&[HANDLES]);
    newcomer
        .until("served from memory", |c| c.in_syncs == 1 && c.map.len() == 5)
        .await;
    // On the other side life goes on, and its past may be forgotten.
    etcd.must(&["del", &handle_key("h1")]);
    etcd.must(&["put", &handle_key("new"), "{}"]);
    if compacts {
        let (_, now) = etcd.stored(&handle_key("new")).unwrap();
        etcd.must(&["compact", &now.to_string()]);
    }
    assert_eq!((client.deletes, client.map.len()), (0, 5));

    net.heal(cut);
    for client in [&mut client, &mut newcomer] {
        let is_told = |c: &crate::process::Client| c.map.contains_key(&handle_key("new")) && c.deletes == 1;
        client.until("what happened since", is_told).await;
        assert!(!client.map.contains_key(&handle_key("h1")), "it alone was deleted");
    }
    write_again(&store, &handle_key("h2"), "the datastore does not answer").await;
    client.until_equal(&store, HANDLES).await;
    newcomer.until_equal(&store, HANDLES).await;
    assert_eq!((client.deletes, newcomer.deletes), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_down_moves_nobody_and_is_said() {
    cut_off(Cut::Link, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_dropped_during_a_compaction_delete_nothing() {
    cut_off(Cut::Filter, true).await;
}
