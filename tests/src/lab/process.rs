//! Commands and daemons.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Netns;
use super::interrupt::apart;

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started or fails: the command and what it wrote to standard error.
pub fn run(command: &[&str]) -> Result<String> {
    let (program, args) = command.split_first().context("no command")?;
    let output = apart(Command::new(program).args(args))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", command.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Kills everything that runs in a namespace.
pub(super) fn kill_namespace(name: &str) {
    for _ in 0..50 {
        let Ok(pids) = run(&["ip", "netns", "pids", name]) else {
            return;
        };
        let pids: Vec<i32> = pids.lines().filter_map(|l| l.trim().parse().ok()).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory in kB.
    pub rss_kb: u64,
    /// User and system CPU time in seconds.
    pub cpu_s: f64,
}

/// A daemon in a namespace, started, stopped and started again with the same command line. Its output goes to a log.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    ns: Netns,
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, ns: &Netns, command: Vec<String>, log: PathBuf) -> Result<Daemon> {
        let mut daemon = Daemon {
            name: name.to_owned(),
            ns: ns.clone(),
            command,
            log,
            child: None,
        };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace it runs in.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it (again) with the same command line.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.ns.name()]).args(&self.command);
        let child = apart(&mut command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Stops it and starts it with more arguments.
    ///
    /// # Errors
    /// When it cannot be stopped or started.
    pub fn restart_with(&mut self, more: &[&str]) -> Result<()> {
        self.stop()?;
        self.command.extend(more.iter().map(|m| (*m).to_owned()));
        self.start_again()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Does it run? A daemon that ended by itself does not.
    ///
    /// # Errors
    /// When it ended by itself: its status and the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else {
            bail!("{} is not started", self.name)
        };
        if let Some(status) = child.try_wait()? {
            bail!("{} ended ({status}): {}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it has not ended within ten seconds; it is killed then.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = i32::try_from(child.id()).context("pid")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        bail!("{} did not end within 10 s of SIGTERM: {}", self.name, tail(&self.log))
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
        let rss_kb = rss.trim().trim_end_matches("kB").trim().parse()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields after the parenthesised name; utime and stime are fields 14 and 15 of the whole line.
        let (_, rest) = stat.rsplit_once(')').context("stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        Ok(Usage {
            rss_kb,
            cpu_s: (ticks(11) + ticks(12)) / 100.0,
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The end of a log.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Makes an empty log file so that its path exists from the beginning.
pub(super) fn fresh_log(path: &Path) -> Result<()> {
    File::create(path)
        .map(drop)
        .with_context(|| format!("make {}", path.display()))
}
