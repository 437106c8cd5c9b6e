//! Routes into the kernel without a daemon: by lib/netlink's reconciler, and by `ip -batch`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tortie_net::Prefix;
use tortie_netlink::reconcile::{Reconciler, Rules};
use tortie_netlink::route::{IfIndex, Kernel, Kind, Netlink, NextHop, Protocol, Route, RouteKey};
use tortie_tests::lab::{Lab, Netns};

use crate::daemon::peak_kb;
use crate::goal::own_cpu;
use crate::kernel::{Watch, steps};
use crate::record::Measured;
use crate::scenario::Run;
use crate::workload::Workload;

/// The metric of every route, whoever writes it.
pub(crate) const METRIC: u32 = 1024;

/// Everything may be written and removed at once.
struct Anything;

impl Rules for Anything {
    const RANKS: usize = 1;

    fn rank(&self, _route: &Route) -> Option<usize> {
        Some(0)
    }

    fn is_taken(&self, _key: &RouteKey) -> bool {
        false
    }

    fn may_remove(&self, _route: &Route) -> bool {
        true
    }
}

fn measured(wall: Duration, cpu: Duration, peak_kb: u64) -> Measured {
    Measured {
        wall,
        cpu,
        peak_kb,
        resident_kb: 0,
        updates: 0,
        tester_share: 0.0,
        again: None,
        note: String::new(),
    }
}

/// The reconciler of lib/netlink, on a thread of its own in the namespace.
///
/// # Errors
/// When there is no socket or no interface.
pub(crate) fn reconcile(run: &mut Run<'_>, watch: &Watch<'_>) -> Result<()> {
    let (ns, workload) = (run.ns, run.workload);
    ns.within(|| {
        let mut netlink = Netlink::open()?;
        let interfaces = netlink.interfaces()?;
        let wire = interfaces.iter().find(|i| i.name == "eth0").context("no eth0")?.index;
        let mut reconciler = Reconciler::default();
        for (phase, version) in steps(workload) {
            let wanted = (0..workload.prefixes.count)
                .map(|index| route(workload, index, version, wire))
                .collect::<Result<Vec<_>>>()?;
            let (start, cpu) = (Instant::now(), own_cpu());
            for route in wanted {
                if version == 0 {
                    reconciler.unwant(&route.key());
                } else {
                    reconciler.want(&route);
                }
            }
            let settled = settle(&mut reconciler, &mut netlink, start);
            let took = measured(start.elapsed(), own_cpu().saturating_sub(cpu), 0);
            let result = settled.and_then(|()| watch.check(version)).map(|()| took);
            if run.row(phase, result).is_none() {
                break;
            }
        }
        Ok(())
    })
}

fn route(workload: &Workload, index: u32, version: u8, wire: IfIndex) -> Result<Arc<Route>> {
    let prefix = Prefix::new(IpAddr::V4(workload.prefixes.address(index)), workload.prefixes.len)?;
    let gateway = IpAddr::V4(workload.next_hop_of(0, index, version));
    let mut route = Route::new(prefix, Kind::Unicast, Protocol::BIRD);
    route.metric = METRIC;
    route.next_hops = Arc::new([NextHop::via(gateway, wire)]);
    Ok(Arc::new(route.canonical()))
}

/// Batches until the kernel has what is wanted.
fn settle(reconciler: &mut Reconciler, netlink: &mut Netlink, start: Instant) -> Result<()> {
    while !reconciler.is_settled() {
        let changes = reconciler.plan(start.elapsed(), &Anything);
        ensure!(!changes.is_empty(), "the kernel refuses a route");
        let result = netlink.apply(&changes);
        let written = reconciler.applied(&changes, result, start.elapsed());
        ensure!(
            !written.look_again,
            "the kernel had other routes, or its answers were lost"
        );
    }
    Ok(())
}

/// `ip -batch` with a file that is written before.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn batch(lab: &Lab, run: &mut Run<'_>, watch: &Watch<'_>) -> Result<()> {
    let dir = lab.folder("ip-batch")?;
    for (phase, version) in steps(run.workload) {
        let file = dir.join(phase);
        fs::write(&file, commands(run.workload, version))?;
        let result = ip(run.ns, &file).and_then(|took| watch.check(version).map(|()| took));
        if run.row(phase, result).is_none() {
            break;
        }
    }
    Ok(())
}

fn commands(workload: &Workload, version: u8) -> String {
    let act = match version {
        0 => "del",
        1 => "add",
        _ => "replace",
    };
    let line = |index| {
        let (address, len) = (workload.prefixes.address(index), workload.prefixes.len);
        let via = match version {
            0 => String::new(),
            _ => format!(" via {} dev eth0", workload.next_hop_of(0, index, version)),
        };
        format!("route {act} {address}/{len}{via} proto bird metric {METRIC}\n")
    };
    (0..workload.prefixes.count).map(line).collect()
}

fn ip(ns: &Netns, file: &Path) -> Result<Measured> {
    let (start, before) = (Instant::now(), children_cpu()?);
    let mut child = Command::new("ip")
        .args(["-n", ns.name(), "-batch"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("start ip")?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // One that has just ended has none.
        peak = peak.max(peak_kb(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    };
    let wall = start.elapsed();
    ensure!(status.success(), "ip -batch ended with {status}");
    Ok(measured(wall, children_cpu()?.saturating_sub(before), peak))
}

/// CPU time of all children that have ended.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("CPU time of children")?;
    let each = [usage.user_time(), usage.system_time()];
    let duration = |t: TimeVal| Duration::new(t.tv_sec() as u64, 1000 * t.tv_usec() as u32);
    Ok(each.into_iter().map(duration).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_say_what_is_to_be_done() {
        let workload = Workload::kernel("k", 3);
        assert_eq!(
            commands(&workload, 1).lines().next(),
            Some("route add 16.0.0.0/24 via 10.99.0.1 dev eth0 proto bird metric 1024")
        );
        assert!(commands(&workload, 3).starts_with("route replace 16.0.0.0/24 via 10.99.0."));
        assert_eq!(
            commands(&workload, 0).lines().nth(2),
            Some("route del 16.0.2.0/24 proto bird metric 1024")
        );
    }
}
