//! One table and the groups that announce from it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tortie_net::{Family, Prefix};

use super::export::{self, Held, RouteRef, View};
use super::io::{Log, LogEvent};
use super::tables::{LOG_LINES, Shared, TableRoute};
use crate::config::Policy;
use crate::rib::{AttrId, Outbox, Path, PrefixId, SourceId, Stale, Table};

#[derive(Debug)]
pub(super) struct Group {
    pub(super) view: View,
    pub(super) outbox: Outbox,
}

/// A table and what is announced from it.
#[derive(Debug)]
pub(super) struct Slot<F> {
    pub(super) name: Arc<str>,
    pub(super) table: Table<F>,
    pub(super) groups: Vec<Option<Group>>,
}

impl<F: Family> Slot<F> {
    pub(super) fn lacks(&self, prefix: F, source: SourceId, path_id: u32) -> bool {
        let Some(id) = self.table.id(prefix) else { return true };
        let has = |p: &Path| p.source() == source && p.path_id() == path_id && p.filtered().is_none();
        !self.table.paths(id).iter().any(has)
    }

    /// The group with this view, filled with the whole table when it is new.
    pub(super) fn group(&mut self, view: View, shared: &mut Shared) -> usize {
        let same = |group: &Option<Group>| group.as_ref().is_some_and(|g| g.view == view);
        if let Some(at) = self.groups.iter().position(same) {
            return at;
        }
        let mut group = Group {
            view,
            outbox: Outbox::default(),
        };
        let ids: Vec<PrefixId> = self.table.ids().collect();
        announce(&self.table, &mut group, &ids, shared);
        match self.groups.iter().position(Option::is_none) {
            Some(free) => {
                self.groups[free] = Some(group);
                free
            }
            None => {
                self.groups.push(Some(group));
                self.groups.len() - 1
            }
        }
    }

    /// Removes a group that its last member left.
    pub(super) fn tidy(&mut self, at: usize, shared: &mut Shared) {
        let deserted = |group: &mut Group| group.outbox.is_deserted();
        let Some(mut group) = self.groups[at].take_if(deserted) else {
            return;
        };
        match group.view {
            View::Bgp(_) => group.outbox.clear(&mut shared.wire),
            View::Fib(_) => group.outbox.clear(&mut shared.fib),
        }
    }

    pub(super) fn settle(&mut self, shared: &mut Shared) {
        let changed = self.table.settle(&shared.decision, &shared.traits, &shared.learned);
        for group in self.groups.iter_mut().flatten() {
            announce(&self.table, group, &changed, shared);
        }
        let groups = &self.groups;
        self.table
            .reclaim(|id| groups.iter().flatten().any(|group| group.outbox.uses(id)));
    }

    pub(super) fn visit(&self, id: PrefixId, net: Prefix, shared: &Shared, each: &mut impl FnMut(TableRoute<'_>)) {
        let candidates = self.table.candidates(id, &shared.traits, &shared.learned);
        let best = self.table.best(id);
        for path in self.table.paths(id) {
            let at = candidates.iter().position(|c| std::ptr::eq(c.path, path));
            // The best path is the first one, and so the first candidate.
            let reason = at.map(|at| shared.decision.explain(&candidates, 0, at));
            each(TableRoute {
                net,
                path,
                learned: shared.learned.get(path.attrs()),
                best: best.is_some_and(|best| std::ptr::eq(best, path)),
                reason,
            });
        }
    }
}

/// Works out what a group announces for these prefixes.
fn announce<F: Family>(table: &Table<F>, group: &mut Group, ids: &[PrefixId], shared: &mut Shared) {
    // Many prefixes share their attributes, and without a filter what is announced depends on nothing else.
    let mut memo: FxHashMap<(AttrId, SourceId, bool), Option<AttrId>> = FxHashMap::default();
    let by_prefix = match &group.view {
        View::Bgp(view) => matches!(view.policy, Policy::Filter(_)),
        View::Fib(policy) => matches!(policy, Policy::Filter(_)),
    };
    for &id in ids {
        let Some(best) = table.best(id) else {
            set(&mut group.outbox, &group.view, id, None, shared);
            continue;
        };
        let key = (best.attrs(), best.source(), best.stale() == Stale::Restart);
        let announced = match memo.get(&key).filter(|_| !by_prefix) {
            Some(known) => known.map(|attrs| retain(&group.view, attrs, shared)),
            None => {
                let announced = evaluate(&group.view, table.prefix(id).erase(), best, shared);
                memo.insert(key, announced);
                announced
            }
        };
        set(
            &mut group.outbox,
            &group.view,
            id,
            announced.map(|attrs| (attrs, best.source())),
            shared,
        );
    }
}

fn retain(view: &View, attrs: AttrId, shared: &mut Shared) -> AttrId {
    match view {
        View::Bgp(_) => shared.wire.retain(attrs),
        View::Fib(_) => shared.fib.retain(attrs),
    }
}

fn set(outbox: &mut Outbox, view: &View, id: PrefixId, new: Option<(AttrId, SourceId)>, shared: &mut Shared) {
    let from = new.map_or(SourceId::NONE, |(_, from)| from);
    let attrs = new.map(|(attrs, _)| attrs);
    match view {
        View::Bgp(_) => outbox.set(id, attrs, from, &mut shared.wire),
        View::Fib(_) => outbox.set(id, attrs, from, &mut shared.fib),
    }
}

/// What a view announces for one route, as a new reference.
fn evaluate(view: &View, net: Prefix, best: &Path, shared: &mut Shared) -> Option<AttrId> {
    let at = usize::from(best.source().0);
    let (protocol, source) = shared.names.get(at)?.as_ref()?;
    let route = RouteRef {
        net,
        learned: shared.learned.get(best.attrs()),
        traits: shared.traits.get(at)?.as_ref()?,
        protocol,
        source: *source,
        stale: best.stale() == Stale::Restart,
    };
    let announced = match view {
        View::Bgp(view) => view.announce(&route).map(|attributes| shared.wire.intern(attributes)),
        View::Fib(policy) => export::fib(policy, &route).map(|route| shared.fib.intern(route)),
    };
    match announced {
        Ok(attrs) => Some(attrs),
        Err(Held::Failed(error)) => {
            if shared.log.len() < LOG_LINES {
                let event = LogEvent::FilterFailed {
                    net,
                    reason: error.to_string(),
                };
                shared.log.push(Log {
                    protocol: protocol.clone(),
                    event,
                });
            }
            None
        }
        Err(Held::NotReflected | Held::Community | Held::RouteLeak | Held::Policy | Held::NoNextHop) => None,
    }
}
