//! BFD control packets: what is accepted is written again and read to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bfd::Packet;

fuzz_target!(|octets: &[u8]| {
    if let Ok(packet) = Packet::decode(octets) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
});
