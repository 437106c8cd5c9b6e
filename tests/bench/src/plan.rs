//! The rows of a run, which daemons run in each, and how long each may take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::daemon::Program;
use crate::workload::{Import, Scenario, Workload};

/// All-changes while one client reads nothing: more than the kernel's buffers of its connection hold.
const SLOW_ROUNDS: u32 = 10;
/// A rival has so long for a row, and what the row's own clock takes on top.
const RIVAL: Duration = Duration::from_secs(90);
/// Those that are never the fastest have less.
const SLOW_RIVAL: Duration = Duration::from_secs(45);
/// After the rows the memory of bird-rs is looked at.
const AFTER: Duration = Duration::from_secs(30);
/// Less than this is no chance.
const CHANCE: Duration = Duration::from_secs(10);
/// Ours has so long: a row in which it fails is a failure of the run.
const OURS: Duration = Duration::from_secs(240);

/// Every row, its load divided by `shrink`.
pub(crate) fn all(shrink: u32) -> Vec<Workload> {
    let full = Workload::full_table(1_000_000 / shrink);
    let (few, many) = (Workload::reflector(200, 20), Workload::reflector(1000, 10));
    let rounds = (200 / shrink).max(20);
    let of_thousand = |name: &str, what| Workload::scenario(name, (1000 / shrink).max(2), what);
    let of_typha = |name: &str, clients: u32, what| Workload::sync(name, (clients / shrink).max(3), what);
    let seconds = (60 / shrink).max(15);
    // What rivals have no time for at the end they are least needed for.
    vec![
        full.clone(),
        full.with_family(true),
        few.clone(),
        few.with_family(true),
        Workload::exchange(30, 20_000 / shrink),
        Workload::filter(1_000_000 / shrink, Import::Rich),
        Workload::filter(1_000_000 / shrink, Import::Filtered),
        Workload::kernel("kernel10k", 10_000 / shrink),
        Workload::kernel("kernel100k", 100_000 / shrink),
        Workload::kernel("kernel1m", 1_000_000 / shrink),
        Workload::node("kernelnode", 50_000 / shrink, 500 / shrink, seconds.min(30)),
        Workload::mesh((50 / shrink).max(3)).named("mesh50"),
        Workload::mesh((100 / shrink).max(3)).named("mesh100"),
        many,
        of_thousand("cold", Scenario::Cold),
        of_thousand("deliver", Scenario::Deliver { rounds }),
        of_thousand("slow", Scenario::Slow { rounds: SLOW_ROUNDS }),
        of_thousand("restart", Scenario::Restart),
        Workload::churn(200_000 / shrink, (60 / shrink).max(15)),
        Workload::reflector(5000 / shrink, 2).named("rr5000"),
        of_typha(
            "sync2000",
            2000,
            Scenario::Sync {
                rounds,
                seconds: 0,
                shrink,
            },
        ),
        of_typha(
            "sync5000",
            5000,
            Scenario::Sync {
                rounds,
                seconds,
                shrink,
            },
        ),
        of_typha("rolling5000", 5000, Scenario::Rolling { shrink }),
    ]
}

/// Who runs in a row unless the user says who: all that finish it in a time that a run of twenty minutes has for it.
pub(crate) fn usual(workload: &Workload) -> &'static [Program] {
    use Program::{Bird, BirdRs, Felix, Frr, GoBgp, IpBatch, Netlink, OpenBgpd, Typha};
    match &*workload.name {
        "full" | "rr200" | "exchange" => &[BirdRs, Bird, Frr, GoBgp, OpenBgpd],
        "rr1000" | "cold" => &[BirdRs, Bird, Frr, GoBgp],
        "slow" | "restart" | "rr5000" => &[BirdRs, Frr],
        "filter" | "mesh50" | "mesh100" | "churn" => &[BirdRs, Bird],
        "kernel10k" | "kernel100k" => &[Felix, BirdRs, Bird, Netlink, IpBatch],
        "kernelnode" => &[Felix],
        "kernel1m" => &[Felix, BirdRs, Bird],
        "sync2000" | "sync5000" | "rolling5000" => &[Typha],
        _ => &[BirdRs, Bird, Frr],
    }
}

/// The time that a run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    start: Instant,
    whole: Duration,
}

impl Budget {
    /// So much, from now on.
    pub(crate) fn new(whole: Duration) -> Self {
        Budget {
            start: Instant::now(),
            whole,
        }
    }

    /// Until when a program may work on a row; `rest` are the rows after it. Nothing for a rival when what is left is for
    /// our own programs.
    pub(crate) fn until(&self, program: Program, workload: &Workload, rest: &[Workload]) -> Option<Instant> {
        let now = Instant::now();
        if Program::is_ours(program.name()) {
            return Some(now + OURS);
        }
        let kept: Duration = rest.iter().map(Workload::about).sum();
        let end = self.start + self.whole.saturating_sub(kept + AFTER);
        let patience = match program {
            Program::GoBgp | Program::OpenBgpd => SLOW_RIVAL,
            _ => RIVAL,
        };
        let left = end.saturating_duration_since(now);
        let takes = workload.clock();
        (left >= takes + CHANCE).then(|| now + left.min(takes + patience))
    }
}

/// Those of `all` that are wanted by name; all when nothing is said.
///
/// # Errors
/// When a name is none of them.
pub(crate) fn choose<T>(all: Vec<T>, wanted: &[String], name: impl Fn(&T) -> String) -> Result<Vec<T>> {
    let mut names: Vec<String> = all.iter().map(&name).collect();
    names.dedup();
    if let Some(unknown) = wanted.iter().find(|w| !names.contains(w)) {
        bail!("unknown name '{unknown}': want some of {}", names.join(", "));
    }
    Ok(all
        .into_iter()
        .filter(|x| wanted.is_empty() || wanted.contains(&name(x)))
        .collect())
}

/// The tester has a socket for each peer, and so has the daemon, which inherits the limit.
///
/// # Errors
/// When the limit cannot be raised that far.
pub(crate) fn raise_open_files(peers: u32) -> Result<()> {
    // Listening and control sockets, files, pipes.
    const BESIDE: u64 = 1024;
    let need = u64::from(peers) + BESIDE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft < need {
        setrlimit(Resource::RLIMIT_NOFILE, need, hard.max(need))
            .with_context(|| format!("raise the limit of open files from {soft} to {need}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rivals_have_what_ours_leave() {
        let (quick, long) = (Workload::full_table(10), Workload::churn(100, 60));
        let budget = |s| Budget::new(Duration::from_secs(s));
        let given = |b: Budget, p, w: &Workload, rest: &[Workload]| {
            b.until(p, w, rest)
                .map(|t| t.saturating_duration_since(b.start).as_secs_f64().round() as u64)
        };
        assert_eq!(given(budget(1200), Program::Bird, &quick, &[]), Some(90));
        assert_eq!(given(budget(1200), Program::Bird, &long, &[]), Some(150));
        assert_eq!(given(budget(1200), Program::GoBgp, &quick, &[]), Some(45));
        assert_eq!(given(budget(120), Program::Bird, &long, &[]), Some(90));
        assert_eq!(given(budget(95), Program::Bird, &long, &[]), None);
        assert_eq!(given(budget(1), Program::BirdRs, &long, &[]), Some(OURS.as_secs()));
        let rest = [long.clone()];
        let left = given(budget(160), Program::Bird, &quick, &rest).unwrap();
        let kept = (long.about() + AFTER).as_secs();
        assert_eq!(left, 160 - kept, "the rest is kept for bird-rs");
    }

    #[test]
    fn every_row_has_a_name_and_daemons_that_can_run_it() {
        for workload in all(1) {
            let usual = usual(&workload);
            assert!(usual.iter().any(|p| Program::is_ours(p.name())), "{}", workload.name);
            assert!(usual.iter().all(|p| p.runs(&workload)), "{}", workload.name);
        }
        assert!(choose(all(1), &["nothing".to_owned()], |w| w.name.clone()).is_err());
        assert_eq!(
            choose(all(1), &["filter".to_owned()], |w| w.name.clone())
                .unwrap()
                .len(),
            2
        );
    }
}
