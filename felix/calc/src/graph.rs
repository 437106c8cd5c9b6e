//! The incremental computation.
//!
//! Each document is reduced to what matters of it (`Inputs`); each part of the result is a function of a few inputs. A
//! changed input marks the parts it touches dirty; a flush recomputes those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_model::ipam::{AffinityState, Block};
use tortie_model::resource::{FelixConfigurationSpec, Node, WorkloadEndpoint};
use tortie_model::{InterfaceAddr, Key, Kind, Object, Owner};
use tortie_net::{NodeName, Prefix, PrefixMap};

use crate::bgp::BgpInputs;
use crate::desired::{Desired, Endpoint, Floating, Pool, Remote, Update};
use crate::settings::Settings;
use crate::tunnel::{LocalTunnel, NodeFacts, Tunnel, carriage};

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
    nodes: BTreeMap<NodeName, NodeFacts>,
    /// Addresses of a block that a node other than its owner has.
    borrowers: PrefixMap<BTreeMap<IpAddr, NodeName>>,
    endpoints: BTreeMap<Key, Endpoint>,
    /// Endpoints by interface.
    claimants: BTreeMap<String, BTreeSet<Key>>,
    /// Floating addresses of endpoints, with what each leads to.
    nats: BTreeMap<Key, BTreeMap<IpAddr, IpAddr>>,
    /// The same the other way round.
    floating: BTreeMap<IpAddr, BTreeSet<Key>>,
    pools: BTreeMap<String, Pool>,
    felix: BTreeMap<String, FelixConfigurationSpec>,
    bgp: BgpInputs,
}

/// A part of the result that is computed as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Endpoint(Key),
    Block(Prefix),
    Borrowed(IpAddr),
    Pool(String),
    NodeAddresses,
    Tunnels,
    /// Its addresses, and the ends of its tunnels.
    Node(NodeName),
    Floating(IpAddr),
    Peering,
    Settings,
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
                    Some(Object::IpPool(p)) => Some(Pool::of(&p.spec)),
                    _ => None,
                };
                self.pool(name, pool);
            }
            Key::Resource {
                kind: Kind::FelixConfiguration,
                name,
                ..
            } => {
                let spec = match object {
                    Some(Object::FelixConfiguration(f)) => Some(f.spec.clone()),
                    _ => None,
                };
                replace(&mut self.inputs.felix, name, spec);
                self.settings_touched();
            }
            Key::Resource {
                kind: Kind::BgpConfiguration | Kind::BgpPeer,
                name,
                ..
            } => {
                self.inputs.bgp.apply(key, name, object);
                self.dirty.extend([Part::Settings, Part::Peering]);
            }
            Key::Resource { .. }
            | Key::Affinity { .. }
            | Key::Handle(_)
            | Key::IpamConfig
            | Key::IpamHost(_)
            | Key::Lease(_)
            | Key::Report(_) => {}
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
        let facts = node.map(|n| NodeFacts::of(name.as_str(), n));
        if self.inputs.nodes.get(&name) == facts.as_ref() {
            // Nodes report on themselves in their records; routes need not be computed anew for that.
            return;
        }
        let empty = NodeFacts::default();
        let addresses = |f: Option<&NodeFacts>| f.unwrap_or(&empty).addresses.clone();
        let moved = addresses(self.inputs.nodes.get(&name)) != addresses(facts.as_ref());
        replace(&mut self.inputs.nodes, &name, facts);
        if name == self.node {
            self.dirty.extend([Part::NodeAddresses, Part::Tunnels, Part::Peering]);
            self.settings_touched();
            if moved {
                // Who is in this node's subnet is decided by its own address.
                self.dirty.extend(self.inputs.claims.keys().copied().map(Part::Block));
                let borrowed = self.inputs.borrowers.iter().flat_map(|(_, b)| b.keys());
                self.dirty.extend(borrowed.copied().map(Part::Borrowed));
            }
        }
        let blocks = self.inputs.blocks_of.get(&name).into_iter().flatten();
        self.dirty.extend(blocks.copied().map(Part::Block));
        let borrowed = self.inputs.borrowers.iter().flat_map(|(_, b)| b);
        let its = borrowed.filter(|(_, n)| **n == name).map(|(ip, _)| Part::Borrowed(*ip));
        self.dirty.extend(its);
        self.dirty.insert(Part::Node(name));
    }

    fn pool(&mut self, name: &str, pool: Option<Pool>) {
        let before = self.inputs.pools.get(name);
        for cidr in before.into_iter().chain(&pool).map(|p| p.cidr) {
            let blocks = self.inputs.claims.range(cidr..).map(|(block, _)| *block);
            self.dirty
                .extend(blocks.take_while(|b| cidr.covers(*b)).map(Part::Block));
            let borrowed = self.inputs.borrowers.covered_by(cidr).flat_map(|(_, b)| b.keys());
            self.dirty.extend(borrowed.copied().map(Part::Borrowed));
        }
        replace(&mut self.inputs.pools, &name.to_owned(), pool);
        self.dirty.extend([Part::Pool(name.to_owned()), Part::Tunnels]);
    }

    fn endpoint(&mut self, key: &Key, endpoint: Option<&WorkloadEndpoint>) {
        let local = endpoint.filter(|w| w.spec.node == self.node.as_str() && !w.spec.interface_name.is_empty());
        self.nats(
            key,
            local.map(|w| w.spec.ip_nats.iter().map(|n| (n.external_ip, n.internal_ip)).collect()),
        );
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
        if self.inputs.bgp.endpoint(key, local) {
            self.dirty.insert(Part::Peering);
        }
        let mut touched = BTreeSet::from([key.clone()]);
        if let Some(before) = self.inputs.endpoints.get(key)
            && let Some(claimants) = self.inputs.claimants.get_mut(&before.interface)
        {
            claimants.remove(key);
            // Whoever stood behind it may have the interface now.
            touched.extend(claimants.iter().cloned());
            if claimants.is_empty() {
                self.inputs.claimants.remove(&before.interface);
            }
        }
        if let Some(now) = &now {
            let claimants = self.inputs.claimants.entry(now.interface.clone()).or_default();
            claimants.insert(key.clone());
            touched.extend(claimants.iter().cloned());
        }
        touched.iter().for_each(|key| self.endpoint_touched(key));
        replace(&mut self.inputs.endpoints, key, now);
    }

    /// Whether floating addresses count at all is a setting.
    fn settings_touched(&mut self) {
        self.dirty.insert(Part::Settings);
        self.dirty
            .extend(self.inputs.floating.keys().copied().map(Part::Floating));
    }

    /// An endpoint may have its interface now, or no longer, and its floating addresses with it.
    fn endpoint_touched(&mut self, key: &Key) {
        self.dirty.insert(Part::Endpoint(key.clone()));
        let nats = self.inputs.nats.get(key).into_iter().flatten();
        self.dirty.extend(nats.map(|(ip, _)| Part::Floating(*ip)));
    }

    fn nats(&mut self, key: &Key, now: Option<BTreeMap<IpAddr, IpAddr>>) {
        let now = now.filter(|n| !n.is_empty());
        for ip in self.inputs.nats.get(key).into_iter().flat_map(BTreeMap::keys) {
            self.dirty.insert(Part::Floating(*ip));
            if let Some(keys) = self.inputs.floating.get_mut(ip) {
                keys.remove(key);
                if keys.is_empty() {
                    self.inputs.floating.remove(ip);
                }
            }
        }
        for ip in now.iter().flat_map(BTreeMap::keys) {
            self.dirty.insert(Part::Floating(*ip));
            self.inputs.floating.entry(*ip).or_default().insert(key.clone());
        }
        replace(&mut self.inputs.nats, key, now);
    }

    // === Parts of the result ===

    fn compute(&self, part: &Part) -> Vec<Update> {
        match part {
            Part::Endpoint(key) => vec![Update::Endpoint(key.clone(), self.winning_endpoint(key))],
            Part::Block(block) => self.block(*block),
            Part::Borrowed(ip) => {
                let prefix = Prefix::host(*ip);
                vec![
                    Update::Borrowed(*ip, self.borrower(*ip)),
                    Update::Remote(prefix, self.remote(prefix)),
                ]
            }
            Part::Pool(name) => vec![Update::Pool(name.clone(), self.inputs.pools.get(name).cloned())],
            Part::NodeAddresses => vec![Update::NodeAddresses(self.own_addresses().to_vec())],
            Part::Tunnels => Tunnel::ALL.map(|t| Update::Tunnel(t, self.local_tunnel(t))).to_vec(),
            Part::Node(node) => {
                let facts = self.inputs.nodes.get(node);
                let known = facts.map(|f| f.known.clone()).filter(|k| !k.is_empty());
                let other = facts.filter(|_| *node != self.node);
                let vtep = |t| Update::Vtep(t, node.clone(), other.and_then(|f| f.vtep(t)));
                let vteps = [Tunnel::VxlanV4, Tunnel::VxlanV6].map(vtep);
                vteps.into_iter().chain([Update::Host(node.clone(), known)]).collect()
            }
            Part::Floating(ip) => vec![Update::Floating(*ip, self.floating(*ip))],
            Part::Peering => {
                let labels = self.inputs.nodes.get(&self.node).map(|f| &f.labels);
                let interface = |key: &Key| Some(self.winning_endpoint(key)?.interface);
                let peering = self.inputs.bgp.peering((&self.node, labels), interface);
                vec![Update::Peering(peering)]
            }
            Part::Settings => vec![Update::Settings(Box::new(self.settings()))],
        }
    }

    /// Of the endpoints that claim an interface, the one with the lowest key has it.
    fn winning_endpoint(&self, key: &Key) -> Option<Endpoint> {
        let endpoint = self.inputs.endpoints.get(key)?;
        let winner = self.inputs.claimants.get(&endpoint.interface)?.first()?;
        (winner == key).then(|| endpoint.clone())
    }

    fn floating(&self, ip: IpAddr) -> Option<Floating> {
        if !self.settings().floating_ips {
            return None;
        }
        let claimants = self.inputs.floating.get(&ip).into_iter().flatten();
        let of = |key: &Key| {
            let endpoint = self.winning_endpoint(key)?;
            let to = *self.inputs.nats.get(key)?.get(&ip)?;
            let leads = endpoint.ips.contains(&to) && to.is_ipv4() == ip.is_ipv4();
            leads.then_some(Floating {
                interface: endpoint.interface,
                to,
            })
        };
        claimants.into_iter().find_map(of)
    }

    /// The documents that are for this node, the one that counts first at the end.
    fn settings(&self) -> Settings {
        let none = BTreeMap::new();
        let labels = self.inputs.nodes.get(&self.node).map_or(&none, |f| &f.labels);
        let all = self.inputs.felix.iter().map(|(name, spec)| (name.as_str(), spec));
        let priorities = self.inputs.bgp.priorities(&self.node);
        Settings::of(&FelixConfigurationSpec::layers(&self.node, labels, all), priorities)
    }

    fn own_addresses(&self) -> &[InterfaceAddr] {
        self.inputs.nodes.get(&self.node).map_or(&[], |f| &f.addresses)
    }

    /// A tunnel device is wanted when a pool may send packets through it.
    fn local_tunnel(&self, tunnel: Tunnel) -> Option<LocalTunnel> {
        let wants = |p: &Pool| p.tunnel().is_some_and(|(t, _)| t == tunnel);
        let empty = NodeFacts::default();
        let facts = self.inputs.nodes.get(&self.node).unwrap_or(&empty);
        self.inputs.pools.values().any(wants).then(|| facts.local(tunnel))
    }

    /// A block is ours when we claim it; else it is the lowest-named claimant's (there should be one).
    fn block(&self, block: Prefix) -> Vec<Update> {
        let claims = self.inputs.claims.get(&block);
        let own = claims.is_some_and(|c| c.contains(&self.node));
        vec![Update::OwnBlock(block, own), Update::Remote(block, self.remote(block))]
    }

    /// The other node that has this prefix, and the way there. Of an address and a block of one address, the address counts.
    fn remote(&self, prefix: Prefix) -> Option<Remote> {
        let claims = self.inputs.claims.get(&prefix);
        let owner = claims.filter(|c| !c.contains(&self.node)).and_then(BTreeSet::first);
        let borrower = prefix.is_host().then(|| self.borrower(prefix.addr())).flatten();
        let node = borrower.or(owner.cloned())?;
        let facts = self.inputs.nodes.get(&node);
        let address = facts.and_then(|f| f.address(prefix.is_v4()));
        let pools = self.inputs.pools.values().filter(|p| p.cidr.covers(prefix));
        let pool = pools.max_by_key(|p| p.cidr.len());
        let carriage = carriage(pool, self.own_addresses(), address);
        let vtep = facts.zip(carriage.tunnel()).and_then(|(f, t)| f.vtep(t));
        Some(Remote {
            node,
            address,
            carriage,
            vtep: vtep.map(|v| v.address),
        })
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

pub(crate) fn replace<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

#[cfg(test)]
mod tests;
