//! Graceful restart: RFC 4724, RFC 8538.

use super::*;
use crate::packet::{Capability, Cease, ErrorCode, Update};

#[test]
fn routes_outlive_a_lost_connection_until_the_table_is_complete() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.run_until(secs(10));
    pair.cut(&[0, 1]);
    assert_eq!(pair.seen[0].downs[0].1, both_families());
    pair.run_until(secs(20));
    assert!(pair.established(), "back without an error wait");
    assert_eq!(pair.seen[0].swept, []);
    let conn = pair.seen[0].ups[1].conn;
    let end_of_rib = Update {
        end_of_rib: Some(AfiSafi::Ipv4Unicast),
        ..Update::default()
    };
    pair.event(
        0,
        Event::Message {
            conn,
            message: Ok(Message::Update(Box::new(end_of_rib))),
        },
    );
    assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv4Unicast]);
    pair.run_until(secs(500));
    assert_eq!(
        pair.seen[0].swept,
        AfiSafi::ALL,
        "a peer that never says so does not keep them for ever"
    );
}

#[test]
fn routes_of_a_peer_that_does_not_come_back_go_after_its_restart_time() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.run_until(secs(10));
    pair.partitioned = true;
    pair.cut(&[0, 1]);
    pair.run_until(secs(129));
    assert_eq!(pair.seen[0].swept, []);
    pair.run_until(secs(131));
    assert_eq!(pair.seen[0].swept, AfiSafi::ALL);
    assert!(pair.peers[0].retained.is_empty());
}

#[test]
fn a_restarted_peer_is_known_by_its_new_open() {
    let mut pair = Pair::new(config(1, 2, 1), config(2, 1, 2));
    pair.run_until(secs(10));
    // Side 1 died without a word and is started anew; side 0 has seen nothing.
    pair.peers[1] = Peer::new(3, config(2, 1, 2), true);
    pair.wires.clear();
    pair.event(1, Event::Start);
    pair.run_until(secs(20));
    assert!(pair.established());
    let (reason, retain) = &pair.seen[0].downs[0];
    assert_eq!((reason, *retain), (&DownReason::PeerRestarted, both_families()));
    assert!(pair.seen[0].ups[1].graceful_restart.unwrap().restarting);
    assert!(!pair.seen[1].ups[1].graceful_restart.unwrap().restarting);
}

#[test]
fn families_the_peer_did_not_preserve_go_at_once() {
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &config(2, 1, 2));
    solo.event(Event::Closed {
        conn,
        error: String::new(),
    });
    let mut returned = config(2, 1, 2);
    returned.graceful_families = FamilySet::from_iter([AfiSafi::Ipv6Unicast]);
    let (conn, _) = solo.accept(1);
    solo.message(conn, Message::Open(open_of(&returned)));
    let actions = solo.message(conn, Message::Keepalive);
    let swept: Vec<_> = actions
        .iter()
        .filter(|action| matches!(action, Action::SweepStale { .. }))
        .collect();
    assert_eq!(
        swept,
        [&Action::SweepStale {
            family: AfiSafi::Ipv4Unicast
        }]
    );
    let up = actions.iter().position(|action| matches!(action, Action::Up(_)));
    assert!(
        up < actions
            .iter()
            .position(|action| matches!(action, Action::SweepStale { .. }))
    );
}

#[test]
fn notifications_keep_routes_only_with_the_n_bit_and_unless_hard() {
    let retained = |mode: GracefulRestartMode, notification: Notification| {
        let mut theirs = config(2, 1, 2);
        theirs.graceful_restart = mode;
        let mut solo = Solo::new(config(1, 2, 1));
        let conn = solo.establish(0, &theirs);
        let actions = solo.message(conn, Message::Notification(notification));
        let down = actions.iter().find_map(|action| match action {
            Action::Down { retain, .. } => Some(*retain),
            _ => None,
        });
        down.unwrap()
    };
    let reset = Notification::cease(Cease::AdministrativeReset, "");
    assert_eq!(retained(GracefulRestartMode::On, reset.clone()), both_families());
    assert_eq!(
        retained(GracefulRestartMode::On, reset.clone().hard_reset()),
        FamilySet::EMPTY
    );
    assert_eq!(retained(GracefulRestartMode::Aware, reset.clone()), FamilySet::EMPTY);
    assert_eq!(retained(GracefulRestartMode::Off, reset), FamilySet::EMPTY);
    assert_eq!(
        retained(GracefulRestartMode::On, Notification::new(ErrorCode::Update, 1)),
        both_families()
    );
}

#[test]
fn what_a_hard_reset_carries_decides_whether_to_come_back() {
    let stays_down = |notification: Notification| {
        let mut ours = config(1, 2, 1);
        ours.disable_after_cease = 1 << Cease::MaximumPrefixes as u16;
        let mut solo = Solo::new(ours);
        let conn = solo.establish(0, &config(2, 1, 2));
        solo.message(conn, Message::Notification(notification));
        solo.peer.state() == State::Idle && solo.peer.next_deadline().is_none()
    };
    let limit = Notification::cease(Cease::MaximumPrefixes, "");
    assert!(stays_down(limit.clone()));
    assert!(stays_down(limit.hard_reset()));
    let reset = Notification::cease(Cease::AdministrativeReset, "");
    assert!(!stays_down(reset.hard_reset()));
}

#[test]
fn without_the_n_bit_a_notification_ends_it_all() {
    let mut solo = Solo::new(config(1, 2, 1));
    let (conn, _) = solo.accept(0);
    let mut open = open_of(&config(2, 1, 2));
    for capability in &mut open.capabilities {
        if let crate::packet::Capability::GracefulRestart(gr) = capability {
            gr.notification = false;
        }
    }
    solo.message(conn, Message::Open(open));
    solo.message(conn, Message::Keepalive);
    let actions = solo.message(
        conn,
        Message::Notification(Notification::cease(Cease::AdministrativeReset, "")),
    );
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Down { retain, .. } if retain.is_empty()))
    );
}

#[test]
fn the_end_of_the_process_is_silent_with_graceful_restart_and_said_without() {
    for (mode, told) in [(GracefulRestartMode::On, false), (GracefulRestartMode::Off, true)] {
        let mut ours = config(1, 2, 1);
        ours.graceful_restart = mode;
        let mut solo = Solo::new(ours);
        let conn = solo.establish(0, &config(2, 1, 2));
        let actions = solo.event(Event::Stop(StopReason::ProcessExit));
        assert_eq!(!notifications(&actions).is_empty(), told);
        assert!(actions.contains(&Action::Close { conn }));
        assert!(
            actions
                .iter()
                .any(|a| matches!(a, Action::Down { retain, .. } if *retain == both_families()))
        );
        assert_eq!(solo.peer.next_deadline(), None);
    }
}

#[test]
fn opens_say_restarting_until_the_tables_are_complete() {
    let mut peer = Peer::new(1, config(1, 2, 1), true);
    let restarting = |peer: &mut Peer, serial| {
        let mut actions = Vec::new();
        let (conn, local, remote) = (ConnId::Incoming(serial), addr("10.0.0.1:179"), addr("10.0.0.2:1"));
        peer.handle(secs(1), Event::Accepted { conn, local, remote }, &mut actions);
        actions.iter().any(|action| match action {
            Action::Send {
                message: ControlMessage::Open(open),
                ..
            } => open.capabilities.iter().any(
                |capability| matches!(capability, crate::packet::Capability::GracefulRestart(gr) if gr.restarting),
            ),
            _ => false,
        })
    };
    peer.handle(secs(0), Event::Start, &mut Vec::new());
    assert!(restarting(&mut peer, 0));
    peer.handle(secs(1), Event::Converged, &mut Vec::new());
    assert!(!restarting(&mut peer, 1));
}

#[test]
fn a_fresh_start_says_that_nothing_was_kept_until_the_tables_are_complete() {
    let bits = |peer: &Peer| {
        let open = peer.our_open();
        let mut bits = Vec::new();
        for capability in &open.capabilities {
            match capability {
                Capability::GracefulRestart(ours) => {
                    bits.push(ours.restarting);
                    bits.extend(ours.families.iter().map(|family| family.forwarding));
                }
                Capability::LongLivedGracefulRestart(ours) => bits.extend(ours.iter().map(|family| family.forwarding)),
                _ => {}
            }
        }
        bits
    };
    let mut peer = Peer::new(1, long_lived(config(1, 2, 1)), true);
    assert_eq!(bits(&peer), [true; 5], "R, and F of two families in both capabilities");
    peer.start_afresh();
    assert_eq!(bits(&peer), [false; 5]);
    peer.handle(secs(1), Event::Converged, &mut Vec::new());
    assert_eq!(bits(&peer), [false, true, true, true, true]);
}
