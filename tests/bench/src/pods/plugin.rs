//! CNI plugins, executed the way a container runtime does it: many at once.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use tortie_tests::lab::Netns;

/// An answer to the first packet comes within this. The kernel repeats the first packet of a connection after a second.
const FIRST: Duration = Duration::from_millis(900);
/// Nobody listens there: the answer is a refusal.
const PORT: u16 = 9;

/// A plugin and its configuration.
#[derive(Debug)]
pub(crate) struct Plugin<'a> {
    pub(crate) program: &'a Path,
    pub(crate) path: &'a str,
    pub(crate) conf: Value,
}

/// A pod to be: its namespace.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) ns: Netns,
}

/// What an ADD gave.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) took: Duration,
    pub(crate) ip: IpAddr,
    /// The first packet to it, sent when ADD returned: was it answered, and if not, why?
    pub(crate) answered: Result<(), String>,
}

/// ADD of every pod at the same moment.
///
/// # Errors
/// The first failure.
pub(crate) fn add_all(host: &Netns, plugin: &Plugin<'_>, pods: &[Pod]) -> Result<Vec<Added>> {
    at_once(host, pods, |pod| {
        let (output, took) = execute(plugin, "ADD", pod)?;
        let result: Value = serde_json::from_slice(&output).context("the result is not JSON")?;
        let address = result["ips"][0]["address"].as_str().unwrap_or_default();
        let ip: IpAddr = address
            .split('/')
            .next()
            .unwrap_or_default()
            .parse()
            .with_context(|| format!("no address in {result}"))?;
        let answered = match TcpStream::connect_timeout(&SocketAddr::new(ip, PORT), FIRST) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            Err(e) => Err(format!("{ip}: {e}")),
        };
        Ok(Added { took, ip, answered })
    })
}

/// DEL of every pod at the same moment; gives how long each took.
///
/// # Errors
/// The first failure.
pub(crate) fn del_all(host: &Netns, plugin: &Plugin<'_>, pods: &[Pod]) -> Result<Vec<Duration>> {
    at_once(host, pods, |pod| Ok(execute(plugin, "DEL", pod)?.1))
}

fn at_once<T: Send>(host: &Netns, pods: &[Pod], work: impl Fn(&Pod) -> Result<T> + Sync) -> Result<Vec<T>> {
    let barrier = Barrier::new(pods.len());
    let (barrier, work) = (&barrier, &work);
    host.within(|| {
        std::thread::scope(|scope| {
            let spawned = pods.iter().map(|pod| {
                scope.spawn(move || {
                    barrier.wait();
                    work(pod).with_context(|| pod.name.clone())
                })
            });
            let threads: Vec<_> = spawned.collect();
            let joined = threads.into_iter().map(|t| match t.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // All are waited for, also when one failed.
            let results: Vec<Result<T>> = joined.collect();
            results.into_iter().collect()
        })
    })
}

fn execute(plugin: &Plugin<'_>, command: &str, pod: &Pod) -> Result<(Vec<u8>, Duration)> {
    let started = Instant::now();
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", pod.name);
    let mut child = Command::new(plugin.program)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", format!("container-{}", pod.name))
        .env("CNI_NETNS", pod.ns.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", args)
        .env("CNI_PATH", plugin.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("execute {}", plugin.program.display()))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(plugin.conf.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let took = started.elapsed();
    if !output.status.success() {
        let (out, err) = (&output.stdout, &output.stderr);
        bail!(
            "{command}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(out).trim(),
            String::from_utf8_lossy(err).trim()
        );
    }
    Ok((output.stdout, took))
}

/// CPU time of the plugins so far, in seconds: of all programs that were executed and have ended.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn cpu() -> Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("usage of programs")?;
    let seconds = |t: TimeVal| t.num_milliseconds() as f64 / 1000.0;
    Ok(seconds(used.user_time()) + seconds(used.system_time()))
}

/// What became of the first packets that were not answered.
pub(crate) fn silent(added: &[Added]) -> Vec<String> {
    added.iter().filter_map(|a| a.answered.clone().err()).collect()
}

/// How many different addresses were given.
pub(crate) fn different(added: &[Added]) -> usize {
    added.iter().map(|a| a.ip).collect::<BTreeSet<_>>().len()
}

/// The `percent`th percentile, in milliseconds.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert!((percentile(&times, 50) - 50.0).abs() < 1e-9);
        assert!((percentile(&times, 99) - 99.0).abs() < 1e-9);
        assert!((percentile(&times[..1], 99) - 100.0).abs() < 1e-9);
        assert!(percentile(&[], 50).abs() < 1e-9);
    }
}
