//! Namespaces, segments, processes, nodes, pods and probes.

mod bird;
mod capture;
mod certs;
mod cluster;
mod frr;
mod interrupt;
mod netns;
mod node;
mod pod;
mod probe;
mod process;
mod rack;
mod registry;
mod tor;

pub use bird::StockBird;
pub use capture::{Capture, Header, Packet};
pub use cluster::{Cluster, NodeSpec, Spec};
pub use frr::Frr;
pub use interrupt::{check_interrupt, watch_signals};
pub use netns::{Netns, Segment, without_object};
pub use node::Node;
pub use pod::{Add, Pod, plugin};
pub use probe::{Ping, PingRun, Summary, first_reply, ping, seen_source, stream};
pub use process::{Daemon, Usage, run};
pub use rack::Rack;
pub use registry::{Lab, missing_requirements, stop_left_over};
pub use tor::Tor;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a cluster may take to come up or to settle after a change, before a test calls it broken.
const SETTLE: Duration = Duration::from_secs(60);

/// Where the programs under test are: `TORTIE_BIN_DIR`, or the `release` folder beside the one this program is in.
///
/// # Errors
/// When a program is not there, naming it and how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("TORTIE_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let me = std::env::current_exe().context("find this program's own path")?;
            let profile = me.ancestors().find(|p| p.ends_with("release") || p.ends_with("debug"));
            let target = profile
                .and_then(|p| p.parent())
                .context("not run from a cargo target folder")?;
            target.join("release")
        }
    };
    let path = dir.join(name);
    if !path.is_file() {
        bail!("{} is not built: run `make build`", path.display());
    }
    Ok(path)
}

/// How much slower than usual this machine is, from `TORTIE_LAB_SLOW`: every wait of the laboratory is as much longer.
fn slowness() -> u32 {
    let told = std::env::var("TORTIE_LAB_SLOW").ok().and_then(|s| s.parse().ok());
    told.unwrap_or(1)
}

/// Waits until `condition` gives a value, looking every 20 ms; a machine that says it is slow has more time.
///
/// # Errors
/// When `deadline` passes first: says what was waited for and what the last look found.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let deadline = deadline * slowness();
    loop {
        check_interrupt()?;
        match condition() {
            Ok(value) => return Ok(value),
            Err(e) if start.elapsed() > deadline => {
                return Err(e.context(format!("waited {} s for {what}", deadline.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
