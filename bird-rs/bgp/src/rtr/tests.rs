//! PDUs by hand, sessions with a scripted cache under virtual time, and whatever octets there are.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tortie_net::{Asn, Prefix};

use super::*;
use crate::roa::{Roa, RoaSet};

fn roa(prefix: &str, max_len: u8, asn: u32) -> Roa {
    Roa::new(prefix.parse().unwrap(), max_len, Asn(asn)).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A session, its clock, and what it did.
struct World {
    session: Session,
    now: Duration,
    /// What was done since the last look, but for payloads.
    actions: Vec<Action>,
    roas: Arc<RoaSet>,
    changes: usize,
}

fn world_with(timers: Timers, ignore_max_length: bool) -> World {
    let mut world = World {
        session: Session::new(Duration::ZERO, timers, ignore_max_length),
        now: Duration::ZERO,
        actions: Vec::new(),
        roas: Arc::default(),
        changes: 0,
    };
    world.event(Event::Tick);
    assert_eq!(world.done(), [Action::Connect]);
    world
}

/// Connected, and asked in version 1.
fn world() -> World {
    let mut world = world_with(Timers::default(), false);
    world.event(Event::Connected);
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
    world
}

impl World {
    fn event(&mut self, event: Event<'_>) {
        let mut out = Vec::new();
        self.session.handle(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Roas(roas) => {
                    self.roas = roas;
                    self.changes += 1;
                }
                other => self.actions.push(other),
            }
        }
    }

    fn done(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What was sent, when nothing else was done.
    fn sent(&mut self) -> Vec<Pdu> {
        let pdu = |action| match action {
            Action::Send(octets) => decode(&octets).unwrap().unwrap().pdu,
            other => panic!("{other:?}"),
        };
        self.done().into_iter().map(pdu).collect()
    }

    /// The error that was reported before closing.
    fn reported(&mut self) -> ErrorCode {
        let done = self.done();
        let [Action::Send(report), Action::Close] = &done[..] else {
            panic!("{done:?}")
        };
        match decode(report).unwrap().unwrap().pdu {
            Pdu::ErrorReport { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    /// The cache speaks, an octet at a time.
    fn says(&mut self, version: u8, pdus: &[Pdu]) {
        let octets: Vec<u8> = pdus.iter().flat_map(|pdu| pdu.encode(version)).collect();
        for octet in octets {
            self.event(Event::Received(&[octet]));
        }
    }

    /// A whole answer.
    fn answers(&mut self, version: u8, (session, serial): (u16, u32), changes: &[(Roa, bool)]) {
        let mut pdus = vec![Pdu::CacheResponse { session }];
        pdus.extend(changes.iter().map(|&(roa, announced)| Pdu::Prefix { announced, roa }));
        pdus.push(end(session, serial));
        self.says(version, &pdus);
    }

    /// Lets the next deadline come.
    fn wait(&mut self) -> Duration {
        let before = self.now;
        self.now = self.session.next_deadline().max(before);
        self.event(Event::Tick);
        self.now - before
    }

    fn has(&self, roas: &[Roa]) -> bool {
        *self.roas == roas.iter().copied().collect()
    }

    fn state(&self) -> State {
        self.session.status().state
    }
}

fn end(session: u16, serial: u32) -> Pdu {
    Pdu::EndOfData {
        session,
        serial,
        intervals: Some(Intervals {
            refresh: seconds(900),
            retry: seconds(30),
            expire: seconds(1800),
        }),
    }
}

fn payloads() -> [Roa; 3] {
    [
        roa("10.0.0.0/8", 24, 65000),
        roa("192.0.2.0/24", 24, 0),
        roa("2001:db8::/32", 48, 4_200_000_000),
    ]
}

#[test]
fn pdus_by_hand() {
    let [v4, _, v6] = payloads();
    let prefix = |roa| Pdu::Prefix { announced: true, roa };
    for (pdu, version, octets) in [
        (Pdu::ResetQuery, 1, vec![1, 2, 0, 0, 0, 0, 0, 8]),
        (
            Pdu::SerialQuery {
                session: 0x102,
                serial: 7,
            },
            0,
            vec![0, 1, 1, 2, 0, 0, 0, 12, 0, 0, 0, 7],
        ),
        (
            prefix(v4),
            1,
            vec![1, 4, 0, 0, 0, 0, 0, 20, 1, 8, 24, 0, 10, 0, 0, 0, 0, 0, 0xFD, 0xE8],
        ),
        (
            prefix(v6),
            1,
            [
                vec![1, 6, 0, 0, 0, 0, 0, 32, 1, 32, 48, 0, 0x20, 1, 0x0D, 0xB8],
                vec![0; 12],
                vec![0xFA, 0x56, 0xEA, 0],
            ]
            .concat(),
        ),
        (
            end(5, 6),
            1,
            vec![
                1, 7, 0, 5, 0, 0, 0, 24, 0, 0, 0, 6, 0, 0, 3, 0x84, 0, 0, 0, 30, 0, 0, 7, 8,
            ],
        ),
        (
            Pdu::ErrorReport {
                code: ErrorCode::NoData,
                text: "no".to_owned(),
            },
            1,
            vec![1, 10, 0, 2, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 2, b'n', b'o'],
        ),
    ] {
        assert_eq!(pdu.encode(version), octets, "{pdu:?}");
        let length = octets.len();
        assert_eq!(decode(&octets), Ok(Some(Decoded { version, pdu, length })));
        for cut in 0..length {
            assert_eq!(decode(&octets[..cut]), Ok(None), "the first {cut} octets");
        }
    }
}

#[test]
fn malformed_pdus_are_named() {
    for (octets, code) in [
        (vec![1, 4, 0, 0, 0, 0, 0, 21], ErrorCode::CorruptData),
        (vec![1, 4, 0, 0, 0, 0, 0, 7], ErrorCode::CorruptData),
        (vec![1, 10, 0, 0, 0, 2, 0, 0], ErrorCode::CorruptData),
        (vec![1, 5, 0, 0, 0, 0, 0, 8], ErrorCode::UnsupportedPdu),
        (vec![1, 11, 0, 0, 0, 0, 0, 8], ErrorCode::UnsupportedPdu),
        // The maximum length is shorter than the prefix, or longer than an address; bits beyond the prefix.
        (
            vec![1, 4, 0, 0, 0, 0, 0, 20, 1, 8, 7, 0, 10, 0, 0, 0, 0, 0, 0, 1],
            ErrorCode::CorruptData,
        ),
        (
            vec![1, 4, 0, 0, 0, 0, 0, 20, 1, 8, 33, 0, 10, 0, 0, 0, 0, 0, 0, 1],
            ErrorCode::CorruptData,
        ),
        (
            vec![1, 4, 0, 0, 0, 0, 0, 20, 1, 8, 8, 0, 10, 1, 0, 0, 0, 0, 0, 1],
            ErrorCode::CorruptData,
        ),
        // A text, and a quoted PDU, that are longer than the report.
        (
            vec![1, 10, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1],
            ErrorCode::CorruptData,
        ),
        (
            vec![1, 10, 0, 0, 0, 0, 0, 16, 255, 255, 255, 255, 0, 0, 0, 0],
            ErrorCode::CorruptData,
        ),
    ] {
        assert_eq!(decode(&octets).map_err(|bad| bad.code), Err(code), "{octets:?}");
    }
}

#[test]
fn everything_then_changes() {
    let mut world = world();
    let [a, b, c] = payloads();
    world.answers(1, (7, 1), &[(a, true), (b, true)]);
    assert!(world.has(&[a, b]) && world.done().is_empty());
    assert_eq!(world.state(), State::Idle);
    assert_eq!(world.wait(), seconds(900), "the cache's refresh interval");
    assert_eq!(world.sent(), [Pdu::SerialQuery { session: 7, serial: 1 }]);
    world.answers(1, (7, 2), &[(a, false), (c, true)]);
    assert!(world.has(&[b, c]));
    // Told of news, it asks at once.
    world.says(1, &[Pdu::SerialNotify { session: 7, serial: 2 }]);
    assert!(world.done().is_empty(), "no news");
    world.says(1, &[Pdu::SerialNotify { session: 7, serial: 3 }]);
    assert_eq!(world.sent(), [Pdu::SerialQuery { session: 7, serial: 2 }]);
    // While it is busy it remembers.
    world.says(
        1,
        &[
            Pdu::CacheResponse { session: 7 },
            Pdu::SerialNotify { session: 7, serial: 4 },
        ],
    );
    let before = world.changes;
    world.says(1, &[end(7, 3)]);
    assert_eq!(world.sent(), [Pdu::SerialQuery { session: 7, serial: 3 }]);
    world.answers(1, (7, 4), &[]);
    assert_eq!((world.changes, world.state()), (before, State::Idle), "nothing changed");
}

#[test]
fn half_an_answer_counts_for_nothing() {
    let mut world = world();
    let [a, b, _] = payloads();
    world.answers(1, (7, 1), &[(a, true)]);
    world.wait();
    world.done();
    world.says(
        1,
        &[
            Pdu::CacheResponse { session: 7 },
            Pdu::Prefix {
                announced: false,
                roa: a,
            },
        ],
    );
    world.event(Event::Closed("reset".to_owned()));
    assert!(world.has(&[a]));
    assert_eq!(world.session.status().problem.as_deref(), Some("reset"));
    assert_eq!(world.wait(), seconds(5));
    assert_eq!(world.done(), [Action::Connect]);
    world.event(Event::Connected);
    assert_eq!(
        world.sent(),
        [Pdu::SerialQuery { session: 7, serial: 1 }],
        "it goes on where it was"
    );
    world.answers(1, (7, 2), &[(b, true)]);
    assert!(world.has(&[a, b]));
}

#[test]
fn a_cache_that_cannot_say_what_changed_is_asked_for_everything() {
    let mut world = world();
    let [a, b, _] = payloads();
    world.answers(1, (7, 1), &[(a, true)]);
    world.wait();
    world.done();
    world.says(1, &[Pdu::CacheReset]);
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
    assert!(world.has(&[a]), "until there is something else");
    world.answers(1, (8, 100), &[(b, true)]);
    assert!(world.has(&[b]));
    // A notify of another session says that the cache began anew.
    world.says(
        1,
        &[Pdu::SerialNotify {
            session: 9,
            serial: 100,
        }],
    );
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
    world.answers(1, (9, 100), &[(b, true)]);
    assert!(world.has(&[b]));
    // An answer of another session to a question about this one is an error, and does not empty the table either.
    world.wait();
    world.done();
    world.says(1, &[Pdu::CacheResponse { session: 10 }]);
    assert_eq!(world.reported(), ErrorCode::CorruptData);
    assert!(world.has(&[b]));
    world.wait();
    world.event(Event::Connected);
    assert_eq!(world.done()[1..], [Action::Send(Pdu::ResetQuery.encode(1))]);
}

#[test]
fn a_lost_cache_holds_until_it_expires() {
    let mut world = world();
    let [a, ..] = payloads();
    world.answers(1, (7, 1), &[(a, true)]);
    world.event(Event::Closed(String::new()));
    let mut pauses = Vec::new();
    let lost = world.now;
    while world.has(&[a]) && world.now < seconds(100_000) {
        if world.state() == State::Connecting {
            world.event(Event::Closed("refused".to_owned()));
        }
        pauses.push(world.wait().as_secs());
    }
    assert_eq!(world.now - lost, seconds(1800), "the cache's expire interval");
    assert!(world.has(&[]));
    assert_eq!(
        pauses[..5],
        [5, 10, 20, 30, 30],
        "doubling up to the retry interval: {pauses:?}"
    );
    // What has expired is asked for as a whole.
    while world.state() != State::Connecting {
        world.wait();
    }
    world.done();
    world.event(Event::Connected);
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
    world.answers(1, (7, 1), &[(a, true)]);
    assert!(world.has(&[a]) && world.session.status().problem.is_none());
}

#[test]
fn what_is_kept_is_not_the_caches_to_say() {
    let keep = |time| Interval {
        time: seconds(time),
        keep: true,
    };
    let timers = Timers {
        refresh: keep(7),
        retry: keep(3),
        expire: keep(700),
    };
    let mut world = world_with(timers, false);
    world.event(Event::Connected);
    world.done();
    world.answers(1, (7, 1), &[(payloads()[0], true)]);
    assert_eq!(world.wait(), seconds(7));
    world.event(Event::Closed(String::new()));
    assert_eq!(world.wait(), seconds(3));
    // Other timers are taken over while the session goes on.
    world.event(Event::Connected);
    world.answers(1, (7, 2), &[]);
    world.session.set_timers(Timers {
        refresh: keep(50),
        ..timers
    });
    assert_eq!(world.wait(), seconds(50));
    // Bounds hold for what the cache says too.
    let mut world = self::world();
    let intervals = Intervals {
        refresh: seconds(0),
        retry: seconds(1_000_000),
        expire: seconds(1),
    };
    let last = Pdu::EndOfData {
        session: 1,
        serial: 1,
        intervals: Some(intervals),
    };
    world.says(1, &[Pdu::CacheResponse { session: 1 }, last]);
    let bounded = world.session.status().intervals;
    assert_eq!(
        (bounded.refresh, bounded.retry, bounded.expire),
        (seconds(1), seconds(7200), seconds(600))
    );
}

#[test]
fn a_cache_of_version_0() {
    // It answers in version 0.
    let mut world = world();
    let [a, ..] = payloads();
    world.answers(0, (7, 1), &[(a, true)]);
    assert!(world.has(&[a]));
    assert_eq!(world.session.status().version, 0);
    assert_eq!(world.wait(), seconds(3600), "our own refresh interval");
    let done = world.done();
    assert_eq!(
        done,
        [Action::Send(Pdu::SerialQuery { session: 7, serial: 1 }.encode(0))]
    );
    // In the middle nobody changes the version.
    world.says(1, &[Pdu::CacheResponse { session: 7 }]);
    assert_eq!(world.reported(), ErrorCode::UnexpectedVersion);

    // Or it says that it does not know version 1: then it is asked again at once, and answered no report.
    let mut world = self::world();
    let unsupported = Pdu::ErrorReport {
        code: ErrorCode::UnsupportedVersion,
        text: String::new(),
    };
    world.says(0, std::slice::from_ref(&unsupported));
    assert_eq!(world.done(), [Action::Close]);
    assert_eq!(world.wait(), Duration::ZERO);
    assert_eq!(world.done(), [Action::Connect]);
    world.event(Event::Connected);
    assert_eq!(world.done(), [Action::Send(Pdu::ResetQuery.encode(0))]);
    // One that knows neither is a failure like another.
    world.says(0, &[unsupported]);
    assert_eq!(world.done(), [Action::Close]);
    assert!(world.wait() >= seconds(5));
}

#[test]
fn a_newer_cache_is_asked_in_our_version() {
    let mut world = world();
    world.says(2, &[Pdu::SerialNotify { session: 7, serial: 1 }]);
    assert!(world.done().is_empty(), "before the first answer a notify says nothing");
    world.says(2, &[Pdu::CacheResponse { session: 7 }]);
    assert_eq!(world.reported(), ErrorCode::UnexpectedVersion);
}

#[test]
fn a_cache_without_data_is_asked_again() {
    let mut world = world();
    let none = Pdu::ErrorReport {
        code: ErrorCode::NoData,
        text: "still\nloading".to_owned(),
    };
    world.says(1, &[none]);
    assert_eq!(world.state(), State::NoData);
    let problem = world.session.status().problem.unwrap();
    assert_eq!(problem, "the cache says: no data available: still\u{FFFD}loading");
    assert_eq!(world.wait(), seconds(600));
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
}

#[test]
fn errors_of_caches_are_told_them_and_change_nothing() {
    let [a, b, _] = payloads();
    let announce = |roa| Pdu::Prefix { announced: true, roa };
    let withdraw = |roa| Pdu::Prefix { announced: false, roa };
    let begin = Pdu::CacheResponse { session: 7 };
    for (says, code) in [
        (
            vec![begin.clone(), announce(b), announce(b), end(7, 2)],
            ErrorCode::DuplicateAnnouncement,
        ),
        (
            vec![begin.clone(), announce(a), end(7, 2)],
            ErrorCode::DuplicateAnnouncement,
        ),
        (
            vec![begin.clone(), withdraw(b), end(7, 2)],
            ErrorCode::UnknownWithdrawal,
        ),
        (vec![begin.clone(), end(8, 2)], ErrorCode::CorruptData),
        (vec![begin.clone(), begin.clone()], ErrorCode::CorruptData),
        (vec![begin, Pdu::CacheReset], ErrorCode::CorruptData),
        (vec![announce(b)], ErrorCode::CorruptData),
        (vec![end(7, 2)], ErrorCode::CorruptData),
        (vec![Pdu::ResetQuery], ErrorCode::InvalidRequest),
    ] {
        let mut world = world();
        world.answers(1, (7, 1), &[(a, true)]);
        world.wait();
        world.done();
        world.says(1, &says);
        assert_eq!(world.reported(), code, "{says:?}");
        assert!(world.has(&[a]) && world.state() == State::Waiting, "{says:?}");
    }
}

#[test]
fn an_error_report_is_not_answered() {
    let mut world = world();
    let fatal = Pdu::ErrorReport {
        code: ErrorCode::InternalError,
        text: String::new(),
    };
    world.says(1, &[fatal]);
    assert_eq!(world.done(), [Action::Close]);
    // A cache that cannot make sense of our question is asked another one.
    let mut world = self::world();
    world.answers(1, (7, 1), &[(payloads()[0], true)]);
    world.wait();
    world.done();
    let corrupt = Pdu::ErrorReport {
        code: ErrorCode::CorruptData,
        text: String::new(),
    };
    world.says(1, &[corrupt]);
    assert!(world.has(&payloads()[..1]));
    world.wait();
    world.done();
    world.event(Event::Connected);
    assert_eq!(world.sent(), [Pdu::ResetQuery]);
    // Not even one that makes no sense is answered.
    let mut world = self::world();
    world.event(Event::Received(&[1, 10, 0, 0, 0, 0, 0, 9]));
    world.event(Event::Received(&[0; 8]));
    assert_eq!(world.done(), [Action::Close]);
}

#[test]
fn a_silent_cache_is_given_up() {
    let mut world = world();
    assert_eq!(world.wait(), seconds(60));
    assert_eq!(world.done(), [Action::Close]);
    // One that is slow is not.
    world.wait();
    world.done();
    world.event(Event::Connected);
    world.done();
    world.says(1, &[Pdu::CacheResponse { session: 7 }]);
    for n in 0..10 {
        world.now += seconds(50);
        world.event(Event::Tick);
        world.says(
            1,
            &[Pdu::Prefix {
                announced: true,
                roa: roa("10.0.0.0/8", 8, n),
            }],
        );
    }
    world.says(1, &[end(7, 1)]);
    assert_eq!(world.roas.len(), 10);
}

#[test]
fn maximum_lengths_may_be_ignored() {
    let mut world = world_with(Timers::default(), true);
    world.event(Event::Connected);
    world.done();
    let (short, long) = (roa("10.0.0.0/8", 8, 1), roa("10.0.0.0/8", 9, 1));
    world.answers(1, (7, 1), &[(short, true), (long, true)]);
    assert!(world.has(&[roa("10.0.0.0/8", 32, 1)]));
    world.wait();
    world.done();
    world.answers(1, (7, 2), &[(short, false)]);
    assert!(world.has(&[roa("10.0.0.0/8", 32, 1)]), "the other one still says so");
    assert_eq!(world.state(), State::Idle);
}

fn any_pdu() -> impl Strategy<Value = Pdu> {
    let prefix = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, len)| Prefix::new(std::net::Ipv4Addr::from(bits).into(), len)),
        (any::<u128>(), 0u8..=128).prop_map(|(bits, len)| Prefix::new(std::net::Ipv6Addr::from(bits).into(), len)),
    ];
    let roa = (prefix, 0u8..8, any::<u32>()).prop_map(|(prefix, more, asn)| {
        let prefix = prefix.unwrap();
        Roa::new(prefix, (prefix.len() + more).min(prefix.max_len()), Asn(asn)).unwrap()
    });
    let intervals = (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(refresh, retry, expire)| Intervals {
        refresh: seconds(refresh.into()),
        retry: seconds(retry.into()),
        expire: seconds(expire.into()),
    });
    let code = (0u16..12).prop_map(|number| {
        let report = [1, 10, 0, number as u8, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
        match decode(&report).unwrap().unwrap().pdu {
            Pdu::ErrorReport { code, .. } => code,
            other => panic!("{other:?}"),
        }
    });
    // Few sessions and serial numbers, so that they meet.
    let session = 0u16..3;
    prop_oneof![
        (session.clone(), 0u32..4).prop_map(|(session, serial)| Pdu::SerialNotify { session, serial }),
        (session.clone(), 0u32..4).prop_map(|(session, serial)| Pdu::SerialQuery { session, serial }),
        Just(Pdu::ResetQuery),
        session.clone().prop_map(|session| Pdu::CacheResponse { session }),
        (any::<bool>(), roa).prop_map(|(announced, roa)| Pdu::Prefix { announced, roa }),
        (session, 0u32..4, intervals).prop_map(|(session, serial, intervals)| Pdu::EndOfData {
            session,
            serial,
            intervals: Some(intervals)
        }),
        Just(Pdu::CacheReset),
        Just(Pdu::RouterKey),
        (code, "[a-z ]{0,20}").prop_map(|(code, text)| Pdu::ErrorReport { code, text }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(pdu in any_pdu(), more in proptest::collection::vec(any::<u8>(), 0..9)) {
        let mut octets = pdu.encode(1);
        let length = octets.len();
        octets.extend(more);
        prop_assert_eq!(decode(&octets), Ok(Some(Decoded { version: 1, pdu, length })));
    }

    /// Whatever a cache says and whenever it goes: what is announced is one of the states that it described as a whole, there
    /// is always a deadline ahead, and nothing is sent without a connection.
    #[test]
    fn a_session_survives_any_cache(
        acts in proptest::collection::vec(
            prop_oneof![
                6 => any_pdu().prop_map(|pdu| Some(pdu.encode(1))),
                1 => any_pdu().prop_map(|pdu| Some(pdu.encode(0))),
                1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
                2 => Just(None),
            ],
            0..60,
        ),
    ) {
        let mut world = world_with(Timers::default(), false);
        for act in acts {
            match act {
                Some(octets) => {
                    if world.state() == State::Connecting {
                        world.event(Event::Connected);
                    }
                    world.event(Event::Received(&octets));
                }
                None => {
                    world.wait();
                }
            }
            let status = world.session.status();
            prop_assert_eq!(status.payloads, world.roas.len());
            prop_assert!(status.payloads == 0 || status.expire_at.is_some(), "nothing holds for ever");
            if matches!(status.state, State::Waiting | State::Connecting) {
                let done = world.done();
                let close = done.iter().rposition(|action| *action == Action::Close);
                let send = done.iter().rposition(|action| matches!(action, Action::Send(_)));
                prop_assert!(send.is_none() || close > send, "{:?}", done);
            }
        }
    }
}
