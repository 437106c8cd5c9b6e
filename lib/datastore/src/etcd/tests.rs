//! etcd that answers anything: what cannot be true is refused, what is believed holds together.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::response_op::Response as Done;
use super::proto::{self, DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse, WatchResponse};
use super::transaction::{committed, compare};
use super::*;
use crate::{CommitError, Event, Guard, History, Operation, Transaction, WatchError};

const KEY: &str = "/calico/ipam/v2/config";

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn kv(key: &str, created: i64, changed: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: created,
        mod_revision: changed,
        value: b"{}".to_vec(),
    }
}

fn page(revision: i64, kvs: Vec<KeyValue>, more: bool) -> RangeResponse {
    RangeResponse {
        header: header(revision),
        kvs,
        more,
    }
}

fn change(key: &str, revision: i64) -> proto::Event {
    proto::Event {
        r#type: 0,
        kv: Some(kv(key, 1, revision)),
    }
}

fn watch(revision: i64, events: Vec<proto::Event>) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        events,
        ..WatchResponse::default()
    }
}

#[test]
fn guards_are_etcds_comparisons() {
    let absent = compare(&Guard::Absent("/calico/a".into()));
    assert_eq!(
        (absent.target(), absent.result()),
        (CompareTarget::Version, CompareResult::Equal)
    );
    assert_eq!(absent.target_union, Some(TargetUnion::Version(0)));
    let at = compare(&Guard::At("/calico/a".into(), 7));
    assert_eq!(at.target_union, Some(TargetUnion::ModRevision(7)));
    assert!(at.range_end.is_empty());
    let unchanged = compare(&Guard::Unchanged {
        prefix: "/calico/a/".into(),
        since: 7,
    });
    assert_eq!(
        (unchanged.target(), unchanged.result()),
        (CompareTarget::Mod, CompareResult::Less)
    );
    assert_eq!(unchanged.target_union, Some(TargetUnion::ModRevision(8)));
    assert_eq!(unchanged.range_end, b"/calico/a0", "the octet after the slash");
}

#[test]
fn only_calicos_keys_are_seen() {
    assert!(visible(KEY));
    assert!(visible("/calico/tortie/lease/ipam-gc"), "written by clients");
    for hidden in ["", "/registry/secrets/x", "/calicox", HISTORY, MARK] {
        assert!(!visible(hidden), "{hidden}");
    }
    assert_eq!(signed(u64::MAX), i64::MAX);
}

#[test]
fn a_list_is_read_to_its_end_or_not_at_all() {
    let mut pages = Pages::new(ROOT);
    assert_eq!(pages.question().unwrap().revision, 0, "now");
    let first = page(7, vec![kv("/calico/a", 1, 2), kv("/calico/b", 3, 3)], true);
    assert_eq!(pages.take(first), Ok(false));
    let question = pages.question().unwrap();
    assert_eq!((question.revision, question.key), (7, b"/calico/b\0".to_vec()));
    // etcd has moved on; what was asked for is revision 7.
    let last = page(9, vec![kv("/calico/c", 4, 4), kv(HISTORY, 5, 5)], false);
    assert_eq!((pages.take(last), pages.question()), (Ok(true), None));
    let listing = pages.listing().unwrap();
    let keys: Vec<&str> = listing.entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        (listing.revision, keys),
        (7, vec!["/calico/a", "/calico/b", "/calico/c"])
    );
}

#[test]
fn a_list_that_cannot_be_true_is_refused_with_a_reason() {
    let lost = RangeResponse {
        header: None,
        ..page(7, vec![], false)
    };
    let late = AnswerError::Revisions {
        key: "/calico/b".into(),
        created: 1,
        changed: 8,
        at: 7,
    };
    let order = |key: &str| AnswerError::Order { key: key.into() };
    let cases = [
        (lost, AnswerError::NoRevision),
        (page(0, vec![], false), AnswerError::NoRevision),
        (page(-1, vec![], false), AnswerError::NoRevision),
        (page(6, vec![], false), AnswerError::Backwards { held: 7, found: 6 }),
        (page(7, vec![], true), AnswerError::NoneOfMore),
        (page(7, vec![kv("/calico/a", 1, 1)], true), order("/calico/a")),
        (
            page(7, vec![kv("/calico/c", 1, 1), kv("/calico/b", 1, 1)], false),
            order("/calico/b"),
        ),
        (
            page(7, vec![kv("/registry/secrets", 1, 1)], false),
            AnswerError::NotAsked {
                key: "/registry/secrets".into(),
            },
        ),
        (page(7, vec![kv("/calico/b", 1, 8)], false), late),
    ];
    for (answer, why) in cases {
        let mut pages = Pages::new(ROOT);
        assert_eq!(pages.take(page(7, vec![kv("/calico/a", 1, 1)], true)), Ok(false));
        assert_eq!(pages.take(answer), Err(why));
    }
    for (created, changed) in [(0, 1), (2, 1), (-1, 1), (1, -1), (0, 0)] {
        let refused = Pages::new(ROOT).take(page(7, vec![kv(KEY, created, changed)], false));
        assert!(matches!(refused, Err(AnswerError::Revisions { .. })), "{refused:?}");
    }
    assert_eq!(Pages::new(ROOT).listing(), Err(AnswerError::NoRevision));
}

#[test]
fn a_list_of_what_is_not_calicos_gives_the_revision_only() {
    let mut pages = Pages::new("/registry/");
    assert_eq!(pages.question().unwrap().limit, 1);
    assert_eq!(pages.take(page(7, vec![kv(KEY, 1, 1)], true)), Ok(true));
    let listing = pages.listing().unwrap();
    assert_eq!((listing.revision, listing.entries.len()), (7, 0));
}

#[test]
fn any_keys_under_prefixes_are_read_at_one_revision_or_refused() {
    let mut raw = RawPages::new(["/app", "/b/"]);
    let keys = |kvs: Vec<KeyValue>| kvs.into_iter().map(|kv| kv.key).collect::<Vec<_>>();
    let asked = |raw: &RawPages| raw.question().map(|q| (q.key, q.range_end, q.revision));
    assert_eq!(asked(&raw), Some((b"/app".to_vec(), b"/apq".to_vec(), 0)));
    let found = raw.take(page(7, vec![kv("/app/x", 1, 2)], true)).map(keys);
    assert_eq!(found, Ok(vec![b"/app/x".to_vec()]));
    assert_eq!(asked(&raw), Some((b"/app/x\0".to_vec(), b"/apq".to_vec(), 7)));
    for (odd, why) in [
        (page(6, vec![], false), AnswerError::Backwards { held: 7, found: 6 }),
        (page(7, vec![], true), AnswerError::NoneOfMore),
        (page(0, vec![], false), AnswerError::NoRevision),
        (
            page(7, vec![kv("/b/x", 1, 2)], false),
            AnswerError::NotAsked { key: "/b/x".into() },
        ),
        (
            page(7, vec![kv("/app/x", 1, 2)], false),
            AnswerError::Order { key: "/app/x".into() },
        ),
    ] {
        assert_eq!(raw.clone().take(odd), Err(why));
    }
    assert!(
        raw.clone().take(page(9, vec![kv("/app/y", 1, 8)], false)).is_err(),
        "later than the list"
    );
    raw.take(page(9, vec![], false)).unwrap();
    assert_eq!(
        asked(&raw),
        Some((b"/b/".to_vec(), b"/b0".to_vec(), 7)),
        "of the same revision"
    );
    raw.take(page(9, vec![kv("/b/z", 3, 3)], false)).unwrap();
    assert_eq!((raw.question(), raw.revision()), (None, Some(7)));
    assert_eq!(
        raw.take(page(9, vec![kv("/b/z", 3, 3)], false)),
        Ok(vec![]),
        "nothing was asked"
    );
}

#[test]
fn one_document_is_the_one_that_was_asked_for() {
    assert_eq!(one(KEY, page(7, vec![], false)), Ok(None));
    let found = one(KEY, page(7, vec![kv(KEY, 1, 2)], false)).unwrap().unwrap();
    assert_eq!((found.key.as_str(), found.revision, found.create_revision), (KEY, 2, 1));
    let another = one(KEY, page(7, vec![kv("/calico/a", 1, 2)], false));
    assert!(matches!(another, Err(AnswerError::NotAsked { .. })));
    let twice = one(KEY, page(7, vec![kv(KEY, 1, 2), kv(KEY, 1, 2)], false));
    assert!(matches!(twice, Err(AnswerError::Order { .. })));
}

#[test]
fn changes_are_given_in_order_and_together_when_of_one_revision() {
    let mut feed = Feed::after(5);
    assert_eq!(feed.question().start_revision, 6);
    feed.begin(watch(5, vec![])).unwrap();
    assert!(feed.is_idle());
    let deleted = proto::Event {
        r#type: 1,
        kv: Some(KeyValue {
            key: KEY.into(),
            mod_revision: 7,
            ..KeyValue::default()
        }),
    };
    feed.take(watch(7, vec![change("/calico/a", 6), change(KEY, 7), deleted]))
        .unwrap();
    // Of keys that are nobody's concern the revision counts.
    feed.take(watch(9, vec![change("/calico/\u{0}", 8), change(MARK, 9)]))
        .unwrap();
    let first = feed.give(2);
    assert_eq!((first.events.len(), first.revision), (3, 7), "7 is not torn apart");
    let gone = Event {
        key: KEY.into(),
        revision: 7,
        value: None,
    };
    assert_eq!(first.events.last(), Some(&gone));
    let second = feed.give(2);
    assert_eq!((second.events.len(), second.revision), (1, 9));
    assert!(feed.is_idle());
}

#[test]
fn a_watch_that_cannot_be_true_is_ended_with_a_reason() {
    let no_key = proto::Event { r#type: 0, kv: None };
    let neither = proto::Event {
        r#type: 7,
        ..change(KEY, 8)
    };
    let headless = WatchResponse {
        header: None,
        ..watch(8, vec![change(KEY, 8)])
    };
    let cases = [
        (watch(8, vec![no_key]), "a change at 8 says no key"),
        (watch(8, vec![neither]), "a change at 8 says neither put nor delete"),
        (headless, "it does not say of which revision it is"),
        (watch(8, vec![change(KEY, 7)]), "revision 7 follows 8"),
        (watch(8, vec![change(KEY, -8)]), "revision 0 follows 8"),
        (watch(9, vec![change(KEY, 9), change(KEY, 8)]), "revision 8 follows 9"),
        (
            watch(8, vec![change(KEY, i64::MAX)]),
            "changed at 9223372036854775807, the answer is of 8",
        ),
    ];
    for (answer, why) in cases {
        let mut feed = Feed::after(5);
        feed.take(watch(7, vec![change(KEY, 7)])).unwrap();
        let ended = WatchError::from(feed.take(answer).unwrap_err());
        assert!(ended.to_string().contains(why), "{ended} is not '{why}'");
        assert_eq!(feed.given(), 5, "what was not given is asked for again");
    }
    let compacted = WatchResponse {
        compact_revision: 6,
        canceled: true,
        ..watch(8, vec![])
    };
    assert_eq!(Feed::after(5).take(compacted), Err(Ended::Compacted { oldest: 6 }));
    let backwards = WatchError::Backwards { held: 5, found: 4 };
    assert_eq!(Feed::after(5).begin(watch(4, vec![])), Err(backwards));
    assert!(
        Feed::after(5).begin(WatchResponse::default()).is_err(),
        "no claim about its past"
    );
}

#[test]
fn the_past_begins_with_the_history() {
    let mut feed = Feed::after(5);
    feed.take(watch(6, vec![change(KEY, 6)])).unwrap();
    feed.take(watch(7, vec![change(HISTORY, 7)])).unwrap();
    feed.take(watch(9, vec![change(KEY, 8), change(KEY, 9)])).unwrap();
    let past = feed.past(8);
    let revisions: Vec<u64> = past.events.iter().map(|e| e.revision).collect();
    assert_eq!((past.oldest, revisions), (7, vec![8]));
}

#[test]
fn a_history_is_read_as_it_was_written_or_said_to_be_damaged() {
    let history = History {
        id: "a".into(),
        succeeds: vec!["b".into()],
    };
    let with = |value: Vec<u8>| {
        let kv = KeyValue {
            value,
            ..kv(HISTORY, 2, 3)
        };
        history::read(&page(7, vec![kv], false))
    };
    assert_eq!(with(history::document(&history)), Ok(Some((history, 3))));
    assert_eq!(history::read(&page(7, vec![], false)), Ok(None));
    for damaged in ["", "{}", "[]", r#"{"id": 7}"#, r#"{"id": ""}"#, r#"{"id": "a""#] {
        assert_eq!(with(damaged.into()), Err(AnswerError::History), "{damaged}");
    }
    let another = history::read(&page(7, vec![kv(KEY, 1, 1)], false));
    assert!(matches!(another, Err(AnswerError::NotAsked { .. })));
}

fn put(key: &str) -> Operation {
    Operation::Put {
        key: key.into(),
        value: Bytes::from_static(b"{}"),
        ttl: None,
    }
}

fn write(operation: Operation, dry_run: bool) -> Transaction {
    Transaction {
        guards: vec![],
        operations: vec![operation],
        dry_run,
    }
}

fn done(response: Done) -> ResponseOp {
    ResponseOp {
        response: Some(response),
    }
}

fn wrote(revision: i64, responses: Vec<ResponseOp>) -> TxnResponse {
    TxnResponse {
        header: header(revision),
        succeeded: true,
        responses,
    }
}

#[test]
fn the_answer_to_a_write_says_what_was_done_or_nobody_knows() {
    let was = |kv| done(Done::ResponsePut(PutResponse { prev_kv: kv }));
    let written = committed(&write(put(KEY), false), wrote(7, vec![was(Some(kv(KEY, 2, 3)))])).unwrap();
    let entry = written[0].entry.clone().unwrap();
    assert_eq!((entry.revision, entry.create_revision, written[0].revision), (7, 2, 7));
    let looked = done(Done::ResponseRange(page(7, vec![], false)));
    let dry = committed(&write(put(KEY), true), wrote(7, vec![looked.clone()])).unwrap();
    assert_eq!(dry[0].entry.as_ref().map(|e| e.revision), Some(8), "it would be");
    let delete = Operation::Delete { key: KEY.into() };
    let none = done(Done::ResponseDeleteRange(DeleteRangeResponse { prev_kvs: vec![] }));
    let missing = committed(&write(delete.clone(), false), wrote(7, vec![none.clone()]));
    assert_eq!(missing, Err(CommitError::Missing));
    let headless = TxnResponse {
        header: None,
        ..wrote(7, vec![was(None)])
    };
    let odd = [
        (put(KEY), headless),
        (put(KEY), wrote(7, vec![])),
        (put(KEY), wrote(7, vec![none])),
        (put(KEY), wrote(7, vec![looked])),
        (put(KEY), wrote(7, vec![ResponseOp { response: None }])),
        (put(KEY), wrote(7, vec![was(Some(kv("/calico/a", 2, 3)))])),
        (put(KEY), wrote(7, vec![was(Some(kv(KEY, 2, 8)))])),
        (delete, wrote(7, vec![was(None)])),
    ];
    for (operation, answer) in odd {
        let refused = committed(&write(operation, false), answer).unwrap_err();
        assert!(refused.to_string().contains("it may have been done"), "{refused}");
    }
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    let some = [
        "/calico/a",
        "/calico/b",
        "/calico/c",
        KEY,
        HISTORY,
        MARK,
        "/registry/x",
        "",
    ];
    prop_oneof![
        9 => proptest::sample::select(some.map(|k| k.as_bytes().to_vec()).to_vec()),
        1 => vec(any::<u8>(), 0..12),
    ]
}

fn revisions() -> impl Strategy<Value = i64> {
    prop_oneof![20 => 0..12_i64, 1 => any::<i64>(), 1 => Just(i64::MAX)]
}

prop_compose! {
    fn kvs()(key in keys(), create_revision in revisions(), mod_revision in revisions(), value in vec(any::<u8>(), 0..4)) -> KeyValue {
        KeyValue { key, create_revision, mod_revision, value }
    }
}

prop_compose! {
    fn heads()(revision in option::weighted(0.9, revisions())) -> Option<ResponseHeader> {
        revision.and_then(header)
    }
}

prop_compose! {
    fn answers()(header in heads(), kvs in vec(kvs(), 0..4), more in any::<bool>()) -> RangeResponse {
        RangeResponse { header, kvs, more }
    }
}

prop_compose! {
    fn watches()(
        header in heads(),
        events in vec((0..3_i32, option::weighted(0.95, kvs())), 0..4),
        canceled in proptest::bool::weighted(0.05),
        compact_revision in prop_oneof![20 => Just(0), 1 => revisions()],
    ) -> WatchResponse {
        let events = events.into_iter().map(|(kind, kv)| proto::Event { r#type: kind, kv }).collect();
        WatchResponse { header, events, canceled, compact_revision, ..WatchResponse::default() }
    }
}

/// A list that was believed: in order, of one revision.
fn check_list(prefix: &str, answers: impl IntoIterator<Item = RangeResponse>) {
    let mut pages = Pages::new(prefix);
    for answer in answers {
        match pages.take(answer) {
            Err(_) => return,
            Ok(false) => {}
            Ok(true) => break,
        }
    }
    let Ok(listing) = pages.listing() else { return };
    assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
    for e in &listing.entries {
        assert!(visible(&e.key) && e.key.starts_with(prefix));
        assert!(0 < e.create_revision && e.create_revision <= e.revision && e.revision <= listing.revision);
    }
}

/// What is given never goes back, nothing is given twice, whatever the watch says.
fn check_feed(answers: impl IntoIterator<Item = WatchResponse>) {
    let mut feed = Feed::after(2);
    let mut given = 2;
    for (n, answer) in answers.into_iter().enumerate() {
        if feed.take(answer).is_err() {
            feed = Feed::after(given);
        }
        let changes = feed.give(n % 3);
        let mut last = given;
        for event in &changes.events {
            assert!(given < event.revision && last <= event.revision && event.revision <= changes.revision);
            assert!(visible(&event.key));
            last = event.revision;
        }
        assert!(given <= changes.revision && changes.revision == feed.given() && feed.given() <= feed.seen());
        given = changes.revision;
    }
}

proptest! {
    #[test]
    fn lists_that_are_believed_hold_together(all in vec(answers(), 1..5), prefix in 0..3_usize) {
        check_list(["", ROOT, "/calico/ipam/"][prefix], all);
    }

    #[test]
    fn what_a_watch_gives_never_goes_back(all in vec(watches(), 1..12)) {
        check_feed(all);
    }

    #[test]
    fn writes_have_an_answer_for_each_operation(answer in answers(), with in option::of(kvs()), kind in 0..4, dry_run in any::<bool>()) {
        let revision = answer.header;
        let response = match kind {
            0 => done(Done::ResponseRange(answer)),
            1 => done(Done::ResponsePut(PutResponse { prev_kv: with })),
            2 => done(Done::ResponseDeleteRange(DeleteRangeResponse { prev_kvs: with.into_iter().collect() })),
            _ => ResponseOp { response: None },
        };
        for operation in [put(KEY), Operation::Delete { key: KEY.into() }] {
            let answer = TxnResponse { header: revision, succeeded: true, responses: vec![response.clone()] };
            if let Ok(all) = committed(&write(operation, dry_run), answer) {
                prop_assert_eq!(all.len(), 1);
                let before = all[0].previous.as_ref().map_or(0, |p| p.revision);
                prop_assert!(before <= all[0].revision && all[0].revision > 0);
            }
        }
    }

    #[test]
    fn octets_are_refused_or_hold_together(octets in vec(any::<u8>(), 0..200)) {
        check_list(ROOT, RangeResponse::decode(&*octets));
        check_feed(WatchResponse::decode(&*octets));
        if let Ok(answer) = RangeResponse::decode(&*octets) {
            let _ = (history::read(&answer), one(KEY, answer));
        }
        if let Ok(answer) = TxnResponse::decode(&*octets) {
            let _ = committed(&write(put(KEY), false), answer);
        }
    }
}

#[test]
fn leases_go_with_the_writes_that_have_a_time_to_live() {
    let ttl = std::time::Duration::from_secs(90);
    let mut transaction = write(put(KEY), false);
    transaction.operations.push(Operation::Put {
        key: "/calico/a".into(),
        value: Bytes::new(),
        ttl: Some(ttl),
    });
    let asked = transaction::question(&transaction, &BTreeMap::from([(ttl, 5)]));
    let leases: Vec<i64> = asked
        .success
        .into_iter()
        .map(|o| match o.request {
            Some(proto::request_op::Request::RequestPut(p)) => p.lease,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(leases, [0, 5]);
}
