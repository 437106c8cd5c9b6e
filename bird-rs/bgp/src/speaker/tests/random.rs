//! Whatever happens, when it stops happening everybody has what he should have.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::Network;
use super::network::config;
use crate::speaker::{Command, Input};

const N: u8 = 4;

/// What a node's configuration can be. All of it may change at once, as when confd renders a new one.
#[derive(Debug, Clone, Copy, Default)]
struct Variant {
    /// The third octet of its own route.
    route: u8,
    /// A second static protocol with so many routes more.
    extra: u8,
    export: Export,
    felix: Felix,
    /// Channels are written in the other order.
    swapped: bool,
}

/// What peers are told.
#[derive(Debug, Clone, Copy, Default)]
enum Export {
    #[default]
    All,
    /// Empty feeds.
    None,
    /// The second protocol's routes, and nothing of IPv6.
    OnlyExtra,
    /// All but these, by a function.
    NotExtra,
}

/// What felix is told.
#[derive(Debug, Clone, Copy, Default)]
enum Felix {
    #[default]
    All,
    OnlyV4,
    Nothing,
    /// There is no such protocol.
    Absent,
}

impl Variant {
    fn text(self, me: u8) -> String {
        let channels = |v4: String, v6: String| if self.swapped { v6 + &v4 } else { v4 + &v6 };
        let mut text = format!(
            "router id 10.0.0.{me};\nprotocol device {{ }}\n\
             protocol static own4 {{ ipv4; route 10.{me}.{}.0/24 blackhole; }}\n\
             protocol static own6 {{ ipv6; route fd00:{me}::/64 blackhole; }}\n",
            self.route
        );
        if self.extra > 0 {
            let routes = (0..self.extra).map(|n| format!("route 10.{me}.{}.0/24 blackhole; ", 200 + n));
            let _ = writeln!(text, "protocol static extra {{ ipv4; {} }}", routes.collect::<String>());
        }
        let (v4, v6) = match self.export {
            Export::All => ("all", "all"),
            Export::None => ("none", "none"),
            Export::OnlyExtra => ("filter chosen", "none"),
            Export::NotExtra => ("filter chosen", "all"),
        };
        let rule = match self.export {
            Export::OnlyExtra => "proto = \"extra\"",
            _ => "proto != \"extra\"",
        };
        let _ = writeln!(text, "function let_pass() {{ if {rule} then accept; reject; }}");
        text += "filter chosen { let_pass(); reject; }\n";
        let felix = match self.felix {
            Felix::All => Some(("where source = RTS_BGP", "where source = RTS_BGP")),
            Felix::OnlyV4 => Some(("where source = RTS_BGP", "none")),
            Felix::Nothing => Some(("none", "where source = RTS_STATIC && net.len = 63")),
            Felix::Absent => None,
        };
        if let Some((v4, v6)) = felix {
            let both = channels(format!("ipv4 {{ export {v4}; }};"), format!("ipv6 {{ export {v6}; }};"));
            let _ = writeln!(text, "protocol felix {{ {both} }}");
        }
        for peer in (1..=N).filter(|peer| *peer != me) {
            let both = channels(
                format!("ipv4 {{ import all; export {v4}; }};"),
                format!("ipv6 {{ import all; export {v6}; }};"),
            );
            let _ = writeln!(
                text,
                "protocol bgp p{peer} {{ local 10.0.0.{me} as 64512; neighbor 10.0.0.{peer} as 64512; direct;\n\
                 connect delay time 1; connect retry time 5; error wait time 1, 10; graceful restart on; {both} }}"
            );
        }
        text
    }

    /// What it tells its peers.
    fn told(self, me: u8) -> Vec<String> {
        let own4 = std::iter::once(format!("10.{me}.{}.0/24", self.route));
        let own6 = std::iter::once(format!("fd00:{me}::/64"));
        let extra = (0..self.extra).map(|n| format!("10.{me}.{}.0/24", 200 + n));
        match self.export {
            Export::All => own4.chain(own6).chain(extra).collect(),
            Export::None => Vec::new(),
            Export::OnlyExtra => extra.collect(),
            Export::NotExtra => own4.chain(own6).collect(),
        }
    }

    /// What felix should have of what the peers tell.
    fn kept(self, route: &str) -> bool {
        match self.felix {
            Felix::All => true,
            Felix::OnlyV4 => !route.contains(':'),
            Felix::Nothing | Felix::Absent => false,
        }
    }
}

fn variants() -> impl Strategy<Value = Variant> {
    let exports = prop_oneof![
        Just(Export::All),
        Just(Export::None),
        Just(Export::OnlyExtra),
        Just(Export::NotExtra)
    ];
    let felix = prop_oneof![
        3 => Just(Felix::All),
        1 => Just(Felix::OnlyV4),
        1 => Just(Felix::Nothing),
        1 => Just(Felix::Absent)
    ];
    (0u8..3, 0u8..3, exports, felix, any::<bool>()).prop_map(|(route, extra, export, felix, swapped)| Variant {
        route,
        extra,
        export,
        felix,
        swapped,
    })
}

#[derive(Debug, Clone)]
enum Act {
    Kill(u8),
    Start(u8),
    Cut(u8),
    Reconfigure(u8, Variant),
    Order(u8, u8, Command),
    Slow(u8),
    HoldUpdates(u8),
    Hurry(u8),
    Settle,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let who = || 1..=N;
    let commands = prop_oneof![
        Just(Command::Restart),
        Just(Command::Reload),
        Just(Command::ReloadIn),
        Just(Command::ReloadOut)
    ];
    prop_oneof![
        1 => who().prop_map(Act::Kill),
        1 => who().prop_map(Act::Start),
        1 => who().prop_map(Act::Cut),
        3 => (who(), variants()).prop_map(|(me, variant)| Act::Reconfigure(me, variant)),
        1 => (who(), who(), commands).prop_map(|(me, peer, command)| Act::Order(me, peer, command)),
        1 => who().prop_map(Act::Slow),
        1 => who().prop_map(Act::HoldUpdates),
        1 => who().prop_map(Act::Hurry),
        1 => Just(Act::Settle),
        1 => (0u64..15).prop_map(Act::Wait),
    ]
}

/// The network and what its nodes should be.
struct World {
    net: Network,
    variants: [Variant; N as usize],
    alive: [bool; N as usize],
}

impl World {
    fn start(&mut self, me: u8) {
        let at = usize::from(me) - 1;
        if !std::mem::replace(&mut self.alive[at], true) {
            self.net.start(at, &format!("10.0.0.{me}"), &self.variants[at].text(me));
        }
    }

    fn act(&mut self, act: Act) {
        let place = |me: u8| usize::from(me) - 1;
        match act {
            Act::Kill(me) => {
                self.net.kill(place(me));
                self.alive[place(me)] = false;
            }
            Act::Start(me) => self.start(me),
            Act::Cut(me) => self.net.cut_all(place(me)),
            Act::Reconfigure(me, variant) => {
                self.variants[place(me)] = variant;
                let config = config(&variant.text(me));
                self.net.input(place(me), Input::Reconfigure(config));
            }
            Act::Order(me, peer, command) => {
                let protocol = format!("p{peer}").into();
                self.net.input(place(me), Input::Command { protocol, command });
            }
            Act::Slow(me) if self.alive[place(me)] => self.net.node_mut(place(me)).slow = true,
            Act::HoldUpdates(me) if self.alive[place(me)] => self.net.node_mut(place(me)).holds_updates = true,
            Act::Hurry(me) if self.alive[place(me)] => self.net.hurry(place(me)),
            Act::Settle => self.net.quiesce(),
            Act::Wait(seconds) => self.net.seconds(seconds),
            Act::Slow(_) | Act::HoldUpdates(_) | Act::Hurry(_) => {}
        }
    }

    fn should_have(&self, me: u8) -> Vec<String> {
        let others = (1..=N).zip(self.variants).filter(|(peer, _)| *peer != me);
        let told = others.flat_map(|(peer, variant)| variant.told(peer));
        let own = self.variants[usize::from(me) - 1];
        let mut wanted: Vec<String> = told.filter(|route| own.kept(route)).collect();
        wanted.sort();
        wanted
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_heals(acts in proptest::collection::vec(acts(), 0..30)) {
        let mut world = World { net: Network::default(), variants: Default::default(), alive: Default::default() };
        (1..=N).for_each(|me| world.start(me));
        acts.into_iter().for_each(|act| world.act(act));
        for me in 1..=N {
            world.start(me);
            world.net.hurry(usize::from(me) - 1);
        }
        world.net.seconds(700);
        for me in 1..=N {
            let node = world.net.node(usize::from(me) - 1);
            let mut got: Vec<String> = node.fib.keys().map(ToString::to_string).collect();
            got.sort();
            prop_assert_eq!(got, world.should_have(me), "node {}", me);
            prop_assert!(node.fib.values().all(|route| !route.stale));
            let has_felix = !matches!(world.variants[usize::from(me) - 1].felix, Felix::Absent);
            prop_assert_eq!(node.speaker.fib_in_sync(), has_felix);
            prop_assert!(!has_felix || node.in_sync >= 1);
            let fib: Vec<_> = node.fib.clone().into_iter().collect();
            prop_assert_eq!(node.speaker.fib(), fib);
            for channel in node.speaker.protocols().into_iter().flat_map(|protocol| protocol.channels) {
                prop_assert!(super::stats::add_up(&channel), "{channel:?}");
            }
        }
    }
}
