//! Random filters in both programs: over the same routes they must decide the same and leave the same attributes.
//!
//! A program is a file with hundreds of filters; each filter is run by `show route filter NAME all` on both control sockets.
//! What differs is made smaller until nothing can be left out, and printed with the seed that makes it again:
//!
//! ```text
//! make interop-bird FILTERS=100000 SEED=7
//! ```
//!
//! What the generator leaves out because the reference names it as a difference is in [`generate`].

mod daemons;
mod generate;
mod random;
mod routes;
mod tree;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use self::daemons::{Daemon, Shown};
use self::random::Random;
use self::routes::Routes;
use self::tree::Node;
use crate::lab::eventually_or;

/// Filters of one configuration file.
const BATCH: u64 = 250;
/// How long a program that differs is made smaller.
const SHRINKING: Duration = Duration::from_secs(30);
/// Variants tried at a time.
const VARIANTS: usize = 100;
/// A run ends when it has found so many.
const FAILURES: usize = 5;

struct Pair {
    bird: Daemon,
    ours: Daemon,
}

impl Pair {
    fn new() -> Self {
        Pair {
            bird: Daemon::new("BIRD"),
            ours: Daemon::new("bird-rs"),
        }
    }

    /// Loads programs into both, and tells both the routes if asked to, or if BIRD had ended and begins anew.
    fn load(&mut self, routes: &Routes, programs: &[Node], again: bool) -> Result<(), String> {
        let mut text = String::new();
        for (at, program) in programs.iter().enumerate() {
            let _ = writeln!(text, "{}", numbered(program, at));
        }
        let again = again || !self.bird.lives();
        self.bird.load(routes, &text)?;
        self.ours.load(routes, &text)?;
        if again {
            self.settle(routes);
        }
        Ok(())
    }

    /// Routes as both show them; none for BIRD when that was its end. Ours must not end.
    fn both(&mut self, command: &str) -> (Option<Shown>, Shown) {
        self.bird.send(command);
        self.ours.send(command);
        (self.bird.shown(), self.ours.shown().expect("bird-rs lives"))
    }

    /// Tells both the routes, and waits until both have them.
    fn settle(&mut self, routes: &Routes) {
        self.bird.announce(routes);
        self.ours.announce(routes);
        eventually_or(|| {
            let (bird, ours) = self.both("show route table master4 table master6 all");
            let bird = bird.ok_or("BIRD ended")?;
            if bird.len() == routes.count && bird == ours {
                Ok(())
            } else {
                let wanted = routes.count;
                Err(format!(
                    "{wanted} routes wanted\n{}",
                    difference(&bird, &ours).unwrap_or_default()
                ))
            }
        });
    }

    /// What the filter of this number does to the routes.
    fn run(&mut self, at: usize) -> (Option<Shown>, Shown) {
        self.both(&format!("show route filter f{at} table master4 table master6 all"))
    }

    /// The smallest program that still differs, and how.
    fn shrink(&mut self, routes: &Routes, found: &Node) -> Node {
        let mut smallest = found.clone();
        let start = Instant::now();
        while start.elapsed() < SHRINKING {
            let variants = smallest.smaller();
            let next = variants
                .chunks(VARIANTS)
                .find_map(|variants| self.first_that_differs(routes, variants));
            match next {
                Some(next) => smallest = next,
                None => break,
            }
        }
        smallest
    }

    fn first_that_differs(&mut self, routes: &Routes, variants: &[Node]) -> Option<Node> {
        // A variant that either program refuses proves nothing, but keeps the others from being tried together.
        let groups: Vec<&[Node]> = match self.load(routes, variants, false) {
            Ok(()) => vec![variants],
            Err(_) => variants.chunks(1).collect(),
        };
        for group in groups {
            if self.load(routes, group, false).is_err() {
                continue;
            }
            for (at, variant) in group.iter().enumerate() {
                let (bird, ours) = self.run(at);
                if bird.is_none() {
                    break;
                }
                if bird != Some(ours) {
                    return Some(variant.clone());
                }
            }
        }
        None
    }
}

/// A program under a number of its own.
fn numbered(program: &Node, at: usize) -> String {
    program.to_string().replace('@', &at.to_string())
}

/// The first route that differs.
fn difference(bird: &Shown, ours: &Shown) -> Option<String> {
    let nets = bird.keys().chain(ours.keys());
    let net = nets.into_iter().find(|net| bird.get(*net) != ours.get(*net))?;
    let say = |shown: &Shown| {
        shown
            .get(net)
            .map_or("rejected".to_owned(), |lines| lines.join("\n    "))
    };
    Some(format!(
        "{net}\n  BIRD\n    {}\n  bird-rs\n    {}",
        say(bird),
        say(ours)
    ))
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// What the run has seen.
#[derive(Default)]
struct Tally {
    /// Filters.
    done: u64,
    /// Runs of a filter over a route, what BIRD accepted of them, and what was changed of that.
    routes: usize,
    accepted: usize,
    changed: usize,
    /// How often BIRD ended. What it would have said is not known.
    ends: usize,
    /// The smallest programs that differ.
    found: Vec<String>,
}

impl Tally {
    fn batch(&mut self, pair: &mut Pair, seed: u64, count: u64) {
        let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(self.done));
        let routes = Routes::generate(&mut random);
        let programs: Vec<Node> = (0..count).map(|_| generate::program(&mut random)).collect();
        pair.load(&routes, &programs, true).unwrap();
        let (_, before) = pair.both("show route table master4 table master6 all");
        for (at, program) in programs.iter().enumerate() {
            let (bird, ours) = pair.run(at);
            let which = format!("filter {} of seed {seed}", self.done + at as u64);
            let Some(bird) = bird else {
                println!("{which}: BIRD ends:\n{}", numbered(program, at));
                self.ends += 1;
                pair.load(&routes, &programs, false).unwrap();
                continue;
            };
            if bird != ours {
                self.found(pair, &routes, program, &which);
                pair.load(&routes, &programs, false).unwrap();
            }
            self.routes += routes.count;
            self.accepted += bird.len();
            let changed = bird.iter().filter(|(net, lines)| before.get(*net) != Some(lines));
            self.changed += changed.count();
        }
        self.done += count;
    }

    fn found(&mut self, pair: &mut Pair, routes: &Routes, program: &Node, which: &str) {
        let smallest = pair.shrink(routes, program);
        pair.load(routes, std::slice::from_ref(&smallest), false).unwrap();
        let (_, before) = pair.both("show route table master4 table master6 all");
        let (bird, ours) = pair.run(0);
        let program = numbered(&smallest, 0);
        let difference = bird.and_then(|bird| difference(&bird, &ours));
        let difference = difference.unwrap_or("only together with others".to_owned());
        let net = difference.lines().next().unwrap_or_default();
        let route = before.get(net).map_or(String::new(), |lines| lines.join("\n    "));
        self.found.push(format!(
            "{which}:\n{program}the route\n    {route}\nbecomes {difference}"
        ));
    }
}

#[test]
fn random_filters_do_the_same_in_bird_and_in_bird_rs() {
    let (seed, wanted) = (variable("SEED", 1), variable("FILTERS", 10_000));
    let mut pair = Pair::new();
    let mut tally = Tally::default();
    while tally.done < wanted && tally.found.len() < FAILURES {
        tally.batch(&mut pair, seed, BATCH.min(wanted - tally.done));
    }
    let Tally {
        done,
        routes,
        accepted,
        changed,
        ends,
        found,
    } = tally;
    println!(
        "{done} filters, {routes} routes: {accepted} accepted, {changed} of them changed; BIRD ended {ends} times"
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(
        accepted * 5 > routes && changed * 5 > routes,
        "most of what is generated says nothing"
    );
    assert!(accepted * 10 < routes * 9, "hardly anything is rejected");
}
