//! Octets checked by hand, and a reader written from the RFC that must see what was meant.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::packet::{Cease, ControlMessage, Notification};

const BOOT: Duration = Duration::from_secs(0x6000_0000);

fn octets(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(BOOT, &mut out);
    out
}

/// Octets from hexadecimal, spaces left out.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn peer4() -> Peer {
    Peer {
        address: [192, 0, 2, 1].into(),
        asn: Asn(65_010),
        router_id: RouterId(0x0a00_0001),
    }
}

fn peer6() -> Peer {
    Peer {
        address: "2001:db8::1".parse().unwrap(),
        asn: Asn(4_200_000_001),
        ..peer4()
    }
}

/// The per-peer header of [`peer4`] at second 5 and 250 ms.
const PEER4: &str = "00 00 0000000000000000 000000000000000000000000c0000201 0000fdf2 0a000001 60000005 0003d090";
const PEER6: &str = "00 80 0000000000000000 20010db8000000000000000000000001 fa56ea01 0a000001 60000005 0003d090";
const AT: Duration = Duration::from_millis(5250);

#[test]
fn initiation_and_termination() {
    let hello = Message::Initiation {
        description: "tortie".to_owned(),
        name: "n1".to_owned(),
    };
    let wanted = "03 00000016 04  0001 0006 746f72746965  0002 0002 6e31";
    assert_eq!(octets(&hello), hex(wanted));
    assert_eq!(octets(&Message::Termination), hex("03 0000000c 05  0001 0002 0000"));
}

#[test]
fn routes_name_their_peer_and_table() {
    let update = Bytes::from_static(&[0xee; 3]);
    for (peer, header) in [(peer4(), PEER4), (peer6(), PEER6)] {
        for policy in [Policy::Pre, Policy::Post] {
            let message = Message::Route {
                peer,
                at: AT,
                policy,
                update: update.clone(),
            };
            let mut wanted = hex(&format!("03 00000033 00 {header} eeeeee"));
            if policy == Policy::Post {
                wanted[7] |= 0x40;
            }
            assert_eq!(octets(&message), wanted, "{peer:?} {policy:?}");
            assert_eq!(message.is_for(true, false), policy == Policy::Pre);
            assert_eq!(message.is_for(false, true), policy == Policy::Post);
        }
    }
}

#[test]
fn peers_come_with_both_opens() {
    let message = |peer: Peer, local: &str| Message::PeerUp {
        peer,
        at: AT,
        local: local.parse().unwrap(),
        remote_port: 179,
        sent: Bytes::from_static(&[0xaa, 0xaa]),
        received: Bytes::from_static(&[0xbb]),
    };
    let wanted = format!("03 00000047 03 {PEER4} 000000000000000000000000c0000202 c350 00b3 aaaa bb");
    assert_eq!(octets(&message(peer4(), "192.0.2.2:50000")), hex(&wanted));
    let wanted = format!("03 00000047 03 {PEER6} 20010db8000000000000000000000002 c350 00b3 aaaa bb");
    assert_eq!(octets(&message(peer6(), "[2001:db8::2]:50000")), hex(&wanted));
}

#[test]
fn peers_go_for_a_reason() {
    let cease = Notification::cease(Cease::AdministrativeShutdown, "bye");
    let cease = ControlMessage::Notification(cease).encode();
    let wire = "ffffffffffffffffffffffffffffffff 0019 03 06 02 03 627965";
    assert_eq!(cease, hex(wire));
    for (reason, length, wanted) in [
        (
            DownReason::LocalNotification(cease.clone()),
            "0000004a",
            format!("01 {wire}"),
        ),
        (DownReason::LocalSilent(2), "00000033", "02 0002".to_owned()),
        (DownReason::RemoteNotification(cease), "0000004a", format!("03 {wire}")),
        (DownReason::RemoteSilent, "00000031", "04".to_owned()),
    ] {
        let message = Message::PeerDown {
            peer: peer4(),
            at: AT,
            reason,
        };
        assert_eq!(octets(&message), hex(&format!("03 {length} 02 {PEER4} {wanted}")));
    }
}

#[test]
fn statistics_are_gauges() {
    let gauges = vec![
        Gauge::AdjRibIn(258),
        Gauge::LocRib(1),
        Gauge::AdjRibInOf(AfiSafi::Ipv4Unicast, 2),
        Gauge::LocRibOf(AfiSafi::Ipv6Unicast, 3),
    ];
    let message = Message::Statistics {
        peer: peer4(),
        at: AT,
        gauges,
    };
    let wanted = format!(
        "03 0000006a 01 {PEER4} 00000004
         0007 0008 0000000000000102
         0008 0008 0000000000000001
         0009 000b 0001 01 0000000000000002
         000a 000b 0002 01 0000000000000003"
    );
    assert_eq!(octets(&message), hex(&wanted));
}

// === a reader ===

/// What a station makes of a message: its type, and its fields as text.
fn read(octets: &[u8]) -> (u8, Vec<String>) {
    let mut rest = octets;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at(count);
        rest = tail;
        head.to_vec()
    };
    let number = |octets: &[u8]| octets.iter().fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
    assert_eq!(take(1), [3]);
    assert_eq!(number(&take(4)), octets.len() as u64);
    let kind = take(1)[0];
    let mut fields = Vec::new();
    if kind < 4 {
        assert_eq!(take(1), [0], "a global instance peer");
        let flags = take(1)[0];
        assert_eq!(flags & 0x3f, 0, "no other flag");
        assert_eq!(take(8), [0; 8]);
        let address = address_of(&take(16), flags & 0x80 != 0);
        let (asn, id) = (number(&take(4)), number(&take(4)));
        let time = Duration::new(number(&take(4)), u32::try_from(number(&take(4))).unwrap() * 1000);
        fields.push(format!("{address} {asn} {id:x} {time:?} post {}", flags & 0x40 != 0));
        if kind == 3 {
            let local = take(16);
            let local = address_of(&local, flags & 0x80 != 0);
            fields.push(format!("{local} {} {}", number(&take(2)), number(&take(2))));
        }
    }
    match kind {
        0 | 3 => fields.push(format!("{rest:x?}")),
        1 => {
            let count = number(&take(4));
            for _ in 0..count {
                let (code, length) = (number(&take(2)), number(&take(2)));
                let family = if length == 11 {
                    format!("{:x?} ", take(3))
                } else {
                    String::new()
                };
                fields.push(format!("{code}: {family}{}", number(&take(8))));
            }
            assert!(rest.is_empty());
        }
        2 => {
            fields.push(take(1)[0].to_string());
            fields.push(format!("{rest:x?}"));
        }
        4 | 5 => {
            while !rest.is_empty() {
                let (code, length) = (number(&rest[..2]), usize::try_from(number(&rest[2..4])).unwrap());
                let (value, tail) = rest[4..].split_at(length);
                fields.push(format!("{code}: {value:x?}"));
                rest = tail;
            }
        }
        _ => panic!("type {kind}"),
    }
    (kind, fields)
}

fn address_of(octets: &[u8], v6: bool) -> IpAddr {
    let octets: [u8; 16] = octets.try_into().unwrap();
    if v6 {
        return Ipv6Addr::from(octets).into();
    }
    assert_eq!(octets[..12], [0; 12]);
    <[u8; 4]>::try_from(&octets[12..]).unwrap().into()
}

/// What a station must make of it.
fn meant(message: &Message) -> (u8, Vec<String>) {
    let of = |peer: &Peer, at: Duration, post: bool| {
        let time = BOOT + at;
        let time = Duration::new(time.as_secs(), time.subsec_micros() * 1000);
        let Peer {
            address,
            asn,
            router_id,
        } = peer;
        format!("{address} {} {:x} {time:?} post {post}", asn.0, router_id.0)
    };
    let bytes = |bytes: &[u8]| format!("{bytes:x?}");
    match message {
        Message::Route {
            peer,
            at,
            policy,
            update,
        } => (0, vec![of(peer, *at, *policy == Policy::Post), bytes(update)]),
        Message::Statistics { peer, at, gauges } => {
            let family = |family: AfiSafi| {
                let (afi, safi) = family.codes();
                format!("{:x?}", [afi.to_be_bytes()[0], afi.to_be_bytes()[1], safi])
            };
            let shown = gauges.iter().map(|gauge| match gauge {
                Gauge::AdjRibIn(value) => format!("7: {value}"),
                Gauge::LocRib(value) => format!("8: {value}"),
                Gauge::AdjRibInOf(of, value) => format!("9: {} {value}", family(*of)),
                Gauge::LocRibOf(of, value) => format!("10: {} {value}", family(*of)),
            });
            (1, std::iter::once(of(peer, *at, false)).chain(shown).collect())
        }
        Message::PeerDown { peer, at, reason } => {
            let (code, data) = match reason {
                DownReason::LocalNotification(data) => ("1", bytes(data)),
                DownReason::LocalSilent(event) => ("2", bytes(&event.to_be_bytes())),
                DownReason::RemoteNotification(data) => ("3", bytes(data)),
                DownReason::RemoteSilent => ("4", bytes(&[])),
            };
            (2, vec![of(peer, *at, false), code.to_owned(), data])
        }
        Message::PeerUp {
            peer,
            at,
            local,
            remote_port,
            sent,
            received,
        } => {
            let ends = format!("{} {} {remote_port}", local.ip(), local.port());
            (
                3,
                vec![of(peer, *at, false), ends, bytes(&[&sent[..], received].concat())],
            )
        }
        Message::Initiation { description, name } => {
            let tlv = |code: u8, text: &str| format!("{code}: {}", bytes(text.as_bytes()));
            (4, vec![tlv(1, description), tlv(2, name)])
        }
        Message::Termination => (5, vec!["1: [0, 0]".to_owned()]),
    }
}

fn any_peer() -> impl Strategy<Value = Peer> {
    (any::<IpAddr>(), any::<u32>(), any::<u32>()).prop_map(|(address, asn, id)| Peer {
        address,
        asn: Asn(asn),
        router_id: RouterId(id),
    })
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_gauge() -> impl Strategy<Value = Gauge> {
    let family = prop_oneof![Just(AfiSafi::Ipv4Unicast), Just(AfiSafi::Ipv6Unicast)];
    (0..4, family, any::<u64>()).prop_map(|(kind, family, value)| match kind {
        0 => Gauge::AdjRibIn(value),
        1 => Gauge::LocRib(value),
        2 => Gauge::AdjRibInOf(family, value),
        _ => Gauge::LocRibOf(family, value),
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let at = (0..1_000_000_u64).prop_map(|ms| Duration::from_micros(ms * 1001));
    let reason = prop_oneof![
        any_bytes().prop_map(DownReason::LocalNotification),
        any::<u16>().prop_map(DownReason::LocalSilent),
        any_bytes().prop_map(DownReason::RemoteNotification),
        Just(DownReason::RemoteSilent),
    ];
    let policy = prop_oneof![Just(Policy::Pre), Just(Policy::Post)];
    let up = (any_peer(), at.clone(), any::<[u16; 2]>(), any_bytes(), any_bytes());
    prop_oneof![
        ("[a-zé ]{0,40}", "[a-z]{0,9}").prop_map(|(description, name)| Message::Initiation { description, name }),
        Just(Message::Termination),
        // Both ends of a connection are of one family.
        up.prop_map(|(peer, at, [port, remote_port], sent, received)| Message::PeerUp {
            local: SocketAddr::new(peer.address, port),
            peer,
            at,
            remote_port,
            sent,
            received,
        }),
        (any_peer(), at.clone(), reason).prop_map(|(peer, at, reason)| Message::PeerDown { peer, at, reason }),
        (any_peer(), at.clone(), policy, any_bytes()).prop_map(|(peer, at, policy, update)| Message::Route {
            peer,
            at,
            policy,
            update,
        }),
        (any_peer(), at, proptest::collection::vec(any_gauge(), 0..6))
            .prop_map(|(peer, at, gauges)| Message::Statistics { peer, at, gauges }),
    ]
}

proptest! {
    #[test]
    fn a_station_reads_what_was_meant(messages in proptest::collection::vec(any_message(), 1..4)) {
        let mut stream = Vec::new();
        let mut ends = vec![0];
        for message in &messages {
            message.encode(BOOT, &mut stream);
            ends.push(stream.len());
        }
        for (message, end) in messages.iter().zip(ends.windows(2)) {
            prop_assert_eq!(read(&stream[end[0]..end[1]]), meant(message));
        }
    }
}
