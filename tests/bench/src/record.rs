//! What a run found, and its file `results.json`: the table, the picture and the pages of the docs are made from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tortie_tests::lab::run;

use crate::daemon::Program;

/// How long the machine is watched to see whether anything else runs on it.
const WATCH: Duration = Duration::from_secs(2);

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// On what.
    pub(crate) machine: Machine,
    /// Every phase of every daemon on every workload.
    pub(crate) rows: Vec<Row>,
    /// What bird-rs may take and takes, in words; empty when it was not looked at.
    pub(crate) budget: String,
}

/// What a run is to be judged by.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// When it began, in UTC.
    pub(crate) when: String,
    /// What was built.
    pub(crate) commit: String,
    /// Cores.
    pub(crate) cores: usize,
    /// Memory in MB.
    pub(crate) memory_mb: u64,
    /// The kernel's version, without what whoever built it calls it.
    pub(crate) kernel: String,
    /// Each daemon's version.
    pub(crate) versions: BTreeMap<String, String>,
    /// By what the loads were divided.
    pub(crate) shrink: u32,
    /// How long all took, in seconds.
    pub(crate) took_s: f64,
    /// Share of the CPUs that something else used before the run, 0 to 1.
    pub(crate) busy_before: f64,
    /// The same after the run.
    pub(crate) busy_after: f64,
}

/// One phase of one daemon on one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The workload's name.
    pub(crate) row: String,
    /// The workload's title.
    pub(crate) workload: String,
    /// "sessions up", "announce", "change", "withdraw", or what else is measured.
    pub(crate) phase: String,
    /// The daemon's name.
    pub(crate) daemon: String,
    /// Until the last peer had everything; an error when it never had.
    pub(crate) result: Result<Measured, String>,
}

/// What a phase cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Time.
    #[serde(rename = "wall_s", with = "seconds")]
    pub(crate) wall: Duration,
    /// The daemon's CPU time.
    #[serde(rename = "cpu_s", with = "seconds")]
    pub(crate) cpu: Duration,
    /// The daemon's peak memory so far, in KiB; 0 when it was not looked at.
    pub(crate) peak_kb: u64,
    /// The daemon's memory at the end, in KiB.
    pub(crate) resident_kb: u64,
    /// UPDATEs that all peers together read: how well the daemon packs.
    pub(crate) updates: u64,
    /// The tester's CPU time as a share of the time.
    pub(crate) tester_share: f64,
    /// What was sent again as a share of everything, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<f64>,
    /// What else is to be said, or nothing.
    pub(crate) note: String,
}

impl Measured {
    /// The tester used so much CPU that it, and not the daemon, may have set the pace: its one thread cannot use more
    /// than one core, so near that it was waiting for nobody.
    pub(crate) fn tester_bound(&self) -> bool {
        self.tester_share > 0.9
    }

    /// Peak memory in MB, of 1,000,000 octets.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.peak_kb as f64 * 1024.0 / 1e6
    }
}

/// A duration as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// The rows of one phase of one workload, each daemon's one.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// The workload's title.
    pub(crate) workload: &'a str,
    /// The phase.
    pub(crate) phase: &'a str,
    /// The daemons', in the order they ran.
    pub(crate) rows: Vec<&'a Row>,
}

impl Group<'_> {
    /// The figures that the others are compared with: those of the first of our programs that has any.
    pub(crate) fn base(&self) -> Option<(&str, &Measured)> {
        let ours = self.rows.iter().filter(|r| Program::is_ours(&r.daemon));
        ours.filter_map(|r| Some((&*r.daemon, r.result.as_ref().ok()?))).next()
    }

    /// The shortest time.
    pub(crate) fn fastest(&self) -> Option<Duration> {
        self.rows
            .iter()
            .filter_map(|r| r.result.as_ref().ok())
            .map(|m| m.wall)
            .min()
    }
}

/// Rows by workload and phase, in the order in which these come first.
pub(crate) fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows {
        let same = |g: &&mut Group<'_>| g.workload == row.workload && g.phase == row.phase;
        match groups.iter_mut().find(same) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group {
                workload: &row.workload,
                phase: &row.phase,
                rows: vec![row],
            }),
        }
    }
    groups
}

impl Machine {
    /// This machine, before the run.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn look(shrink: u32) -> Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        let total = memory
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:"))
            .context("MemTotal")?;
        let kib: u64 = total.trim().trim_end_matches("kB").trim().parse()?;
        let versions = Program::ALL
            .iter()
            .filter_map(|p| Some((p.name().to_owned(), version(*p)?)));
        Ok(Machine {
            when: run(&["date", "-u", "+%F %H:%M"])?.trim().to_owned(),
            commit: run(&["git", "describe", "--always", "--dirty"])
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mb: kib * 1024 / 1_000_000,
            kernel: upstream(&fs::read_to_string("/proc/sys/kernel/osrelease")?),
            versions: versions.collect(),
            shrink,
            took_s: 0.0,
            busy_before: busy()?,
            busy_after: 0.0,
        })
    }

    /// The run that began then is over.
    ///
    /// # Errors
    /// When the kernel does not say how busy it is.
    pub(crate) fn done(&mut self, since: Instant) -> Result<()> {
        self.took_s = since.elapsed().as_secs_f64();
        self.busy_after = busy()?;
        Ok(())
    }
}

/// What a program says its version is: the first word that begins with a digit.
fn version(program: Program) -> Option<String> {
    let (command, option) = program.version_command()?;
    let output = Command::new(command).arg(option).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut words = said.split_whitespace();
    words
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// The share of all CPUs that is in use now.
fn busy() -> Result<f64> {
    let read = || -> Result<(u64, u64)> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat")?;
        let ticks: Vec<u64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // The fourth and fifth are idle and waiting for disks.
        Ok((ticks.iter().sum(), ticks.iter().skip(3).take(2).sum()))
    };
    let (all, idle) = read()?;
    std::thread::sleep(WATCH);
    let (all_then, idle_then) = read()?;
    let (passed, rested) = (all_then.saturating_sub(all), idle_then.saturating_sub(idle));
    Ok(1.0 - rested as f64 / passed.max(1) as f64)
}

impl Record {
    /// Writes it to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When there is no such file or it is not one of these.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}: run `make bench`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }
}

fn upstream(release: &str) -> String {
    release.trim().split('-').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with some figures.
    pub(crate) fn row(name: &str, phase: &str, daemon: &str, wall_ms: u64) -> Row {
        Row {
            row: name.to_owned(),
            workload: format!("title of {name}"),
            phase: phase.to_owned(),
            daemon: daemon.to_owned(),
            result: Ok(Measured {
                wall: Duration::from_millis(wall_ms),
                cpu: Duration::from_millis(wall_ms / 2),
                peak_kb: 2048,
                resident_kb: 1024,
                updates: 1,
                tester_share: 0.2,
                again: None,
                note: String::new(),
            }),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut failed = row("full", "withdraw", "bird", 1);
        failed.result = Err("stalled".to_owned());
        let record = Record {
            machine: Machine {
                cores: 2,
                commit: "abc".to_owned(),
                ..Machine::default()
            },
            rows: vec![row("full", "announce", "bird-rs", 1250), failed],
            budget: "little".to_owned(),
        };
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains("\"wall_s\":1.25"), "{text}");
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read.rows, record.rows);
        assert_eq!(read.machine.commit, "abc");
    }

    #[test]
    fn rows_are_grouped_and_compared_with_ours() {
        let rows = [
            row("full", "announce", "bird", 500),
            row("full", "change", "bird", 700),
            row("full", "announce", "bird-rs", 800),
        ];
        let groups = groups(&rows);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].rows.len(), 2);
        assert_eq!(
            groups[0].base().map(|(name, m)| (name, m.wall.as_millis())),
            Some(("bird-rs", 800))
        );
        assert_eq!(groups[0].fastest(), Some(Duration::from_millis(500)));
        assert!(groups[1].base().is_none());
    }

    #[test]
    fn a_kernel_is_named_by_its_version() {
        assert_eq!(upstream("6.1.0-56-amd64\n"), "6.1.0");
        assert_eq!(upstream("6.18.44"), "6.18.44");
    }

    #[test]
    fn a_machine_is_more_or_less_busy() {
        let share = busy().unwrap();
        assert!((0.0..=1.0).contains(&share), "{share}");
    }
}
