//! What bird-rs's fib stream says of a prefix, and how its next hops are reached now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tortie_netlink::route::{Kind, NextHop, NextHops};

use super::view::{FibHop, View};
use super::why::Withheld;

/// Next hops of one route of the kernel's at most: far below what one message holds.
const HOPS_MAX: usize = 256;

/// A route as bird-rs gives it, without its prefix: many prefixes share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FibPath {
    /// What to do with packets.
    pub kind: Kind,
    /// Where to send them; empty unless unicast.
    pub hops: Vec<FibHop>,
    /// The protocol of bird-rs it was learned from.
    pub protocol: String,
    /// Its peer is gone and may come back (RFC 4724): used as before.
    pub stale: bool,
}

/// How a path's next hops are reached: none for the kinds that have none.
pub type Resolution = Result<NextHops, Withheld>;

/// One of the distinct paths in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathId(u32);

/// The distinct paths in use, each resolved once.
#[derive(Debug, Default)]
pub struct Paths {
    slots: Vec<Slot>,
    /// Slots of no path.
    free: Vec<PathId>,
    ids: HashMap<Arc<FibPath>, PathId>,
}

#[derive(Debug)]
struct Slot {
    path: Arc<FibPath>,
    resolution: Resolution,
    /// How many prefixes use it. None: the slot is free.
    users: usize,
}

impl Paths {
    /// One more prefix uses this path.
    pub fn acquire(&mut self, path: &Arc<FibPath>, view: &View) -> PathId {
        if let Some(id) = self.ids.get(path).copied() {
            if let Some(slot) = self.slot_mut(id) {
                slot.users += 1;
            }
            return id;
        }
        let slot = Slot {
            path: Arc::clone(path),
            resolution: resolve(path, view),
            users: 1,
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => PathId(u32::try_from(self.slots.len()).expect("invariant: paths are fewer than prefixes")),
        };
        match self.slot_mut(id) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.ids.insert(Arc::clone(path), id);
        id
    }

    /// One prefix uses it no longer.
    pub fn release(&mut self, id: PathId) {
        let Some(slot) = self.slot_mut(id) else { return };
        slot.users -= 1;
        if slot.users == 0 {
            let path = Arc::clone(&slot.path);
            self.ids.remove(&path);
            self.free.push(id);
        }
    }

    fn slot_mut(&mut self, id: PathId) -> Option<&mut Slot> {
        self.slots.get_mut(id.0 as usize)
    }

    fn slot(&self, id: PathId) -> &Slot {
        self.slots
            .get(id.0 as usize)
            .expect("invariant: whoever has an id has acquired it")
    }

    /// A path that is in use.
    pub fn path(&self, id: PathId) -> &FibPath {
        &self.slot(id).path
    }

    /// How a path that is in use is reached.
    pub fn resolution(&self, id: PathId) -> Resolution {
        self.slot(id).resolution.clone()
    }

    /// Resolves all anew; gives those whose answer changed, with what it was.
    pub fn resolve_again(&mut self, view: &View) -> BTreeMap<PathId, Resolution> {
        let mut changed = BTreeMap::new();
        for (slot, id) in self.slots.iter_mut().zip(0..).filter(|(slot, _)| slot.users > 0) {
            let now = resolve(&slot.path, view);
            if slot.resolution != now {
                changed.insert(PathId(id), std::mem::replace(&mut slot.resolution, now));
            }
        }
        changed
    }
}

/// Of several next hops those count that are reached; equal ones are one with their weights added.
fn resolve(path: &FibPath, view: &View) -> Resolution {
    if path.kind != Kind::Unicast {
        return Ok(NextHops::default());
    }
    let mut reached: BTreeMap<NextHop, u16> = BTreeMap::new();
    let mut why = Withheld::NoNextHop;
    for hop in &path.hops {
        match view.resolve(hop) {
            Ok(hops) => {
                for h in hops {
                    let weight = reached.entry(NextHop { weight: 1, ..h }).or_default();
                    *weight = weight.saturating_add(h.weight);
                }
            }
            Err(w) => why = w,
        }
    }
    if reached.is_empty() {
        return Err(why);
    }
    Ok(reached
        .into_iter()
        .take(HOPS_MAX)
        .map(|(hop, weight)| NextHop {
            weight: weight.min(256),
            ..hop
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::marks::Marks;
    use tortie_netlink::route::{IfIndex, Interface, InterfaceAddress, Protocol, Route};

    #[test]
    fn a_path_is_one_while_somebody_uses_it() {
        let (mut paths, view) = (Paths::default(), View::default());
        let path = |protocol: &str| {
            Arc::new(FibPath {
                kind: Kind::Blackhole,
                hops: Vec::new(),
                protocol: protocol.into(),
                stale: false,
            })
        };
        let (a, b) = (paths.acquire(&path("a"), &view), paths.acquire(&path("b"), &view));
        assert_eq!((paths.acquire(&path("a"), &view), a == b), (a, false));
        paths.release(a);
        assert_eq!(paths.path(a).protocol, "a");
        paths.release(a);
        let c = paths.acquire(&path("c"), &view);
        assert_eq!(
            (paths.path(c).protocol.as_str(), paths.path(b).protocol.as_str()),
            ("c", "b")
        );
        assert_eq!(paths.slots.len(), 2);
        assert_ne!(paths.acquire(&path("a"), &view), c);
    }

    #[test]
    fn more_next_hops_than_anybody_needs_are_bounded() {
        let interface = Interface {
            index: IfIndex(2),
            name: "eth0".into(),
            up: true,
            carrier: true,
        };
        let subnet = "172.30.0.0/16".parse().unwrap();
        let address = InterfaceAddress {
            interface: IfIndex(2),
            address: "172.30.255.1".parse().unwrap(),
            subnet,
        };
        let mut link = Route::new(subnet, Kind::Unicast, Protocol::KERNEL);
        link.next_hops = Arc::new([NextHop::device(IfIndex(2))]);
        let (view, _) = View::load(vec![interface], vec![address], vec![link.canonical()], Marks::default());
        let hop = |n: usize| FibHop {
            address: Some([172, 30, (n / 250) as u8, (n % 250) as u8 + 1].into()),
            interface: None,
            weight: 256,
            onlink: false,
        };
        let path = |hops| FibPath {
            kind: Kind::Unicast,
            hops,
            protocol: "x".into(),
            stale: false,
        };
        let equal = resolve(&path(vec![hop(0); 300]), &view).unwrap();
        assert_eq!((equal.len(), equal[0].weight), (1, 256));
        let different = resolve(&path((0..5000).map(hop).collect()), &view).unwrap();
        assert_eq!(different.len(), HOPS_MAX);
    }
}
