//! The sync protocol as a model: the server's half ([`Log`], [`Reader`]) and the client's real half ([`Engine`]), joined by
//! a queue that can be cut at any message, with restarts of the server and a consumer that reads when it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{ServerMessage, Welcome};
use tortie_replica::Delta;
use tortie_typha_client::{Engine, SyncEvent, Versioned};

use super::log::{Filter, Limits, Log, encode};
use super::reader::Reader;
use crate::datastore::{Entry, Event, Listing};

const LIMITS: Limits = Limits {
    changes: 4,
    octets: 1 << 20,
};

/// The datastore: what is true, and everything that ever was.
#[derive(Default)]
struct Store {
    keys: BTreeMap<String, Entry>,
    history: Vec<Event>,
}

impl Store {
    fn revision(&self) -> u64 {
        self.history.last().map_or(0, |e| e.revision)
    }

    fn write(&mut self, key: u8, value: Option<u8>) -> Option<Event> {
        // Two kinds of keys, of which the client wants one.
        let key = if key.is_multiple_of(2) {
            format!("/a/{key}")
        } else {
            format!("/b/{key}")
        };
        let revision = self.revision() + 1;
        let value = value.map(|v| Bytes::from(v.to_string()));
        match &value {
            Some(value) => {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision,
                    create_revision: revision,
                };
                self.keys.insert(key.clone(), entry);
            }
            None => drop(self.keys.remove(&key)?),
        }
        let event = Event { key, revision, value };
        self.history.push(event.clone());
        Some(event)
    }

    /// What a typha has after it started and read `past` changes of history.
    fn load(&self, past: usize) -> Log {
        let entries = self.keys.values().cloned().collect();
        let past = &self.history[self.history.len().saturating_sub(past)..];
        let oldest = past.first().map_or(self.revision(), |e| e.revision - 1);
        Log::new(
            Listing {
                entries,
                revision: self.revision(),
            },
            oldest,
            past.to_vec(),
            LIMITS,
        )
    }
}

struct World {
    store: Store,
    log: Log,
    engine: Engine,
    /// The connection: the server's view of the client, and what is on its way.
    link: Option<(Reader, VecDeque<Bytes>)>,
    told: BTreeMap<String, Versioned>,
    /// Keys that were deleted in the datastore at least once.
    deleted: BTreeSet<String>,
    in_sync: bool,
}

impl World {
    fn new() -> Self {
        let store = Store::default();
        let log = store.load(0);
        let engine = Engine::new(vec!["/a/".into()]);
        World {
            store,
            log,
            engine,
            link: None,
            told: BTreeMap::new(),
            deleted: BTreeSet::new(),
            in_sync: false,
        }
    }

    fn write(&mut self, key: u8, value: Option<u8>) {
        if let Some(event) = self.store.write(key, value) {
            if event.value.is_none() {
                self.deleted.insert(event.key.clone());
            }
            self.log.push(vec![event]);
        }
    }

    fn connect(&mut self) {
        let Some(ClientMsg::Open(open)) = self.engine.open(Hello::new("felix", "n", "1")).message else {
            panic!("the first message is open");
        };
        let reader = Reader::new(Filter::new(open.prefixes), open.resume.map(|r| r.revision));
        let hello = Hello::new("typha", "", "1");
        let welcome = encode(ServerMsg::Welcome(Welcome {
            hello: Some(hello),
            cluster_id: "c".into(),
            succeeds: vec![],
            peers: vec![],
        }));
        self.link = Some((reader, [welcome].into()));
    }

    /// The server's session takes one step of the log.
    fn serve(&mut self) -> bool {
        let Some((reader, wire)) = &mut self.link else {
            return false;
        };
        let step = self.log.next(reader.filter(), reader.position());
        let (frames, more) = reader.take(step);
        let any = !frames.is_empty();
        wire.extend(frames);
        wire.extend(reader.catch_up());
        any || more
    }

    /// One message arrives.
    fn deliver(&mut self) -> bool {
        let Some(frame) = self.link.as_mut().and_then(|(_, wire)| wire.pop_front()) else {
            return false;
        };
        self.engine.handle(ServerMessage::decode(frame).unwrap()).unwrap();
        true
    }

    /// The consumer reads one event, and would notice a lie.
    fn read(&mut self) -> bool {
        match self.engine.next_event() {
            None => return false,
            Some(SyncEvent::Delta(Delta::Set(key, value))) => {
                assert!(key.starts_with("/a/"), "{key} was not asked for");
                let before = self.told.insert(key, value.clone());
                assert!(
                    before.is_none_or(|b| b.revision < value.revision),
                    "time runs backwards"
                );
            }
            Some(SyncEvent::Delta(Delta::Delete(key))) => {
                assert!(self.told.remove(&key).is_some(), "{key} was never there");
                assert!(self.deleted.contains(&key), "{key} was never deleted");
            }
            Some(SyncEvent::Delta(Delta::InSync)) => self.in_sync = true,
            Some(SyncEvent::Status(_)) => {}
        }
        true
    }

    fn disconnect(&mut self) {
        if self.link.take().is_some() {
            self.engine.closed();
        }
    }

    fn settle(&mut self) {
        if self.link.is_none() {
            self.connect();
        }
        for _ in 0..1000 {
            if !(self.serve() | self.deliver() | self.read()) {
                return;
            }
        }
        panic!("never settles");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(u8, Option<u8>),
    Connect,
    Serve,
    Deliver,
    Read,
    Disconnect,
    /// The server starts anew, remembering so much of the past.
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..8, any::<Option<u8>>()).prop_map(|(k, v)| Op::Write(k, v)),
        2 => Just(Op::Connect),
        3 => Just(Op::Serve),
        6 => Just(Op::Deliver),
        4 => Just(Op::Read),
        1 => Just(Op::Disconnect),
        1 => (0usize..6).prop_map(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens in between, a client that is connected in the end has exactly the store's state, was told no
    /// deletion that did not happen, and never saw a key go back in time.
    #[test]
    fn a_client_always_ends_with_the_state_of_the_store(ops in proptest::collection::vec(op(), 0..80)) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Write(key, value) => world.write(key, value),
                Op::Connect if world.link.is_none() => world.connect(),
                Op::Connect => {}
                Op::Serve => { world.serve(); }
                Op::Deliver => { world.deliver(); }
                Op::Read => { world.read(); }
                Op::Disconnect => world.disconnect(),
                Op::Restart(past) => {
                    world.disconnect();
                    world.log = world.store.load(past);
                }
            }
        }
        world.settle();
        let wanted: BTreeMap<_, _> = world.store.keys.iter().filter(|(k, _)| k.starts_with("/a/"))
            .map(|(k, e)| (k.clone(), Versioned { value: e.value.clone(), revision: e.revision })).collect();
        prop_assert_eq!(&world.told, &wanted);
        prop_assert!(world.in_sync);
        prop_assert_eq!(world.engine.position().unwrap().revision, world.store.revision());
    }
}
