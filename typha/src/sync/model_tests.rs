//! The sync protocol as a model: several servers' halves ([`Log`], [`Reader`]) that follow one datastore each at its own
//! pace, and several clients' real halves ([`Engine`]), joined by queues that can be cut at any message.
//!
//! What may happen between: writes, a compaction of the datastore's past, a server that reads late, reads everything anew
//! or restarts, a client that goes to another server (which may be behind the one before), and a consumer that reads when
//! it likes. What arrives at a client is out of order in the only way that a stream allows: an older state after a newer
//! one, from another server.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{ServerMessage, Welcome};
use tortie_replica::Delta;
use tortie_typha_client::{Engine, SyncEvent, Versioned};

use super::frame::Framed;
use super::log::{Filter, Limits, Log};
use super::reader::Reader;
use crate::datastore::{Entry, Event, Listing};

const LIMITS: Limits = Limits {
    changes: 4,
    octets: 1 << 20,
};
const SERVERS: usize = 3;
const CLIENTS: usize = 2;

/// The datastore: what is true, and everything that ever was.
#[derive(Default)]
struct Store {
    keys: BTreeMap<String, Entry>,
    history: Vec<Event>,
    /// Changes up to this revision cannot be read any more.
    compacted: u64,
}

impl Store {
    fn revision(&self) -> u64 {
        self.history.last().map_or(0, |e| e.revision)
    }

    fn write(&mut self, key: u8, value: Option<u8>) {
        // Two kinds of keys, of which clients want one.
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
            None if self.keys.remove(&key).is_none() => return,
            None => {}
        }
        self.history.push(Event { key, revision, value });
    }

    /// The changes after a revision; `None` when some of them are compacted.
    fn changes(&self, after: u64, limit: usize) -> Option<Vec<Event>> {
        let later = self.history.iter().filter(|e| e.revision > after);
        (after >= self.compacted).then(|| later.take(limit).cloned().collect())
    }

    /// What a typha has after it read everything, and so many changes of the past.
    fn load(&self, past: usize) -> Log {
        let entries = self.keys.values().cloned().collect();
        let revision = self.revision();
        let oldest = revision.saturating_sub(past as u64).max(self.compacted);
        let past = self.changes(oldest, usize::MAX).unwrap_or_default();
        Log::new(Listing { entries, revision }, oldest, past, LIMITS)
    }

    /// Was this key deleted after it had this revision?
    fn deleted_since(&self, key: &str, revision: u64) -> bool {
        let mut later = self.history.iter().filter(|e| e.revision > revision);
        later.any(|e| e.key == key && e.value.is_none())
    }

    /// What clients shall have in the end.
    fn wanted(&self) -> BTreeMap<String, Versioned> {
        let wanted = self.keys.values().filter(|e| e.key.starts_with("/a/"));
        let versioned = |e: &Entry| Versioned {
            value: e.value.clone(),
            revision: e.revision,
        };
        wanted.map(|e| (e.key.clone(), versioned(e))).collect()
    }
}

/// A connection: the server's view of the client, and what is on its way.
struct Link {
    server: usize,
    reader: Reader,
    wire: VecDeque<Framed>,
}

struct Client {
    engine: Engine,
    link: Option<Link>,
    told: BTreeMap<String, Versioned>,
    in_sync: bool,
}

impl Client {
    fn new() -> Self {
        Client {
            engine: Engine::new(vec!["/a/".into()]),
            link: None,
            told: BTreeMap::new(),
            in_sync: false,
        }
    }

    fn connect(&mut self, server: usize) {
        let Some(ClientMsg::Open(open)) = self.engine.open(Hello::new("felix", "n", "1")).message else {
            panic!("the first message is open");
        };
        let reader = Reader::new(Filter::new(open.prefixes), open.resume.map(|r| r.revision));
        let welcome = Framed::plain(ServerMsg::Welcome(Welcome {
            hello: Some(Hello::new("typha", "", "1")),
            cluster_id: "c".into(),
            ..Welcome::default()
        }));
        let wire = [welcome].into();
        self.link = Some(Link { server, reader, wire });
    }

    fn disconnect(&mut self) {
        if self.link.take().is_some() {
            self.engine.closed();
        }
    }

    /// The server's session takes one step of the log.
    fn serve(&mut self, servers: &mut [Log]) -> bool {
        let Some(Link { server, reader, wire }) = &mut self.link else {
            return false;
        };
        let step = servers[*server].next(reader.filter(), reader.position());
        let (frames, more) = reader.take(step);
        let any = !frames.is_empty();
        wire.extend(frames);
        wire.extend(reader.catch_up());
        any || more
    }

    /// One message arrives. A client that is led backwards leaves.
    fn deliver(&mut self) -> bool {
        let Some(frame) = self.link.as_mut().and_then(|link| link.wire.pop_front()) else {
            return false;
        };
        let before = self.engine.position().map(|p| p.revision);
        if self
            .engine
            .handle(ServerMessage::decode(frame.octets().slice(5..)).unwrap())
            .is_err()
        {
            self.disconnect();
        }
        assert!(
            self.engine.position().map(|p| p.revision) >= before,
            "time runs backwards"
        );
        true
    }

    /// The consumer reads one event, and would notice a lie.
    fn read(&mut self, store: &Store) -> bool {
        match self.engine.next_event() {
            None => return false,
            Some(SyncEvent::Delta(Delta::Set(key, value))) => {
                assert!(key.starts_with("/a/"), "{key} was not asked for");
                let true_once = Event {
                    key: key.clone(),
                    revision: value.revision,
                    value: Some(value.value.clone()),
                };
                assert!(store.history.contains(&true_once), "{key} never was {value:?}");
                let before = self.told.insert(key, value.clone());
                assert!(
                    before.is_none_or(|b| b.revision < value.revision),
                    "time runs backwards"
                );
            }
            Some(SyncEvent::Delta(Delta::Delete(key))) => {
                let held = self.told.remove(&key);
                let revision = held.unwrap_or_else(|| panic!("{key} was never there")).revision;
                assert!(
                    store.deleted_since(&key, revision),
                    "{key} was not deleted after {revision}"
                );
            }
            Some(SyncEvent::Delta(Delta::InSync)) => self.in_sync = true,
            Some(SyncEvent::Status(_)) => {}
        }
        true
    }
}

struct World {
    store: Store,
    servers: Vec<Log>,
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let store = Store::default();
        World {
            servers: (0..SERVERS).map(|_| store.load(0)).collect(),
            clients: (0..CLIENTS).map(|_| Client::new()).collect(),
            store,
        }
    }

    /// A server reads some changes; everything, when they are compacted.
    fn follow(&mut self, server: usize, limit: usize) {
        let log = &mut self.servers[server];
        match self.store.changes(log.revision(), limit) {
            Some(events) => log.push(events),
            None => *log = self.store.load(LIMITS.changes),
        }
    }

    fn restart(&mut self, server: usize, past: usize) {
        self.servers[server] = self.store.load(past);
        let its = |c: &&mut Client| c.link.as_ref().is_some_and(|link| link.server == server);
        self.clients.iter_mut().filter(its).for_each(Client::disconnect);
    }

    fn compact(&mut self, age: u64) {
        self.store.compacted = self.store.compacted.max(self.store.revision().saturating_sub(age));
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Write(key, value) => self.store.write(key, value),
            Op::Follow(server, limit) => self.follow(server, limit),
            Op::Compact(age) => self.compact(age),
            Op::Restart(server, past) => self.restart(server, past),
            Op::Client(client, act) => {
                let client = &mut self.clients[client];
                match act {
                    Act::Connect(server) => {
                        client.disconnect();
                        client.connect(server);
                    }
                    Act::Serve => drop(client.serve(&mut self.servers)),
                    Act::Deliver => drop(client.deliver()),
                    Act::Read => drop(client.read(&self.store)),
                    Act::Disconnect => client.disconnect(),
                }
            }
        }
    }

    /// Nothing happens any more: what is on its way arrives.
    fn settle(&mut self) {
        for server in 0..SERVERS {
            self.follow(server, usize::MAX);
        }
        for (n, client) in self.clients.iter_mut().enumerate() {
            let mut steps = 0;
            loop {
                if client.link.is_none() {
                    client.connect(n % SERVERS);
                }
                if !(client.serve(&mut self.servers) | client.deliver() | client.read(&self.store)) {
                    break;
                }
                steps += 1;
                assert!(steps < 1000, "never settles");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(u8, Option<u8>),
    /// A server reads so many changes at most.
    Follow(usize, usize),
    /// All but so many of the changes are forgotten.
    Compact(u64),
    /// A server starts anew, with so much of the past.
    Restart(usize, usize),
    Client(usize, Act),
}

#[derive(Debug, Clone)]
enum Act {
    Connect(usize),
    Serve,
    Deliver,
    Read,
    Disconnect,
}

fn op() -> impl Strategy<Value = Op> {
    let act = prop_oneof![
        2 => (0..SERVERS).prop_map(Act::Connect),
        3 => Just(Act::Serve),
        7 => Just(Act::Deliver),
        4 => Just(Act::Read),
        1 => Just(Act::Disconnect),
    ];
    prop_oneof![
        5 => (0u8..8, any::<Option<u8>>()).prop_map(|(k, v)| Op::Write(k, v)),
        5 => (0..SERVERS, 1usize..6).prop_map(|(s, n)| Op::Follow(s, n)),
        1 => (0u64..6).prop_map(Op::Compact),
        1 => (0..SERVERS, 0usize..6).prop_map(|(s, past)| Op::Restart(s, past)),
        16 => (0..CLIENTS, act).prop_map(|(c, act)| Op::Client(c, act)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens in between, a client that is connected in the end has exactly the store's state, was told no
    /// deletion that did not happen, nothing that never was, and never saw a key go back in time.
    #[test]
    fn every_client_ends_with_the_state_of_the_store(ops in proptest::collection::vec(op(), 0..150)) {
        let mut world = World::new();
        for op in ops {
            world.act(op);
        }
        world.settle();
        let wanted = world.store.wanted();
        for client in &world.clients {
            prop_assert_eq!(&client.told, &wanted);
            prop_assert!(client.in_sync);
            prop_assert_eq!(client.engine.position().unwrap().revision, world.store.revision());
        }
    }
}
