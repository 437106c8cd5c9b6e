//! What is written is read back; whatever is read never panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, Prefix, RouterId};

use super::*;
use crate::attr::{AsPathBuilder, Partial, SegmentKind};

fn as_path() -> impl Strategy<Value = AsPath> {
    // Those of confederations are not accepted.
    let segment = (1..=2_u8, prop::collection::vec(1..=u32::MAX, 1..5));
    prop::collection::vec(segment, 0..4).prop_map(|segments| {
        let mut path = AsPathBuilder::default();
        for (kind, asns) in segments {
            path.push(SegmentKind::from_code(kind).unwrap(), asns.into_iter().map(Asn));
        }
        path.build()
    })
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    let numbers = (
        0..3_u8,
        any::<bool>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
    );
    let lists = (
        prop::collection::vec(any::<u32>(), 0..5),
        prop::collection::vec(any::<u64>(), 0..5),
        prop::collection::vec(any::<[u32; 3]>(), 0..5),
        prop::collection::vec(any::<u32>(), 0..5),
    );
    let rest = (
        any::<Option<(u32, u32)>>(),
        any::<Option<u32>>(),
        prop::collection::btree_map(100..200_u8, any::<Vec<u8>>(), 0..3),
    );
    (numbers, as_path(), lists, rest).prop_map(|(numbers, as_path, lists, (aggregator, otc, unknown))| {
        let (origin, atomic_aggregate, med, local_pref, originator) = numbers;
        let (communities, extended, large, clusters) = lists;
        Attributes {
            origin: Origin::from_code(origin).unwrap(),
            atomic_aggregate,
            as_path,
            next_hop: None,
            med,
            local_pref,
            aggregator: aggregator.map(|(asn, addr)| Aggregator {
                asn: Asn(asn.max(1)),
                addr: Ipv4Addr::from_bits(addr),
            }),
            communities: communities.into_iter().map(Community).collect(),
            ext_communities: extended.into_iter().map(ExtCommunity).collect(),
            large_communities: large.into_iter().map(|[a, b, c]| LargeCommunity(a, b, c)).collect(),
            originator_id: originator.map(RouterId),
            cluster_list: clusters.into_iter().map(RouterId).collect(),
            only_to_customer: otc.map(Asn),
            // Of what is not there nothing is partial.
            partial: otc.map_or(Partial::default(), |_| Partial::ONLY_TO_CUSTOMER),
            unknown: unknown
                .into_iter()
                .map(|(code, value)| UnknownAttribute {
                    code,
                    partial: true,
                    value: value.into(),
                })
                .collect(),
        }
    })
}

fn routes(family: AfiSafi) -> impl Strategy<Value = Vec<Nlri>> {
    let one = (any::<u32>(), any::<u128>(), 0..=family.bits()).prop_map(move |(path_id, bits, length)| {
        let addr = match family {
            AfiSafi::Ipv4Unicast => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            AfiSafi::Ipv6Unicast => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        Nlri {
            path_id,
            prefix: Prefix::new(addr, length).unwrap(),
        }
    });
    prop::collection::vec(one, 1..40)
}

fn context() -> impl Strategy<Value = SessionContext> {
    any::<[bool; 7]>().prop_map(|[ebgp, four_octet_as, v4_paths, v6_paths, ext_next_hop, rx, tx]| {
        let paths = AfiSafi::ALL
            .into_iter()
            .zip([v4_paths, v6_paths])
            .filter(|(_, on)| *on)
            .map(|(family, _)| family);
        let add_path: FamilySet = paths.collect();
        SessionContext {
            local_pref: false,
            ebgp,
            four_octet_as,
            families: AfiSafi::ALL.into_iter().collect(),
            add_path_rx: add_path,
            add_path_tx: add_path,
            ext_next_hop,
            extended_rx: rx,
            extended_tx: tx,
        }
    })
}

fn octets(bytes: &[u8], list: usize) -> Vec<u8> {
    let mut body = 0_u16.to_be_bytes().to_vec();
    let list = list.min(bytes.len());
    body.extend(u16::try_from(list).unwrap().to_be_bytes());
    body.extend_from_slice(bytes);
    body
}

proptest! {
    #[test]
    fn announcements_come_back(
        attributes in attributes(),
        (family, mut nlri) in prop_oneof![
            routes(AfiSafi::Ipv4Unicast).prop_map(|nlri| (AfiSafi::Ipv4Unicast, nlri)),
            routes(AfiSafi::Ipv6Unicast).prop_map(|nlri| (AfiSafi::Ipv6Unicast, nlri)),
        ],
        add_path in any::<bool>(),
    ) {
        let paths = if add_path { AfiSafi::ALL.into_iter().collect() } else { FamilySet::EMPTY };
        let context = SessionContext { add_path_rx: paths, add_path_tx: paths, ..session() };
        if !add_path {
            nlri.iter_mut().for_each(|nlri| nlri.path_id = 0);
        }
        let next_hop: NextHop = match family {
            AfiSafi::Ipv4Unicast => NextHop::V4(Ipv4Addr::new(192, 0, 2, 1)),
            AfiSafi::Ipv6Unicast => NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: Some("fe80::1".parse().unwrap()) },
        };
        let sent = Attributes { next_hop: Some(next_hop), ..attributes.clone() };
        let frames = announce(&context, family, &sent, nlri.clone()).unwrap();
        let mut got = Vec::new();
        for frame in &frames {
            prop_assert!(frame.len() <= context.max_send());
            prop_assert_eq!(frame_length(frame, &context), Ok(Some(frame.len())));
            let update = decode_update(frame, &context).unwrap();
            prop_assert_eq!(&update.attributes, &attributes);
            prop_assert_eq!(&update.faults, &vec![]);
            prop_assert_eq!(update.reach[0].next_hop, next_hop);
            got.extend(update.reach.into_iter().flat_map(|reach| reach.nlri));
        }
        prop_assert_eq!(got, nlri);
    }

    /// A two-octet peer that does not touch a route gives back the path it got, but for confederations.
    #[test]
    fn two_octet_peers_lose_nothing(asns in prop::collection::vec(1..=u32::MAX, 0..8)) {
        let context = SessionContext { four_octet_as: false, ..session() };
        let as_path = AsPath::sequence(asns.into_iter().map(Asn));
        let next_hop = Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let sent = Attributes { as_path, next_hop, ..Attributes::default() };
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        let frames = announce(&context, AfiSafi::Ipv4Unicast, &sent, [prefix.into()]).unwrap();
        prop_assert_eq!(decode_update(&frames[0], &context).unwrap().attributes.as_path, sent.as_path);
    }

    #[test]
    fn arbitrary_frames_never_panic(kind in 0..7_u8, body in prop::collection::vec(any::<u8>(), 0..300), context in context()) {
        let _ = decode(&message(kind, &body), &context);
        let _ = decode(&body, &context);
        let _ = frame_length(&body, &context);
    }

    /// Attribute lists that look like some: what is accepted can be written again and read to the same.
    #[test]
    fn plausible_updates_are_stable(
        list in prop::collection::vec((prop_oneof![Just(0x40_u8), Just(0x80), Just(0xc0), Just(0xe0)], 0..40_u8, prop::collection::vec(any::<u8>(), 0..20)), 0..8),
        nlri in prop::collection::vec(any::<u8>(), 0..12),
        context in context(),
    ) {
        let mut bytes = hex(GOOD);
        for (flags, code, value) in &list {
            bytes.extend([*flags, *code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
        }
        let length = bytes.len();
        bytes.extend(&nlri);
        let Ok(update) = decode_update(&message(2, &octets(&bytes, length)), &context) else { return Ok(()) };
        for reach in &update.reach {
            let sent = Attributes { next_hop: Some(reach.next_hop), ..update.attributes.clone() };
            let Ok(frames) = announce(&context, reach.family, &sent, reach.nlri.clone()) else { continue };
            for frame in frames {
                let again = decode_update(&frame, &context).unwrap();
                prop_assert_eq!(again.reach[0].next_hop, reach.next_hop);
                prop_assert_eq!(again.attributes.as_path.to_string(), update.attributes.as_path.to_string());
            }
        }
    }

    /// A good message with any octet changed is decoded or refused.
    #[test]
    fn mutations_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let list = format!("80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 {GOOD} c0 08 04 00010002 c0 11 06 02 01 00011170 c0 07 08 00000001 c0000201");
        let mut frame = update_frame(&hex("08 0b"), &hex(&list), &hex("08 0a"));
        let index = at.index(frame.len());
        frame[index] = value;
        let _ = decode(&frame, &session());
        let _ = decode(&frame, &SessionContext { four_octet_as: false, ..ebgp() });
        let _ = decode(&frame[..cut.index(frame.len())], &session());
    }
}
