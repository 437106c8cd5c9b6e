//! What was found, in docs/benchmarks.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Row;

const BEGIN: &str = "<!-- pods: from here on written by `make bench-pods` -->";
const END: &str = "<!-- pods: up to here -->";

/// Replaces what stands between the marks.
///
/// # Errors
/// When the page cannot be read or written, or lacks the marks.
pub(crate) fn publish(rows: &[Row], folder: &Path) -> Result<()> {
    let page = folder.join("benchmarks.md");
    let old = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let new = replaced(&old, &table(rows)).with_context(|| format!("{} lacks {BEGIN} or {END}", page.display()))?;
    fs::write(&page, new).with_context(|| format!("write {}", page.display()))
}

fn replaced(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))
}

fn table(rows: &[Row]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let mut out = format!("Measured {now}, {cores} cores, load {load} at the end (what ran beside it, included).\n\n");
    out += "| Row | What | Measured |\n|---|---|---|\n";
    for row in rows {
        for (what, value) in &row.figures {
            let _ = writeln!(out, "| {} | {what} | {value} |", row.title);
        }
        for broken in &row.broken {
            let _ = writeln!(out, "| {} | **broken** | {broken} |", row.title);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb");
        let new = replaced(&page, "new").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n{END}\nb"));
        assert_eq!(replaced("a", "new"), None);
    }
}
