//! A kernel for tests: the same answers as the real one, and faults on demand.
//!
//! It models what a reconciler can observe: keys that are taken (EEXIST), absent (ENOENT, ESRCH), interfaces that are
//! missing (ENODEV) or down (ENETDOWN), gateways that nothing reaches (EHOSTUNREACH), routes that vanish with their
//! interface without a word, nexthop objects that take their routes along when they go, answers lost after the work was
//! done, dumps interrupted, notifications lost.
//!
//! [`FakeKernel`] is a handle: clones share the state, so a test holds one while the reconciler owns another.

mod objects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tortie_net::Prefix;

use crate::link::Link;
use crate::monitor::Event;
use crate::route::object::{Object, ObjectId, hops_of};
use crate::route::{
    Change, Filter, IfIndex, Interface, InterfaceAddress, Kernel, KernelError, NextHop, Protocol, Refusal, Route,
    RouteKey, Scope,
};

/// An interface as most are, Ethernet and up, with these addresses ("172.30.0.11/24").
///
/// # Panics
/// When one is no address.
pub fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    let address = |text: &&str| Prefix::parse_with_address(text).expect("invariant: a test writes an address");
    Link {
        index,
        name: name.to_owned(),
        kind: None,
        mac: None,
        peer: None,
        mtu: 1500,
        up: true,
        running: true,
        carrier: true,
        broadcast: true,
        multicast: true,
        point_to_point: false,
        loopback: false,
        master: None,
        secondary: Vec::new(),
        addresses: addresses.iter().map(address).collect(),
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<RouteKey, Route>,
    interfaces: BTreeMap<IfIndex, Interface>,
    addresses: Vec<InterfaceAddress>,
    events: Vec<Event>,
    lose_events: bool,
    refuse: BTreeMap<Prefix, (Errno, u32)>,
    lose_answers: u32,
    interrupt_dumps: u32,
    applied: Vec<Change>,
    objects: BTreeMap<ObjectId, Object>,
    /// As kernels from 5.3 on.
    has_objects: bool,
    refuse_objects: Option<(Errno, u32)>,
}

impl FakeKernel {
    /// A kernel with nothing in it, and without nexthop objects.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === What somebody else does ===

    /// Somebody makes an interface, or sets it up or down. Down takes its routes and objects along, silently.
    pub fn set_interface(&self, index: u32, name: &str, up: bool) {
        self.interface_is(Interface {
            index: IfIndex(index),
            name: name.to_owned(),
            up,
            carrier: up,
        });
    }

    fn interface_is(&self, interface: Interface) {
        let mut state = self.state();
        state.interfaces.insert(interface.index, interface.clone());
        if !interface.carrier {
            state.flush_objects(interface.index);
        }
        if !interface.up {
            state.flush(interface.index);
        }
        state.tell(Event::Interface(interface));
    }

    /// Somebody removes an interface, and with it its addresses and routes.
    pub fn remove_interface(&self, index: u32) {
        let mut state = self.state();
        let index = IfIndex(index);
        state.interfaces.remove(&index);
        state.flush_objects(index);
        state.flush(index);
        state.addresses.retain(|a| a.interface != index);
        state.tell(Event::InterfaceGone(index));
    }

    /// Somebody gives an interface an address ("172.30.0.11/24"); its subnet's route appears.
    pub fn add_address(&self, index: u32, text: &str) {
        let (address, subnet) = Prefix::parse_with_address(text).expect("invariant: a test writes an address");
        let address = InterfaceAddress {
            interface: IfIndex(index),
            address,
            subnet,
        };
        let mut state = self.state();
        state.addresses.push(address);
        state.tell(Event::Address(address));
        if !subnet.is_host() {
            let mut route = Route::new(subnet, crate::route::Kind::Unicast, Protocol::KERNEL);
            route.scope = Scope::LINK;
            route.source = Some(address.address);
            route.next_hops = Arc::new([NextHop::device(address.interface)]);
            state.put(route.canonical());
        }
    }

    /// Somebody writes a route, whatever was there.
    pub fn put(&self, route: Route) {
        self.state().put(route);
    }

    /// Somebody deletes whatever has this key.
    pub fn delete(&self, key: &RouteKey) {
        let mut state = self.state();
        if let Some(route) = state.routes.remove(key) {
            state.tell(Event::RouteGone(route));
        }
    }

    // === Faults ===

    /// Refuses the next `times` changes of this prefix.
    pub fn refuse(&self, prefix: Prefix, errno: Errno, times: u32) {
        self.state().refuse.insert(prefix, (errno, times));
    }

    /// Does the changes of the next `times` batches, but loses the answers.
    pub fn lose_answers(&self, times: u32) {
        self.state().lose_answers = times;
    }

    /// Interrupts the next `times` dumps.
    pub fn interrupt_dumps(&self, times: u32) {
        self.state().interrupt_dumps = times;
    }

    /// From now on events are lost; when it ends, one [`Event::Resync`] tells that some were.
    pub fn lose_events(&self, lose: bool) {
        let mut state = self.state();
        if std::mem::replace(&mut state.lose_events, lose) && !lose {
            state.events.push(Event::Resync);
        }
    }

    // === Looking ===

    /// Takes the events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }

    /// Takes the changes that were asked for since the last call, refused ones included.
    pub fn take_applied(&self) -> Vec<Change> {
        std::mem::take(&mut self.state().applied)
    }

    /// Every route, sorted by key.
    pub fn all_routes(&self) -> Vec<Route> {
        let state = self.state();
        state.routes.values().map(|r| state.shown(r)).collect()
    }
}

impl State {
    fn tell(&mut self, event: Event) {
        if !self.lose_events {
            self.events.push(event);
        }
    }

    fn put(&mut self, route: Route) {
        self.routes.insert(route.key(), route.clone());
        self.tell(Event::Route(route));
    }

    fn flush(&mut self, index: IfIndex) {
        self.routes
            .retain(|_, r| r.object.is_some() || !r.interfaces().any(|i| i == index));
    }

    /// Can the kernel send this way?
    fn reaches(&self, hop: &NextHop) -> Result<(), Errno> {
        let index = hop.interface.ok_or(Errno::ENODEV)?;
        let interface = self.interfaces.get(&index).ok_or(Errno::ENODEV)?;
        if !interface.up {
            return Err(Errno::ENETDOWN);
        }
        let Some(gateway) = hop.gateway else { return Ok(()) };
        let link_local = matches!(gateway, std::net::IpAddr::V6(a) if a.is_unicast_link_local());
        let on_link = |r: &Route| r.prefix.contains(gateway) && r.next_hops.contains(&NextHop::device(index));
        if hop.onlink || link_local || self.routes.values().any(on_link) {
            return Ok(());
        }
        Err(Errno::EHOSTUNREACH)
    }

    fn change(&mut self, change: &Change) -> Result<(), Errno> {
        let (Change::Create(route) | Change::Replace(route) | Change::Delete(route)) = change else {
            return self.change_object(change);
        };
        if let Some((errno, times)) = self.refuse.get_mut(&route.prefix)
            && *times > 0
        {
            *times -= 1;
            return Err(*errno);
        }
        let there = self.routes.get(&route.key());
        match (change, there) {
            (Change::Create(_), Some(_)) => return Err(Errno::EEXIST),
            (Change::Replace(_), None) => return Err(Errno::ENOENT),
            (Change::Delete(_), there) if !there.is_some_and(|there| describes(route, there)) => {
                return Err(Errno::ESRCH);
            }
            (Change::Delete(_), _) => {
                self.routes.remove(&route.key());
                return Ok(());
            }
            (Change::Create(_) | Change::Replace(_) | Change::Object(_), _) => {}
        }
        match route.object {
            Some(id) if !self.objects.contains_key(&id) => return Err(Errno::EINVAL),
            Some(_) => {}
            None => route.next_hops.iter().try_for_each(|hop| self.reaches(hop))?,
        }
        self.routes.insert(route.key(), Route::clone(route));
        Ok(())
    }

    /// The route as the kernel shows it: with its object's next hops.
    fn shown(&self, route: &Route) -> Route {
        let mut route = route.clone();
        if let Some(id) = route.object {
            let find = |id| self.objects.get(&id).map(|o| &o.body);
            route.next_hops = hops_of(id, find).unwrap_or_default();
        }
        route
    }

    fn dump(&mut self) -> Result<(), KernelError> {
        if self.interrupt_dumps > 0 {
            self.interrupt_dumps -= 1;
            return Err(KernelError::DumpInterrupted);
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    fn routes(&mut self, filter: Filter) -> Result<Vec<Route>, KernelError> {
        let mut state = self.state();
        state.dump()?;
        let passes = |r: &&Route| r.table == filter.table && filter.protocol.is_none_or(|p| p == r.protocol);
        Ok(state.routes.values().filter(passes).map(|r| state.shown(r)).collect())
    }

    fn interfaces(&mut self) -> Result<Vec<Interface>, KernelError> {
        let mut state = self.state();
        state.dump()?;
        Ok(state.interfaces.values().cloned().collect())
    }

    fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, KernelError> {
        let mut state = self.state();
        state.dump()?;
        Ok(state.addresses.clone())
    }

    fn objects(&mut self) -> Result<Option<Vec<Object>>, KernelError> {
        let mut state = self.state();
        state.dump()?;
        Ok(state.has_objects.then(|| state.objects.values().cloned().collect()))
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, KernelError> {
        let mut state = self.state();
        state.applied.extend_from_slice(changes);
        let mut refusals = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            if let Err(errno) = state.change(change) {
                refusals.push(Refusal {
                    index,
                    errno: errno as i32,
                    message: None,
                });
            }
        }
        if state.lose_answers > 0 {
            state.lose_answers -= 1;
            return Err(KernelError::Overrun);
        }
        Ok(refusals)
    }
}

/// Does what is to be deleted name what is there? A route by an object is named by the object.
fn describes(asked: &Route, there: &Route) -> bool {
    match asked.object {
        Some(_) => (asked.object, asked.protocol) == (there.object, there.protocol),
        None => asked == there,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Kind;

    #[test]
    fn answers_as_the_kernel_does() {
        let mut k = FakeKernel::new();
        k.set_interface(2, "eth0", true);
        k.add_address(2, "172.30.0.11/24");
        let mut r = Route::new("10.1.0.0/16".parse().unwrap(), Kind::Unicast, Protocol::BIRD);
        r.next_hops = Arc::new([NextHop::via("172.30.0.12".parse().unwrap(), IfIndex(2))]);
        let mut far = r.clone();
        far.prefix = "10.2.0.0/16".parse().unwrap();
        far.next_hops = Arc::new([NextHop::via("192.0.2.1".parse().unwrap(), IfIndex(2))]);
        let mut gone = far.clone();
        gone.next_hops = Arc::new([NextHop::device(IfIndex(9))]);
        let changes = [
            Change::Create(r.clone().into()),
            Change::Create(r.clone().into()),
            Change::Create(far.clone().into()),
            Change::Create(gone.into()),
            Change::Replace(far.clone().into()),
            Change::Delete(far.into()),
        ];
        let errors: Vec<_> = k
            .apply(&changes)
            .unwrap()
            .iter()
            .map(|r| (r.index, Errno::from_raw(r.errno)))
            .collect();
        let want = [
            (1, Errno::EEXIST),
            (2, Errno::EHOSTUNREACH),
            (3, Errno::ENODEV),
            (4, Errno::ENOENT),
            (5, Errno::ESRCH),
        ];
        assert_eq!(errors, want);
        k.take_events();
        k.set_interface(2, "eth0", false);
        assert!(k.all_routes().is_empty(), "they went with the interface");
        assert_eq!(k.take_events().len(), 1, "and nobody was told");
    }
}
