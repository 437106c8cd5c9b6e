//! Whatever happens, in whatever order: no panic, and the module's invariants.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::packet::{Cease, ErrorCode, Update};

#[derive(Debug, Clone)]
enum Step {
    Wait(u16),
    Start,
    Stop(u8),
    Connected(u8),
    ConnectFailed(u8),
    Accept,
    Message(u8, u8),
    Closed(u8),
    Blocked(u8),
    Unblocked(u8),
    Converged,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..600_u16).prop_map(Step::Wait),
        1 => Just(Step::Start),
        1 => (0..7_u8).prop_map(Step::Stop),
        3 => any::<u8>().prop_map(Step::Connected),
        1 => any::<u8>().prop_map(Step::ConnectFailed),
        3 => Just(Step::Accept),
        9 => (any::<u8>(), 0..9_u8).prop_map(|(conn, message)| Step::Message(conn, message)),
        1 => any::<u8>().prop_map(Step::Closed),
        1 => any::<u8>().prop_map(Step::Blocked),
        1 => any::<u8>().prop_map(Step::Unblocked),
        1 => Just(Step::Converged),
    ]
}

fn message(kind: u8) -> Result<Message, Notification> {
    Ok(match kind {
        0 => Message::Open(open_of(&config(2, 1, 2))),
        1 => Message::Open(open_of(&long_lived(config(2, 1, 2)))),
        2 => Message::Open(open_of(&config(3, 1, 2))),
        3 | 4 => Message::Keepalive,
        5 => Message::Update(Box::new(Update {
            end_of_rib: Some(AfiSafi::Ipv4Unicast),
            ..Update::default()
        })),
        6 => Message::Notification(Notification::cease(Cease::AdministrativeReset, "x")),
        7 => Message::Notification(Notification::new(ErrorCode::Update, 3)),
        _ => return Err(Notification::new(ErrorCode::Header, 2)),
    })
}

fn stop(kind: u8) -> StopReason {
    match kind {
        0 => StopReason::AdministrativeShutdown("x".to_owned()),
        1 => StopReason::AdministrativeReset(String::new()),
        2 => StopReason::Deconfigured,
        3 => StopReason::ConfigurationChange,
        4 => StopReason::PrefixLimit { restart: true },
        5 => StopReason::OutOfResources,
        _ => StopReason::ProcessExit,
    }
}

/// What an owner knows of a peer's connections and routes.
#[derive(Default)]
struct Ledger {
    connecting: BTreeSet<ConnId>,
    open: BTreeSet<ConnId>,
    ever: Vec<ConnId>,
    up: bool,
    stale: FamilySet,
}

impl Ledger {
    fn pick(&self, index: u8) -> ConnId {
        if self.ever.is_empty() {
            ConnId::Incoming(u64::MAX)
        } else {
            self.ever[usize::from(index) % self.ever.len()]
        }
    }

    fn check(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Connect { conn } => {
                    assert!(!self.ever.contains(conn), "{conn} is used twice");
                    self.connecting.insert(*conn);
                    self.ever.push(*conn);
                }
                Action::Close { conn } => {
                    assert!(
                        self.open.remove(conn) || self.connecting.remove(conn),
                        "{conn} was closed before"
                    );
                }
                Action::Send { conn, .. } => assert!(self.open.contains(conn), "{conn} is not open"),
                Action::Up(negotiated) => {
                    assert!(!self.up && self.open.contains(&negotiated.conn));
                    self.up = true;
                }
                Action::Down { retain, .. } => {
                    assert!(self.up);
                    self.up = false;
                    self.stale = *retain;
                }
                Action::SweepStale { family } => {
                    assert!(self.stale.contains(*family), "nothing of {family} is stale");
                    self.stale.remove(*family);
                }
                Action::LongLived { family } => {
                    assert!(self.stale.contains(*family), "nothing of {family} is stale");
                }
                Action::Update(_) | Action::Refresh(_) => assert!(self.up),
                Action::StateChange { from, to, .. } => assert_ne!(from, to),
            }
        }
        let outgoing = |conn: &&ConnId| matches!(conn, ConnId::Outgoing { .. });
        assert!(self.connecting.len() + self.open.iter().filter(outgoing).count() <= 1);
        assert!(self.open.len() <= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn invariants_hold_for_any_sequence(
        (passive, delayed) in any::<(bool, bool)>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut ours = config(1, 2, 1);
        ours.passive = passive;
        if delayed {
            ours.delay_open = secs(3);
        }
        ours.long_lived = GracefulRestartMode::On;
        let mut peer = Peer::new(1, ours, true);
        let mut ledger = Ledger::default();
        let mut now = Duration::ZERO;
        let (local, remote) = (addr("10.0.0.1:179"), addr("10.0.0.2:179"));
        for step in steps {
            let mut actions = Vec::new();
            let event = match step {
                Step::Wait(tenths) => {
                    now += Duration::from_millis(u64::from(tenths) * 100);
                    Event::Tick
                }
                Step::Start => Event::Start,
                Step::Stop(kind) => Event::Stop(stop(kind)),
                Step::Converged => Event::Converged,
                Step::Accept => {
                    let conn = ConnId::Incoming(ledger.ever.len() as u64);
                    ledger.ever.push(conn);
                    ledger.open.insert(conn);
                    Event::Accepted { conn, local, remote }
                }
                Step::Connected(index) => {
                    let conn = ledger.pick(index);
                    if ledger.connecting.remove(&conn) {
                        ledger.open.insert(conn);
                    }
                    Event::Connected { conn, local, remote }
                }
                Step::ConnectFailed(index) => {
                    let conn = ledger.pick(index);
                    if !ledger.connecting.remove(&conn) {
                        continue;
                    }
                    Event::ConnectFailed { conn, error: "refused".to_owned() }
                }
                Step::Message(index, kind) => Event::Message { conn: ledger.pick(index), message: message(kind) },
                Step::Closed(index) => {
                    let conn = ledger.pick(index);
                    ledger.open.remove(&conn);
                    ledger.connecting.remove(&conn);
                    Event::Closed { conn, error: String::new() }
                }
                Step::Blocked(index) => Event::Blocked { conn: ledger.pick(index) },
                Step::Unblocked(index) => Event::Unblocked { conn: ledger.pick(index) },
            };
            let tick = event == Event::Tick;
            peer.handle(now, event, &mut actions);
            ledger.check(&actions);
            prop_assert_eq!(peer.state() == State::Established, ledger.up);
            if tick {
                prop_assert!(peer.next_deadline().is_none_or(|deadline| deadline > now));
            }
            let waiting = peer.started && ledger.open.is_empty() && ledger.connecting.is_empty();
            if waiting && !passive {
                prop_assert!(peer.connect_at.is_some() || peer.idle_until.is_some());
            }
            prop_assert!(ledger.up || peer.spent.is_empty());
            if ledger.stale.is_empty() {
                prop_assert!(peer.retained.is_empty());
            }
        }
    }
}
