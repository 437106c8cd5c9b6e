//! Two routers over a wire that loses, repeats, delays and reorders, and that restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::{Action, Arrival, Cause, Hops, Key, Packet, Params, Report, Sessions, State};

pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn params(min_tx: u32, min_rx: u32, detect_mult: u8) -> Params {
    Params {
        min_tx: MS * min_tx,
        min_rx: MS * min_rx,
        idle_tx: Duration::from_secs(1),
        detect_mult,
        passive: false,
    }
}

/// The side's own address.
fn address(side: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, if side == 0 { 1 } else { 2 }])
}

pub(super) fn key(side: usize) -> Key {
    Key {
        peer: address(1 - side),
        local: address(side),
        interface: Some(Arc::from("eth0")),
        hops: Hops::Single,
    }
}

/// What the wire does to a packet: how many copies arrive, and how late.
pub(super) type Wire = Box<dyn FnMut(Duration, usize) -> Vec<Duration>>;

pub(super) struct Network {
    pub(super) now: Duration,
    pub(super) sides: [Sessions; 2],
    params: [Params; 2],
    /// When, to whom, what.
    flying: Vec<(Duration, usize, [u8; 24])>,
    pub(super) wire: Wire,
    pub(super) reports: Vec<(Duration, usize, Report)>,
    pub(super) sent: Vec<(Duration, usize, Packet)>,
    seed: u64,
}

impl Network {
    pub(super) fn new(a: Params, b: Params) -> Self {
        let mut network = Network {
            now: Duration::ZERO,
            sides: [Sessions::new(1), Sessions::new(2)],
            params: [a, b],
            flying: Vec::new(),
            wire: Box::new(|_, _| vec![MS]),
            reports: Vec::new(),
            sent: Vec::new(),
            seed: 2,
        };
        network.configure(0, a);
        network.configure(1, b);
        network
    }

    pub(super) fn configure(&mut self, side: usize, params: Params) {
        self.params[side] = params;
        let mut out = Vec::new();
        self.sides[side].want(self.now, &[(key(side), params)], &mut out);
        self.execute(side, out);
    }

    /// The process of a side is another one now.
    pub(super) fn restart(&mut self, side: usize) {
        self.seed += 1;
        self.sides[side] = Sessions::new(self.seed);
        self.configure(side, self.params[side]);
    }

    pub(super) fn execute(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(to, packet) => {
                    assert_eq!(to, key(side));
                    self.sent.push((self.now, side, packet));
                    for delay in (self.wire)(self.now, side) {
                        self.flying.push((self.now + delay, 1 - side, packet.encode()));
                    }
                }
                Action::Report(report) => self.reports.push((self.now, side, report)),
                Action::Gone(_) => {}
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        // More than two sides can do in any test's time.
        for _ in 0..1_000_000 {
            let deadlines = self.sides.iter().filter_map(Sessions::next_deadline);
            let arrivals = self.flying.iter().map(|(at, ..)| *at);
            let Some(next) = deadlines.chain(arrivals).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
        panic!("busy without end");
    }

    fn step(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.flying = later;
        for (_, side, octets) in due {
            let arrival = Arrival {
                source: address(1 - side),
                destination: address(side),
                interface: "eth0",
                ttl: 255,
                hops: Hops::Single,
            };
            let mut out = Vec::new();
            // A packet for a predecessor is discarded, as it should be.
            let _ = self.sides[side].receive(now, &arrival, &octets, &mut out);
            self.execute(side, out);
        }
        for side in 0..2 {
            let mut out = Vec::new();
            self.sides[side].tick(now, &mut out);
            self.execute(side, out);
        }
    }

    pub(super) fn states(&self) -> [Option<State>; 2] {
        [0, 1].map(|side| self.sides[side].views().first().map(|view| view.state))
    }

    pub(super) fn is_up(&self) -> bool {
        self.states() == [Some(State::Up); 2]
    }
}

#[test]
fn two_come_up_in_seconds_and_speed_up() {
    let mut network = Network::new(params(100, 10, 5), params(300, 50, 3));
    network.run(Duration::from_secs(4));
    assert!(network.is_up(), "{:?}", network.states());
    let [a, b] = [0, 1].map(|side| network.sides[side].views().remove(0));
    assert_eq!((a.interval, a.timeout), (Some(MS * 100), Some(MS * 900)));
    assert_eq!((b.interval, b.timeout), (Some(MS * 300), Some(MS * 500)));
    let polls = network.sent.iter().filter(|(at, _, p)| p.poll && *at > MS * 3900);
    assert_eq!(polls.count(), 0, "the polls were answered");
    let finals = network.sent.iter().filter(|(.., p)| p.r#final).count();
    assert!(finals >= 2, "{finals}");
}

#[test]
fn a_silent_wire_is_noticed_within_the_detection_time_and_no_sooner() {
    let mut network = Network::new(params(100, 100, 3), params(100, 100, 3));
    network.run(Duration::from_secs(5));
    assert!(network.is_up());
    let cut = network.now;
    network.wire = Box::new(|_, _| Vec::new());
    network.reports.clear();
    network.run(Duration::from_secs(2));
    for side in [0, 1] {
        let (at, _, report) = network.reports.iter().find(|(_, s, _)| *s == side).unwrap();
        assert_eq!(
            (report.from, report.to, report.cause),
            (State::Up, State::Down, Cause::Expired)
        );
        let took = *at - cut;
        assert!(took <= MS * 301 && took >= MS * 200, "{took:?}");
        assert_eq!(network.sides[side].views()[0].failures, 1);
    }
    network.wire = Box::new(|_, _| vec![MS]);
    network.run(Duration::from_secs(4));
    assert!(network.is_up(), "and back");
}

#[test]
fn one_deaf_side_takes_both_down() {
    let mut network = Network::new(params(100, 100, 3), params(100, 100, 3));
    network.run(Duration::from_secs(5));
    network.wire = Box::new(|_, from| if from == 0 { Vec::new() } else { vec![MS] });
    network.reports.clear();
    network.run(Duration::from_secs(5));
    let first = |side: usize| network.reports.iter().find(|(_, s, _)| *s == side).unwrap().2.cause;
    assert_eq!((first(1), first(0)), (Cause::Expired, Cause::RemoteDown));
    assert!(!network.is_up());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Whatever happens for a while, on a good wire both are up in the end and stay so.
    #[test]
    fn two_always_find_together(
        fates in prop::collection::vec((0..4_u8, 0..400_u32), 1..200),
        restarts in prop::collection::vec((0..2_usize, 1..5000_u32), 0..6),
        a in (10..500_u32, 10..500_u32, 1..6_u8),
        b in (10..500_u32, 10..500_u32, 2..6_u8),
    ) {
        let mut network = Network::new(params(a.0, a.1, a.2), params(b.0, b.1, b.2));
        let mut at = 0_usize;
        network.wire = Box::new(move |_, _| {
            let (copies, delay) = fates[at % fates.len()];
            at += 1;
            (0..u32::from(copies)).map(|copy| MS * (delay + copy * 150)).collect()
        });
        for (side, after) in restarts {
            network.run(MS * after);
            network.restart(side);
        }
        network.run(Duration::from_secs(10));
        network.wire = Box::new(|_, _| vec![MS]);
        network.run(Duration::from_secs(15));
        prop_assert!(network.is_up(), "{:?}", network.states());
        network.reports.clear();
        network.run(Duration::from_secs(20));
        prop_assert!(network.reports.is_empty(), "{:?}", network.reports);
        let views = [0, 1].map(|side| network.sides[side].views().remove(0));
        prop_assert_eq!(views[0].interval, Some(MS * a.0.max(b.1)));
        prop_assert_eq!(views[1].timeout, Some(MS * b.1.max(a.0) * a.2.into()));
    }
}
