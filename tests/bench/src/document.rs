//! The measured part of docs/benchmarks.md: what stands between two marks is written from `results.json`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::daemon::Program;
use crate::picture;
use crate::record::{Group, Machine, Record, Row, groups};
use crate::report::{costs, time};
use crate::target::TARGETS;

const BEGIN: &str = "<!-- measured: from here on written by `make bench-docs` -->";
const END: &str = "<!-- measured: up to here -->";

/// Writes the figures and the picture into a folder that has benchmarks.md.
///
/// # Errors
/// When there is no such file, it lacks the marks, or it cannot be written.
pub(crate) fn publish(record: &Record, folder: &Path) -> Result<()> {
    let page = folder.join("benchmarks.md");
    let old = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let new =
        replaced(&old, &measured(record)).with_context(|| format!("{} lacks {BEGIN} or {END}", page.display()))?;
    fs::write(&page, new).with_context(|| format!("write {}", page.display()))?;
    let svg = folder.join("benchmarks.svg");
    fs::write(&svg, picture::svg(&record.rows)).with_context(|| format!("write {}", svg.display()))
}

fn replaced(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))
}

fn measured(record: &Record) -> String {
    let mut out = machine(&record.machine);
    let _ = writeln!(out, "\n![every phase](benchmarks.svg)\n\n### What was to be reached\n");
    out += &targets(record);
    for (title, section) in [
        ("Peers", Section::Peers),
        ("Routes into the kernel", Section::Kernel),
        ("typha's clients", Section::Sync),
    ] {
        let groups = groups(&record.rows).into_iter();
        let groups: Vec<_> = groups.filter(|g| !prepares(g) && section_of(g) == section).collect();
        if !groups.is_empty() {
            let _ = writeln!(out, "\n### {title}\n");
            out += &table(&groups);
            out += &notes(&groups);
        }
    }
    let more = [costs(&record.rows), record.budget.clone()].concat();
    if !more.trim().is_empty() {
        let _ = writeln!(out, "\n```\n{}\n```", more.trim());
    }
    out
}

/// Where a row stands on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Peers,
    Kernel,
    Sync,
}

fn section_of(group: &Group<'_>) -> Section {
    match group.rows.first().map_or("", |r| &*r.row) {
        name if name.starts_with("kernel") => Section::Kernel,
        name if name.starts_with("sync") || name.starts_with("rolling") => Section::Sync,
        _ => Section::Peers,
    }
}

/// Some phases only lead to the one that the row is about; `results.json` has them all.
fn prepares(group: &Group<'_>) -> bool {
    let name = group.rows.first().map_or("", |r| &*r.row);
    match group.phase {
        "sessions up" => !name.starts_with("rr"),
        "announce" => matches!(name, "deliver" | "slow" | "restart" | "churn"),
        "all in sync" => name.starts_with("rolling"),
        _ => false,
    }
}

fn machine(machine: &Machine) -> String {
    let versions = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"));
    let smaller = match machine.shrink {
        1 => String::new(),
        n => format!(" The loads were divided by {n}: no figure here is one of the rows described above."),
    };
    format!(
        "Measured {} UTC at commit {}, {} cores, {} MB, Linux {}; {}. All rows took {:.0} minutes. Something else used \
         {:.0} % of the CPUs just before and {:.0} % just after.{smaller}\n",
        machine.when,
        machine.commit,
        machine.cores,
        machine.memory_mb,
        machine.kernel,
        versions.collect::<Vec<_>>().join(", "),
        machine.took_s / 60.0,
        100.0 * machine.busy_before,
        100.0 * machine.busy_after,
    )
}

fn targets(record: &Record) -> String {
    let mut out = String::from("| Row | Phase | Whose | To reach | Measured | |\n|---|---|---|---|---|---|\n");
    for target in TARGETS {
        let (wanted, measured, met) = match target.judge(&record.rows) {
            Some(v) if record.machine.shrink == 1 => (v.wanted, v.measured, if v.met { "met" } else { "**missed**" }),
            Some(v) => (v.wanted, v.measured, "smaller load"),
            None => (String::new(), "-".to_owned(), "not measured"),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {wanted} | {measured} | {met} |",
            target.row, target.phase, target.daemon
        );
    }
    out
}

fn table(groups: &[Group<'_>]) -> String {
    let has = |p: &Program| groups.iter().any(|g| g.rows.iter().any(|r| r.daemon == p.name()));
    let columns: Vec<Program> = Program::ALL.into_iter().filter(has).collect();
    let titles: Vec<&str> = columns.iter().map(|p| p.title()).collect();
    let mut out = String::from(
        "Each cell: time, CPU time, peak memory, and the time against ours. The fastest is bold. † the tester set the pace.\n\n",
    );
    let _ = writeln!(out, "| Row and phase | {} |", titles.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
    for group in groups {
        let _ = write!(out, "| {}: **{}** |", group.workload, group.phase);
        for column in &columns {
            let row = group.rows.iter().find(|r| r.daemon == column.name());
            let _ = write!(out, " {} |", row.map_or_else(String::new, |row| cell(group, row)));
        }
        out.push('\n');
    }
    out
}

fn cell(group: &Group<'_>, row: &Row) -> String {
    let m = match &row.result {
        Ok(m) => m,
        Err(why) => return why.split(['|', '\n']).next().unwrap_or_default().to_owned(),
    };
    let mut text = time(m.wall);
    if m.tester_bound() {
        text.push('†');
    }
    if group.fastest() == Some(m.wall) && group.rows.len() > 1 {
        text = format!("**{text}**");
    }
    let _ = write!(text, ", CPU {:.2} s", m.cpu.as_secs_f64());
    if m.peak_kb > 0 {
        let _ = write!(text, ", {:.0} MB", m.peak_mb());
    }
    match group.base() {
        Some((ours, base)) if ours != row.daemon => {
            let _ = write!(
                text,
                ", x {:.2}",
                m.wall.as_secs_f64() / base.wall.as_secs_f64().max(1e-6)
            );
        }
        _ => {}
    }
    text
}

/// What was said beside the figures.
fn notes(groups: &[Group<'_>]) -> String {
    let mut out = String::new();
    for group in groups {
        for row in &group.rows {
            if let Some(m) = row.result.as_ref().ok().filter(|m| !m.note.is_empty()) {
                let _ = writeln!(out, "* {}: {}, {}: {}", group.workload, group.phase, row.daemon, m.note);
            }
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::row;

    fn record() -> Record {
        let mut rows = vec![
            row("full", "announce", "bird-rs", 650),
            row("full", "announce", "bird", 1300),
            row("full", "announce", "frr", 1),
            row("kernel10k", "added", "felix", 30),
            row("churn", "announce", "bird-rs", 40),
            row("rr200", "sessions up", "bird-rs", 50),
            row("full", "sessions up", "bird-rs", 60),
        ];
        rows[2].result = Err("stalled: 1 peer | lacks 3".to_owned());
        Record {
            machine: Machine {
                shrink: 1,
                cores: 2,
                ..Machine::default()
            },
            rows,
            budget: String::new(),
        }
    }

    #[test]
    fn the_page_has_the_figures_between_its_marks_and_nothing_else_changes() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&page, "new").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new").unwrap(), new, "written twice is written once");
        assert!(replaced("no marks", "new").is_none());
    }

    #[test]
    fn cells_and_targets() {
        let text = measured(&record());
        assert!(
            text.contains("| **0.650 s**, CPU 0.33 s, 2 MB | 1.300 s, CPU 0.65 s, 2 MB, x 2.00 | stalled: 1 peer  |"),
            "{text}"
        );
        assert!(
            text.contains("| `full` | announce | bird-rs | 0.7 s | 0.650 s | met |"),
            "{text}"
        );
        assert!(
            text.contains("| `full` | withdraw | bird-rs |  | - | not measured |"),
            "{text}"
        );
        let (peers, kernel) = text.split_once("### Routes into the kernel").unwrap();
        assert!(
            !peers.contains("kernel10k") && kernel.contains("title of kernel10k"),
            "{text}"
        );
        assert!(!peers.contains("title of churn") && peers.contains("title of rr200: **sessions up**"));
        assert!(!peers.contains("title of full: **sessions up**"), "{text}");
        let mut smaller = record();
        smaller.machine.shrink = 10;
        assert!(measured(&smaller).contains("| 0.650 s | smaller load |"));
    }

    #[test]
    fn the_page_of_the_docs_has_the_marks() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
        assert!(replaced(&fs::read_to_string(page).unwrap(), "").is_some());
    }
}
