//! The codec: hand-checked octets, every check, arbitrary octets.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use crate::{DecodeError, Diagnostic, Packet, State};

/// Up, poll, multiplier 3, 1 to 2, 300 ms both ways.
const GOOD: [u8; 24] = [
    0x20, 0xe0, 3, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 4, 0x93, 0xe0, 0, 4, 0x93, 0xe0, 0, 0, 0, 0,
];

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Packet, DecodeError> {
    let mut octets = GOOD.to_vec();
    change(&mut octets);
    Packet::decode(&octets)
}

#[test]
fn octets_mean_what_the_rfc_says() {
    let packet = Packet::decode(&GOOD).unwrap();
    let wanted = Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: true,
        r#final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: NonZeroU32::new(1).unwrap(),
        your_discriminator: NonZeroU32::new(2),
        desired_min_tx: Duration::from_millis(300),
        required_min_rx: Duration::from_millis(300),
        required_min_echo_rx: Duration::ZERO,
    };
    assert_eq!(packet, wanted);
    assert_eq!(packet.encode(), GOOD);
}

#[test]
fn every_check_of_6_8_6() {
    let word = |octets: &mut Vec<u8>, at: usize, value: u32| octets[at..at + 4].copy_from_slice(&value.to_be_bytes());
    assert_eq!(with(|o| o.truncate(23)), Err(DecodeError::Short(23)));
    assert_eq!(with(|o| o[0] = 0x40), Err(DecodeError::Version(2)));
    assert_eq!(with(|o| o[3] = 23), Err(DecodeError::Length { said: 23, there: 24 }));
    assert_eq!(with(|o| o[3] = 25), Err(DecodeError::Length { said: 25, there: 24 }));
    assert_eq!(with(|o| o[1] |= 4), Err(DecodeError::Length { said: 24, there: 24 }));
    assert_eq!(with(|o| o[2] = 0), Err(DecodeError::ZeroMultiplier));
    assert_eq!(with(|o| o[1] |= 1), Err(DecodeError::Multipoint));
    assert_eq!(with(|o| word(o, 4, 0)), Err(DecodeError::ZeroDiscriminator));
    for (bits, state) in [(0x80, State::Init), (0xc0, State::Up)] {
        let refused = with(|o| {
            o[1] = bits;
            word(o, 8, 0);
        });
        assert_eq!(refused, Err(DecodeError::StateWithoutSession(state)));
    }
    for bits in [0x00, 0x40] {
        let taken = with(|o| {
            o[1] = bits;
            word(o, 8, 0);
        });
        assert_eq!(taken.map(|p| p.your_discriminator), Ok(None));
    }
    let authenticated = with(|o| {
        o[1] |= 4;
        o[3] = 28;
        o.extend([1, 4, 1, b'x']);
    });
    assert_eq!(authenticated, Err(DecodeError::Authentication));
    assert!(with(|o| o.push(0)).is_ok(), "octets behind the length are ignored");
}

proptest! {
    #[test]
    fn what_is_read_is_written_again(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = Packet::decode(&octets) {
            let written = packet.encode();
            prop_assert_eq!(Packet::decode(&written), Ok(packet));
            prop_assert_eq!(&written[..3], &octets[..3]);
            prop_assert_eq!(&written[4..], &octets[4..24]);
        }
    }

    #[test]
    fn nearly_good_octets_do_not_panic(at in 0..24_usize, to in any::<u8>(), more in 0..8_usize) {
        let mut octets = GOOD.to_vec();
        octets[at] = to;
        octets.resize(24 + more, 0);
        let _ = Packet::decode(&octets);
    }
}
