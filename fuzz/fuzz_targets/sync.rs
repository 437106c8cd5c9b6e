//! A typha that says anything: each message is a length octet and so many octets (times eight). A client refuses or takes
//! it; its position never goes back, and what it was told is what it holds.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tortie_proto::common::Hello;
use tortie_proto::sync::{ClientMessage, ServerMessage};
use tortie_replica::Delta;
use tortie_typha_client::{Engine, SyncEvent};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = ClientMessage::decode(data) {
        assert_eq!(ClientMessage::decode(&*message.encode_to_vec()), Ok(message));
    }
    let mut engine = Engine::new(vec!["/calico/".to_owned()]);
    let mut told = BTreeMap::new();
    engine.open(Hello::new("fuzz", "n", "1"));
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (octets, next) = after.split_at(after.len().min(usize::from(length) * 8));
        rest = next;
        let before = engine.position().cloned();
        let taken = ServerMessage::decode(octets).map(|message| engine.handle(message).is_ok());
        if let (Some(before), Some(now)) = (before, engine.position()) {
            assert!(before.cluster_id != now.cluster_id || before.revision <= now.revision);
        }
        while let Some(event) = engine.next_event() {
            match event {
                SyncEvent::Delta(Delta::Set(key, value)) => drop(told.insert(key, value)),
                SyncEvent::Delta(Delta::Delete(key)) => assert!(told.remove(&key).is_some(), "{key} was not there"),
                SyncEvent::Delta(Delta::InSync) | SyncEvent::Status(_) => {}
            }
        }
        if taken != Ok(true) {
            engine.closed();
            engine.open(Hello::new("fuzz", "n", "1"));
        }
    }
    assert!(told.iter().eq(engine.entries()));
});
