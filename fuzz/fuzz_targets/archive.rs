//! Exports of a datastore: what is read is written to a file that is read to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

// The program that has it is no library.
#[allow(dead_code)]
#[path = "../../ctl/src/datastore/archive.rs"]
mod archive;

use archive::Archive;

fuzz_target!(|text: &str| {
    stable(text);
    // The fuzzer finds no checksum: one that fits is put behind what it made.
    let digest: String = Sha256::digest(text)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    stable(&format!("{text}{{\"sha256\":\"{digest}\"}}\n"));
});

fn stable(text: &str) {
    let Ok(read) = Archive::decode(text) else { return };
    let written = read.encode().expect("what was read can be written");
    assert_eq!(Archive::decode(&written), Ok(read));
}
