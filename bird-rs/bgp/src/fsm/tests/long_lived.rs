//! Long-lived graceful restart: RFC 9494.

use super::*;
use crate::packet::{Capability, Cease, LongLivedFamily, Update};

fn lost() -> Pair {
    let mut pair = Pair::new(config(1, 2, 1), long_lived(config(2, 1, 2)));
    pair.run_until(secs(10));
    pair.partitioned = true;
    pair.cut(&[0, 1]);
    pair
}

fn end_of_rib(pair: &mut Pair, family: AfiSafi) {
    let conn = pair.seen[0].ups.last().unwrap().conn;
    let update = Update {
        end_of_rib: Some(family),
        ..Update::default()
    };
    pair.event(
        0,
        Event::Message {
            conn,
            message: Ok(Message::Update(Box::new(update))),
        },
    );
}

#[test]
fn after_the_restart_time_each_family_has_its_own() {
    let mut pair = lost();
    pair.run_until(secs(129));
    assert_eq!(pair.seen[0].aged, []);
    pair.run_until(secs(131));
    assert_eq!(
        (&*pair.seen[0].aged, &*pair.seen[0].swept),
        (&AfiSafi::ALL[..], &[][..])
    );
    pair.run_until(secs(729));
    assert_eq!(pair.seen[0].swept, []);
    pair.run_until(secs(731));
    assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv4Unicast]);
    pair.run_until(secs(1329));
    assert_eq!(pair.seen[0].swept.len(), 1);
    pair.run_until(secs(1331));
    assert_eq!(pair.seen[0].swept, AfiSafi::ALL);
    assert!(pair.peers[0].retained.is_empty());
    assert_eq!(pair.seen[1].aged, [], "we did not ask for it");
}

#[test]
fn only_the_table_or_the_time_ends_it_not_the_session() {
    let mut pair = lost();
    pair.run_until(secs(200));
    pair.partitioned = false;
    pair.run_until(secs(300));
    assert!(pair.established());
    end_of_rib(&mut pair, AfiSafi::Ipv6Unicast);
    assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv6Unicast]);
    // Lost again before the other family was complete: that one is long-lived stale at once, its time runs on.
    pair.seen[0].aged.clear();
    pair.partitioned = true;
    pair.cut(&[0, 1]);
    assert_eq!(pair.seen[0].aged, [AfiSafi::Ipv4Unicast]);
    assert_eq!(pair.seen[0].downs[1].1, both_families());
    pair.run_until(secs(425));
    assert_eq!(pair.seen[0].aged.len(), 2, "the other one began anew");
    pair.run_until(secs(731));
    assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv6Unicast, AfiSafi::Ipv4Unicast]);
}

#[test]
fn when_the_time_is_over_before_the_table_is_complete_another_loss_leaves_nothing() {
    for complete in [false, true] {
        let mut pair = lost();
        pair.run_until(secs(200));
        pair.partitioned = false;
        // IPv4's time is over, IPv6's is not.
        pair.run_until(secs(800));
        assert!(pair.established());
        assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv4Unicast]);
        if complete {
            end_of_rib(&mut pair, AfiSafi::Ipv4Unicast);
        }
        pair.cut(&[0, 1]);
        let retained = pair.seen[0].downs[1].1;
        assert_eq!(retained.contains(AfiSafi::Ipv4Unicast), complete);
        assert!(retained.contains(AfiSafi::Ipv6Unicast));
        // It is not held against the next session.
        pair.run_until(secs(900));
        pair.cut(&[0, 1]);
        assert_eq!(pair.seen[0].downs[2].1, both_families());
    }
}

#[test]
fn lost_again_within_the_restart_time_that_time_goes_on() {
    let mut pair = lost();
    pair.run_until(secs(60));
    pair.partitioned = false;
    pair.run_until(secs(100));
    assert!(pair.established());
    pair.partitioned = true;
    pair.cut(&[0, 1]);
    pair.run_until(secs(129));
    assert_eq!((&*pair.seen[0].aged, &*pair.seen[0].swept), (&[][..], &[][..]));
    pair.run_until(secs(131));
    assert_eq!(pair.seen[0].aged, AfiSafi::ALL);
    pair.run_until(secs(731));
    assert_eq!(pair.seen[0].swept, [AfiSafi::Ipv4Unicast]);
}

#[test]
fn a_peer_that_comes_back_without_them_loses_them() {
    let families = |edit: fn(&mut Vec<LongLivedFamily>)| {
        let mut solo = Solo::new(config(1, 2, 1));
        let theirs = long_lived(config(2, 1, 2));
        let conn = solo.establish(0, &theirs);
        solo.event(Event::Closed {
            conn,
            error: String::new(),
        });
        solo.now = secs(200);
        let aged = solo.event(Event::Tick);
        assert_eq!(aged.iter().filter(|a| matches!(a, Action::LongLived { .. })).count(), 2);
        solo.refuse_attempt();
        let (conn, _) = solo.accept(1);
        let mut open = open_of(&theirs);
        for capability in &mut open.capabilities {
            if let Capability::LongLivedGracefulRestart(families) = capability {
                edit(families);
            }
        }
        solo.message(conn, Message::Open(open));
        let actions = solo.message(conn, Message::Keepalive);
        let swept = actions.iter().filter_map(|action| match action {
            Action::SweepStale { family } => Some(*family),
            _ => None,
        });
        swept.collect::<Vec<_>>()
    };
    assert_eq!(families(|_| ()), []);
    assert_eq!(families(|f| f[1].forwarding = false), [AfiSafi::Ipv6Unicast]);
    // RFC 9494 section 4.2: the time that runs is not changed by another one, not even by none.
    assert_eq!(families(|f| f[0].stale_time = 0), []);
    assert_eq!(families(|f| f.truncate(1)), [AfiSafi::Ipv6Unicast]);
    assert_eq!(families(Vec::clear), AfiSafi::ALL);
}

#[test]
fn a_family_that_graceful_restart_leaves_out_is_long_lived_stale_at_once() {
    let mut theirs = long_lived(config(2, 1, 2));
    theirs.graceful_families = FamilySet::from_iter([AfiSafi::Ipv4Unicast]);
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &theirs);
    let actions = solo.event(Event::Closed {
        conn,
        error: String::new(),
    });
    let family = AfiSafi::Ipv6Unicast;
    assert!(actions.contains(&Action::LongLived { family }), "{actions:?}");
    assert!(!actions.contains(&Action::LongLived {
        family: AfiSafi::Ipv4Unicast
    }));
}

#[test]
fn it_needs_graceful_restart_and_both_sides() {
    let negotiated = |ours: fn(&mut PeerConfig), theirs: fn(&mut PeerConfig)| {
        let (mut a, mut b) = (config(1, 2, 1), long_lived(config(2, 1, 2)));
        ours(&mut a);
        theirs(&mut b);
        let mut solo = Solo::new(a);
        solo.establish(0, &b);
        solo.peer.negotiated().unwrap().long_lived.as_ref().map(Vec::len)
    };
    assert_eq!(negotiated(|_| (), |_| ()), Some(2));
    assert_eq!(
        negotiated(|_| (), |c| c.long_lived = GracefulRestartMode::Aware),
        Some(0)
    );
    assert_eq!(negotiated(|_| (), |c| c.long_lived = GracefulRestartMode::Off), None);
    assert_eq!(negotiated(|c| c.long_lived = GracefulRestartMode::Off, |_| ()), None);
    assert_eq!(
        negotiated(|c| c.graceful_restart = GracefulRestartMode::Off, |_| ()),
        None
    );
    assert_eq!(
        negotiated(|_| (), |c| c.graceful_restart = GracefulRestartMode::Off),
        None
    );
}

#[test]
fn a_hard_reset_and_a_stop_keep_nothing() {
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &long_lived(config(2, 1, 2)));
    let reset = Notification::cease(Cease::AdministrativeReset, "").hard_reset();
    let actions = solo.message(conn, Message::Notification(reset));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Down { retain, .. } if retain.is_empty()))
    );
    assert!(solo.peer.retained.is_empty());

    let mut pair = lost();
    pair.run_until(secs(200));
    pair.event(0, Event::Stop(StopReason::AdministrativeShutdown(String::new())));
    assert_eq!(pair.seen[0].swept, AfiSafi::ALL);
}

#[test]
fn a_time_of_zero_asks_for_nothing() {
    let mut theirs = long_lived(config(2, 1, 2));
    theirs.graceful_families = FamilySet::EMPTY;
    theirs.long_lived_times = vec![
        (AfiSafi::Ipv4Unicast, Duration::ZERO),
        (AfiSafi::Ipv6Unicast, secs(100)),
    ];
    let mut solo = Solo::new(config(1, 2, 1));
    let conn = solo.establish(0, &theirs);
    let actions = solo.event(Event::Closed {
        conn,
        error: String::new(),
    });
    let retained: Vec<FamilySet> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Down { retain, .. } => Some(*retain),
            _ => None,
        })
        .collect();
    assert_eq!(retained, [FamilySet::from_iter([AfiSafi::Ipv6Unicast])]);
}
