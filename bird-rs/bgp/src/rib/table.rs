//! Prefixes and their paths.
//!
//! A table stores; it decides only when [`Table::settle`] is called, so that many changes of one prefix cost one
//! decision. Until then the best path of a changed prefix is not meaningful.

mod long_lived;
mod pages;
mod reclaim;
mod sweep;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use tortie_net::Family;

use super::best::{Candidate, Decision, Traits, decide};
use super::intern::{AttrId, Interner};
use super::journal::Journal;
use super::path::{Filtered, Imported, Learned, Path, Paths, PrefixId, SourceId, Stale};
use crate::nexthop::NextHops;

#[derive(Debug)]
struct Net<F> {
    prefix: F,
    paths: Paths,
}

/// Beside each net, apart from it because of alignment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Whose path was best when the net was last settled.
    best: SourceId,
    /// Is it in `dirty`?
    dirty: bool,
    /// Is it in `empty`?
    empty: bool,
}

/// What a source has in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Paths that may be used.
    pub accepted: u32,
    /// Paths that may not.
    pub filtered: u32,
    /// Of those accepted, the best ones when the table was last settled.
    pub best: u32,
}

/// What [`Table::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// A path that was not there.
    New,
    /// Instead of an older one.
    Replaced,
    /// It was there as it is.
    Unchanged,
}

/// A path about to be put into a table. It owns one reference to `received` and one to the accepted attributes.
#[derive(Debug, Clone, Copy)]
pub struct NewPath {
    /// Who told us.
    pub source: SourceId,
    /// Path identifier (RFC 7911), zero without.
    pub path_id: u32,
    /// As it came.
    pub received: AttrId,
    /// What the import made of it.
    pub imported: Imported,
    /// Seconds since the process started.
    pub since: u32,
}

/// Everybody who has told us something, by [`SourceId`].
pub type Sources = [Option<Traits>];

/// All paths to all prefixes of a family, in one table.
#[derive(Debug)]
pub struct Table<F> {
    nets: Vec<Net<F>>,
    marks: Vec<Mark>,
    free: Vec<PrefixId>,
    index: HashTable<PrefixId>,
    counts: Vec<Counts>,
    /// How many prefixes have paths.
    used: usize,
    dirty: Vec<PrefixId>,
    /// Nets without paths, to be freed once nobody announces them any more and others need the room. Those that came first stand
    /// first.
    empty: VecDeque<PrefixId>,
    /// How many nets were added since some were freed.
    grown: usize,
    /// The net of the last path that came.
    last: Option<PrefixId>,
    /// What is new about the paths of sources that somebody watches.
    pub journal: Journal<F>,
}

impl<F: Family> Default for Table<F> {
    fn default() -> Self {
        Table {
            nets: Vec::new(),
            marks: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            counts: Vec::new(),
            used: 0,
            dirty: Vec::new(),
            empty: VecDeque::new(),
            grown: 0,
            last: None,
            journal: Journal::default(),
        }
    }
}

impl<F: Family> Table<F> {
    /// How many prefixes it knows, those without paths but still to be withdrawn somewhere included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Does it know none?
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The number of a prefix.
    pub fn id(&self, prefix: F) -> Option<PrefixId> {
        let hash = FxBuildHasher.hash_one(prefix);
        self.index
            .find(hash, |id| self.nets[id.index()].prefix == prefix)
            .copied()
    }

    /// The number after this one, if it is that of this prefix and has paths. Who told prefixes in some order mostly changes them and
    /// takes them back in the same order; the index need not be asked then.
    pub fn successor(&self, before: PrefixId, prefix: F) -> Option<PrefixId> {
        let next = PrefixId(before.0.checked_add(1)?);
        let net = self.nets.get(next.index())?;
        (net.prefix == prefix && !net.paths.as_slice().is_empty()).then_some(next)
    }

    /// The prefix of a number that is in use.
    pub fn prefix(&self, id: PrefixId) -> F {
        self.nets[id.index()].prefix
    }

    /// All paths of a prefix, the best one first.
    pub fn paths(&self, id: PrefixId) -> &[Path] {
        self.nets[id.index()].paths.as_slice()
    }

    /// The best path, as of the last time the table was settled.
    pub fn best(&self, id: PrefixId) -> Option<&Path> {
        self.paths(id).first().filter(|path| path.filtered.is_none())
    }

    /// Every prefix, by number.
    pub fn ids(&self) -> impl Iterator<Item = PrefixId> + '_ {
        (0u32..)
            .zip(&self.nets)
            .filter(|(_, net)| !net.paths.as_slice().is_empty())
            .map(|(i, _)| PrefixId(i))
    }

    /// What a source has here.
    pub fn counts(&self, source: SourceId) -> Counts {
        self.counts.get(usize::from(source.0)).copied().unwrap_or_default()
    }

    fn counts_mut(&mut self, source: SourceId) -> &mut Counts {
        let at = usize::from(source.0);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, Counts::default());
        }
        &mut self.counts[at]
    }

    fn count(&mut self, source: SourceId, filtered: Option<Filtered>, add: bool) {
        let counts = self.counts_mut(source);
        let count = if filtered.is_some_and(|why| why != Filtered::NextHop) {
            &mut counts.filtered
        } else {
            &mut counts.accepted
        };
        *count = if add { *count + 1 } else { count.saturating_sub(1) };
    }

    fn touch(&mut self, id: PrefixId) {
        let mark = &mut self.marks[id.index()];
        if !mark.dirty {
            mark.dirty = true;
            self.dirty.push(id);
        }
    }

    fn id_or_new(&mut self, prefix: F) -> PrefixId {
        let next = self.last.and_then(|last| self.successor(last, prefix));
        if let Some(id) = next.or_else(|| self.id(prefix)) {
            return id;
        }
        let net = Net {
            prefix,
            paths: Paths::default(),
        };
        let mark = Mark {
            best: SourceId::NONE,
            dirty: false,
            empty: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.nets[id.index()] = net;
                self.marks[id.index()] = mark;
                id
            }
            None => {
                self.grown += 1;
                self.nets.push(net);
                self.marks.push(mark);
                PrefixId(
                    u32::try_from(self.nets.len() - 1).expect("invariant: fewer than 2^32 prefixes fit into memory"),
                )
            }
        };
        let nets = &self.nets;
        self.index.insert_unique(FxBuildHasher.hash_one(prefix), id, |id| {
            FxBuildHasher.hash_one(nets[id.index()].prefix)
        });
        id
    }

    /// Puts a path in, instead of the one that the same source told with the same path id.
    pub fn insert(&mut self, prefix: F, new: NewPath, interner: &mut Interner<Learned>) -> Inserted {
        let id = self.id_or_new(prefix);
        self.last = Some(id);
        let path = Path {
            source: new.source,
            stale: Stale::Fresh,
            filtered: new.imported.err(),
            path_id: new.path_id,
            attrs: new.imported.unwrap_or_else(|_| interner.retain(new.received)),
            received: new.received,
            since: new.since,
        };
        let paths = &mut self.nets[id.index()].paths;
        let old = paths
            .as_mut_slice()
            .iter_mut()
            .find(|p| p.source == path.source && p.path_id == path.path_id);
        let Some(slot) = old else {
            self.used += usize::from(paths.as_slice().is_empty());
            self.journal.came(prefix, &path);
            paths.push(path);
            self.count(new.source, new.imported.err(), true);
            self.touch(id);
            return Inserted::New;
        };
        let mut old = std::mem::replace(slot, path);
        let refused = old.filtered.filter(|why| *why != Filtered::NextHop);
        let same = (old.attrs, old.received, refused) == (slot.attrs, slot.received, slot.filtered);
        if same {
            (slot.since, slot.filtered) = (old.since, old.filtered);
        }
        let was_stale = std::mem::replace(&mut old.stale, Stale::Fresh).is_left_over();
        self.forget(&old, interner);
        self.count(new.source, new.imported.err(), true);
        if same && !was_stale {
            return Inserted::Unchanged;
        }
        self.journal.was(prefix, &old);
        self.touch(id);
        if same { Inserted::Unchanged } else { Inserted::Replaced }
    }

    /// Gives back what a path that is no longer in the table held.
    fn forget(&mut self, path: &Path, interner: &mut Interner<Learned>) {
        self.count(path.source, path.filtered, false);
        interner.release(path.attrs);
        interner.release(path.received);
    }

    /// Takes a path out. `false`: it was not there.
    pub fn remove(&mut self, prefix: F, source: SourceId, path_id: u32, interner: &mut Interner<Learned>) -> bool {
        let id = self.id(prefix);
        id.is_some_and(|id| self.remove_at(id, source, path_id, interner))
    }

    /// The same for the number of a prefix.
    pub fn remove_at(
        &mut self,
        id: PrefixId,
        source: SourceId,
        path_id: u32,
        interner: &mut Interner<Learned>,
    ) -> bool {
        let Net { prefix, paths } = &mut self.nets[id.index()];
        let is_it = |p: &Path| p.source == source && p.path_id == path_id;
        let Some(at) = paths.as_slice().iter().position(is_it) else {
            return false;
        };
        let path = paths.remove(at);
        self.used -= usize::from(paths.as_slice().is_empty());
        self.journal.was(*prefix, &path);
        self.forget(&path, interner);
        self.touch(id);
        true
    }

    /// Imports the `wanted` paths of a source anew, from what was received. `import` gets the path as it was and returns a new
    /// reference to the accepted attributes.
    pub fn reimport(
        &mut self,
        source: SourceId,
        interner: &mut Interner<Learned>,
        wanted: impl Fn(F, &Path) -> bool,
        mut import: impl FnMut(F, &Path, &mut Interner<Learned>) -> Imported,
    ) {
        for i in 0..self.nets.len() {
            let prefix = self.nets[i].prefix;
            for at in 0..self.nets[i].paths.as_slice().len() {
                let path = &self.nets[i].paths.as_slice()[at];
                if path.source != source || !wanted(prefix, path) {
                    continue;
                }
                let old = path.clone();
                let imported = import(prefix, &old, interner);
                let path = &mut self.nets[i].paths.as_mut_slice()[at];
                path.filtered = imported.err();
                path.attrs = imported.unwrap_or_else(|_| interner.retain(old.received));
                let changed = (path.attrs, path.filtered) != (old.attrs, old.filtered);
                interner.release(old.attrs);
                self.count(source, old.filtered, false);
                self.count(source, imported.err(), true);
                if changed {
                    self.journal.was_imported(prefix, &old);
                    self.touch(PrefixId(i as u32));
                }
            }
        }
    }

    /// Has anything changed since the table was last settled?
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Marks every prefix as changed: the decision's knobs or a peer's traits have.
    pub fn touch_all(&mut self) {
        for i in 0..self.nets.len() {
            if !self.nets[i].paths.as_slice().is_empty() {
                self.touch(PrefixId(i as u32));
            }
        }
    }

    /// Marks the prefixes with a path that is `concerned` as changed.
    pub fn touch_where(&mut self, concerned: impl Fn(&Path) -> bool) {
        for i in 0..self.nets.len() {
            if self.nets[i].paths.as_slice().iter().any(&concerned) {
                self.touch(PrefixId(i as u32));
            }
        }
    }

    /// Marks the prefixes that are `concerned` as changed.
    pub fn touch_nets(&mut self, concerned: impl Fn(F) -> bool) {
        for i in 0..self.nets.len() {
            if !self.nets[i].paths.as_slice().is_empty() && concerned(self.nets[i].prefix) {
                self.touch(PrefixId(i as u32));
            }
        }
    }

    /// Chooses the best path of each prefix that changed, among those whose next hop is reachable; returns these prefixes, sorted by number.
    pub fn settle(
        &mut self,
        decision: &Decision,
        sources: &Sources,
        interner: &Interner<Learned>,
        hops: &NextHops,
    ) -> Vec<PrefixId> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        for &id in &dirty {
            let net = &mut self.nets[id.index()];
            for path in net.paths.as_mut_slice() {
                path.weigh(interner, hops);
            }
            choose(net.paths.as_mut_slice(), decision, (sources, interner, hops));
            let first = net.paths.as_slice().first();
            let best = first
                .filter(|p| p.filtered.is_none())
                .map_or(SourceId::NONE, |p| p.source);
            let is_empty = first.is_none();
            let mark = &mut self.marks[id.index()];
            mark.dirty = false;
            let before = std::mem::replace(&mut mark.best, best);
            if is_empty && !std::mem::replace(&mut mark.empty, true) {
                self.empty.push_back(id);
            }
            if before != best {
                for (source, change) in [(before, -1), (best, 1)] {
                    if source != SourceId::NONE {
                        let count = &mut self.counts_mut(source).best;
                        *count = count.saturating_add_signed(change);
                    }
                }
            }
        }
        dirty
    }

    /// The paths of a prefix that may be used, as the decision process sees them, in the order of [`Table::paths`].
    pub fn candidates<'a>(
        &'a self,
        id: PrefixId,
        sources: &'a Sources,
        interner: &'a Interner<Learned>,
        hops: &'a NextHops,
    ) -> SmallVec<[Candidate<'a>; 4]> {
        candidates(self.paths(id), (sources, interner, hops))
            .map(|(_, candidate)| candidate)
            .collect()
    }
}

/// What is known of sources, attributes and next hops.
type Known<'a> = (&'a Sources, &'a Interner<Learned>, &'a NextHops);

fn candidates<'a>(
    paths: &'a [Path],
    (sources, interner, hops): Known<'a>,
) -> impl Iterator<Item = (usize, Candidate<'a>)> {
    let usable = paths.iter().enumerate().filter(|(_, path)| path.filtered.is_none());
    usable.filter_map(|(i, path)| {
        let traits = sources.get(usize::from(path.source.0))?.as_ref()?;
        let learned = interner.get(path.attrs);
        let tracked = || learned.hop.and_then(|hop| hops.metric(hop));
        let igp_metric = learned.igp_metric.or_else(tracked);
        let candidate = Candidate {
            learned,
            traits,
            path,
            igp_metric,
        };
        Some((i, candidate))
    })
}

/// Puts the best path first and the others in order of source and path id.
fn choose(paths: &mut [Path], decision: &Decision, known: Known<'_>) {
    if paths.len() < 2 {
        return;
    }
    paths.sort_unstable_by_key(|p| (p.filtered.is_some(), p.source, p.path_id));
    let best = {
        let (places, candidates): (SmallVec<[usize; 8]>, SmallVec<[Candidate<'_>; 8]>) =
            candidates(paths, known).unzip();
        decide(decision, &candidates).and_then(|best| places.get(best).copied())
    };
    if let Some(best) = best {
        paths[..=best].rotate_right(1);
    }
}

/// What a prefix with at most one path takes, without its share of the index.
#[cfg(test)]
pub(super) const fn octets_per_net<F>() -> usize {
    size_of::<Net<F>>() + size_of::<Mark>()
}
