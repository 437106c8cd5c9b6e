//! An etcd that answers anything: a list is refused or holds together, changes never go back and are given once, and a
//! write has an answer for each of its operations. The first octet says what is answered; then each message is a length
//! octet and so many octets.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tortie_datastore::etcd::proto::{RangeResponse, TxnResponse, WatchResponse};
use tortie_datastore::etcd::{Feed, Pages, history, one, transaction, visible};
use tortie_datastore::{Operation, Transaction};

const KEY: &str = "/calico/ipam/v2/config";

fuzz_target!(|data: &[u8]| {
    let Some((what, data)) = data.split_first() else { return };
    match what % 4 {
        0 => list(messages(data)),
        1 => changes(messages(data)),
        2 => messages(data).for_each(write),
        _ => messages(data).for_each(|answer: RangeResponse| {
            if let Ok(Some((history, revision))) = history::read(&answer) {
                assert!(!history.id.is_empty() && revision > 0);
            }
            if let Ok(Some(entry)) = one(KEY, answer) {
                assert_eq!(entry.key, KEY);
            }
        }),
    }
});

/// Those that are messages.
fn messages<M: Message + Default>(data: &[u8]) -> impl Iterator<Item = M> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&length, after) = rest.split_first()?;
        let (octets, next) = after.split_at(after.len().min(usize::from(length)));
        rest = next;
        Some(M::decode(octets).ok())
    })
    .flatten()
}

fn list(answers: impl Iterator<Item = RangeResponse>) {
    let mut pages = Pages::new("/calico/");
    for answer in answers {
        match pages.take(answer) {
            Err(why) => return assert!(!why.to_string().is_empty()),
            Ok(true) => break,
            Ok(false) => {}
        }
    }
    let Ok(listing) = pages.listing() else { return };
    assert!(
        listing.entries.is_sorted_by(|a, b| a.key < b.key),
        "a key twice, or out of order"
    );
    for e in &listing.entries {
        assert!(visible(&e.key));
        assert!(0 < e.create_revision && e.create_revision <= e.revision && e.revision <= listing.revision);
    }
}

fn changes(answers: impl Iterator<Item = WatchResponse>) {
    let mut feed = Feed::after(2);
    let mut given = 2;
    for (n, answer) in answers.enumerate() {
        if feed.take(answer).is_err() {
            feed = Feed::after(given);
        }
        let changes = feed.give(n % 3);
        assert!(changes.events.is_sorted_by_key(|e| e.revision));
        for e in &changes.events {
            assert!(visible(&e.key) && given < e.revision && e.revision <= changes.revision);
        }
        assert!(given <= changes.revision && changes.revision == feed.given() && feed.given() <= feed.seen());
        given = changes.revision;
    }
    let past = feed.past(given);
    assert!(
        past.events
            .iter()
            .all(|e| past.oldest < e.revision && e.revision <= given)
    );
}

fn write(answer: TxnResponse) {
    for dry_run in [false, true] {
        let value = Bytes::from_static(b"{}");
        let put = Operation::Put {
            key: KEY.to_owned(),
            value,
            ttl: None,
        };
        let delete = Operation::Delete { key: KEY.to_owned() };
        let operations = vec![put, delete];
        let transaction = Transaction {
            guards: Vec::new(),
            operations,
            dry_run,
        };
        if let Ok(all) = transaction::committed(&transaction, answer.clone()) {
            assert_eq!(all.len(), 2);
            for previous in all.iter().filter_map(|done| done.previous.as_ref()) {
                assert!(previous.key == KEY && previous.revision <= all[0].revision);
            }
        }
    }
}
