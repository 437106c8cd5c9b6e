//! The kernel's events: what they change in what is believed of it.

use std::net::IpAddr;
use std::sync::Arc;

use tortie_calc::Tunnel;
use tortie_net::Prefix;
use tortie_netlink::monitor::Event;
use tortie_netlink::route::{IfIndex, Interface, Route, RouteKey};

use super::Manager;
use crate::dataplane::class::RouteClass;

impl Manager {
    pub(super) fn kernel(&mut self, event: Event) {
        match event {
            Event::Route(route) => self.route_is(Arc::new(route)),
            Event::RouteGone(route) => {
                self.reroute |= self.view.class(&route) != Some(RouteClass::Bgp);
                self.view.route_gone(&route.key());
                self.routes.missing(&route.key());
                self.routes.forgive(&route.key());
            }
            Event::Interface(interface) => self.interface_is(interface),
            Event::Object(object) => self.object_is(object),
            Event::ObjectGone(id) => self.object_gone(id),
            Event::InterfaceGone(index) => {
                self.carrier_lost(index);
                self.interface_lost(index);
                self.view.interface_gone(index);
                self.forget_taken_down();
                self.reroute = true;
            }
            Event::Address(address) => {
                self.own_address_touched(address.address);
                self.reroute |= self.view.address_is(address);
                self.touch_under(address.subnet);
            }
            Event::AddressGone(address) => {
                self.own_address_touched(address.address);
                if self.view.address_gone(&address) {
                    self.reroute = true;
                    self.touch_under(address.subnet);
                    // The kernel removes IPv4 routes with their address, and says nothing.
                    self.dump_wanted |= address.address.is_ipv4();
                }
            }
            Event::Resync => self.dump_wanted = true,
        }
    }

    fn route_is(&mut self, route: Arc<Route>) {
        // What the kernel says of an object's next hops is the object's matter, if it says anything.
        let route = self.routes.as_wanted(route);
        self.dump_wanted |= route.object.is_some() && route.next_hops.is_empty();
        match self.view.class(&route) {
            Some(class) => {
                self.view.own_is(class, &route);
                self.reroute |= class != RouteClass::Bgp;
                self.routes.found(route);
            }
            None => {
                self.routes.missing(&route.key());
                self.view.foreign_is(&route);
                self.reroute = true;
            }
        }
    }

    fn interface_is(&mut self, interface: Interface) {
        let before = self.view.interface(interface.index).cloned();
        if before.as_ref() == Some(&interface) {
            return;
        }
        if before.as_ref().is_some_and(|b| b.up) && !interface.up {
            self.interface_lost(interface.index);
        }
        if !interface.carrier {
            self.carrier_lost(interface.index);
        }
        self.routes.forgive_objects();
        let renamed = before.filter(|b| b.name != interface.name).map(|b| b.name);
        let names = renamed.into_iter().chain([interface.name.clone()]);
        let ips: Vec<IpAddr> = names.flat_map(|n| self.ips_on(&n)).collect();
        self.touch(&ips);
        let (index, name) = (interface.index, interface.name.clone());
        for (_, route) in self.view.interface_is(interface) {
            self.routes.found(route);
        }
        self.way_touched(index, &name);
        self.reroute = true;
    }

    fn own_address_touched(&mut self, ip: IpAddr) {
        if self.remotes.is_own(ip) {
            self.tunneled_touched();
        }
    }

    /// Routes to other nodes that lead by this interface may be possible now, or no longer.
    fn way_touched(&mut self, index: IfIndex, name: &str) {
        let has_own = || self.view.addresses_on(index).any(|ip| self.remotes.is_own(ip));
        if Tunnel::ALL.iter().any(|t| t.device() == name) || has_own() {
            self.tunneled_touched();
        }
    }

    fn tunneled_touched(&mut self) {
        let pools: Vec<Prefix> = self.remotes.tunneled().collect();
        pools.into_iter().for_each(|pool| self.touch_under(pool));
    }

    /// The addresses that lead to an interface, floating ones among them.
    fn ips_on(&self, interface: &str) -> Vec<IpAddr> {
        let floating = self.floating.iter().filter(|(_, i)| *i == interface);
        self.workloads
            .ips_on(interface)
            .chain(floating.map(|(ip, _)| *ip))
            .collect()
    }

    /// The kernel has dropped every route that uses this interface, IPv4 ones without a word.
    fn interface_lost(&mut self, index: IfIndex) {
        if let Some(name) = self.view.name(index).map(str::to_owned) {
            self.way_touched(index, &name);
        }
        let uses = |r: &Arc<Route>| r.interfaces().any(|i| i == index);
        let lost: Vec<RouteKey> = self
            .routes
            .all_actual()
            .filter(|(_, way)| way.interfaces().any(|i| i == index))
            .map(|(k, _)| *k)
            .collect();
        lost.iter().for_each(|key| self.routes.missing(key));
        let inherited = self
            .entries
            .iter()
            .filter(|(_, e)| e.inherited().is_some_and(|(_, r)| uses(r)));
        let workloads = self
            .view
            .name(index)
            .into_iter()
            .flat_map(|n| self.ips_on(n))
            .map(Prefix::host);
        let touched: Vec<Prefix> = inherited.map(|(p, _)| *p).chain(workloads).collect();
        self.dirty.extend(touched);
    }
}
