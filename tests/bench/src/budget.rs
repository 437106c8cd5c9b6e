//! What the real bird-rs process may take, seen from outside: resident memory in /proc of the release build.
//!
//! The core's own figures (`tests/memory.rs`) leave out what the program adds: sockets, tasks, queues, the
//! allocator's habits. These do not.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tortie_tests::lab::{Lab, Netns};

use crate::daemon::{Program, Usage, usage};
use crate::goal::Goal;
use crate::scenario::listening;
use crate::tester::Tester;
use crate::wire;
use crate::workload::{Import, Workload};

/// A million IPv4 routes with a quarter of a million attribute sets, from one peer to another, at the peak while they are told:
/// kB of 1,000.
const TABLE_KB: u64 = 120_000;
/// The same of the row `filter`: longer attributes, and of each set three, as it came, as the filter made it and as it is told.
const FILTERED_KB: u64 = 190_000;
/// An established session that has nothing to say: octets.
const IDLE: u64 = 30_000;
/// Sessions by which the difference is divided.
pub(crate) const SESSIONS: u32 = 500;
/// Sessions of the process that the others are compared with.
pub(crate) const FEW: u32 = 10;
/// Neither takes longer.
const LIMIT: Duration = Duration::from_secs(240);
/// How long idle sessions are watched.
const WATCH: Duration = Duration::from_secs(3);

/// Measures all, and gives a report.
///
/// # Errors
/// When a figure is above its limit, or could not be taken.
pub(crate) fn check(shrink: u32) -> Result<String> {
    let routes = 1_000_000 / shrink;
    let tables = [
        ("", TABLE_KB, table(&Workload::full_table(routes))?),
        (
            " through a filter",
            FILTERED_KB,
            table(&Workload::filter(routes, Import::Filtered))?,
        ),
    ];
    let (few, many) = (idle(FEW)?, idle(FEW + SESSIONS)?);
    let each = many.saturating_sub(few) / u64::from(SESSIONS);
    let mut report = String::from("\nmemory of bird-rs, from /proc\n");
    for (how, limit, usage) in &tables {
        let (now, peak) = (octets(usage.resident_kb) / 1000, octets(usage.peak_kb) / 1000);
        let _ = writeln!(
            report,
            "  {routes} routes, {} attribute sets{how}: {now} kB resident, {peak} kB at the peak of {limit}",
            routes / 4
        );
    }
    let _ = writeln!(
        report,
        "  an idle session: {each} octets of {IDLE} ({few} octets with {FEW} sessions, {many} with {SESSIONS} more)"
    );
    let fits = |(_, limit, usage): &(_, u64, Usage)| octets(usage.peak_kb) / 1000 <= *limit;
    ensure!(
        tables.iter().all(fits) && each <= IDLE,
        "bird-rs takes more than it may\n{report}"
    );
    Ok(report)
}

/// What the kernel says in units of 1,024.
fn octets(kib: u64) -> u64 {
    kib * 1024
}

/// The process while it has the workload's routes.
fn table(workload: &Workload) -> Result<Usage> {
    within_sessions(workload, |tester, daemon| {
        let senders = (0..workload.peers()).map(|peer| wire::announce(workload, peer, 1));
        tester.phase(Goal::all(workload, 1), senders.collect())?;
        usage(daemon)
    })
}

/// The most octets that the process takes while so many sessions do nothing.
fn idle(sessions: u32) -> Result<u64> {
    within_sessions(&Workload::idle(sessions), |tester, daemon| {
        let start = Instant::now();
        let mut most = 0;
        while start.elapsed() < WATCH {
            tester.idle(Instant::now() + Duration::from_millis(100))?;
            most = most.max(octets(usage(daemon)?.resident_kb));
        }
        Ok(most)
    })
}

fn within_sessions<R: Send>(
    workload: &Workload,
    look: impl FnOnce(&mut Tester<'_>, &Netns) -> Result<R> + Send,
) -> Result<R> {
    let lab = Lab::for_test("bench")?;
    let (ours, theirs) = crate::topology::wire_up(&lab)?;
    let _daemon = Program::BirdRs.prepare(&lab, workload)?.start(&theirs)?;
    ours.within(|| {
        listening()?;
        let mut tester = Tester::new(workload, Instant::now() + LIMIT)?;
        tester.establish(tester.clock(), Duration::from_secs(60))?;
        look(&mut tester, &theirs)
    })
}
