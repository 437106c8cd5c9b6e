//! Two connections at once: RFC 4271 section 6.8.

use super::*;
use crate::packet::Cease;

/// Makes `solo` have an outgoing connection on which it sent its OPEN.
fn outgoing(solo: &mut Solo) -> ConnId {
    solo.now = solo.peer.next_deadline().unwrap();
    solo.event(Event::Tick);
    let conn = solo.attempt.unwrap();
    solo.event(Event::Connected {
        conn,
        local: addr("10.0.0.1:40000"),
        remote: addr("10.0.0.2:179"),
    });
    conn
}

#[test]
fn the_connection_of_the_higher_identifier_survives() {
    // Who wins, for both orders in which the OPENs arrive.
    for (ours, theirs, outgoing_wins) in [(1, 2, false), (2, 1, true)] {
        for outgoing_first in [false, true] {
            let mut solo = Solo::new(config(1, 2, ours));
            let out = outgoing(&mut solo);
            let (inc, _) = solo.accept(0);
            let open = Message::Open(open_of(&config(2, 1, theirs)));
            let order = if outgoing_first { [out, inc] } else { [inc, out] };
            let mut actions = solo.message(order[0], open.clone());
            assert!(notifications(&actions).is_empty());
            actions.extend(solo.message(order[1], open));
            let loser = if outgoing_wins { inc } else { out };
            assert!(notifications(&actions)[0].is_cease(Cease::CollisionResolution));
            assert!(
                actions.contains(&Action::Close { conn: loser }),
                "{ours} {theirs} {outgoing_first}"
            );
            let winner = if outgoing_wins { out } else { inc };
            solo.message(winner, Message::Keepalive);
            assert_eq!(solo.peer.state(), State::Established);
        }
    }
}

#[test]
fn with_equal_identifiers_the_higher_as_decides() {
    let mut solo = Solo::new(config(2, 1, 5));
    let out = outgoing(&mut solo);
    let (inc, _) = solo.accept(0);
    solo.message(out, Message::Open(open_of(&config(1, 2, 5))));
    let actions = solo.message(inc, Message::Open(open_of(&config(1, 2, 5))));
    assert!(actions.contains(&Action::Close { conn: inc }));
}

#[test]
fn both_ends_agree_whatever_the_order() {
    for (a, b) in [(1, 2), (2, 1), (1, 0xffff_0000)] {
        let mut pair = Pair::new(config(1, 2, a), config(2, 1, b));
        // Both attempts are under way before either end has seen anything.
        pair.now = secs(3);
        pair.event(0, Event::Tick);
        pair.event(1, Event::Tick);
        assert_eq!(pair.connects.len(), 2);
        pair.run_until(secs(4));
        assert!(pair.established(), "{a} {b}: {:?}", pair.seen);
        assert!(
            pair.seen
                .iter()
                .all(|seen| seen.ups.len() == 1 && seen.downs.is_empty())
        );
        let carried = pair.wires.iter().filter(|wire| wire.open == [true, true]).count();
        assert_eq!(carried, 1);
    }
}

#[test]
fn an_established_session_is_not_disturbed() {
    let (mut ours, mut theirs) = (config(1, 2, 1), config(2, 1, 2));
    ours.graceful_restart = GracefulRestartMode::Off;
    theirs.graceful_restart = GracefulRestartMode::Off;
    let mut solo = Solo::new(ours);
    solo.establish(0, &theirs);
    let (conn, actions) = solo.accept(1);
    assert!(notifications(&actions)[0].is_cease(Cease::CollisionResolution));
    assert!(actions.contains(&Action::Close { conn }));
    assert_eq!(solo.peer.state(), State::Established);
}

#[test]
fn a_bad_second_connection_does_not_hurt_the_session() {
    let mut solo = Solo::new(config(1, 2, 1));
    solo.establish(0, &config(2, 1, 2));
    for serial in 1..5 {
        let (conn, _) = solo.accept(serial);
        let actions = solo.event(Event::Message {
            conn,
            message: Err(Notification::new(crate::packet::ErrorCode::Header, 1)),
        });
        assert!(actions.contains(&Action::Close { conn }));
        assert_eq!(solo.peer.state(), State::Established);
    }
}

/// Whoever has the higher identifier: the peer has one connection less than we think.
#[test]
fn of_two_that_the_peer_opened_the_newer_survives() {
    for (ours, theirs) in [(1, 2), (2, 1)] {
        let mut solo = Solo::new(config(1, 2, ours));
        let open = Message::Open(open_of(&config(2, 1, theirs)));
        let (old, _) = solo.accept(0);
        solo.message(old, open.clone());
        assert_eq!(solo.peer.state(), State::OpenConfirm);
        // A connection alone does not say whose it is.
        let (new, actions) = solo.accept(1);
        assert!(notifications(&actions).is_empty(), "{actions:?}");
        assert_eq!(solo.peer.negotiated().map(|negotiated| negotiated.conn), Some(old));
        let actions = solo.message(new, open.clone());
        assert!(notifications(&actions)[0].is_cease(Cease::CollisionResolution));
        assert!(actions.contains(&Action::Close { conn: old }), "{actions:?}");
        solo.message(new, Message::Keepalive);
        assert_eq!(solo.peer.state(), State::Established);
    }
}

#[test]
fn only_a_valid_open_takes_over() {
    let open = || Message::Open(open_of(&config(2, 1, 2)));
    let strange = Ok(Message::Open(open_of(&config(3, 1, 2))));
    for message in [strange, Err(Notification::new(crate::packet::ErrorCode::Header, 1))] {
        let mut solo = Solo::new(config(1, 2, 1));
        let (old, _) = solo.accept(0);
        solo.message(old, open());
        for serial in 1..5 {
            let (conn, _) = solo.accept(serial);
            let message = message.clone();
            let actions = solo.event(Event::Message { conn, message });
            assert!(actions.contains(&Action::Close { conn }), "{actions:?}");
        }
        // Nor does one that says nothing, and it goes when the first one is the session.
        let (silent, _) = solo.accept(5);
        let actions = solo.message(old, Message::Keepalive);
        assert!(actions.contains(&Action::Close { conn: silent }), "{actions:?}");
        assert_eq!(solo.peer.state(), State::Established);
    }
}

#[test]
fn a_leftover_of_a_peer_that_is_gone_gives_way() {
    let mut solo = Solo::new(config(1, 2, 1));
    let (old, _) = solo.accept(0);
    let (new, actions) = solo.accept(1);
    assert!(actions.contains(&Action::Close { conn: old }));
    solo.message(new, Message::Open(open_of(&config(2, 1, 2))));
    assert_eq!(solo.peer.state(), State::OpenConfirm);
}

/// The peer, dominant, has our KEEPALIVE on our connection and may be established there. Its OPEN on its own says nothing
/// about that: whatever it says next decides, and nothing that it takes for the session is ended.
#[test]
fn what_the_peer_may_take_for_the_session_is_not_ended_before_it_has_spoken() {
    let ambiguous = || {
        let mut solo = Solo::new(config(1, 2, 1));
        let out = outgoing(&mut solo);
        let open = || Message::Open(open_of(&config(2, 1, 2)));
        let actions = solo.message(out, open());
        assert!(says_keepalive(&actions, out), "{actions:?}");
        let (inc, _) = solo.accept(0);
        let mut actions = solo.message(inc, open());
        actions.extend(solo.message(out, Message::Keepalive));
        assert_eq!(notifications(&actions), Vec::<&Notification>::new());
        assert!(!says_keepalive(&actions, inc), "{actions:?}");
        assert_eq!(solo.peer.state(), State::OpenConfirm);
        (solo, out, inc)
    };
    let closed = |conn| Event::Closed {
        conn,
        error: String::new(),
    };
    let cease = |conn| Event::Message {
        conn,
        message: Ok(Message::Notification(Notification::cease(
            Cease::CollisionResolution,
            "",
        ))),
    };
    let update = || Message::Update(Box::default());

    // It was established on ours, and ends its own.
    for end in [closed, cease] {
        let (mut solo, out, inc) = ambiguous();
        solo.event(end(inc));
        assert_eq!(solo.peer.negotiated().map(|negotiated| negotiated.conn), Some(out));
        assert_eq!(solo.peer.state(), State::Established);
    }
    // It sends routes there before we hear of that.
    let (mut solo, out, inc) = ambiguous();
    let actions = solo.message(out, update());
    assert!(actions.contains(&Action::Close { conn: inc }), "{actions:?}");
    assert!(matches!(
        actions.last(),
        Some(Action::StateChange {
            to: State::Established,
            ..
        })
    ));
    assert!(
        actions.iter().any(|action| matches!(action, Action::Update(_))),
        "{actions:?}"
    );
    assert_eq!(solo.peer.negotiated().map(|negotiated| negotiated.conn), Some(out));
    // It was not, and ends ours.
    for end in [closed, cease] {
        let (mut solo, out, inc) = ambiguous();
        let actions = solo.event(end(out));
        assert!(says_keepalive(&actions, inc), "{actions:?}");
        solo.message(inc, Message::Keepalive);
        assert_eq!(solo.peer.state(), State::Established);
    }
    // It goes on with its own before we hear of that.
    let (mut solo, out, inc) = ambiguous();
    let actions = solo.message(inc, Message::Keepalive);
    assert!(actions.contains(&Action::Close { conn: out }), "{actions:?}");
    assert_eq!(solo.peer.negotiated().map(|negotiated| negotiated.conn), Some(inc));
    assert_eq!(solo.peer.state(), State::Established);
    // It says nothing: the RFC's rule.
    let (mut solo, out, inc) = ambiguous();
    solo.now = solo.peer.next_deadline().unwrap();
    let actions = solo.event(Event::Tick);
    assert!(notifications(&actions)[0].is_cease(Cease::CollisionResolution));
    assert!(actions.contains(&Action::Close { conn: out }), "{actions:?}");
    assert!(says_keepalive(&actions, inc), "{actions:?}");
}

/// A peer that accepts our connection in an established session may take that for our restart.
#[test]
fn our_keepalive_waits_for_our_own_attempt() {
    let begun = |graceful: bool| {
        let mut theirs = config(2, 1, 2);
        if !graceful {
            theirs.graceful_restart = GracefulRestartMode::Off;
        }
        let mut solo = Solo::new(config(1, 2, 1));
        solo.now = solo.peer.next_deadline().unwrap();
        solo.event(Event::Tick);
        let out = solo.attempt.unwrap();
        let (inc, _) = solo.accept(0);
        let actions = solo.message(inc, Message::Open(open_of(&theirs)));
        (solo, out, inc, actions)
    };
    let (_, _, inc, actions) = begun(false);
    assert!(says_keepalive(&actions, inc), "{actions:?}");

    let (mut solo, _, inc, actions) = begun(true);
    assert!(!says_keepalive(&actions, inc), "{actions:?}");
    let actions = solo.refuse_attempt();
    assert!(says_keepalive(&actions, inc), "{actions:?}");

    let (mut solo, out, inc, _) = begun(true);
    let (local, remote) = (addr("10.0.0.1:40000"), addr("10.0.0.2:179"));
    let actions = solo.event(Event::Connected {
        conn: out,
        local,
        remote,
    });
    assert!(!says_keepalive(&actions, inc), "{actions:?}");
    let actions = solo.message(out, Message::Open(open_of(&config(2, 1, 2))));
    assert!(actions.contains(&Action::Close { conn: out }), "{actions:?}");
    assert!(says_keepalive(&actions, inc), "{actions:?}");
}

/// Before the peer's OPEN is in on both connections neither gets a KEEPALIVE, so that the peer is not established.
#[test]
fn keepalives_wait_for_both_opens() {
    for (ours, theirs) in [(1, 2), (2, 1)] {
        let begun = || {
            let mut solo = Solo::new(config(1, 2, ours));
            let out = outgoing(&mut solo);
            let (inc, _) = solo.accept(0);
            let (winner, loser) = if ours > theirs { (out, inc) } else { (inc, out) };
            let mut actions = solo.message(loser, Message::Open(open_of(&config(2, 1, theirs))));
            actions.extend(solo.message(loser, Message::Keepalive));
            assert!(!says_keepalive(&actions, loser), "{actions:?}");
            assert_eq!(solo.peer.state(), State::OpenConfirm);
            (solo, winner, loser)
        };
        let mut solo = Solo::new(config(1, 2, ours));
        let out = outgoing(&mut solo);
        let (inc, _) = solo.accept(0);
        let winner = if ours > theirs { out } else { inc };
        let actions = solo.message(winner, Message::Open(open_of(&config(2, 1, theirs))));
        assert!(!says_keepalive(&actions, winner), "{actions:?}");

        let (mut solo, winner, loser) = begun();
        let actions = solo.message(winner, Message::Open(open_of(&config(2, 1, theirs))));
        assert!(actions.contains(&Action::Close { conn: loser }), "{actions:?}");
        assert!(says_keepalive(&actions, winner), "{actions:?}");
        // The winner never gets there, or is silent.
        let (mut solo, winner, loser) = begun();
        let error = "connection reset".to_owned();
        let actions = solo.event(Event::Closed { conn: winner, error });
        assert!(says_keepalive(&actions, loser), "{actions:?}");
        assert_eq!(solo.peer.state(), State::Established);
        let (mut solo, winner, loser) = begun();
        solo.now = solo.peer.next_deadline().unwrap();
        let actions = solo.event(Event::Tick);
        assert!(actions.contains(&Action::Close { conn: winner }), "{actions:?}");
        assert!(says_keepalive(&actions, loser), "{actions:?}");
        assert_eq!(solo.peer.state(), State::Established);
    }
}

/// What was under way before the session was there is not a peer that restarted.
#[test]
fn a_late_connection_is_not_a_restart() {
    let theirs = config(2, 1, 2);
    let mut solo = Solo::new(config(1, 2, 1));
    solo.establish(0, &theirs);
    let (late, _) = solo.accept(1);
    let actions = solo.message(late, Message::Open(open_of(&theirs)));
    assert!(notifications(&actions)[0].is_cease(Cease::CollisionResolution));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Down { .. })),
        "{actions:?}"
    );
    solo.now += secs(1);
    let (restarted, _) = solo.accept(2);
    let actions = solo.message(restarted, Message::Open(open_of(&theirs)));
    assert!(
        actions.iter().any(|action| matches!(action, Action::Down { .. })),
        "{actions:?}"
    );
}

fn says_keepalive(actions: &[Action], on: ConnId) -> bool {
    let message = ControlMessage::Keepalive;
    actions.contains(&Action::Send { conn: on, message })
}
