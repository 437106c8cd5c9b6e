//! What a lab owns, written down before it is made, so that another process can remove it too.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::netns::{Netns, Segment};
use super::process::{kill_namespace, run};

const ROOT: &str = "/run/tortie-lab";

/// One laboratory. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: PathBuf,
    keep: bool,
}

impl Lab {
    /// A lab whose namespaces are called `<name>-...`. What an earlier lab of this name left behind is removed first,
    /// unless its owner still lives.
    ///
    /// # Errors
    /// Without root or tools, or when a live process owns a lab of this name.
    pub fn new(name: &str) -> Result<Lab> {
        let missing = missing_requirements();
        if !missing.is_empty() {
            bail!("{}", missing.join("; "));
        }
        remove_abandoned()?;
        let dir = Path::new(ROOT).join(name);
        if dir.exists() {
            match owner(&dir) {
                Some(pid) if alive(pid) => bail!("lab '{name}' is in use by process {pid}"),
                _ => remove(&dir)?,
            }
        }
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        fs::write(dir.join("owner"), std::process::id().to_string())?;
        Ok(Lab {
            name: name.to_owned(),
            dir,
            keep: false,
        })
    }

    /// A lab for one test: its name is unique to this process and `topic`.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn for_test(topic: &str) -> Result<Lab> {
        Lab::new(&format!("tt{:x}{topic}", std::process::id()))
    }

    /// The lab's name, which begins every namespace's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the lab's files: sockets, state, logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves everything up when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
        let _ = fs::write(self.dir.join("kept"), "");
    }

    /// Makes a network namespace with its loopback up.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn namespace(&self, name: &str) -> Result<Netns> {
        super::check_interrupt()?;
        let full = format!("{}-{name}", self.name);
        let mut list = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("namespaces"))?;
        writeln!(list, "{full}")?;
        run(&["ip", "netns", "add", &full])?;
        let ns = Netns::new(full);
        ns.ip(&["link", "set", "lo", "up"])?;
        Ok(ns)
    }

    /// Removes a namespace and kills what runs in it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_namespace(&self, ns: &Netns) -> Result<()> {
        kill_namespace(ns.name());
        run(&["ip", "netns", "del", ns.name()]).map(drop)
    }

    /// Makes an L2 segment: a bridge in a namespace of its own.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn segment(&self, name: &str) -> Result<Segment> {
        let ns = self.namespace(name)?;
        ns.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ])?;
        ns.ip(&["link", "set", "br0", "up"])?;
        Ok(Segment::new(ns))
    }

    /// A folder in the lab's own, made if need be.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if std::thread::panicking() || std::env::var_os("TORTIE_LAB_LOGS").is_some() {
            keep_logs(&self.dir, &self.name);
        }
        if let Err(e) = remove(&self.dir) {
            eprintln!("lab {}: {e:#}", self.name);
        }
    }
}

/// After a failure the logs are worth more than a clean disk: they go to the temporary folder, the path is printed.
fn keep_logs(dir: &Path, name: &str) {
    let kept = std::env::temp_dir().join(format!("tortie-lab-logs-{name}"));
    let (from, to) = (dir.display().to_string(), kept.display().to_string());
    let _ = fs::remove_dir_all(&kept);
    let _ = run(&["mkdir", "-p", &to]);
    let script = format!("cd '{from}' && find . -type f -size -4M -print0 | xargs -0 cp --parents -t '{to}'");
    if run(&["sh", "-c", &script]).is_ok() {
        eprintln!("lab {name}: logs and files are kept in {to}");
    }
}

fn owner(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join("owner")).ok()?.trim().parse().ok()
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Removes the labs whose owner is gone, but not those that were kept up on purpose.
fn remove_abandoned() -> Result<()> {
    let Ok(labs) = fs::read_dir(ROOT) else { return Ok(()) };
    for lab in labs.flatten() {
        let dir = lab.path();
        if !dir.join("kept").exists() && owner(&dir).is_none_or(|pid| !alive(pid)) {
            remove(&dir)?;
        }
    }
    Ok(())
}

/// Removes the kept or abandoned lab of this name. `false` when there is none.
///
/// # Errors
/// When something of it cannot be removed.
pub fn stop_left_over(name: &str) -> Result<bool> {
    let dir = Path::new(ROOT).join(name);
    if !dir.exists() {
        return Ok(false);
    }
    remove(&dir)?;
    Ok(true)
}

fn remove(dir: &Path) -> Result<()> {
    let list = fs::read_to_string(dir.join("namespaces")).unwrap_or_default();
    for name in list.lines().rev() {
        kill_namespace(name);
        if Path::new("/run/netns").join(name).exists() {
            run(&["ip", "netns", "del", name])?;
        }
    }
    fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
}

/// What this machine lacks to run a lab, one sentence each with the remedy.
pub fn missing_requirements() -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("network namespaces need root: run as root (for example with sudo)".to_owned());
    }
    for (tool, package) in [("ip", "iproute2"), ("ping", "iputils-ping")] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
        if !found {
            missing.push(format!(
                "`{tool}` is not installed: run `make deps` (package {package})"
            ));
        }
    }
    missing
}
