//! A list of capabilities (RFC 5492) in an otherwise good OPEN.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_fuzz::message;

fuzz_target!(|list: &[u8]| {
    let list = &list[..list.len().min(253)];
    let length = u8::try_from(list.len()).expect("invariant: just cut");
    // Version 4, AS 65000, 90 seconds, 192.0.2.1, one optional parameter: capabilities.
    let mut body = vec![4, 0xfd, 0xe8, 0, 90, 192, 0, 2, 1, length + 2, 2, length];
    body.extend_from_slice(list);
    tortie_fuzz::open_is_stable(&message(1, &body));
});
