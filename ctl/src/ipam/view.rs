//! What is stored of addresses, read at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use tortie_ipam::is_enabled;
use tortie_model::ipam::{AllocationAttribute, Block, Handle, IpamConfig};
use tortie_model::resource::{ClusterInformation, IpPool, Node};
use tortie_model::{Key, Kind, Object, decode, key};
use tortie_net::Prefix;
use tortie_typha_client::{Entry, Store};

/// The cluster, as far as address management is concerned.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(super) pools: Vec<IpPool>,
    pub(super) blocks: Vec<Block>,
    pub(crate) handles: BTreeMap<String, Handle>,
    /// The revisions of their last changes.
    pub(super) handle_revisions: BTreeMap<String, u64>,
    /// What the cluster says of itself, and the revision of that.
    pub(super) information: Option<(ClusterInformation, u64)>,
    /// Prefixes that are given to nobody automatically.
    pub(super) reserved: Vec<Prefix>,
    /// Who uses an address: workloads and nodes, by name.
    pub(super) users: BTreeMap<IpAddr, BTreeSet<String>>,
    /// How many of them are workloads' and how many nodes' tunnels'.
    pub(super) workload_ips: usize,
    pub(super) tunnel_ips: usize,
    pub(super) config: IpamConfig,
    /// What cannot be read, by name and reason.
    pub(super) unreadable: Vec<String>,
}

impl Cluster {
    /// Reads it. Blocks come before their users, so that an address that is just being given is not taken for lost.
    pub(crate) async fn read(store: &Store) -> Result<Self> {
        let mut cluster = Cluster::default();
        for prefix in [
            key::BLOCKS.to_owned(),
            key::HANDLES.to_owned(),
            key::IPAM_CONFIG.to_owned(),
            Key::collection(Kind::ClusterInformation),
            Key::collection(Kind::IpPool),
            Key::collection(Kind::IpReservation),
            Key::collection(Kind::Node),
            Key::collection(Kind::WorkloadEndpoint),
        ] {
            for entry in store.list(&prefix).await?.entries {
                cluster.take(&entry);
            }
        }
        Ok(cluster)
    }

    fn take(&mut self, entry: &Entry) {
        let Ok(key) = entry.key.parse::<Key>() else { return };
        let object = match decode(&key, &entry.value) {
            Ok(object) => object,
            Err(e) => return self.unreadable.push(e.to_string()),
        };
        match (key, object) {
            (_, Object::Block(block)) => self.blocks.push(*block),
            (Key::Handle(id), Object::Handle(handle)) => {
                self.handle_revisions.insert(id.clone(), entry.revision);
                self.handles.insert(id, handle);
            }
            (_, Object::ClusterInformation(information)) => self.information = Some((*information, entry.revision)),
            (_, Object::IpamConfig(config)) => self.config = config,
            (_, Object::IpPool(pool)) => self.pools.push(*pool),
            (_, Object::IpReservation(r)) => self.reserved.extend(r.spec.reserved_cidrs.iter().map(|n| n.network())),
            (_, Object::Node(node)) => {
                for ip in tunnels(&node) {
                    self.tunnel_ips += 1;
                    self.use_by(ip, format!("Node({})", node.metadata.name));
                }
            }
            (key, Object::WorkloadEndpoint(endpoint)) => {
                for prefix in &endpoint.spec.ip_networks {
                    self.workload_ips += 1;
                    self.use_by(prefix.addr(), key.object_name());
                }
            }
            _ => {}
        }
    }

    fn use_by(&mut self, ip: IpAddr, who: String) {
        self.users.entry(ip).or_default().insert(who);
    }

    /// Every address that is given to somebody or cools down.
    pub(crate) fn allocated(&self) -> impl Iterator<Item = Allocation<'_>> {
        self.blocks.iter().flat_map(allocations)
    }

    /// What an address is allocated for.
    pub(crate) fn allocation(&self, ip: IpAddr) -> Option<Allocation<'_>> {
        let mut blocks = self.blocks.iter().filter(|b| b.cidr.contains(ip));
        blocks.find_map(|b| allocations(b).find(|a| a.ip == ip))
    }

    /// Is it in a pool from which addresses are given?
    pub(super) fn is_pooled(&self, ip: IpAddr) -> bool {
        let mut enabled = self.pools.iter().filter(|p| is_enabled(p));
        enabled.any(|p| p.spec.cidr.contains(ip))
    }

    /// How much of a prefix is used by these blocks.
    pub(super) fn usage<'a>(&self, cidr: Prefix, blocks: impl Iterator<Item = &'a Block>) -> Usage {
        let mut outer: Vec<Prefix> = Vec::new();
        let mut sorted = self.reserved.clone();
        sorted.sort_by_key(|p| p.len());
        for prefix in sorted.iter().filter(|p| p.overlaps(cidr)) {
            let part = if prefix.covers(cidr) { cidr } else { *prefix };
            if !outer.iter().any(|o| o.covers(part)) {
                outer.push(part);
            }
        }
        let mut usage = Usage {
            total: size(cidr),
            in_use: 0.0,
            // The sum of nothing would be -0.
            reserved: outer.iter().fold(0.0, |sum, p| sum + size(*p)),
        };
        for allocation in blocks.flat_map(allocations) {
            usage.in_use += 1.0;
            if outer.iter().any(|p| p.contains(allocation.ip)) {
                usage.reserved -= 1.0;
            }
        }
        usage
    }
}

/// An address that is not free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocation<'a> {
    pub(crate) ip: IpAddr,
    pub(crate) block: &'a Block,
    pub(crate) attribute: &'a AllocationAttribute,
}

impl Allocation<'_> {
    /// The block's sequence number when the address was given, if the block tells.
    pub(super) fn sequence_number(&self) -> Option<u64> {
        let of = |a: IpAddr| match a {
            IpAddr::V4(a) => u128::from(u32::from(a)),
            IpAddr::V6(a) => u128::from(a),
        };
        let ordinal = of(self.ip).checked_sub(of(self.block.cidr.addr()))?;
        let ordinal = u32::try_from(ordinal).ok()?;
        self.block.sequence_number_for_allocation.get(&ordinal).copied()
    }

    /// Has another node than the block's owner it?
    pub(super) fn is_borrowed(&self) -> bool {
        let owner = self.block.affinity.as_ref().map(ToString::to_string);
        self.said("node").is_some_and(|node| owner.is_some_and(|o| o != node))
    }

    /// What its owner said of itself.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.attribute.secondary.as_ref()?.get(name).map(String::as_str)
    }

    /// It was released, and is not given out for a while.
    pub(crate) fn is_cooling(&self) -> bool {
        self.attribute.handle_id.is_none() && self.attribute.released_at.is_some()
    }

    /// Whose it is, for a person.
    pub(crate) fn whose(&self) -> String {
        match (self.said("namespace"), self.said("pod")) {
            (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
            _ => self.attribute.handle_id.clone().unwrap_or_default(),
        }
    }
}

fn allocations(block: &Block) -> impl Iterator<Item = Allocation<'_>> {
    let slots = block.allocations.iter().zip(0u32..);
    slots.filter_map(move |(slot, ordinal)| {
        Some(Allocation {
            ip: nth(block.cidr, ordinal),
            block,
            attribute: block.attributes.get((*slot)?)?,
        })
    })
}

fn nth(cidr: Prefix, ordinal: u32) -> IpAddr {
    match cidr.addr() {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(ordinal)).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(ordinal.into())).into(),
    }
}

/// Addresses of a prefix; those of IPv6 are more than any integer holds exactly in a table of five digits.
fn size(cidr: Prefix) -> f64 {
    f64::from(cidr.max_len() - cidr.len()).exp2()
}

fn tunnels(node: &Node) -> impl Iterator<Item = IpAddr> {
    let ipip = node.spec.bgp.as_ref().and_then(|b| b.ipv4_ipip_tunnel_addr);
    let four = [ipip, node.spec.ipv4_vxlan_tunnel_addr].map(|a| a.map(IpAddr::from));
    let six = node.spec.ipv6_vxlan_tunnel_addr.map(IpAddr::from);
    four.into_iter().chain([six]).flatten()
}

/// How many addresses there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) total: f64,
    pub(super) in_use: f64,
    /// Reserved, and not in use.
    pub(super) reserved: f64,
}

impl Usage {
    /// The cells of a table: total, in use, reserved, free.
    pub(super) fn cells(&self) -> [String; 4] {
        let free = self.total - self.in_use - self.reserved;
        let part = |n: f64| format!("{} ({:.0}%)", five_digits(n), 100.0 * n / self.total);
        [
            five_digits(self.total),
            part(self.in_use),
            part(self.reserved),
            part(free),
        ]
    }
}

/// As C's `%.5g` prints a whole number.
fn five_digits(n: f64) -> String {
    if n < 99_999.5 {
        return format!("{n:.0}");
    }
    let text = format!("{n:.4e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    format!("{mantissa}e+{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_calicoctl_prints_them() {
        for (n, text) in [
            (0.0, "0"),
            (64.0, "64"),
            (65_536.0, "65536"),
            (99_999.0, "99999"),
            (100_000.0, "1e+05"),
            (1_048_576.0, "1.0486e+06"),
            (18_446_744_073_709_551_616.0, "1.8447e+19"),
        ] {
            assert_eq!(five_digits(n), text);
        }
    }

    #[test]
    fn reserved_addresses_are_counted_once_and_not_when_they_are_in_use() {
        let prefix = |t: &str| t.parse::<Prefix>().unwrap();
        let mut block = Block::new(prefix("10.0.0.0/26"));
        block.allocations = vec![None; 64];
        block.allocations[1] = Some(0);
        block.allocations[40] = Some(0);
        block.attributes = vec![AllocationAttribute::default()];
        let mut cluster = Cluster {
            reserved: ["10.0.0.0/30", "10.0.0.0/29", "10.0.1.0/24"].map(prefix).to_vec(),
            ..Cluster::default()
        };
        let usage = cluster.usage(block.cidr, [&block].into_iter());
        assert_eq!(usage.cells(), ["64", "2 (3%)", "7 (11%)", "55 (86%)"]);
        cluster.reserved = vec![prefix("10.0.0.0/8")];
        let usage = cluster.usage(block.cidr, [&block].into_iter());
        assert_eq!(usage.cells(), ["64", "2 (3%)", "62 (97%)", "0 (0%)"]);
    }
}
