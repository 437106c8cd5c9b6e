//! The table and the picture.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// One phase of one daemon on one workload.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The workload's title.
    pub(crate) workload: String,
    /// "sessions up", "announce", "change", "withdraw", or what else is measured.
    pub(crate) phase: &'static str,
    /// The daemon.
    pub(crate) daemon: &'static str,
    /// Until the last peer had everything; an error when it never had.
    pub(crate) result: Result<Measured, String>,
}

/// What a phase cost.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Time.
    pub(crate) wall: Duration,
    /// The daemon's CPU time.
    pub(crate) cpu: Duration,
    /// The daemon's peak memory so far, in kB.
    pub(crate) peak_kb: u64,
    /// The daemon's memory at the end, in kB.
    pub(crate) resident_kb: u64,
    /// UPDATEs that all peers together read: how well the daemon packs.
    pub(crate) updates: u64,
    /// The tester's CPU time as a share of the time.
    pub(crate) tester_share: f64,
    /// What else is to be said, or nothing.
    pub(crate) note: String,
}

impl Measured {
    /// The tester used so much CPU that it, and not the daemon, may have set the pace: its one thread cannot use more
    /// than one core, so near that it was waiting for nobody.
    fn tester_bound(&self) -> bool {
        self.tester_share > 0.9
    }
}

/// A time for people: as seconds, or below a tenth of one as milliseconds.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.3} s", time.as_secs_f64())
    }
}

/// The table for people: each daemon's figures and its time as a ratio to ours in the same run.
pub(crate) fn table(rows: &[Row], ours: &str) -> String {
    let mut out = String::new();
    let mut last = String::new();
    for row in rows {
        let group = format!("{}: {}", row.workload, row.phase);
        if group != last {
            let _ = writeln!(out, "\n{group}");
            let _ = writeln!(
                out,
                "  {:<10} {:>9} {:>9} {:>10} {:>10} {:>7}   time against {ours}",
                "daemon", "time", "CPU", "peak", "UPDATEs", "tester"
            );
            last.clone_from(&group);
        }
        let base = rows
            .iter()
            .find(|r| r.daemon == ours && r.workload == row.workload && r.phase == row.phase);
        let base = base.and_then(|r| r.result.as_ref().ok());
        match &row.result {
            Err(e) => {
                let _ = writeln!(out, "  {:<10} failed: {e}", row.daemon);
            }
            Ok(m) => {
                let ratio = base.map(|b| m.wall.as_secs_f64() / b.wall.as_secs_f64().max(1e-6));
                let ratio = ratio.map_or_else(|| "-".to_owned(), |r| format!("x {r:.2}"));
                let bound = if m.tester_bound() {
                    "  (the tester set the pace)"
                } else {
                    ""
                };
                let _ = writeln!(
                    out,
                    "  {:<10} {:>9} {:>7.2} s {:>7.1} MB {:>10} {:>5.0} %   {ratio}{bound}",
                    row.daemon,
                    time(m.wall),
                    m.cpu.as_secs_f64(),
                    m.peak_kb as f64 / 1024.0,
                    m.updates,
                    100.0 * m.tester_share
                );
                if !m.note.is_empty() {
                    let _ = writeln!(out, "  {:<10} {}", "", m.note);
                }
            }
        }
    }
    out
}

/// What an import filter may cost bird-rs, in CPU times of BIRD's for the same file.
const FILTER_LIMIT: f64 = 1.5;
/// Less than this many seconds are noise, which says nothing of the filter alone.
const FILTER_LEAST: f64 = 0.5;

/// What an import filter costs in CPU seconds: announcing everything through it, and how much of that is the filter's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    all: f64,
    alone: f64,
}

/// What an import filter costs bird-rs and BIRD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Filter {
    ours: Cost,
    birds: Cost,
}

impl Filter {
    /// Nothing when it was not measured with both.
    pub(crate) fn of(rows: &[Row]) -> Option<Self> {
        let cpu = |daemon: &str, with: &str| {
            let named = |r: &&Row| r.daemon == daemon && r.phase == "announce" && r.workload.starts_with(with);
            let measured = rows.iter().find(named)?.result.as_ref().ok()?;
            Some(measured.cpu.as_secs_f64())
        };
        let cost = |daemon| {
            let all = cpu(daemon, "import with a")?;
            let alone = all - cpu(daemon, "import without a")?;
            Some(Cost { all, alone })
        };
        let (ours, birds) = (cost("bird-rs")?, cost("bird")?);
        Some(Filter { ours, birds })
    }

    fn ratio(ours: f64, birds: f64) -> f64 {
        ours / birds.max(0.01)
    }

    /// Does it cost more than it may?
    pub(crate) fn is_too_much(self) -> bool {
        let all = Self::ratio(self.ours.all, self.birds.all);
        let alone = Self::ratio(self.ours.alone, self.birds.alone);
        all > FILTER_LIMIT || (self.birds.alone >= FILTER_LEAST && alone > FILTER_LIMIT)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filter { ours, birds } = self;
        write!(
            f,
            "the import filter, CPU of bird-rs against BIRD: {:.2} s to {:.2} s in all, x {:.2}; \
             the filter alone {:.2} s to {:.2} s, x {:.2}; at most x {FILTER_LIMIT}",
            ours.all,
            birds.all,
            Self::ratio(ours.all, birds.all),
            ours.alone,
            birds.alone,
            Self::ratio(ours.alone, birds.alone)
        )
    }
}

#[cfg(test)]
mod filter_tests {
    use super::*;

    fn filter(ours: (f64, f64), birds: (f64, f64)) -> Filter {
        let cost = |(all, alone)| Cost { all, alone };
        Filter {
            ours: cost(ours),
            birds: cost(birds),
        }
    }

    #[test]
    fn a_filter_may_cost_half_more_than_birds() {
        assert!(!filter((3.0, 1.5), (2.0, 1.0)).is_too_much());
        assert!(filter((3.1, 1.5), (2.0, 1.0)).is_too_much());
        assert!(filter((3.0, 1.6), (2.0, 1.0)).is_too_much());
        // Too little to be told from noise.
        assert!(!filter((3.0, 0.3), (2.0, 0.1)).is_too_much());
    }
}

/// A bar chart, one group of bars per workload and phase, on a logarithmic scale.
pub(crate) fn svg(rows: &[Row]) -> String {
    const WIDTH: f64 = 420.0;
    let (mut body, mut y, mut last) = (String::new(), 24.0, String::new());
    for row in rows {
        let group = format!("{}: {}", row.workload, row.phase);
        if group != last {
            y += 14.0;
            let _ = writeln!(body, "<text x='10' y='{y:.0}' class='g'>{group}</text>");
            y += 6.0;
            last = group;
        }
        let (width, label) = match &row.result {
            Ok(m) => {
                // 1 ms is nothing, 100 s is the whole width.
                let decades = (m.wall.as_secs_f64().max(0.001) / 0.001).log10() / 5.0;
                (
                    decades.clamp(0.005, 1.0) * WIDTH,
                    format!("{}, {:.0} MB", time(m.wall), m.peak_kb as f64 / 1024.0),
                )
            }
            Err(_) => (0.0, "failed".to_owned()),
        };
        let colour = if row.daemon == "bird-rs" { "#c2410c" } else { "#94a3b8" };
        let _ = writeln!(body, "<text x='90' y='{:.0}' class='d'>{}</text>", y + 11.0, row.daemon);
        let _ = writeln!(
            body,
            "<rect x='96' y='{y:.0}' width='{width:.1}' height='13' fill='{colour}'/>"
        );
        let _ = writeln!(
            body,
            "<text x='{:.0}' y='{:.0}'>{label}</text>",
            102.0 + width,
            y + 11.0
        );
        y += 16.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='700' height='{:.0}' font-family='sans-serif' font-size='11'>\n\
         <style>.g{{font-weight:bold}} .d{{text-anchor:end}}</style>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='16' font-size='13'>Time until every peer has everything (logarithmic), and peak memory</text>\n{body}</svg>\n",
        y + 12.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_in_milliseconds() {
        assert_eq!(time(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(100)), "0.100 s");
    }

    #[test]
    fn ratios_are_against_ours_of_the_same_phase() {
        let row = |daemon, ms| Row {
            workload: "w".into(),
            phase: "announce",
            daemon,
            result: Ok(Measured {
                wall: Duration::from_millis(ms),
                cpu: Duration::ZERO,
                peak_kb: 2048,
                resident_kb: 1024,
                updates: 1,
                tester_share: if daemon == "bird" { 0.95 } else { 0.2 },
                note: if daemon == "bird" { "late".into() } else { String::new() },
            }),
        };
        let mut rows = vec![row("bird-rs", 100), row("bird", 250)];
        rows.push(Row {
            result: Err("stalled".into()),
            ..row("frr", 1)
        });
        let text = table(&rows, "bird-rs");
        assert!(
            text.contains("x 2.50") && text.contains("x 1.00") && text.contains("failed: stalled"),
            "{text}"
        );
        // The tester is blamed, and the note is written, where they belong.
        let line = |daemon: &str| text.lines().position(|l| l.trim_start().starts_with(daemon)).unwrap();
        let of_bird = text.lines().nth(line("bird  ")).unwrap();
        assert!(of_bird.ends_with("(the tester set the pace)"), "{text}");
        assert_eq!(text.matches("(the tester").count(), 1, "{text}");
        assert_eq!(text.lines().nth(line("bird  ") + 1).unwrap().trim(), "late");
        assert!(svg(&rows).contains("0.250 s, 2 MB"));
    }
}
