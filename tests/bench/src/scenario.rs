//! What is done with a daemon in each row, and what of it is written down.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tortie_tests::lab::{Daemon, Lab, Netns, wait_for};

use crate::daemon::{Prepared, Program, Usage, pids, usage};
use crate::figures::{percentile, slope};
use crate::goal::{Goal, Timing};
use crate::record::{Measured, Row};
use crate::report::time;
use crate::tester::Tester;
use crate::wire;
use crate::workload::{DAEMON, Scenario, Workload};
use crate::{kernel, mesh, node, sync};

const SESSIONS: Duration = Duration::from_secs(180);
const FLAP: &str = "one of all goes and comes back";
/// The memory of the first seconds is growth to a working size, no leak: the slope is taken after them.
const WARM_UP_S: f64 = 10.0;
/// A second's changes that begin this much after their time are late.
const LATE: Duration = Duration::from_millis(100);

/// One daemon on one workload.
pub(crate) struct Run<'a> {
    /// Which.
    pub(crate) program: Program,
    /// On what.
    pub(crate) workload: &'a Workload,
    /// Where it runs.
    pub(crate) ns: &'a Netns,
    /// What was found.
    pub(crate) rows: Vec<Row>,
}

/// Runs a daemon through a workload, until `until` at most. A phase that fails ends the run and is a row of its own.
///
/// # Errors
/// When there is nothing to measure: the daemon or the namespaces cannot be made.
pub(crate) fn measure(lab: &Lab, program: Program, workload: &Workload, until: Instant) -> Result<Vec<Row>> {
    if program == Program::Typha {
        return sync::measure(lab, workload, until);
    }
    let (ours, theirs) = crate::topology::wire_up(lab)?;
    let mut run = Run {
        program,
        workload,
        ns: &theirs,
        rows: Vec::new(),
    };
    match workload.scenario {
        Scenario::Mesh => return mesh::measure(lab, run, &ours, until),
        Scenario::Kernel => return kernel::measure(lab, run, &ours, until),
        Scenario::Node { endpoints, seconds } => {
            return node::measure(lab, run, &ours, (endpoints, seconds), until);
        }
        _ => {}
    }
    let prepared = program.prepare(lab, workload)?;
    ours.within(|| {
        let mut tester = Tester::new(workload, until)?;
        if workload.scenario == Scenario::Cold {
            run.cold(&mut tester, prepared);
            return Ok(());
        }
        let mut daemon = prepared.start(run.ns)?;
        listening()?;
        // A phase that failed has its row.
        let _ = match workload.scenario {
            Scenario::Phases => run.phases(&mut tester, phases_of(workload)),
            Scenario::Deliver { rounds } => run.deliver(&mut tester, rounds),
            Scenario::Slow { rounds } => run.slow(&mut tester, rounds),
            Scenario::Churn { seconds } => run.churn(&mut tester, seconds),
            Scenario::Restart => run.restart(&mut tester, &mut daemon),
            Scenario::Cold
            | Scenario::Mesh
            | Scenario::Kernel
            | Scenario::Node { .. }
            | Scenario::Sync { .. }
            | Scenario::Rolling { .. } => Some(()),
        };
        Ok(())
    })?;
    Ok(run.rows)
}

/// Of one sender alone a flap would be everything.
fn phases_of(workload: &Workload) -> &'static [&'static str] {
    if workload.senders > 1 {
        &["sessions up", "announce", "change", FLAP, "withdraw"]
    } else {
        &["sessions up", "announce", "change", "withdraw"]
    }
}

/// The clock of most rows starts when the daemon takes connections: how long it reads its configuration is not measured.
///
/// # Errors
/// When it does not.
pub(crate) fn listening() -> Result<()> {
    let daemon = std::net::SocketAddr::new(DAEMON.into(), 179);
    wait_for("the daemon to listen", Duration::from_secs(30), || {
        std::net::TcpStream::connect_timeout(&daemon, Duration::from_secs(1))
            .map(drop)
            .context("connect")
    })
}

impl Run<'_> {
    /// Writes a row; nothing when it failed.
    pub(crate) fn row(&mut self, phase: &'static str, result: Result<Measured>) -> Option<Measured> {
        let measured = result.as_ref().ok().cloned();
        self.rows.push(Row {
            row: self.workload.row().to_owned(),
            workload: self.workload.title.clone(),
            phase: phase.to_owned(),
            daemon: self.program.name().to_owned(),
            result: result.map_err(|e| format!("{e:#}")),
        });
        measured
    }

    /// What the daemon used while something was done.
    ///
    /// # Errors
    /// When it failed, or the daemon does not run any more.
    pub(crate) fn spent<T>(&self, work: impl FnOnce() -> Result<(Timing, T)>) -> Result<(Measured, T)> {
        let before = usage(self.ns).map(|u| u.cpu).unwrap_or_default();
        let (timing, more) = work()?;
        Ok((measured(usage(self.ns)?, before, timing), more))
    }

    /// What each peer sends to announce all its routes in this version.
    pub(crate) fn everyone(&self, version: u8) -> Vec<Vec<u8>> {
        let announce = |peer| wire::announce(self.workload, peer, version);
        (0..self.workload.peers()).map(announce).collect()
    }

    fn phases(&mut self, tester: &mut Tester<'_>, phases: &[&'static str]) -> Option<()> {
        for phase in phases {
            let result = self.phase(tester, phase);
            self.row(phase, result)?;
        }
        Some(())
    }

    fn phase(&self, tester: &mut Tester<'_>, phase: &str) -> Result<Measured> {
        let workload = self.workload;
        let (bytes, version) = match phase {
            "announce" => (self.everyone(1), 1),
            "change" => (self.everyone(2), 2),
            "withdraw" => {
                let withdraw = |peer| wire::withdraw(workload, peer);
                ((0..workload.peers()).map(withdraw).collect(), 0)
            }
            _ => (Vec::new(), 0),
        };
        let work = || match phase {
            "sessions up" => tester.establish(tester.clock(), SESSIONS),
            FLAP => flap(tester, workload),
            _ => tester.phase(Goal::all(workload, version), bytes),
        };
        self.spent(|| Ok((work()?, ()))).map(|(measured, ())| measured)
    }

    /// The clock starts with the daemon's process, while clients try to connect.
    fn cold(&mut self, tester: &mut Tester<'_>, prepared: Prepared) {
        let clock = tester.clock();
        let work = || {
            let _daemon = prepared.start(self.ns)?;
            let timing = tester.establish(clock, SESSIONS)?;
            Ok(measured(usage(self.ns)?, Duration::ZERO, timing))
        };
        let result = work();
        self.row("sessions up, from the daemon's start", result);
    }

    /// One route of one client changes again and again: a fresh client each time.
    fn deliver(&mut self, tester: &mut Tester<'_>, rounds: u32) -> Option<()> {
        self.phases(tester, &["sessions up", "announce"])?;
        let result = self.spent(|| {
            let (mut sum, mut each, mut last) = (Timing::default(), Vec::new(), Vec::new());
            for round in 0..rounds {
                let from = round % self.workload.senders;
                // When its turn comes again, its change is another.
                let version = 2 + (round / self.workload.senders % 200) as u8;
                let first = self.workload.routes_of(from).start;
                let bytes = wire::announce_some(self.workload, from, first..first + 1, version);
                let (timing, waited) = tester.one(from, Goal::some(first..first + 1, version), bytes)?;
                sum += timing;
                last.push(timing.wall);
                each.extend(waited);
            }
            Ok((sum, (each, last)))
        });
        let (mut sum, mut each, mut last) = match result {
            Ok((sum, (each, last))) => (sum, each, last),
            Err(e) => return self.row("one change, to one client, p50", Err(e)).map(drop),
        };
        sum.note = format!(
            "{} deliveries, worst {}; CPU and UPDATEs of all {rounds} changes, which took {}",
            each.len(),
            time(percentile(&mut each, 1.0)),
            time(sum.wall)
        );
        let of = |wall| Ok(Measured { wall, ..sum.clone() });
        self.row("one change, to one client, p50", of(percentile(&mut each, 0.5)))?;
        // Said once.
        let of = |wall| {
            let note = String::new();
            Ok(Measured {
                wall,
                note,
                ..sum.clone()
            })
        };
        self.row("one change, to one client, p99", of(percentile(&mut each, 0.99)))?;
        self.row("one change, to all clients, p50", of(percentile(&mut last, 0.5)))
            .map(drop)
    }

    /// One client stops reading; the others are served as before, and it has the last state when it reads again.
    fn slow(&mut self, tester: &mut Tester<'_>, rounds: u32) -> Option<()> {
        let slow = self.workload.senders - 1;
        tester.will_pause(slow);
        self.phases(tester, &["sessions up", "announce", "change"])?;
        let before = usage(self.ns).map(|u| u.resident_kb).unwrap_or_default();
        let last_version = (2 + rounds) as u8;
        let result = self.spent(|| {
            tester.pause(slow, true)?;
            let (mut sum, mut walls) = (Timing::default(), Vec::new());
            for version in 3..=last_version {
                let timing = tester.phase(Goal::all(self.workload, version), self.everyone(version))?;
                walls.push(timing.wall);
                sum += timing;
            }
            Ok((sum, walls))
        });
        let result = result.map(|(sum, mut walls)| Measured {
            note: format!(
                "the median of {rounds}, worst {}; CPU and UPDATEs of all; resident {:.1} MB before, {:.1} MB after",
                time(percentile(&mut walls, 1.0)),
                before as f64 / 1024.0,
                sum.resident_kb as f64 / 1024.0
            ),
            wall: percentile(&mut walls, 0.5),
            ..sum
        });
        self.row("change, one reads nothing", result)?;
        let result = self.spent(|| {
            tester.pause(slow, false)?;
            Ok((tester.phase(Goal::all(self.workload, last_version), Vec::new())?, ()))
        });
        self.row("the slow one reads again", result.map(|(m, ())| m)).map(drop)
    }

    /// A hundredth of the table changes in every second.
    fn churn(&mut self, tester: &mut Tester<'_>, seconds: u32) -> Option<()> {
        self.phases(tester, &["sessions up", "announce"])?;
        let count = self.workload.prefixes.count;
        // Whole UPDATEs, so that a route that changes keeps its path.
        let per_update = self.workload.per_update as u32;
        let share = (count / 100).next_multiple_of(per_update).min(count);
        let result = self.spent(|| {
            let (clock, mut late, mut walls, mut memory) = (tester.clock(), 0, Vec::new(), Vec::new());
            let (mut at, mut version) = (0, 2u8);
            for second in 0..seconds {
                if clock.start.elapsed() > Duration::from_secs(second.into()) + LATE {
                    late += 1;
                }
                let range = at..(at + share).min(count);
                let bytes = wire::announce_some(self.workload, 0, range.clone(), version);
                walls.push(tester.phase(Goal::some(range.clone(), version), vec![bytes])?.wall);
                at = range.end;
                if at == count {
                    // Versions go round, and the one before differs.
                    (at, version) = (0, version % 200 + 1);
                }
                memory.push((clock.start.elapsed().as_secs_f64(), usage(self.ns)?.resident_kb as f64));
                tester.idle(clock.start + Duration::from_secs((second + 1).into()))?;
            }
            Ok((tester.timing(clock, Instant::now()), (walls, memory, late)))
        });
        let result = result.map(|(sum, (mut walls, mut memory, late))| {
            memory.retain(|(at, _)| *at > WARM_UP_S);
            Measured {
                note: format!(
                    "CPU share {:.1} %; memory {:+.0} kB per minute after the first {WARM_UP_S:.0} s; a second's changes \
                     arrive within {} (p50), {} (worst); {late} of {seconds} began late",
                    100.0 * sum.cpu.as_secs_f64() / sum.wall.as_secs_f64().max(0.01),
                    60.0 * slope(&memory),
                    time(percentile(&mut walls, 0.5)),
                    time(percentile(&mut walls, 1.0)),
                ),
                ..sum
            }
        });
        self.row("1 % of the routes change each second", result).map(drop)
    }

    /// The daemon is killed and started; its clients come back by themselves and announce another version.
    fn restart(&mut self, tester: &mut Tester<'_>, daemon: &mut Daemon) -> Option<()> {
        self.phases(tester, &["sessions up", "announce"])?;
        let hello = self.everyone(2);
        let work = || {
            let clock = tester.clock();
            daemon.kill()?;
            // The other processes of a daemon end by themselves.
            wait_for("the daemon's end", Duration::from_secs(10), || {
                let left = pids(self.ns)?;
                if left.is_empty() {
                    return Ok(());
                }
                bail!("{} processes are left", left.len())
            })?;
            daemon.start_again()?;
            let (timing, up) = tester.recover(clock, Goal::all(self.workload, 2), hello)?;
            Ok(Measured {
                note: format!("all sessions were up after {}", time(up)),
                ..measured(usage(self.ns)?, Duration::ZERO, timing)
            })
        };
        let result = work();
        self.row("everyone has everything, from the kill", result).map(drop)
    }
}

/// The first peer takes back everything, and when nobody has it any more, announces it again.
fn flap(tester: &mut Tester<'_>, workload: &Workload) -> Result<Timing> {
    const AGAIN: u8 = 3;
    let own = workload.routes_of(0);
    let (gone, back) = (wire::withdraw(workload, 0), wire::announce(workload, 0, AGAIN));
    let mut timing = tester.phase(Goal::some(own.clone(), 0), vec![gone])?;
    timing += tester.phase(Goal::some(own, AGAIN), vec![back])?;
    Ok(timing)
}

/// The figures of a phase, from what the daemon had used before and after it.
pub(crate) fn measured(used: Usage, before: Duration, timing: Timing) -> Measured {
    Measured {
        wall: timing.wall,
        cpu: used.cpu.saturating_sub(before),
        peak_kb: used.peak_kb,
        resident_kb: used.resident_kb,
        updates: timing.updates,
        tester_share: timing.own_cpu.as_secs_f64() / timing.wall.as_secs_f64().max(1e-6),
        again: None,
        note: String::new(),
    }
}
