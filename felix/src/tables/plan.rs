//! Which tables of nftables the datastore wants. Pure.
//!
//! | table | chains | there when |
//! |---|---|---|
//! | `tortie-nat` | `postrouting` | a pool of the family has `natOutgoing`, or there are floating addresses |
//! | the same | `prerouting`, `output` | there are floating addresses of the family |
//! | `tortie-tunnels` | `input`, `forward` | a tunnel device has ends of the family |
//!
//! Each is of one family, so that a kernel that lacks one takes the other's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_calc::{Desired, Nat, Settings, Tunnel};
use tortie_model::Kind;
use tortie_net::Prefix;
use tortie_netlink::nft::{At, Chain, ChainKind, Family, Hook, Rule, Set, Step, Table, TableId, interface_name};

use crate::dataplane::class::WORKLOAD_INTERFACE_PREFIX;

/// How the names of all our tables begin.
pub(super) const OURS: &str = "tortie-";
const NAT: &str = "tortie-nat";
const TUNNELS: &str = "tortie-tunnels";

/// Every table that may be ours.
pub(super) const ALL: [TableId; 4] = [
    of(Family::V4, NAT),
    of(Family::V6, NAT),
    of(Family::V4, TUNNELS),
    of(Family::V6, TUNNELS),
];

/// Behind other translations of sources, kube-proxy's among them (100): the first that fits counts.
const AFTER_OTHERS: i32 = 110;
/// Before other translations of destinations, kube-proxy's among them (-100).
const BEFORE_OTHERS: i32 = -110;
/// Before the filters of others (0), which may let anything in.
const BEFORE_FILTERS: i32 = -10;

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPIP: u8 = 4;

const fn of(family: Family, name: &'static str) -> TableId {
    TableId { family, name }
}

/// What the datastore wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The datastore is known, be it from the last good snapshot.
    pub known: bool,
    /// It was in sync, so that absence means something.
    pub live: bool,
    /// Kinds of which a document cannot be read, so that the absence of one means nothing.
    pub unknown: BTreeSet<Kind>,
    /// The pools, disabled ones too, and whether what leaves them is translated.
    pub pools: BTreeMap<Prefix, bool>,
    /// The nodes' addresses.
    pub hosts: BTreeSet<IpAddr>,
    /// Floating addresses, and those of the workloads that they lead to.
    pub floating: BTreeMap<IpAddr, IpAddr>,
    /// The tunnels in use.
    pub tunnels: BTreeSet<Tunnel>,
    /// What FelixConfigurations say.
    pub settings: Settings,
}

impl Wanted {
    /// What is wanted by these documents. `live`: the datastore was in sync.
    pub fn of(desired: &Desired, live: bool, unknown: BTreeSet<Kind>) -> Self {
        let mut pools = BTreeMap::new();
        for pool in desired.pools.values() {
            *pools.entry(pool.cidr).or_default() |= pool.nat_outgoing;
        }
        Wanted {
            known: true,
            live,
            unknown,
            pools,
            hosts: desired.hosts.values().flatten().copied().collect(),
            floating: desired.floating.iter().map(|(ip, f)| (*ip, f.to)).collect(),
            tunnels: desired.tunnels.keys().copied().collect(),
            settings: desired.settings.clone(),
        }
    }

    /// Is all known that decides what this table shall hold? Else one that is there stays as it is.
    pub(super) fn is_certain(&self, id: TableId) -> bool {
        let decide: &[Kind] = match id.name {
            NAT if self.settings.floating_ips => &[
                Kind::IpPool,
                Kind::FelixConfiguration,
                Kind::Node,
                Kind::WorkloadEndpoint,
            ],
            NAT if self.settings.nat.spares_nodes => &[Kind::IpPool, Kind::FelixConfiguration, Kind::Node],
            NAT => &[Kind::IpPool, Kind::FelixConfiguration],
            _ => &[Kind::IpPool, Kind::FelixConfiguration, Kind::Node],
        };
        self.live && !decide.iter().any(|k| self.unknown.contains(k))
    }

    /// The tables, with all they shall hold.
    pub(super) fn tables(&self) -> BTreeMap<TableId, Table> {
        let nat = |f| (of(f, NAT), self.nat(f));
        let tunnels = |f| (of(f, TUNNELS), self.tunnel_filter(f));
        let used = |f: &Family| self.settings.ipv6 || *f == Family::V4;
        let all = Family::ALL.into_iter().filter(used).flat_map(|f| [nat(f), tunnels(f)]);
        all.filter_map(|(id, table)| Some((id, table?))).collect()
    }

    /// What leaves a pool and goes to no pool gets the node's address, and what goes to a floating address the workload's.
    fn nat(&self, family: Family) -> Option<Table> {
        let of_family = || self.pools.iter().filter(|(p, _)| family.is_of(p.addr()));
        let translated: BTreeSet<Prefix> = of_family().filter(|(_, nat)| **nat).map(|(p, _)| *p).collect();
        let floating: Vec<(IpAddr, IpAddr)> = self.floating.iter().map(|(f, to)| (*f, *to)).collect();
        let floating: Vec<_> = floating.into_iter().filter(|(f, _)| family.is_of(*f)).collect();
        let mut chains = floating_chains(&floating);
        let mut rules: Vec<Rule> = floating.iter().map(|(f, to)| hairpin(*f, *to)).collect();
        if translated.is_empty() && rules.is_empty() {
            return None;
        }
        let nat = &self.settings.nat;
        let mut sets = vec![
            Set {
                name: "nat-pools",
                members: translated,
            },
            Set {
                name: "pools",
                members: of_family().map(|(p, _)| *p).collect(),
            },
        ];
        if nat.spares_nodes {
            let hosts = self.hosts.iter().filter(|h| family.is_of(**h));
            sets.push(Set {
                name: "nodes",
                members: hosts.copied().map(Prefix::host).collect(),
            });
        }
        rules.extend(nat_rules(family, nat));
        chains.push(Chain {
            name: "postrouting",
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: AFTER_OTHERS,
            rules,
        });
        Some(Table { sets, chains })
    }

    /// Packets of tunnels come from nodes alone, and not from workloads.
    fn tunnel_filter(&self, family: Family) -> Option<Table> {
        let v4 = family == Family::V4;
        let ipip = v4 && self.tunnels.contains(&Tunnel::Ipip);
        let vxlan = self
            .tunnels
            .contains(if v4 { &Tunnel::VxlanV4 } else { &Tunnel::VxlanV6 });
        if !ipip && !vxlan {
            return None;
        }
        let settings = &self.settings;
        let nodes = self.hosts.iter().copied().map(Prefix::host);
        let external = settings.external_nodes.iter().copied();
        let members = nodes.chain(external).filter(|p| family.is_of(p.addr()));
        let set = Set {
            name: "nodes",
            members: members.collect(),
        };
        let is_vxlan = [is_vxlan_port(settings.vxlan_port), is_network(settings.vxlan_vni)].concat();
        let tunnels = [(ipip, is_protocol(IPIP)), (vxlan, is_vxlan)];
        let tunnels = || tunnels.iter().filter(|(used, _)| *used).map(|(_, rule)| rule.clone());
        let from_others = |mut rule: Rule| {
            rule.extend([Step::Look(At::Source), Step::NotIn("nodes"), Step::Drop]);
            rule
        };
        let allowed = [
            (ipip && !settings.workloads_send_ipip, is_protocol(IPIP)),
            (
                vxlan && !settings.workloads_send_vxlan,
                is_vxlan_port(settings.vxlan_port),
            ),
        ];
        let from_workloads = |rule: Rule| {
            let workload = Step::Is(WORKLOAD_INTERFACE_PREFIX.as_bytes().to_vec());
            let from = vec![Step::Look(At::InInterface), workload];
            [from, rule, vec![Step::Drop]].concat()
        };
        let chain = |name, hook, rules| Chain {
            name,
            kind: ChainKind::Filter,
            hook,
            priority: BEFORE_FILTERS,
            rules,
        };
        let forward = allowed.into_iter().filter(|(refused, _)| *refused);
        Some(Table {
            sets: vec![set],
            chains: vec![
                chain("input", Hook::Input, tunnels().map(from_others).collect()),
                chain(
                    "forward",
                    Hook::Forward,
                    forward.map(|(_, rule)| from_workloads(rule)).collect(),
                ),
            ],
        })
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// What others, and this host, send to a floating address goes to its workload.
fn floating_chains(floating: &[(IpAddr, IpAddr)]) -> Vec<Chain> {
    if floating.is_empty() {
        return Vec::new();
    }
    let translate = |(floating, to): &(IpAddr, IpAddr)| {
        let destination = Step::Look(At::Destination);
        vec![destination, Step::Is(octets(*floating)), Step::Destination(*to)]
    };
    let chain = |(name, hook)| Chain {
        name,
        kind: ChainKind::Nat,
        hook,
        priority: BEFORE_OTHERS,
        rules: floating.iter().map(translate).collect(),
    };
    [("prerouting", Hook::Prerouting), ("output", Hook::Output)]
        .map(chain)
        .to_vec()
}

/// A workload that sends to its own floating address is answered from there.
fn hairpin(floating: IpAddr, to: IpAddr) -> Rule {
    vec![
        Step::Look(At::Source),
        Step::Is(octets(to)),
        Step::Look(At::Destination),
        Step::Is(octets(to)),
        Step::Source(floating, None),
    ]
}

fn is_protocol(protocol: u8) -> Rule {
    vec![Step::Look(At::Protocol), Step::Is(vec![protocol])]
}

/// UDP to VXLAN's port.
fn is_vxlan_port(port: u16) -> Rule {
    let mut rule = is_protocol(UDP);
    let destination = At::Transport { offset: 2, len: 2 };
    rule.extend([Step::Look(destination), Step::Is(port.to_be_bytes().into())]);
    rule
}

/// The network in VXLAN's header, which follows UDP's: others may use VXLAN on this host for networks of their own.
fn is_network(vni: u32) -> Rule {
    let [_, network @ ..] = vni.to_be_bytes();
    vec![
        Step::Look(At::Transport { offset: 12, len: 3 }),
        Step::Is(network.into()),
    ]
}

fn nat_rules(family: Family, nat: &Nat) -> Vec<Rule> {
    let mut leaves = Vec::new();
    if let Some(interface) = &nat.interface {
        leaves.extend([Step::Look(At::OutInterface), Step::Is(interface_name(interface))]);
    }
    leaves.extend([
        Step::Look(At::Source),
        Step::In("nat-pools"),
        Step::Look(At::Destination),
        Step::NotIn("pools"),
    ]);
    if nat.spares_nodes {
        leaves.push(Step::NotIn("nodes"));
    }
    let address = nat.address.filter(|a| family.is_of(*a));
    let translate = |ports| match address {
        Some(address) => Step::Source(address, ports),
        None => Step::Masquerade(ports),
    };
    let rule = |condition: Rule, ports| [leaves.clone(), condition, vec![translate(ports)]].concat();
    let mut rules = Vec::new();
    if let Some(ports) = nat.ports {
        rules.extend([TCP, UDP].map(|p| rule(is_protocol(p), Some(ports))));
    }
    rules.push(rule(Vec::new(), None));
    rules
}

#[cfg(test)]
mod tests;
