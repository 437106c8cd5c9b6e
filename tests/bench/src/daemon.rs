//! The daemons under test: how each is configured for a workload, and what it used.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tortie_tests::lab::{Daemon, Lab, Netns, binary};

use crate::policy;
use crate::workload::{DAEMON, DAEMON_AS, Import, Scenario, Workload};

/// A BGP daemon that the tester can drive, or another way for routes into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ours: bird-rs, and felix that writes the kernel.
    Felix,
    /// Ours.
    BirdRs,
    /// Stock BIRD 2.
    Bird,
    /// FRR's bgpd, without zebra.
    Frr,
    /// GoBGP.
    GoBgp,
    /// OpenBGPD.
    OpenBgpd,
    /// Our reconciler of lib/netlink, within this process.
    Netlink,
    /// iproute2 with a file of commands.
    IpBatch,
    /// Ours.
    Typha,
}

impl Program {
    /// All of them, ours first.
    pub(crate) const ALL: [Program; 9] = [
        Program::Felix,
        Program::BirdRs,
        Program::Bird,
        Program::Frr,
        Program::GoBgp,
        Program::OpenBgpd,
        Program::Netlink,
        Program::IpBatch,
        Program::Typha,
    ];

    /// Its name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Felix => "felix",
            Program::BirdRs => "bird-rs",
            Program::Bird => "bird",
            Program::Frr => "frr",
            Program::GoBgp => "gobgp",
            Program::OpenBgpd => "openbgpd",
            Program::Netlink => "netlink",
            Program::IpBatch => "ip-batch",
            Program::Typha => "typha",
        }
    }

    /// Its name for people, in the docs.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Program::Felix => "bird-rs and felix",
            Program::BirdRs => "bird-rs",
            Program::Bird => "BIRD",
            Program::Frr => "FRR",
            Program::GoBgp => "GoBGP",
            Program::OpenBgpd => "OpenBGPD",
            Program::Netlink => "lib/netlink",
            Program::IpBatch => "ip -batch",
            Program::Typha => "typha",
        }
    }

    /// Is the daemon of this name one of ours?
    pub(crate) fn is_ours(name: &str) -> bool {
        [Program::Felix, Program::BirdRs, Program::Netlink, Program::Typha]
            .iter()
            .any(|p| p.name() == name)
    }

    /// What to run to hear its version, and with which option.
    pub(crate) fn version_command(self) -> Option<(String, &'static str)> {
        let path = match self {
            Program::BirdRs => binary("bird-rs").ok()?.display().to_string(),
            _ => self.path()?.to_owned(),
        };
        Some((path, if self == Program::OpenBgpd { "-V" } else { "--version" }))
    }

    /// Can it run this workload? Filters and meshes are written in the language of two of them.
    pub(crate) fn runs(self, workload: &Workload) -> bool {
        let bird = matches!(self, Program::BirdRs | Program::Bird);
        let kernel = matches!(self, Program::Felix | Program::Netlink | Program::IpBatch);
        match workload.scenario {
            Scenario::Kernel => bird || kernel,
            Scenario::Node { .. } => self == Program::Felix,
            Scenario::Mesh => bird,
            Scenario::Sync { .. } | Scenario::Rolling { .. } => self == Program::Typha,
            _ if self == Program::Typha => false,
            _ => !kernel && (bird || workload.import == Import::Plain),
        }
    }

    /// The file that must exist for a program that is not ours.
    fn path(self) -> Option<&'static str> {
        match self {
            Program::Felix | Program::BirdRs | Program::Netlink | Program::IpBatch | Program::Typha => None,
            Program::Bird => Some("/usr/sbin/bird"),
            Program::Frr => Some("/usr/lib/frr/bgpd"),
            Program::GoBgp => Some("/usr/bin/gobgpd"),
            Program::OpenBgpd => Some("/usr/sbin/bgpd"),
        }
    }

    /// Can it be run here?
    pub(crate) fn installed(self) -> bool {
        let built: &[&str] = match self {
            Program::Felix => &["bird-rs", "felix", "typha"],
            Program::BirdRs => &["bird-rs"],
            Program::Typha => &["typha"],
            _ => &[],
        };
        built.iter().all(|name| binary(name).is_ok()) && self.path().is_none_or(|path| Path::new(path).is_file())
    }

    /// Writes a configuration that BIRD and bird-rs both read, and gives the command that starts the one meant.
    ///
    /// # Errors
    /// When the file cannot be written, or it is neither.
    pub(crate) fn like_bird(self, dir: &Path, text: &str) -> Result<Vec<String>> {
        let file = |name: &str| dir.join(name).display().to_string();
        let conf = file("conf");
        fs::write(&conf, text)?;
        match self {
            Program::BirdRs => {
                let (program, grpc) = (
                    binary("bird-rs")?.display().to_string(),
                    format!("unix:{}", file("grpc")),
                );
                let args = [&program, "-c", &conf, "--grpc", &grpc, "--log-level", "warn"];
                Ok(args.map(str::to_owned).to_vec())
            }
            Program::Bird => {
                let args = ["/usr/sbin/bird", "-f", "-c", &conf, "-s", &file("ctl")];
                Ok(args.map(str::to_owned).to_vec())
            }
            _ => bail!("{} does not read BIRD's language", self.name()),
        }
    }

    /// Writes its configuration for this workload, so that starting it is no more than that.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub(crate) fn prepare(self, lab: &Lab, workload: &Workload) -> Result<Prepared> {
        let dir = lab.folder(&format!("{}-{}", self.name(), workload.name))?;
        let file = |name: &str| dir.join(name).display().to_string();
        let conf = file("conf");
        let command = match self {
            Program::BirdRs | Program::Bird => self.like_bird(&dir, &bird(workload))?,
            Program::Frr => frr_command(&dir, workload)?,
            Program::GoBgp => {
                fs::write(&conf, gobgp(workload))?;
                ["/usr/bin/gobgpd", "-f", &conf, "-t", "json", "--log-level=error"]
                    .map(str::to_owned)
                    .to_vec()
            }
            Program::OpenBgpd => {
                fs::create_dir_all("/run/openbgpd")?;
                fs::write(&conf, openbgpd(workload, &file("ctl")))?;
                tortie_tests::lab::run(&["chmod", "0600", &conf])?;
                ["/usr/sbin/bgpd", "-d", "-f", &conf].map(str::to_owned).to_vec()
            }
            Program::Felix | Program::Netlink | Program::IpBatch | Program::Typha => {
                bail!("{} has no peers", self.name())
            }
        };
        Ok(Prepared::new(self, command, dir.join("log")))
    }
}

/// A daemon whose configuration is written.
#[derive(Debug)]
pub(crate) struct Prepared {
    program: Program,
    command: Vec<String>,
    log: PathBuf,
}

impl Prepared {
    /// What is started by this command, and says what it has to say there.
    pub(crate) fn new(program: Program, command: Vec<String>, log: PathBuf) -> Self {
        Prepared { program, command, log }
    }

    /// Starts it. It has the tester's limit of open files.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(self, ns: &Netns) -> Result<Daemon> {
        Daemon::start(self.program.name(), ns, self.command, self.log)
    }
}

/// What BIRD and bird-rs both read.
fn bird(workload: &Workload) -> String {
    let family = if workload.v6 { "ipv6" } else { "ipv4" };
    let (policy, import) = match workload.import {
        Import::Plain | Import::Rich => (String::new(), "all".to_owned()),
        Import::Filtered => (policy::text(), format!("filter {}", policy::NAME)),
    };
    let mut text = format!(
        "router id {DAEMON};\nlog stderr {{ error, fatal }};\nprotocol device {{ }}\nprotocol direct {{ ipv4; ipv6; }}\n\
         {policy}\
         template bgp peer {{\n  local {DAEMON} as {DAEMON_AS};\n  passive on;\n  hold time 180;\n  {family} {{ import {import}; export all; }};\n}}\n"
    );
    for peer in 0..workload.peers() {
        let (address, asn) = (workload.address_of(peer), workload.asn_of(peer));
        let client = if workload.ebgp { "" } else { " rr client;" };
        let _ = writeln!(
            text,
            "protocol bgp p{peer} from peer {{ neighbor {address} as {asn};{client} }}"
        );
    }
    text
}

fn frr_command(dir: &Path, workload: &Workload) -> Result<Vec<String>> {
    let mut text = format!(
        "hostname bench\nrouter bgp {DAEMON_AS}\n bgp router-id {DAEMON}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         neighbor P peer-group\n neighbor P passive\n neighbor P advertisement-interval 0\n"
    );
    if !workload.ebgp {
        let _ = writeln!(text, " neighbor P remote-as {DAEMON_AS}");
    }
    for peer in 0..workload.peers() {
        let address = workload.address_of(peer);
        if workload.ebgp {
            let _ = writeln!(text, " neighbor {address} remote-as {}", workload.asn_of(peer));
        }
        let _ = writeln!(text, " neighbor {address} peer-group P");
    }
    let family = if workload.v6 { "ipv6" } else { "ipv4" };
    let client = if workload.ebgp {
        ""
    } else {
        "  neighbor P route-reflector-client\n"
    };
    let _ = write!(
        text,
        " address-family {family} unicast\n  neighbor P activate\n{client} exit-address-family\n"
    );
    let conf = dir.join("conf");
    fs::write(&conf, text)?;
    let text = dir.display().to_string();
    // bgpd drops to its own user before it reads the file and opens its sockets.
    tortie_tests::lab::run(&["chown", "-R", "frr:frr", &text])?;
    open_to_all(dir)?;
    let file = |name: &str| dir.join(name).display().to_string();
    let args = [
        "/usr/lib/frr/bgpd",
        "-f",
        &file("conf"),
        "-n",
        "-Z",
        "-l",
        &DAEMON.to_string(),
        "-i",
        &file("pid"),
        "--vty_socket",
        &text,
        "-z",
        &file("zserv"),
    ];
    Ok(args.map(str::to_owned).to_vec())
}

/// Lets other users pass through the lab's folders.
fn open_to_all(dir: &Path) -> Result<()> {
    for folder in dir.ancestors().take_while(|d| d.starts_with("/run/tortie-lab")) {
        tortie_tests::lab::run(&["chmod", "a+rx", &folder.display().to_string()])?;
    }
    Ok(())
}

fn gobgp(workload: &Workload) -> String {
    let family = if workload.v6 { "ipv6-unicast" } else { "ipv4-unicast" };
    let neighbor = |peer: u32| {
        let mut neighbor = json!({
            "config": {"neighbor-address": workload.address_of(peer).to_string(), "peer-as": workload.asn_of(peer)},
            "transport": {"config": {"passive-mode": true}},
            "afi-safis": [{"config": {"afi-safi-name": family}}],
        });
        if !workload.ebgp {
            neighbor["route-reflector"] = json!({
                "config": {"route-reflector-client": true, "route-reflector-cluster-id": DAEMON.to_string()}
            });
        }
        neighbor
    };
    let neighbors: Vec<_> = (0..workload.peers()).map(neighbor).collect();
    json!({"global": {"config": {"as": DAEMON_AS, "router-id": DAEMON.to_string()}}, "neighbors": neighbors})
        .to_string()
}

fn openbgpd(workload: &Workload, socket: &str) -> String {
    let family = if workload.v6 { "IPv6" } else { "IPv4" };
    let mut text = format!(
        "AS {DAEMON_AS}\nrouter-id {DAEMON}\nfib-update no\nsocket \"{socket}\"\nallow from any\nallow to any\n"
    );
    for peer in 0..workload.peers() {
        let (address, asn) = (workload.address_of(peer), workload.asn_of(peer));
        let client = if workload.ebgp { "" } else { "\troute-reflector\n" };
        let _ = write!(
            text,
            "neighbor {address} {{\n\tremote-as {asn}\n\tpassive\n\tannounce {family} unicast\n{client}}}\n"
        );
    }
    text
}

/// CPU time of a process so far.
///
/// # Errors
/// When it is gone.
fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let coarse = Duration::from_millis((ticks(11) + ticks(12)) * 10);
    Ok(coarse.max(of_threads(pid)))
}

/// The same to the nanosecond, without the threads that have ended.
fn of_threads(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let ran = |stat: String| stat.split_whitespace().next()?.parse::<u64>().ok();
    let each = threads.filter_map(|t| ran(fs::read_to_string(t.path().join("schedstat")).ok()?));
    Duration::from_nanos(each.sum())
}

/// What all processes of a daemon use together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time so far.
    pub(crate) cpu: Duration,
    /// Peak resident memory in kB.
    pub(crate) peak_kb: u64,
    /// Resident memory now in kB.
    pub(crate) resident_kb: u64,
}

/// What a daemon uses. One of several processes (OpenBGPD) counts with all that run in its namespace.
///
/// # Errors
/// When none runs.
pub(crate) fn usage(ns: &Netns) -> Result<Usage> {
    usage_of(pids(ns)?)
}

/// What these processes use together.
///
/// # Errors
/// When none runs.
pub(crate) fn usage_of(pids: impl IntoIterator<Item = u32>) -> Result<Usage> {
    let (mut sum, mut any) = (Usage::default(), false);
    for pid in pids {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        sum.peak_kb += kilobytes(&status, "VmHWM:");
        sum.resident_kb += kilobytes(&status, "VmRSS:");
        sum.cpu += cpu_of(pid)?;
        any = true;
    }
    if !any {
        bail!("the daemon does not run any more");
    }
    Ok(sum)
}

/// The processes in a namespace.
///
/// # Errors
/// When there is no such namespace.
pub(crate) fn pids(ns: &Netns) -> Result<Vec<u32>> {
    let pids = tortie_tests::lab::run(&["ip", "netns", "pids", ns.name()])?;
    Ok(pids.lines().filter_map(|l| l.trim().parse().ok()).collect())
}

/// The highest resident memory of a process so far, in KiB.
///
/// # Errors
/// When it is gone.
pub(crate) fn peak_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(kilobytes(&status, "VmHWM:"))
}

fn kilobytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}
