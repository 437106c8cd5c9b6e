//! Pods in a burst on one node, and the same burst with stock plugins as the floor.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::Row;
use crate::plugin::{Plugin, add_all, cpu, del_all, different, percentile, silent};
use crate::site::Site;

/// Where Debian puts the stock plugins.
const STOCK: &str = "/usr/lib/cni";
/// Transactions for each pod, at most.
const WRITES: f64 = 0.2;
/// What the 99th of 100 ADDs may take on two idle cores, in ms.
const P99: f64 = 300.0;

#[derive(Debug)]
struct Burst {
    all: Duration,
    /// CPU time of felix, typha and the plugins for all ADDs, in seconds.
    cpu: [f64; 3],
    times: Vec<Duration>,
    different: usize,
    silent: Vec<String>,
}

fn burst(
    site: &Site,
    plugin: &Plugin<'_>,
    prefix: &str,
    n: usize,
    after: impl FnOnce() -> Result<()>,
) -> Result<Burst> {
    let pods = site.pods(prefix, n)?;
    let host = site.host()?;
    let (daemons, plugins) = (site.cpu()?, cpu()?);
    let started = Instant::now();
    let added = add_all(host, plugin, &pods)?;
    let all = started.elapsed();
    let [felix, typha] = site.cpu()?;
    let cpu = [felix - daemons[0], typha - daemons[1], cpu()? - plugins];
    after()?;
    del_all(host, plugin, &pods)?;
    for pod in pods {
        site.cluster.lab.remove_namespace(&pod.ns)?;
    }
    Ok(Burst {
        all,
        cpu,
        times: added.iter().map(|a| a.took).collect(),
        different: different(&added),
        silent: silent(&added),
    })
}

fn ms(ms: f64) -> String {
    format!("{ms:.0} ms")
}

pub(crate) fn run(site: &Site, n: usize) -> Result<Row> {
    let mut row = Row::new(format!("burst: {n} pods at once on one node"));
    let before = site.transactions()?;
    let mut writes = 0;
    let ours = burst(site, &site.plugin()?, "pod", n, || {
        writes = site.transactions()? - before;
        Ok(())
    })?;
    let both = site.transactions()? - before;
    let left = site.left()?;
    let floor = stock(site, n)?;

    let ratio = |ours: f64, floor: f64| format!("x {:.2} of the floor", ours / floor);
    let p = |b: &Burst, percent| percentile(&b.times, percent);
    for percent in [50, 99] {
        let (o, f) = (p(&ours, percent), p(&floor, percent));
        let what = format!("ADD, p{percent}");
        row.figure(&what, format!("{}, {} ({})", ms(o), ratio(o, f), ms(f)));
    }
    let (o, f) = (ours.all.as_secs_f64(), floor.all.as_secs_f64());
    row.figure(
        "all, with the first packet answered",
        format!("{o:.2} s, {}", ratio(o, f)),
    );
    let reached = if p(&ours, 99) < P99 { "met" } else { "missed" };
    row.figure("to reach: p99 on 2 idle cores", format!("{} ({reached})", ms(P99)));
    let each = |seconds: f64| seconds * 1000.0 / n as f64;
    let [felix, typha, plugins] = ours.cpu.map(each);
    let value = format!(
        "felix {felix:.1}, typha {typha:.1}, the plugin {plugins:.1} ms (the floor's plugins: {:.1} ms)",
        each(floor.cpu[2])
    );
    row.figure("CPU time per ADD", value);
    let per_pod = |writes: u64| writes as f64 / n as f64;
    let (add, del) = (per_pod(writes), per_pod(both - writes));
    row.figure("datastore transactions per ADD", format!("{add:.2}, to reach {WRITES}"));
    row.figure("datastore transactions per DEL", format!("{del:.2}"));
    let answered = |b: &Burst| n - b.silent.len();
    let value = format!("{} of {n} (the floor's: {})", answered(&ours), answered(&floor));
    row.figure("first packet answered when ADD returned", value);
    row.must(add <= WRITES, || {
        format!("{add:.2} transactions per ADD, at most {WRITES}")
    });
    row.must(ours.different == n, || {
        format!("{} addresses for {n} pods", ours.different)
    });
    row.must(ours.silent.is_empty(), || {
        format!(
            "{} of {n} first packets were not answered: {}",
            ours.silent.len(),
            ours.silent.join("; ")
        )
    });
    row.must(left.is_empty(), || format!("left after DEL: {}", left.join(", ")));
    Ok(row)
}

/// The stock plugins `ptp` and `host-local`: no datastore, no daemon.
fn stock(site: &Site, n: usize) -> Result<Burst> {
    let program = Path::new(STOCK).join("ptp");
    ensure!(program.is_file(), "{} is missing: run make deps", program.display());
    let data = site.cluster.lab.folder("host-local")?;
    let plugin = Plugin {
        program: &program,
        path: STOCK,
        conf: json!({
            "cniVersion": "1.0.0",
            "name": "floor",
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": data,
                "ranges": [[{"subnet": "10.99.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }),
    };
    burst(site, &plugin, "stock", n, || Ok(())).context("the floor")
}
