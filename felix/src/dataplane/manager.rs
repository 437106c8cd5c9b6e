//! The route manager: every origin's routes in, the kernel's batches out. Pure: time is a parameter, the kernel is
//! somebody else's.
//!
//! Each prefix has at most one candidate of each class ([`super::class::RouteClass`]); the strongest that can be
//! installed wins. What is wanted and what the kernel holds of ours meet in a [`Reconciler`].
//!
//! Invariants:
//! * a route in the kernel is removed only after its class's source was in sync once, or has withdrawn it, or when the
//!   endpoint service took its interface down; until then what was found at start is wanted as it was found;
//! * a key that somebody else's route has is never written;
//! * one refused change delays itself alone, by a back-off of its own.

mod entry;
mod events;
mod objects;
mod plan;
mod settings;
mod show;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tortie_calc::{Settings, Update};
use tortie_net::Prefix;
use tortie_netlink::monitor::Event;
use tortie_netlink::reconcile::Reconciler;
use tortie_netlink::route::{Kind, NextHop, Protocol, Route, Scope};
use tortie_netlink::worker::Dump;
use tortie_replica::{Delta, PackedMap};

use super::LocalEndpoint;
use super::admission::Own;
use super::class::{RouteClass, WORKLOAD_INTERFACE_PREFIX};
use super::fib::{FibPath, PathId, Paths};
use super::hold::Holds;
use super::marks::{Marks, Remembered};
use super::remotes::Remotes;
use super::view::View;
use super::why::{Refused, Why, Withheld};
use super::workloads::Workloads;

use entry::Entry;
pub use show::{ClassCount, ObjectCount, Row, RowState, Summary};

/// What the manager is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The datastore's wishes changed.
    Desired(Vec<Update>),
    /// The datastore is known: from the last good snapshot, or (`live`) from typha itself.
    DatastoreSynced {
        /// From typha, so that absence means something.
        live: bool,
    },
    /// Is there an endpoint of this node in the datastore whose document cannot be read? Comes before the word that the
    /// datastore is known, where it matters.
    UnknownEndpoint(bool),
    /// A new stream of bird-rs's best routes begins. What was told stays until this one is in sync.
    FibBegins,
    /// bird-rs's best routes.
    Fib(Vec<Delta<Prefix, Arc<FibPath>>>),
    /// The endpoint service made an endpoint.
    Up(LocalEndpoint),
    /// The endpoint service removed one.
    Down(String),
    /// The kernel changed.
    Kernel(Vec<Event>),
}

/// Which sources have spoken.
#[derive(Debug, Default, Clone, Copy)]
struct Synced {
    datastore_known: bool,
    datastore: bool,
    unknown_endpoint: bool,
    fib: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Manager {
    view: View,
    workloads: Workloads,
    /// The interfaces that floating addresses lead to.
    floating: BTreeMap<IpAddr, String>,
    own: Own,
    remotes: Remotes,
    holds: Holds,
    paths: Paths,
    entries: PackedMap<Prefix, Entry>,
    /// What is wanted and what the kernel holds of ours.
    routes: Reconciler,
    synced: Synced,
    /// By what routes were known when the kernel was last seen; nothing before.
    known: Option<Marks>,
    /// What bird-rs withdrew before it was in sync: known to be gone all the same.
    withdrawn: BTreeSet<Prefix>,
    dirty: BTreeSet<Prefix>,
    /// A stream of bird-rs's has begun and is not in sync yet.
    receiving: bool,
    /// Something that next hops may depend on changed.
    reroute: bool,
    /// The kernel must be looked at anew.
    dump_wanted: bool,
    /// What the wall's clock said when time began.
    epoch: Timestamp,
    settings: Settings,
}

impl Manager {
    /// Knows nothing but what a former life's routes may have; wants a dump first. `epoch`: what the wall's clock says at
    /// time zero, to show times by.
    pub fn new(epoch: Timestamp, remembered: &Remembered) -> Self {
        let mut view = View::default();
        view.marks.recall(remembered);
        Manager {
            view,
            dump_wanted: true,
            epoch,
            routes: Reconciler::with_objects(objects::OURS),
            ..Manager::default()
        }
    }

    /// Must the kernel be dumped before anything else?
    pub fn wants_dump(&self) -> bool {
        self.dump_wanted
    }

    /// Asks for a dump: something was lost, or the regular audit is due.
    pub fn want_dump(&mut self) {
        self.dump_wanted = true;
    }

    /// Has the kernel been seen?
    pub fn is_loaded(&self) -> bool {
        self.known.is_some()
    }

    /// By what routes of ours are known. A new one must be remembered before the next batch is written.
    pub fn marks(&self) -> &Marks {
        &self.view.marks
    }

    /// Takes a full dump of the kernel: every route of the main table. The first one shows what a former life left; so does
    /// one after the marks changed.
    pub fn loaded(&mut self, dump: Dump) {
        self.dump_wanted = false;
        let (view, own) = View::load(
            dump.interfaces,
            dump.addresses,
            dump.routes,
            std::mem::take(&mut self.view.marks),
        );
        self.view = view;
        self.routes.objects_loaded(dump.objects);
        self.routes.found_all(own.iter().map(|(_, r)| Arc::clone(r)));
        self.forget_former_marks(&own);
        let known = self.known.replace(self.view.marks.clone());
        if known.as_ref() != Some(&self.view.marks) {
            let before = |r: &Route| known.as_ref().and_then(|marks| self.view.class_by(marks, r));
            let new: Vec<_> = own.into_iter().filter(|(_, r)| before(r).is_none()).collect();
            for (class, route) in new {
                if !self.source_is_synced(class) {
                    self.inherit(class, route);
                }
            }
        }
        self.reroute = true;
        self.forget_taken_down();
        self.dirty.extend(self.entries.iter().map(|(prefix, _)| *prefix));
        self.settle();
    }

    /// What the stronger class of the same prefix left is kept; one prefix inherits one route.
    fn inherit(&mut self, class: RouteClass, route: Arc<Route>) {
        let entry = self.entries.or_default(route.prefix);
        if entry.inherited().is_none_or(|(before, _)| class < *before) {
            entry.inherit(class, route);
        }
    }

    /// Takes an input and brings what is wanted up to date.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Desired(updates) => updates.iter().for_each(|u| self.desired(u)),
            Input::DatastoreSynced { live } => self.datastore_synced(live),
            Input::UnknownEndpoint(there) => {
                self.synced.unknown_endpoint = there;
                self.forget_inherited();
            }
            Input::FibBegins => self.fib_begins(),
            Input::Fib(deltas) => deltas.into_iter().for_each(|d| self.fib(d)),
            Input::Up(endpoint) => {
                let ips = self.workloads.up(endpoint);
                self.touch(&ips);
            }
            Input::Down(interface) => {
                let ips = self.workloads.down(&interface);
                self.touch(&ips);
                self.forget_taken_down();
                self.disinherit(|view, class, route| {
                    class == RouteClass::LocalWorkload
                        && route.interfaces().any(|i| view.name(i) == Some(interface.as_str()))
                });
            }
            Input::Kernel(events) => events.into_iter().for_each(|e| self.kernel(e)),
        }
        self.settle();
    }

    fn forget_taken_down(&mut self) {
        // Before the first look at the kernel nothing is known to be gone.
        if self.is_loaded() {
            self.workloads.forget_gone(|name| self.view.has(name));
        }
    }

    fn touch(&mut self, ips: &[IpAddr]) {
        self.dirty.extend(ips.iter().map(|ip| Prefix::host(*ip)));
    }

    /// The prefixes with candidates under this one may be decided differently now.
    fn touch_under(&mut self, prefix: Prefix) {
        let under = self.entries.range_from(&prefix).take_while(|(p, _)| prefix.covers(**p));
        self.dirty.extend(under.map(|(p, _)| *p));
    }

    // === Sources ===

    fn desired(&mut self, update: &Update) {
        self.hold(update);
        for prefix in self.own.apply(update) {
            self.touch_under(prefix);
        }
        for prefix in self.remotes.apply(update) {
            self.touch_under(prefix);
            // A prefix that nobody wanted so far.
            self.dirty.extend(prefix.is_host().then_some(prefix));
        }
        match update {
            Update::Endpoint(key, endpoint) => {
                let ips = self.workloads.stored(key, endpoint.as_ref());
                self.touch(&ips);
            }
            Update::OwnBlock(block, own) => {
                // A block of one address is that address's workload, or nothing.
                let wanted = *own && !block.is_host();
                self.entries.or_default(*block).set_own_block(wanted);
                self.dirty.insert(*block);
            }
            Update::Remote(prefix, _) => {
                self.dirty.insert(*prefix);
            }
            Update::Borrowed(..)
            | Update::NodeAddresses(_)
            | Update::Pool(..)
            | Update::Tunnel(..)
            | Update::Vtep(..)
            | Update::Host(..)
            | Update::Peering(_) => {}
            Update::Floating(ip, floating) => self.floating_is(*ip, floating.as_ref()),
            Update::Settings(settings) => self.settings_are(settings),
        }
    }

    /// A prefix of another node whose routes come from another source from now on keeps its route until they do.
    fn hold(&mut self, update: &Update) {
        let Update::Remote(prefix, remote) = update else {
            return;
        };
        if remote.is_none() {
            return self.holds.end(*prefix);
        }
        let wanted = self.entries.get(prefix).and_then(|e| e.wanted(*prefix));
        let current = wanted.and_then(|(class, key)| Some((class, Arc::new(self.routes.desired(&key)?))));
        if let Some((class, route)) = current.filter(|(class, _)| self.remotes.class(*prefix) == Some(*class)) {
            self.holds.begin(class, route);
        }
    }

    /// It is this time now: what was held long enough is let go.
    pub fn tick(&mut self, now: Duration) {
        let over = self.holds.tick(now);
        if !over.is_empty() {
            self.dirty.extend(over);
            self.settle();
        }
    }

    fn datastore_synced(&mut self, live: bool) {
        if !std::mem::replace(&mut self.synced.datastore_known, true) {
            self.dirty
                .extend(self.entries.iter().filter(|(_, e)| e.bgp.is_some()).map(|(p, _)| *p));
        }
        self.synced.datastore |= live;
        self.forget_inherited();
    }

    /// Has the source of this class told everything it has? Only then is absence a reason to remove.
    fn source_is_synced(&self, class: RouteClass) -> bool {
        match class {
            // A workload whose document cannot be read may be the very one whose route was found.
            RouteClass::LocalWorkload => self.synced.datastore && !self.synced.unknown_endpoint,
            RouteClass::SameSubnet | RouteClass::VxlanTunnel | RouteClass::OwnBlock => self.synced.datastore,
            // Before the datastore is known no route of a peer is let in, so its absence says nothing either.
            RouteClass::Bgp => self.synced.fib && self.synced.datastore_known,
        }
    }

    fn forget_inherited(&mut self) {
        let synced = RouteClass::ALL.map(|class| self.source_is_synced(class));
        self.disinherit(|_, class, _| synced[class as usize]);
    }

    fn disinherit(&mut self, gone: impl Fn(&View, RouteClass, &Route) -> bool) {
        for (prefix, entry) in self.entries.iter_mut() {
            if entry
                .inherited()
                .is_some_and(|(class, route)| gone(&self.view, *class, route))
            {
                entry.disinherit();
                self.dirty.insert(*prefix);
            }
        }
    }

    // === Deciding ===

    fn settle(&mut self) {
        if !self.is_loaded() {
            return;
        }
        if std::mem::take(&mut self.reroute) && self.resolve_again() {
            // The kernel first: what is decided now follows it.
            return;
        }
        for prefix in std::mem::take(&mut self.dirty) {
            self.decide(prefix);
        }
    }

    /// Chooses among the candidates of a prefix, the strongest class first.
    fn decide(&mut self, prefix: Prefix) {
        let mut out = Vec::new();
        let mut winner = None;
        let entry = self.entries.get(&prefix);
        for class in RouteClass::ALL {
            match self.candidate(class, prefix, entry) {
                None => {}
                Some(Err(why)) => out.push((class, why)),
                Some(Ok(route)) if winner.is_none() => winner = Some((class, route)),
                Some(Ok(_)) => {}
            }
        }
        winner = self.or_held(prefix, winner);
        let entry = self.entries.or_default(prefix);
        let before = entry.wanted(prefix);
        entry.set_out(out);
        entry.won_by(winner.as_ref().map(|(class, route)| (*class, route.metric)));
        let now = entry.wanted(prefix);
        let found = entry.inherited().map(|(_, route)| Arc::clone(route));
        if entry.is_empty() {
            self.entries.remove(&prefix);
        }
        if let Some((_, key)) = before
            && now.is_none_or(|(_, k)| k != key)
        {
            self.routes.unwant(&key);
        }
        if let Some((_, route)) = winner {
            self.want(found, route);
        }
    }

    /// Without a winner, the route that is held. Nothing is held any more once the class that shall take over has.
    fn or_held(
        &mut self,
        prefix: Prefix,
        winner: Option<(RouteClass, Arc<Route>)>,
    ) -> Option<(RouteClass, Arc<Route>)> {
        let Some((class, route)) = self.holds.get(prefix) else {
            return winner;
        };
        let usable = route.interfaces().all(|i| self.view.is_up(i));
        let held = usable.then(|| (class, Arc::clone(route)));
        let taken_over = winner
            .as_ref()
            .is_some_and(|(c, _)| Some(*c) == self.remotes.class(prefix));
        if taken_over || held.is_none() {
            self.holds.end(prefix);
        }
        winner.or(held)
    }

    /// This class's candidate: the route, or why it is out; `None` when the class has nothing to say.
    fn candidate(&self, class: RouteClass, prefix: Prefix, entry: Option<&Entry>) -> Option<Result<Arc<Route>, Why>> {
        if !self.settings.ipv6 && !prefix.is_v4() {
            return None;
        }
        let told = match class {
            RouteClass::LocalWorkload => self.workload(prefix),
            RouteClass::SameSubnet | RouteClass::VxlanTunnel => {
                let route = self.remotes.route(class, prefix, &self.view);
                route.map(|r| r.map_err(Why::Withheld))
            }
            RouteClass::OwnBlock => entry.filter(|e| e.is_own_block()).map(|_| {
                let route = Route::new(prefix, Kind::Blackhole, self.view.marks.of(class));
                Ok(Arc::new(route))
            }),
            RouteClass::Bgp => entry.and_then(|e| e.bgp).and_then(|id| self.learned(prefix, id)),
        };
        let inherited = || {
            let (_, route) = entry?.inherited().filter(|(c, _)| *c == class)?;
            // Its interface may be gone by now; with the interface went its reason.
            route
                .interfaces()
                .all(|i| self.view.is_up(i))
                .then(|| Ok(Arc::clone(route)))
        };
        match told {
            Some(Ok(route)) => Some(Ok(route)),
            // Until its source has spoken, a route found at start outlives a reason to withhold its like.
            Some(Err(Why::Withheld(w))) => inherited().or(Some(Err(Why::Withheld(w)))),
            Some(Err(refused)) => Some(Err(refused)),
            None => inherited(),
        }
    }

    fn workload(&self, prefix: Prefix) -> Option<Result<Arc<Route>, Why>> {
        let interface = self.interface_of(prefix)?;
        if !interface.starts_with(WORKLOAD_INTERFACE_PREFIX) {
            return Some(Err(Why::Withheld(Withheld::ForeignInterface(interface.to_owned()))));
        }
        let route = self.view.up(interface).map_err(Why::Withheld).map(|index| {
            let mut route = Route::new(prefix, Kind::Unicast, self.view.marks.of(RouteClass::LocalWorkload));
            (route.metric, route.scope) = (self.view.marks.metric(RouteClass::LocalWorkload, prefix), Scope::LINK);
            route.next_hops = Arc::new([NextHop::device(index)]);
            Arc::new(route.canonical())
        });
        Some(route)
    }

    fn learned(&self, prefix: Prefix, id: PathId) -> Option<Result<Arc<Route>, Why>> {
        let path = self.paths.path(id);
        if path.kind != Kind::Unicast && self.own.owns(prefix) {
            // Our own aggregate, which bird-rs announces and gives back: no attack and no news.
            return None;
        }
        if !self.synced.datastore_known {
            return Some(Err(Why::Withheld(Withheld::DatastoreUnknown)));
        }
        if let Err(refused) = self.own.admit(prefix, &self.view) {
            return Some(Err(Why::Refused(refused)));
        }
        if self.interface_of(prefix).is_some() {
            return Some(Err(Why::Refused(Refused::LocalWorkload)));
        }
        let tunneled = self.remotes.in_ipip(prefix, path, &self.view);
        let resolution = tunneled.unwrap_or_else(|| self.paths.resolution(id));
        let route = resolution.map_err(Why::Withheld).map(|next_hops| {
            let mut route = Route::new(prefix, path.kind, Protocol::BIRD);
            route.metric = self.view.marks.metric(RouteClass::Bgp, prefix);
            let on_link = !next_hops.is_empty() && next_hops.iter().all(|h| h.gateway.is_none());
            route.scope = if on_link { Scope::LINK } else { Scope::UNIVERSE };
            route.next_hops = next_hops;
            Arc::new(route.canonical())
        });
        Some(route)
    }
}

#[cfg(test)]
mod tests;
