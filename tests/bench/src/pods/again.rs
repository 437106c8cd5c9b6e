//! Pods deleted and created again and again: nothing is left, and memory does not grow.

use std::time::{Duration, Instant};

use anyhow::Result;
use tortie_tests::lab::check_interrupt;

use crate::Row;
use crate::plugin::{add_all, del_all, different, silent};
use crate::site::Site;

/// What a node runs at most, by Kubernetes's default.
const PODS: usize = 110;
/// typha's log of changes and the cache of its datastore, in MiB: what may grow is full after a few rounds, and whatever grows
/// then is a leak.
pub(crate) const TYPHA: &[&str] = &["--changes-memory", "4", "--cache-memory", "4"];
/// Rounds from which on memory is judged: a few more allocations than in another third are no growth.
const JUDGED: usize = 60;
/// How much more memory a daemon may have in the last third than in the second: allocators round.
const GROWTH: f64 = 1.10;

pub(crate) fn run(site: &Site, seconds: u64) -> Result<Row> {
    let mut row = Row::new(format!("again: {PODS} pods deleted and created again for {seconds} s"));
    let pods = site.pods("pod", PODS)?;
    let (plugin, host) = (site.plugin()?, site.host()?);
    let (started, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut memory: Vec<[u64; 2]> = Vec::new();
    let mut full = None;
    let before = site.transactions()?;
    while started.elapsed() < limit {
        check_interrupt()?;
        let added = add_all(host, &plugin, &pods)?;
        let (unique, round) = (different(&added), memory.len());
        row.must(unique == PODS, || {
            format!("round {round}: {unique} addresses for {PODS} pods")
        });
        let silent = silent(&added);
        row.must(silent.is_empty(), || {
            format!("round {round}: first packets not answered: {}", silent.join("; "))
        });
        del_all(host, &plugin, &pods)?;
        memory.push(site.memory()?);
        if full.is_none() && site.log_is_full()? {
            full = Some(memory.len());
        }
    }
    let rounds = memory.len();
    let (transactions, left) = (site.transactions()? - before, site.left()?);
    row.must(left.is_empty(), || {
        format!("left after {rounds} rounds: {}", left.join(", "))
    });
    row.figure("rounds", rounds.to_string());
    let per_pod = transactions as f64 / (rounds * PODS) as f64;
    row.figure("datastore transactions per pod and life", format!("{per_pod:.2}"));
    judge(&mut row, &memory, full);
    Ok(row)
}

/// `memory` of felix and typha in kB after each round; `full`: after which round typha's log of changes was.
fn judge(row: &mut Row, memory: &[[u64; 2]], full: Option<usize>) {
    let rounds = memory.len();
    let text = full.map_or("never".to_owned(), |round| format!("after {round} rounds"));
    row.figure("typha's log of changes is full", text);
    row.must(rounds < JUDGED || full.is_some_and(|n| n <= rounds / 3), || {
        "typha's log of changes was not full after a third of the rounds: its memory says nothing".to_owned()
    });
    for (which, name) in ["felix", "typha"].into_iter().enumerate() {
        let kb: Vec<u64> = memory.iter().map(|m| m[which]).collect();
        let third = |n: usize| median(&kb[rounds * n / 3..rounds * (n + 1) / 3]);
        let [first, second, last] = [third(0), third(1), third(2)];
        let value = format!("{first:.1}, {second:.1}, {last:.1} MB");
        row.figure(&format!("memory of {name}, median of each third"), value);
        row.must(rounds < JUDGED || last <= second * GROWTH, || {
            format!("{name}'s memory grows: {second:.1} MB, then {last:.1} MB")
        });
    }
}

/// In MB of 1,000,000 octets; 0 of nothing.
fn median(kb: &[u64]) -> f64 {
    let mut sorted = kb.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let octets = (middle * 1024) as f64;
    octets / 1e6
}
