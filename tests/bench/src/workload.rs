//! What is measured: how many peers, of which kind, with how many routes, and who must hear of what.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The daemon's own AS.
pub(crate) const DAEMON_AS: u32 = 65000;
/// The daemon's address; the peers' are in the same /16.
pub(crate) const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 99, 255, 254);

/// A dense range of prefixes of one length: a prefix and its index are computed from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefixes {
    /// IPv6 instead of IPv4?
    pub(crate) v6: bool,
    /// Length of each.
    pub(crate) len: u8,
    /// How many.
    pub(crate) count: u32,
}

impl Prefixes {
    /// 16.0.0.0 or 2a10::, aligned to the top of 128 bits.
    fn base(&self) -> u128 {
        if self.v6 { 0x2a10 << 112 } else { 16 << 120 }
    }

    /// The address, aligned to the top of 128 bits, and the length of a prefix.
    pub(crate) fn bits(&self, index: u32) -> (u128, u8) {
        (self.base() + (u128::from(index) << (128 - self.len)), self.len)
    }

    /// The address of an IPv4 prefix.
    pub(crate) fn address(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.bits(index).0 >> 96) as u32)
    }

    /// The index of a prefix, if it is one of these.
    pub(crate) fn index(&self, bits: u128, len: u8) -> Option<u32> {
        let offset = bits.checked_sub(self.base())? >> (128 - self.len);
        (len == self.len && offset < u128::from(self.count)).then_some(offset as u32)
    }
}

/// The import policy, and whether the routes have what it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    /// Short paths and one community, everything accepted.
    Plain,
    /// Longer paths and several communities, everything accepted.
    Rich,
    /// The same routes through a filter, see [`crate::policy`].
    Filtered,
}

/// What is done with the peers once the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Sessions up, everyone announces, changes, withdraws.
    Phases,
    /// The peers try to connect from before the daemon's start until all sessions are up.
    Cold,
    /// One peer changes one route, this many times; each waits until all have it.
    Deliver { rounds: u32 },
    /// Everyone changes everything, this many times, while one peer reads nothing.
    Slow { rounds: u32 },
    /// One route of a hundred changes in every second, for so many seconds.
    Churn { seconds: u32 },
    /// The daemon is killed and started; the peers come back and announce again.
    Restart,
    /// Each peer has a daemon of its own, and the daemons a full mesh.
    Mesh,
    /// Routes go into the kernel.
    Kernel,
    /// A node with routes and so many workloads gets one more, and then nothing happens for so many seconds.
    Node { endpoints: u32, seconds: u32 },
    /// The peers are typha's sync clients: all come, some single updates, then many for so many seconds. The cluster's
    /// size is divided.
    Sync { rounds: u32, seconds: u32, shrink: u32 },
    /// Several typhas are restarted in turn.
    Rolling { shrink: u32 },
}

/// One row of the benchmark.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// Its name on the command line.
    pub(crate) name: String,
    /// For people.
    pub(crate) title: String,
    /// Peers that announce.
    pub(crate) senders: u32,
    /// Peers that only listen, beside the senders.
    pub(crate) listeners: u32,
    /// Routes of each sender.
    pub(crate) routes: u32,
    /// eBGP peers, each with its own AS, instead of reflector clients.
    pub(crate) ebgp: bool,
    /// IPv6?
    pub(crate) v6: bool,
    /// Prefixes in one UPDATE.
    pub(crate) per_update: usize,
    /// What becomes of routes on their way in.
    pub(crate) import: Import,
    /// What happens.
    pub(crate) scenario: Scenario,
    /// All prefixes of the run.
    pub(crate) prefixes: Prefixes,
}

impl Workload {
    fn new(name: &str, title: &str, senders: u32, listeners: u32, routes: u32, len: u8) -> Self {
        Workload {
            name: name.to_owned(),
            title: title.to_owned(),
            senders,
            listeners,
            routes,
            ebgp: true,
            v6: false,
            per_update: 4,
            import: Import::Plain,
            scenario: Scenario::Phases,
            prefixes: Prefixes {
                v6: false,
                len,
                count: senders * routes,
            },
        }
    }

    /// A route reflector and its clients, each with some /26.
    pub(crate) fn reflector(clients: u32, routes: u32) -> Self {
        let title = format!("reflector: {clients} clients x {routes} /26");
        let new = Workload::new(&format!("rr{clients}"), &title, clients, 0, routes, 26);
        Workload {
            ebgp: false,
            per_update: 10,
            ..new
        }
    }

    /// One full table from one eBGP peer to another.
    pub(crate) fn full_table(routes: u32) -> Self {
        Workload::new(
            "full",
            &format!("full table: 1 sender x {routes} /24 -> 1 receiver"),
            1,
            1,
            routes,
            24,
        )
    }

    /// The same with routes as a transit provider sends them, without and with an import filter.
    pub(crate) fn filter(routes: u32, import: Import) -> Self {
        let with = if import == Import::Filtered { "with" } else { "without" };
        let title = format!("import {with} a filter: 1 sender x {routes} /24 -> 1 receiver");
        Workload {
            import,
            ..Workload::new("filter", &title, 1, 1, routes, 24)
        }
    }

    /// Sessions over which nothing is said.
    pub(crate) fn idle(sessions: u32) -> Self {
        Workload::new("idle", &format!("{sessions} idle sessions"), 0, sessions, 0, 24)
    }

    /// An exchange: everyone announces to everyone.
    pub(crate) fn exchange(peers: u32, routes: u32) -> Self {
        Workload::new(
            "exchange",
            &format!("exchange: {peers} eBGP peers x {routes} /24"),
            peers,
            0,
            routes,
            24,
        )
    }

    /// A reflector on which something else happens than the usual phases.
    pub(crate) fn scenario(name: &str, clients: u32, scenario: Scenario) -> Self {
        const ROUTES: u32 = 10;
        let what = match scenario {
            Scenario::Phases
            | Scenario::Mesh
            | Scenario::Kernel
            | Scenario::Node { .. }
            | Scenario::Sync { .. }
            | Scenario::Rolling { .. } => String::new(),
            Scenario::Cold => "from cold".to_owned(),
            Scenario::Deliver { rounds } => format!("one route changes, {rounds} times"),
            Scenario::Slow { rounds } => format!("one reads nothing while all change {rounds} times"),
            Scenario::Churn { seconds } => format!("1 % of the routes change each second for {seconds} s"),
            Scenario::Restart => "the reflector restarts".to_owned(),
        };
        Workload {
            name: name.to_owned(),
            title: format!("reflector: {clients} clients x {ROUTES} /26, {what}"),
            scenario,
            ..Workload::reflector(clients, ROUTES)
        }
    }

    /// A full mesh of so many daemons, each with some routes from outside.
    pub(crate) fn mesh(nodes: u32) -> Self {
        const ROUTES: u32 = 10;
        let title = format!("full mesh: {nodes} daemons x {ROUTES} /26");
        Workload {
            scenario: Scenario::Mesh,
            per_update: 10,
            ..Workload::new("mesh", &title, nodes, 0, ROUTES, 26)
        }
    }

    /// Routes for the kernel, of which many have the same attributes: this is not about BGP.
    pub(crate) fn kernel(name: &str, routes: u32) -> Self {
        Workload {
            scenario: Scenario::Kernel,
            per_update: 100,
            ..Workload::new(name, &format!("kernel: {routes} /24"), 1, 0, routes, 24)
        }
    }

    /// A node with so many workloads, and routes of others.
    pub(crate) fn node(name: &str, routes: u32, endpoints: u32, seconds: u32) -> Self {
        Workload {
            scenario: Scenario::Node { endpoints, seconds },
            title: format!("node: {endpoints} endpoints, {routes} /24"),
            ..Workload::kernel(name, routes)
        }
    }

    /// typha's clients; `scenario` says what they do.
    pub(crate) fn sync(name: &str, clients: u32, scenario: Scenario) -> Self {
        let what = match scenario {
            Scenario::Rolling { .. } => "of 3 typhas that restart in turn",
            _ => "of one typha",
        };
        let title = format!("typha: {clients} sync clients {what}");
        Workload {
            scenario,
            ..Workload::new(name, &title, clients, 0, 0, 24)
        }
    }

    /// A table of which 1 % changes in every second.
    pub(crate) fn churn(routes: u32, seconds: u32) -> Self {
        let title = format!("churn: 1 % of {routes} /24 per second for {seconds} s, 1 sender -> 1 receiver");
        Workload {
            scenario: Scenario::Churn { seconds },
            ..Workload::new("churn", &title, 1, 1, routes, 24)
        }
    }

    /// The same with the other family.
    pub(crate) fn with_family(mut self, v6: bool) -> Self {
        self.v6 = v6;
        self.prefixes = Prefixes {
            v6,
            len: if v6 { 64 } else { self.prefixes.len },
            ..self.prefixes
        };
        if v6 {
            self.name += "-v6";
            self.title += ", IPv6 (/64)";
        }
        self
    }

    /// The same under another name on the command line.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Its name in the results: the one on the command line, but for what belongs to another row.
    pub(crate) fn row(&self) -> &str {
        match self.import {
            Import::Rich => "filter-base",
            Import::Plain | Import::Filtered => &self.name,
        }
    }

    /// What it takes however fast the daemon is.
    pub(crate) fn clock(&self) -> Duration {
        match self.scenario {
            Scenario::Churn { seconds } => Duration::from_secs(seconds.into()),
            Scenario::Mesh => Duration::from_secs(u64::from(self.senders) / 3),
            Scenario::Kernel => Duration::from_secs(u64::from(self.prefixes.count) / 20_000),
            Scenario::Node { seconds, .. } => Duration::from_secs(u64::from(seconds) + 20),
            Scenario::Sync { rounds, seconds, .. } => Duration::from_secs(u64::from(30 + seconds + rounds / 4)),
            Scenario::Rolling { .. } => Duration::from_secs(60),
            Scenario::Phases
            | Scenario::Cold
            | Scenario::Deliver { .. }
            | Scenario::Slow { .. }
            | Scenario::Restart => Duration::ZERO,
        }
    }

    /// About how long one of our own programs takes with it, everything around it counted.
    pub(crate) fn about(&self) -> Duration {
        self.clock() + Duration::from_secs(12)
    }

    /// How many peers there are.
    pub(crate) fn peers(&self) -> u32 {
        self.senders + self.listeners
    }

    /// A peer's AS number.
    pub(crate) fn asn_of(&self, peer: u32) -> u32 {
        if self.ebgp { 4_200_000_000 + peer } else { DAEMON_AS }
    }

    /// A peer's address.
    pub(crate) fn address_of(&self, peer: u32) -> Ipv4Addr {
        let (high, low) = (peer / 250, peer % 250);
        Ipv4Addr::new(10, 99, high as u8, low as u8 + 1)
    }

    /// The address of the daemon that a peer speaks with.
    pub(crate) fn daemon_of(&self, peer: u32) -> Ipv4Addr {
        match self.scenario {
            Scenario::Mesh => Ipv4Addr::new(10, 99, 254, peer as u8 + 1),
            _ => DAEMON,
        }
    }

    /// The IPv4 next hop of a peer's route in this version: its own address, but in the rows about the kernel, where routes
    /// are replaced by ones with some others, and then all point to yet another.
    pub(crate) fn next_hop_of(&self, peer: u32, index: u32, version: u8) -> Ipv4Addr {
        match (self.scenario, version) {
            (Scenario::Kernel, 2) => Ipv4Addr::new(10, 99, 0, 10 + (index / self.per_update as u32 % 8) as u8),
            (Scenario::Kernel, 3) => Ipv4Addr::new(10, 99, 0, 30),
            _ => self.address_of(peer),
        }
    }

    /// A peer's IPv6 next hop.
    pub(crate) fn next_hop6_of(&self, peer: u32) -> Ipv6Addr {
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, peer as u16 + 1)
    }

    /// The indices of a peer's own routes.
    pub(crate) fn routes_of(&self, peer: u32) -> std::ops::Range<u32> {
        if peer < self.senders {
            peer * self.routes..(peer + 1) * self.routes
        } else {
            0..0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_indices() {
        for v6 in [false, true] {
            let p = Workload::full_table(1_000_000).with_family(v6).prefixes;
            for i in [0, 1, 999_999] {
                let (bits, len) = p.bits(i);
                assert_eq!(p.index(bits, len), Some(i));
            }
            let (bits, len) = p.bits(1_000_000);
            assert_eq!(p.index(bits, len), None);
            assert_eq!(p.index(0, len), None);
        }
        assert_eq!(Workload::reflector(1000, 10).address_of(999).to_string(), "10.99.3.250");
    }
}
