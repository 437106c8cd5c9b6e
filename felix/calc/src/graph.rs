//! The incremental computation.
//!
//! Each document is reduced to what matters of it (`Inputs`); each part of the result is a function of a few inputs. A
//! changed input marks the parts it touches dirty; a flush recomputes those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_model::ipam::{AffinityState, Block};
use tortie_model::resource::{Node, WorkloadEndpoint};
use tortie_model::{InterfaceAddr, Key, Kind, Object, Owner};
use tortie_net::{NodeName, Prefix, PrefixMap};

use crate::desired::{Desired, Endpoint, Pool, RemoteBlock, Update};

/// See the crate.
#[derive(Debug)]
pub struct Calc {
    node: NodeName,
    inputs: Inputs,
    desired: Desired,
    dirty: BTreeSet<Part>,
}

/// What is kept of the documents.
#[derive(Debug, Default)]
struct Inputs {
    /// Nodes whose claim on the block is confirmed.
    claims: BTreeMap<Prefix, BTreeSet<NodeName>>,
    /// The same the other way round.
    blocks_of: BTreeMap<NodeName, BTreeSet<Prefix>>,
    addresses: BTreeMap<NodeName, Vec<InterfaceAddr>>,
    /// Addresses of a block that a node other than its owner has.
    borrowers: PrefixMap<BTreeMap<IpAddr, NodeName>>,
    endpoints: BTreeMap<Key, Endpoint>,
    /// Endpoints by interface.
    claimants: BTreeMap<String, BTreeSet<Key>>,
    pools: BTreeMap<String, Pool>,
}

/// A part of the result that is computed as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Endpoint(Key),
    Block(Prefix),
    Borrowed(IpAddr),
    Pool(String),
    NodeAddresses,
}

impl Calc {
    /// Of this node; nothing is wanted yet.
    pub fn new(node: NodeName) -> Self {
        Calc {
            node,
            inputs: Inputs::default(),
            desired: Desired::default(),
            dirty: BTreeSet::new(),
        }
    }

    /// The document under `key` is this now; `None`: there is none. Documents of no concern are ignored.
    pub fn apply(&mut self, key: &Key, object: Option<&Object>) {
        match key {
            Key::Affinity {
                owner: Owner::Host(node),
                cidr,
            } => {
                let confirmed =
                    matches!(object, Some(Object::Affinity(a)) if a.state == AffinityState::Confirmed && !a.deleted);
                self.claim(node, *cidr, confirmed);
            }
            Key::Block(cidr) => {
                let block = match object {
                    Some(Object::Block(b)) if !b.deleted => Some(&**b),
                    _ => None,
                };
                self.borrowers(*cidr, block);
            }
            Key::Resource {
                kind: Kind::Node, name, ..
            } => {
                let node = match object {
                    Some(Object::Node(n)) => Some(&**n),
                    _ => None,
                };
                self.node(name, node);
            }
            Key::Resource {
                kind: Kind::WorkloadEndpoint,
                ..
            } => {
                let endpoint = match object {
                    Some(Object::WorkloadEndpoint(w)) => Some(&**w),
                    _ => None,
                };
                self.endpoint(key, endpoint);
            }
            Key::Resource {
                kind: Kind::IpPool,
                name,
                ..
            } => {
                let pool = match object {
                    Some(Object::IpPool(p)) => Some(Pool {
                        cidr: p.spec.cidr,
                        ipip: p.spec.ipip_mode(),
                        vxlan: p.spec.vxlan_mode(),
                        nat_outgoing: p.spec.nat_outgoing,
                    }),
                    _ => None,
                };
                replace(&mut self.inputs.pools, name, pool);
                self.dirty.insert(Part::Pool(name.clone()));
            }
            Key::Resource { .. } | Key::Affinity { .. } | Key::Handle(_) | Key::IpamConfig | Key::IpamHost(_) => {}
        }
    }

    /// What is wanted, as of the last flush.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Brings [`Calc::desired`] up to date and tells what changed in it.
    pub fn flush(&mut self) -> Vec<Update> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut updates: Vec<Update> = dirty.into_iter().flat_map(|part| self.compute(&part)).collect();
        updates.retain(|u| self.desired.apply(u));
        updates
    }

    // === Inputs ===

    fn claim(&mut self, node: &NodeName, block: Prefix, confirmed: bool) {
        let claims = self.inputs.claims.entry(block).or_default();
        let blocks = self.inputs.blocks_of.entry(node.clone()).or_default();
        if confirmed {
            claims.insert(node.clone());
            blocks.insert(block);
        } else {
            claims.remove(node);
            blocks.remove(&block);
        }
        if claims.is_empty() {
            self.inputs.claims.remove(&block);
        }
        if blocks.is_empty() {
            self.inputs.blocks_of.remove(node);
        }
        self.dirty.insert(Part::Block(block));
    }

    fn borrowers(&mut self, cidr: Prefix, block: Option<&Block>) {
        let now = block.map(borrowers).filter(|b| !b.is_empty());
        let before = self.inputs.borrowers.get(cidr);
        let touched = before.into_iter().chain(&now).flat_map(BTreeMap::keys);
        self.dirty.extend(touched.copied().map(Part::Borrowed));
        match now {
            Some(now) => self.inputs.borrowers.insert(cidr, now),
            None => self.inputs.borrowers.remove(cidr),
        };
    }

    fn node(&mut self, name: &str, node: Option<&Node>) {
        // A record whose name is no node name is nobody's.
        let Ok(name) = name.parse::<NodeName>() else { return };
        let addresses = node.map(|n| {
            let bgp = n.spec.bgp.iter().flat_map(|b| [b.ipv4_address, b.ipv6_address]);
            bgp.flatten().collect()
        });
        replace(&mut self.inputs.addresses, &name, addresses);
        if name == self.node {
            self.dirty.insert(Part::NodeAddresses);
        }
        let blocks = self.inputs.blocks_of.get(&name).into_iter().flatten();
        self.dirty.extend(blocks.copied().map(Part::Block));
    }

    fn endpoint(&mut self, key: &Key, endpoint: Option<&WorkloadEndpoint>) {
        let local = endpoint.filter(|w| w.spec.node == self.node.as_str() && !w.spec.interface_name.is_empty());
        let now = local.map(|w| {
            let ips: BTreeSet<IpAddr> = w
                .spec
                .ip_networks
                .iter()
                .filter(|n| n.is_host())
                .map(|n| n.addr())
                .collect();
            Endpoint {
                interface: w.spec.interface_name.clone(),
                ips: ips.into_iter().collect(),
            }
        });
        if let Some(before) = self.inputs.endpoints.get(key)
            && let Some(claimants) = self.inputs.claimants.get_mut(&before.interface)
        {
            claimants.remove(key);
            // Whoever stood behind it may have the interface now.
            self.dirty.extend(claimants.iter().cloned().map(Part::Endpoint));
            if claimants.is_empty() {
                self.inputs.claimants.remove(&before.interface);
            }
        }
        if let Some(now) = &now {
            let claimants = self.inputs.claimants.entry(now.interface.clone()).or_default();
            claimants.insert(key.clone());
            self.dirty.extend(claimants.iter().cloned().map(Part::Endpoint));
        }
        self.dirty.insert(Part::Endpoint(key.clone()));
        replace(&mut self.inputs.endpoints, key, now);
    }

    // === Parts of the result ===

    fn compute(&self, part: &Part) -> Vec<Update> {
        match part {
            Part::Endpoint(key) => vec![Update::Endpoint(key.clone(), self.winning_endpoint(key))],
            Part::Block(block) => self.block(*block),
            Part::Borrowed(ip) => vec![Update::Borrowed(*ip, self.borrower(*ip))],
            Part::Pool(name) => vec![Update::Pool(name.clone(), self.inputs.pools.get(name).cloned())],
            Part::NodeAddresses => {
                let addresses = self.inputs.addresses.get(&self.node).cloned().unwrap_or_default();
                vec![Update::NodeAddresses(addresses)]
            }
        }
    }

    /// Of the endpoints that claim an interface, the one with the lowest key has it.
    fn winning_endpoint(&self, key: &Key) -> Option<Endpoint> {
        let endpoint = self.inputs.endpoints.get(key)?;
        let winner = self.inputs.claimants.get(&endpoint.interface)?.first()?;
        (winner == key).then(|| endpoint.clone())
    }

    /// A block is ours when we claim it; else it is the lowest-named claimant's (there should be one).
    fn block(&self, block: Prefix) -> Vec<Update> {
        let claims = self.inputs.claims.get(&block);
        let own = claims.is_some_and(|c| c.contains(&self.node));
        let remote = claims.filter(|_| !own).and_then(BTreeSet::first).map(|node| {
            let addresses = self.inputs.addresses.get(node).into_iter().flatten();
            let address = addresses.map(|a| a.addr).find(|a| a.is_ipv4() == block.is_v4());
            RemoteBlock {
                node: node.clone(),
                address,
            }
        });
        vec![Update::OwnBlock(block, own), Update::RemoteBlock(block, remote)]
    }

    fn borrower(&self, ip: IpAddr) -> Option<NodeName> {
        let mut holders = self.inputs.borrowers.matches(Prefix::host(ip));
        holders
            .find_map(|(_, b)| b.get(&ip))
            .filter(|node| **node != self.node)
            .cloned()
    }
}

/// Addresses of the block that a node other than its owner has.
fn borrowers(block: &Block) -> BTreeMap<IpAddr, NodeName> {
    let owner = match &block.affinity {
        Some(Owner::Host(node)) => Some(node),
        Some(Owner::Virtual(_)) | None => None,
    };
    let taken = block
        .allocations
        .iter()
        .enumerate()
        .filter_map(|(ordinal, a)| Some((ordinal, (*a)?)));
    let named = taken.filter_map(|(ordinal, attribute)| {
        let node: NodeName = block
            .attributes
            .get(attribute)?
            .secondary
            .as_ref()?
            .get("node")?
            .parse()
            .ok()?;
        Some((address(block.cidr, ordinal)?, node))
    });
    named.filter(|(_, node)| Some(node) != owner).collect()
}

/// The address with this ordinal; `None` when it is beyond the block.
fn address(block: Prefix, ordinal: usize) -> Option<IpAddr> {
    let ip = match block.addr() {
        IpAddr::V4(a) => IpAddr::from(u32::from(a).checked_add(u32::try_from(ordinal).ok()?)?.to_be_bytes()),
        IpAddr::V6(a) => IpAddr::from(u128::from(a).checked_add(u128::try_from(ordinal).ok()?)?.to_be_bytes()),
    };
    block.contains(ip).then_some(ip)
}

fn replace<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

#[cfg(test)]
mod tests;
