//! What the kernel says of its nexthop objects: any octets are read; an object that can be written reads back the same, and what a
//! group stands for is told from whatever its members are.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tortie_netlink::route::object::{Body, Object, ObjectId, encoded, hops_of};

fuzz_target!(|messages: Vec<Vec<u8>>| {
    let mut objects: BTreeMap<ObjectId, Object> = BTreeMap::new();
    for octets in &messages {
        let Some(object) = Object::decode(octets) else { continue };
        if object.body != Body::Other {
            assert_eq!(Object::decode(&encoded(&object)).as_ref(), Some(&object));
        }
        objects.insert(object.id, object);
    }
    for id in objects.keys() {
        let _ = hops_of(*id, |id| objects.get(&id).map(|o| &o.body));
    }
});
