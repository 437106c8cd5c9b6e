//! node diags: what a person who looks for a fault asks first, in one archive: the kernel's state, the daemons' answers,
//! their logs. Passwords are in none of it: tortiectl's answers have none, and configurations are not copied.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use tokio::process::Command;
use tortie_kit::address::{ServiceAddr, Target};

use crate::output::{Progress, say};

/// How long one of the programs may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct NodeDiagsArgs {
    /// Where the archive is written
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// A folder whose files are put in too
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Where the node's bird-rs is: unix:/path
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR")]
    pub(crate) bird: Option<ServiceAddr>,
    /// Where the node's felix is: unix:/path
    #[arg(long, env = "TORTIE_FELIX", value_name = "ADDR")]
    pub(crate) felix: Option<ServiceAddr>,
}

/// What is asked of the host: the file's name, and the command.
const HOST: &[(&str, &[&str])] = &[
    ("date", &["date", "--iso-8601=seconds"]),
    ("hostname", &["hostname"]),
    ("uname", &["uname", "-a"]),
    ("ip-link", &["ip", "-details", "-statistics", "link"]),
    ("ip-addr", &["ip", "addr"]),
    ("ip-route-v4", &["ip", "-4", "route", "show", "table", "all"]),
    ("ip-route-v6", &["ip", "-6", "route", "show", "table", "all"]),
    ("ip-rule-v4", &["ip", "-4", "rule"]),
    ("ip-rule-v6", &["ip", "-6", "rule"]),
    ("ip-neigh", &["ip", "neigh"]),
    ("bridge-fdb", &["bridge", "fdb"]),
    ("nft-ruleset", &["nft", "list", "ruleset"]),
    ("sockets", &["ss", "-tanp"]),
    ("sysctl-net", &["sysctl", "-a", "--pattern", "^net\\.ipv[46]\\.conf"]),
    ("processes", &["ps", "-ef"]),
    (
        "journal",
        &[
            "journalctl",
            "--no-pager",
            "--lines",
            "5000",
            "-u",
            "typha*",
            "-u",
            "felix*",
            "-u",
            "confd*",
            "-u",
            "bird-rs*",
        ],
    ),
];

/// `tortiectl node diags`.
pub(crate) async fn collect(typha: Option<Target>, args: &NodeDiagsArgs) -> Result<()> {
    let name = format!("diags-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let folder = args.dir.join(&name);
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let commands = commands(typha.is_some(), args)?;
    let progress = Progress::new("collecting");
    let mut missing = Vec::new();
    for (done, (file, command)) in commands.iter().enumerate() {
        progress.step(done, commands.len());
        if let Err(e) = write(&folder, file, command).await {
            missing.push(format!("{file}: {e:#}"));
        }
    }
    progress.step(commands.len(), commands.len());
    if let Some(logs) = &args.log_dir {
        copy(logs, &folder.join("logs"))?;
    }
    if !missing.is_empty() {
        std::fs::write(folder.join("missing"), missing.join("\n") + "\n").context("cannot write what is missing")?;
    }
    let archive = pack(&args.dir, &name).await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    say(&archive.display().to_string())
}

/// The commands of the host, and what this very program can say of the node.
fn commands(typha: bool, args: &NodeDiagsArgs) -> Result<Vec<(String, Vec<String>)>> {
    let own = std::env::current_exe()
        .context("cannot find this program")?
        .display()
        .to_string();
    let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<String>>();
    let mut all: Vec<(String, Vec<String>)> = HOST.iter().map(|(f, c)| ((*f).to_owned(), owned(c))).collect();
    let mut ask = |file: &str, words: &[&str]| {
        let command = std::iter::once(own.clone()).chain(owned(words));
        all.push((file.to_owned(), command.collect()));
    };
    ask("tortiectl-version", &["version", "--client"]);
    if let Some(bird) = args.bird.as_ref().map(ToString::to_string) {
        ask("bird-status.json", &["node", "status", "--bird", &bird, "-o", "json"]);
        ask("bird-routes", &["bgp", "routes", "all", "--bird", &bird]);
        ask("bird-version", &["version", "--bird", &bird]);
    }
    if let Some(felix) = args.felix.as_ref().map(ToString::to_string) {
        ask("felix-version", &["version", "--felix", &felix]);
    }
    // The address and the certificates of typha are in this process's environment or command line.
    if typha {
        ask("typha-status", &["datastore", "status"]);
        for kind in [
            "nodes",
            "ippools",
            "bgpconfigurations",
            "bgppeers",
            "bgpfilters",
            "felixconfigurations",
        ] {
            ask(&format!("{kind}.yaml"), &["get", kind, "-o", "yaml"]);
        }
        ask("ipam-check", &["ipam", "check", "--show-problem-ips"]);
        ask("bgp-peers", &["bgp", "peers"]);
    }
    Ok(all)
}

/// What a command says on both its outputs, in a file of this name.
async fn write(folder: &Path, file: &str, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("invariant: a command has a program")?;
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, value) in connection() {
        child.env(name, value);
    }
    let output = tokio::time::timeout(PATIENCE, child.output()).await;
    let output = output.with_context(|| format!("{program}: no end after {} s", PATIENCE.as_secs()))?;
    let output = output.with_context(|| program.clone())?;
    let mut text = output.stdout;
    text.extend(output.stderr);
    std::fs::write(folder.join(file), text).context("cannot write")?;
    if !output.status.success() {
        bail!("{program}: {}", output.status);
    }
    Ok(())
}

/// The options of this process that lead to typha, as the environment variables that say the same.
fn connection() -> Vec<(&'static str, String)> {
    let words: Vec<String> = std::env::args().collect();
    let value = |option: &str| {
        let joined = words
            .iter()
            .find_map(|w| w.strip_prefix(option)?.strip_prefix('=').map(str::to_owned));
        joined.or_else(|| {
            words
                .iter()
                .position(|w| w == option)
                .and_then(|at| words.get(at + 1).cloned())
        })
    };
    let pairs = [("--typha", "TORTIE_TYPHA")];
    pairs
        .iter()
        .filter_map(|(option, name)| Some((*name, value(option)?)))
        .collect()
}

/// The files of a folder, not of those in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("cannot copy {}", from.display());
    std::fs::create_dir(to).with_context(doing)?;
    for entry in std::fs::read_dir(from).with_context(doing)? {
        let entry = entry.with_context(doing)?;
        if entry.file_type().with_context(doing)?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(doing)?;
        }
    }
    Ok(())
}

/// The folder as an archive beside it, for its owner's eyes only.
async fn pack(dir: &Path, name: &str) -> Result<PathBuf> {
    let archive = dir.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-czf").arg(&archive).arg(name);
    let output = tar.output().await.context("tar")?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&archive, owner).context("cannot set the archive's mode")?;
    Ok(archive)
}
