//! OPEN, KEEPALIVE, NOTIFICATION, ROUTE-REFRESH.

use tortie_net::{Asn, RouterId};

use super::*;
use crate::packet::LongLivedFamily;

fn open_body(parameters: &str) -> Vec<u8> {
    let mut body = hex("04 fde8 00b4 0a000001");
    body.extend(hex(parameters));
    body
}

fn refused(body: &[u8]) -> (u8, u8) {
    let notification = decode(&message(1, body), &SessionContext::default()).unwrap_err();
    (notification.code, notification.subcode)
}

#[test]
fn an_open_of_bird_is_understood() {
    // What BIRD 2 offers by default: both families, refresh, graceful restart aware, AS4, enhanced refresh, LLGR aware.
    let body =
        open_body("1e 02 1c  01 04 0001 00 01  01 04 0002 00 01  02 00  40 02 0078  41 04 00010001  46 00  47 00");
    let Ok(Message::Open(open)) = decode(&message(1, &body), &SessionContext::default()) else {
        panic!()
    };
    assert_eq!(
        (open.asn, open.hold_time, open.router_id),
        (Asn(65537), 180, RouterId(0x0a00_0001))
    );
    let gr = GracefulRestart {
        restart_time: 120,
        ..GracefulRestart::default()
    };
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::GracefulRestart(gr),
            Capability::FourOctetAs(Asn(65537)),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(Vec::new()),
        ]
    );
}

#[test]
fn an_open_is_written_as_the_rfcs_have_it() {
    let open = Open {
        asn: Asn(65537),
        hold_time: 90,
        router_id: RouterId(0x0a00_0002),
        capabilities: vec![
            Capability::GracefulRestart(GracefulRestart {
                restarting: true,
                notification: true,
                restart_time: 120,
                families: vec![GracefulRestartFamily {
                    afi: 1,
                    safi: 1,
                    forwarding: true,
                }],
            }),
            Capability::FourOctetAs(Asn(65537)),
            Capability::AddPath(vec![(2, 1, AddPathMode::Both)]),
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::Role(Role::Peer),
            Capability::LongLivedGracefulRestart(vec![LongLivedFamily {
                afi: 2,
                safi: 1,
                forwarding: true,
                stale_time: 0x1_5180,
            }]),
            Capability::Hostname {
                name: "tor".into(),
                domain: Box::default(),
            },
        ],
    };
    let body = "04 5ba0 005a 0a000002 31 02 2f 40 06 c078 0001 01 80 41 04 00010001 45 04 0002 01 03 05 06 000100010002 09 01 04 47 07 0002 01 80 015180 49 05 03 746f72 00";
    assert_eq!(ControlMessage::Open(open).encode(), message(1, &hex(body)));
}

#[test]
fn many_capabilities_take_the_extended_form() {
    let open = Open {
        asn: Asn(1),
        hold_time: 90,
        router_id: RouterId(1),
        capabilities: (200..220)
            .map(|code| Capability::Unknown {
                code,
                value: vec![7; 40],
            })
            .collect(),
    };
    let frame = ControlMessage::Open(open.clone()).encode();
    assert_eq!(frame[28..33], [255, 255, 3, 0x4b, 2]);
    assert_eq!(decode(&frame, &SessionContext::default()), Ok(Message::Open(open)));
}

#[test]
fn the_extended_form_is_also_read_when_it_was_not_needed() {
    let body = open_body("ff ff 0007 02 0004 02 00 46 00");
    let Ok(Message::Open(open)) = decode(&message(1, &body), &SessionContext::default()) else {
        panic!()
    };
    assert_eq!(
        open.capabilities,
        [Capability::RouteRefresh, Capability::EnhancedRouteRefresh]
    );
}

#[test]
fn bad_opens_are_refused_with_the_right_subcode() {
    assert_eq!(refused(&hex("03 fde8 00b4 0a000001 00")), (2, 1), "version 3");
    assert_eq!(refused(&hex("04 0000 00b4 0a000001 00")), (2, 2), "AS 0");
    assert_eq!(
        refused(&open_body("08 02 06 41 04 00000000")),
        (2, 2),
        "AS 0 in four octets"
    );
    assert_eq!(refused(&hex("04 fde8 00b4 00000000 00")), (2, 3), "identifier 0");
    assert_eq!(refused(&open_body("03 01 01 00")), (2, 4), "authentication parameter");
    assert_eq!(refused(&hex("04 fde8 0001 0a000001 00")), (2, 6), "hold time 1");
    assert_eq!(refused(&hex("04 fde8 0002 0a000001 00")), (2, 6), "hold time 2");
    assert_eq!(refused(&open_body("01")), (2, 0), "length without parameters");
    assert_eq!(refused(&open_body("00 02")), (2, 0), "octets behind the parameters");
    assert_eq!(
        refused(&open_body("04 02 02 02 01")),
        (2, 0),
        "capability beyond its parameter"
    );
    assert_eq!(
        refused(&open_body("ff")),
        (2, 0),
        "ends at the option length (CVE-2022-43681)"
    );
    assert_eq!(
        refused(&open_body("ff ff 00")),
        (2, 0),
        "extended, length cut (CVE-2022-40302)"
    );
    assert_eq!(
        refused(&open_body("ff ff 0003 02 00")),
        (2, 0),
        "extended, parameter cut"
    );
    assert_eq!(
        decode(&message(1, &[4; 9]), &SessionContext::default())
            .unwrap_err()
            .subcode,
        2,
        "too short"
    );
}

#[test]
fn every_truncation_of_an_open_is_an_error_and_no_more() {
    let full = open_body("18 02 16 01 04 0001 00 01 40 06 4078 0002 01 80 41 04 00010001 02 00");
    assert!(decode(&message(1, &full), &SessionContext::default()).is_ok());
    for length in 0..full.len() {
        assert!(
            decode(&message(1, &full[..length]), &SessionContext::default()).is_err(),
            "{length}"
        );
    }
}

#[test]
fn capabilities_of_an_unexpected_shape_are_unknown_ones() {
    for value in [
        "01 03 000100",
        "40 01 00",
        "40 03 0078 00",
        "41 03 000001",
        "45 03 000101",
        "05 05 0001000100",
        "09 01 09",
        "02 01 00",
    ] {
        let value = hex(value);
        let mut body = open_body("");
        body.extend([
            u8::try_from(value.len() + 2).unwrap(),
            2,
            u8::try_from(value.len()).unwrap(),
        ]);
        body.extend(&value);
        let Ok(Message::Open(open)) = decode(&message(1, &body), &SessionContext::default()) else {
            panic!("{value:?}")
        };
        assert_eq!(
            open.capabilities,
            [Capability::Unknown {
                code: value[0],
                value: value[2..].to_vec()
            }]
        );
    }
}

#[test]
fn headers_are_checked() {
    let bad = |frame: &[u8]| {
        let notification = decode(frame, &SessionContext::default()).unwrap_err();
        let framed = frame_length(frame, &SessionContext::default());
        (notification.code, notification.subcode, framed.is_err())
    };
    let mut keepalive = message(4, &[]);
    assert_eq!(decode(&keepalive, &SessionContext::default()), Ok(Message::Keepalive));
    keepalive[3] = 0;
    assert_eq!(bad(&keepalive), (1, 1, true), "marker");
    for length in [0_u16, 18, 4_097, 65_535] {
        let mut frame = message(4, &[]);
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        assert_eq!(bad(&frame), (1, 2, true), "length {length}");
    }
    assert_eq!(bad(&message(4, &[0])), (1, 2, false), "KEEPALIVE with a body");
    assert_eq!(bad(&message(2, &[0; 3])), (1, 2, false), "UPDATE too short");
    assert_eq!(bad(&message(3, &[6])), (1, 2, false), "NOTIFICATION too short");
    assert_eq!(bad(&message(9, &[])), (1, 3, false), "unknown type");
    assert_eq!(bad(&[0xff; 18]), (1, 2, false), "no header");
}

#[test]
fn extended_messages_are_allowed_by_agreement_only() {
    let long = message(3, &vec![6; 5_000]);
    assert_eq!(decode(&long, &session()).unwrap_err().subcode, 2);
    let extended = SessionContext {
        extended_rx: true,
        ..session()
    };
    assert!(matches!(decode(&long, &extended), Ok(Message::Notification(_))));
    assert_eq!(frame_length(&long, &extended), Ok(Some(5_019)));
    let open = message(1, &vec![4; 5_000]);
    assert_eq!(decode(&open, &extended).unwrap_err().subcode, 2, "an OPEN never");
}

#[test]
fn framing_waits_for_the_header() {
    let frame = message(4, &[]);
    for length in 0..19 {
        assert_eq!(frame_length(&frame[..length], &session()), Ok(None));
    }
    assert_eq!(frame_length(&frame, &session()), Ok(Some(19)));
}

#[test]
fn notifications_keep_their_data_and_print_safely() {
    for length in [0_u8, 1, 128, 129, 255] {
        let mut data = vec![length];
        data.resize(usize::from(length) + 1, b'x');
        let sent = Notification::new(ErrorCode::Cease, 2).with_data(data);
        let frame = ControlMessage::Notification(sent.clone()).encode();
        let Ok(Message::Notification(got)) = decode(&frame, &session()) else {
            panic!()
        };
        assert_eq!(got, sent);
        assert_eq!(
            got.communication().map(|text| text.len()),
            Some(usize::from(length)).filter(|&l| l > 0)
        );
    }
    let text = Notification::new(ErrorCode::Cease, 2).with_data(vec![3, b'a', b'\n', 0x1b]);
    assert_eq!(text.to_string(), "Administrative shutdown: \"a\\n\\u{1b}\"");
    let cut = Notification::new(ErrorCode::Cease, 2).with_data(vec![200, b'a']);
    assert_eq!(cut.to_string(), "Administrative shutdown");
    let no_text = Notification::new(ErrorCode::Cease, 4).with_data(vec![3, b'a', 0xff, 0xfe]);
    assert_eq!(no_text.to_string(), "Administrative reset", "no UTF-8");
    let long = Notification::cease(Cease::AdministrativeShutdown, &"ä".repeat(200));
    assert_eq!(long.data.len(), 255, "254 octets of text: a character is not cut");
    let huge = Notification::new(ErrorCode::Update, 1).with_data(vec![0; 70_000]);
    assert_eq!(ControlMessage::Notification(huge).encode().len(), 4_096);
    assert_eq!(
        Notification {
            code: 200,
            subcode: 9,
            data: bytes::Bytes::new()
        }
        .reason(),
        "Unknown error"
    );
    assert_eq!(Notification::new(ErrorCode::Cease, 250).reason(), "Cease");
}

#[test]
fn a_hard_reset_says_what_it_carries() {
    let shutdown = Notification::cease(Cease::AdministrativeShutdown, "cat nap");
    let hard = shutdown.clone().hard_reset();
    assert_eq!(hard.enclosed(), Some(shutdown));
    assert_eq!(hard.to_string(), "Hard reset: Administrative shutdown: \"cat nap\"");
    let twice = hard.hard_reset();
    assert_eq!((twice.enclosed(), &*twice.to_string()), (None, "Hard reset"));
    let bare = Notification::cease(Cease::HardReset, "");
    for data in [&[][..], &[6]] {
        let short = bare.clone().with_data(data.to_vec());
        assert_eq!((short.enclosed(), &*short.to_string()), (None, "Hard reset"));
    }
}

#[test]
fn refreshes_are_read_or_ignored() {
    let refresh = |body: &str| decode(&message(5, &hex(body)), &session());
    let family = AfiSafi::Ipv6Unicast;
    for (subtype, kind) in [
        (0, RefreshKind::Request),
        (1, RefreshKind::Begin),
        (2, RefreshKind::End),
    ] {
        let wanted = RouteRefresh { family, kind };
        assert_eq!(
            refresh(&format!("0002 {subtype:02x} 01")),
            Ok(Message::RouteRefresh(Some(wanted)))
        );
        let frame = ControlMessage::RouteRefresh(wanted).encode();
        assert_eq!(frame, message(5, &hex(&format!("0002 {subtype:02x} 01"))));
    }
    assert_eq!(
        refresh("0002 03 01"),
        Ok(Message::RouteRefresh(None)),
        "unknown subtype"
    );
    assert_eq!(refresh("0019 00 41"), Ok(Message::RouteRefresh(None)), "unknown family");
    assert!(
        matches!(refresh("0001 00 01 01 80 ffff"), Ok(Message::RouteRefresh(Some(_)))),
        "with filters"
    );
    let error = refresh("0001 01 01 00").unwrap_err();
    assert_eq!((error.code, error.subcode), (7, 1));
}
