//! What FelixConfiguration says of routes, and the floating addresses that it switches on.

use std::net::IpAddr;
use std::time::Duration;

use tortie_calc::{Floating, Settings};
use tortie_net::Prefix;

use super::Manager;

impl Manager {
    pub(super) fn settings_are(&mut self, settings: &Settings) {
        // What is ours may be known by something else now.
        self.dump_wanted |= self.view.marks.change(settings);
        if self.settings.ipv6 != settings.ipv6 || self.settings.metrics != settings.metrics {
            self.dirty.extend(self.entries.keys().copied());
            self.dirty.extend(self.remotes.prefixes());
            self.dirty.extend(self.workloads.ips().map(Prefix::host));
        }
        self.settings = settings.clone();
        self.use_objects(settings.nexthop_objects);
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
