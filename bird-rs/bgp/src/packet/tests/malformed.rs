//! RFC 7606: what each wrong attribute costs, and what has crashed or reset other speakers.

use super::*;

/// What became of an UPDATE that announces 10.0.0.0/8 with these attributes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Used,
    Discarded(u8),
    Withdrawn(u8),
    Reset(u8),
}

use Outcome::{Discarded, Reset, Used, Withdrawn};

pub(super) fn outcome(list: &str, context: &SessionContext) -> Outcome {
    let update = match decode_update(&update_frame(&[], &hex(list), &hex("08 0a")), context) {
        Ok(update) => update,
        Err(notification) => {
            assert_eq!(notification.code, 3);
            return Reset(notification.subcode);
        }
    };
    let worst = update.faults.iter().max_by_key(|fault| fault.verdict);
    match worst {
        None => {
            assert_eq!(update.reach.len(), 1);
            Used
        }
        Some(fault) if fault.verdict == Verdict::TreatAsWithdraw => {
            assert_eq!(update.reach, [], "{list}");
            assert!(prefixes(&update.withdrawn).contains(&"10.0.0.0/8".to_owned()), "{list}");
            Withdrawn(fault.code)
        }
        Some(fault) => {
            assert_eq!(update.reach.len(), 1, "{list}");
            Discarded(fault.code)
        }
    }
}

fn with(extra: &str) -> String {
    format!("{GOOD} {extra}")
}

/// What, the attributes (`+`: behind good ones), what they cost from an internal peer and from an external one.
#[rustfmt::skip]
const CASES: &[(&str, &str, Outcome, Outcome)] = &[
    ("all good", GOOD, Used, Used),
    ("ORIGIN of two octets", "40 01 02 0000 40 02 00 40 03 04 c0000201", Withdrawn(1), Withdrawn(1)),
    ("ORIGIN of none", "40 01 00 40 02 00 40 03 04 c0000201", Withdrawn(1), Withdrawn(1)),
    ("ORIGIN 3", "40 01 01 03 40 02 00 40 03 04 c0000201", Withdrawn(1), Withdrawn(1)),
    ("ORIGIN optional", "c0 01 01 00 40 02 00 40 03 04 c0000201", Withdrawn(1), Withdrawn(1)),
    ("no ORIGIN", "40 02 00 40 03 04 c0000201", Withdrawn(1), Withdrawn(1)),
    ("no AS_PATH", "40 01 01 00 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH cut", "40 01 01 00 40 02 05 02 01 0000fd 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH too many", "40 01 01 00 40 02 06 02 02 0000fde9 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH segment 9", "40 01 01 00 40 02 06 09 01 0000fde9 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH empty segment", "40 01 01 00 40 02 02 02 00 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH with AS 0", "40 01 01 00 40 02 06 02 01 00000000 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("AS_PATH confederation", "40 01 01 00 40 02 06 03 01 0000fde9 40 03 04 c0000201", Withdrawn(2), Withdrawn(2)),
    ("NEXT_HOP of three", "40 01 01 00 40 02 00 40 03 03 c00002", Withdrawn(3), Withdrawn(3)),
    ("NEXT_HOP of none", "40 01 01 00 40 02 00 40 03 00", Withdrawn(3), Withdrawn(3)),
    ("NEXT_HOP 0.0.0.0", "40 01 01 00 40 02 00 40 03 04 00000000", Withdrawn(3), Withdrawn(3)),
    ("NEXT_HOP multicast", "40 01 01 00 40 02 00 40 03 04 e0000001", Withdrawn(3), Withdrawn(3)),
    ("no NEXT_HOP", "40 01 01 00 40 02 00", Withdrawn(3), Withdrawn(3)),
    ("MED of three", "+ 80 04 03 000001", Withdrawn(4), Withdrawn(4)),
    ("MED transitive", "+ c0 04 04 00000001", Withdrawn(4), Withdrawn(4)),
    ("LOCAL_PREF", "+ 40 05 04 00000064", Used, Discarded(5)),
    ("LOCAL_PREF of five", "+ 40 05 05 0000000064", Withdrawn(5), Discarded(5)),
    ("ATOMIC_AGGREGATE of one", "+ 40 06 01 00", Discarded(6), Discarded(6)),
    ("AGGREGATOR of six", "+ c0 07 06 0001c0000201", Discarded(7), Discarded(7)),
    ("AGGREGATOR AS 0", "+ c0 07 08 00000000c0000201", Discarded(7), Discarded(7)),
    ("COMMUNITIES of none", "+ c0 08 00", Withdrawn(8), Withdrawn(8)),
    ("COMMUNITIES of five", "+ c0 08 05 0000000001", Withdrawn(8), Withdrawn(8)),
    ("ORIGINATOR_ID of three", "+ 80 09 03 000001", Withdrawn(9), Discarded(9)),
    ("CLUSTER_LIST of six", "+ 80 0a 06 000000010000", Withdrawn(10), Discarded(10)),
    ("EXTENDED COMMUNITIES of four", "+ c0 10 04 00000000", Withdrawn(16), Withdrawn(16)),
    ("AS4_PATH from a four-octet peer", "+ c0 11 06 02 01 00000001", Discarded(17), Discarded(17)),
    ("AS4_AGGREGATOR of seven", "+ c0 12 07 00000001c00002", Discarded(18), Discarded(18)),
    ("LARGE_COMMUNITY of eleven", "+ c0 20 0b 0000000000000000000000", Withdrawn(32), Withdrawn(32)),
    ("ONLY_TO_CUSTOMER of 8", "+ c0 23 08 0000000100000001", Withdrawn(35), Withdrawn(35)),
    ("unknown well-known", "+ 40 63 01 00", Reset(2), Reset(2)),
    ("unknown optional, any content (255, 40, 23)", "+ c0 ff 01 00 c0 28 00 c0 17 02 0100", Used, Used),
    ("ORIGIN twice", "+ 40 01 01 02", Discarded(1), Discarded(1)),
    ("attribute beyond the list", "+ c0 08 05 0001", Withdrawn(0), Withdrawn(0)),
    ("one octet left over", "+ c0", Withdrawn(0), Withdrawn(0)),
    ("extended length cut", "+ d0 08 00", Withdrawn(0), Withdrawn(0)),
    ("MP_REACH of four", "+ 80 0e 04 0002 01 00", Reset(9), Reset(9)),
    ("MP_REACH of two", "+ 80 0e 02 0002", Reset(9), Reset(9)),
    ("MP_REACH next hop beyond it", "+ 80 0e 06 0002 01 10 2001", Reset(9), Reset(9)),
    ("MP_REACH next hop of 0", "+ 80 0e 05 0002 01 00 00", Reset(9), Reset(9)),
    ("MP_REACH next hop of 4", "+ 80 0e 09 0002 01 04 c0000201 00", Reset(9), Reset(9)),
    ("MP_REACH of a family that was not agreed on", "+ 80 0e 05 0019 46 00 00", Discarded(14), Discarded(14)),
    ("MP_UNREACH of two", "+ 80 0f 02 0002", Reset(9), Reset(9)),
    ("MP_UNREACH prefix of 129", "+ 80 0f 04 0002 01 81", Reset(9), Reset(9)),
    ("MP_UNREACH prefix cut", "+ 80 0f 05 0002 01 20 20", Reset(9), Reset(9)),
    ("MP_UNREACH twice", "+ 80 0f 03 0002 01 80 0f 03 0002 01", Reset(1), Reset(1)),
    ("MP_UNREACH flags", "+ c0 0f 03 0002 01", Withdrawn(15), Withdrawn(15)),
];

#[test]
fn each_attribute_costs_what_rfc_7606_says() {
    for (what, list, internal, external) in CASES {
        let list = list.strip_prefix('+').map_or_else(|| (*list).to_owned(), with);
        assert_eq!(&outcome(&list, &session()), internal, "{what}, internal");
        assert_eq!(&outcome(&list, &ebgp()), external, "{what}, external");
    }
}

#[test]
fn an_unknown_well_known_attribute_is_quoted() {
    let quoted_in = |list: &str| {
        let error = decode_update(&update_frame(&[], &hex(&with(list)), &hex("08 0a")), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 2), "{list}");
        error.data
    };
    for list in ["40 63 02 0102", "50 63 0003 010203"] {
        assert_eq!(quoted_in(list), hex(list));
    }
    assert_eq!(quoted_in(&format!("50 63 0bb8 {}", "07".repeat(3000))).len(), 1024);
}

/// RFC 7606 section 5.2: the routes that it is about may be in what could not be read.
#[test]
fn an_error_without_any_route_ends_the_session() {
    const V6: &str = "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    // ORIGIN's length swallows the rest, MP_REACH too.
    let hidden = format!("40 01 ff 00 {V6}");
    for list in [
        &*hidden,
        "40 01 01 03 40 02 00",
        "80 04 01 00",
        "80 0f 04 0002 01 00 80 04 01 00",
    ] {
        let error = decode_update(&update_frame(&[], &hex(list), &[]), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 1), "{list}");
        let error = decode_update(&update_frame(&hex("08 0a"), &hex(list), &[]), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 1), "{list} and a withdrawal");
    }
    // Nothing is hidden where routes are announced, only withdrawn, or the attribute alone is lost.
    for list in [
        &*format!("{V6} 40 01 01 03 40 02 00"),
        "c0 0f 04 0002 01 00",
        "c0 07 01 00",
    ] {
        let update = decode_update(&update_frame(&[], &hex(list), &[]), &session()).unwrap();
        assert_eq!((update.reach.len(), update.faults.len()), (0, 1), "{list}");
    }
}

#[test]
fn prefixes_of_impossible_length_end_the_session() {
    for nlri in ["21 0a000000 00", "08", "20 0a0000", "ff"] {
        let error = decode_update(&update_frame(&[], &hex(GOOD), &hex(nlri)), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 10), "{nlri}");
        let error = decode_update(&update_frame(&hex(nlri), &[], &[]), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 10), "{nlri} withdrawn");
    }
}

#[test]
fn host_bits_are_cleared() {
    let update = decode_update(&update_frame(&[], &hex(GOOD), &hex("09 0aff")), &session()).unwrap();
    assert_eq!(prefixes(&update.reach[0].nlri), ["10.128.0.0/9"]);
}

#[test]
fn lengths_that_contradict_each_other_end_the_session() {
    for body in ["0001 0000", "0000 0001", "ffff 0000", "0000 ffff", "0002 0800 00"] {
        let error = decode(&message(2, &hex(body)), &session()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, 1), "{body}");
    }
}

#[test]
fn routes_without_any_attribute_are_withdrawn() {
    let update = decode_update(&update_frame(&[], &[], &hex("08 0a")), &session()).unwrap();
    assert_eq!(
        (prefixes(&update.withdrawn), update.reach.len()),
        (vec!["10.0.0.0/8".to_owned()], 0)
    );
    assert_eq!(update.end_of_rib, None);
    // CVE-2023-47234: MP_UNREACH and more NLRI, nothing mandatory. CVE-2023-46753: only an unknown attribute.
    for list in ["80 0f 03 0002 01", "c0 63 01 00"] {
        let update = decode_update(&update_frame(&[], &hex(list), &hex("08 0a")), &session()).unwrap();
        assert_eq!(
            (prefixes(&update.withdrawn), update.end_of_rib),
            (vec!["10.0.0.0/8".to_owned()], None)
        );
    }
}

#[test]
fn a_wrong_attribute_withdraws_both_families_of_the_message() {
    let list = format!("80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 {GOOD} 80 04 00");
    let update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &session()).unwrap();
    assert_eq!(prefixes(&update.withdrawn), ["2001:db8::/32", "10.0.0.0/8"]);
    assert_eq!(update.reach, []);
}

#[test]
fn an_ipv6_next_hop_that_is_none_withdraws() {
    for next_hop in [
        "0".repeat(32),
        format!("{}1", "0".repeat(31)),
        format!("ff02{}1", "0".repeat(27)),
        format!("{}ffff0a4d0002", "0".repeat(20)),
    ] {
        let list = format!("80 0e 1a 0002 01 10 {next_hop} 00 20 20010db8 40 01 01 00 40 02 00");
        let update = decode_update(&update_frame(&[], &hex(&list), &[]), &session()).unwrap();
        assert_eq!(
            (prefixes(&update.withdrawn), update.reach.len()),
            (vec!["2001:db8::/32".to_owned()], 0)
        );
        assert_eq!(update.faults[0].code, 14);
        assert!(update.faults[0].to_string().ends_with("routes treated as withdrawn"));
    }
}

#[test]
fn the_faults_of_one_message_are_bounded() {
    let list = with(&"40 01 01 00 ".repeat(500));
    let update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &session()).unwrap();
    assert_eq!(update.faults.len(), 16);
    assert_eq!(
        update.faults[0].to_string(),
        "attribute 1 repeated, attribute discarded"
    );
}

#[test]
fn classic_prefixes_need_their_family() {
    let v6 = SessionContext {
        families: FamilySet::from_iter([AfiSafi::Ipv6Unicast]),
        ..session()
    };
    let update = decode_update(&update_frame(&hex("08 0b"), &hex(GOOD), &hex("08 0a")), &v6).unwrap();
    assert_eq!(
        (update.withdrawn.len(), update.reach.len(), update.faults.len()),
        (0, 0, 1)
    );
}
