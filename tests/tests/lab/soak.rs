//! Chaos by dice, under continuous traffic: daemons killed and stopped, alone and together, the datastore away, links that flap,
//! pods that come and go, drift, encapsulation changed. `SOAK_MINUTES` long (two by default), by the dice of `SOAK_SEED`.
//!
//! Round after round holds: no packet between standing pods and from the ToR is lost while only such things happen as fail static
//! promises to survive; after the others everything answers again; nothing of somebody else's on the nodes has changed. At the
//! end nothing is left: no interface, route, neighbour, rule, table, object, endpoint or address.

mod deed;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::{Cluster, PingRun, Spec, check_interrupt};

use crate::on_cluster;
use deed::{Deed, Dice};
use world::World;

/// Traffic goes on for so long after a round's last deed, when everything is whole again.
const AFTER: Duration = Duration::from_millis(500);

#[test]
fn whatever_happens_nothing_is_lost_changed_or_left() {
    let minutes: f64 = setting("SOAK_MINUTES").unwrap_or(2.0);
    let seed = setting("SOAK_SEED").unwrap_or_else(any_seed);
    eprintln!("soak: SOAK_MINUTES={minutes} SOAK_SEED={seed}");
    on_cluster("soak", &Spec::demo(), |cluster| {
        run(cluster, Duration::from_secs_f64(minutes * 60.0), Dice::new(seed))
            .with_context(|| format!("SOAK_SEED={seed}"))
    });
}

/// What the environment says. Nonsense ends the test: an hour with other dice would be for nothing.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse();
    Some(value.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn any_seed() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel's random numbers");
    let digits = text.chars().filter(char::is_ascii_hexdigit).take(8);
    u64::from_str_radix(&digits.collect::<String>(), 16).expect("hexadecimal digits")
}

fn run(cluster: &mut Cluster, time: Duration, mut dice: Dice) -> Result<()> {
    let mut world = World::new(cluster)?;
    let start = Instant::now();
    let (mut rounds, mut sent, mut lost) = (0, 0, 0);
    while start.elapsed() < time {
        let deeds = Deed::some(&mut dice);
        let what = format!("round {rounds}, {} s: {deeds:?}", start.elapsed().as_secs());
        let (of_all, of_lost) = round(&mut world, &deeds).with_context(|| what.clone())?;
        eprintln!("soak: {what}: {of_lost} of {of_all} lost");
        (rounds, sent, lost) = (rounds + 1, sent + of_all, lost + of_lost);
    }
    ensure!(rounds > 0 && sent > 0, "nothing was tried");
    eprintln!("soak: {rounds} rounds, {lost} of {sent} packets lost, all while they might be");
    world.end().context("at the end")
}

/// Does the deeds under traffic. How many packets were sent, and how many of them lost.
fn round(world: &mut World<'_>, deeds: &[Deed]) -> Result<(u64, u64)> {
    let traffic: Vec<PingRun> = world.traffic()?;
    let done = deeds
        .iter()
        .try_for_each(|deed| world.do_it(deed).with_context(|| format!("{deed:?}")))
        .and_then(|()| world.is_whole());
    let end = Instant::now();
    while done.is_ok() && end.elapsed() < AFTER {
        check_interrupt()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut sent, mut lost, mut lossy) = (0, 0, Vec::new());
    for run in traffic {
        let summary = run.stop()?;
        (sent, lost) = (sent + summary.sent, lost + summary.lost());
        if summary.lost() > 0 {
            lossy.push(format!("{} lost {} of {}", summary.what, summary.lost(), summary.sent));
        }
    }
    done?;
    if deeds.iter().all(Deed::is_harmless) {
        ensure!(lossy.is_empty(), "{}", lossy.join("; "));
    }
    world.others_are_untouched()?;
    Ok((sent, lost))
}
