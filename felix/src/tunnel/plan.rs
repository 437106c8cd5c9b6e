//! From what the pools want and what the kernel holds to the steps in between. Pure.
//!
//! Invariants:
//! * an interface that has a tunnel device's name and is none is not touched;
//! * nothing is removed before the datastore was in sync, and no device before its caller says so;
//! * on `tunl0`, which comes with the kernel's module and may serve others too, only addresses of the pools are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_calc::{LocalTunnel, Settings, Tunnel, Vtep};
use tortie_net::{NodeName, Prefix};
use tortie_netlink::link::{Link, MacAddr};
use tortie_netlink::tunnel::{FdbEntry, Neighbour, Vxlan};

use super::mtu;

/// What the datastore wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The datastore is known, be it from the last good snapshot.
    pub known: bool,
    /// It was in sync, so that absence means something.
    pub live: bool,
    /// The devices.
    pub tunnels: BTreeMap<Tunnel, LocalTunnel>,
    /// The other ends.
    pub vteps: BTreeMap<(Tunnel, NodeName), Vtep>,
    /// The node's own addresses.
    pub own: Vec<IpAddr>,
    /// The pools' networks.
    pub pools: Vec<Prefix>,
    /// What FelixConfigurations say.
    pub settings: Settings,
}

/// What the kernel holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) links: Vec<Link>,
    pub(crate) vxlan: BTreeMap<Tunnel, SeenVxlan>,
}

/// What is particular about a VXLAN device.
#[derive(Debug, Clone)]
pub(crate) struct SeenVxlan {
    pub(crate) made_of: Vxlan,
    pub(crate) fdb: BTreeSet<FdbEntry>,
    pub(crate) neighbours: BTreeSet<Neighbour>,
}

/// One change of the kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    CreateVxlan(Tunnel, Vxlan, MacAddr, u32),
    CreateIpip,
    RemoveDevice(Tunnel),
    SetMtu(Tunnel, u32, u32),
    SetMac(Tunnel, u32, MacAddr),
    SetUp(Tunnel, u32),
    AddAddress(Tunnel, u32, IpAddr),
    RemoveAddress(Tunnel, u32, IpAddr, u8),
    SetFdb(Tunnel, u32, FdbEntry),
    RemoveFdb(Tunnel, u32, FdbEntry),
    SetNeighbour(Tunnel, u32, Neighbour),
    RemoveNeighbour(Tunnel, u32, Neighbour),
}

impl Step {
    /// What it is about, for people: a step that fails is known by it.
    pub(crate) fn object(&self) -> String {
        let of = |tunnel: &Tunnel, what: String| format!("{} {what}", tunnel.device());
        match self {
            Step::CreateVxlan(t, ..) => format!("device {}", t.device()),
            Step::CreateIpip => format!("device {}", Tunnel::Ipip.device()),
            Step::RemoveDevice(t) => format!("device {} (removal)", t.device()),
            Step::SetMtu(t, _, mtu) => of(t, format!("mtu {mtu}")),
            Step::SetMac(t, _, mac) => of(t, format!("address {mac}")),
            Step::SetUp(t, _) => of(t, "up".to_owned()),
            Step::AddAddress(t, _, ip) => of(t, format!("address {ip}")),
            Step::RemoveAddress(t, _, ip, _) => of(t, format!("address {ip} (removal)")),
            Step::SetFdb(t, _, e) => of(t, format!("{} dst {}", e.mac, e.host)),
            Step::RemoveFdb(t, _, e) => of(t, format!("{} dst {} (removal)", e.mac, e.host)),
            Step::SetNeighbour(t, _, n) => of(t, format!("{} lladdr {}", n.address, n.mac)),
            Step::RemoveNeighbour(t, _, n) => of(t, format!("{} (removal)", n.address)),
        }
    }
}

/// What to do, and what cannot be done yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Which device waits, and for what.
    pub(crate) waiting: Vec<(Tunnel, String)>,
}

/// The steps from `seen` to `wanted`. `may_go`: may this device, which no pool wants, be removed?
pub(crate) fn plan(wanted: &Wanted, seen: &Seen, may_go: impl Fn(Tunnel) -> bool) -> Plan {
    let mut plan = Plan::default();
    for tunnel in Tunnel::ALL {
        let link = seen.links.iter().find(|l| l.name == tunnel.device());
        match (wanted.tunnels.get(&tunnel), link) {
            (Some(local), link) => plan.device(wanted, seen, tunnel, (local, link)),
            (None, Some(link)) if wanted.live && may_go(tunnel) => plan.unwanted(wanted, tunnel, link),
            (None, _) => {}
        }
    }
    plan
}

/// Is the interface the kind of device that has its name?
pub(crate) fn is_device(tunnel: Tunnel, link: &Link) -> bool {
    let kind = if tunnel == Tunnel::Ipip { "ipip" } else { "vxlan" };
    link.kind.as_deref() == Some(kind)
}

impl Plan {
    fn wait(&mut self, tunnel: Tunnel, what: String) {
        self.waiting.push((tunnel, what));
    }

    fn unwanted(&mut self, wanted: &Wanted, tunnel: Tunnel, link: &Link) {
        if !is_device(tunnel, link) {
            return;
        }
        if tunnel == Tunnel::Ipip {
            self.addresses(wanted, tunnel, (link, None));
        } else {
            self.steps.push(Step::RemoveDevice(tunnel));
        }
    }

    fn device(&mut self, wanted: &Wanted, seen: &Seen, tunnel: Tunnel, its: (&LocalTunnel, Option<&Link>)) {
        let (local, link) = its;
        if let Some(link) = link.filter(|l| !is_device(tunnel, l)) {
            let kind = link.kind.as_deref().unwrap_or("plain");
            let device = tunnel.device();
            return self.wait(
                tunnel,
                format!("an interface {device} exists that is no such tunnel but {kind}"),
            );
        }
        let Some(host) = local.host else {
            return self.wait(tunnel, "this node has no address of the family in its Node".to_owned());
        };
        let has_it = |l: &&Link| l.addresses.iter().any(|(a, _)| *a == host);
        let Some(parent) = seen.links.iter().find(has_it) else {
            return self.wait(tunnel, format!("no interface has this node's address {host}"));
        };
        let mtu = mtu::of_tunnel(
            mtu::of_host(&seen.links, &wanted.own),
            tunnel,
            wanted.settings.mtu(tunnel),
        );
        let Some(link) = link else {
            let step = match local.mac {
                Some(mac) => Step::CreateVxlan(tunnel, made_of(wanted, parent, host), MacAddr(mac), mtu),
                None => Step::CreateIpip,
            };
            return self.steps.push(step);
        };
        if let (Some(its), Some(mac)) = (seen.vxlan.get(&tunnel), local.mac) {
            let shall = made_of(wanted, parent, host);
            if its.made_of != shall && wanted.live {
                let again = Step::CreateVxlan(tunnel, shall, MacAddr(mac), mtu);
                return self.steps.extend([Step::RemoveDevice(tunnel), again]);
            }
            if link.mac != Some(MacAddr(mac)) {
                self.steps.push(Step::SetMac(tunnel, link.index, MacAddr(mac)));
            }
            self.peers(wanted, tunnel, (link.index, its));
        }
        if link.mtu != mtu {
            self.steps.push(Step::SetMtu(tunnel, link.index, mtu));
        }
        match local.address {
            Some(address) => self.addresses(wanted, tunnel, (link, Some(address))),
            None => self.wait(tunnel, "no tunnel address was allocated yet".to_owned()),
        }
        if !link.up {
            self.steps.push(Step::SetUp(tunnel, link.index));
        }
    }

    /// The device has the wanted address, and no other that is ours.
    fn addresses(&mut self, wanted: &Wanted, tunnel: Tunnel, (link, shall): (&Link, Option<IpAddr>)) {
        let is_there = |ip: IpAddr| link.addresses.iter().any(|(a, _)| *a == ip);
        if let Some(ip) = shall.filter(|ip| !is_there(*ip)) {
            self.steps.push(Step::AddAddress(tunnel, link.index, ip));
        }
        if !wanted.live {
            return;
        }
        let in_pool = |ip: IpAddr| wanted.pools.iter().any(|p| p.contains(ip));
        for (ip, subnet) in &link.addresses {
            let of_family = ip.is_ipv4() == tunnel.is_v4() && !is_link_local(*ip);
            let ours = of_family && (tunnel != Tunnel::Ipip || in_pool(*ip));
            if ours && shall != Some(*ip) {
                let step = Step::RemoveAddress(tunnel, link.index, *ip, subnet.len());
                self.steps.push(step);
            }
        }
    }

    fn peers(&mut self, wanted: &Wanted, tunnel: Tunnel, (index, its): (u32, &SeenVxlan)) {
        let vteps = wanted.vteps.iter().filter(|((t, _), _)| *t == tunnel);
        let (mut fdb, mut neighbours) = (BTreeSet::new(), BTreeSet::new());
        for (_, vtep) in vteps {
            let mac = MacAddr(vtep.mac);
            fdb.insert(FdbEntry { mac, host: vtep.host });
            neighbours.insert(Neighbour {
                address: vtep.address,
                mac,
            });
        }
        let steps = &mut self.steps;
        steps.extend(fdb.difference(&its.fdb).map(|e| Step::SetFdb(tunnel, index, *e)));
        let new = neighbours.difference(&its.neighbours);
        steps.extend(new.map(|n| Step::SetNeighbour(tunnel, index, *n)));
        if wanted.live {
            let gone = its.fdb.difference(&fdb);
            steps.extend(gone.map(|e| Step::RemoveFdb(tunnel, index, *e)));
            // One that is only different was replaced above.
            let kept: BTreeSet<IpAddr> = neighbours.iter().map(|n| n.address).collect();
            let gone = its.neighbours.difference(&neighbours);
            let gone = gone.filter(|n| !kept.contains(&n.address));
            steps.extend(gone.map(|n| Step::RemoveNeighbour(tunnel, index, *n)));
        }
    }
}

fn made_of(wanted: &Wanted, parent: &Link, local: IpAddr) -> Vxlan {
    Vxlan {
        vni: wanted.settings.vxlan_vni,
        port: wanted.settings.vxlan_port,
        parent: parent.index,
        local,
        learning: false,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
