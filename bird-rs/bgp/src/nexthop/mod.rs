//! Next hops: each distinct one resolved once, by the kernel's routes and the host's links, and again when they change.
//!
//! A BGP next hop is an address; a packet needs a gateway on a link. [`NextHops`] holds one entry for each pair of address
//! and [`Rule`], which routes refer to by a [`HopId`]. RFC 4271 sections 5.1.3 and 9.1.2.1: a route whose next hop is not
//! resolvable is left out of the decision; the distance of the next hop is the decision's IGP metric.
//!
//! Invariants:
//! * what an entry says is a function of the routes, the links, and its address and rule: never of the order in which
//!   they came;
//! * a change of one kernel route looks at the entries in its prefix that have no longer match, at no others, and reports
//!   those whose answer differs. A covering route that comes or goes above a more specific one changes nothing;
//! * until the kernel's routes are known for the first time nothing is unreachable: an entry is [`Resolved::Assumed`];
//! * resolution never recurses: a gateway of the kernel's is on a link, or the kernel would not have taken the route. So a
//!   BGP route never resolves a BGP next hop, as long as whoever tells us the kernel's routes leaves those out.
//!
//! Entries that no route refers to any more are swept when there are as many as there were in use at the last sweep: they
//! cost memory in proportion to what is used, and an answer that nobody reads.

mod igp;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use tortie_net::{Prefix, PrefixMap};

use self::igp::IgpTables;
pub use self::igp::{Igp, Way, WayChange};
use crate::rib::Hop;

/// How the next hops of one protocol become gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// By routes (`gateway recursive`), else by the links alone (`gateway direct`).
    pub recursive: bool,
    /// Whose routes, when by routes.
    pub igp: Igp,
    /// On whose link link-local next hops are: the peer's.
    pub peer: Option<IpAddr>,
    /// The only interface whose links count for direct and link-local next hops.
    pub interface: Option<Arc<str>>,
    /// `cost`: what the protocol adds to the distance.
    pub cost: u32,
    /// `next hop prefer global`: a link-local address beside the one to resolve does not count.
    pub prefer_global: bool,
    /// The link-local address beside the one to resolve: where packets go when routes say that it is on a link.
    pub link_local: Option<Ipv6Addr>,
}

impl Rule {
    /// By the kernel's routes alone.
    pub const RECURSIVE: Rule = Rule {
        recursive: true,
        igp: Igp::KERNEL,
        peer: None,
        interface: None,
        cost: 0,
        prefer_global: false,
        link_local: None,
    };

    /// The rule for a next hop that has a link-local address too.
    pub fn with_link_local(self: &Arc<Self>, link_local: Option<Ipv6Addr>) -> Arc<Self> {
        match link_local {
            Some(_) if self.recursive && !self.prefer_global => Arc::new(Rule {
                link_local,
                ..Rule::clone(self)
            }),
            Some(_) | None => self.clone(),
        }
    }

    /// Where packets for a next hop go that is on a link.
    fn on_link(&self, address: IpAddr) -> IpAddr {
        self.link_local.map_or(address, IpAddr::V6)
    }
}

/// An entry's number. Reused after a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(NonZeroU32);

impl HopId {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// As a number, to be packed.
    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }

    /// From what [`HopId::number`] gave.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(HopId)
    }
}

/// One way out of a kernel route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The router; none when the destination is on the link.
    pub address: Option<IpAddr>,
    /// The interface.
    pub interface: Arc<str>,
    /// From 1.
    pub weight: u16,
    /// The router is on the link although no route says so.
    pub onlink: bool,
}

/// What the kernel does with packets for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// The route's metric ("priority"); counts as the distance of the next hops in the prefix.
    pub metric: u32,
    /// Where to; none when the kernel drops or refuses the packets.
    pub gateways: Box<[Gateway]>,
}

/// A change of the kernel's routes: the best one of a prefix now, or that there is none.
pub type KernelChange = (Prefix, Option<KernelRoute>);

/// What became of a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// The kernel's routes are not known: taken to be reachable, and left to whoever installs the route.
    Assumed,
    /// There is no way to it.
    Unreachable,
    /// There is.
    Reached {
        /// The distance.
        metric: u32,
        /// Where packets go. Without an interface whoever installs the route has to find the way.
        hops: Box<[Hop]>,
    },
}

#[derive(Debug)]
struct Entry {
    /// None when the number is free.
    used: Option<(IpAddr, Arc<Rule>)>,
    resolved: Resolved,
    /// The length of the kernel's route that resolves it; none when none does, or the rule does not ask.
    matched: Option<u8>,
    changed: bool,
}

/// So many entries are there before a sweep is thought of.
const SWEEP_AT_LEAST: usize = 64;

/// All next hops in use.
#[derive(Debug)]
pub struct NextHops {
    /// None until told.
    routes: Option<PrefixMap<KernelRoute>>,
    igp: IgpTables,
    /// Subnets on our links.
    links: Vec<(Prefix, Arc<str>)>,
    entries: Vec<Entry>,
    free: Vec<HopId>,
    /// By host prefix.
    index: PrefixMap<Vec<HopId>>,
    changed: bool,
    sweep_at: usize,
}

impl Default for NextHops {
    fn default() -> Self {
        NextHops {
            routes: None,
            igp: IgpTables::default(),
            links: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            index: PrefixMap::new(),
            changed: false,
            sweep_at: SWEEP_AT_LEAST,
        }
    }
}

impl NextHops {
    /// How many entries there are, swept or not.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a next hop, made and resolved if it is new. Valid until a sweep that is not told of it.
    pub fn id(&mut self, address: IpAddr, rule: &Arc<Rule>) -> HopId {
        let host = Prefix::host(address);
        let same = |id: &&HopId| {
            let used = self.entries.get(id.index()).and_then(|entry| entry.used.as_ref());
            used.is_some_and(|(_, known)| Arc::ptr_eq(known, rule) || known == rule)
        };
        if let Some(id) = self.index.get(host).and_then(|ids| ids.iter().find(same)) {
            return *id;
        }
        let (resolved, matched) = self.resolve(address, rule);
        let entry = Entry {
            used: Some((address, rule.clone())),
            resolved,
            matched,
            changed: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id.index()] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                let count = u32::try_from(self.entries.len()).ok().and_then(NonZeroU32::new);
                HopId(count.expect("invariant: fewer than 2^32 next hops fit into memory"))
            }
        };
        let mut ids = self.index.remove(host).unwrap_or_default();
        ids.push(id);
        self.index.insert(host, ids);
        id
    }

    /// What became of a next hop.
    pub fn get(&self, id: HopId) -> &Resolved {
        self.entries
            .get(id.index())
            .map_or(&Resolved::Assumed, |entry| &entry.resolved)
    }

    /// May routes with this next hop be used?
    pub fn is_usable(&self, id: HopId) -> bool {
        *self.get(id) != Resolved::Unreachable
    }

    /// Its distance, when known.
    pub fn metric(&self, id: HopId) -> Option<u32> {
        match self.get(id) {
            Resolved::Reached { metric, .. } => Some(*metric),
            Resolved::Assumed | Resolved::Unreachable => None,
        }
    }

    /// The kernel's routes changed. The first call says that they are known, and has all of them; so has one that is
    /// `complete`, which makes what it does not name go.
    pub fn kernel(&mut self, complete: bool, changes: Vec<KernelChange>) {
        if complete || self.routes.is_none() {
            let named = changes.into_iter().filter_map(|(prefix, route)| Some((prefix, route?)));
            let mut routes = PrefixMap::new();
            named.for_each(|(prefix, route)| drop(routes.insert(prefix, route)));
            self.routes = Some(routes);
            (0..self.entries.len()).for_each(|at| self.resolve_again(at));
            return;
        }
        for (prefix, route) in changes {
            let Some(routes) = &mut self.routes else { return };
            match route {
                Some(route) if routes.get(prefix) == Some(&route) => continue,
                Some(route) => drop(routes.insert(prefix, route)),
                None if routes.remove(prefix).is_none() => continue,
                None => {}
            }
            self.resolve_below(prefix);
        }
    }

    /// A route for a prefix came, went or changed. Longer matches do not notice.
    fn resolve_below(&mut self, prefix: Prefix) {
        let below = self.index.covered_by(prefix).flat_map(|(_, ids)| ids);
        let affected = below.filter(|id| {
            let entry = self.entries.get(id.index());
            entry.is_some_and(|entry| entry.matched.is_none_or(|len| len <= prefix.len()))
        });
        let affected: Vec<usize> = affected.map(|id| id.index()).collect();
        affected.into_iter().for_each(|at| self.resolve_again(at));
    }

    /// The subnets on the host's links, with their interfaces; all of them.
    pub fn set_links(&mut self, links: Vec<(Prefix, Arc<str>)>) {
        if links == self.links {
            return;
        }
        self.links = links;
        for at in 0..self.entries.len() {
            let by_link = |(address, rule): &(IpAddr, Arc<Rule>)| !rule.recursive || is_link_local(*address);
            if self.entries[at].used.as_ref().is_some_and(by_link) {
                self.resolve_again(at);
            }
        }
    }

    /// Has anything changed that [`NextHops::take_changes`] has not given yet?
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// For each number whether its answer changed since the last call; `None` when none did.
    pub fn take_changes(&mut self) -> Option<Changes> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let entries = self.entries.iter_mut();
        Some(Changes(
            entries.map(|entry| std::mem::take(&mut entry.changed)).collect(),
        ))
    }

    /// Is it time for [`NextHops::sweep`]?
    pub fn wants_sweep(&self) -> bool {
        self.len() >= self.sweep_at
    }

    /// Forgets all entries but these.
    pub fn sweep(&mut self, live: impl Iterator<Item = HopId>) {
        let mut keep = vec![false; self.entries.len()];
        for id in live {
            if let Some(keep) = keep.get_mut(id.index()) {
                *keep = true;
            }
        }
        for (at, _) in keep.iter().enumerate().filter(|(_, keep)| !**keep) {
            let Some((address, _)) = self.entries[at].used.take() else {
                continue;
            };
            self.entries[at].changed = false;
            let host = Prefix::host(address);
            let number = u32::try_from(at + 1).ok().and_then(NonZeroU32::new).map(HopId);
            let mut ids = self.index.remove(host).unwrap_or_default();
            ids.retain(|id| Some(*id) != number);
            if !ids.is_empty() {
                self.index.insert(host, ids);
            }
            self.free.extend(number);
        }
        self.sweep_at = SWEEP_AT_LEAST.max(2 * self.len());
    }

    fn resolve_again(&mut self, at: usize) {
        let Some((address, rule)) = self.entries[at].used.clone() else {
            return;
        };
        let (resolved, matched) = self.resolve(address, &rule);
        let entry = &mut self.entries[at];
        entry.matched = matched;
        if entry.resolved != resolved {
            entry.resolved = resolved;
            entry.changed = true;
            self.changed = true;
        }
    }

    /// What becomes of a next hop, and the length of the kernel's route that says so.
    fn resolve(&self, address: IpAddr, rule: &Rule) -> (Resolved, Option<u8>) {
        let table = rule
            .igp
            .table(address)
            .filter(|_| rule.recursive && !is_link_local(address));
        if let Some(table) = table {
            return self.igp.resolve(table, address, rule);
        }
        let Some(routes) = &self.routes else {
            return (Resolved::Assumed, None);
        };
        if is_link_local(address) {
            return (self.on_the_link_of_the_peer(address, rule), None);
        }
        if !rule.recursive {
            let direct = |gateway: IpAddr| {
                let interface = self.link_of(gateway, rule)?;
                Some(reached(rule.cost, gateway, Some(interface)))
            };
            return (direct(address).unwrap_or(Resolved::Unreachable), None);
        }
        match routes.longest_match(Prefix::host(address)) {
            Some((prefix, route)) => (through(route, address, rule), Some(prefix.len())),
            None => (Resolved::Unreachable, None),
        }
    }

    /// A link-local address means something on one link only: the configured one, or else the peer's.
    fn on_the_link_of_the_peer(&self, address: IpAddr, rule: &Rule) -> Resolved {
        let configured = || {
            let name = rule.interface.as_ref()?;
            self.links.iter().find(|(_, link)| link == name)
        };
        let interface = match rule.interface {
            Some(_) => configured().map(|(_, link)| link.clone()),
            None => rule.peer.and_then(|peer| self.link_of(peer, rule)),
        };
        interface.map_or(Resolved::Unreachable, |link| reached(rule.cost, address, Some(link)))
    }

    /// The interface on whose subnet an address is; the most specific subnet wins.
    fn link_of(&self, address: IpAddr, rule: &Rule) -> Option<Arc<str>> {
        let wanted = |link: &Arc<str>| rule.interface.as_ref().is_none_or(|wanted| wanted == link);
        let near = self
            .links
            .iter()
            .filter(|(subnet, link)| subnet.contains(address) && wanted(link));
        near.max_by_key(|(subnet, _)| subnet.len())
            .map(|(_, link)| link.clone())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn reached(metric: u32, gateway: IpAddr, interface: Option<Arc<str>>) -> Resolved {
    let hop = Hop {
        address: Some(gateway),
        interface,
        weight: 1,
        onlink: false,
    };
    Resolved::Reached {
        metric,
        hops: Box::from([hop]),
    }
}

/// A next hop that this route of the kernel's is for.
fn through(route: &KernelRoute, address: IpAddr, rule: &Rule) -> Resolved {
    let metric = route.metric.saturating_add(rule.cost);
    if route.gateways.is_empty() {
        return Resolved::Unreachable;
    }
    let hops = route.gateways.iter().map(|gateway| Hop {
        address: Some(gateway.address.unwrap_or_else(|| rule.on_link(address))),
        interface: Some(gateway.interface.clone()),
        weight: gateway.weight,
        onlink: gateway.onlink,
    });
    Resolved::Reached {
        metric,
        hops: hops.collect(),
    }
}

/// Which answers changed.
#[derive(Debug)]
pub struct Changes(Vec<bool>);

impl Changes {
    /// Did this one?
    pub fn has(&self, id: HopId) -> bool {
        self.0.get(id.index()).copied().unwrap_or(false)
    }
}
