//! How the demo looks.

use std::time::Instant;

use anyhow::Result;

use super::{Matrix, Timed};
use crate::lab::{Cluster, Daemon, Spec, StockBird};

/// The drawing at the beginning.
pub(super) fn topology(spec: &Spec) {
    let tor = if StockBird::installed() {
        "stock BIRD 2"
    } else {
        "bird-rs, standalone"
    };
    println!("A routed cluster on this machine, each box a network namespace:\n");
    println!("                       AS 65001");
    println!("            +---------------------------+");
    println!("            | tor         172.30.0.1    |     announces 198.51.100.0/24");
    println!("            | {tor:<26}|");
    println!("            +-------------+-------------+");
    println!("                          | eBGP with each node");
    println!("  ------------------------+-------------- one L2 segment, 172.30.0.0/24 -----------");
    print_columns(spec, |n| {
        format!("| {:<17}|", format!("{} {}", n.name, address(&n.address)))
    });
    print_columns(spec, |_| "| felix    (kernel)|".to_owned());
    print_columns(spec, |_| "| bird-rs  (BGP)   |".to_owned());
    print_columns(spec, |_| "| confd    (config)|".to_owned());
    print_columns(spec, |n| format!("| pods {:<12}|", pods_of(&n.name)));
    println!("         AS 64512, full mesh of iBGP; each pod a routed IP of 10.244.0.0/16, a /26 block per node");
    println!("\n  ctl 172.30.0.10, on the same segment: typha with its embedded datastore\n");
}

fn address(with_length: &str) -> &str {
    with_length.split('/').next().unwrap_or(with_length)
}

fn pods_of(node: &str) -> String {
    let i = node.trim_start_matches('n');
    format!("web-{i} db-{i}")
}

fn print_columns(spec: &Spec, cell: impl Fn(&crate::lab::NodeSpec) -> String) {
    let cells: Vec<String> = spec.nodes.iter().map(cell).collect();
    println!("      {}", cells.join("   "));
}

/// A section's title.
pub(super) fn heading(text: &str) {
    println!("\n== {text}");
}

/// A step that is done, and when.
pub(super) fn step(begin: Instant, text: &str) {
    println!("  {:5.1} s  {text}", begin.elapsed().as_secs_f64());
}

/// The ping matrix: rows are senders.
pub(super) fn matrix(matrix: &Matrix) {
    let width = matrix.names.iter().map(String::len).max().unwrap_or(0).max(10);
    print!("{:>width$}", "from \\ to");
    for name in &matrix.names {
        print!("  {name:>width$}");
    }
    println!();
    for (name, row) in matrix.names.iter().zip(&matrix.cells) {
        print!("{name:>width$}");
        for cell in row {
            let text = cell.map_or_else(|| "-".to_owned(), |p| format!("{} {:.2}ms", p.ttl, p.ms));
            print!("  {text:>width$}");
        }
        println!();
    }
}

/// How fast pods were reachable.
pub(super) fn timings(pods: &[Timed]) {
    println!(
        "{:<16} {:<5} {:<16} {:>10} {:>16}  ",
        "pod", "node", "address", "ADD took", "first answer"
    );
    for timed in pods {
        let ip = timed.pod.ipv4().map(|ip| ip.to_string()).unwrap_or_default();
        println!(
            "{:<16} {:<5} {:<16} {:>7} ms {:>13} ms  to {}",
            timed.pod.name,
            timed.pod.node,
            ip,
            timed.add.as_millis(),
            timed.reachable.as_millis(),
            timed.asked_from
        );
    }
}

/// Memory and CPU of every daemon.
pub(super) fn usage(cluster: &Cluster) -> Result<()> {
    println!(
        "{:<5} {:<10} {:>16} {:>12}",
        "where", "daemon", "resident memory", "CPU"
    );
    let line = |place: &str, daemon: &Daemon| -> Result<()> {
        let used = daemon.usage()?;
        println!(
            "{place:<5} {:<10} {:>13.1} MB {:>10.2} s",
            daemon.name(),
            used.rss_kb as f64 / 1024.0,
            used.cpu_s
        );
        Ok(())
    };
    line("ctl", &cluster.typha)?;
    for node in cluster.nodes() {
        for daemon in [&node.felix, &node.bird, &node.confd] {
            line(node.name(), daemon)?;
        }
    }
    if let Some(tor) = &cluster.tor {
        for daemon in tor.daemons() {
            line("tor", daemon)?;
        }
    }
    Ok(())
}

/// What to do with a cluster that stays up.
pub(super) fn look_around(cluster: &Cluster) {
    let lab = cluster.lab.name();
    heading("It stays up. To look around:");
    let ctl = crate::lab::binary("tortiectl").map_or_else(|_| "tortiectl".to_owned(), |p| p.display().to_string());
    println!("  export TORTIE_TYPHA={}", cluster.typha_socket());
    println!("  {ctl} get nodes -o wide");
    println!("  {ctl} get ippools -o yaml");
    for node in cluster.nodes() {
        println!("  {ctl} node status --bird {}", node.bird_addr());
        println!("  ip netns exec {} ip route", node.ns().name());
    }
    println!("  ip netns exec {lab}-pod-n1-web-1 ping 172.30.0.1");
    println!(
        "  logs and rendered configuration: {}/<node>/",
        cluster.lab.dir().display()
    );
    println!("To stop it: make demo-stop");
}
