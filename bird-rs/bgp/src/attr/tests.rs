use super::*;

fn path(asns: &[u32]) -> AsPath {
    AsPath::sequence(asns.iter().map(|&a| Asn(a)))
}

fn build(segments: &[(SegmentKind, &[u32])]) -> AsPath {
    let mut builder = AsPathBuilder::default();
    for (kind, asns) in segments {
        builder.push(*kind, asns.iter().map(|&a| Asn(a)));
    }
    builder.build()
}

#[test]
fn paths_are_canonical() {
    let a = build(&[
        (SegmentKind::Sequence, &[1, 2]),
        (SegmentKind::Set, &[9, 7, 9]),
        (SegmentKind::Sequence, &[]),
    ]);
    let b = build(&[
        (SegmentKind::Sequence, &[1]),
        (SegmentKind::Set, &[]),
        (SegmentKind::Sequence, &[2]),
        (SegmentKind::Set, &[7, 9]),
    ]);
    assert_eq!(a, b);
    assert_eq!(a.to_string(), "1 2 {7 9}");
    assert_eq!(a.segments().count(), 2);
    assert_eq!(build(&[(SegmentKind::Set, &[])]), AsPath::empty());
    assert_eq!(
        build(&[(SegmentKind::Set, &[1]), (SegmentKind::Set, &[2])])
            .segments()
            .count(),
        2,
        "two sets are two steps, not one"
    );
}

#[test]
fn length_counts_sets_once_and_confederations_not_at_all() {
    let p = build(&[
        (SegmentKind::ConfedSequence, &[65001, 65002]),
        (SegmentKind::ConfedSet, &[65003]),
        (SegmentKind::Sequence, &[1, 2, 2]),
        (SegmentKind::Set, &[3, 4]),
    ]);
    assert_eq!(p.len(), 4);
    assert_eq!(p.to_string(), "(65001 65002) ({65003}) 1 2 2 {3 4}");
    assert_eq!(p.first(), Some(Asn(1)));
    assert_eq!(p.origin_as(), None);
    assert_eq!(p.last_nonaggregated(), Some(Asn(2)));
    assert_eq!(p.count(Asn(2)), 2);
    assert!(p.contains(Asn(65003)) && !p.contains(Asn(5)));
}

#[test]
fn prepend_joins_the_first_sequence_and_goes_before_a_set() {
    assert_eq!(path(&[2, 3]).prepend(Asn(1)), path(&[1, 2, 3]));
    assert_eq!(build(&[(SegmentKind::Set, &[2])]).prepend(Asn(1)).to_string(), "1 {2}");
    assert_eq!(AsPath::empty().prepend(Asn(1)).first(), Some(Asn(1)));
}

#[test]
fn filter_drops_numbers_and_empty_segments() {
    let p = build(&[
        (SegmentKind::Sequence, &[1]),
        (SegmentKind::Set, &[2]),
        (SegmentKind::Sequence, &[3]),
    ]);
    assert_eq!(p.filter(|a| a != Asn(2)), path(&[1, 3]));
}

#[test]
fn a_default_route_is_small() {
    assert_eq!(std::mem::size_of::<AsPath>(), 16);
    assert!(
        std::mem::size_of::<Attributes>() <= 184,
        "{}",
        std::mem::size_of::<Attributes>()
    );
}

#[test]
fn sets_are_sorted_and_without_duplicates() {
    let mut set: Set<Community> = [Community(3), Community(1), Community(3)].into_iter().collect();
    assert_eq!(&*set, [Community(1), Community(3)]);
    assert!(set.insert(Community(2)) && !set.insert(Community(2)));
    assert_eq!(&*set, [Community(1), Community(2), Community(3)]);
    assert!(set.retain(|c| c.0 != 1) && !set.retain(|_| true));
    assert!(set.contains(Community(2)) && !set.contains(Community(1)));
}
