//! The kernel of a node, looked into by netlink in its network namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tortie_netlink::lookup::Lookup as Found;
use tortie_netlink::netns::Netns;
use tortie_netlink::request::Connection;
use tortie_netlink::route::{IfIndex, Protocol, Route};

use crate::explain::facts::{KernelFacts, Lookup};

/// felix's metric of routes learned by BGP.
const METRIC: u32 = 1024;
/// How long kernels are watched for segments with wrong signatures: longer than a peer that is not answered waits before
/// it tries again (5 s, and the kernel's own repetitions of a SYN come sooner).
const WATCH: Duration = Duration::from_secs(7);
const LOOK: Duration = Duration::from_millis(200);

/// Does it in the namespace; none: in this program's own.
fn within<T: Send>(namespace: Option<&Path>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match namespace {
        None => work(),
        Some(path) => Netns::open(path)?.run(work)?,
    }
}

/// Asks it.
pub(super) fn ask(namespace: Option<&Path>, address: IpAddr) -> Result<KernelFacts> {
    within(namespace, || {
        let mut connection = Connection::open()?;
        let links = connection.links()?;
        let names: BTreeMap<u32, String> = links.iter().map(|l| (l.index, l.name.clone())).collect();
        let lookup = match connection.lookup(address)? {
            Found::Route(route) => taken(&route, &names),
            Found::NoRoute => Lookup::Dropped("the kernel has no route to it".to_owned()),
            Found::Dropped(kind) => Lookup::Dropped(format!("a route of kind {kind:?} drops it").to_lowercase()),
        };
        Ok(KernelFacts {
            lookup: Some(lookup),
            links: links.into_iter().map(|l| (l.name, l.up)).collect(),
            bad_signatures: false,
        })
    })
}

fn taken(route: &Route, names: &BTreeMap<u32, String>) -> Lookup {
    let name = |index: IfIndex| names.get(&index.0).cloned();
    let device = route.interfaces().next().and_then(name).unwrap_or_default();
    let felixs = device.starts_with("cali") || device.starts_with("vxlan");
    let ours = match route.protocol {
        Protocol::CALICO => true,
        Protocol::BIRD => route.metric == METRIC,
        Protocol::BOOT => felixs,
        _ => false,
    };
    Lookup::Route {
        prefix: route.prefix,
        ours,
        text: route.display(name).to_string(),
        device,
    }
}

/// The nodes in whose kernels segments with wrong, missing or unexpected TCP-MD5 or TCP-AO signatures come in now.
pub(super) async fn bad_signatures(nodes: &[(&String, Option<&Path>)]) -> Vec<String> {
    let count = |path: Option<&Path>| within(path, || counted(&netstat()?).context("no counters")).ok();
    let before: Vec<Option<u64>> = nodes.iter().map(|(_, path)| count(*path)).collect();
    let end = tokio::time::Instant::now() + WATCH;
    loop {
        let risen = nodes
            .iter()
            .zip(&before)
            .filter(|((_, path), before)| count(*path) > **before);
        let found: Vec<String> = risen.map(|((name, _), _)| (*name).clone()).collect();
        if !found.is_empty() || tokio::time::Instant::now() > end {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn netstat() -> Result<String> {
    std::fs::read_to_string("/proc/thread-self/net/netstat").context("read the kernel's counters")
}

/// The sum of the counters, from lines of names and lines of numbers.
fn counted(text: &str) -> Option<u64> {
    const NAMES: [&str; 6] = [
        "TCPMD5NotFound",
        "TCPMD5Unexpected",
        "TCPMD5Failure",
        "TCPAORequired",
        "TCPAOBad",
        "TCPAOKeyNotFound",
    ];
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let pairs = names.split_whitespace().zip(numbers.split_whitespace());
    let counters = pairs.filter(|(name, _)| NAMES.contains(name));
    Some(counters.filter_map(|(_, n)| n.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_counted_by_name() {
        let text = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPAckSkipped\n\
                    TcpExt: 9 1 2 4 9\nIpExt: InNoRoutes\nIpExt: 9\n";
        assert_eq!(counted(text), Some(7));
        assert_eq!(counted("IpExt: InNoRoutes\nIpExt: 9\n"), None);
    }
}
