use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, RouterId};

use super::*;
use crate::attr::{Aggregator, AsPathBuilder, NextHop, Origin, Partial, SegmentKind, UnknownAttribute};

fn next_hop() -> impl Strategy<Value = Option<NextHop>> {
    let v6 = (any::<u128>(), any::<Option<u128>>()).prop_map(|(global, link_local)| NextHop::V6 {
        global: Ipv6Addr::from_bits(global),
        link_local: link_local.map(Ipv6Addr::from_bits),
    });
    let v4 = any::<u32>().prop_map(|addr| NextHop::V4(Ipv4Addr::from_bits(addr)));
    prop_oneof![Just(None), v4.prop_map(Some), v6.prop_map(Some)]
}

/// Few values, so that equal ones and neighbours come up.
fn numbers() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        20 => prop::collection::vec(0u32..3, 0..4),
        1 => prop::collection::vec(any::<u32>(), 250..260)
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let small = (0u8..3, any::<bool>(), next_hop());
    let options = prop::collection::vec(proptest::option::of(0u32..3), 6);
    let lists = prop::collection::vec(numbers(), 5);
    let unknown = prop::collection::vec((128u8..130, any::<bool>(), prop::collection::vec(0u8..2, 0..3)), 0..3);
    (small, options, lists, unknown).prop_map(|((origin, atomic_aggregate, next_hop), options, lists, unknown)| {
        let mut path = AsPathBuilder::default();
        let kinds = [SegmentKind::Sequence, SegmentKind::Set, SegmentKind::ConfedSequence];
        for (segment, kind) in lists[0].chunks(2).zip(kinds.iter().cycle()) {
            path.push(*kind, segment.iter().copied().map(Asn));
        }
        let aggregator = options[2].zip(options[3]);
        Attributes {
            origin: Origin::from_code(origin).unwrap(),
            atomic_aggregate,
            as_path: path.build(),
            next_hop,
            med: options[0],
            local_pref: options[1],
            aggregator: aggregator.map(|(asn, addr)| Aggregator {
                asn: Asn(asn),
                addr: Ipv4Addr::from_bits(addr),
            }),
            communities: lists[1].iter().copied().map(Community).collect(),
            ext_communities: lists[2].iter().map(|n| ExtCommunity(u64::from(*n) << 30)).collect(),
            large_communities: lists[3].iter().map(|n| LargeCommunity(*n, 1, 2)).collect(),
            originator_id: options[4].map(RouterId),
            cluster_list: lists[4].iter().copied().map(RouterId).collect(),
            only_to_customer: options[5].map(Asn),
            partial: options[5].map_or(Partial::default(), |_| Partial::ONLY_TO_CUSTOMER),
            unknown: unknown
                .into_iter()
                .map(|(code, partial, value)| UnknownAttribute {
                    code,
                    partial,
                    value: value.into(),
                })
                .collect(),
        }
    })
}

fn hop() -> impl Strategy<Value = Hop> {
    let address = prop_oneof![
        any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from_bits(a))),
        any::<u128>().prop_map(|a| IpAddr::V6(Ipv6Addr::from_bits(a)))
    ];
    let interface = proptest::option::of("[a-z]{0,15}");
    let parts = (proptest::option::of(address), interface, 0u16..3, any::<bool>());
    parts.prop_map(|(address, interface, weight, onlink)| Hop {
        address,
        interface: interface.map(Arc::from),
        weight,
        onlink,
    })
}

fn learned() -> impl Strategy<Value = Learned> {
    let address = any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from_bits(a)));
    let some = || proptest::option::of(0u32..3);
    let krt = (some(), some(), proptest::option::of(address));
    let krt = krt.prop_map(|(metric, source, prefsrc)| Krt {
        metric,
        source,
        prefsrc,
    });
    let metrics = (some(), krt, 0u32..3);
    (
        attributes(),
        0u16..3,
        0u8..4,
        metrics,
        prop::collection::vec(hop(), 0..3),
    )
        .prop_map(
            |(attributes, preference, code, (igp_metric, krt, hop), gateways)| Learned {
                attributes,
                preference,
                destination: destination(code),
                igp_metric,
                krt,
                gateways: gateways.into(),
                hop: HopId::from_number(hop),
            },
        )
}

fn packed(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out);
    out
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(route in learned()) {
        let octets = packed(&route);
        prop_assert_eq!(Learned::unpack(&mut Unpacker::new(&octets)), route);
    }

    #[test]
    fn equal_values_have_equal_octets_and_the_reverse(a in attributes(), b in attributes()) {
        prop_assert_eq!(packed(&a) == packed(&b), a == b);
        prop_assert_eq!(packed(&a), packed(&a.clone()));
    }
}

#[test]
fn a_usual_route_is_small() {
    let mut route = Learned {
        attributes: Attributes {
            as_path: crate::attr::AsPath::sequence([1, 2, 3].map(Asn)),
            next_hop: Some(NextHop::V4(Ipv4Addr::LOCALHOST)),
            local_pref: Some(100),
            communities: [Community(1)].into_iter().collect(),
            ..Attributes::default()
        },
        preference: 100,
        destination: RouteDestination::Unicast,
        igp_metric: None,
        krt: Krt::default(),
        gateways: Box::default(),
        hop: None,
    };
    assert_eq!(packed(&route).len(), 35);
    route.attributes.as_path = crate::attr::AsPath::sequence((0..300).map(Asn));
    assert_eq!(
        packed(&route).len(),
        35 + 4 * 297 + 4,
        "a long list has a longer length"
    );
}
