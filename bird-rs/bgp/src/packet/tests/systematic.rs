//! What is wrong with an attribute or a message, without leaving anything out: every attribute with every short length, with
//! every combination of flags, twice, in any order; every octet of a message with every value; the largest that there is.

use proptest::prelude::*;

use super::malformed::{Outcome, outcome};
use super::*;

use Outcome::{Discarded, Used, Withdrawn};

/// An attribute as the RFCs have it.
struct Row {
    code: u8,
    flags: u8,
    /// Which lengths a value may have, of octets that are all 1.
    fits: fn(usize) -> bool,
    /// A value, all of whose octets are 1.
    good: usize,
    /// What it costs when it is malformed; RFC 7606 section 7.
    malformed: fn(u8) -> Outcome,
    /// Nothing that an external peer may say.
    internal: bool,
}

const fn row(code: u8, flags: u8, good: usize, fits: fn(usize) -> bool, malformed: fn(u8) -> Outcome) -> Row {
    Row {
        code,
        flags,
        fits,
        good,
        malformed,
        internal: matches!(code, 5 | 9 | 10),
    }
}

fn some_of(each: usize, length: usize) -> bool {
    length > 0 && length.is_multiple_of(each)
}

/// All that we know but those that hold routes, and those for sessions with two octets for an AS.
const ROWS: [Row; 13] = [
    row(1, 0x40, 1, |l| l == 1, Withdrawn),
    // Sets of one AS each.
    row(2, 0x40, 6, |l| l % 6 == 0, Withdrawn),
    row(3, 0x40, 4, |l| l == 4, Withdrawn),
    row(4, 0x80, 4, |l| l == 4, Withdrawn),
    row(5, 0x40, 4, |l| l == 4, Withdrawn),
    row(6, 0x40, 0, |l| l == 0, Discarded),
    row(7, 0xc0, 8, |l| l == 8, Discarded),
    row(8, 0xc0, 4, |l| some_of(4, l), Withdrawn),
    row(9, 0x80, 4, |l| l == 4, Withdrawn),
    row(10, 0x80, 4, |l| some_of(4, l), Withdrawn),
    row(16, 0xc0, 8, |l| some_of(8, l), Withdrawn),
    row(32, 0xc0, 12, |l| some_of(12, l), Withdrawn),
    row(35, 0xc0, 4, |l| l == 4, Withdrawn),
];

fn text(flags: u8, code: u8, length: usize) -> String {
    format!("{flags:02x} {code:02x} {length:02x} {} ", "01".repeat(length))
}

/// The mandatory attributes but this one, and behind them these.
fn behind_the_others(code: u8, attributes: &str) -> String {
    let others = ROWS[..3].iter().filter(|row| row.code != code);
    let good: String = others.map(|row| text(row.flags, row.code, row.good)).collect();
    good + attributes
}

#[test]
fn every_attribute_has_the_lengths_that_it_may_have() {
    for row in &ROWS {
        for length in 0..=64 {
            let list = behind_the_others(row.code, &text(row.flags, row.code, length));
            let wanted = if (row.fits)(length) {
                Used
            } else {
                (row.malformed)(row.code)
            };
            assert_eq!(outcome(&list, &session()), wanted, "{} of {length}", row.code);
            let wanted = if row.internal { Discarded(row.code) } else { wanted };
            assert_eq!(outcome(&list, &ebgp()), wanted, "{} of {length}, external", row.code);
        }
    }
}

/// RFC 7606 section 3 (c): wrong flags cost the routes. Whether an attribute is partial does not matter.
#[test]
fn every_attribute_has_its_flags() {
    for row in &ROWS {
        for flags in [0x00, 0x40, 0x80, 0xc0] {
            for partial in [0, 0x20] {
                let list = behind_the_others(row.code, &text(flags | partial, row.code, row.good));
                let wanted = if flags == row.flags { Used } else { Withdrawn(row.code) };
                assert_eq!(outcome(&list, &session()), wanted, "{} with {flags:02x}", row.code);
            }
        }
    }
}

/// RFC 7606 section 3 (g): all but the first are as if they were not there.
#[test]
fn of_attributes_that_are_repeated_the_first_counts() {
    for row in &ROWS {
        let one = text(row.flags, row.code, row.good);
        for again in [
            one.clone(),
            text(row.flags, row.code, row.good + 1),
            text(0x20, row.code, 3),
        ] {
            let list = behind_the_others(row.code, &format!("{one}{again}"));
            assert_eq!(outcome(&list, &session()), Discarded(row.code), "{}", row.code);
            let update = |list: &str| {
                let frame = update_frame(&[], &hex(list), &hex("08 0a"));
                decode_update(&frame, &session()).unwrap().attributes
            };
            assert_eq!(update(&list), update(&behind_the_others(row.code, &one)));
        }
    }
}

/// Each octet of a message, each with each value: what is wrong is said of the right kind of message.
#[test]
fn any_octet_may_have_any_value() {
    let list = format!(
        "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 {GOOD} c0 08 04 00010002
         c0 11 06 02 01 00011170 c0 07 08 00000001c0000201 80 0f 04 0002 01 00"
    );
    let update = update_frame(&hex("08 0b"), &hex(&list), &hex("08 0a"));
    let open = message(
        1,
        &hex(
            "04 fde8 00b4 0a000001 20 02 1e 01 04 0001 00 01 40 06 4078 0002 01 80 41 04 00010001 02 00 09 01 03 47 00",
        ),
    );
    for (frame, codes) in [(update, [1, 3]), (open, [1, 2])] {
        let two_octets = SessionContext {
            four_octet_as: false,
            ..ebgp()
        };
        for context in [session(), ebgp(), two_octets] {
            // The marker and the type have tests of their own.
            for at in (16..18).chain(19..frame.len()) {
                let mut frame = frame.clone();
                for value in 0..=u8::MAX {
                    frame[at] = value;
                    if let Err(error) = decode(&frame, &context) {
                        assert!(codes.contains(&error.code), "octet {at} is {value}: {error}");
                    }
                }
            }
        }
    }
}

/// All the room of an extended message, taken by one path and by one list of communities: what came whole goes whole or not
/// at all.
#[test]
fn the_largest_attributes_there_are_pass_or_are_refused() {
    let extended = SessionContext {
        extended_rx: true,
        extended_tx: true,
        ..session()
    };
    let segment = format!("02ff{}", "0001e240".repeat(255));
    let path = format!("50 02 {:04x} {}", 60 * 1022, segment.repeat(60));
    let communities: String = (0..10_000).map(|n| format!("{n:08x}")).collect();
    let communities = format!("d0 08 {:04x} {communities}", 4 * 10_000);
    for list in [
        format!("40 01 01 00 {path} 40 03 04 c0000201"),
        format!("{GOOD} {communities}"),
    ] {
        let frame = update_frame(&[], &hex(&list), &hex("08 0a"));
        let update = decode_update(&frame, &extended).unwrap();
        let sent = Attributes {
            next_hop: Some(update.reach[0].next_hop),
            ..update.attributes.clone()
        };
        let pass =
            |context: &SessionContext| announce(context, AfiSafi::Ipv4Unicast, &sent, update.reach[0].nlri.clone());
        let frames = pass(&extended).unwrap();
        assert_eq!(decode_update(&frames[0], &extended).unwrap(), update);
        assert!(pass(&session()).is_err(), "it does not fit into 4,096 octets");
    }
}

proptest! {
    /// AS4_PATH before AS_PATH, next hop last: the order says nothing.
    #[test]
    fn the_order_of_attributes_means_nothing(
        list in Just(vec![
            "40 01 01 02", "40 02 06 02 02 5ba0 fde9", "40 03 04 c0000201", "80 04 04 00000007", "40 05 04 00000009",
            "40 06 00", "c0 07 06 5ba0 c0000201", "c0 08 04 00010002", "c0 11 0a 02 02 00011170 0000fde9",
            "c0 12 08 00011170 c0000201", "c0 20 0c 000000010000000200000003", "c0 ff 01 07", "c0 63 00",
            "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8",
        ]).prop_shuffle(),
        four_octet_as in any::<bool>(),
    ) {
        let context = SessionContext { four_octet_as, ..session() };
        let mut in_order = list.clone();
        // By their codes.
        in_order.sort_unstable_by_key(|attribute| attribute[3..5].to_owned());
        let read = |list: &[&str]| {
            let mut list = list.join(" ");
            if four_octet_as {
                list = list.replace("40 02 06 02 02 5ba0 fde9", "40 02 0a 02 02 00005ba0 0000fde9");
                list = list.replace("c0 07 06 5ba0", "c0 07 08 00005ba0");
            }
            let mut update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &context).unwrap();
            update.faults.sort_by_key(|fault| fault.code);
            update
        };
        let update = read(&list);
        prop_assert_eq!(&update, &read(&in_order));
        prop_assert_eq!(update.reach.len(), 2);
        let path = if four_octet_as { "23456 65001" } else { "70000 65001" };
        prop_assert_eq!(update.attributes.as_path.to_string(), path);
    }

    /// A path of four-octet numbers for a peer that knows two needs half as much room again: it fits, or nothing is sent.
    #[test]
    fn long_paths_for_two_octet_peers_fit_or_are_refused(length in 1_usize..1_500) {
        let context = SessionContext { four_octet_as: false, ..session() };
        let sent = Attributes {
            as_path: AsPath::sequence((0..length).map(|n| tortie_net::Asn(70_000 + u32::try_from(n).unwrap()))),
            next_hop: Some(NextHop::V4([192, 0, 2, 1].into())),
            ..Attributes::default()
        };
        let prefix: tortie_net::Prefix = "10.0.0.0/8".parse().unwrap();
        match announce(&context, AfiSafi::Ipv4Unicast, &sent, [prefix.into()]) {
            Ok(frames) => {
                prop_assert!(frames[0].len() <= 4_096 && length < 690);
                prop_assert_eq!(decode_update(&frames[0], &context).unwrap().attributes.as_path, sent.as_path);
            }
            Err(_) => prop_assert!(length > 660),
        }
    }
}
