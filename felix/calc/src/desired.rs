//! What one node's dataplane shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_model::resource::EncapMode;
use tortie_model::{InterfaceAddr, Key};
use tortie_net::{NodeName, Prefix};

use crate::bgp::LocalPeering;
use crate::settings::Settings;
use crate::tunnel::{Carriage, LocalTunnel, Tunnel, Vtep};

/// What the datastore wants of this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// The workloads on this node, by the key of their WorkloadEndpoint. No two have the same interface: where two
    /// documents claim one, the one with the lowest key counts.
    pub endpoints: BTreeMap<Key, Endpoint>,
    /// The blocks this node owns: the confirmed affinities. Packets to addresses nobody has are dropped here.
    pub own_blocks: BTreeSet<Prefix>,
    /// What other nodes have: their blocks, and single addresses of blocks that are not theirs.
    pub remote: BTreeMap<Prefix, Remote>,
    /// Addresses of a block that a node other than the block's owner uses, and which node that is. Those that this node
    /// uses are among its endpoints.
    pub borrowed: BTreeMap<IpAddr, NodeName>,
    /// The pools, by name.
    pub pools: BTreeMap<String, Pool>,
    /// This node's own addresses with their subnets.
    pub node_addresses: Vec<InterfaceAddr>,
    /// The tunnel devices that the pools want.
    pub tunnels: BTreeMap<Tunnel, LocalTunnel>,
    /// The ends of the other nodes' VXLAN tunnels, as far as they are known.
    pub vteps: BTreeMap<(Tunnel, NodeName), Vtep>,
    /// The addresses of every node, this one included, sorted.
    pub hosts: BTreeMap<NodeName, Vec<IpAddr>>,
    /// Floating addresses, and the workloads on this node that they lead to. None while they are switched off.
    pub floating: BTreeMap<IpAddr, Floating>,
    /// Where workloads find this node's BGP speaker.
    pub peering: LocalPeering,
    /// What FelixConfigurations say.
    pub settings: Settings,
}

/// Where a floating address leads. Where two workloads claim one, the endpoint with the lower key has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floating {
    /// The host's side of the workload's veth pair.
    pub interface: String,
    /// The workload's own address.
    pub to: IpAddr,
}

/// A workload on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's side of its veth pair.
    pub interface: String,
    /// Its addresses, sorted.
    pub ips: Vec<IpAddr>,
}

/// A prefix of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Which node has it.
    pub node: NodeName,
    /// The node's address of the prefix's family; `None`: not known (yet).
    pub address: Option<IpAddr>,
    /// How packets travel there.
    pub carriage: Carriage,
    /// The address of the VXLAN tunnel's end there, where one is needed; `None`: not known (yet).
    pub vtep: Option<IpAddr>,
}

/// A pool, as far as forwarding cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its addresses.
    pub cidr: Prefix,
    /// IPIP encapsulation.
    pub ipip: EncapMode,
    /// VXLAN encapsulation.
    pub vxlan: EncapMode,
    /// Masquerade what leaves the pools.
    pub nat_outgoing: bool,
}

/// A change of [`Desired`]: the part's new value, `None` when it is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Of [`Desired::endpoints`].
    Endpoint(Key, Option<Endpoint>),
    /// Of [`Desired::own_blocks`]: is it in there?
    OwnBlock(Prefix, bool),
    /// Of [`Desired::remote`].
    Remote(Prefix, Option<Remote>),
    /// Of [`Desired::borrowed`].
    Borrowed(IpAddr, Option<NodeName>),
    /// Of [`Desired::pools`].
    Pool(String, Option<Pool>),
    /// [`Desired::node_addresses`] as a whole.
    NodeAddresses(Vec<InterfaceAddr>),
    /// Of [`Desired::tunnels`].
    Tunnel(Tunnel, Option<LocalTunnel>),
    /// Of [`Desired::vteps`].
    Vtep(Tunnel, NodeName, Option<Vtep>),
    /// Of [`Desired::hosts`].
    Host(NodeName, Option<Vec<IpAddr>>),
    /// Of [`Desired::floating`].
    Floating(IpAddr, Option<Floating>),
    /// [`Desired::peering`] as a whole.
    Peering(LocalPeering),
    /// [`Desired::settings`] as a whole.
    Settings(Box<Settings>),
}

impl Desired {
    /// Makes the change. Gives `false` when it is none.
    pub fn apply(&mut self, update: &Update) -> bool {
        match update {
            Update::Endpoint(key, value) => put(&mut self.endpoints, key, value.as_ref()),
            Update::OwnBlock(block, true) => self.own_blocks.insert(*block),
            Update::OwnBlock(block, false) => self.own_blocks.remove(block),
            Update::Remote(prefix, value) => put(&mut self.remote, prefix, value.as_ref()),
            Update::Borrowed(ip, value) => put(&mut self.borrowed, ip, value.as_ref()),
            Update::Pool(name, value) => put(&mut self.pools, name, value.as_ref()),
            Update::Tunnel(tunnel, value) => put(&mut self.tunnels, tunnel, value.as_ref()),
            Update::Vtep(tunnel, node, value) => put(&mut self.vteps, &(*tunnel, node.clone()), value.as_ref()),
            Update::Host(node, value) => put(&mut self.hosts, node, value.as_ref()),
            Update::Floating(ip, value) => put(&mut self.floating, ip, value.as_ref()),
            Update::Peering(peering) => {
                let changed = self.peering != *peering;
                self.peering.clone_from(peering);
                changed
            }
            Update::Settings(settings) => {
                let changed = self.settings != **settings;
                self.settings.clone_from(settings);
                changed
            }
            Update::NodeAddresses(all) => {
                let changed = self.node_addresses != *all;
                self.node_addresses.clone_from(all);
                changed
            }
        }
    }
}

fn put<K: Ord + Clone, V: PartialEq + Clone>(map: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) -> bool {
    match value {
        Some(value) if map.get(key) == Some(value) => false,
        Some(value) => {
            map.insert(key.clone(), value.clone());
            true
        }
        None => map.remove(key).is_some(),
    }
}
