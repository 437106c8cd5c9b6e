//! UPDATEs: what is accepted can be announced again, and is then received with the same next hop, path and routes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::attr::Attributes;
use tortie_bgp::packet::{Message, announce, decode};

fuzz_target!(|data: &[u8]| {
    let Some((&bits, octets)) = data.split_first() else {
        return;
    };
    let context = tortie_fuzz::context(bits);
    let Some(frame) = tortie_fuzz::update(octets) else {
        return;
    };
    let Ok(Message::Update(update)) = decode(&frame, &context) else {
        return;
    };
    for reach in &update.reach {
        let sent = Attributes {
            next_hop: Some(reach.next_hop),
            ..update.attributes.clone()
        };
        let Ok(frames) = announce(&context, reach.family, &sent, reach.nlri.clone()) else {
            continue;
        };
        let mut routes = Vec::new();
        for frame in frames {
            assert!(frame.len() <= context.max_send());
            let receiver = tortie_bgp::packet::SessionContext {
                extended_rx: context.extended_tx,
                ..context
            };
            let Ok(Message::Update(again)) = decode(&frame, &receiver) else {
                panic!("our own announcement is refused: {frame:02x?}");
            };
            assert_eq!(again.reach[0].next_hop, reach.next_hop);
            assert_eq!(
                again.attributes.as_path.to_string(),
                update.attributes.as_path.to_string()
            );
            routes.extend(again.reach.into_iter().flat_map(|reach| reach.nlri));
        }
        assert_eq!(routes, reach.nlri);
    }
});
