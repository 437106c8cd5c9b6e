//! One table and the groups that announce from it.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tortie_net::{Family, Prefix};

use super::export::{self, Held, RouteRef, View};
use super::rounds::Rounds;
use super::tables::{Announced, Shared, TableRoute};
use crate::filter::Notes;
use crate::packet::Nlri;
use crate::rib::{AttrId, Lanes, Outbox, Path, Place, PrefixId, SourceId, Table, Traffic, decide};

#[derive(Debug)]
pub(super) struct Group {
    pub(super) view: View,
    pub(super) outbox: Outbox,
    /// What its members are sent alike.
    pub(super) rounds: Rounds,
    pub(super) heir: Heir,
}

/// Does a group announce something else than its view says, since it began with what another one announced?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heir {
    /// It announces what its view says.
    None,
    /// It began as the group with this number, and others of that group's members may come.
    Of(usize),
    /// It began as another group, and nobody comes any more.
    Closed,
}

/// A table and what is announced from it.
#[derive(Debug)]
pub(super) struct Slot<F> {
    pub(super) name: Arc<str>,
    pub(super) table: Table<F>,
    pub(super) groups: Vec<Option<Group>>,
    /// Of the groups that announce every path. Without such a group there are none.
    pub(super) lanes: Lanes,
    /// What each source told, by [`SourceId`].
    pub(super) imports: Vec<Traffic>,
}

impl<F: Family> Slot<F> {
    /// What a source has told so far.
    pub(super) fn imports(&mut self, source: SourceId) -> &mut Traffic {
        let at = usize::from(source.0);
        if self.imports.len() <= at {
            self.imports.resize(at + 1, Traffic::default());
        }
        &mut self.imports[at]
    }

    pub(super) fn lacks(&self, prefix: F, source: SourceId, path_id: u32) -> bool {
        let Some(id) = self.table.id(prefix) else { return true };
        let has = |p: &Path| p.source() == source && p.path_id() == path_id && p.filtered().is_none();
        !self.table.paths(id).iter().any(has)
    }

    /// The group with this view, filled with the whole table when it is new.
    pub(super) fn group(&mut self, view: View, shared: &mut Shared) -> usize {
        let same = |group: &Option<Group>| group.as_ref().is_some_and(|g| g.view == view && g.heir == Heir::None);
        if let Some(at) = self.groups.iter().position(same) {
            return at;
        }
        let mut group = Group {
            view,
            outbox: Outbox::default(),
            rounds: Rounds::default(),
            heir: Heir::None,
        };
        let ids: Vec<PrefixId> = self.table.ids().collect();
        self.assign(&ids, group.view.adds_paths());
        announce(&self.table, &self.lanes, &mut group, &ids, shared);
        self.place(group)
    }

    /// Gives a group a number.
    pub(super) fn place(&mut self, group: Group) -> usize {
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
            View::Watch(_) => group.outbox.clear(&mut shared.learned),
        }
        if !self.adds_paths() {
            self.lanes = Lanes::default();
        }
    }

    /// Does a group announce every path?
    fn adds_paths(&self) -> bool {
        self.groups.iter().flatten().any(|group| group.view.adds_paths())
    }

    /// Numbers the paths of these prefixes, if that is wanted.
    fn assign(&mut self, ids: &[PrefixId], wanted: bool) {
        for &id in ids.iter().filter(|_| wanted) {
            self.lanes.assign(id, self.table.paths(id));
        }
    }

    /// What a place in a group's outbox is called on the wire.
    pub(super) fn nlri(&self, group: &Group, place: Place) -> Nlri {
        if group.view.adds_paths() {
            let lane = self.lanes.lane(place);
            Nlri {
                path_id: lane.announced_id(),
                prefix: self.table.prefix(lane.prefix).erase(),
            }
        } else {
            Nlri::from(self.table.prefix(PrefixId(place.0)).erase())
        }
    }

    /// What a group announces of a prefix.
    pub(super) fn announced<'a>(&'a self, group: &'a Group, id: PrefixId) -> impl Iterator<Item = Announced> + 'a {
        let lanes = self.lanes.of(id).filter(|_| group.view.adds_paths());
        let places = lanes.map(|lane| (lane.place, Some(lane)));
        let whole = (!group.view.adds_paths()).then(|| (Place::from(id), None));
        places.chain(whole).filter_map(move |(place, lane)| {
            let (attrs, from) = group.outbox.announced(place)?;
            let net = self.table.prefix(id).erase();
            let secondary = matches!(&group.view, View::Bgp(view) if view.secondary.is_some());
            Some(Announced {
                net,
                attrs,
                from,
                lane,
                secondary,
            })
        })
    }

    pub(super) fn settle(&mut self, shared: &mut Shared) {
        let changed = self
            .table
            .settle(&shared.decision, &shared.traits, &shared.learned, &shared.hops);
        self.assign(&changed, self.adds_paths());
        for group in self.groups.iter_mut().flatten() {
            announce(&self.table, &self.lanes, group, &changed, shared);
        }
        self.tell_next_hops(&changed, shared);
        let (groups, lanes) = (&self.groups, &mut self.lanes);
        let used = |place: Place, adds_paths: bool| {
            let mut groups = groups.iter().flatten().filter(|g| g.view.adds_paths() == adds_paths);
            groups.any(|group| group.outbox.uses(place))
        };
        lanes.reclaim(|place| used(place, true));
        self.table.reclaim(|id| lanes.uses(id) || used(id.into(), false));
    }

    pub(super) fn visit(&self, id: PrefixId, net: Prefix, shared: &Shared, each: &mut impl FnMut(TableRoute<'_>)) {
        let candidates = self.table.candidates(id, &shared.traits, &shared.learned, &shared.hops);
        let best = self.table.best(id);
        for (place, path) in self.table.paths(id).iter().enumerate() {
            let at = candidates.iter().position(|c| std::ptr::eq(c.path, path));
            // The best path is the first one, and so the first candidate.
            let reason = at.map(|at| shared.decision.explain(&candidates, 0, at));
            each(TableRoute {
                net,
                path,
                learned: &shared.learned.get(path.attrs()),
                best: best.is_some_and(|best| std::ptr::eq(best, path)),
                first: place == 0,
                reason,
            });
        }
    }
}

/// Works out what a group announces for these prefixes.
fn announce<F: Family>(table: &Table<F>, lanes: &Lanes, group: &mut Group, ids: &[PrefixId], shared: &mut Shared) {
    let mut announcer = Announcer::new(group, shared);
    for &id in ids {
        let net = table.prefix(id).erase();
        match announcer.view {
            View::Bgp(view) if view.add_paths => {
                for lane in lanes.of(id) {
                    let mut usable = table.paths(id).iter().filter(|path| path.filtered().is_none());
                    announcer.tell(lane.place, net, usable.find(|path| lane.is_of(path)).as_slice());
                }
            }
            View::Bgp(view) if view.secondary.is_some() => {
                let paths = ranked(table, id, view.secondary, announcer.shared);
                announcer.tell_first(id.into(), net, &paths);
            }
            View::Bgp(_) | View::Watch(_) => announcer.tell(id.into(), net, table.best(id).as_slice()),
            View::Fib(view) => {
                let paths = view.paths(table, id, announcer.shared);
                announcer.tell(id.into(), net, &paths);
            }
        }
    }
}

/// The usable paths of a prefix that were not learned from this peer, each the best of those that follow.
fn ranked<'t, F: Family>(
    table: &'t Table<F>,
    id: PrefixId,
    peer: Option<IpAddr>,
    shared: &Shared,
) -> SmallVec<[&'t Path; 4]> {
    let mut candidates = table.candidates(id, &shared.traits, &shared.learned, &shared.hops);
    candidates.retain(|candidate| candidate.traits.address != peer);
    let mut ranked = SmallVec::new();
    while let Some(at) = decide(&shared.decision, &candidates) {
        let path = candidates.remove(at).path;
        ranked.extend(table.paths(id).iter().find(|known| std::ptr::eq(*known, path)));
    }
    ranked
}

/// Announcements remembered while a table is worked through: the same attributes come close together, and a table full of
/// different ones must not be remembered whole.
const MEMO: usize = 8 * 1024;

/// Of the paths that an announcement is made of, what it depends on beside the prefix: the last says whether it is stale.
type Parts = SmallVec<[(AttrId, SourceId, bool); 1]>;

/// An announcement, and for which prefixes it is the same.
type Known<'a> = (Result<AttrId, Refusal>, Notes<'a>);

/// Why a group announces nothing of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Its policy.
    Policy,
    /// What rules there are beside it.
    Rules,
}

/// Puts what a group announces into its outbox.
struct Announcer<'a> {
    view: &'a View,
    outbox: &'a mut Outbox,
    shared: &'a mut Shared,
    /// Many prefixes share their attributes, and what is announced depends on little else.
    memo: FxHashMap<Parts, Known<'a>>,
}

impl<'a> Announcer<'a> {
    fn new(group: &'a mut Group, shared: &'a mut Shared) -> Self {
        let Group { view, outbox, .. } = group;
        Announcer {
            view,
            outbox,
            shared,
            memo: FxHashMap::default(),
        }
    }

    /// What is announced comes of these paths, the best one first, or there is nothing.
    fn tell(&mut self, place: Place, net: Prefix, paths: &[&Path]) {
        let Some(best) = paths.first() else {
            return self.tell_nothing(place);
        };
        let announced = self.consider(net, paths);
        if let Err(why) = announced {
            count(self.outbox, why, best.source());
        }
        let announced = announced.ok().map(|attrs| (attrs, best.source()));
        self.set(place, announced);
    }

    /// The first of these paths that may be announced is.
    fn tell_first(&mut self, place: Place, net: Prefix, paths: &[&Path]) {
        if paths.is_empty() {
            return self.tell_nothing(place);
        }
        let mut told = None;
        let mut refused = None;
        for path in paths {
            match self.consider(net, std::slice::from_ref(path)) {
                Ok(attrs) => {
                    told = Some((attrs, path.source()));
                    break;
                }
                // Counted is what the best one was refused for.
                Err(why) => refused = refused.or(Some((why, path.source()))),
            }
        }
        if let (None, Some((why, source))) = (told, refused) {
            count(self.outbox, why, source);
        }
        self.set(place, told);
    }

    fn tell_nothing(&mut self, place: Place) {
        if self.outbox.announced(place).is_some() {
            self.outbox.tally.gone();
        }
        self.set(place, None);
    }

    fn set(&mut self, place: Place, new: Option<(AttrId, SourceId)>) {
        let from = new.map_or(SourceId::NONE, |(_, from)| from);
        let attrs = new.map(|(attrs, _)| attrs);
        match self.view {
            View::Bgp(_) => self.outbox.set(place, attrs, from, &mut self.shared.wire),
            View::Fib(_) => self.outbox.set(place, attrs, from, &mut self.shared.fib),
            View::Watch(_) => self.outbox.set(place, attrs, from, &mut self.shared.learned),
        }
    }

    /// What comes of these paths, as a new reference.
    fn consider(&mut self, net: Prefix, paths: &[&Path]) -> Result<AttrId, Refusal> {
        let part = |path: &&Path| (path.attrs(), path.source(), path.stale().is_left_over());
        let key = paths.iter().map(part).collect();
        if let Some((known, notes)) = self.memo.get(&key)
            && notes.hold_for(net, &self.shared.roas)
        {
            return known.map(|attrs| retain(self.view, attrs, self.shared));
        }
        let mut notes = Notes::default();
        let announced = evaluate(self.view, net, paths, self.shared, &mut notes);
        if self.memo.len() >= MEMO {
            self.memo.clear();
        }
        self.memo.insert(key, (announced, notes));
        announced
    }
}

fn count(outbox: &mut Outbox, why: Refusal, source: SourceId) {
    match why {
        Refusal::Policy => outbox.tally.filtered(source),
        Refusal::Rules => outbox.tally.rejected(),
    }
}

fn retain(view: &View, attrs: AttrId, shared: &mut Shared) -> AttrId {
    match view {
        View::Bgp(_) => shared.wire.retain(attrs),
        View::Fib(_) => shared.fib.retain(attrs),
        View::Watch(_) => shared.learned.retain(attrs),
    }
}

/// What a view announces for these paths, as a new reference.
fn evaluate<'v>(
    view: &'v View,
    net: Prefix,
    paths: &[&Path],
    shared: &mut Shared,
    notes: &mut Notes<'v>,
) -> Result<AttrId, Refusal> {
    let best = paths.first().ok_or(Refusal::Rules)?;
    let learned = shared.learned.get(best.attrs());
    let route = RouteRef::of(net, best, &learned, shared).ok_or(Refusal::Rules)?;
    let protocol = route.protocol.clone();
    let mut said = Vec::new();
    let announced = match view {
        View::Bgp(view) => {
            let announced = view.announce(&route, &mut said, notes);
            announced.map(|attributes| shared.wire.intern(&attributes))
        }
        View::Fib(view) => {
            let route = view.route(net, paths, shared, (&mut said, notes));
            route.map(|route| shared.fib.intern(&route))
        }
        View::Watch(policy) => {
            let admitted = export::admit(policy, &mut export::context(&route), &mut said, notes);
            admitted.map(|()| shared.learned.retain(best.attrs()))
        }
    };
    shared.log.lines(&protocol, said);
    match announced {
        Ok(attrs) => Ok(attrs),
        Err(Held::Failed(error)) => {
            shared.log.failed(&protocol, net, &error);
            Err(Refusal::Policy)
        }
        Err(Held::Policy) => Err(Refusal::Policy),
        Err(Held::NotReflected | Held::Community | Held::LongLivedStale | Held::RouteLeak | Held::NoNextHop) => {
            Err(Refusal::Rules)
        }
    }
}
