//! The kernel's main table, followed: what BGP next hops are resolved by.
//!
//! Left out are routes that BGP put there (protocols `bird` and `bgp`, whoever's): a BGP next hop must not be resolved by a
//! BGP route, or two of them would hold each other up. Everything else counts, a default route included, as in BIRD.
//!
//! The table is dumped once; then events are followed as long as they fit what is known. What does not fit, or may have
//! changed routes without an event (an IPv4 address that goes, several next hops of which one goes, lost events) is answered
//! by another dump. A burst of events is one change. When the kernel cannot be asked, what was told last stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tortie_bgp::nexthop::{Gateway, KernelChange, KernelRoute};
use tortie_bgp::speaker::Input;
use tortie_net::Prefix;
use tortie_netlink::monitor::{Event, Monitor, Without};
use tortie_netlink::route::{
    Filter, IfIndex, Interface, Kernel, KernelError, Kind, Netlink, Protocol, Route, TABLE_MAIN,
};

use crate::engine::{Engine, Request};

/// Events come in bursts: what comes within this time of the first is one change.
const SETTLE: Duration = Duration::from_millis(50);
/// After the kernel could not be asked.
const RETRY: Duration = Duration::from_secs(5);
/// A dump that a change interrupted is begun again so often.
const DUMPS: usize = 5;

/// The table as far as it resolves next hops.
#[derive(Debug, Default)]
pub(crate) struct Known {
    interfaces: BTreeMap<IfIndex, Interface>,
    /// By metric: the lowest with a way out counts.
    routes: BTreeMap<Prefix, BTreeMap<u32, Route>>,
    /// What the engine was told.
    told: BTreeMap<Prefix, KernelRoute>,
}

/// Does a route resolve next hops?
fn counts(route: &Route) -> bool {
    let by_bgp = matches!(route.protocol, Protocol::BIRD | Protocol::BGP);
    let kind = match route.kind {
        // Without next hops it leads somewhere that cannot be told.
        Kind::Unicast => !route.next_hops.is_empty(),
        Kind::Blackhole | Kind::Unreachable | Kind::Prohibit | Kind::Throw => true,
        Kind::Other(_) => false,
    };
    route.table == TABLE_MAIN && route.tos == 0 && !by_bgp && kind
}

impl Known {
    /// Dumps the table.
    ///
    /// # Errors
    /// The kernel's.
    fn dump() -> Result<Known, KernelError> {
        let mut kernel = Netlink::open()?;
        let mut left = DUMPS;
        loop {
            left -= 1;
            let interfaces = kernel.interfaces();
            let routes = kernel.routes_where(Filter::MAIN, counts);
            match (interfaces, routes) {
                (Ok(interfaces), Ok(routes)) => return Ok(Known::load(interfaces, routes)),
                (Err(KernelError::DumpInterrupted), _) | (_, Err(KernelError::DumpInterrupted)) if left > 0 => {}
                (Err(error), _) | (_, Err(error)) => return Err(error),
            }
        }
    }

    fn load(interfaces: Vec<Interface>, routes: Vec<Route>) -> Known {
        let mut known = Known {
            interfaces: interfaces.into_iter().map(|i| (i.index, i)).collect(),
            ..Known::default()
        };
        for route in routes {
            let metrics = known.routes.entry(route.prefix).or_default();
            metrics.insert(route.metric, route);
        }
        known
    }

    /// What the kernel does for a prefix, by what is known.
    fn best(&self, prefix: Prefix) -> Option<KernelRoute> {
        self.routes.get(&prefix)?.values().find_map(|route| {
            let gateways: Box<[Gateway]> = route.next_hops.iter().filter_map(|hop| self.gateway(hop)).collect();
            let usable = route.kind != Kind::Unicast || !gateways.is_empty();
            usable.then_some(KernelRoute {
                metric: route.metric,
                gateways,
            })
        })
    }

    fn gateway(&self, hop: &tortie_netlink::route::NextHop) -> Option<Gateway> {
        let interface = self.interfaces.get(&hop.interface?).filter(|interface| interface.up)?;
        Some(Gateway {
            address: hop.gateway,
            interface: interface.name.as_str().into(),
            weight: hop.weight,
            onlink: hop.onlink,
        })
    }

    /// What the engine has not been told yet of these prefixes.
    fn changes(&mut self, prefixes: impl IntoIterator<Item = Prefix>) -> Vec<KernelChange> {
        let mut changes = Vec::new();
        for prefix in prefixes {
            let now = self.best(prefix);
            if now.as_ref() == self.told.get(&prefix) {
                continue;
            }
            match &now {
                Some(route) => drop(self.told.insert(prefix, route.clone())),
                None => drop(self.told.remove(&prefix)),
            }
            changes.push((prefix, now));
        }
        changes
    }

    /// What the engine has not been told yet of anything.
    fn all_changes(&mut self) -> Vec<KernelChange> {
        let prefixes: BTreeSet<Prefix> = self.routes.keys().chain(self.told.keys()).copied().collect();
        self.changes(prefixes)
    }

    /// Takes events; gives the prefixes they are about, or `None` when only a dump can tell.
    fn follow(&mut self, events: Vec<Event>) -> Option<BTreeSet<Prefix>> {
        let mut touched = BTreeSet::new();
        for event in events {
            match event {
                Event::Route(route) => self.route(route, &mut touched)?,
                Event::RouteGone(route) => self.route_gone(&route, &mut touched)?,
                Event::Interface(interface) => {
                    let index = interface.index;
                    let (up, carrier) = (interface.up, interface.carrier);
                    let before = self.interfaces.insert(index, interface.clone());
                    if before.as_ref().is_some_and(|b| b.carrier && !carrier) && self.names_objects() {
                        return None;
                    }
                    if before.is_some_and(|before| Interface { carrier, ..before } != interface) {
                        self.interface_lost(index, up, &mut touched)?;
                    }
                }
                Event::InterfaceGone(index) => {
                    self.interfaces.remove(&index);
                    self.interface_lost(index, false, &mut touched)?;
                }
                // The routes that go with an IPv4 address go without a word.
                Event::AddressGone(address) if address.address.is_ipv4() => return None,
                // The routes that go with a nexthop object neither.
                Event::ObjectGone(_) if self.names_objects() => return None,
                Event::Object(_) | Event::ObjectGone(_) => {}
                Event::Address(_) | Event::AddressGone(_) => {}
                Event::Resync => return None,
            }
        }
        Some(touched)
    }

    fn at(&self, route: &Route) -> Option<&Route> {
        self.routes.get(&route.prefix)?.get(&route.metric)
    }

    fn route(&mut self, route: Route, touched: &mut BTreeSet<Prefix>) -> Option<()> {
        let known = self.at(&route);
        if known == Some(&route) || (known.is_none() && !counts(&route)) {
            return Some(());
        }
        if known.is_some() {
            return None;
        }
        touched.insert(route.prefix);
        self.routes.entry(route.prefix).or_default().insert(route.metric, route);
        Some(())
    }

    fn route_gone(&mut self, route: &Route, touched: &mut BTreeSet<Prefix>) -> Option<()> {
        if !counts(route) {
            return Some(());
        }
        if self.at(route).is_some_and(|known| known != route) {
            return None;
        }
        self.forget(route.prefix, route.metric);
        touched.insert(route.prefix);
        Some(())
    }

    fn forget(&mut self, prefix: Prefix, metric: u32) {
        if let Some(metrics) = self.routes.get_mut(&prefix) {
            metrics.remove(&metric);
            if metrics.is_empty() {
                self.routes.remove(&prefix);
            }
        }
    }

    /// An interface is not what it was. The routes on one that is down or gone went without a word.
    /// Does a route go by a nexthop object?
    fn names_objects(&self) -> bool {
        self.routes
            .values()
            .flat_map(BTreeMap::values)
            .any(|r| r.object.is_some())
    }

    fn interface_lost(&mut self, index: IfIndex, up: bool, touched: &mut BTreeSet<Prefix>) -> Option<()> {
        let routes = self.routes.values().flat_map(BTreeMap::values);
        let on_it: Vec<(Prefix, u32, usize)> = routes
            .filter(|route| route.interfaces().any(|interface| interface == index))
            .map(|route| (route.prefix, route.metric, route.next_hops.len()))
            .collect();
        for (prefix, metric, hops) in on_it {
            if hops > 1 && !up {
                return None;
            }
            if !up {
                self.forget(prefix, metric);
            }
            touched.insert(prefix);
        }
        Some(())
    }
}

/// The table, and what to tell a speaker that knows nothing yet.
///
/// # Errors
/// The kernel's.
pub(crate) fn read() -> Result<(Known, Input), KernelError> {
    let mut known = Known::dump()?;
    let changes = known.all_changes();
    let input = Input::Kernel {
        complete: true,
        changes,
    };
    Ok((known, input))
}

/// Tells the engine of every change, until cancelled. `known`: what it was told, if anything.
pub(crate) async fn follow(engine: Engine, mut known: Option<Known>, token: CancellationToken) {
    while !token.is_cancelled() {
        match Monitor::start(TABLE_MAIN, Without::Bgp) {
            Ok(mut monitor) => {
                // What changed before the monitor was there.
                if dump(&engine, &mut known).await {
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = events(&mut monitor, &engine, &mut known) => {}
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot follow the kernel's routes, keeping what is known"),
        }
        tokio::select! {
            () = token.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Follows until the monitor or a dump fails.
async fn events(monitor: &mut Monitor, engine: &Engine, known: &mut Option<Known>) {
    while let Some(first) = monitor.next().await {
        let mut batch = vec![first];
        let end = Instant::now() + SETTLE;
        while let Ok(Some(more)) = timeout_at(end, monitor.next()).await {
            batch.push(more);
        }
        let events: Result<Vec<Vec<Event>>, _> = batch.into_iter().collect();
        let events = match events {
            Ok(events) => events.concat(),
            Err(error) => {
                tracing::warn!(%error, "lost track of the kernel's routes, keeping what is known");
                return;
            }
        };
        let changes = known.as_mut().and_then(|known| {
            let touched = known.follow(events)?;
            Some(known.changes(touched))
        });
        match changes {
            Some(changes) => tell(engine, false, changes).await,
            None => {
                if !dump(engine, known).await {
                    return;
                }
            }
        }
    }
}

async fn tell(engine: &Engine, complete: bool, changes: Vec<KernelChange>) {
    if complete || !changes.is_empty() {
        let input = Input::Kernel { complete, changes };
        engine.request(Request::Input(input)).await;
    }
}

/// Reads the table anew and tells the difference; `false` when it cannot be read.
async fn dump(engine: &Engine, known: &mut Option<Known>) -> bool {
    let mut fresh = match tokio::task::spawn_blocking(Known::dump).await {
        Ok(Ok(fresh)) => fresh,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot read the kernel's routes, keeping what is known");
            return false;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot read the kernel's routes, keeping what is known");
            return false;
        }
    };
    let complete = known.is_none();
    fresh.told = known.take().map_or_else(BTreeMap::new, |known| known.told);
    let changes = fresh.all_changes();
    *known = Some(fresh);
    tell(engine, complete, changes).await;
    true
}

#[cfg(test)]
mod tests {
    use tortie_netlink::route::{InterfaceAddress, NextHop};

    use super::*;

    fn interface(index: u32, up: bool) -> Interface {
        Interface {
            index: IfIndex(index),
            name: format!("eth{index}"),
            up,
            carrier: up,
        }
    }

    fn route(prefix: &str, metric: u32, protocol: Protocol, interfaces: &[u32]) -> Route {
        let mut route = Route::new(prefix.parse().unwrap(), Kind::Unicast, protocol);
        route.metric = metric;
        let hop = |index: &u32| NextHop::via("10.0.0.1".parse().unwrap(), IfIndex(*index));
        route.next_hops = interfaces.iter().map(hop).collect();
        route.canonical()
    }

    /// `prefix metric interfaces`, of all that the engine was told.
    fn told(known: &Known) -> Vec<String> {
        let shown = known.told.iter().map(|(prefix, route)| {
            let interfaces: Vec<&str> = route.gateways.iter().map(|g| &*g.interface).collect();
            format!("{prefix} {} {}", route.metric, interfaces.join(","))
        });
        shown.collect()
    }

    fn events(known: &mut Known, events: Vec<Event>) -> Option<usize> {
        let touched = known.follow(events)?;
        Some(known.changes(touched).len())
    }

    #[test]
    fn the_lowest_metric_with_a_way_out_counts_and_bgp_never_does() {
        let net = "192.0.2.0/24";
        let routes = vec![
            route(net, 10, Protocol::STATIC, &[2]),
            route(net, 20, Protocol::BOOT, &[1]),
            route(net, 1, Protocol::BIRD, &[1]),
        ];
        let routes = routes.into_iter().filter(counts).collect();
        let mut known = Known::load(vec![interface(1, true), interface(2, true)], routes);
        assert_eq!(known.all_changes().len(), 1);
        assert_eq!(told(&known), ["192.0.2.0/24 10 eth2"]);
        let by_bgp = [Protocol::BIRD, Protocol::BGP].map(|by| Event::Route(route("198.51.100.0/24", 0, by, &[1])));
        assert_eq!(events(&mut known, by_bgp.to_vec()), Some(0));
        assert_eq!(events(&mut known, vec![Event::Interface(interface(2, false))]), Some(1));
        assert_eq!(told(&known), ["192.0.2.0/24 20 eth1"]);
        let gone = Event::RouteGone(route(net, 20, Protocol::BOOT, &[1]));
        assert_eq!(events(&mut known, vec![gone.clone(), gone]), Some(1));
        assert_eq!(told(&known), [""; 0]);
    }

    #[test]
    fn a_burst_that_ends_where_it_began_changes_nothing() {
        let here = route("192.0.2.0/24", 0, Protocol::STATIC, &[1]);
        let mut known = Known::load(vec![interface(1, true)], vec![here.clone()]);
        known.all_changes();
        let burst = vec![Event::RouteGone(here.clone()), Event::Route(here)];
        assert_eq!(events(&mut known, burst), Some(0));
        assert_eq!(told(&known), ["192.0.2.0/24 0 eth1"]);
    }

    #[test]
    fn what_events_do_not_tell_needs_a_dump() {
        let several = route("192.0.2.0/24", 0, Protocol::STATIC, &[1, 2]);
        let load = || {
            let mut known = Known::load(vec![interface(1, true), interface(2, true)], vec![several.clone()]);
            known.all_changes();
            known
        };
        let address = InterfaceAddress {
            interface: IfIndex(1),
            address: "10.0.0.5".parse().unwrap(),
            subnet: "10.0.0.0/24".parse().unwrap(),
        };
        let taken_over = route("192.0.2.0/24", 0, Protocol::BIRD, &[1]);
        let unclear = [
            Event::Resync,
            Event::AddressGone(address),
            Event::InterfaceGone(IfIndex(2)),
            Event::Interface(interface(2, false)),
            Event::Route(taken_over),
            Event::RouteGone(route("192.0.2.0/24", 0, Protocol::STATIC, &[1])),
        ];
        for event in unclear {
            assert_eq!(events(&mut load(), vec![event.clone()]), None, "{event:?}");
        }
        assert_eq!(events(&mut load(), vec![Event::Interface(interface(7, true))]), Some(0));
    }
}
