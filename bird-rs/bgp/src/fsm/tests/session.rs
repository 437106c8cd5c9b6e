//! Sessions come up, stay up, and end for the right reason.

use super::*;
use crate::packet::{Capability, Cease, ErrorCode, RefreshKind, Role, RouteRefresh, Update};

#[test]
fn a_session_comes_up_and_stays() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.run_until(secs(10));
    assert!(pair.established(), "{:?}", pair.seen);
    pair.run_until(secs(3_600));
    assert!(pair.established());
    assert!(
        pair.seen
            .iter()
            .all(|seen| seen.ups.len() == 1 && seen.downs.is_empty())
    );
    let up = &pair.seen[0].ups[0];
    assert_eq!((up.peer_as, up.peer_id), (Asn(2), RouterId(2)));
    assert!(up.context.ebgp && up.context.four_octet_as && up.route_refresh);
    assert_eq!(up.context.families, both_families());
    assert_eq!((up.hold_time, up.keepalive_time), (secs(240), secs(80)));
}

#[test]
fn the_smaller_hold_time_wins_and_keepalives_shrink_with_it() {
    let (mut a, mut b) = (config(1, 2, 1), config(2, 1, 2));
    a.hold_time = secs(90);
    a.keepalive_time = Some(secs(30));
    b.hold_time = secs(9);
    let mut pair = Pair::new(a, b);
    pair.run_until(secs(100));
    assert!(pair.established());
    let [a, b] = [&pair.seen[0].ups[0], &pair.seen[1].ups[0]];
    assert_eq!((a.hold_time, a.keepalive_time), (secs(9), secs(3)));
    assert_eq!((b.hold_time, b.keepalive_time), (secs(9), secs(3)));
}

#[test]
fn a_hold_time_of_zero_means_no_timers() {
    let (mut a, b) = (config(1, 2, 1), config(2, 1, 2));
    a.hold_time = Duration::ZERO;
    let mut pair = Pair::new(a, b);
    pair.run_until(secs(100));
    assert!(pair.established());
    assert_eq!(pair.peers.iter().filter_map(Peer::next_deadline).count(), 0);
}

#[test]
fn a_silent_peer_is_dropped_after_the_hold_time() {
    let mut solo = Solo::new(config(1, 2, 1));
    solo.establish(0, &config(2, 1, 2));
    solo.now = secs(239);
    assert!(notifications(&solo.event(Event::Tick)).is_empty());
    solo.now = secs(241);
    let actions = solo.event(Event::Tick);
    assert_eq!(notifications(&actions), [&Notification::new(ErrorCode::HoldTimer, 0)]);
    assert_eq!(solo.peer.state(), State::Idle);
    assert_eq!(solo.peer.last_error(), Some("Hold timer expired"));
}

type Change = Box<dyn Fn(&mut PeerConfig)>;

#[test]
fn refused_opens_say_why() {
    let theirs = config(2, 1, 2);
    let cases: [(&str, Change, (u8, u8)); 5] = [
        ("another AS", Box::new(|c| c.local_as = Asn(3)), (2, 2)),
        (
            "no family in common",
            Box::new(|c| c.families = FamilySet::from_iter([AfiSafi::Ipv4Unicast])),
            (2, 7),
        ),
        (
            "a role that does not match",
            Box::new(|c| c.role = Some(Role::Customer)),
            (2, 11),
        ),
        ("no role although one is required", Box::new(|_| ()), (2, 11)),
        (
            "a hold time that is too small",
            Box::new(|c| c.hold_time = secs(3)),
            (2, 6),
        ),
    ];
    for (what, change, (code, subcode)) in cases {
        let mut ours = config(1, 2, 1);
        match subcode {
            7 => ours.families = FamilySet::from_iter([AfiSafi::Ipv6Unicast]),
            11 => (ours.role, ours.require_role) = (Some(Role::Customer), true),
            6 => ours.min_hold_time = secs(10),
            _ => {}
        }
        let mut wrong = theirs.clone();
        change(&mut wrong);
        let mut solo = Solo::new(ours);
        let (conn, _) = solo.accept(0);
        let actions = solo.message(conn, Message::Open(open_of(&wrong)));
        let sent: Vec<_> = notifications(&actions).iter().map(|n| (n.code, n.subcode)).collect();
        assert_eq!(sent, [(code, subcode)], "{what}");
        assert!(actions.contains(&Action::Close { conn }), "{what}");
    }
}

#[test]
fn an_internal_peer_must_not_have_our_identifier_an_external_one_may() {
    let mut solo = Solo::new(config(1, 1, 9));
    let (conn, _) = solo.accept(0);
    let actions = solo.message(conn, Message::Open(open_of(&config(1, 1, 9))));
    assert_eq!(notifications(&actions), [&Notification::new(ErrorCode::Open, 3)]);
    let mut solo = Solo::new(config(1, 2, 9));
    solo.establish(0, &config(2, 1, 9));
}

#[test]
fn messages_out_of_place_end_the_connection() {
    let refresh = RouteRefresh {
        family: AfiSafi::Ipv4Unicast,
        kind: RefreshKind::Request,
    };
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let mut solo = Solo::new(config(1, 2, 1));
        let open = Message::Open(open_of(&config(2, 1, 2)));
        let (subcode, actions) = match state {
            State::OpenSent => {
                let (conn, _) = solo.accept(0);
                (1, solo.message(conn, Message::Keepalive))
            }
            State::OpenConfirm => {
                let (conn, _) = solo.accept(0);
                solo.message(conn, open);
                (2, solo.message(conn, Message::RouteRefresh(Some(refresh))))
            }
            _ => {
                let conn = solo.establish(0, &config(2, 1, 2));
                (3, solo.message(conn, open))
            }
        };
        assert_eq!(notifications(&actions), [&Notification::new(ErrorCode::Fsm, subcode)]);
    }
}

#[test]
fn refreshes_are_passed_on_only_when_agreed() {
    let refresh = |family, kind| Message::RouteRefresh(Some(RouteRefresh { family, kind }));
    let mut theirs = config(2, 1, 2);
    theirs.enhanced_route_refresh = false;
    theirs.families = FamilySet::from_iter([AfiSafi::Ipv4Unicast]);
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &theirs);
    let passed = solo.message(conn, refresh(AfiSafi::Ipv4Unicast, RefreshKind::Request));
    assert!(matches!(passed[..], [Action::Refresh(_)]));
    assert_eq!(
        solo.message(conn, refresh(AfiSafi::Ipv4Unicast, RefreshKind::Begin)),
        []
    );
    assert_eq!(
        solo.message(conn, refresh(AfiSafi::Ipv6Unicast, RefreshKind::Request)),
        []
    );
    assert_eq!(solo.message(conn, Message::RouteRefresh(None)), []);
}

#[test]
fn back_off_grows_over_sessions_that_live_for_a_moment() {
    let mut solo = Solo::new(config(1, 2, 1));
    let mut waits = Vec::new();
    for round in 0..5 {
        let conn = solo.establish(round, &config(2, 1, 2));
        let error = Notification::new(ErrorCode::Update, 1);
        solo.event(Event::Message {
            conn,
            message: Err(error),
        });
        assert_eq!(solo.peer.state(), State::Idle);
        let (conn, refused) = solo.accept(100 + round);
        assert!(
            notifications(&refused)[0].is_cease(Cease::ConnectionRejected),
            "not before the wait is over"
        );
        assert!(refused.contains(&Action::Close { conn }));
        let until = solo.peer.idle_until.unwrap();
        waits.push((until - solo.now).as_secs());
        solo.now = until;
        solo.event(Event::Tick);
    }
    let max = [5, 10, 20, 30, 30];
    for (wait, max) in waits.iter().zip(max) {
        assert!((max * 3 / 4..=max).contains(wait), "{waits:?}");
    }
    let conn = solo.establish(9, &config(2, 1, 2));
    solo.now += secs(3_600);
    solo.event(Event::Message {
        conn,
        message: Err(Notification::new(ErrorCode::Update, 1)),
    });
    assert!(
        solo.peer.idle_until.unwrap() - solo.now <= secs(5),
        "forgotten after an hour"
    );
}

#[test]
fn a_passive_peer_only_accepts() {
    let mut passive = config(1, 2, 1);
    passive.passive = true;
    let mut solo = Solo::new(passive.clone());
    solo.now = secs(1_000);
    assert!(
        !solo
            .event(Event::Tick)
            .iter()
            .any(|action| matches!(action, Action::Connect { .. }))
    );
    assert_eq!((solo.peer.state(), solo.peer.next_deadline()), (State::Active, None));
    let mut pair = Pair::new(passive, config(2, 1, 2));
    pair.run_until(secs(10));
    assert!(pair.established());
}

#[test]
fn connecting_is_tried_again_and_again() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.partitioned = true;
    pair.run_until(secs(60));
    assert_eq!(pair.peers[0].state(), State::Active);
    assert_eq!(pair.peers[0].last_connect_failure(), Some("no route to host"));
    pair.partitioned = false;
    pair.run_until(secs(70));
    assert!(pair.established());
}

#[test]
fn a_connect_that_hangs_is_given_up() {
    let mut solo = Solo::new(config(1, 2, 1));
    solo.now = secs(2);
    let first = solo.event(Event::Tick);
    let Some(Action::Connect { conn }) = first.first() else {
        panic!("{first:?}")
    };
    solo.now = secs(10);
    let second = solo.event(Event::Tick);
    assert_eq!(second[0], Action::Close { conn: *conn });
    assert!(matches!(second[1], Action::Connect { conn: other } if other != *conn));
    let late = Event::Connected {
        conn: *conn,
        local: addr("10.0.0.1:1"),
        remote: addr("10.0.0.2:179"),
    };
    assert_eq!(solo.event(late), [], "the one given up does not count any more");
}

#[test]
fn an_administrative_stop_tells_the_peer_and_stays_down() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.run_until(secs(10));
    pair.event(0, Event::Stop(StopReason::AdministrativeShutdown("bye\n".to_owned())));
    pair.run_until(secs(11));
    let (reason, retain) = &pair.seen[1].downs[0];
    assert!(
        matches!(reason, DownReason::Received(n) if n.is_cease(Cease::HardReset)),
        "{reason:?}"
    );
    assert!(retain.is_empty());
    pair.run_until(secs(300));
    assert_eq!(pair.peers[0].state(), State::Idle);
    assert_eq!(pair.seen[0].ups.len(), 1);
    pair.event(0, Event::Start);
    pair.run_until(secs(320));
    assert!(pair.established());
}

#[test]
fn a_peer_that_takes_nothing_is_dropped() {
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &config(2, 1, 2));
    for minute in 0..20 {
        solo.now = secs(60 * minute);
        solo.event(Event::Blocked { conn });
        let message = Message::Update(Box::<Update>::default());
        solo.message(conn, message);
        let actions = solo.event(Event::Tick);
        if let [notification] = notifications(&actions)[..] {
            assert_eq!((notification.code, minute), (8, 8));
            return;
        }
    }
    panic!("still up");
}

#[test]
fn a_peer_may_take_nothing_for_ever_without_a_send_hold_time() {
    let mut solo = Solo::new(PeerConfig {
        send_hold_time: Some(Duration::ZERO),
        ..config(1, 2, 1)
    });
    let conn = solo.establish(0, &config(2, 1, 2));
    for minute in 0..20 {
        solo.now = secs(60 * minute);
        solo.event(Event::Blocked { conn });
        solo.message(conn, Message::Update(Box::<Update>::default()));
        let actions = solo.event(Event::Tick);
        assert!(notifications(&actions).is_empty(), "{actions:?}");
    }
}

#[test]
fn a_peer_that_knows_no_capabilities_gets_an_open_without() {
    let mut solo = Solo::new(config(1, 2, 1));
    let (conn, _) = solo.accept(0);
    solo.message(conn, Message::Notification(Notification::new(ErrorCode::Open, 4)));
    solo.now = solo.peer.next_deadline().unwrap();
    solo.event(Event::Tick);
    let (_, actions) = solo.accept(1);
    let sent = actions.iter().find_map(|action| match action {
        Action::Send {
            message: ControlMessage::Open(open),
            ..
        } => Some(open),
        _ => None,
    });
    assert_eq!(sent.unwrap().capabilities, []);
}

#[test]
fn capabilities_are_tried_again_after_a_session_without_them() {
    let mut solo = Solo::new(config(1, 2, 1));
    let offered = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Send {
                message: ControlMessage::Open(open),
                ..
            } => Some(!open.capabilities.is_empty()),
            _ => None,
        })
    };
    let (conn, actions) = solo.accept(0);
    assert_eq!(offered(&actions), Some(true));
    solo.message(conn, Message::Notification(Notification::new(ErrorCode::Open, 4)));
    solo.now = secs(1_000);
    solo.event(Event::Tick);
    let (conn, actions) = solo.accept(1);
    assert_eq!(offered(&actions), Some(false), "RFC 5492 section 3");
    let mut theirs = open_of(&config(2, 1, 2));
    theirs.capabilities.clear();
    solo.message(conn, Message::Open(theirs));
    solo.message(conn, Message::Keepalive);
    assert_eq!(solo.peer.state(), State::Established);
    solo.event(Event::Closed {
        conn,
        error: String::new(),
    });
    let (_, actions) = solo.accept(2);
    assert_eq!(offered(&actions), Some(true));
}

#[test]
fn a_role_that_nobody_has_is_a_mismatch_and_one_of_another_shape_is_none() {
    for (value, established) in [(&[5][..], false), (&[255], false), (&[0], true), (&[0, 0], true)] {
        let mut ours = config(1, 2, 1);
        ours.role = Some(Role::Customer);
        let mut open = open_of(&config(2, 1, 2));
        let role = Role::from_code(value[0])
            .filter(|_| value.len() == 1)
            .map(Capability::Role);
        open.capabilities.push(role.unwrap_or(Capability::Unknown {
            code: Capability::ROLE,
            value: value.to_vec(),
        }));
        let mut solo = Solo::new(ours);
        let (conn, _) = solo.accept(0);
        let actions = solo.message(conn, Message::Open(open));
        assert_eq!(notifications(&actions).is_empty(), established, "{value:?}");
    }
}

#[test]
fn a_delayed_open_waits_for_the_peers() {
    let delayed = || PeerConfig {
        delay_open: Duration::from_secs(7),
        ..config(1, 2, 1)
    };
    let opens = |actions: &[Action]| {
        let is_open = |action: &&Action| {
            matches!(
                action,
                Action::Send {
                    message: ControlMessage::Open(_),
                    ..
                }
            )
        };
        actions.iter().filter(is_open).count()
    };
    // The peer speaks first: both our OPEN and the KEEPALIVE go at once.
    let mut solo = Solo::new(delayed());
    let (conn, actions) = solo.accept(0);
    assert_eq!((opens(&actions), solo.peer.state()), (0, State::Active));
    let actions = solo.message(conn, Message::Open(open_of(&config(2, 1, 2))));
    assert_eq!((opens(&actions), solo.peer.state()), (1, State::OpenConfirm));
    // It says nothing: ours goes when the time is over.
    let mut solo = Solo::new(delayed());
    solo.now = secs(1);
    solo.accept(0);
    solo.now = secs(8);
    let actions = solo.event(Event::Tick);
    assert_eq!((opens(&actions), solo.peer.state()), (1, State::OpenSent));
    // Something else is an error; to stop before our OPEN is silent.
    let mut solo = Solo::new(delayed());
    let (conn, _) = solo.accept(0);
    let actions = solo.message(conn, Message::Keepalive);
    assert_eq!(notifications(&actions).len(), 1, "{actions:?}");
    let mut solo = Solo::new(delayed());
    let (conn, _) = solo.accept(0);
    let actions = solo.event(Event::Stop(StopReason::Deconfigured));
    assert_eq!(notifications(&actions).len(), 0, "{actions:?}");
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Close { conn: closed } if *closed == conn))
    );
}
