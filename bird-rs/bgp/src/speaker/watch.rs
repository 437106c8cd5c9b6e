//! Watchers of best routes: what a table has, and then what changes in it.
//!
//! A watcher is one more member of an update group, which tells it of a prefix when the attributes of the best path, or who
//! told it, are others than when the watcher was told last. So it costs nothing for changes that went to and fro, and what it
//! does not take waits in the tables, however slow it is. It says when it wants more ([`Speaker::watched`]).
//!
//! Not told: that a path became stale, and that its next hop is reached another way, when nothing else changed with it.

use std::sync::Arc;

use tortie_net::Prefix;

use super::Speaker;
use super::export::View;
use super::listing::{ListedNets, Listing, NoListing};
use super::show::RouteView;
use super::tables::{Membership, TableKey};
use crate::rib::SourceId;

/// Watchers at a time: each may cost some octets for each prefix.
pub const MAX_WATCHERS: usize = 32;

/// A watcher's number. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// What a watcher is told of a prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// The table.
    pub table: Arc<str>,
    /// The prefix.
    pub prefix: Prefix,
    /// Its best route, if it has one that the watcher wants.
    pub route: Option<RouteView>,
}

/// Why nothing can be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWatch {
    /// There is no such table.
    #[error(transparent)]
    Listing(#[from] NoListing),
    /// Too many.
    #[error("there are {MAX_WATCHERS} watchers already")]
    TooMany,
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    id: WatchId,
    nets: ListedNets,
    members: Vec<(TableKey, Membership)>,
}

impl Speaker {
    /// Begins to watch the tables of a listing, its prefixes, and of their best routes those that its policy accepts. Its
    /// other parts say nothing here.
    ///
    /// # Errors
    /// [`NoWatch`].
    pub fn watch(&mut self, listing: &Listing) -> Result<WatchId, NoWatch> {
        let tables = self.listed_tables(listing)?;
        if self.watchers.len() >= MAX_WATCHERS {
            return Err(NoWatch::TooMany);
        }
        let keys = self.tables.keys().into_iter();
        let keys: Vec<TableKey> = keys.filter(|key| tables.contains(self.tables.name(*key))).collect();
        // What its filter prints is logged by the next flush.
        self.unflushed = true;
        let view = View::Watch(listing.policy.clone());
        let mut members = Vec::new();
        for key in keys {
            if let Some(member) = self.tables.join(key, view.clone(), SourceId::NONE) {
                members.push((key, member));
            }
        }
        self.next_watch += 1;
        let id = WatchId(self.next_watch);
        self.watchers.push(Watcher {
            id,
            nets: listing.nets,
            members,
        });
        Ok(id)
    }

    /// Up to about `limit` changes for a watcher since it last asked, the first time all that there is; and whether that is
    /// all for now. To be asked after a flush. `None` when there is no such watcher.
    pub fn watched(&mut self, id: WatchId, limit: usize) -> Option<(Vec<Watched>, bool)> {
        let watcher = self.watchers.iter().find(|watcher| watcher.id == id)?;
        let (nets, members) = (watcher.nets, watcher.members.clone());
        let mut changes = Vec::new();
        for &(key, member) in &members {
            if changes.len() < limit && self.tables.has_work(key, member) {
                let pulled = self.tables.pull(key, member, limit - changes.len(), None);
                let wanted = pulled.into_iter().filter(|(nlri, _)| is_in(nets, nlri.prefix));
                let wanted: Vec<_> = wanted.collect();
                changes.extend(wanted.into_iter().map(|(nlri, there)| Watched {
                    table: self.tables.name(key).clone(),
                    prefix: nlri.prefix,
                    route: there.and_then(|_| self.best_view(key, nlri.prefix)),
                }));
            }
        }
        let all = !members.iter().any(|(key, member)| self.tables.has_work(*key, *member));
        Some((changes, all))
    }

    /// Ends a watcher.
    pub fn unwatch(&mut self, id: WatchId) {
        let Some(at) = self.watchers.iter().position(|watcher| watcher.id == id) else {
            return;
        };
        // What waited for it alone goes with the next flush.
        self.unflushed = true;
        for (key, member) in self.watchers.swap_remove(at).members {
            self.tables.leave(key, member);
        }
    }

    fn best_view(&self, key: TableKey, net: Prefix) -> Option<RouteView> {
        let mut best = None;
        self.tables.visit_one(key, net, |route| {
            if route.best {
                best = self.view(key, &route);
            }
        });
        best
    }
}

fn is_in(nets: ListedNets, net: Prefix) -> bool {
    match nets {
        ListedNets::All => true,
        ListedNets::Exactly(wanted) => net == wanted,
        ListedNets::Covering(covered) => net.covers(covered),
        ListedNets::Within(covering) => covering.covers(net),
    }
}
