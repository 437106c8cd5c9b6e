//! OPEN bodies: what is accepted is written again and read to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_fuzz::message;

fuzz_target!(|body: &[u8]| tortie_fuzz::open_is_stable(&message(1, body)));
