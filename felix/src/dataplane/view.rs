//! What the kernel holds that felix did not write and must know: interfaces, addresses, other people's routes.
//!
//! Also the answer to "how does this host reach that next hop", which is the kernel's own (longest match, lowest metric)
//! over every route but those learned by BGP: a BGP route must not resolve a BGP next hop, or two of them would hold
//! each other up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::{Prefix, PrefixMap};
use tortie_netlink::route::object::ObjectId;
use tortie_netlink::route::{IfIndex, Interface, InterfaceAddress, Kind, NextHop, Route, RouteKey};

use super::class::{RouteClass, WORKLOAD_INTERFACE_PREFIX, by_name};
use super::marks::Marks;
use super::why::Withheld;

/// A next hop as bird-rs gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FibHop {
    /// The router; `None`: the destination is on the link of `interface`.
    pub address: Option<IpAddr>,
    /// The interface, when bird-rs knows it.
    pub interface: Option<String>,
    /// The share of the flows, from 1.
    pub weight: u16,
    /// The router is on the interface's link although no route says so.
    pub onlink: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct View {
    interfaces: BTreeMap<IfIndex, Interface>,
    by_name: BTreeMap<String, IfIndex>,
    addresses: BTreeSet<InterfaceAddress>,
    foreign: BTreeMap<RouteKey, Arc<Route>>,
    /// Every route but BGP's, by metric: what resolves next hops.
    resolving: PrefixMap<BTreeMap<u32, Arc<Route>>>,
    /// By what routes of ours are known. After a change everything has to be loaded anew.
    pub(super) marks: Marks,
}

impl View {
    /// A view from full dumps; gives the routes that are ours, by these marks, along with it.
    pub fn load(
        interfaces: Vec<Interface>,
        addresses: Vec<InterfaceAddress>,
        routes: Vec<Route>,
        marks: Marks,
    ) -> (View, Vec<(RouteClass, Arc<Route>)>) {
        let mut view = View {
            addresses: addresses.into_iter().collect(),
            marks,
            ..View::default()
        };
        for interface in interfaces {
            view.by_name.insert(interface.name.clone(), interface.index);
            view.interfaces.insert(interface.index, interface);
        }
        let mut own = Vec::new();
        for route in routes.into_iter().map(Arc::new) {
            match view.class(&route) {
                Some(class) => {
                    view.own_is(class, &route);
                    own.push((class, route));
                }
                None => view.foreign_is(&route),
            }
        }
        (view, own)
    }

    /// The class of a route that is ours.
    pub fn class(&self, route: &Route) -> Option<RouteClass> {
        self.class_by(&self.marks, route)
    }

    /// The class of a route that is ours by these marks.
    pub(super) fn class_by(&self, marks: &Marks, route: &Route) -> Option<RouteClass> {
        RouteClass::of(route, marks, |i| self.name(i).map(str::to_owned))
    }

    /// An interface's name.
    pub fn name(&self, index: IfIndex) -> Option<&str> {
        self.interfaces.get(&index).map(|i| i.name.as_str())
    }

    /// The index of an interface that is up.
    pub fn up(&self, name: &str) -> Result<IfIndex, Withheld> {
        let index = self
            .by_name
            .get(name)
            .ok_or_else(|| Withheld::NoInterface(name.to_owned()))?;
        if self.is_up(*index) {
            Ok(*index)
        } else {
            Err(Withheld::InterfaceDown(name.to_owned()))
        }
    }

    /// Is there an interface of this name, up or down?
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Is it there and up?
    pub fn is_up(&self, index: IfIndex) -> bool {
        self.interfaces.get(&index).is_some_and(|i| i.up)
    }

    /// An interface as it is known.
    pub fn interface(&self, index: IfIndex) -> Option<&Interface> {
        self.interfaces.get(&index)
    }

    /// The interface is like this now. Routes that turn out to be ours, now that its name is known, are handed over.
    pub fn interface_is(&mut self, interface: Interface) -> Vec<(RouteClass, Arc<Route>)> {
        let index = interface.index;
        let before = self.interfaces.insert(index, interface.clone());
        let renamed = before.as_ref().is_none_or(|b| b.name != interface.name);
        if let Some(before) = before.filter(|_| renamed)
            && self.by_name.get(&before.name) == Some(&index)
        {
            self.by_name.remove(&before.name);
        }
        self.by_name.insert(interface.name.clone(), index);
        if !interface.up {
            self.forget_routes(index);
        }
        if !renamed || by_name(&interface.name).is_none() {
            return Vec::new();
        }
        let on_it = self.foreign.values().filter(|r| r.interfaces().any(|i| i == index));
        let ours: Vec<_> = on_it.filter_map(|r| Some((self.class(r)?, Arc::clone(r)))).collect();
        for (_, route) in &ours {
            self.foreign.remove(&route.key());
        }
        ours
    }

    /// The interface is gone, with its addresses and routes.
    pub fn interface_gone(&mut self, index: IfIndex) {
        if let Some(before) = self.interfaces.remove(&index)
            && self.by_name.get(&before.name) == Some(&index)
        {
            self.by_name.remove(&before.name);
        }
        self.addresses.retain(|a| a.interface != index);
        self.forget_routes(index);
    }

    fn forget_routes(&mut self, index: IfIndex) {
        let uses = |r: &Route| r.interfaces().any(|i| i == index);
        self.foreign.retain(|_, r| !uses(r));
        let on_it = self.resolving.iter().flat_map(|(_, m)| m.values()).filter(|r| uses(r));
        let keys: Vec<RouteKey> = on_it.map(|r| r.key()).collect();
        keys.iter().for_each(|key| self.unresolve(key));
    }

    /// The address is there; gives `false` when that is known.
    pub fn address_is(&mut self, address: InterfaceAddress) -> bool {
        self.addresses.insert(address)
    }

    /// The address is gone; gives `false` when that is known.
    pub fn address_gone(&mut self, address: &InterfaceAddress) -> bool {
        self.addresses.remove(address)
    }

    /// Somebody else's route is there.
    pub fn foreign_is(&mut self, route: &Arc<Route>) {
        self.foreign.insert(route.key(), Arc::clone(route));
        self.resolve_by(route);
    }

    /// The route with this key is gone, whoever's it was.
    pub fn route_gone(&mut self, key: &RouteKey) {
        self.foreign.remove(key);
        self.unresolve(key);
    }

    /// One of ours is in the kernel; it resolves next hops unless it was learned by BGP.
    pub fn own_is(&mut self, class: RouteClass, route: &Arc<Route>) {
        self.foreign.remove(&route.key());
        match class {
            RouteClass::Bgp => self.unresolve(&route.key()),
            RouteClass::LocalWorkload | RouteClass::SameSubnet | RouteClass::VxlanTunnel | RouteClass::OwnBlock => {
                self.resolve_by(route);
            }
        }
    }

    fn resolve_by(&mut self, route: &Arc<Route>) {
        if route.tos != 0 {
            return;
        }
        match self.resolving.remove(route.prefix) {
            Some(mut metrics) => {
                metrics.insert(route.metric, Arc::clone(route));
                self.resolving.insert(route.prefix, metrics);
            }
            None => {
                self.resolving
                    .insert(route.prefix, BTreeMap::from([(route.metric, Arc::clone(route))]));
            }
        }
    }

    fn unresolve(&mut self, key: &RouteKey) {
        let Some(mut metrics) = self.resolving.remove(key.prefix) else {
            return;
        };
        if key.tos == 0 {
            metrics.remove(&key.metric);
        }
        if !metrics.is_empty() {
            self.resolving.insert(key.prefix, metrics);
        }
    }

    /// Does somebody else's route go by this nexthop object?
    pub fn names_object(&self, id: ObjectId) -> bool {
        self.foreign.values().any(|r| r.object == Some(id))
    }

    /// Somebody else's route that takes this key.
    pub fn foreign_at(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.foreign.get(key)
    }

    /// Somebody else's route to the same prefix that the kernel prefers to this one.
    pub fn shadow_of(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        let metrics = self.resolving.get(key.prefix)?;
        metrics
            .range(..key.metric)
            .map(|(_, r)| r)
            .find(|r| self.foreign.contains_key(&r.key()))
    }

    /// The subnet on one of this node's own links, workloads' interfaces aside, that has this prefix in it.
    pub fn subnet_over(&self, prefix: Prefix) -> Option<Prefix> {
        // Every workload's interface has an address: which interface it is is asked last.
        let over = |a: &&InterfaceAddress| a.subnet.covers(prefix) && !a.subnet.is_host() && self.is_hosts(a);
        self.addresses.iter().find(over).map(|a| a.subnet)
    }

    /// Is it this host's own address?
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|a| a.address == ip)
    }

    /// The interface, up, that has this address of the host's.
    pub fn holder(&self, ip: IpAddr) -> Option<IfIndex> {
        let holds = |a: &&InterfaceAddress| a.address == ip && self.is_hosts(a);
        let holders = self.addresses.iter().filter(holds).map(|a| a.interface);
        holders
            .into_iter()
            .find(|i| self.is_up(*i) && self.name(*i) != Some("lo"))
    }

    /// The addresses of an interface.
    pub fn addresses_on(&self, index: IfIndex) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses
            .iter()
            .filter(move |a| a.interface == index)
            .map(|a| a.address)
    }

    /// Is it on an interface of the host's own, not a workload's?
    fn is_hosts(&self, address: &InterfaceAddress) -> bool {
        let name = self.name(address.interface);
        !name.is_some_and(|n| n.starts_with(WORKLOAD_INTERFACE_PREFIX))
    }

    /// How the kernel reaches a next hop: on the link, or by the routers it uses for that address.
    ///
    /// # Errors
    /// Why it does not.
    pub fn resolve(&self, hop: &FibHop) -> Result<Vec<NextHop>, Withheld> {
        if let Some(name) = &hop.interface {
            let interface = Some(self.up(name)?);
            return Ok(vec![NextHop {
                gateway: hop.address,
                interface,
                weight: hop.weight,
                onlink: hop.onlink,
            }]);
        }
        let address = hop.address.ok_or(Withheld::NoNextHop)?;
        if self.is_own(address) {
            return Err(Withheld::OwnNextHop(address));
        }
        let matching: Vec<_> = self.resolving.matches(Prefix::host(address)).map(|(_, m)| m).collect();
        let routes = matching.into_iter().rev().flat_map(BTreeMap::values);
        let unreachable = Withheld::Unreachable(address);
        for route in routes {
            if route.kind != Kind::Unicast {
                return Err(unreachable);
            }
            let usable = route
                .next_hops
                .iter()
                .filter(|h| h.interface.is_some_and(|i| self.is_up(i)));
            let hops: Vec<NextHop> = usable.map(|h| via(h, address, hop.weight)).collect();
            if !hops.is_empty() {
                return Ok(hops);
            }
        }
        Err(unreachable)
    }
}

/// The next hop `address` reached as the route's next hop says.
fn via(hop: &NextHop, address: IpAddr, weight: u16) -> NextHop {
    NextHop {
        gateway: Some(hop.gateway.unwrap_or(address)),
        weight: hop.weight.saturating_mul(weight).clamp(1, 256),
        ..*hop
    }
}
