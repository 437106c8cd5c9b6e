//! What bird-rs's fib stream says of a prefix, and how its next hops are reached now.

use std::collections::BTreeMap;
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

/// The distinct paths in use, each resolved once.
#[derive(Debug, Default)]
pub struct Paths {
    paths: BTreeMap<Arc<FibPath>, (Resolution, usize)>,
}

impl Paths {
    /// One more prefix uses this path; the one copy of it is given back.
    pub fn acquire(&mut self, path: &Arc<FibPath>, view: &View) -> Arc<FibPath> {
        if let Some((known, _)) = self.paths.get_key_value(path) {
            let known = Arc::clone(known);
            if let Some((_, users)) = self.paths.get_mut(path) {
                *users += 1;
            }
            return known;
        }
        self.paths.insert(Arc::clone(path), (resolve(path, view), 1));
        Arc::clone(path)
    }

    /// One prefix uses it no longer.
    pub fn release(&mut self, path: &Arc<FibPath>) {
        if let Some((_, users)) = self.paths.get_mut(path) {
            *users -= 1;
            if *users == 0 {
                self.paths.remove(path);
            }
        }
    }

    /// How a path that is in use is reached.
    pub fn resolution(&self, path: &Arc<FibPath>) -> Resolution {
        self.paths
            .get(path)
            .map_or(Err(Withheld::NoNextHop), |(resolution, _)| resolution.clone())
    }

    /// Resolves all anew; gives those whose answer changed, with what it was.
    pub fn resolve_again(&mut self, view: &View) -> BTreeMap<Arc<FibPath>, Resolution> {
        let mut changed = BTreeMap::new();
        for (path, (resolution, _)) in &mut self.paths {
            let now = resolve(path, view);
            if *resolution != now {
                changed.insert(Arc::clone(path), std::mem::replace(resolution, now));
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
