//! Whatever happens, when it stops happening everybody has what he should have.

use proptest::prelude::*;

use super::Network;
use super::network::config;
use super::sessions::node;
use crate::speaker::{Command, Input};

const N: u8 = 4;

fn text(me: u8, variant: u8) -> String {
    let peers: Vec<_> = (1..=N).filter(|p| *p != me).map(|p| (p, 64512, "")).collect();
    let text = node(me, 64512, &peers);
    text.replace(
        &format!("route 10.{me}.0.0/24 blackhole;"),
        &format!("route 10.{me}.{variant}.0/24 blackhole;"),
    )
}

#[derive(Debug, Clone)]
enum Act {
    Kill(u8),
    Start(u8),
    Cut(u8),
    Reconfigure(u8, u8),
    Restart(u8, u8),
    Slow(u8),
    Hurry(u8),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let who = || 1..=N;
    prop_oneof![
        who().prop_map(Act::Kill),
        who().prop_map(Act::Start),
        who().prop_map(Act::Cut),
        (who(), 0u8..3).prop_map(|(me, variant)| Act::Reconfigure(me, variant)),
        (who(), who()).prop_map(|(me, peer)| Act::Restart(me, peer)),
        who().prop_map(Act::Slow),
        who().prop_map(Act::Hurry),
        (0u64..15).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_heals(acts in proptest::collection::vec(acts(), 0..25)) {
        let mut net = Network::default();
        let mut variants = [0u8; N as usize + 1];
        let mut alive = [true; N as usize + 1];
        let place = |me: u8| usize::from(me) - 1;
        for me in 1..=N {
            net.start(place(me), &format!("10.0.0.{me}"), &text(me, 0));
        }
        for act in acts {
            match act {
                Act::Kill(me) => {
                    net.kill(place(me));
                    alive[usize::from(me)] = false;
                }
                Act::Start(me) if !alive[usize::from(me)] => {
                    net.start(place(me), &format!("10.0.0.{me}"), &text(me, variants[usize::from(me)]));
                    alive[usize::from(me)] = true;
                }
                Act::Cut(me) => net.cut_all(place(me)),
                Act::Reconfigure(me, variant) => {
                    variants[usize::from(me)] = variant;
                    net.input(place(me), Input::Reconfigure(config(&text(me, variant))));
                }
                Act::Restart(me, peer) => {
                    let protocol = format!("p{peer}").into();
                    net.input(place(me), Input::Command { protocol, command: Command::Restart });
                }
                Act::Slow(me) if alive[usize::from(me)] => net.node_mut(place(me)).slow = true,
                Act::Hurry(me) if alive[usize::from(me)] => net.hurry(place(me)),
                Act::Wait(seconds) => net.seconds(seconds),
                Act::Start(_) | Act::Slow(_) | Act::Hurry(_) => {}
            }
        }
        for me in 1..=N {
            if !alive[usize::from(me)] {
                net.start(place(me), &format!("10.0.0.{me}"), &text(me, variants[usize::from(me)]));
            }
            net.hurry(place(me));
        }
        net.seconds(700);
        for me in 1..=N {
            let node = net.node(place(me));
            let mut wanted: Vec<String> = (1..=N).filter(|p| *p != me)
                .flat_map(|p| [format!("10.{p}.{}.0/24", variants[usize::from(p)]), format!("fd00:{p}::/64")])
                .collect();
            wanted.sort();
            let mut got: Vec<String> = node.fib.keys().map(ToString::to_string).collect();
            got.sort();
            prop_assert_eq!(got, wanted);
            prop_assert!(node.fib.values().all(|route| !route.stale));
            prop_assert_eq!(node.in_sync, 1);
            let fib: Vec<_> = node.fib.clone().into_iter().collect();
            prop_assert_eq!(node.speaker.fib(), fib);
        }
    }
}
