//! Two peers and a network that does its worst: it delays, reorders what is on different connections, breaks them for
//! both sides or for one, loses their ends, and lets one side forget everything. Once it behaves, there is a session.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    /// What waits longest on one of the connections arrives.
    Deliver(u8),
    /// A connection that somebody wants is made.
    Connect(u8),
    /// Tenths of a second pass.
    Wait(u16),
    /// Nobody hears of ends that are on their way, nor is told that nobody is there.
    LoseEnds,
    /// Every connection breaks, for both sides.
    Cut,
    /// For one of them.
    HalfCut(u8),
    /// Side 1 is killed, with its kernel, and starts again.
    Restart,
    /// The operator of a side ends the session and begins anew.
    Reset(u8),
}

fn mostly_progress() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => any::<u8>().prop_map(Move::Deliver),
        4 => any::<u8>().prop_map(Move::Connect),
        4 => (0..80_u16).prop_map(Move::Wait),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        20 => mostly_progress(),
        2 => Just(Move::LoseEnds),
        1 => Just(Move::Cut),
        2 => (0..2_u8).prop_map(Move::HalfCut),
        1 => Just(Move::Restart),
        1 => (0..2_u8).prop_map(Move::Reset),
    ]
}

/// Its packets do not get through any more, and after that it is another process.
fn restarts() -> impl Strategy<Value = Move> {
    prop_oneof![20 => mostly_progress(), 2 => Just(Move::Restart)]
}

/// Everything arrives, within no time to speak of.
fn collides() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => any::<u8>().prop_map(Move::Deliver),
        4 => any::<u8>().prop_map(Move::Connect),
        1 => Just(Move::Wait(0)),
    ]
}

struct World {
    pair: Pair,
    /// How side 1 is configured.
    theirs: PeerConfig,
    /// The key of side 1's next process.
    key: u32,
}

impl World {
    fn new(ours: PeerConfig, theirs: PeerConfig) -> Self {
        World {
            pair: Pair::new(ours, theirs.clone()),
            theirs,
            key: 100,
        }
    }

    fn act(&mut self, step: &Move) {
        let pair = &mut self.pair;
        match *step {
            Move::Deliver(index) => {
                let Some(&(side, conn, _)) = pick(&pair.flight, index) else {
                    return;
                };
                let first = pair.flight.iter().position(|item| (item.0, item.1) == (side, conn));
                if let Some((side, conn, bytes)) = first.and_then(|at| pair.flight.remove(at)) {
                    pair.deliver(side, conn, bytes);
                }
            }
            Move::Connect(index) => {
                let at = usize::from(index) % pair.connects.len().max(1);
                if let Some((side, conn)) = pair.connects.remove(at) {
                    pair.finish_connect(side, conn);
                }
            }
            Move::Wait(tenths) => {
                pair.now += Duration::from_millis(u64::from(tenths) * 100);
                pair.event(0, Event::Tick);
                pair.event(1, Event::Tick);
            }
            Move::LoseEnds => pair.flight.retain(|(_, _, bytes)| bytes.is_some()),
            Move::Cut => pair.cut(&[0, 1]),
            Move::HalfCut(side) => pair.cut(&[usize::from(side)]),
            Move::Restart => self.restart(),
            Move::Reset(side) => {
                let reason = StopReason::AdministrativeReset(String::new());
                pair.event(usize::from(side), Event::Stop(reason));
            }
        }
    }

    fn restart(&mut self) {
        let pair = &mut self.pair;
        pair.flight.clear();
        pair.connects.retain(|(side, _)| *side != 1);
        for wire in &mut pair.wires {
            wire.open[1] = false;
        }
        pair.peers[1] = Peer::new(self.key, self.theirs.clone(), true);
        self.key += 1;
        pair.event(1, Event::Start);
    }

    /// One session, and both mean the same connection.
    fn converged(&self) -> bool {
        let [a, b] = [0, 1].map(|side| self.pair.peers[side].negotiated().map(|negotiated| negotiated.conn));
        let same = |wire: &Wire| wire.open == [true; 2] && [Some(wire.ends[0]), Some(wire.ends[1])] == [a, b];
        self.pair.established() && self.pair.wires.iter().any(same)
    }

    fn show(&self) -> String {
        format!("{:#?} {:#?}", self.pair.peers, self.pair.wires)
    }
}

fn pick<T>(list: &VecDeque<T>, index: u8) -> Option<&T> {
    list.get(usize::from(index) % list.len().max(1))
}

fn quick(mut config: PeerConfig) -> PeerConfig {
    config.hold_time = secs(90);
    config.startup_hold_time = secs(90);
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Nobody is told that the other end of his connection is gone: only timers find that out.
    #[test]
    fn there_is_a_session_once_the_network_behaves(
        ids in prop_oneof![Just((1, 2)), Just((2, 1))],
        (passive, graceful, delayed) in any::<(bool, bool, bool)>(),
        steps in prop::collection::vec(any_move(), 0..120),
    ) {
        let (mut ours, mut theirs) = (quick(config(1, 2, ids.0)), quick(config(2, 1, ids.1)));
        ours.passive = passive;
        if delayed {
            ours.delay_open = secs(3);
        }
        if !graceful {
            ours.graceful_restart = GracefulRestartMode::Off;
            theirs.graceful_restart = GracefulRestartMode::Off;
        }
        let mut world = World::new(ours, theirs);
        steps.iter().for_each(|step| world.act(step));
        // Twice a hold time, for two connections that nobody is at any more, and the longest pause after an error.
        world.pair.run_until(world.pair.now + secs(2 * 90 + 30 + 10));
        prop_assert!(world.converged(), "{}", world.show());
        let downs = world.pair.seen.each_ref().map(|seen| seen.downs.len());
        world.pair.run_until(world.pair.now + secs(1000));
        prop_assert!(world.converged(), "{}", world.show());
        prop_assert_eq!(downs, world.pair.seen.each_ref().map(|seen| seen.downs.len()));
    }

    /// Both connect at once, and what they say arrives in whatever order: one session, and no side ever ends one that the
    /// other was in.
    #[test]
    fn a_collision_costs_no_session(
        ids in prop_oneof![Just((1, 2)), Just((2, 1))],
        (at, steps) in (15..30_u16, prop::collection::vec(collides(), 0..60)),
    ) {
        let (ours, theirs) = (quick(config(1, 2, ids.0)), quick(config(2, 1, ids.1)));
        let mut world = World::new(ours, theirs);
        world.act(&Move::Wait(at));
        steps.iter().for_each(|step| world.act(step));
        world.pair.run_until(world.pair.now + secs(20));
        prop_assert!(world.converged(), "{}", world.show());
        for seen in &world.pair.seen {
            prop_assert_eq!((seen.ups.len(), &*seen.downs), (1, &[][..]), "{}", world.show());
        }
    }

    /// The peer opens every connection, and what it leaves behind when it is killed at whatever instant keeps it out for
    /// no time: it is back as soon as it has connected.
    #[test]
    fn a_peer_that_comes_back_need_not_wait_for_what_it_left_behind(
        ids in prop_oneof![Just((1, 2)), Just((2, 1))],
        steps in prop::collection::vec(restarts(), 0..120),
    ) {
        let (mut ours, theirs) = (quick(config(1, 2, ids.0)), quick(config(2, 1, ids.1)));
        ours.passive = true;
        let delay = theirs.connect_delay;
        let mut world = World::new(ours, theirs);
        steps.iter().for_each(|step| world.act(step));
        world.restart();
        world.pair.run_until(world.pair.now + delay);
        prop_assert!(world.converged(), "{}", world.show());
    }
}
