//! UPDATEs as they should be.

use std::net::Ipv6Addr;

use tortie_net::{Asn, Community, Prefix};

use super::*;
use crate::attr::SegmentKind;

fn attributes(next_hop: &str) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([Asn(65001)]),
        next_hop: Some(next_hop.parse::<std::net::IpAddr>().unwrap().into()),
        ..Attributes::default()
    }
}

fn nlri(prefixes: &[&str]) -> Vec<Nlri> {
    prefixes
        .iter()
        .map(|prefix| prefix.parse::<Prefix>().unwrap().into())
        .collect()
}

#[test]
fn a_plain_announcement_is_byte_for_byte_what_the_rfc_says() {
    let routes = nlri(&["10.0.0.0/8", "10.1.2.0/23", "0.0.0.0/0", "10.1.2.3/32"]);
    let frames = announce(
        &session(),
        AfiSafi::Ipv4Unicast,
        &attributes("192.0.2.1"),
        routes.clone(),
    )
    .unwrap();
    let wanted = update_frame(&[], &hex(GOOD), &hex("08 0a  17 0a0102  00  20 0a010203"));
    assert_eq!(frames, std::slice::from_ref(&wanted));
    let update = decode_update(&wanted, &session()).unwrap();
    let next_hop = NextHop::V4("192.0.2.1".parse().unwrap());
    assert_eq!(
        update.reach,
        [Reach {
            family: AfiSafi::Ipv4Unicast,
            next_hop,
            nlri: routes
        }]
    );
    assert_eq!(
        update.attributes,
        Attributes {
            next_hop: None,
            ..attributes("192.0.2.1")
        }
    );
    assert_eq!(
        (update.withdrawn, update.faults, update.end_of_rib),
        (vec![], vec![], None)
    );
}

#[test]
fn ipv6_goes_first_in_mp_reach() {
    let mut wanted = hex("90 0e 001a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8");
    wanted.extend(hex("40 01 01 00  40 02 06 02 01 0000fde9"));
    let routes = nlri(&["2001:db8::/32"]);
    let frames = announce(
        &session(),
        AfiSafi::Ipv6Unicast,
        &attributes("2001:db8::1"),
        routes.clone(),
    )
    .unwrap();
    assert_eq!(frames, [update_frame(&[], &wanted, &[])]);
    assert_eq!(decode_update(&frames[0], &session()).unwrap().reach[0].nlri, routes);
}

#[test]
fn both_lengths_of_an_ipv6_next_hop_are_understood() {
    let read = |length: &str, next_hop: &str| {
        let list = format!("800e{length}000201 {next_hop} 00 2020010db8 400101004002 00");
        decode_update(&update_frame(&[], &hex(&list), &[]), &session()).unwrap()
    };
    let ll: Ipv6Addr = "fe80::9".parse().unwrap();
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let zeros = "00000000000000000000000000000000";
    let both = read(
        "2a",
        "20 20010db8000000000000000000000001 fe800000000000000000000000000009",
    );
    assert_eq!(
        both.reach[0].next_hop,
        NextHop::V6 {
            global,
            link_local: Some(ll)
        }
    );
    let only_link_local = read("1a", "10 fe800000000000000000000000000009");
    assert_eq!(
        only_link_local.reach[0].next_hop,
        NextHop::V6 {
            global: ll,
            link_local: None
        }
    );
    let bird = read("2a", &format!("20 {zeros} fe800000000000000000000000000009"));
    assert_eq!(
        bird.reach[0].next_hop,
        NextHop::V6 {
            global: ll,
            link_local: Some(ll)
        }
    );
    let second_is_nothing = read("2a", &format!("20 20010db8000000000000000000000001 {zeros}"));
    assert_eq!(
        second_is_nothing.reach[0].next_hop,
        NextHop::V6 {
            global,
            link_local: None
        }
    );
}

#[test]
fn ipv4_over_ipv6_needs_agreement() {
    let extended = SessionContext {
        ext_next_hop: true,
        ..session()
    };
    let route = nlri(&["10.0.0.0/8"]);
    let attributes = attributes("2001:db8::1");
    let error = announce(&session(), AfiSafi::Ipv4Unicast, &attributes, route.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the session cannot carry next hop 2001:db8::1 for ipv4"
    );
    let frames = announce(&extended, AfiSafi::Ipv4Unicast, &attributes, route.clone()).unwrap();
    let update = decode_update(&frames[0], &extended).unwrap();
    assert_eq!(
        (update.reach[0].family, &update.reach[0].nlri),
        (AfiSafi::Ipv4Unicast, &route)
    );
    assert_eq!(decode_update(&frames[0], &session()).unwrap_err().subcode, 9);
}

#[test]
fn withdrawals_of_both_families() {
    let v4 = nlri(&["10.0.0.0/8", "10.1.2.0/23"]);
    let frames = withdraw(&session(), AfiSafi::Ipv4Unicast, v4.clone());
    assert_eq!(frames, [update_frame(&hex("08 0a 17 0a0102"), &[], &[])]);
    assert_eq!(
        decode_update(&frames[0], &session()).unwrap(),
        Update {
            withdrawn: v4,
            ..Update::default()
        }
    );
    let v6 = nlri(&["2001:db8::/32"]);
    let frames = withdraw(&session(), AfiSafi::Ipv6Unicast, v6.clone());
    assert_eq!(frames, [update_frame(&[], &hex("90 0f 0008 0002 01 20 20010db8"), &[])]);
    assert_eq!(
        decode_update(&frames[0], &session()).unwrap(),
        Update {
            withdrawn: v6,
            ..Update::default()
        }
    );
}

#[test]
fn end_of_rib_of_both_families() {
    assert_eq!(end_of_rib(AfiSafi::Ipv4Unicast), update_frame(&[], &[], &[]));
    assert_eq!(
        end_of_rib(AfiSafi::Ipv6Unicast),
        update_frame(&[], &hex("80 0f 03 0002 01"), &[])
    );
    for family in AfiSafi::ALL {
        let update = decode_update(&end_of_rib(family), &session()).unwrap();
        assert_eq!(
            update,
            Update {
                end_of_rib: Some(family),
                ..Update::default()
            }
        );
    }
    let v6_only = SessionContext {
        families: FamilySet::from_iter([AfiSafi::Ipv6Unicast]),
        ..session()
    };
    assert_eq!(
        decode_update(&end_of_rib(AfiSafi::Ipv4Unicast), &v6_only).unwrap(),
        Update::default()
    );
    let mp_v4 = update_frame(&[], &hex("80 0f 03 0001 01"), &[]);
    assert_eq!(
        decode_update(&mp_v4, &session()).unwrap().end_of_rib,
        Some(AfiSafi::Ipv4Unicast)
    );
    let with_origin = update_frame(&[], &hex("80 0f 03 0002 01 40 01 01 00"), &[]);
    assert_eq!(decode_update(&with_origin, &session()).unwrap().end_of_rib, None);
}

#[test]
fn a_two_octet_peer_gets_and_gives_the_whole_path() {
    let old = SessionContext {
        four_octet_as: false,
        ..session()
    };
    let mut sent = attributes("192.0.2.1");
    sent.as_path = AsPath::sequence([Asn(70_000), Asn(5), Asn(80_000)]);
    sent.aggregator = Some(Aggregator {
        asn: Asn(70_000),
        addr: "192.0.2.9".parse().unwrap(),
    });
    let frames = announce(&old, AfiSafi::Ipv4Unicast, &sent, nlri(&["10.0.0.0/8"])).unwrap();
    let wanted = "40 01 01 00  40 02 08 02 03 5ba0 0005 5ba0  40 03 04 c0000201  c0 07 06 5ba0 c0000209 \
                  c0 11 0e 02 03 00011170 00000005 00013880  c0 12 08 00011170 c0000209";
    assert_eq!(frames, [update_frame(&[], &hex(wanted), &hex("08 0a"))]);
    let got = decode_update(&frames[0], &old).unwrap().attributes;
    assert_eq!((got.as_path, got.aggregator), (sent.as_path, sent.aggregator));
}

#[test]
fn a_path_that_grew_on_the_way_is_merged() {
    let old = SessionContext {
        four_octet_as: false,
        ..session()
    };
    let read = |as_path: &str, as4_path: &str| {
        let list = format!("40 01 01 00 40 03 04 c0000201 {as4_path} {as_path}");
        decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &old)
            .unwrap()
            .attributes
            .as_path
            .to_string()
    };
    let as4 = "c0 11 06 02 01 00011170";
    assert_eq!(
        read("40 02 06 02 02 0007 5ba0", as4),
        "7 70000",
        "AS4_PATH stands before AS_PATH"
    );
    assert_eq!(read("40 02 08 02 03 0007 0008 5ba0", as4), "7 8 70000");
    assert_eq!(read("40 02 00", as4), "", "a shorter AS_PATH wins");
    assert_eq!(
        read("40 02 0a 01 02 0001 0002 02 01 5ba0", as4),
        "{1 2} 70000",
        "a set is one step"
    );
    assert_eq!(
        read("40 02 06 02 02 0007 5ba0", "c0 11 03 02 01 00"),
        "7 23456",
        "a broken AS4_PATH is nothing"
    );
    let not_trans = "c0 11 06 02 01 00011170 c0 07 06 0007 c0000209 c0 12 08 00011170 c0000209";
    assert_eq!(
        read("40 02 06 02 02 0007 5ba0", not_trans),
        "7 23456",
        "AGGREGATOR says that it is stale"
    );
}

#[test]
fn long_paths_are_cut_into_segments_and_joined_again() {
    let mut sent = attributes("192.0.2.1");
    sent.as_path = AsPath::sequence((1..=600).map(Asn));
    let frames = announce(&session(), AfiSafi::Ipv4Unicast, &sent, nlri(&["10.0.0.0/8"])).unwrap();
    let got = decode_update(&frames[0], &session()).unwrap().attributes.as_path;
    assert_eq!(got, sent.as_path);
    assert_eq!(
        got.segments()
            .filter(|segment| segment.kind == SegmentKind::Sequence)
            .count(),
        1
    );
}

#[test]
fn what_does_not_fit_is_an_error_and_never_a_wrong_message() {
    let mut sent = attributes("192.0.2.1");
    sent.as_path = AsPath::sequence((1..=60_000).map(Asn));
    for context in [
        session(),
        SessionContext {
            extended_tx: true,
            ..session()
        },
    ] {
        let error = announce(&context, AfiSafi::Ipv4Unicast, &sent, nlri(&["10.0.0.0/8"])).unwrap_err();
        assert!(matches!(error, EncodeError::TooLong { max, .. } if max == context.max_send()));
    }
    sent = attributes("192.0.2.1");
    sent.communities = (0..10_000).map(Community).collect();
    assert!(announce(&session(), AfiSafi::Ipv4Unicast, &sent, nlri(&["10.0.0.0/8"])).is_err());
    let extended = SessionContext {
        extended_tx: true,
        extended_rx: true,
        ..session()
    };
    let frames = announce(&extended, AfiSafi::Ipv4Unicast, &sent, nlri(&["10.0.0.0/8"])).unwrap();
    assert_eq!(
        decode_update(&frames[0], &extended).unwrap().attributes.communities,
        sent.communities
    );
    sent.next_hop = None;
    assert_eq!(
        announce(&extended, AfiSafi::Ipv4Unicast, &sent, []),
        Err(EncodeError::NoNextHop)
    );
}

#[test]
fn prefixes_are_packed_to_the_limit() {
    let routes: Vec<Nlri> = (0..5_000_u32)
        .map(|n| {
            Prefix::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 32)
                .unwrap()
                .into()
        })
        .collect();
    for (context, wanted) in [
        (session(), 7),
        (
            SessionContext {
                extended_tx: true,
                extended_rx: true,
                ..session()
            },
            1,
        ),
    ] {
        let frames = announce(&context, AfiSafi::Ipv4Unicast, &attributes("192.0.2.1"), routes.clone()).unwrap();
        assert_eq!(frames.len(), wanted);
        assert!(frames.iter().all(|frame| frame.len() <= context.max_send()));
        let got: Vec<Nlri> = frames
            .iter()
            .flat_map(|frame| decode_update(frame, &context).unwrap().reach.remove(0).nlri)
            .collect();
        assert_eq!(got, routes);
        let frames = withdraw(&context, AfiSafi::Ipv4Unicast, routes.clone());
        assert!(frames.iter().all(|frame| frame.len() <= context.max_send()));
        let got: Vec<Nlri> = frames
            .iter()
            .flat_map(|frame| decode_update(frame, &context).unwrap().withdrawn)
            .collect();
        assert_eq!(got, routes);
    }
    assert_eq!(
        withdraw(&session(), AfiSafi::Ipv6Unicast, []),
        Vec::<bytes::Bytes>::new()
    );
}

#[test]
fn unknown_transitive_attributes_travel_and_others_do_not() {
    let list = format!("{GOOD} c0 63 03 010203  80 64 01 07  e0 62 00");
    let update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &session()).unwrap();
    let unknown = |code, partial, value: &[u8]| UnknownAttribute {
        code,
        partial,
        value: value.into(),
    };
    assert_eq!(
        *update.attributes.unknown,
        [unknown(0x62, true, &[]), unknown(0x63, false, &[1, 2, 3])]
    );
    assert_eq!(update.faults, []);
    let attributes = Attributes {
        next_hop: Some(update.reach[0].next_hop),
        ..update.attributes
    };
    let frames = announce(&session(), AfiSafi::Ipv4Unicast, &attributes, nlri(&["10.0.0.0/8"])).unwrap();
    let sent = format!("{GOOD} e0 62 00 e0 63 03 010203");
    assert_eq!(frames, [update_frame(&[], &hex(&sent), &hex("08 0a"))]);
}

#[test]
fn path_identifiers_are_read_and_written_by_agreement() {
    let families: FamilySet = AfiSafi::ALL.into_iter().collect();
    let add_path = SessionContext {
        add_path_rx: families,
        add_path_tx: families,
        ..session()
    };
    let routes: Vec<Nlri> = [0, 1, u32::MAX]
        .map(|path_id| Nlri {
            path_id,
            prefix: "10.0.0.0/8".parse().unwrap(),
        })
        .into();
    let frames = announce(
        &add_path,
        AfiSafi::Ipv4Unicast,
        &attributes("192.0.2.1"),
        routes.clone(),
    )
    .unwrap();
    assert_eq!(decode_update(&frames[0], &add_path).unwrap().reach[0].nlri, routes);
    let frames = withdraw(&add_path, AfiSafi::Ipv4Unicast, routes.clone());
    assert_eq!(decode_update(&frames[0], &add_path).unwrap().withdrawn, routes);
}

#[test]
fn one_message_may_announce_both_families() {
    let list = format!("80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 {GOOD}");
    let update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0a")), &session()).unwrap();
    let families: Vec<AfiSafi> = update.reach.iter().map(|reach| reach.family).collect();
    assert_eq!(families, [AfiSafi::Ipv6Unicast, AfiSafi::Ipv4Unicast]);
    assert_eq!(update.attributes.origin, Origin::Igp);
}

#[test]
fn one_family_may_be_in_both_places() {
    let list = format!("80 0e 0d 0001 01 04 c0000202 00 18 0a0102 {GOOD}");
    let update = decode_update(&update_frame(&[], &hex(&list), &hex("08 0b")), &session()).unwrap();
    let next_hops: Vec<_> = update
        .reach
        .iter()
        .map(|reach| reach.next_hop.addr().to_string())
        .collect();
    assert_eq!(next_hops, ["192.0.2.2", "192.0.2.1"]);
    let nets: Vec<_> = update
        .reach
        .iter()
        .flat_map(|reach| &reach.nlri)
        .map(|nlri| nlri.prefix.to_string())
        .collect();
    assert_eq!(nets, ["10.1.2.0/24", "11.0.0.0/8"]);
}
