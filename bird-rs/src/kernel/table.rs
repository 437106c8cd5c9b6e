//! One routing table of the kernel's, as one `protocol kernel` sees it: what it wants there, what is there of ours, what is
//! somebody else's. Pure: the task beside it talks to the kernel.
//!
//! A route is ours when it has BIRD's protocol number and the protocol's metric (any, where that is 0): the test that needs no
//! memory of a former life, and that stock BIRD has too.
//!
//! Invariants:
//! * a route of somebody else's is never replaced nor removed; one in the way is reported once, and ours is written when it
//!   has gone;
//! * what was found of ours and nobody wants goes when the engine has told everything (`InSync`), or when it was wanted
//!   before in this life, and never otherwise;
//! * without `export` nothing is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tortie_bgp::config::ChannelFamily;
use tortie_bgp::filter::RouteDestination;
use tortie_bgp::speaker::{Alien, FibNextHop, KernelEntry, KernelSpec};
use tortie_net::Prefix;
use tortie_netlink::monitor::Event;
use tortie_netlink::reconcile::{Reconciler, Rules};
use tortie_netlink::route::{
    Change, IfIndex, Interface, InterfaceAddress, KernelError, Kind, NextHop, Protocol, Refusal, Route, RouteKey, Scope,
};
use tortie_netlink::worker::Dump;
use tortie_replica::Delta;

/// What the kernel's own routes, redirects and those of nobody have for a protocol: not learned, as with BIRD.
const NOT_LEARNED: [Protocol; 4] = [Protocol(0), Protocol(1), Protocol::KERNEL, Protocol::BIRD];
/// Linux' limit of a next hop's weight.
const MAX_WEIGHT: u16 = 256;

/// Routes of others for the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aliens {
    /// These are all.
    pub(crate) complete: bool,
    /// What there is now.
    pub(crate) changes: Vec<(Prefix, Option<Alien>)>,
}

/// A wanted route, and the key it has in the kernel; none while there is no way to its next hops.
#[derive(Debug)]
struct Want {
    entry: KernelEntry,
    key: Option<RouteKey>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    spec: KernelSpec,
    interfaces: BTreeMap<IfIndex, Interface>,
    addresses: BTreeSet<InterfaceAddress>,
    wants: BTreeMap<Prefix, Want>,
    routes: Reconciler,
    foreign: BTreeMap<RouteKey, Arc<Route>>,
    /// What the engine was told of them; `None` before it was.
    told: Option<BTreeMap<Prefix, Alien>>,
    /// Prefixes whose foreign routes changed since.
    touched: BTreeSet<Prefix>,
    /// Before the engine has told everything: keys that were wanted in this life.
    known: BTreeSet<RouteKey>,
    in_sync: bool,
    dump_wanted: bool,
    /// Keys of ours that somebody else has.
    in_the_way: BTreeSet<RouteKey>,
}

impl Rules for Table {
    const RANKS: usize = 1;

    fn rank(&self, _route: &Route) -> Option<usize> {
        self.spec.exports.then_some(0)
    }

    fn is_taken(&self, key: &RouteKey) -> bool {
        self.foreign.contains_key(key)
    }

    fn may_remove(&self, route: &Route) -> bool {
        self.spec.exports && (self.in_sync || self.known.contains(&route.key()))
    }
}

impl Table {
    /// Knows nothing; wants a dump first.
    pub(crate) fn new(spec: KernelSpec) -> Self {
        Table {
            spec,
            interfaces: BTreeMap::new(),
            addresses: BTreeSet::new(),
            wants: BTreeMap::new(),
            routes: Reconciler::default(),
            foreign: BTreeMap::new(),
            told: None,
            touched: BTreeSet::new(),
            known: BTreeSet::new(),
            in_sync: false,
            dump_wanted: true,
            in_the_way: BTreeSet::new(),
        }
    }

    /// The options that change in place.
    pub(crate) fn set_spec(&mut self, spec: KernelSpec) {
        self.spec = spec;
    }

    /// Must the kernel be dumped before anything else?
    pub(crate) fn wants_dump(&self) -> bool {
        self.dump_wanted
    }

    /// Asks for a dump: the regular look is due.
    pub(crate) fn want_dump(&mut self) {
        self.dump_wanted = true;
    }

    /// Nothing is wanted any more, and all that is ours is to go.
    pub(crate) fn end(&mut self) {
        for want in std::mem::take(&mut self.wants).into_values() {
            want.key.iter().for_each(|key| self.routes.unwant(key));
        }
        self.in_sync = true;
    }

    /// Is what is there what is wanted?
    pub(crate) fn is_settled(&self) -> bool {
        !self.dump_wanted && self.routes.is_settled()
    }

    fn is_ours(&self, route: &Route) -> bool {
        // IPv6 has no metric 0: what is written with it comes back with another.
        let metric = self.spec.metric == 0 || route.metric == self.spec.metric;
        route.protocol == Protocol::BIRD && route.tos == 0 && metric
    }

    fn is_of_family(&self, prefix: Prefix) -> bool {
        prefix.is_v4() == (self.spec.family == ChannelFamily::Ipv4)
    }

    // === The kernel ===

    /// Takes a full dump.
    pub(crate) fn loaded(&mut self, dump: Dump) {
        self.dump_wanted = false;
        self.interfaces = dump.interfaces.into_iter().map(|i| (i.index, i)).collect();
        self.addresses = dump.addresses.into_iter().collect();
        let mut before = std::mem::take(&mut self.foreign);
        let mut own = Vec::new();
        for route in dump.routes.into_iter().filter(|r| r.table == self.spec.table) {
            if !self.is_of_family(route.prefix) {
                continue;
            }
            let route = Arc::new(route);
            if self.is_ours(&route) {
                own.push(route);
            } else {
                before.remove(&route.key());
                self.touched.insert(route.prefix);
                self.foreign.insert(route.key(), route);
            }
        }
        self.touched.extend(before.into_keys().map(|key| key.prefix));
        self.routes.found_all(own);
        self.decide_all();
    }

    /// Takes events in their order.
    pub(crate) fn follow(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Route(route) if self.is_of_family(route.prefix) => self.route_is(Arc::new(route)),
                Event::RouteGone(route) if self.is_of_family(route.prefix) => self.route_gone(&route),
                Event::Route(_) | Event::RouteGone(_) => {}
                Event::Interface(interface) => self.interface_is(interface),
                Event::Address(address) => {
                    if self.addresses.insert(address) {
                        self.decide_all();
                    }
                }
                // With an object go its routes, IPv4 ones without a word; what one is now, its routes' own events tell.
                Event::ObjectGone(_) => self.dump_wanted |= self.foreign.values().any(|r| r.object.is_some()),
                Event::Object(_) => {}
                Event::InterfaceGone(_) | Event::AddressGone(_) | Event::Resync => self.dump_wanted = true,
            }
        }
    }

    fn interface_is(&mut self, interface: Interface) {
        match self.interfaces.insert(interface.index, interface.clone()) {
            Some(before) if before == interface => {}
            // Routes go with their interface, some without a word; a name that changes is every route's.
            Some(before) if before.name != interface.name || !interface.up => self.dump_wanted = true,
            Some(_) | None => self.decide_all(),
        }
    }

    fn route_is(&mut self, route: Arc<Route>) {
        let key = route.key();
        if self.is_ours(&route) {
            self.foreign_gone(&key);
            self.routes.found(route);
            return;
        }
        self.routes.missing(&key);
        self.touched.insert(key.prefix);
        self.foreign.insert(key, route);
        self.look_for_conflict(&key);
    }

    fn route_gone(&mut self, route: &Route) {
        let key = route.key();
        // One next hop of several may have gone, which is told as if it had been the route.
        let foreign = self.foreign.get(&key).is_some_and(|known| **known != *route);
        self.dump_wanted |= foreign || self.routes.actual(&key).is_some_and(|known| known != *route);
        self.foreign_gone(&key);
        self.routes.missing(&key);
        self.routes.forgive(&key);
    }

    fn foreign_gone(&mut self, key: &RouteKey) {
        if self.foreign.remove(key).is_some() {
            self.touched.insert(key.prefix);
        }
        self.in_the_way.remove(key);
    }

    // === What is wanted ===

    /// Takes what the engine wants.
    pub(crate) fn want(&mut self, deltas: Vec<Delta<Prefix, KernelEntry>>) {
        for delta in deltas {
            match delta {
                Delta::Set(prefix, entry) => {
                    let key = self.wants.remove(&prefix).and_then(|want| want.key);
                    self.wants.insert(prefix, Want { entry, key });
                    self.decide(prefix);
                }
                Delta::Delete(prefix) => {
                    if let Some(key) = self.wants.remove(&prefix).and_then(|want| want.key) {
                        self.unwant(&key);
                    }
                }
                Delta::InSync => {
                    self.in_sync = true;
                    self.known.clear();
                }
            }
        }
    }

    fn unwant(&mut self, key: &RouteKey) {
        self.routes.unwant(key);
        self.in_the_way.remove(key);
    }

    fn decide_all(&mut self) {
        let prefixes: Vec<Prefix> = self.wants.keys().copied().collect();
        prefixes.into_iter().for_each(|prefix| self.decide(prefix));
    }

    /// Brings one prefix up to date.
    fn decide(&mut self, prefix: Prefix) {
        let Some(want) = self.wants.get(&prefix) else { return };
        let (route, before) = (self.route(prefix, &want.entry), want.key);
        let key = route.as_ref().map(|route| route.key());
        if let Some(before) = before.filter(|before| Some(*before) != key) {
            self.unwant(&before);
        }
        if let Some(want) = self.wants.get_mut(&prefix) {
            want.key = key;
        }
        if let (Some(route), Some(key)) = (route, key) {
            self.routes.want(&route);
            if !self.in_sync {
                self.known.insert(key);
            }
            self.look_for_conflict(&key);
        }
    }

    fn look_for_conflict(&mut self, key: &RouteKey) {
        let (Some(theirs), Some(ours)) = (self.foreign.get(key), self.routes.desired(key)) else {
            return;
        };
        if self.in_the_way.insert(*key) {
            let protocol = &*self.spec.protocol;
            tracing::warn!(protocol, route = %ours, %theirs, "somebody else's route is in the way, ours waits");
        }
    }

    /// A wanted route as the kernel has it; `None` while there is no way to its next hops.
    fn route(&self, prefix: Prefix, entry: &KernelEntry) -> Option<Route> {
        let kind = match entry.destination {
            RouteDestination::Unicast => Kind::Unicast,
            RouteDestination::Blackhole => Kind::Blackhole,
            RouteDestination::Unreachable => Kind::Unreachable,
            RouteDestination::Prohibit => Kind::Prohibit,
        };
        let mut route = Route::new(prefix, kind, Protocol::BIRD);
        (route.table, route.metric, route.source) = (self.spec.table, entry.metric, entry.source);
        if kind == Kind::Unicast {
            route.next_hops = entry.next_hops.iter().filter_map(|hop| self.hop(hop)).collect();
            if route.next_hops.is_empty() {
                return None;
            }
            if route.next_hops.iter().all(|hop| hop.gateway.is_none()) {
                route.scope = Scope::LINK;
            }
        }
        Some(route.canonical())
    }

    fn hop(&self, hop: &FibNextHop) -> Option<NextHop> {
        let interface = match (&hop.interface, hop.address) {
            (Some(name), _) => self.interfaces.values().find(|i| i.name == **name)?.index,
            (None, Some(gateway)) => self.link_of(gateway)?,
            (None, None) => return None,
        };
        self.interfaces.get(&interface).filter(|i| i.up)?;
        Some(NextHop {
            gateway: hop.address,
            interface: Some(interface),
            weight: hop.weight.clamp(1, MAX_WEIGHT),
            onlink: hop.onlink,
        })
    }

    /// The interface on whose subnet an address is; the most specific subnet wins.
    fn link_of(&self, address: IpAddr) -> Option<IfIndex> {
        let near = self.addresses.iter().filter(|a| a.subnet.contains(address));
        near.max_by_key(|a| a.subnet.len()).map(|a| a.interface)
    }

    // === Writing ===

    /// The next changes to make.
    pub(crate) fn plan(&mut self, now: Duration) -> Vec<Change> {
        if self.dump_wanted {
            return Vec::new();
        }
        // The rules ask nothing of it meanwhile.
        let mut routes = std::mem::take(&mut self.routes);
        let changes = routes.plan(now, &*self);
        self.routes = routes;
        changes
    }

    /// What the kernel did with the changes of a plan.
    pub(crate) fn applied(&mut self, changes: &[Change], result: Result<Vec<Refusal>, KernelError>, now: Duration) {
        let written = self.routes.applied(changes, result, now);
        self.dump_wanted |= written.look_again;
    }

    /// When a refused change is tried again.
    pub(crate) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        self.routes.next_deadline(now)
    }

    // === Learning ===

    /// What the engine has not been told yet of the routes of others, if there is such.
    pub(crate) fn aliens(&mut self) -> Option<Aliens> {
        if !self.spec.learn || self.dump_wanted {
            return None;
        }
        let complete = self.told.is_none();
        let mut told = self.told.take().unwrap_or_default();
        let mut changes = Vec::new();
        for prefix in std::mem::take(&mut self.touched) {
            let now = self.alien(prefix);
            if now.as_ref() == told.get(&prefix) {
                continue;
            }
            match &now {
                Some(alien) => drop(told.insert(prefix, alien.clone())),
                None => drop(told.remove(&prefix)),
            }
            changes.push((prefix, now));
        }
        self.told = Some(told);
        (complete || !changes.is_empty()).then_some(Aliens { complete, changes })
    }

    /// Of somebody else's routes to a prefix the one that the kernel prefers.
    fn alien(&self, prefix: Prefix) -> Option<Alien> {
        let first = RouteKey {
            table: self.spec.table,
            prefix,
            tos: 0,
            metric: 0,
        };
        let last = RouteKey {
            metric: u32::MAX,
            ..first
        };
        self.foreign
            .range(first..=last)
            .find_map(|(_, route)| self.learnable(route))
    }

    fn learnable(&self, route: &Route) -> Option<Alien> {
        if NOT_LEARNED.contains(&route.protocol) {
            return None;
        }
        let destination = match route.kind {
            Kind::Unicast => RouteDestination::Unicast,
            Kind::Blackhole => RouteDestination::Blackhole,
            Kind::Unreachable => RouteDestination::Unreachable,
            Kind::Prohibit => RouteDestination::Prohibit,
            Kind::Throw | Kind::Other(_) => return None,
        };
        let hop = |hop: &NextHop| {
            let interface = self.interfaces.get(&hop.interface?)?;
            Some(FibNextHop {
                address: hop.gateway,
                interface: Some(interface.name.as_str().into()),
                weight: hop.weight,
                onlink: hop.onlink,
            })
        };
        let next_hops: Option<Vec<FibNextHop>> = route.next_hops.iter().map(hop).collect();
        let next_hops = next_hops?;
        if destination == RouteDestination::Unicast && next_hops.is_empty() {
            return None;
        }
        let entry = KernelEntry {
            destination,
            next_hops,
            metric: route.metric,
            source: route.source,
        };
        Some(Alien {
            entry,
            protocol: route.protocol.0,
        })
    }
}

#[cfg(test)]
mod tests;
