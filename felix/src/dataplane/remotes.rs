//! Routes to what other nodes have, made from the datastore or moved into a tunnel.
//!
//! Of VXLAN pools the routes are made here, from the blocks; of the others BGP brings them, and here is decided whether
//! they go through `tunl0`. What is wanted comes from `calc`; where it leads follows from the kernel's interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_calc::{Carriage, Pool, Remote, Tunnel, Update, carriage};
use tortie_model::InterfaceAddr;
use tortie_net::{NodeName, Prefix};
use tortie_netlink::route::{IfIndex, Kind, NextHop, NextHops, Route};

use super::class::RouteClass;
use super::fib::{FibPath, Resolution};
use super::view::{FibHop, View};
use super::why::Withheld;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    remote: BTreeMap<Prefix, Remote>,
    pools: BTreeMap<String, Pool>,
    own: Vec<InterfaceAddr>,
    /// The ends of the other nodes' IPv6 VXLAN tunnels. The kernel takes no IPv6 gateway, on-link or not, that another
    /// route leads elsewhere, as the block's old route does; so each end has a route of its own.
    ends: BTreeMap<NodeName, Prefix>,
    /// Does a pool want the IPv6 VXLAN device?
    vxlan6: bool,
}

impl Remotes {
    /// Takes what concerns it of an update; gives the prefixes under which the answer may have changed.
    pub(super) fn apply(&mut self, update: &Update) -> Vec<Prefix> {
        match update {
            Update::Remote(prefix, remote) => {
                match remote {
                    Some(remote) => self.remote.insert(*prefix, remote.clone()),
                    None => self.remote.remove(prefix),
                };
                vec![*prefix]
            }
            Update::Pool(name, pool) => {
                let before = match pool {
                    Some(pool) => self.pools.insert(name.clone(), pool.clone()),
                    None => self.pools.remove(name),
                };
                before.iter().chain(pool).map(|p| p.cidr).collect()
            }
            Update::NodeAddresses(addresses) => {
                self.own.clone_from(addresses);
                self.tunneled().collect()
            }
            Update::Tunnel(Tunnel::VxlanV6, wanted) => {
                self.vxlan6 = wanted.is_some();
                self.ends.values().copied().collect()
            }
            Update::Vtep(Tunnel::VxlanV6, node, vtep) => {
                let now = vtep.map(|v| Prefix::host(v.address));
                let before = match now {
                    Some(end) => self.ends.insert(node.clone(), end),
                    None => self.ends.remove(node),
                };
                before.into_iter().chain(now).collect()
            }
            Update::Endpoint(..)
            | Update::OwnBlock(..)
            | Update::Borrowed(..)
            | Update::Tunnel(..)
            | Update::Vtep(..)
            | Update::Host(..)
            | Update::Floating(..)
            | Update::Peering(_)
            | Update::Settings(_) => Vec::new(),
        }
    }

    /// What routes by tunnels lead to: the networks of the pools that have one, and the tunnels' ends.
    pub(super) fn tunneled(&self) -> impl Iterator<Item = Prefix> + '_ {
        let pools = self.pools.values().filter(|p| p.tunnel().is_some()).map(|p| p.cidr);
        pools.chain(self.ends.values().copied())
    }

    /// Every prefix of another node.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.remote.keys().chain(self.ends.values()).copied()
    }

    /// Is it an address of this node, so that routes may leave by its interface?
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.own.iter().any(|a| a.addr == ip)
    }

    /// The class that shall bring the route to another node's prefix.
    pub(super) fn class(&self, prefix: Prefix) -> Option<RouteClass> {
        self.remote.get(&prefix).map(|r| class_of(r.carriage))
    }

    /// The route of this class, or why there is none yet; `None`: the class has nothing to say.
    pub(super) fn route(&self, class: RouteClass, prefix: Prefix, view: &View) -> Option<Result<Arc<Route>, Withheld>> {
        let is_end = || self.vxlan6 && prefix.is_host() && self.ends.values().any(|e| *e == prefix);
        let remote = self.remote.get(&prefix).filter(|r| class_of(r.carriage) == class);
        let hop = match (class, remote) {
            (RouteClass::VxlanTunnel, Some(remote)) => in_vxlan(prefix, remote, view),
            (RouteClass::VxlanTunnel, None) if is_end() => view.up(Tunnel::VxlanV6.device()).map(NextHop::device),
            (RouteClass::SameSubnet, Some(remote)) => self.beside(prefix, remote, view),
            _ => return None,
        };
        Some(hop.map(|hop| {
            let mut route = Route::new(prefix, Kind::Unicast, view.marks.of(class));
            if hop.gateway.is_none() {
                route.scope = tortie_netlink::route::Scope::LINK;
            }
            route.next_hops = Arc::new([hop]);
            Arc::new(route.canonical())
        }))
    }

    /// By the interface with this node's own address, on whose link the other node is.
    fn beside(&self, prefix: Prefix, remote: &Remote, view: &View) -> Result<NextHop, Withheld> {
        let unknown = || Withheld::NoNodeAddress(remote.node.clone());
        let gateway = remote.address.ok_or_else(unknown)?;
        let own = self.own.iter().find(|a| a.addr.is_ipv4() == prefix.is_v4());
        let parent = own.and_then(|a| view.holder(a.addr)).ok_or(Withheld::NoNextHop)?;
        Ok(onlink(gateway, parent))
    }

    /// Next hops of a route of BGP's that shall go through `tunl0`; `None` when none shall.
    ///
    /// bird-rs gives the router that it found a next hop behind. Where the datastore knows which node has the prefix, that
    /// node is the other end, and its address decides.
    pub(super) fn in_ipip(&self, prefix: Prefix, path: &FibPath, view: &View) -> Option<Resolution> {
        if path.kind != Kind::Unicast || !prefix.is_v4() {
            return None;
        }
        if let Some(remote) = self.remote.get(&prefix) {
            let to = remote
                .address
                .filter(|_| remote.carriage == Carriage::Tunnel(Tunnel::Ipip))?;
            let device = view.up(Tunnel::Ipip.device());
            return Some(device.map(|device| Arc::new([onlink(to, device)]) as NextHops));
        }
        let pool = self.pools.values().find(|p| p.cidr.covers(prefix))?;
        let tunneled = |hop: &FibHop| {
            let to = hop.address.filter(IpAddr::is_ipv4)?;
            (carriage(Some(pool), &self.own, Some(to)) == Carriage::Tunnel(Tunnel::Ipip)).then_some(to)
        };
        if !path.hops.iter().any(|h| tunneled(h).is_some()) {
            return None;
        }
        let device = match view.up(Tunnel::Ipip.device()) {
            Ok(device) => device,
            Err(why) => return Some(Err(why)),
        };
        let mut hops: Vec<NextHop> = Vec::new();
        for hop in &path.hops {
            match tunneled(hop) {
                Some(to) => hops.push(NextHop {
                    weight: hop.weight,
                    ..onlink(to, device)
                }),
                None => hops.extend(view.resolve(hop).unwrap_or_default()),
            }
        }
        hops.sort_unstable();
        hops.dedup_by_key(|h| (h.gateway, h.interface));
        Some(Ok(hops.into()))
    }
}

fn class_of(carriage: Carriage) -> RouteClass {
    match carriage {
        Carriage::Tunnel(Tunnel::VxlanV4 | Tunnel::VxlanV6) => RouteClass::VxlanTunnel,
        Carriage::SameSubnet(Tunnel::VxlanV4 | Tunnel::VxlanV6) => RouteClass::SameSubnet,
        Carriage::Plain | Carriage::Tunnel(Tunnel::Ipip) | Carriage::SameSubnet(Tunnel::Ipip) => RouteClass::Bgp,
    }
}

fn in_vxlan(prefix: Prefix, remote: &Remote, view: &View) -> Result<NextHop, Withheld> {
    let tunnel = if prefix.is_v4() {
        Tunnel::VxlanV4
    } else {
        Tunnel::VxlanV6
    };
    let gateway = remote.vtep.ok_or_else(|| Withheld::NoVtep(remote.node.clone()))?;
    let device = view.up(tunnel.device())?;
    if prefix == Prefix::host(gateway) {
        // The end of the tunnel itself.
        return Ok(NextHop::device(device));
    }
    Ok(onlink(gateway, device))
}

fn onlink(gateway: IpAddr, device: IfIndex) -> NextHop {
    NextHop {
        onlink: true,
        ..NextHop::via(gateway, device)
    }
}
