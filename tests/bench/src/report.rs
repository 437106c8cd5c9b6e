//! The table for people, on the terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::filter::Filter;
use crate::record::{Measured, Row, groups};
use crate::target::TARGETS;

/// A time for people: as seconds, or below a tenth of one as milliseconds.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.3} s", time.as_secs_f64())
    }
}

/// Each daemon's figures, and its time as a ratio to ours in the same run.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    for group in groups(rows) {
        let base = group.base();
        let against = base.map_or_else(String::new, |(ours, _)| format!("against {ours}: time, CPU, peak"));
        let _ = writeln!(out, "\n{}: {}", group.workload, group.phase);
        let _ = writeln!(
            out,
            "  {:<10} {:>9} {:>9} {:>10} {:>10} {:>7}   {against}",
            "daemon", "time", "CPU", "peak", "UPDATEs", "tester"
        );
        for row in &group.rows {
            match &row.result {
                Err(e) => {
                    let _ = writeln!(out, "  {:<10} failed: {e}", row.daemon);
                }
                Ok(m) => line(&mut out, &row.daemon, m, base.map(|(_, b)| b)),
            }
        }
    }
    out
}

fn line(out: &mut String, daemon: &str, m: &Measured, base: Option<&Measured>) {
    let ratio = base.map_or_else(|| "-".to_owned(), |base| ratios(m, base));
    let bound = if m.tester_bound() {
        "  (the tester set the pace)"
    } else {
        ""
    };
    let peak = if m.peak_kb > 0 {
        format!("{:.1} MB", m.peak_mb())
    } else {
        "-".to_owned()
    };
    let _ = writeln!(
        out,
        "  {daemon:<10} {:>9} {:>7.2} s {peak:>10} {:>10} {:>5.0} %   {}{bound}",
        time(m.wall),
        m.cpu.as_secs_f64(),
        m.updates,
        100.0 * m.tester_share,
        ratio.trim_end()
    );
    if !m.note.is_empty() {
        let _ = writeln!(out, "  {:<10} {}", "", m.note);
    }
}

/// Time, CPU time and peak memory as ratios to another's, where both have them.
fn ratios(m: &Measured, base: &Measured) -> String {
    let seconds = |wall: Duration| wall.as_secs_f64();
    [
        (seconds(m.wall), seconds(base.wall)),
        (seconds(m.cpu), seconds(base.cpu)),
        (m.peak_kb as f64, base.peak_kb as f64),
    ]
    .map(|(theirs, ours)| {
        if ours > 0.0 && theirs > 0.0 {
            format!("x {:<7.2}", theirs / ours)
        } else {
            format!("{:<9}", "-")
        }
    })
    .concat()
}

/// What an import filter costs bird-rs and BIRD, and what IPv6 costs each. Nothing that was not measured with both.
pub(crate) fn costs(rows: &[Row]) -> String {
    let mut out = String::new();
    let find = |row: &str, daemon: &str| {
        let same = |r: &&Row| r.row == row && r.daemon == daemon && r.phase == "announce";
        rows.iter().find(same)?.result.as_ref().ok()
    };
    if let Some(filter) = Filter::of(rows) {
        let _ = writeln!(out, "{filter}");
    }
    let mut daemons: Vec<&str> = Vec::new();
    for row in rows {
        if !daemons.contains(&&*row.daemon) {
            daemons.push(&row.daemon);
        }
    }
    for (v4, v6) in [("full", "full-v6"), ("rr200", "rr200-v6")] {
        let each: Vec<String> = daemons
            .iter()
            .filter_map(|daemon| Some((daemon, find(v4, daemon)?, find(v6, daemon)?)))
            .map(|(daemon, four, six)| {
                let times = six.wall.as_secs_f64() / four.wall.as_secs_f64().max(1e-6);
                let cpu = six.cpu.as_secs_f64() / four.cpu.as_secs_f64().max(0.01);
                format!("{daemon} time x {times:.2}, CPU x {cpu:.2}")
            })
            .collect();
        if !each.is_empty() {
            let _ = writeln!(out, "IPv6 against IPv4, {v6} announce: {}", each.join("; "));
        }
    }
    out
}

/// What was to be reached, and what was.
pub(crate) fn targets(rows: &[Row]) -> String {
    let mut out = String::new();
    for (target, verdict) in TARGETS.iter().filter_map(|t| Some((t, t.judge(rows)?))) {
        let what = format!("{}, {}", target.row, target.phase);
        let met = if verdict.met { "met" } else { "missed" };
        let _ = writeln!(
            out,
            "  {what:<62} {:<8} {:<28} {:>10}  {met}",
            target.daemon, verdict.wanted, verdict.measured
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::row;

    #[test]
    fn short_times_are_in_milliseconds() {
        assert_eq!(time(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(100)), "0.100 s");
    }

    #[test]
    fn ratios_are_against_ours_of_the_same_phase() {
        let mut rows = vec![row("w", "announce", "bird-rs", 100), row("w", "announce", "bird", 250)];
        if let Ok(m) = &mut rows[1].result {
            m.tester_share = 0.95;
            m.note = "late".to_owned();
        }
        rows.push(Row {
            result: Err("stalled".into()),
            ..row("w", "announce", "frr", 1)
        });
        let text = table(&rows);
        assert!(
            text.contains("x 2.50   x 2.50   x 1.00")
                && text.contains("x 1.00   x 1.00   x 1.00")
                && text.contains("failed: stalled"),
            "{text}"
        );
        // The tester is blamed, and the note is written, where they belong.
        let line = |daemon: &str| text.lines().position(|l| l.trim_start().starts_with(daemon)).unwrap();
        let of_bird = text.lines().nth(line("bird  ")).unwrap();
        assert!(of_bird.ends_with("(the tester set the pace)"), "{text}");
        assert_eq!(text.matches("(the tester").count(), 1, "{text}");
        assert_eq!(text.lines().nth(line("bird  ") + 1).unwrap().trim(), "late");
    }

    #[test]
    fn ipv6_costs_what_it_adds() {
        let rows = [
            row("full", "announce", "bird-rs", 800),
            row("full-v6", "announce", "bird-rs", 1200),
        ];
        let text = costs(&rows);
        assert!(
            text.contains("full-v6 announce: bird-rs time x 1.50, CPU x 1.50"),
            "{text}"
        );
        assert!(costs(&rows[..1]).is_empty());
    }
}
