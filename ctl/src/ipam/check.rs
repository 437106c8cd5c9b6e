//! ipam check: does what is stored of addresses agree with itself and with who uses them?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_ipam::is_enabled;
use tortie_model::Owner;

use super::view::{Allocation, Cluster};

/// Which addresses to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) all: bool,
    pub(super) problems: bool,
}

/// The lines of the report, the last of which says how many problems there are.
pub(super) fn check(cluster: &Cluster, listed: Listed) -> Vec<String> {
    let mut report = Report {
        listed,
        lines: Vec::new(),
        problems: 0,
    };
    report.say("Checking IPAM for inconsistencies...\n");
    inventory(cluster, &mut report);
    addresses(cluster, &mut report);
    handles(cluster, &mut report);
    let unreadable = cluster.unreadable.iter().map(|why| format!("  {why}"));
    report.found(unreadable.collect(), |n| {
        format!("Found {n} documents that cannot be read.")
    });
    let problems = report.problems;
    report.say(&format!("Check complete; found {problems} problems."));
    report.lines
}

struct Report {
    listed: Listed,
    lines: Vec<String>,
    problems: usize,
}

impl Report {
    fn say(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    /// Problems of one sort: their number, and each when that was asked for.
    fn found(&mut self, details: Vec<String>, sentence: impl Fn(usize) -> String) {
        self.problems += details.len();
        let sentence = sentence(details.len());
        if self.listed.problems || self.listed.all {
            self.lines.extend(details);
        }
        self.lines.push(sentence);
    }
}

fn inventory(cluster: &Cluster, report: &mut Report) {
    report.say("Loading all IPAM blocks...");
    report.say(&format!("Found {} IPAM blocks.", cluster.blocks.len()));
    for block in &cluster.blocks {
        let affinity = block
            .affinity
            .as_ref()
            .map_or_else(|| "<none>".to_owned(), Owner::to_string);
        report.say(&format!(" IPAM block {} affinity={affinity}", block.cidr));
    }
    report.say(&format!(
        "IPAM blocks record {} allocations.\n",
        cluster.allocated().count()
    ));
    report.say("Loading all IPAM pools...");
    let active: Vec<String> = cluster
        .pools
        .iter()
        .filter(|p| is_enabled(p))
        .map(|p| format!("  {}", p.spec.cidr))
        .collect();
    let count = active.len();
    report.lines.extend(active);
    report.say(&format!("Found {count} active IP pools.\n"));
    report.say("Loading all nodes.");
    report.say(&format!("Found {} node tunnel IPs.\n", cluster.tunnel_ips));
    report.say("Loading all workload endpoints.");
    report.say(&format!("Found {} workload IPs.", cluster.workload_ips));
    report.say(&format!("Workloads and nodes are using {} IPs.\n", cluster.users.len()));
}

fn addresses(cluster: &Cluster, report: &mut Report) {
    report.say("Scanning for IPs that are allocated but not actually in use...");
    if report.listed.all {
        let all: Vec<String> = cluster
            .allocated()
            .map(|a| format!("  {}", described(cluster, &a)))
            .collect();
        report.lines.extend(all);
    }
    let unused = cluster
        .allocated()
        .filter(|a| !a.is_cooling() && !cluster.users.contains_key(&a.ip));
    let unused = unused.map(|a| format!("  {} leaked; {}", a.ip, owner(&a))).collect();
    report.found(unused, |n| {
        format!("Found {n} IPs that are allocated in IPAM but not actually in use.")
    });
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    cluster.allocated().for_each(|a| *seen.entry(a.ip).or_default() += 1);
    report.say("Scanning for IPs that are in use by a workload or node but not allocated in IPAM...");
    let given: BTreeSet<IpAddr> = cluster.allocated().filter(|a| !a.is_cooling()).map(|a| a.ip).collect();
    let missing = cluster.users.iter().filter(|(ip, _)| !given.contains(ip));
    let (pooled, outside): (Vec<_>, Vec<_>) = missing.partition(|(ip, _)| cluster.is_pooled(**ip));
    let line = |(ip, who): (&IpAddr, &BTreeSet<String>)| format!("  {ip} used by {}", names(who));
    report.found(outside.into_iter().map(line).collect(), |n| {
        format!("Found {n} in-use IPs that are not in active IP pools.")
    });
    report.found(pooled.into_iter().map(line).collect(), |n| {
        format!("Found {n} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.")
    });
    let shared = cluster.users.iter().filter(|(_, who)| who.len() > 1);
    report.found(shared.map(line).collect(), |n| {
        format!("Found {n} IPs that several use.")
    });
    let twice = seen
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(ip, n)| format!("  {ip} in {n} blocks"));
    report.found(twice.collect(), |n| {
        format!("Found {n} IPs that several blocks give.\n")
    });
}

fn handles(cluster: &Cluster, report: &mut Report) {
    let mut named: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for allocation in cluster.allocated() {
        if let Some(id) = &allocation.attribute.handle_id {
            named.entry(id).or_default().push(allocation.ip);
        }
    }
    report.say("Scanning for IPAM handles with no matching IPs...");
    let (matched, empty): (Vec<&String>, Vec<&String>) =
        cluster.handles.keys().partition(|id| named.contains_key(id.as_str()));
    let matches = matched.len();
    report.found(empty.iter().map(|id| format!("  {id} has no IPs")).collect(), |n| {
        format!("Found {n} handles with no matching IPs (and {matches} handles with matches).")
    });
    report.say("Scanning for IPs with missing handle...");
    let missing = named.iter().filter(|(id, _)| !cluster.handles.contains_key(**id));
    let missing = missing.map(|(id, ips)| format!("  {id} of {ips:?} does not exist"));
    report.found(missing.collect(), |n| {
        format!("Found {n} handles mentioned in blocks with no matching handle resource.")
    });
}

fn described(cluster: &Cluster, allocation: &Allocation<'_>) -> String {
    let used = match cluster.users.get(&allocation.ip) {
        Some(who) => format!("used by {}", names(who)),
        None if allocation.is_cooling() => "cooling down".to_owned(),
        None => "not in use".to_owned(),
    };
    format!("{} allocated; {}; {used}", allocation.ip, owner(allocation))
}

fn owner(allocation: &Allocation<'_>) -> String {
    let handle = allocation.attribute.handle_id.as_deref().unwrap_or("<none>");
    let node = allocation.said("node").unwrap_or("<unknown>");
    format!("handle={handle} node={node} {}", allocation.whose())
}

fn names(who: &BTreeSet<String>) -> String {
    who.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
