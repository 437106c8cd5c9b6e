//! What must be true of a running cluster.

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Cluster, Netns, Node, Ping, Pod, ping, seen_source};

/// Who can be pinged from where.
#[derive(Debug)]
pub struct Matrix {
    /// Row and column names.
    pub names: Vec<String>,
    /// Row by row; `None` on the diagonal.
    pub cells: Vec<Vec<Option<Ping>>>,
    connections: usize,
}

impl Matrix {
    /// How many echo requests were answered.
    pub fn pings(&self) -> usize {
        self.cells.iter().flatten().flatten().count()
    }

    /// How many TCP connections were made, each seen from the sender's own address.
    pub fn connections(&self) -> usize {
        self.connections
    }
}

/// Pings from everybody to everybody, and connects to see that nothing translates addresses on the way.
///
/// # Errors
/// When a ping is not answered, a connection fails, or a receiver sees another source address than the sender's.
pub fn matrix(cluster: &Cluster, pods: &[&Pod]) -> Result<Matrix> {
    let mut hosts: Vec<(String, &Netns, std::net::IpAddr)> = Vec::new();
    for pod in pods {
        let short = pod.name.split('/').next_back().unwrap_or(&pod.name);
        hosts.push((format!("{short}@{}", pod.node), &pod.ns, pod.ipv4()?));
    }
    if let Some(tor) = &cluster.tor {
        hosts.push(("tor".to_owned(), &tor.ns, tor.address));
    }
    let mut cells = Vec::new();
    let mut connections = 0;
    for (from, from_ns, from_ip) in &hosts {
        let mut row = Vec::new();
        for (to, to_ns, to_ip) in &hosts {
            if from == to {
                row.push(None);
                continue;
            }
            row.push(Some(
                ping(from_ns, *to_ip).with_context(|| format!("ping from {from} to {to}"))?,
            ));
            let seen = seen_source(from_ns, to_ns, *to_ip).with_context(|| format!("connect from {from} to {to}"))?;
            ensure!(
                seen == *from_ip,
                "{to} sees a connection from {from} come from {seen}, not {from_ip}: NAT"
            );
            connections += 1;
        }
        cells.push(row);
    }
    Ok(Matrix {
        names: hosts.into_iter().map(|(name, ..)| name).collect(),
        cells,
        connections,
    })
}

/// Each TTL tells how many routers the answer passed: one on the same node or between a pod and the ToR, two between
/// nodes.
///
/// # Errors
/// When a TTL is another, naming the pair.
pub fn check_matrix(cluster: &Cluster, pods: &[&Pod], matrix: &Matrix) -> Result<()> {
    let node_of = |i: usize| pods.get(i).map(|p| p.node.as_str());
    for (i, row) in matrix.cells.iter().enumerate() {
        for (j, cell) in row.iter().enumerate() {
            let Some(ping) = cell else { continue };
            let routers = match (node_of(i), node_of(j)) {
                (Some(a), Some(b)) if a != b => 2,
                _ => 1,
            };
            ensure!(
                ping.ttl == 64 - routers,
                "the answer from {} to {} arrived with TTL {}, want {} ({} routers in lab {})",
                matrix.names[j],
                matrix.names[i],
                ping.ttl,
                64 - routers,
                routers,
                cluster.lab.name()
            );
        }
    }
    Ok(())
}

/// A node's kernel: its own pods on the link, its own blocks blackholed, the others' via their owner, learned by BGP.
///
/// # Errors
/// What is missing or wrong, with the whole table.
pub fn check_routes<'a>(cluster: &Cluster, node: &Node, pods: impl Iterator<Item = &'a Pod>) -> Result<()> {
    let routes = node.ns().routes()?;
    let table = || format!("routes of {}:\n  {}", node.name(), routes.join("\n  "));
    let has = |what: &str, test: &dyn Fn(&str) -> bool| {
        ensure!(routes.iter().any(|r| test(r)), "no {what}; {}", table());
        Ok(())
    };
    for pod in pods {
        let ip = pod.ipv4()?;
        if pod.node == node.name() {
            let start = format!("{ip} dev {} ", pod.host_interface);
            has(&format!("route to {} ({ip}) on the link", pod.name), &|r| {
                r.starts_with(&start) && r.contains("scope link")
            })?;
            let covers = |r: &str| r.strip_prefix("blackhole ").is_some_and(|r| block_of(r, ip));
            has(&format!("blackhole for the block of {ip}"), &covers)?;
        } else {
            let owner = format!(" via {} dev eth0 proto bird ", cluster.address(&pod.node)?);
            let learned = |r: &str| block_of(r, ip) && format!("{r} ").contains(&owner);
            has(&format!("route to the block of {} ({ip}){owner}", pod.name), &learned)?;
        }
    }
    if let Some(tor) = &cluster.tor {
        let want = format!("{} via {} dev eth0 proto bird", tor.behind(), tor.address);
        has(&want, &|r| r.starts_with(&want))?;
    }
    Ok(())
}

/// Does the route's destination (the first word) contain this address, as a block does?
fn block_of(route: &str, ip: std::net::IpAddr) -> bool {
    let destination = route.split_whitespace().next().unwrap_or_default();
    destination
        .parse::<tortie_net::Prefix>()
        .is_ok_and(|p| p.len() >= 20 && p.contains(ip))
}

/// Inside a pod: one address, and a default route via 169.254.1.1.
///
/// # Errors
/// What is wrong.
pub fn check_pod(pod: &Pod) -> Result<()> {
    let routes = pod.ns.routes()?;
    for want in ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"] {
        if !routes.iter().any(|r| r.starts_with(want)) {
            bail!("{}: no `{want}`; its routes are {routes:?}", pod.name);
        }
    }
    let addresses = pod.ns.ip(&["-o", "addr", "show", "dev", "eth0"])?;
    let ip = pod.ipv4()?;
    ensure!(
        addresses.contains(&format!("inet {ip}/32")),
        "{}: no {ip}/32 on eth0: {addresses}",
        pod.name
    );
    Ok(())
}
