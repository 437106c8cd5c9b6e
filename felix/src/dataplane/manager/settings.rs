//! What FelixConfiguration says of routes, and the floating addresses that it switches on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tortie_calc::{Floating, Settings};
use tortie_net::Prefix;
use tortie_netlink::route::Route;

use super::{Manager, RouteClass};

impl Manager {
    pub(super) fn settings_are(&mut self, settings: &Settings) {
        // What is ours may be known by something else now.
        self.dump_wanted |= self.view.marks.change(settings);
        if self.settings.ipv6 != settings.ipv6 || self.settings.metrics != settings.metrics {
            self.dirty.extend(self.entries.iter().map(|(prefix, _)| *prefix));
            self.dirty.extend(self.remotes.prefixes());
            self.dirty.extend(self.workloads.ips().map(Prefix::host));
        }
        self.settings = settings.clone();
        self.use_objects(settings.nexthop_objects);
    }

    /// When all of ours in the kernel has the marks of now, and all that is wanted is known, no route has others any more:
    /// what comes with one later is somebody else's.
    pub(super) fn forget_former_marks(&mut self, own: &[(RouteClass, Arc<Route>)]) {
        let current = self.view.marks.current();
        let is_current =
            |(class, route): &(RouteClass, Arc<Route>)| self.view.class_by(&current, route) == Some(*class);
        let all_known = RouteClass::ALL.into_iter().all(|class| self.source_is_synced(class));
        if all_known && current != self.view.marks && own.iter().all(is_current) {
            self.view.marks = current;
        }
    }

    /// How often the kernel is to be looked at although it told nothing; `None`: never.
    pub fn refresh(&self) -> Option<Duration> {
        self.settings.refresh.routes
    }

    /// A floating address leads there now, or nowhere on this node.
    pub(super) fn floating_is(&mut self, ip: IpAddr, floating: Option<&Floating>) {
        match floating {
            Some(floating) => self.floating.insert(ip, floating.interface.clone()),
            None => self.floating.remove(&ip),
        };
        self.touch(&[ip]);
    }

    /// The interface of the workload on this node that has this address, or that it floats to.
    pub(super) fn interface_of(&self, prefix: Prefix) -> Option<&str> {
        let ip = Some(prefix).filter(|p| p.is_host())?.addr();
        let floats = || self.floating.get(&ip).map(String::as_str);
        self.workloads.interface_of(ip).or_else(floats)
    }
}
