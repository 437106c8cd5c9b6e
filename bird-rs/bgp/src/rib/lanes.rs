//! Numbers for the paths of a prefix, so that each of them can be announced by itself (add-path, RFC 7911).
//!
//! A path is known by its prefix, its source and the path identifier that the source gave it. As long as it is there, or
//! somebody has still to be told that it is not, it keeps its lane. The lane's number is the path's [`Place`] in the
//! outboxes of all views of a table that announce every path, and one more than that is its path identifier towards
//! peers: never zero, never two paths', and the same whatever becomes of the attributes and of other paths.
//!
//! The lanes of a prefix are a list through one array: sixteen octets for a path, four for a prefix, and nothing while
//! no peer wants several paths.

use super::path::{Path, PrefixId, SourceId};

/// Where something that is announced stands in an outbox: a prefix's number, or with add-path a lane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u32);

impl Place {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<PrefixId> for Place {
    fn from(id: PrefixId) -> Self {
        Place(id.0)
    }
}

/// The end of a list.
const END: u32 = u32::MAX;

/// Free lanes are looked for when so many may be.
const RECLAIM_AT_LEAST: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: PrefixId,
    /// The next lane of the prefix.
    next: u32,
    path_id: u32,
    source: SourceId,
    /// The path was there when its prefix was last looked at.
    occupied: bool,
    /// Is it in `empty`?
    listed: bool,
}

/// A path's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// In the outboxes.
    pub place: Place,
    /// Of which prefix.
    pub prefix: PrefixId,
    /// From whom the path was learned.
    pub source: SourceId,
    /// The path identifier that it came with.
    pub path_id: u32,
}

impl Lane {
    /// The path identifier towards peers.
    pub fn announced_id(&self) -> u32 {
        self.place.0 + 1
    }

    /// Is this the path of this lane?
    pub fn is_of(&self, path: &Path) -> bool {
        (path.source(), path.path_id()) == (self.source, self.path_id)
    }
}

/// The lanes of one table.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    entries: Vec<Entry>,
    /// By prefix: its first lane.
    first: Vec<u32>,
    free: Vec<u32>,
    /// Lanes whose path was not there at some time since they were last looked through.
    empty: Vec<u32>,
    /// How long `empty` gets before it is looked through.
    reclaim_at: usize,
}

impl Lanes {
    /// Gives every usable path of a prefix a lane. Lanes of paths that are gone stay until [`Lanes::reclaim`].
    pub fn assign(&mut self, prefix: PrefixId, paths: &[Path]) {
        let mut at = self.first(prefix);
        while let Some(entry) = self.entries.get_mut(at as usize) {
            let is_of = |p: &Path| (p.source(), p.path_id()) == (entry.source, entry.path_id) && p.filtered().is_none();
            entry.occupied = paths.iter().any(is_of);
            if !entry.occupied && !std::mem::replace(&mut entry.listed, true) {
                self.empty.push(at);
            }
            at = entry.next;
        }
        for path in paths.iter().filter(|path| path.filtered().is_none()) {
            if !self.of(prefix).any(|lane| lane.is_of(path)) {
                self.add(prefix, path);
            }
        }
    }

    fn add(&mut self, prefix: PrefixId, path: &Path) {
        if self.first.len() <= prefix.index() {
            self.first.resize(prefix.index() + 1, END);
        }
        let entry = Entry {
            prefix,
            next: self.first[prefix.index()],
            path_id: path.path_id(),
            source: path.source(),
            occupied: true,
            listed: false,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("invariant: fewer than 2^32 paths fit into memory")
            }
        };
        self.first[prefix.index()] = at;
    }

    fn first(&self, prefix: PrefixId) -> u32 {
        self.first.get(prefix.index()).copied().unwrap_or(END)
    }

    /// The lanes of a prefix, those of paths that are gone included.
    pub fn of(&self, prefix: PrefixId) -> impl Iterator<Item = Lane> + '_ {
        let mut at = self.first(prefix);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            let place = Place(std::mem::replace(&mut at, entry.next));
            Some(entry.lane(place))
        })
    }

    /// The lane of a place that is in use.
    pub fn lane(&self, place: Place) -> Lane {
        self.entries[place.index()].lane(place)
    }

    /// Must the number of this prefix be kept?
    pub fn uses(&self, prefix: PrefixId) -> bool {
        self.first(prefix) != END
    }

    /// Frees the lanes of paths that are gone once nobody `uses` their places any more. Cheap when there are few.
    pub fn reclaim(&mut self, uses: impl Fn(Place) -> bool) {
        if self.empty.len() >= self.reclaim_at.max(RECLAIM_AT_LEAST) {
            self.reclaim_now(uses);
        }
    }

    fn reclaim_now(&mut self, uses: impl Fn(Place) -> bool) {
        let mut kept = Vec::new();
        for at in std::mem::take(&mut self.empty) {
            let entry = &mut self.entries[at as usize];
            if entry.occupied {
                entry.listed = false;
            } else if uses(Place(at)) {
                kept.push(at);
            } else {
                self.unlink(at);
                self.free.push(at);
            }
        }
        self.reclaim_at = 2 * kept.len();
        self.empty = kept;
    }

    fn unlink(&mut self, lane: u32) {
        let Entry { prefix, next, .. } = self.entries[lane as usize];
        let mut at = self.first(prefix);
        if at == lane {
            self.first[prefix.index()] = next;
            return;
        }
        while let Some(entry) = self.entries.get_mut(at as usize) {
            if entry.next == lane {
                entry.next = next;
                return;
            }
            at = entry.next;
        }
    }
}

impl Entry {
    fn lane(&self, place: Place) -> Lane {
        Lane {
            place,
            prefix: self.prefix,
            source: self.source,
            path_id: self.path_id,
        }
    }
}

#[cfg(test)]
mod tests;
