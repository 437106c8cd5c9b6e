//! A node with many workloads and many routes: one workload more, and what it costs when nothing happens.
//!
//! A workload's record is written through typha, and the kernel is asked for its address until it knows the way: so much
//! takes typha's write (to its file), the sync stream, felix, and the kernel together.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::runtime::Runtime;
use tortie_kit::address::ServiceAddr;
use tortie_netlink::lookup::Lookup;
use tortie_netlink::request::Connection;
use tortie_proto::common::Hello;
use tortie_tests::lab::{Daemon, Lab, Netns, check_interrupt};
use tortie_typha_client::Store;

use crate::daemon::usage_of;
use crate::figures::percentile;
use crate::goal::{Goal, Timing};
use crate::kernel::{self, SESSION, Watch};
use crate::record::{Measured, Row};
use crate::scenario::{Run, listening, measured};
use crate::tester::Tester;
use crate::wire;

/// Workloads that are added one by one.
const ADDED: u32 = 50;
/// A workload that has no route after so long has failed.
const STALL: Duration = Duration::from_secs(10);
/// After the last change felix says how it is once more, and is then at rest.
const SETTLE: Duration = Duration::from_secs(8);
const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";

/// Phases of the row.
pub(crate) const ONE_MORE: &str = "one endpoint more, p50";
/// What felix alone uses while nothing happens.
pub(crate) const REST: &str = "felix at rest";

/// Runs bird-rs and felix with as many routes as the workload has, and as many workloads as are said.
///
/// # Errors
/// When there is nothing to measure: something cannot be started.
pub(crate) fn measure(
    lab: &Lab,
    mut run: Run<'_>,
    ours: &Netns,
    (endpoints, seconds): (u32, u32),
    until: Instant,
) -> Result<Vec<Row>> {
    run.ns.ip(&["route", "del", "10.99.0.0/18"])?;
    let watch = Watch::new(lab, run.ns, run.workload, until)?;
    interfaces(lab, run.ns, endpoints + ADDED)?;
    let daemons = kernel::start(lab, &run)?;
    let felix = daemons.iter().find(|d| d.name() == "felix").context("no felix")?;
    let workloads = Workloads::new(&lab.folder(run.program.name())?.join("typha"))?;
    ours.within(|| phases(&mut run, &watch, (felix, &workloads), (endpoints, seconds)))?;
    Ok(run.rows)
}

fn phases(
    run: &mut Run<'_>,
    watch: &Watch<'_>,
    (felix, workloads): (&Daemon, &Workloads),
    (endpoints, seconds): (u32, u32),
) -> Result<()> {
    listening()?;
    let mut tester = Tester::new(run.workload, watch.until)?;
    tester.establish(tester.clock(), SESSION)?;
    tester.phase(Goal::all(run.workload, 1), vec![wire::announce(run.workload, 0, 1)])?;
    watch.wait(1, |until| tester.idle(until))?;
    workloads.add(run.ns, 0..endpoints)?;
    tester.idle(Instant::now() + Duration::from_secs(1))?;

    let result = run.spent(|| {
        let mut samples = Vec::new();
        for n in endpoints..endpoints + ADDED {
            samples.push(workloads.add_one(run.ns, n)?);
            tester.idle(Instant::now() + Duration::from_millis(20))?;
        }
        let worst = samples.iter().max().copied().unwrap_or_default();
        let wall = percentile(&mut samples, 0.5);
        let timing = Timing {
            wall,
            ..Timing::default()
        };
        Ok((timing, worst))
    });
    let result = result.map(|(mut found, worst)| {
        found.note = format!("the slowest of {ADDED}: {:.1} ms", worst.as_secs_f64() * 1e3);
        found
    });
    if run.row(ONE_MORE, result).is_none() {
        return Ok(());
    }
    tester.idle(Instant::now() + SETTLE)?;
    let result = rest(&mut tester, felix, Duration::from_secs(seconds.into()));
    run.row(REST, result);
    Ok(())
}

fn rest(tester: &mut Tester<'_>, felix: &Daemon, time: Duration) -> Result<Measured> {
    let pid = felix.pid().context("felix does not run")?;
    let (before, begin) = (usage_of([pid])?.cpu, Instant::now());
    tester.idle(begin + time)?;
    let timing = Timing {
        wall: begin.elapsed(),
        ..Timing::default()
    };
    let mut found = measured(usage_of([pid])?, before, timing);
    let share = 100.0 * found.cpu.as_secs_f64() / found.wall.as_secs_f64();
    let resident = found.resident_kb as f64 * 1024.0 / 1e6;
    found.note = format!("{share:.2} % of a core, {resident:.0} MB resident");
    Ok(found)
}

fn interface(n: u32) -> String {
    format!("cali{n:08x}")
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + n)
}

/// The workloads' interfaces: pairs whose other ends stay in the same namespace.
fn interfaces(lab: &Lab, ns: &Netns, count: u32) -> Result<()> {
    let pair = |n| {
        let (name, other) = (interface(n), format!("peer{n}"));
        // Without an address the other end asks for no router, as it would in the same namespace again and again.
        let quiet = format!("link set {other} addrgenmode none up");
        format!("link add {name} type veth peer name {other}\n{quiet}\nlink set {name} up\n")
    };
    let file = lab.folder("kernel")?.join("interfaces");
    fs::write(&file, (0..count).map(pair).collect::<String>())?;
    ns.ip(&["-batch", &file.display().to_string()]).map(drop)
}

/// Writes their records.
struct Workloads {
    runtime: Runtime,
    store: Store,
}

impl Workloads {
    fn new(socket: &Path) -> Result<Self> {
        let runtime = Runtime::new()?;
        let store = runtime.block_on(async {
            let addr = ServiceAddr::Unix(socket.to_owned());
            Store::new(addr, Hello::new("bench", "", "1"))
        });
        Ok(Workloads { runtime, store })
    }

    async fn put(store: Store, n: u32) -> Result<()> {
        let name = format!("bench-k8s-pod--{n}-eth0");
        let document = json!({
            "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": { "name": name, "namespace": "bench" },
            "spec": { "orchestrator": "k8s", "node": "bench", "pod": format!("pod-{n}"), "endpoint": "eth0",
                "interfaceName": interface(n), "ipNetworks": [format!("{}/32", address(n))] },
        });
        let key = format!("{RESOURCES}workloadendpoints/bench/{name}");
        store.put(&key, document.to_string()).await?;
        Ok(())
    }

    /// Adds these, and waits until the kernel has them all.
    fn add(&self, ns: &Netns, which: std::ops::Range<u32>) -> Result<()> {
        for n in which.clone() {
            check_interrupt()?;
            self.runtime.block_on(Self::put(self.store.clone(), n))?;
        }
        ns.within(|| which.into_iter().try_for_each(|n| known(n).map(drop)))
    }

    /// Adds one: from the request until the kernel has its route.
    fn add_one(&self, ns: &Netns, n: u32) -> Result<Duration> {
        let asked = Instant::now();
        let written = self.runtime.spawn(Self::put(self.store.clone(), n));
        let took = ns.within(|| Ok(known(n)?.duration_since(asked)))?;
        self.runtime.block_on(written).context("write")??;
        Ok(took)
    }
}

/// When the kernel of this thread's namespace knew the way to the workload's address.
fn known(n: u32) -> Result<Instant> {
    let (mut kernel, begin) = (Connection::open()?, Instant::now());
    let prefix = tortie_net::Prefix::host(address(n).into());
    loop {
        let found = kernel.lookup(address(n).into());
        if matches!(&found, Ok(Lookup::Route(route)) if route.prefix == prefix) {
            return Ok(Instant::now());
        }
        if begin.elapsed() > STALL {
            bail!("no route to {} after {} s: {found:?}", address(n), STALL.as_secs());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_has_an_interface_and_an_address_of_its_own() {
        assert_eq!(interface(500), "cali000001f4");
        assert_eq!(address(256).to_string(), "100.64.1.0");
        assert!(interface(u32::MAX).len() <= 15, "the kernel's names are no longer");
    }
}
