//! A second rack: a segment of its own behind a router that knows the nodes and nothing of pods.

use std::net::IpAddr;

use anyhow::Result;

use super::{Cluster, Netns, NodeSpec, Segment};

/// The router's address on the first segment, of each family.
const FIRST: [&str; 2] = ["172.30.0.254/24", "fd00:30::fe/64"];
/// The same on the second.
const SECOND: [&str; 2] = ["172.30.1.254/24", "fd00:31::fe/64"];

/// A segment and the router to it.
#[derive(Debug)]
pub struct Rack {
    segment: Segment,
    router: Netns,
}

impl Rack {
    /// Builds it beside the cluster's own segment, 172.30.1.0/24 and fd00:31::/64. The hosts of both segments get routes to each
    /// other by the router, which has none to anything else.
    ///
    /// # Errors
    /// When anything cannot be made.
    pub fn start(cluster: &Cluster) -> Result<Rack> {
        let segment = cluster.lab.segment("rack2")?;
        let router = cluster.lab.namespace("router")?;
        cluster.segment().attach(&router, "eth0", &FIRST)?;
        segment.attach(&router, "eth1", &SECOND)?;
        router.exec(&[
            "sh",
            "-c",
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        ])?;
        let rack = Rack { segment, router };
        for host in cluster.nodes().map(|n| n.ns()).chain([cluster.control()]) {
            leads(host, SECOND, FIRST)?;
        }
        Ok(rack)
    }

    /// Starts a node in this rack.
    ///
    /// # Errors
    /// As [`Cluster::start_node`].
    pub fn start_node(&self, cluster: &mut Cluster, spec: &NodeSpec) -> Result<()> {
        cluster.start_node_on(&self.segment, spec, |ns| leads(ns, FIRST, SECOND))
    }

    /// The router, for captures.
    pub fn router(&self) -> &Netns {
        &self.router
    }
}

/// Routes to the subnets of `to` by the routers `by`, of the families that the host has.
fn leads(host: &Netns, to: [&str; 2], by: [&str; 2]) -> Result<()> {
    for (to, by) in to.into_iter().zip(by) {
        let (gateway, _) = by.split_once('/').unwrap_or((by, ""));
        let (_, subnet) = tortie_net::Prefix::parse_with_address(to)?;
        let family = if gateway.parse::<IpAddr>()?.is_ipv4() {
            "-4"
        } else {
            "-6"
        };
        let has_family = !host
            .ip(&[family, "addr", "show", "dev", "eth0", "scope", "global"])?
            .is_empty();
        if has_family {
            host.ip(&[family, "route", "add", &subnet.to_string(), "via", gateway])?;
        }
    }
    Ok(())
}
