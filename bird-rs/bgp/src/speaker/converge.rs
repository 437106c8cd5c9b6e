//! When the initial table is complete (RFC 4724 section 4.1).
//!
//! After a start, peers that keep our old routes and felix, which keeps its old ones, must not sweep before we have
//! heard from everybody. So End-of-RIB and the fib's in-sync mark wait until every configured peer is up and has said
//! End-of-RIB. Peers that are not there, or may be waiting for us, or have not promised an End-of-RIB, are waited for no
//! longer than [`AFTER_LAST_UP`] after the last one came up, and nobody longer than [`IN_ALL`]. After a restart from which
//! routes are to be recovered it is [`WHEN_RECOVERING`]: what is swept then is in use.
//!
//! Waiting begins with the first configuration that names a peer or felix: one without them says nothing about the
//! routes that others keep for us, and so can never complete them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::packet::FamilySet;
use crate::rib::SourceId;

/// How long we wait for stragglers after the last peer came up. Peers retry to connect every few seconds.
pub(super) const AFTER_LAST_UP: Duration = Duration::from_secs(5);
/// The same when felix and peers keep what we had. The neighbours may be restarting, too, by an upgrade of the whole cluster:
/// so long takes one that stops, starts, and tries to connect after a delay and once more.
pub(super) const WHEN_RECOVERING: Duration = Duration::from_secs(15);
/// How long we wait in all: shorter than the time for which peers keep routes by default, which is 120 s.
pub(super) const IN_ALL: Duration = Duration::from_secs(30);

/// Waiting for the initial table.
#[derive(Debug, Default)]
pub(super) struct Convergence {
    done: bool,
    /// `None` until waiting begins.
    give_up_at: Option<Duration>,
    /// After the last peer came up.
    stragglers: Duration,
    last_up: Option<Duration>,
    /// Peers that have not been up yet.
    expected: BTreeSet<SourceId>,
    /// Peers that are up.
    awaited: BTreeMap<SourceId, Awaited>,
}

#[derive(Debug)]
struct Awaited {
    /// Whose End-of-RIB is still to come.
    families: FamilySet,
    /// It has promised to say it, and is not waiting for ours.
    certain: bool,
}

impl Convergence {
    /// Waiting begins, unless it has. `longest` is the configured limit; `recovering`: others keep what we had.
    pub(super) fn begin(&mut self, now: Duration, longest: Duration, recovering: bool) {
        self.stragglers = if recovering { WHEN_RECOVERING } else { AFTER_LAST_UP };
        self.give_up_at.get_or_insert(now + IN_ALL.min(longest));
    }

    /// Nobody keeps anything for us.
    pub(super) fn nothing_to_recover(&mut self) {
        self.stragglers = AFTER_LAST_UP;
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

    /// A peer is up with these families. `certain`: it has promised an End-of-RIB for each and waits for nobody with it.
    pub(super) fn up(&mut self, now: Duration, peer: SourceId, families: FamilySet, certain: bool) {
        self.expected.remove(&peer);
        self.awaited.insert(peer, Awaited { families, certain });
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
        if let Some(awaited) = self.awaited.get_mut(&peer) {
            awaited.families.remove(family);
        }
    }

    /// When waiting ends at the latest; `None` when it has, or has not begun.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let give_up_at = self.give_up_at.filter(|_| !self.done)?;
        let talking = self.awaited.values().any(|a| a.certain && !a.families.is_empty());
        let last_up = self.last_up.filter(|_| !talking);
        Some(last_up.map_or(give_up_at, |up| give_up_at.min(up + self.stragglers)))
    }

    /// Decides; `true` when waiting ends now.
    pub(super) fn check(&mut self, now: Duration) -> bool {
        let heard_all = self.expected.is_empty() && self.awaited.values().all(|a| a.families.is_empty());
        let over = self.deadline().is_some_and(|deadline| heard_all || deadline <= now);
        self.done |= over;
        over
    }
}
