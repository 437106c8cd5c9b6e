//! Several paths of a prefix towards peers (RFC 7911).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::Network;
use super::network::config;
use crate::speaker::{Command, Input, RouteQuery, RouteView};

/// The router under test; the others are its peers: two in other ASes, one in ours, a client, and two that listen.
const SENDER: u8 = 1;
const EXTERNAL: [u8; 2] = [2, 3];
const CLIENT: u8 = 5;
/// Wants every path.
const LISTENER: u8 = 6;
/// Is told the best one.
const PLAIN: u8 = 7;
const PEERS: std::ops::RangeInclusive<u8> = 2..=PLAIN;

/// What a peer announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announces {
    /// Bit by bit: which of four prefixes.
    prefixes: u8,
    med: u8,
}

/// How the sender is configured.
#[derive(Debug, Clone, Copy, Default)]
struct Sends {
    /// It reflects to the listeners.
    reflects: bool,
    /// It has all four prefixes itself.
    own: bool,
    /// It keeps paths with MED 1 to itself.
    filters: bool,
}

fn asn(me: u8) -> u32 {
    if EXTERNAL.contains(&me) {
        65000 + u32::from(me)
    } else {
        64512
    }
}

fn routes(prefixes: u8) -> String {
    let numbers = (0..4).filter(|n| prefixes & (1 << n) != 0);
    numbers.map(|n| format!("route 10.9.{n}.0/24 blackhole; ")).collect()
}

fn protocol(me: u8, peer: u8, options: &str, channel: &str) -> String {
    format!(
        "protocol bgp p{peer} {{ local 10.0.0.{me} as {}; neighbor 10.0.0.{peer} as {}; direct; connect delay time 1;\n\
         connect retry time 5; error wait time 1, 10; graceful restart on; {options} ipv4 {{ import all; {channel} }}; }}\n",
        asn(me),
        asn(peer)
    )
}

impl Announces {
    fn text(self, me: u8) -> String {
        let add_paths = if me == LISTENER { "add paths rx;" } else { "" };
        let export = format!(
            "export filter {{ if source = RTS_STATIC then {{ bgp_community.add((65000,{me})); bgp_med = {}; accept; }} reject; }};",
            self.med
        );
        format!(
            "router id 10.0.0.{me};\nprotocol device {{ }}\nprotocol static {{ ipv4; {} }}\n",
            routes(self.prefixes)
        ) + &protocol(me, SENDER, "", &format!("{add_paths} {export}"))
    }
}

impl Sends {
    fn text(self) -> String {
        let own = if self.own { 15 } else { 0 };
        let mut text = format!(
            "router id 10.0.0.1;\nprotocol device {{ }}\nprotocol static {{ ipv4; {} }}\n",
            routes(own)
        );
        for peer in PEERS {
            let client = peer == CLIENT || (self.reflects && [LISTENER, PLAIN].contains(&peer));
            let options = if client { "rr client;" } else { "" };
            let filter = if self.filters {
                "export where bgp_med != 1;"
            } else {
                "export all;"
            };
            // To those that do not want it, too.
            let channel = format!("add paths tx; {filter}");
            let _ = write!(text, "{}", protocol(SENDER, peer, options, &channel));
        }
        text
    }

    /// May the sender tell the listener what it has of this peer?
    fn passes(self, from: u8, med: u8) -> bool {
        let reflected = EXTERNAL.contains(&from) || from == CLIENT || self.reflects;
        from != LISTENER && reflected && !(self.filters && med == 1)
    }
}

/// A prefix, by whom it was announced (none: by the sender itself), and with which MED.
type Told = (String, Option<u8>, Option<u32>);

fn told(route: &RouteView) -> Told {
    let by = route.attributes.communities.iter().next().map(|c| (c.0 & 0xff) as u8);
    (route.prefix.to_string(), by, route.attributes.med)
}

fn from_sender(net: &Network, at: u8) -> Vec<RouteView> {
    let query = RouteQuery {
        protocol: Some("p1".to_owned()),
        filtered: true,
        ..RouteQuery::default()
    };
    net.node(usize::from(at) - 1).speaker.routes(&query)
}

struct World {
    net: Network,
    sends: Sends,
    announces: [Announces; 6],
    alive: [bool; 7],
}

impl World {
    fn new(prefixes: u8) -> World {
        let mut world = World {
            net: Network::default(),
            sends: Sends::default(),
            announces: [Announces { prefixes, med: 0 }; 6],
            alive: [false; 7],
        };
        (SENDER..=PLAIN).for_each(|me| world.start(me));
        world
    }

    fn text(&self, me: u8) -> String {
        match me {
            SENDER => self.sends.text(),
            peer => self.announces[usize::from(peer) - 2].text(peer),
        }
    }

    fn start(&mut self, me: u8) {
        let at = usize::from(me) - 1;
        if !std::mem::replace(&mut self.alive[at], true) {
            let text = self.text(me);
            self.net.start(at, &format!("10.0.0.{me}"), &text);
        }
    }

    fn reconfigure(&mut self, me: u8) {
        let config = config(&self.text(me));
        self.net.input(usize::from(me) - 1, Input::Reconfigure(config));
    }

    fn announce(&mut self, me: u8, what: Announces) {
        self.announces[usize::from(me) - 2] = what;
        self.reconfigure(me);
    }

    /// Everything that the listener should have of the sender.
    fn expected(&self) -> BTreeSet<Told> {
        let prefixes = |bits: u8| {
            (0..4)
                .filter(move |n| bits & (1 << n) != 0)
                .map(|n| format!("10.9.{n}.0/24"))
        };
        let peers = PEERS
            .zip(self.announces)
            .filter(|(peer, a)| self.sends.passes(*peer, a.med));
        let learned =
            peers.flat_map(|(peer, a)| prefixes(a.prefixes).map(move |p| (p, Some(peer), Some(u32::from(a.med)))));
        let own = prefixes(if self.sends.own { 15 } else { 0 }).map(|prefix| (prefix, None, None));
        learned.chain(own).collect()
    }

    fn updates_to(&self, peer: u8) -> u64 {
        let status = self.net.protocol(0, &format!("p{peer}"));
        status.bgp.map_or(0, |bgp| bgp.updates_sent)
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let received = from_sender(&self.net, LISTENER);
        let got: BTreeSet<Told> = received.iter().map(told).collect();
        prop_assert_eq!(got.len(), received.len(), "a path told twice");
        prop_assert_eq!(&got, &self.expected());
        prop_assert!(received.iter().all(|route| route.path_id != 0 && !route.stale));
        // What the sender says it tells is what it tells.
        let query = RouteQuery {
            exported_to: Some(format!("p{LISTENER}")),
            ..RouteQuery::default()
        };
        let named = |route: &RouteView| (told(route), route.path_id);
        let says: BTreeSet<_> = self.net.node(0).speaker.routes(&query).iter().map(named).collect();
        prop_assert_eq!(says, received.iter().map(named).collect::<BTreeSet<_>>());
        let channel = &self.net.protocol(0, &format!("p{LISTENER}")).channels[0];
        prop_assert_eq!(channel.exported as usize, received.len());
        for route in from_sender(&self.net, PLAIN) {
            prop_assert_eq!(route.path_id, 0);
            let best = self.net.best(0, &route.prefix.to_string());
            prop_assert_eq!(best.as_ref().map(told), Some(told(&route)));
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Act {
    Announce(u8, Announces),
    Send(Sends),
    Kill(u8),
    Start(u8),
    Cut(u8),
    HoldUpdates(u8),
    Hurry(u8),
    Refresh(bool),
    Settle,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let who = || SENDER..=PLAIN;
    let announces = (0u8..16, 0u8..3).prop_map(|(prefixes, med)| Announces { prefixes, med });
    let sends = any::<(bool, bool, bool)>().prop_map(|(reflects, own, filters)| Sends { reflects, own, filters });
    prop_oneof![
        8 => (PEERS, announces).prop_map(|(peer, what)| Act::Announce(peer, what)),
        2 => sends.prop_map(Act::Send),
        1 => who().prop_map(Act::Kill),
        1 => who().prop_map(Act::Start),
        1 => who().prop_map(Act::Cut),
        2 => prop_oneof![Just(SENDER), who()].prop_map(Act::HoldUpdates),
        2 => prop_oneof![Just(SENDER), who()].prop_map(Act::Hurry),
        2 => any::<bool>().prop_map(Act::Refresh),
        2 => Just(Act::Settle),
        2 => (0u64..15).prop_map(Act::Wait),
    ]
}

impl World {
    fn act(&mut self, act: Act) {
        let place = |me: u8| usize::from(me) - 1;
        let alive = self.alive;
        match act {
            Act::Announce(me, what) => self.announce(me, what),
            Act::Send(sends) => {
                self.sends = sends;
                self.reconfigure(SENDER);
            }
            Act::Kill(me) => {
                self.net.kill(place(me));
                self.alive[place(me)] = false;
            }
            Act::Start(me) => self.start(me),
            Act::Cut(me) => self.net.cut_all(place(me)),
            Act::HoldUpdates(me) if alive[place(me)] => self.net.node_mut(place(me)).holds_updates = true,
            Act::Hurry(me) if alive[place(me)] => self.net.hurry(place(me)),
            Act::HoldUpdates(_) | Act::Hurry(_) => {}
            Act::Refresh(by_listener) => {
                let (at, peer, command) = if by_listener {
                    (place(LISTENER), SENDER, Command::Reload)
                } else {
                    (0, LISTENER, Command::ReloadOut)
                };
                let protocol = format!("p{peer}").into();
                self.net.input(at, Input::Command { protocol, command });
            }
            Act::Settle => self.net.quiesce(),
            Act::Wait(seconds) => self.net.seconds(seconds),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_listener_ends_with_exactly_the_eligible_paths(acts in proptest::collection::vec(acts(), 0..40)) {
        let mut world = World::new(1);
        world.net.seconds(20);
        acts.into_iter().for_each(|act| world.act(act));
        for me in SENDER..=PLAIN {
            world.start(me);
            world.net.hurry(usize::from(me) - 1);
        }
        world.net.seconds(700);
        world.check()?;
    }
}

#[test]
fn a_path_is_told_once_and_the_others_are_left_alone() {
    let mut world = World::new(15);
    world.net.seconds(30);
    world.check().unwrap();
    let before = from_sender(&world.net, LISTENER);
    assert_eq!(
        before.len(),
        4 * 3,
        "two external ones and a client's; what the other internal ones said stays"
    );
    let sent = world.updates_to(LISTENER);
    let ids = |routes: &[RouteView], by: u8| -> BTreeSet<u32> {
        let of = routes.iter().filter(|route| told(route).1 == Some(by));
        of.map(|route| route.path_id).collect()
    };
    // Another MED: the same identifiers, in one message.
    world.announce(3, Announces { prefixes: 15, med: 2 });
    world.net.seconds(5);
    world.check().unwrap();
    let after = from_sender(&world.net, LISTENER);
    assert_eq!(world.updates_to(LISTENER), sent + 1);
    assert_eq!(
        (2..=5).map(|by| ids(&before, by)).collect::<Vec<_>>(),
        (2..=5).map(|by| ids(&after, by)).collect::<Vec<_>>()
    );
    // One path less: one withdrawal, and nobody else's identifiers change.
    world.announce(2, Announces { prefixes: 7, med: 0 });
    world.net.seconds(5);
    world.check().unwrap();
    assert_eq!(world.updates_to(LISTENER), sent + 2);
    let last = from_sender(&world.net, LISTENER);
    assert_eq!((ids(&last, 2).len(), ids(&last, 3)), (3, ids(&before, 3)));
    // The same again, and a refresh: nothing is sent, and everything once.
    world.announce(2, Announces { prefixes: 7, med: 0 });
    world.net.seconds(5);
    assert_eq!(world.updates_to(LISTENER), sent + 2);
    world.act(Act::Refresh(false));
    world.net.seconds(5);
    world.check().unwrap();
    assert_eq!(world.updates_to(LISTENER), sent + 2 + 3, "three sets of attributes");
    let again = from_sender(&world.net, LISTENER);
    assert_eq!(
        again.iter().map(|r| r.path_id).collect::<Vec<_>>(),
        last.iter().map(|r| r.path_id).collect::<Vec<_>>()
    );
}

#[test]
fn a_slow_listener_is_told_what_is_left() {
    let mut world = World::new(0);
    world.net.seconds(30);
    world.net.node_mut(0).holds_updates = true;
    let before = world.updates_to(LISTENER);
    for round in 0..200u8 {
        world.announce(
            2,
            Announces {
                prefixes: round % 16,
                med: round % 3,
            },
        );
        world.announce(
            3,
            Announces {
                prefixes: 15 - round % 16,
                med: 0,
            },
        );
        world.net.quiesce();
    }
    world.net.hurry(0);
    world.net.seconds(60);
    world.check().unwrap();
    assert!(world.updates_to(LISTENER) > before);
}

#[test]
fn both_sides_must_want_it() {
    let text = |me: u8, peer: u8, add_paths: &str| {
        let export = "export filter { bgp_community.add((65000,1)); accept; };";
        format!(
            "router id 10.0.0.{me};\nprotocol device {{ }}\nprotocol static {{ ipv4; {} }}\n",
            routes(1)
        ) + &protocol(me, peer, "", &format!("add paths {add_paths}; {export}"))
    };
    let has = |net: &Network, at: usize, protocol: &str| {
        let query = RouteQuery {
            protocol: Some(protocol.to_owned()),
            ..RouteQuery::default()
        };
        net.node(at).speaker.routes(&query)[0].path_id != 0
    };
    for (ours, theirs, out, back) in [
        ("on", "on", true, true),
        ("tx", "rx", true, false),
        ("rx", "tx", false, true),
        ("tx", "tx", false, false),
        ("off", "on", false, false),
        ("on", "tx", false, true),
    ] {
        let mut net = Network::default();
        net.start(0, "10.0.0.1", &text(1, 5, ours));
        net.start(1, "10.0.0.5", &text(5, 1, theirs));
        net.seconds(20);
        assert_eq!(
            (has(&net, 1, "p1"), has(&net, 0, "p5")),
            (out, back),
            "{ours} and {theirs}"
        );
    }
}
