//! A byte stream as a peer may send it: no buffer beyond the agreed size is ever asked for, every frame is decoded or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::packet::{decode, frame_length};
use tortie_fuzz::context;

fuzz_target!(|data: &[u8]| {
    let Some((&bits, mut stream)) = data.split_first() else {
        return;
    };
    let context = context(bits);
    while let Ok(Some(length)) = frame_length(stream, &context) {
        assert!((19..=context.max_receive()).contains(&length));
        let Some((frame, rest)) = stream.split_at_checked(length) else {
            return;
        };
        if decode(frame, &context).is_err() {
            return;
        }
        stream = rest;
    }
});
