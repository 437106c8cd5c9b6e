//! Stored documents: a line with the key, then what lies under it. What is read is written and read to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::{Key, decode};

fuzz_target!(|data: &[u8]| {
    let Some(line) = data.iter().position(|&octet| octet == b'\n') else {
        return;
    };
    let Ok(key) = std::str::from_utf8(&data[..line]) else {
        return;
    };
    let Ok(key) = key.parse::<Key>() else { return };
    assert_eq!(key.to_string().parse::<Key>(), Ok(key.clone()));
    let _ = decode(&key, &data[line + 1..]);
});
