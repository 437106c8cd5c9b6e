use super::*;
use tortie_proto::sync::{InSync, Ping, SnapshotBegin, Welcome};

fn server(message: ServerMsg) -> ServerMessage {
    ServerMessage { message: Some(message) }
}

fn welcome(cluster: &str) -> ServerMessage {
    let hello = Hello::new("typha", "", "t");
    server(ServerMsg::Welcome(Welcome {
        hello: Some(hello),
        cluster_id: cluster.into(),
        succeeds: vec!["before".into()],
        peers: vec![],
    }))
}

fn begin(revision: u64) -> ServerMessage {
    server(ServerMsg::SnapshotBegin(SnapshotBegin { revision }))
}

fn batch(revision: u64, changes: &[(&str, u64, Option<&str>)]) -> ServerMessage {
    let changes = changes.iter().map(|(key, revision, value)| Change {
        key: (*key).into(),
        revision: *revision,
        value: value.map(|v| v.as_bytes().to_vec()),
    });
    server(ServerMsg::Batch(Batch {
        revision,
        changes: changes.collect(),
    }))
}

fn in_sync(revision: u64) -> ServerMessage {
    server(ServerMsg::InSync(InSync { revision }))
}

fn set(key: &str, revision: u64, value: &str) -> SyncEvent {
    SyncEvent::Delta(Delta::Set(
        key.into(),
        Versioned {
            value: Bytes::copy_from_slice(value.as_bytes()),
            revision,
        },
    ))
}

fn delete(key: &str) -> SyncEvent {
    SyncEvent::Delta(Delta::Delete(key.into()))
}

fn synced(revision: u64) -> [SyncEvent; 2] {
    [
        SyncEvent::Status(SyncStatus::InSync { revision }),
        SyncEvent::Delta(Delta::InSync),
    ]
}

fn open(engine: &mut Engine) -> Option<sync::Position> {
    match engine.open(Hello::new("felix", "n1", "1")).message {
        Some(ClientMsg::Open(open)) => open.resume,
        other => panic!("not an open: {other:?}"),
    }
}

fn feed(engine: &mut Engine, messages: impl IntoIterator<Item = ServerMessage>) {
    for message in messages {
        engine.handle(message).unwrap();
    }
}

fn events(engine: &mut Engine) -> Vec<SyncEvent> {
    std::iter::from_fn(|| engine.next_event()).collect()
}

/// An engine in sync with cluster c at revision 5, holding a and b.
fn at_five() -> Engine {
    let mut engine = Engine::new(vec![]);
    assert_eq!(open(&mut engine), None);
    let snapshot = batch(5, &[("a", 3, Some("1")), ("b", 5, Some("1"))]);
    feed(&mut engine, [welcome("c"), begin(5), snapshot, in_sync(5)]);
    let mut expected = vec![set("a", 3, "1"), set("b", 5, "1")];
    expected.extend(synced(5));
    assert_eq!(events(&mut engine), expected);
    engine
}

#[test]
fn resumes_where_it_was_and_says_only_what_is_new() {
    let mut engine = at_five();
    feed(&mut engine, [batch(7, &[("a", 7, None)])]);
    assert_eq!(events(&mut engine), [delete("a")]);
    engine.closed();
    let resume = open(&mut engine).unwrap();
    assert_eq!((resume.cluster_id.as_str(), resume.revision), ("c", 7));
    feed(
        &mut engine,
        [welcome("c"), batch(8, &[("b", 8, Some("2"))]), in_sync(8)],
    );
    let mut expected = vec![set("b", 8, "2")];
    expected.extend(synced(8));
    assert_eq!(events(&mut engine), expected);
}

#[test]
fn a_broken_snapshot_leaves_no_trace() {
    let mut engine = at_five();
    engine.closed();
    open(&mut engine);
    feed(&mut engine, [welcome("c"), begin(6), batch(6, &[("x", 6, Some("1"))])]);
    assert_eq!(events(&mut engine), []);
    engine.closed();
    assert_eq!(open(&mut engine).unwrap().revision, 5);
    feed(&mut engine, [welcome("c"), in_sync(5)]);
    assert_eq!(events(&mut engine), synced(5));
    assert_eq!(engine.entries().count(), 2);
}

#[test]
fn another_cluster_is_refused_until_what_is_held_is_given_up() {
    let mut engine = at_five();
    engine.closed();
    open(&mut engine);
    let refused = engine.handle(welcome("new")).unwrap_err();
    let (held, offered) = ("c".to_owned(), "new".to_owned());
    assert_eq!(refused, ProtocolError::OtherCluster { held, offered });
    assert!(refused.to_string().contains("until an operator says so"), "{refused}");
    assert!(engine.handle(begin(1)).is_err(), "nothing of it is taken");
    assert_eq!(events(&mut engine), []);
    assert_eq!(engine.entries().count(), 2);
    // The old cluster may come back.
    engine.closed();
    open(&mut engine);
    feed(&mut engine, [welcome("c"), in_sync(5)]);
    assert_eq!(events(&mut engine), synced(5));
}

#[test]
fn an_older_state_of_the_same_cluster_is_refused() {
    let mut engine = at_five();
    engine.closed();
    open(&mut engine);
    engine.handle(welcome("c")).unwrap();
    let refused = engine.handle(begin(4)).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("offers revision 4 of cluster c, revision 5 is held"),
        "{refused}"
    );
    assert_eq!(engine.handle(batch(4, &[])), Err(ProtocolError::OutOfTurn("a batch")));
    assert_eq!(events(&mut engine), []);
    assert_eq!(engine.entries().count(), 2);
}

#[test]
fn a_slow_client_is_brought_forward_by_a_snapshot_on_the_same_connection() {
    let mut engine = at_five();
    feed(&mut engine, [begin(9), batch(9, &[("b", 9, Some("2"))]), in_sync(9)]);
    let mut expected = vec![set("b", 9, "2"), delete("a")];
    expected.extend(synced(9));
    assert_eq!(events(&mut engine), expected);
}

#[test]
fn a_restored_state_waits_for_typha_and_then_only_the_merged_state_comes_out() {
    let mut engine = Engine::new(vec![]);
    let saved = |r| Versioned {
        value: Bytes::from_static(b"1"),
        revision: r,
    };
    let position = Position {
        cluster_id: "c".into(),
        revision: 5,
    };
    engine.restore(position, [("a".to_owned(), saved(3)), ("b".to_owned(), saved(5))]);
    assert_eq!(events(&mut engine), []);
    assert_eq!(open(&mut engine).unwrap().revision, 5);
    feed(&mut engine, [welcome("c"), batch(6, &[("a", 6, None)]), in_sync(6)]);
    let mut expected = vec![set("b", 5, "1")];
    expected.extend(synced(6));
    assert_eq!(events(&mut engine), expected);
}

#[test]
fn pings_are_answered_with_what_is_applied_and_strangers_are_refused() {
    let mut engine = at_five();
    let answer = engine.handle(server(ServerMsg::Ping(Ping { sequence: 4 }))).unwrap();
    let pong = ClientMessage {
        message: Some(ClientMsg::Pong(Pong {
            sequence: 4,
            revision: 5,
        })),
    };
    assert_eq!(answer, Progress::Answer(pong));
    assert_eq!(engine.handle(welcome("c")), Err(ProtocolError::OutOfTurn("a welcome")));
    open(&mut engine);
    let hello = Hello {
        major: 9,
        ..Hello::new("typha", "", "")
    };
    let strange = ServerMsg::Welcome(Welcome {
        hello: Some(hello),
        cluster_id: "c".into(),
        succeeds: vec![],
        peers: vec![],
    });
    assert!(matches!(
        engine.handle(server(strange)),
        Err(ProtocolError::Incompatible(_))
    ));
}

#[test]
fn an_operators_word_leads_to_another_history() {
    let mut engine = Engine::new(vec![]);
    open(&mut engine);
    let snapshot = batch(9, &[("a", 3, Some("1")), ("b", 9, Some("2"))]);
    feed(&mut engine, [welcome("before"), begin(9), snapshot, in_sync(9)]);
    events(&mut engine);
    engine.closed();
    open(&mut engine);
    // It breaks off: what was held is held, and still of the history before.
    feed(&mut engine, [welcome("c"), begin(5), batch(5, &[("a", 3, Some("1"))])]);
    engine.closed();
    assert_eq!(open(&mut engine).unwrap().cluster_id, "before");
    assert_eq!(events(&mut engine), []);
    // Whole, although its revision is lower.
    let snapshot = batch(5, &[("a", 3, Some("1")), ("b", 5, Some("1"))]);
    feed(&mut engine, [welcome("c"), begin(5), snapshot, in_sync(5)]);
    let mut expected = vec![set("b", 5, "1")];
    expected.extend(synced(5));
    assert_eq!(events(&mut engine), expected);
    assert_eq!(engine.position().unwrap().cluster_id, "c");
}

#[test]
fn another_history_begins_with_a_snapshot() {
    let mut engine = Engine::new(vec![]);
    open(&mut engine);
    feed(&mut engine, [welcome("before"), begin(9), in_sync(9)]);
    engine.closed();
    open(&mut engine);
    feed(&mut engine, [welcome("c")]);
    let refused = engine.handle(in_sync(9)).unwrap_err();
    assert!(matches!(refused, ProtocolError::OutOfTurn(_)), "{refused}");
}

fn currency(stale: Option<(u64, u64)>) -> ServerMessage {
    let stale = stale.map(|(revision, age_seconds)| sync::Stale {
        revision,
        age_seconds,
        reason: "etcd is away".into(),
    });
    server(ServerMsg::Currency(sync::Currency { stale }))
}

#[test]
fn what_may_be_old_is_marked_and_what_is_current_again_too() {
    let mut engine = Engine::new(vec![]);
    let ClientMsg::Open(open) = engine.open(Hello::new("felix", "n", "1")).message.unwrap() else {
        panic!("open comes first");
    };
    assert!(open.hello.unwrap().can(capability::CURRENCY));
    assert!(
        matches!(engine.handle(currency(None)), Err(ProtocolError::OutOfTurn(_))),
        "not before the welcome"
    );
    engine.open(Hello::new("felix", "n", "1"));
    let stale = |revision, seconds| {
        SyncEvent::Status(SyncStatus::Stale {
            revision,
            age: Duration::from_secs(seconds),
            reason: "etcd is away".into(),
        })
    };
    for message in [
        welcome("c"),
        currency(Some((7, 60))),
        begin(7),
        batch(7, &[("a", 3, Some("1"))]),
    ] {
        engine.handle(message).unwrap();
    }
    assert_eq!(events(&mut engine), [stale(7, 60)], "said before anything else");
    assert_eq!(engine.handle(in_sync(7)), Ok(Progress::InSync));
    let expected = [set("a", 3, "1"), stale(7, 60), SyncEvent::Delta(Delta::InSync)];
    assert_eq!(events(&mut engine), expected);
    engine.handle(currency(None)).unwrap();
    assert_eq!(
        events(&mut engine),
        [SyncEvent::Status(SyncStatus::InSync { revision: 7 })]
    );
    engine.handle(currency(Some((7, 1)))).unwrap();
    assert_eq!(events(&mut engine), [stale(7, 1)], "away again");

    // The next typha holds less than this client, and may be old: nothing moves.
    engine.closed();
    engine.open(Hello::new("felix", "n", "1"));
    engine.handle(welcome("c")).unwrap();
    engine.handle(currency(Some((5, 90)))).unwrap();
    assert_eq!(events(&mut engine), [stale(7, 90)]);
    engine.handle(currency(None)).unwrap();
    assert_eq!(events(&mut engine), [], "not in sync yet");
    engine.handle(in_sync(9)).unwrap();
    let expected = [
        SyncEvent::Status(SyncStatus::InSync { revision: 9 }),
        SyncEvent::Delta(Delta::InSync),
    ];
    assert_eq!(events(&mut engine), expected);
}

#[test]
fn who_is_told_to_leave_knows_where_to() {
    let mut engine = Engine::new(vec![]);
    engine.open(Hello::new("felix", "n", "1"));
    engine.handle(welcome("c")).unwrap();
    let drain = |peers: &[&str]| {
        let peers = peers.iter().map(|&p| p.to_owned()).collect();
        server(ServerMsg::Drain(sync::Drain { peers }))
    };
    assert_eq!(engine.handle(drain(&[])), Ok(Progress::Going), "nowhere");
    let leave = Progress::Leave(vec!["tcp:b:1".into(), "tcp:c:1".into()]);
    assert_eq!(engine.handle(drain(&["tcp:b:1", "tcp:c:1"])), Ok(leave));
}

#[test]
fn what_a_newer_typha_says_besides_is_no_reason_to_leave() {
    let mut engine = Engine::new(vec![]);
    engine.open(Hello::new("felix", "n", "1"));
    let unknown = ServerMessage { message: None };
    for message in [
        welcome("c"),
        unknown.clone(),
        begin(7),
        unknown.clone(),
        in_sync(7),
        unknown,
    ] {
        engine.handle(message).unwrap();
    }
    let coalesced = server(ServerMsg::Coalesced(sync::Coalesced { revision: 7 }));
    assert_eq!(engine.handle(coalesced), Ok(Progress::Slow(7)));
    assert_eq!(engine.handle(begin(90)), Ok(Progress::Going), "what follows");
}
