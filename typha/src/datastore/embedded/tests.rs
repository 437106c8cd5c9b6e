use super::*;
use crate::datastore::{Guard, Operation};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn put(key: &str, value: &str) -> Transaction {
    let operation = Operation::Put {
        key: key.into(),
        value: value.to_owned().into(),
        ttl: None,
    };
    Transaction {
        guards: vec![],
        operations: vec![operation],
        dry_run: false,
    }
}

fn delete(key: &str) -> Transaction {
    Transaction {
        guards: vec![],
        operations: vec![Operation::Delete { key: key.into() }],
        dry_run: false,
    }
}

fn guarded(transaction: Transaction, guard: Guard) -> Transaction {
    Transaction {
        guards: vec![guard],
        ..transaction
    }
}

/// One transaction of all their operations and guards.
fn together(transactions: Vec<Transaction>) -> Transaction {
    let mut all = Transaction {
        guards: vec![],
        operations: vec![],
        dry_run: false,
    };
    for transaction in transactions {
        all.guards.extend(transaction.guards);
        all.operations.extend(transaction.operations);
    }
    all
}

fn only(committed: Result<Vec<Committed>, CommitError>) -> Committed {
    let [committed] = committed.unwrap().try_into().unwrap();
    committed
}

/// Small: a test should need pages that are not there.
const CACHE: usize = 1 << 20;

async fn open(path: &Path) -> Embedded {
    // The writer task of a dropped datastore closes the file a moment later.
    for _ in 0..500 {
        match Embedded::open(path, CACHE) {
            Err(OpenError::Locked { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            other => return other.unwrap(),
        }
    }
    panic!("still locked after 5 s");
}

#[tokio::test]
async fn revisions_and_guards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    let first = only(store.commit(put("/a", "1")).await);
    assert_eq!(first.revision, 1);
    assert_eq!(first.previous, None);
    let second = only(store.commit(guarded(put("/a", "2"), Guard::At("/a".into(), 1))).await);
    let entry = second.entry.unwrap();
    assert_eq!((entry.revision, entry.create_revision), (2, 1));
    assert_eq!(second.previous.unwrap().value, "1");

    let stale = Guard::At("/a".into(), 1);
    assert_eq!(
        store.commit(guarded(put("/a", "3"), stale.clone())).await,
        Err(CommitError::Guard(stale))
    );
    let absent = Guard::Absent("/a".into());
    assert_eq!(
        store.commit(guarded(put("/a", "3"), absent.clone())).await,
        Err(CommitError::Guard(absent))
    );
    assert_eq!(store.commit(delete("/none")).await, Err(CommitError::Missing));
    let dry = store.commit(Transaction {
        dry_run: true,
        ..delete("/a")
    });
    let dry = only(dry.await);
    assert_eq!((dry.revision, dry.previous.is_some()), (2, true));
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, "2");
}

#[tokio::test]
async fn the_operations_of_a_transaction_are_done_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).await;
    store.commit(put("/a", "1")).await.unwrap();
    let moved = Guard::At("/a".into(), 9);
    let refused = together(vec![put("/b", "1"), guarded(put("/a", "2"), moved.clone())]);
    assert_eq!(store.commit(refused).await, Err(CommitError::Guard(moved)));
    let missing = together(vec![put("/b", "1"), delete("/none")]);
    assert_eq!(store.commit(missing).await, Err(CommitError::Missing));
    let listing = store.list("/").await.unwrap();
    assert_eq!((listing.entries.len(), listing.revision), (1, 1), "nothing was written");

    let both = together(vec![guarded(put("/b", "1"), Guard::Absent("/b".into())), delete("/a")]);
    let dry = Transaction {
        dry_run: true,
        ..both.clone()
    };
    assert_eq!(store.commit(dry).await.unwrap().len(), 2);
    let done = store.commit(both).await.unwrap();
    assert_eq!(done.iter().map(|c| c.revision).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((done[0].previous.is_some(), done[1].previous.is_some()), (false, true));
    let events = store.changes(1, 10).await.unwrap().events;
    let seen: Vec<_> = events.iter().map(|e| (e.key.as_str(), e.value.is_some())).collect();
    assert_eq!(seen, [("/b", true), ("/a", false)]);
}

#[tokio::test]
async fn a_prefix_can_be_guarded_and_the_history_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    store.commit(put("/a", "1")).await.unwrap();
    store.commit(put("/a", "2")).await.unwrap();
    let unchanged = |since| Guard::Unchanged {
        prefix: "/p/".into(),
        since,
    };
    store.commit(guarded(put("/p/x", "1"), unchanged(2))).await.unwrap();
    assert!(
        store.commit(guarded(put("/b", "1"), unchanged(2))).await.is_err(),
        "/p/x is newer"
    );
    store.commit(delete("/p/x")).await.unwrap();
    assert!(
        store.commit(guarded(put("/b", "1"), unchanged(3))).await.is_err(),
        "a deletion is a change"
    );
    store.commit(guarded(put("/b", "1"), unchanged(4))).await.unwrap();

    let old = store.history().await.unwrap();
    assert!(old.succeeds.is_empty());
    let history = store.begin_history(vec!["x".into()]).await.unwrap();
    assert_ne!(history.id, old.id);
    assert_eq!(history.succeeds, [old.id, "x".into()]);
    drop(store);
    let store = open(&path).await;
    assert_eq!(store.history().await.unwrap(), history);
    let events = store.changes(1, 3).await.unwrap().events;
    let seen: Vec<_> = events
        .iter()
        .map(|e| (e.revision, e.key.as_str(), e.value.is_some()))
        .collect();
    assert_eq!(seen, [(2, "/a", true), (3, "/p/x", true), (4, "/p/x", false)]);
    let listing = store.list("/").await.unwrap();
    assert_eq!(listing.revision, 5);
    assert_eq!(
        listing.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(),
        ["/a", "/b"]
    );
    assert_eq!(store.list("/p/").await.unwrap().entries, []);
}

#[tokio::test]
async fn history_is_bounded_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).await;
    let database = store.slot.current().unwrap();
    for _ in 0..11 {
        let group: Vec<_> = (0..1000).map(|n| put("/a", &n.to_string())).collect();
        commit::commit(&database, &group, 0).unwrap();
    }
    assert_eq!(
        file::changes(&database, 5, 10).unwrap(),
        Err(WatchError::Compacted { oldest: 1000 })
    );
    assert_eq!(file::changes(&database, 1000, 10).unwrap().unwrap()[0].revision, 1001);
    let past = store.past(11_000, 20_000).await.unwrap();
    assert_eq!((past.oldest, past.events.len()), (1000, 10_000));
    let too_old = Guard::Unchanged {
        prefix: "/p/".into(),
        since: 10,
    };
    assert!(
        store.commit(guarded(put("/a", ""), too_old)).await.is_err(),
        "compacted: cannot tell"
    );
}

#[tokio::test]
async fn a_change_is_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).await;
    let waiting = tokio::spawn(store.changes(0, 10));
    store.commit(put("/a", "1")).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().events[0].key, "/a");
}

#[tokio::test]
async fn writes_that_come_together_are_each_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir.path().join("store")).await);
    let create = |n: usize| {
        let store = Arc::clone(&store);
        let key = format!("/k{}", n % 50);
        tokio::spawn(async move { store.commit(guarded(put(&key, "1"), Guard::Absent(key.clone()))).await })
    };
    let tasks: Vec<_> = (0..200).map(create).collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.extend(task.await.unwrap().ok().map(|c| c[0].revision));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_typha_is_refused_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    let second = Embedded::open(&path, CACHE).unwrap_err().to_string();
    assert!(second.contains("store: another process has it open"), "{second}");
    store.commit(put("/a", "1")).await.unwrap();
    drop(store);
    drop(open(&path).await);
    let good = std::fs::read(&path).unwrap();

    let refused = |content: &[u8]| {
        let bad = dir.path().join("bad");
        std::fs::write(&bad, content).unwrap();
        let e = Embedded::open(&bad, CACHE).unwrap_err().to_string();
        assert!(e.contains("bad: damaged or not a datastore"), "{e}");
        std::fs::read(&bad).unwrap()
    };
    for content in [&b"hello"[..], &[0; 8192], b""] {
        assert!(refused(content) == content, "a file that is not ours is not touched");
    }
    for octets in [100, 4096, good.len() / 2, good.len() - 4096] {
        // redb notes in the header that it tried to repair; no octet is dropped or added.
        assert_eq!(refused(&good[..octets]).len(), octets);
    }
    let e = Embedded::open(dir.path(), CACHE).unwrap_err().to_string();
    assert!(e.contains(&dir.path().display().to_string()), "{e}");
    let e = Embedded::open(&dir.path().join("none/store"), CACHE)
        .unwrap_err()
        .to_string();
    assert!(e.contains("none/store") && e.contains("No such file"), "{e}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no temporary files are left"
    );
}

/// A document that lives so many seconds after it is written.
fn put_for(key: &str, value: &str, seconds: u64) -> Transaction {
    let operation = Operation::Put {
        key: key.into(),
        value: value.to_owned().into(),
        ttl: Some(Duration::from_secs(seconds)),
    };
    Transaction {
        operations: vec![operation],
        ..put(key, value)
    }
}

/// Milliseconds since the epoch.
const BEGIN: u64 = 1_700_000_000_000;

#[test]
fn what_is_not_written_again_expires_with_a_revision_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let at = |database: &Database, seconds: u64, transactions: &[Transaction]| {
        let group = commit::commit(database, transactions, BEGIN + 1000 * seconds).unwrap();
        assert!(group.outcomes.iter().all(Result::is_ok));
        assert_eq!(file::next_expiry(database).unwrap(), group.next, "also after a restart");
        (group.revision, group.next.map(|next| (next - BEGIN) / 1000))
    };
    let keys = |database: &Database| -> Vec<String> {
        let listing = file::list(database, "/").unwrap();
        listing.entries.into_iter().map(|e| e.key).collect()
    };
    {
        let database = file::open_or_create(&path, CACHE).unwrap();
        assert_eq!(file::next_expiry(&database).unwrap(), None);
        let all = [
            put_for("/a", "1", 90),
            put_for("/b", "1", 60),
            put_for("/c", "1", 60),
            put("/d", "1"),
        ];
        assert_eq!(at(&database, 0, &all), (4, Some(60)));
        // Written again: it lives on; without a time: it stays; a dry run changes nothing.
        let dry_run = Transaction {
            dry_run: true,
            ..put("/a", "2")
        };
        assert_eq!(
            at(&database, 30, &[put_for("/b", "2", 90), put("/c", "2"), dry_run]),
            (6, Some(90))
        );
        assert_eq!(at(&database, 89, &[]), (6, Some(90)), "nothing is due");
    }
    let database = file::open(&path, CACHE).unwrap();
    assert_eq!(at(&database, 90, &[]), (7, Some(120)));
    assert_eq!(keys(&database), ["/b", "/c", "/d"]);
    let gone = Event {
        key: "/a".into(),
        revision: 7,
        value: None,
    };
    assert_eq!(file::changes(&database, 6, 10).unwrap().unwrap(), [gone]);
    // What is due is gone before the writes that come with it; what is deleted does not expire once more.
    assert_eq!(at(&database, 150, &[put_for("/b", "3", 60)]), (9, Some(210)));
    assert_eq!(file::get(&database, "/b").unwrap().unwrap().create_revision, 9);
    assert_eq!(at(&database, 160, &[delete("/b")]), (10, None));
    assert_eq!(at(&database, 1000, &[]), (10, None));
    assert_eq!(keys(&database), ["/c", "/d"]);
}

#[tokio::test]
async fn what_has_expired_is_removed_while_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).await;
    let written = only(store.commit(put_for("/a", "1", 1)).await);
    let changes = tokio::time::timeout(Duration::from_secs(30), store.changes(written.revision, 10));
    let gone = changes.await.unwrap().unwrap();
    assert_eq!((gone.events.len(), gone.events[0].value.clone()), (1, None));
    assert_eq!(store.get("/a").await.unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Groups of writes, with the file closed and opened in between, do what a map with counters does.
    #[test]
    fn behaves_like_a_map(groups in proptest::collection::vec(
        proptest::collection::vec((0u8..5, 0u8..4, any::<bool>()), 1..6), 1..12,
    )) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut model: BTreeMap<String, (String, u64, u64)> = BTreeMap::new();
        let mut revision = 0;
        for (round, group) in groups.iter().enumerate() {
            let database = file::open_or_create(&path, CACHE).unwrap();
            let transactions: Vec<_> = group.iter().map(|(key, guard, deletes)| {
                let key = format!("/{key}");
                let base = if *deletes { delete(&key) } else { put(&key, &format!("{round}")) };
                match guard {
                    0 => guarded(base, Guard::Absent(key)),
                    1 => guarded(base, Guard::At(key, revision)),
                    _ => base,
                }
            }).collect();
            let group = commit::commit(&database, &transactions, 0).unwrap();
            for (t, outcome) in transactions.iter().zip(group.outcomes) {
                let operation = &t.operations[0];
                let key = operation.key();
                let held = model.get(key).cloned();
                let allowed = t.guards.iter().all(|g| match g {
                    Guard::Absent(_) => held.is_none(),
                    Guard::At(_, r) => held.as_ref().is_some_and(|h| h.1 == *r),
                    Guard::Unchanged { .. } => true,
                });
                let expected = allowed && (matches!(operation, Operation::Put { .. }) || held.is_some());
                prop_assert_eq!(outcome.is_ok(), expected);
                if expected {
                    revision += 1;
                    match operation {
                        Operation::Put { value, .. } => {
                            let created = held.map_or(revision, |h| h.2);
                            let text = String::from_utf8(value.to_vec()).unwrap();
                            model.insert(key.to_owned(), (text, revision, created));
                        }
                        Operation::Delete { .. } => { model.remove(key); }
                    }
                }
            }
            prop_assert_eq!(group.revision, revision);
            let listing = file::list(&database, "/").unwrap();
            let listed: BTreeMap<_, _> = listing.entries.into_iter().map(|e| {
                (e.key, (String::from_utf8(e.value.to_vec()).unwrap(), e.revision, e.create_revision))
            }).collect();
            prop_assert_eq!(&listed, &model);
        }
    }
}
