//! The cases of RFC 6811, and sets against a list that is searched from end to end.

use proptest::prelude::*;

use super::*;

fn roa(prefix: &str, max_len: u8, asn: u32) -> Roa {
    Roa::new(prefix.parse().unwrap(), max_len, Asn(asn)).unwrap()
}

fn net(prefix: &str) -> Prefix {
    prefix.parse().unwrap()
}

#[test]
fn cases_of_rfc_6811() {
    let set: RoaSet = [
        roa("10.0.0.0/8", 16, 65000),
        roa("10.1.0.0/16", 24, 65001),
        roa("10.1.0.0/16", 16, 65002),
        roa("192.0.2.0/24", 24, 0),
        roa("198.51.100.0/24", 24, 0),
        roa("198.51.100.0/24", 32, 65003),
        roa("2001:db8::/32", 48, 65001),
        roa("2001:db8:1::/48", 48, 4_200_000_000),
        roa("0.0.0.0/0", 0, 65009),
    ]
    .into_iter()
    .filter(|roa| roa.prefix().len() > 0)
    .collect();
    use Validity::{Invalid, Unknown, Valid};
    for (prefix, asn, expected) in [
        // Nothing covers it; a payload for a part of it says nothing of it.
        ("11.0.0.0/8", 65000, Unknown),
        ("10.0.0.0/7", 65000, Unknown),
        ("192.0.0.0/16", 65000, Unknown),
        ("2001:db9::/32", 65001, Unknown),
        ("0.0.0.0/0", 65009, Unknown),
        // Covered, right AS, length within the bounds, at them, beyond them.
        ("10.0.0.0/8", 65000, Valid),
        ("10.2.0.0/16", 65000, Valid),
        ("10.2.0.0/17", 65000, Invalid),
        ("10.0.0.0/8", 65001, Invalid),
        // A payload of a shorter prefix allows what one of the longer prefix does not.
        ("10.1.0.0/16", 65000, Valid),
        ("10.1.0.0/16", 65001, Valid),
        ("10.1.0.0/16", 65002, Valid),
        ("10.1.0.0/16", 65003, Invalid),
        ("10.1.2.0/24", 65001, Valid),
        ("10.1.2.0/24", 65002, Invalid),
        ("10.1.2.0/24", 65000, Invalid),
        ("10.1.2.0/25", 65001, Invalid),
        // AS 0 allows nobody, not even AS 0, and does not keep another payload from allowing.
        ("192.0.2.0/24", 0, Invalid),
        ("192.0.2.0/24", 65000, Invalid),
        ("192.0.2.1/32", 0, Invalid),
        ("198.51.100.0/24", 65003, Valid),
        ("198.51.100.7/32", 65003, Valid),
        ("198.51.100.0/24", 0, Invalid),
        // No origin (a path that ends in a set) is AS 0 here.
        ("10.0.0.0/8", 0, Invalid),
        ("2001:db8::/32", 65001, Valid),
        ("2001:db8:1::/48", 65001, Valid),
        ("2001:db8:1::/48", 4_200_000_000, Valid),
        ("2001:db8:2::/48", 4_200_000_000, Invalid),
        ("2001:db8::/49", 65001, Invalid),
    ] {
        assert_eq!(set.validity(net(prefix), Asn(asn)), expected, "{prefix} AS{asn}");
    }
    assert_eq!(RoaSet::default().validity(net("10.0.0.0/8"), Asn(65000)), Unknown);
}

#[test]
fn everything_may_have_an_origin() {
    let all: RoaSet = [roa("0.0.0.0/0", 0, 65009), roa("::/0", 128, 65009)]
        .into_iter()
        .collect();
    assert_eq!(all.validity(net("0.0.0.0/0"), Asn(65009)), Validity::Valid);
    assert_eq!(all.validity(net("10.0.0.0/8"), Asn(65009)), Validity::Invalid);
    assert_eq!(all.validity(net("ffff::1/128"), Asn(65009)), Validity::Valid);
}

#[test]
fn a_maximum_length_is_within_the_prefix() {
    for (prefix, max_len, fine) in [
        ("10.0.0.0/8", 7, false),
        ("10.0.0.0/8", 8, true),
        ("10.0.0.0/8", 32, true),
        ("10.0.0.0/8", 33, false),
        ("::/0", 128, true),
        ("::/0", 129, false),
    ] {
        assert_eq!(
            Roa::new(net(prefix), max_len, Asn(1)).is_ok(),
            fine,
            "{prefix}-{max_len}"
        );
    }
    assert_eq!(roa("10.0.0.0/8", 24, 65000).to_string(), "10.0.0.0/8-24 AS65000");
}

#[test]
fn half_a_million_payloads_are_small() {
    let count = 500_000_u32;
    let prefix = |n: u32| Prefix::new(std::net::Ipv4Addr::from(n << 12).into(), 24).unwrap();
    let set: RoaSet = (0..count).map(|n| Roa::new(prefix(n), 24, Asn(n)).unwrap()).collect();
    assert_eq!(set.octets() / set.len(), 16);
    assert_eq!(set.validity(prefix(77), Asn(77)), Validity::Valid);
    let v6: RoaSet = [roa("2001:db8::/32", 48, 1)].into_iter().collect();
    assert_eq!(v6.octets(), 28);
}

#[test]
fn an_update_is_refused_as_a_whole() {
    let a = roa("10.0.0.0/8", 8, 1);
    let b = roa("10.0.0.0/8", 8, 2);
    let set: RoaSet = [a].into_iter().collect();
    let update = |changes: &[(Roa, bool)]| {
        let mut update = RoaUpdate::default();
        changes
            .iter()
            .for_each(|(roa, announced)| update.push(*roa, *announced));
        set.updated(update)
    };
    assert_eq!(update(&[(b, true), (a, true)]), Err(BadUpdate::Duplicate(Some(a))));
    assert_eq!(update(&[(b, true), (b, true)]), Err(BadUpdate::Duplicate(Some(b))));
    assert_eq!(update(&[(a, false), (a, false)]), Err(BadUpdate::Unknown(Some(a))));
    assert_eq!(update(&[(b, false)]), Err(BadUpdate::Unknown(Some(b))));
    // In the order it was said, and not in another one.
    assert_eq!(update(&[(a, false), (a, true)]), Ok(set.clone()));
    assert_eq!(update(&[(b, true), (b, false)]), Ok(set.clone()));
    assert_eq!(update(&[(a, false), (b, true)]), Ok([b].into_iter().collect()));
}

#[test]
fn several_sources_speak_as_one() {
    let mut tables = RoaTables::default();
    let name: std::sync::Arc<str> = "r4".into();
    tables.provide(&name, true);
    let source = |source, preference| RoaSource {
        source: crate::rib::SourceId(source),
        preference,
        since: 1,
    };
    let wrong: std::sync::Arc<RoaSet> =
        std::sync::Arc::new([roa("10.0.0.0/8", 8, 1), roa("::/0", 0, 1)].into_iter().collect());
    let right = std::sync::Arc::new([roa("10.0.0.0/8", 8, 2), roa("10.0.0.0/8", 8, 1)].into_iter().collect());
    tables.set("r4", source(1, 100), &wrong);
    assert_eq!(tables.validity("r4", net("10.0.0.0/8"), Asn(2)), Validity::Invalid);
    assert_eq!(
        tables.validity("r4", net("::/0"), Asn(1)),
        Validity::Unknown,
        "the other family"
    );
    let changes = tables.take_changes();
    assert_eq!(changes, [(name.clone(), Cover::new(vec![net("10.0.0.0/8")]))]);
    assert!(!tables.is_changed());
    tables.set("r4", source(2, 200), &right);
    assert_eq!(tables.validity("r4", net("10.0.0.0/8"), Asn(2)), Validity::Valid);
    assert_eq!(tables.validity("none", net("10.0.0.0/8"), Asn(2)), Validity::Unknown);
    let page = tables.page("r4", None, 10);
    let listed: Vec<(String, Vec<u16>)> = page
        .iter()
        .map(|entry| {
            (
                entry.roa.to_string(),
                entry.sources.iter().map(|s| s.source.0).collect(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("10.0.0.0/8-8 AS1".to_owned(), vec![2, 1]),
            ("10.0.0.0/8-8 AS2".to_owned(), vec![2])
        ]
    );
    assert_eq!(tables.page("r4", Some(page[0].roa), 10), page[1..]);
    assert_eq!(tables.counts("r4", crate::rib::SourceId(1)), (1, 0));
    assert_eq!(tables.counts("r4", crate::rib::SourceId(2)), (2, 2));
    tables.take_changes();
    tables.remove(crate::rib::SourceId(2));
    assert_eq!(tables.validity("r4", net("10.0.0.0/8"), Asn(2)), Validity::Invalid);
    assert!(tables.is_changed());
}

/// Prefixes that nest and collide often.
fn any_net() -> impl Strategy<Value = Prefix> {
    let v4 = (0u32..64, 0u8..=8).prop_map(|(bits, len)| Prefix::new(std::net::Ipv4Addr::from(bits << 26).into(), len));
    let v6 =
        (0u128..256, 0u8..=8).prop_map(|(bits, len)| Prefix::new(std::net::Ipv6Addr::from(bits << 120).into(), len));
    let deep = (any::<u128>(), 120u8..=128)
        .prop_map(|(bits, len)| Prefix::new(std::net::Ipv6Addr::from(bits & 0xFF).into(), len));
    prop_oneof![v4, v6, deep].prop_map(|prefix| prefix.unwrap())
}

fn any_roa() -> impl Strategy<Value = Roa> {
    (any_net(), 0u8..4, 0u32..4).prop_map(|(prefix, more, asn)| {
        let max_len = (prefix.len() + more).min(prefix.max_len());
        Roa::new(prefix, max_len, Asn(asn)).unwrap()
    })
}

/// RFC 6811 section 2, word by word.
fn by_the_book(roas: &[Roa], net: Prefix, origin: Asn) -> Validity {
    let covering: Vec<&Roa> = roas.iter().filter(|roa| roa.prefix.covers(net)).collect();
    if covering.is_empty() {
        Validity::Unknown
    } else if covering
        .iter()
        .any(|roa| net.len() <= roa.max_len && roa.asn == origin && origin != Asn(0))
    {
        Validity::Valid
    } else {
        Validity::Invalid
    }
}

proptest! {
    #[test]
    fn a_set_says_what_a_list_says(
        roas in proptest::collection::vec(any_roa(), 0..40),
        asked in proptest::collection::vec((any_net(), 0u32..4), 1..40),
    ) {
        let set: RoaSet = roas.iter().copied().collect();
        for (net, asn) in asked {
            prop_assert_eq!(set.validity(net, Asn(asn)), by_the_book(&roas, net, Asn(asn)), "{} AS{}", net, asn);
        }
    }

    #[test]
    fn updates_lead_where_a_new_set_does(
        before in proptest::collection::btree_set(any_roa(), 0..30),
        after in proptest::collection::btree_set(any_roa(), 0..30),
        last in any_roa(),
    ) {
        let set: RoaSet = before.iter().copied().collect();
        let mut update = RoaUpdate::default();
        before.difference(&after).for_each(|roa| update.push(*roa, false));
        after.difference(&before).for_each(|roa| update.push(*roa, true));
        let new: RoaSet = after.iter().copied().collect();
        prop_assert_eq!(set.updated(update), Ok(new.clone()));
        for is_v4 in [true, false] {
            let listed: Vec<Roa> = new.after(is_v4, None).collect();
            let expected: Vec<Roa> = after.iter().copied().filter(|roa| roa.prefix.is_v4() == is_v4).collect();
            prop_assert_eq!(&listed, &expected);
            let rest: Vec<Roa> = new.after(is_v4, Some(last)).collect();
            if last.prefix.is_v4() == is_v4 {
                prop_assert_eq!(rest, expected.iter().copied().filter(|roa| *roa > last).collect::<Vec<_>>());
            }
            let mut changed = set.differences(&new, is_v4);
            changed.sort_unstable();
            let differ = before.symmetric_difference(&after).map(|roa| roa.prefix).filter(|p| p.is_v4() == is_v4);
            let mut differ: Vec<Prefix> = differ.collect();
            differ.sort_unstable();
            prop_assert_eq!(changed, differ);
        }
    }

    #[test]
    fn a_cover_covers(nets in proptest::collection::vec(any_net(), 0..20), asked in any_net()) {
        let expected = nets.iter().any(|net| net.covers(asked));
        prop_assert_eq!(Cover::new(nets).covers(asked), expected);
    }
}
