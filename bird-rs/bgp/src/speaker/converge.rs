//! When the initial table is complete (RFC 4724 section 4.1).
//!
//! After a start, peers that keep our old routes and felix, which keeps its old ones, must not sweep before we have
//! heard from everybody. So End-of-RIB and the fib's in-sync mark wait until every configured peer is up and has said
//! End-of-RIB, but no longer than [`AFTER_LAST_UP`] after the last one came up, and never longer than [`IN_ALL`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::packet::FamilySet;
use crate::rib::SourceId;

/// How long we wait for stragglers after the last peer came up. Peers retry to connect every few seconds.
pub(super) const AFTER_LAST_UP: Duration = Duration::from_secs(5);
/// How long we wait in all: shorter than the time for which peers keep routes by default, which is 120 s.
pub(super) const IN_ALL: Duration = Duration::from_secs(30);

/// Waiting for the initial table.
#[derive(Debug)]
pub(super) struct Convergence {
    done: bool,
    give_up_at: Duration,
    last_up: Option<Duration>,
    /// Peers that have not been up yet.
    expected: BTreeSet<SourceId>,
    /// Families whose End-of-RIB is still to come, of peers that are up.
    awaited: BTreeMap<SourceId, FamilySet>,
}

impl Convergence {
    /// Waiting begins. `longest` is the configured limit.
    pub(super) fn new(now: Duration, longest: Duration) -> Self {
        Convergence {
            done: false,
            give_up_at: now + IN_ALL.min(longest),
            last_up: None,
            expected: BTreeSet::new(),
            awaited: BTreeMap::new(),
        }
    }

    /// Is the initial table complete?
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// There is a peer to wait for.
    pub(super) fn expect(&mut self, peer: SourceId) {
        self.expected.insert(peer);
    }

    /// A peer is not to be waited for: it was removed or disabled.
    pub(super) fn forget(&mut self, peer: SourceId) {
        self.expected.remove(&peer);
        self.awaited.remove(&peer);
    }

    /// A peer is up with these families.
    pub(super) fn up(&mut self, now: Duration, peer: SourceId, families: FamilySet) {
        self.expected.remove(&peer);
        self.awaited.insert(peer, families);
        self.last_up = Some(now);
    }

    /// A peer is down again; it may come back in time.
    pub(super) fn down(&mut self, peer: SourceId) {
        if self.awaited.remove(&peer).is_some() {
            self.expected.insert(peer);
        }
    }

    /// A peer has said End-of-RIB.
    pub(super) fn end_of_rib(&mut self, peer: SourceId, family: crate::packet::AfiSafi) {
        if let Some(families) = self.awaited.get_mut(&peer) {
            families.remove(family);
        }
    }

    /// When waiting ends at the latest; `None` when it has.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let stragglers = self.last_up.map_or(self.give_up_at, |up| up + AFTER_LAST_UP);
        (!self.done).then(|| stragglers.min(self.give_up_at))
    }

    /// Decides; `true` when waiting ends now.
    pub(super) fn check(&mut self, now: Duration) -> bool {
        let heard_all = self.expected.is_empty() && self.awaited.values().all(|families| families.is_empty());
        let over = self.deadline().is_some_and(|deadline| heard_all || deadline <= now);
        self.done |= over;
        over
    }
}
