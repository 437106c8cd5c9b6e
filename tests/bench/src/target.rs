//! What our programs are to reach, and whether they did.

use crate::node;
use crate::record::{Measured, Row};
use crate::report::time;

/// A bound of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// Seconds.
    Time(f64),
    /// Seconds of CPU time.
    Cpu(f64),
    /// Megabytes at the peak.
    Peak(f64),
    /// Megabytes at the end.
    Resident(f64),
    /// So many times as fast as this one, at least, in the same run.
    Faster(f64, &'static str),
    /// Sent again, as a share of everything.
    Again(f64),
    /// The CPU time of this one, so many times, at most, in the same run.
    CpuOf(f64, &'static str),
}

/// One bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    /// The workload's name.
    pub(crate) row: &'static str,
    /// The phase.
    pub(crate) phase: &'static str,
    /// Whose figure.
    pub(crate) daemon: &'static str,
    /// The bound.
    pub(crate) limit: Limit,
}

/// What came of a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// What was asked.
    pub(crate) wanted: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Is it within the bound?
    pub(crate) met: bool,
}

const fn of(row: &'static str, phase: &'static str, daemon: &'static str, limit: Limit) -> Target {
    Target {
        row,
        phase,
        daemon,
        limit,
    }
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    of("full", "announce", "bird-rs", Limit::Time(0.7)),
    of("full", "announce", "bird-rs", Limit::Peak(120.0)),
    of("filter", "announce", "bird-rs", Limit::Peak(190.0)),
    of("full", "announce", "bird-rs", Limit::Faster(1.0, "bird")),
    of("full", "withdraw", "bird-rs", Limit::Time(0.2)),
    of("rr200", "change", "bird-rs", Limit::Time(0.07)),
    of("rr200", "change", "bird-rs", Limit::Cpu(0.04)),
    of("rr200", "change", "bird-rs", Limit::Peak(15.0)),
    of("rr1000", "announce", "bird-rs", Limit::Time(0.4)),
    of("rr1000", "change", "bird-rs", Limit::Time(0.3)),
    of("rr1000", "change", "bird-rs", Limit::Cpu(0.4)),
    of("rr1000", "change", "bird-rs", Limit::Peak(40.0)),
    of("rr1000", "change", "bird-rs", Limit::Faster(1.0, "frr")),
    of(
        "cold",
        "sessions up, from the daemon's start",
        "bird-rs",
        Limit::Time(0.3),
    ),
    of("exchange", "announce", "bird-rs", Limit::Time(3.0)),
    of("exchange", "announce", "bird-rs", Limit::Peak(110.0)),
    of(
        "mesh50",
        "everyone has everything, from the first one's start",
        "bird-rs",
        Limit::Faster(1.0, "bird"),
    ),
    of(
        "mesh100",
        "everyone has everything, from the first one's start",
        "bird-rs",
        Limit::Faster(1.0, "bird"),
    ),
    of("kernel100k", "added", "felix", Limit::Faster(3.0, "ip-batch")),
    of("kernel100k", "replaced", "felix", Limit::Faster(3.0, "ip-batch")),
    of("kernel100k", "re-pointed", "felix", Limit::Faster(3.0, "ip-batch")),
    of("kernel100k", "deleted", "felix", Limit::Faster(3.0, "ip-batch")),
    of("kernel1m", "added", "felix", Limit::Faster(1.0, "bird")),
    of("kernelnode", node::ONE_MORE, "felix", Limit::Time(0.005)),
    of("kernelnode", node::REST, "felix", Limit::Cpu(0.03)),
    of("kernelnode", node::REST, "felix", Limit::Resident(30.0)),
    of("filter", "announce", "bird-rs", Limit::CpuOf(1.0, "bird")),
    of("sync5000", "all in sync", "typha", Limit::Time(30.0)),
    of("sync5000", "all in sync", "typha", Limit::Peak(400.0)),
    of("sync5000", "one update, to one client, p99", "typha", Limit::Time(0.2)),
    of(
        "sync5000",
        "200 updates a second, until all have all",
        "typha",
        Limit::Time(61.0),
    ),
    of(
        "rolling5000",
        "rolling restart, until all are in sync again",
        "typha",
        Limit::Again(0.05),
    ),
];

/// Below this a CPU time of 10 ms ticks is too coarse for a ratio.
const ENOUGH_CPU: f64 = 0.2;

impl Target {
    /// What came of it; nothing when its figures are not there.
    pub(crate) fn judge(&self, rows: &[Row]) -> Option<Verdict> {
        let ours = self.find(rows, self.daemon)?;
        let wall = ours.wall.as_secs_f64();
        let (wanted, measured, met) = match self.limit {
            Limit::Time(most) => (format!("{most} s"), time(ours.wall), wall <= most),
            Limit::Cpu(most) => {
                let cpu = ours.cpu.as_secs_f64();
                (format!("CPU {most} s"), format!("{cpu:.2} s"), cpu <= most)
            }
            Limit::Peak(most) => {
                let peak = ours.peak_mb();
                (format!("{most} MB"), format!("{peak:.0} MB"), peak <= most)
            }
            Limit::Resident(most) => {
                let resident = ours.resident_kb as f64 * 1024.0 / 1e6;
                (
                    format!("{most} MB resident"),
                    format!("{resident:.0} MB"),
                    resident <= most,
                )
            }
            Limit::Again(most) => {
                let again = ours.again?;
                (
                    format!("{:.0} % again", 100.0 * most),
                    format!("{:.2} %", 100.0 * again),
                    again < most,
                )
            }
            Limit::Faster(times, than) => {
                let ratio = self.find(rows, than)?.wall.as_secs_f64() / wall.max(1e-6);
                (
                    format!("x {times} as fast as {than}"),
                    format!("x {ratio:.2}"),
                    ratio >= times,
                )
            }
            Limit::CpuOf(times, than) => {
                let theirs = self.find(rows, than)?.cpu.as_secs_f64();
                if theirs < ENOUGH_CPU {
                    return None;
                }
                let ratio = ours.cpu.as_secs_f64() / theirs;
                (
                    format!("CPU x {times} of {than}"),
                    format!("x {ratio:.2}"),
                    ratio <= times,
                )
            }
        };
        Some(Verdict { wanted, measured, met })
    }

    fn find<'a>(&self, rows: &'a [Row], daemon: &str) -> Option<&'a Measured> {
        let same = |r: &&Row| r.row == self.row && r.phase == self.phase && r.daemon == daemon;
        rows.iter().find(same)?.result.as_ref().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::row;

    #[test]
    fn figures_are_judged_and_what_is_not_there_is_not() {
        let rows = [
            row("full", "announce", "bird-rs", 650),
            row("full", "withdraw", "bird-rs", 300),
        ];
        let verdicts: Vec<_> = TARGETS.iter().filter_map(|t| t.judge(&rows)).collect();
        let met: Vec<_> = verdicts.iter().map(|v| (&*v.wanted, &*v.measured, v.met)).collect();
        assert_eq!(
            met,
            [
                ("0.7 s", "0.650 s", true),
                ("120 MB", "2 MB", true),
                ("0.2 s", "0.300 s", false)
            ]
        );
    }

    #[test]
    fn ratios_are_to_others_of_the_same_run() {
        let rows = |ours, theirs| {
            [
                row("filter", "announce", "bird-rs", ours),
                row("filter", "announce", "bird", theirs),
            ]
        };
        let cpu = of("filter", "announce", "bird-rs", Limit::CpuOf(1.5, "bird"));
        assert_eq!(cpu.judge(&rows(1400, 1000)).map(|v| v.met), Some(true));
        let missed = cpu.judge(&rows(1600, 1000)).unwrap();
        assert_eq!(
            (&*missed.wanted, &*missed.measured, missed.met),
            ("CPU x 1.5 of bird", "x 1.60", false)
        );
        assert_eq!(cpu.judge(&rows(160, 100)), None, "too little to tell");
        let faster = of("filter", "announce", "bird-rs", Limit::Faster(3.0, "bird"));
        assert_eq!(faster.judge(&rows(100, 290)).map(|v| v.met), Some(false));
        assert_eq!(faster.judge(&rows(100, 310)).map(|v| v.met), Some(true));
    }
}
