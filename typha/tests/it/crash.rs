//! kill -9 during writes: what was acknowledged is there, and revisions never run backwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tortie_typha_client::{Store, StoreError};

use crate::process::{DEADLINE, HANDLES, Typha, handle};

/// What one writer was told: per key the number it wrote last and the revision it was given; `None`: deleted.
type Acknowledged = BTreeMap<String, (Option<u64>, u64)>;

/// Writes, replaces and deletes keys of its own until typha is gone.
async fn write_until_gone(store: Store, writer: usize, round: u64, told: Arc<Mutex<Acknowledged>>) {
    for n in 0u64.. {
        let key = format!("{HANDLES}w{writer}-{}", n % 20);
        let number = round * 1_000_000 + n + 1;
        // Every seventh write deletes, where there is something.
        let deletes = n % 7 == 6;
        let written = if deletes {
            store.delete(&key, None).await
        } else {
            store.put(&key, handle(number)).await
        };
        match written {
            Ok(written) => {
                let held = (!deletes).then_some(number);
                told.lock().unwrap().insert(key, (held, written.revision));
            }
            Err(StoreError::NotFound(_)) if deletes => {}
            Err(StoreError::Unavailable(_)) => {
                // Unacknowledged: this key may hold either; it says nothing about the promise.
                told.lock().unwrap().remove(&key);
                return;
            }
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_acknowledged() {
    let mut typha = Typha::start().await;
    let told: Arc<Mutex<Acknowledged>> = Arc::default();
    let mut last_revision = 0;
    let mut writes = 0;
    for round in 0..8u64 {
        let start = |w| tokio::spawn(write_until_gone(typha.store(), w, round, Arc::clone(&told)));
        let writers: Vec<_> = (0..4).map(start).collect();
        // Moments spread over writes, commits and syncs.
        sleep(Duration::from_millis(40 + (round * 37) % 90)).await;
        // On a busy machine nothing may have been written yet.
        let deadline = Instant::now() + DEADLINE;
        while told
            .lock()
            .unwrap()
            .values()
            .all(|(_, revision)| *revision <= last_revision)
        {
            assert!(Instant::now() < deadline, "no progress in round {round}");
            sleep(Duration::from_millis(5)).await;
        }
        typha.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        typha.restart().await;

        let listing = typha.store().list(HANDLES).await.unwrap();
        let told = told.lock().unwrap().clone();
        let newest = told.values().map(|(_, revision)| *revision).max().unwrap();
        assert!(
            listing.revision >= newest,
            "revision {} after {newest} was acknowledged",
            listing.revision
        );
        assert!(listing.revision > last_revision, "no progress in round {round}");
        writes += listing.revision - last_revision;
        last_revision = listing.revision;
        let held: BTreeMap<_, _> = listing.entries.into_iter().map(|e| (e.key.clone(), e)).collect();
        for (key, (number, revision)) in &told {
            let entry = held.get(key);
            match number {
                None => assert!(entry.is_none(), "{key} was deleted at {revision}"),
                Some(number) => {
                    let entry = entry.unwrap_or_else(|| panic!("{key} was written at {revision} and is lost"));
                    assert_eq!(
                        (entry.revision, &entry.value[..]),
                        (*revision, &handle(*number)[..]),
                        "{key}"
                    );
                }
            }
        }
    }
    println!("{writes} writes survived 8 kills");
}
