//! Single rules of RFC 5880 to 5883.

use std::num::NonZeroU32;
use std::time::Duration;

use super::network::{MS, Network, key, params};
use crate::{Arrival, Cause, Discard, Hops, Key, Output, Packet, Session, Sessions, State};

fn name(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn packet(state: State) -> Packet {
    Packet {
        diagnostic: crate::Diagnostic::NONE,
        state,
        poll: false,
        r#final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: name(7),
        your_discriminator: Some(name(1)),
        desired_min_tx: MS * 100,
        required_min_rx: MS * 100,
        required_min_echo_rx: Duration::ZERO,
    }
}

/// Feeds states to a new session; gives its own after each.
fn after(states: &[State]) -> Vec<State> {
    let mut session = Session::new(Duration::ZERO, name(1), params(100, 100, 3));
    let mut step = |state: &State| {
        session.receive(MS, &packet(*state), &mut Vec::new());
        session.state()
    };
    states.iter().map(&mut step).collect()
}

#[test]
fn the_state_machine_of_6_8_6() {
    use State::{AdminDown, Down, Init, Up};
    assert_eq!(after(&[AdminDown]), [Down]);
    assert_eq!(after(&[Up]), [Down]);
    assert_eq!(after(&[Init]), [Up]);
    assert_eq!(after(&[Down, Down]), [Init, Init]);
    assert_eq!(after(&[Down, AdminDown]), [Init, Down]);
    assert_eq!(after(&[Down, Init]), [Init, Up]);
    assert_eq!(after(&[Down, Up]), [Init, Up]);
    assert_eq!(after(&[Init, Init, Up]), [Up, Up, Up]);
    assert_eq!(after(&[Init, Down]), [Up, Down]);
    assert_eq!(after(&[Init, AdminDown]), [Up, Down]);
}

fn up(min_tx: u32, min_rx: u32) -> Session {
    let mut session = Session::new(Duration::ZERO, name(1), params(min_tx, min_rx, 3));
    session.receive(MS, &packet(State::Init), &mut Vec::new());
    let answer = Packet {
        r#final: true,
        ..packet(State::Up)
    };
    session.receive(MS, &answer, &mut Vec::new());
    session
}

/// Everything a session sends up to a time.
fn sends(session: &mut Session, until: Duration) -> Vec<(Duration, Packet)> {
    let mut sent = Vec::new();
    while let Some(at) = session.next_deadline().filter(|at| *at <= until) {
        let mut out = Vec::new();
        session.tick(at, &mut out);
        sent.extend(out.into_iter().filter_map(|output| match output {
            Output::Send(packet) => Some((at, packet)),
            Output::Changed { .. } => None,
        }));
    }
    sent
}

#[test]
fn slower_timers_wait_for_the_peers_word() {
    let mut session = up(100, 100);
    session.set_params(MS, params(500, 20, 3));
    assert_eq!(session.interval(), Some(MS * 100), "the old one");
    assert_eq!(session.detection_time(), Some(MS * 300));
    let sent = sends(&mut session, MS * 200);
    assert!(
        sent.iter()
            .all(|(_, p)| p.poll && p.desired_min_tx == MS * 500 && p.required_min_rx == MS * 20)
    );
    // A change amid the poll: the first answer is about the earlier one.
    session.set_params(MS * 200, params(600, 20, 3));
    let answer = Packet {
        r#final: true,
        ..packet(State::Up)
    };
    session.receive(MS * 201, &answer, &mut Vec::new());
    assert_eq!(session.interval(), Some(MS * 100));
    session.receive(MS * 202, &answer, &mut Vec::new());
    assert_eq!(session.interval(), Some(MS * 600));
    assert_eq!(session.detection_time(), Some(MS * 300), "the peer sends every 100 ms");
    session.set_params(MS * 203, params(50, 900, 3));
    assert_eq!(
        session.interval(),
        Some(MS * 100),
        "faster at once, as far as the peer takes it"
    );
    assert_eq!(session.detection_time(), Some(MS * 2700), "more patient at once");
}

#[test]
fn a_poll_is_answered_at_once_and_does_not_move_the_clock() {
    let mut session = up(100, 100);
    let before = session.next_deadline();
    let poll = Packet {
        poll: true,
        ..packet(State::Up)
    };
    let mut out = Vec::new();
    session.receive(MS * 2, &poll, &mut out);
    let [Output::Send(answer)] = out.as_slice() else {
        panic!("{out:?}")
    };
    assert!(answer.r#final && !answer.poll);
    assert_eq!(session.next_deadline(), before);
}

#[test]
fn intervals_are_jittered_within_bounds() {
    for (mult, most) in [(3, 100), (1, 90)] {
        let mut session = Session::new(Duration::ZERO, name(9), params(100, 100, mult));
        let sent = sends(&mut session, Duration::from_secs(60));
        let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(gaps.len() > 50);
        assert!(
            gaps.iter().all(|gap| *gap >= MS * 750 && *gap <= MS * most * 10),
            "slow while down: {gaps:?}"
        );
        assert!(gaps.iter().any(|gap| *gap != gaps[0]), "not all alike");
    }
}

#[test]
fn what_a_peer_asks_for_is_respected() {
    let mut session = up(100, 100);
    let mut quiet = packet(State::Up);
    quiet.demand = true;
    session.receive(MS * 10, &quiet, &mut Vec::new());
    assert_eq!(sends(&mut session, MS * 300), [], "demand mode of the peer");
    let mut session = up(100, 100);
    let mut silent = packet(State::Up);
    silent.required_min_rx = Duration::ZERO;
    session.receive(MS * 10, &silent, &mut Vec::new());
    assert_eq!(sends(&mut session, MS * 300), [], "it wants no packets");
    let mut passive = Session::new(
        Duration::ZERO,
        name(1),
        crate::Params {
            passive: true,
            ..params(100, 100, 3)
        },
    );
    assert_eq!(passive.next_deadline(), None, "the passive side waits");
    let mut out = Vec::new();
    passive.receive(MS, &packet(State::Down), &mut out);
    assert!(matches!(out.last(), Some(Output::Send(_))), "{out:?}");
}

#[test]
fn taking_a_session_away_is_no_failure() {
    let mut network = Network::new(params(100, 100, 3), params(100, 100, 3));
    network.run(Duration::from_secs(5));
    network.reports.clear();
    let mut out = Vec::new();
    let now = network.now;
    network.sides[0].want(now, &[], &mut out);
    network.execute(0, out);
    network.run(Duration::from_secs(1));
    let causes: Vec<_> = network
        .reports
        .iter()
        .map(|(_, side, report)| (*side, report.cause))
        .collect();
    assert_eq!(causes, [(0, Cause::Unwanted), (1, Cause::RemoteAdminDown)]);
    assert_eq!(network.sides[1].views()[0].failures, 0);
    network.run(Duration::from_secs(3));
    assert_eq!(network.sides[0].next_deadline(), None, "it is gone");
    network.configure(0, params(100, 100, 3));
    network.run(Duration::from_secs(5));
    assert!(network.is_up());
}

#[test]
fn strangers_packets_are_discarded() {
    let mut sessions = Sessions::new(5);
    let multi = Key {
        interface: None,
        hops: Hops::Multiple,
        ..key(0)
    };
    sessions.want(
        Duration::ZERO,
        &[(key(0), params(100, 100, 3)), (multi, params(100, 100, 3))],
        &mut Vec::new(),
    );
    let good = Arrival {
        source: [10, 0, 0, 2].into(),
        destination: [10, 0, 0, 1].into(),
        interface: "eth0",
        ttl: 255,
        hops: Hops::Single,
    };
    let mut first = packet(State::Down);
    first.your_discriminator = None;
    let first = first.encode();
    let mut out = Vec::new();
    let mut take = |arrival: Arrival<'_>, octets: &[u8]| sessions.receive(MS, &arrival, octets, &mut out);
    assert_eq!(take(Arrival { ttl: 254, ..good }, &first), Err(Discard::Ttl(254)));
    assert_eq!(
        take(
            Arrival {
                source: [10, 0, 0, 3].into(),
                ..good
            },
            &first
        ),
        Err(Discard::NoSession)
    );
    assert_eq!(
        take(
            Arrival {
                interface: "eth1",
                ..good
            },
            &first
        ),
        Err(Discard::NoSession)
    );
    assert_eq!(
        take(good, &packet(State::Down).encode()),
        Err(Discard::NoSession),
        "not our discriminator"
    );
    assert_eq!(
        take(good, &first[..20]),
        Err(Discard::Malformed(crate::DecodeError::Short(20)))
    );
    assert_eq!(take(good, &first), Ok(()));
    assert_eq!(
        take(
            Arrival {
                ttl: 60,
                hops: Hops::Multiple,
                interface: "eth9",
                ..good
            },
            &first
        ),
        Ok(())
    );

    let sent = out.iter().find_map(|action| match action {
        crate::Action::Send(to, packet) if to.hops == Hops::Single => Some(*packet),
        _ => None,
    });
    let ours = sent.unwrap().my_discriminator;
    let mut guessed = packet(State::Up);
    guessed.your_discriminator = Some(ours);
    let from_elsewhere = Arrival {
        source: [10, 0, 0, 9].into(),
        ..good
    };
    let taken = sessions.receive(MS, &from_elsewhere, &guessed.encode(), &mut out);
    assert_eq!(taken, Err(Discard::WrongPeer));
    assert!(
        sessions.views().iter().all(|view| view.state == State::Init),
        "{:?}",
        sessions.views()
    );
}
