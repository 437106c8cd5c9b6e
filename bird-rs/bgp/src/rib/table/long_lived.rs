//! Routes that outlive their peer's restart time (RFC 9494 section 4.2).

use rustc_hash::FxHashMap;
use tortie_net::{Community, Family};

use super::super::intern::{AttrId, Interner};
use super::super::path::{Learned, Path, SourceId, Stale};
use super::{PrefixId, Table};

impl<F: Family> Table<F> {
    /// Makes long-lived stale ones of a source's paths that are stale by its restart: they get LLGR_STALE, so that they
    /// lose to all others here and elsewhere. Those with NO_LLGR go. Returns how many stay and how many went.
    ///
    /// What was received gets the community too, so that a new import policy sees the route as what it is.
    pub fn long_live(&mut self, source: SourceId, interner: &mut Interner<Learned>) -> (usize, usize) {
        let mut memo = FxHashMap::default();
        let mut kept = 0;
        for i in 0..self.nets.len() {
            let aging = |path: &&mut Path| path.source == source && path.stale == Stale::Restart;
            let mut touched = false;
            let prefix = self.nets[i].prefix;
            for path in self.nets[i].paths.as_mut_slice().iter_mut().filter(aging) {
                let may_not = |id| interner.get(id).attributes.communities.contains(Community::NO_LLGR);
                if may_not(path.attrs) || may_not(path.received) {
                    continue;
                }
                self.journal.was(prefix, path);
                for id in [&mut path.attrs, &mut path.received] {
                    *id = marked(*id, interner, &mut memo);
                }
                path.stale = Stale::LongLived;
                kept += 1;
                touched = true;
            }
            if touched {
                self.touch(PrefixId(i as u32));
            }
        }
        for (id, with) in memo {
            interner.release(id);
            interner.release(with);
        }
        let removed = self.remove_where(source, interner, |path| path.stale == Stale::Restart);
        (kept, removed)
    }
}

/// Exchanges a reference for one to the same with LLGR_STALE. The memo has references of its own to both, so that neither
/// number becomes another value's meanwhile.
fn marked(id: AttrId, interner: &mut Interner<Learned>, memo: &mut FxHashMap<AttrId, AttrId>) -> AttrId {
    let with = match memo.get(&id) {
        Some(known) => interner.retain(*known),
        None => {
            let mut learned = interner.get(id);
            learned.attributes.communities.insert(Community::LLGR_STALE);
            let with = interner.intern(&learned);
            memo.insert(interner.retain(id), interner.retain(with));
            with
        }
    };
    interner.release(id);
    with
}

#[cfg(test)]
mod tests;
