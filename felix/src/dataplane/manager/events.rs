//! The kernel's events: what they change in what is believed of it.

use std::net::IpAddr;
use std::sync::Arc;

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
            Event::InterfaceGone(index) => {
                self.interface_lost(index);
                self.view.interface_gone(index);
                self.forget_taken_down();
                self.reroute = true;
            }
            Event::Address(address) => {
                self.reroute |= self.view.address_is(address);
                self.touch_under(address.subnet);
            }
            Event::AddressGone(address) => {
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
        let renamed = before.filter(|b| b.name != interface.name).map(|b| b.name);
        let names = renamed.into_iter().chain([interface.name.clone()]);
        let ips: Vec<IpAddr> = names
            .flat_map(|n| self.workloads.ips_on(&n).collect::<Vec<_>>())
            .collect();
        self.touch(&ips);
        for (_, route) in self.view.interface_is(interface) {
            self.routes.found(route);
        }
        self.reroute = true;
    }

    /// The kernel has dropped every route that uses this interface, IPv4 ones without a word.
    fn interface_lost(&mut self, index: IfIndex) {
        let uses = |r: &Arc<Route>| r.interfaces().any(|i| i == index);
        let lost: Vec<RouteKey> = self
            .routes
            .all_actual()
            .filter(|(_, r)| uses(r))
            .map(|(k, _)| *k)
            .collect();
        lost.iter().for_each(|key| self.routes.missing(key));
        let inherited = self
            .entries
            .iter()
            .filter(|(_, e)| e.inherited.as_ref().is_some_and(|(_, r)| uses(r)));
        let workloads = self
            .view
            .name(index)
            .into_iter()
            .flat_map(|n| self.workloads.ips_on(n))
            .map(Prefix::host);
        self.dirty.extend(inherited.map(|(p, _)| *p).chain(workloads));
    }
}
