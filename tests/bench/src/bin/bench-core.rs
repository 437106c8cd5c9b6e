//! The core of bird-rs alone, with scripted peers, for counting its instructions: `bench-core WORKLOAD`.
//!
//! No sockets, no clock and no threads: the same work each time, so a count means something on any machine. What it counts
//! is compared by `tests/bench/smoke.sh`.

use anyhow::{Context, Result, bail, ensure};
use tortie_bench::{DAEMON_AS, Router, Setup, announcement, message};

/// The policy of the workload `filter`: what an operator writes at an exchange, about.
const POLICY: &str = "
define OURS = [ 10.0.0.0/8+, 172.16.0.0/12+, 192.168.0.0/16+ ];
function too_long() { return net.len > 24 || net.len < 8; }
filter mine {
  if net ~ OURS then reject;
  if too_long() then reject;
  if bgp_path ~ [= * 64496 * =] then reject;
  if (65000, 666) ~ bgp_community then bgp_local_pref = 10;
  case bgp_path.len { 0..2: bgp_local_pref = 200; 3..5: bgp_local_pref = 150; else: bgp_local_pref = 100; }
  bgp_community.add((65000, 1));
  bgp_large_community.add((65000, 1, bgp_path.len));
  accept;
}
";

fn setup(import: &str, clients: bool) -> Setup<'_> {
    Setup {
        top: POLICY,
        import,
        clients,
    }
}

fn main() -> Result<()> {
    let workload = std::env::args().nth(1).context("which workload?")?;
    let routes = match &*workload {
        "full" => full("all", 1),
        "change" => full("all", 3),
        "filter" => full("filter mine", 1),
        "reflector" => everyone(200, 20, true),
        "exchange" => everyone(10, 2_000, false),
        other => bail!("no workload {other}: full, change, filter, reflector, exchange"),
    }?;
    println!("{workload}: {routes} routes told");
    Ok(())
}

/// One peer tells another 40,000 routes, so many times with other attributes, and takes them back.
fn full(policy: &str, times: u32) -> Result<u64> {
    const ROUTES: u32 = 40_000;
    let mut router = Router::new(2, &|peer| 4_200_000_000 + peer, &setup(policy, false))?;
    for time in 0..times {
        for number in 0..ROUTES / 4 {
            router.receive(0, &announcement(4_200_000_000, 0, time, number * 4..number * 4 + 4)?);
            if number % 250 == 0 {
                router.flush();
            }
        }
        router.flush();
    }
    let status = router.speaker.status();
    ensure!(
        status.prefixes == ROUTES as usize,
        "{} prefixes arrived",
        status.prefixes
    );
    router.receive(0, &message(3, &[6, 2])?);
    router.flush();
    let left = router.speaker.status().prefixes;
    ensure!(left == 0, "{left} prefixes are left when the session is");
    Ok(u64::from(ROUTES * times))
}

/// Everyone tells everyone so many routes, ten in a message, and then changes them all.
fn everyone(peers: u32, routes: u32, internal: bool) -> Result<u64> {
    let asn = move |peer: u32| if internal { DAEMON_AS } else { 4_200_000_000 + peer };
    let mut router = Router::new(peers, &asn, &setup("all", internal))?;
    for time in 0..2 {
        for batch in 0..routes / 10 {
            for peer in 0..peers {
                let first = peer * routes + batch * 10;
                router.receive(peer, &announcement(asn(peer), peer, time, first..first + 10)?);
            }
            router.flush();
        }
    }
    let all = (peers * routes) as usize;
    let status = router.speaker.status();
    ensure!(status.prefixes == all, "{} of {all} prefixes arrived", status.prefixes);
    let told = u64::from(peers * routes) * u64::from(peers - 1);
    ensure!(
        router.sent as u64 > 2 * told * 4,
        "{} octets for {told} routes",
        router.sent
    );
    Ok(2 * told)
}
