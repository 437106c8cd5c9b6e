use proptest::prelude::*;
use tortie_net::Community;

use super::*;
use crate::attr::{AsPath, NextHop, Origin};
use crate::packet::tests::attributes;

fn index() -> PeerIndex {
    PeerIndex {
        collector: RouterId(0x0a00_0001),
        view: "master4".to_owned(),
        peers: vec![
            Peer::LOCAL,
            Peer {
                router_id: RouterId(0x0a00_0002),
                address: "fd00::2".parse().unwrap(),
                asn: Asn(4_200_000_001),
            },
        ],
    }
}

fn written(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    encode(0x6000_0000, record, &mut out).unwrap();
    out
}

#[test]
fn a_peer_index_has_the_octets_of_the_rfc() {
    let octets = written(&Record::PeerIndex(index()));
    let mut expected = vec![0x60, 0, 0, 0, 0, 13, 0, 1, 0, 0, 0, 53];
    expected.extend([10, 0, 0, 1, 0, 7]);
    expected.extend(b"master4");
    expected.extend([0, 2]);
    expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([3, 10, 0, 0, 2, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend(4_200_000_001_u32.to_be_bytes());
    assert_eq!(octets, expected);
    let read = decode(&octets).unwrap().unwrap();
    assert_eq!(read, (0x6000_0000, Record::PeerIndex(index()), octets.len()));
}

/// Section 4.3.4: of MP_REACH_NLRI there is only the next hop's length and the next hop.
#[test]
fn an_ipv6_next_hop_is_abbreviated() {
    let rib = Rib {
        sequence: 7,
        prefix: "2001:db8::/33".parse().unwrap(),
        add_path: false,
        entries: vec![RibEntry {
            peer: 1,
            originated: 9,
            path_id: 0,
            attributes: Attributes {
                origin: Origin::Igp,
                as_path: AsPath::sequence([Asn(64512)]),
                next_hop: Some(NextHop::V6 {
                    global: "fd00::2".parse().unwrap(),
                    link_local: None,
                }),
                ..Attributes::default()
            },
        }],
    };
    let octets = written(&Record::Rib(rib.clone()));
    let mut expected = vec![0x60, 0, 0, 0, 0, 13, 0, 4, 0, 0, 0, 53];
    expected.extend([0, 0, 0, 7, 33, 0x20, 1, 0x0d, 0xb8, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 33]);
    expected.extend([0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0]);
    expected.extend([0x80, 14, 17, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(octets, expected);
    assert_eq!(decode(&octets).unwrap().unwrap().1, Record::Rib(rib));
}

#[test]
fn a_record_that_is_not_all_there_is_waited_for() {
    let octets = written(&Record::PeerIndex(index()));
    for cut in 0..octets.len() {
        assert_eq!(decode(&octets[..cut]), Ok(None), "{cut}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let mut octets = written(&Record::PeerIndex(index()));
    octets[11] -= 1;
    assert_eq!(decode(&octets), Err(DecodeError::Malformed { subtype: 1 }));
    octets[8] = 0xff;
    assert_eq!(decode(&octets), Err(DecodeError::TooLong(0xff00_0034)));
    octets[5] = 16;
    assert_eq!(decode(&octets), Err(DecodeError::Unknown { kind: 16, subtype: 1 }));
}

#[test]
fn attributes_beyond_the_length_field_are_refused() {
    let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
    let attributes = Attributes {
        communities: (0..20_000).map(Community).collect(),
        ..Attributes::default()
    };
    let entry = RibEntry {
        peer: 0,
        originated: 0,
        path_id: 0,
        attributes,
    };
    let rib = Rib {
        sequence: 0,
        prefix,
        add_path: false,
        entries: vec![entry],
    };
    let mut out = vec![1];
    assert_eq!(
        encode(0, &Record::Rib(rib), &mut out),
        Err(EncodeError::Attributes(prefix))
    );
    assert_eq!(out, [1], "nothing was appended");
}

fn next_hop() -> impl Strategy<Value = Option<NextHop>> {
    let v6 = (any::<u128>(), any::<Option<u128>>()).prop_map(|(global, link_local)| NextHop::V6 {
        global: Ipv6Addr::from_bits(global),
        link_local: link_local.map(Ipv6Addr::from_bits),
    });
    let v4 = any::<u32>().prop_map(|bits| NextHop::V4(Ipv4Addr::from_bits(bits)));
    prop::option::of(prop_oneof![v4, v6])
}

fn rib() -> impl Strategy<Value = Rib> {
    let entry = (any::<u16>(), any::<u32>(), any::<u32>(), attributes(), next_hop());
    let entry = entry.prop_map(|(peer, originated, path_id, attributes, next_hop)| RibEntry {
        peer,
        originated,
        path_id,
        attributes: Attributes { next_hop, ..attributes },
    });
    let prefix = (any::<u128>(), 0..=128_u8, any::<bool>()).prop_map(|(bits, length, v4)| {
        if v4 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(bits as u32));
            Prefix::new(address, length % 33).unwrap()
        } else {
            Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).unwrap()
        }
    });
    let entries = prop::collection::vec(entry, 0..5);
    (any::<u32>(), prefix, any::<bool>(), entries).prop_map(|(sequence, prefix, add_path, mut entries)| {
        if !add_path {
            entries.iter_mut().for_each(|entry| entry.path_id = 0);
        }
        Rib {
            sequence,
            prefix,
            add_path,
            entries,
        }
    })
}

proptest! {
    #[test]
    fn a_dump_is_read_back(rib in rib(), time in any::<u32>()) {
        let mut out = Vec::new();
        encode(time, &Record::Rib(rib.clone()), &mut out).unwrap();
        let length = out.len();
        out.extend([1, 2, 3]);
        prop_assert_eq!(decode(&out), Ok(Some((time, Record::Rib(rib), length))));
    }

    #[test]
    fn nothing_that_is_read_panics(mut octets in prop::collection::vec(any::<u8>(), 0..200), subtype in 1..12_u8) {
        if let [_, _, _, _, kind_high, kind, subtype_high, low, l0, l1, l2, l3, rest @ ..] = &mut octets[..] {
            (*kind_high, *kind, *subtype_high, *low) = (0, 13, 0, subtype);
            (*l0, *l1, *l2, *l3) = (0, 0, 0, u8::try_from(rest.len()).unwrap());
        }
        let _ = decode(&octets);
    }

    /// Damage to a sound record: it is read as something or refused, and never taken for one of another length.
    #[test]
    fn nothing_that_is_damaged_panics(rib in rib(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut out = written(&Record::Rib(rib));
        let (at, length) = (at.index(out.len()), out.len());
        out[at] = octet;
        if let Ok(Some((_, _, octets))) = decode(&out) {
            prop_assert!(octets <= length);
        }
    }
}
