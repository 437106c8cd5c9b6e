//! What may happen, and the dice that choose.

/// The nodes of the demo's cluster.
pub(super) const NODES: [&str; 3] = ["n1", "n2", "n3"];
const DAEMONS: [&str; 3] = ["felix", "bird-rs", "confd"];

/// A daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Typha,
    /// Of this node, of this name.
    Of(&'static str, &'static str),
}

/// The encapsulation of the pool. IPIP is not in every kernel: `make vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Never,
    Vxlan,
    VxlanCrossSubnet,
}

/// What somebody does to a node's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drift {
    Routes,
    PodRoutes,
    Blackholes,
    Nexthops,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// These are gone, all together, and come again in this order after so many ms. A kill, or SIGTERM.
    Away { who: Vec<Who>, kill: bool, ms: u64 },
    /// A pod comes to this node.
    PodCame(&'static str),
    /// The pod that has been there for longest goes.
    PodWent,
    /// Routes by nexthop objects, or without.
    Objects(bool),
    /// The node's link is down for so many ms.
    Flap { node: &'static str, ms: u64 },
    /// The pool's encapsulation is another one.
    Encapsulation(Mode),
    /// Somebody deletes what is felix's.
    Drift { node: &'static str, what: Drift },
}

impl Deed {
    /// One to three, as the dice fall.
    pub(super) fn some(dice: &mut Dice) -> Vec<Deed> {
        let how_many = 1 + dice.below(3);
        (0..how_many).map(|_| Deed::one(dice)).collect()
    }

    fn one(dice: &mut Dice) -> Deed {
        let node = dice.one_of(&NODES);
        match dice.below(100) {
            0..=54 => Deed::away(dice),
            55..=66 => Deed::PodCame(node),
            67..=74 => Deed::PodWent,
            75..=79 => Deed::Objects(dice.below(2) == 0),
            80..=86 => Deed::Flap {
                node,
                ms: 100 + dice.below(2_000),
            },
            87..=92 => Deed::Encapsulation(dice.one_of(&[Mode::Never, Mode::Vxlan, Mode::VxlanCrossSubnet])),
            _ => Deed::Drift {
                node,
                what: dice.one_of(&[Drift::Routes, Drift::PodRoutes, Drift::Blackholes, Drift::Nexthops]),
            },
        }
    }

    /// One daemon, all of a node, or any of them.
    fn away(dice: &mut Dice) -> Deed {
        let node = dice.one_of(&NODES);
        let everybody = NODES.iter().flat_map(|n| DAEMONS.map(|d| Who::Of(n, d)));
        let everybody: Vec<Who> = everybody.chain([Who::Typha]).collect();
        let mut who: Vec<Who> = match dice.below(6) {
            0..=1 => vec![dice.one_of(&everybody)],
            2 => vec![Who::Typha],
            3 => DAEMONS.map(|d| Who::Of(node, d)).to_vec(),
            4 => everybody.into_iter().filter(|_| dice.below(3) == 0).collect(),
            _ => [Who::Typha, Who::Of(node, dice.one_of(&DAEMONS))].to_vec(),
        };
        if who.is_empty() {
            who.push(Who::Typha);
        }
        dice.shuffle(&mut who);
        // Mostly a moment, as after a crash; now and then long enough for connections to be given up.
        let ms = match dice.below(4) {
            0 => 0,
            3 => 2_000 + dice.below(4_000),
            _ => dice.below(1_500),
        };
        Deed::Away {
            who,
            kill: dice.below(3) > 0,
            ms,
        }
    }

    /// Does fail static promise that no packet is lost?
    pub(super) fn is_harmless(&self) -> bool {
        match self {
            Deed::Away { .. } | Deed::PodCame(_) | Deed::PodWent | Deed::Objects(_) => true,
            Deed::Flap { .. } | Deed::Encapsulation(_) | Deed::Drift { .. } => false,
        }
    }
}

/// Numbers that are as good as random, and the same for the same seed (splitmix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `n` - 1.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.index(i + 1));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_deeds_and_all_kinds_come_up() {
    let run = |seed| {
        let mut dice = Dice::new(seed);
        (0..200).flat_map(|_| Deed::some(&mut dice)).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let kinds: std::collections::BTreeSet<_> = run(7).iter().map(|d| format!("{d:?}")[..4].to_owned()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(run(7).iter().filter(|d| d.is_harmless()).count() > 200);
}
