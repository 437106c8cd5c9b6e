//! typha's state file: any octets are refused or read; what is read is written to a file that is read to the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use tortie_proto::state::{decode, encode};

fuzz_target!(|data: &[u8]| {
    stable(Bytes::copy_from_slice(data));
    // The fuzzer finds no checksum: a head that fits is put before what it made.
    let mut file = b"tortie-typha\0\0\0\x01".to_vec();
    file.extend((data.len() as u64).to_be_bytes());
    file.extend(Sha256::digest(data));
    file.extend(data);
    stable(file.into());
});

fn stable(file: Bytes) {
    let Ok(state) = decode(file) else { return };
    assert_eq!(decode(encode(&state).into()), Ok(state));
}
