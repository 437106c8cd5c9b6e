//! How many changes of routes there were, and what became of them: BIRD's "Route change stats".
//!
//! Counted where they happen, in plain integers beside the routes. Imports are counted for each source of a table. A
//! view runs its policy once for all its members, so what it holds back is counted once for the group; what a member was
//! told is counted for the member.

use std::ops::{AddAssign, Sub};

use rustc_hash::FxHashMap;

use super::path::{Filtered, SourceId};
use super::table::Inserted;

/// Changes of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// All of them.
    pub received: u64,
    /// Against the rules: loops, unusable attributes; routes that may not go there.
    pub rejected: u64,
    /// The policy said no.
    pub filtered: u64,
    /// Nothing new, or beyond a limit.
    pub ignored: u64,
    /// Taken over.
    pub accepted: u64,
}

/// Changes in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Routes announced.
    pub updates: Changes,
    /// Routes withdrawn.
    pub withdraws: Changes,
}

impl Traffic {
    /// A route was told. `was_used`: another one was used in its place until now.
    pub fn update(&mut self, imported: Result<Inserted, Filtered>, was_used: bool) {
        self.updates.received += 1;
        match imported {
            Ok(Inserted::New | Inserted::Replaced) => self.updates.accepted += 1,
            Ok(Inserted::Unchanged) | Err(Filtered::ImportLimit) => self.updates.ignored += 1,
            Err(Filtered::ImportPolicy) => self.updates.filtered += 1,
            Err(_) => self.updates.rejected += 1,
        }
        self.withdraws.accepted += u64::from(imported.is_err() && was_used);
    }

    /// Routes were taken back, of which so many were used.
    pub fn withdraw(&mut self, routes: u64, used: u64) {
        self.withdraws.received += routes;
        self.removed(routes, used);
    }

    /// Routes went without having been taken back, of which so many were used.
    pub fn removed(&mut self, routes: u64, used: u64) {
        self.withdraws.accepted += used;
        self.withdraws.ignored += routes.saturating_sub(used);
    }
}

impl AddAssign for Changes {
    fn add_assign(&mut self, more: Self) {
        self.received += more.received;
        self.rejected += more.rejected;
        self.filtered += more.filtered;
        self.ignored += more.ignored;
        self.accepted += more.accepted;
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.updates += more.updates;
        self.withdraws += more.withdraws;
    }
}

/// What a view held back from a member, and saw go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// By the rules of propagation, or for want of a next hop.
    pub(super) rejected: u64,
    /// By the policy.
    pub(super) filtered: u64,
    /// Announced before, and without a route now.
    pub(super) gone: u64,
}

/// What a view held back from all of its members, and of whose routes.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Seen,
    filtered_from: FxHashMap<SourceId, u64>,
}

impl Tally {
    /// The policy rejected a route of this source.
    pub fn filtered(&mut self, from: SourceId) {
        self.seen.filtered += 1;
        *self.filtered_from.entry(from).or_default() += 1;
    }

    /// The rules forbid a route.
    pub fn rejected(&mut self) {
        self.seen.rejected += 1;
    }

    /// What was announced is there no more.
    pub fn gone(&mut self) {
        self.seen.gone += 1;
    }

    /// The same for a member that is this source: that it is not told its own routes is a rule.
    pub(super) fn by(&self, member: SourceId) -> Seen {
        let own = self.filtered_from.get(&member).copied().unwrap_or_default();
        Seen {
            rejected: self.seen.rejected + own,
            filtered: self.seen.filtered - own,
            gone: self.seen.gone,
        }
    }
}

impl Sub for Seen {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Seen {
            rejected: self.rejected.saturating_sub(before.rejected),
            filtered: self.filtered.saturating_sub(before.filtered),
            gone: self.gone.saturating_sub(before.gone),
        }
    }
}

/// What a member of a view was told, and in which view.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) announced: u64,
    pub(super) withdrawn: u64,
    /// Its own routes, which it is not told.
    pub(super) own: u64,
    /// What the view had seen before this member came from another one.
    since: Seen,
    /// What the views saw that it was in before.
    before: Seen,
}

impl Told {
    /// It goes from one view to another.
    pub(super) fn moved(&mut self, from: Seen, to: Seen) {
        let here = from - self.since;
        self.before.rejected += here.rejected;
        self.before.filtered += here.filtered;
        self.before.gone += here.gone;
        self.since = to;
    }

    /// The same as BIRD counts it.
    pub(super) fn traffic(&self, view: Seen) -> Traffic {
        let mut all = *self;
        all.moved(view, view);
        let Seen {
            rejected,
            filtered,
            gone,
        } = all.before;
        let rejected = rejected + self.own;
        Traffic {
            updates: Changes {
                received: self.announced + rejected + filtered,
                rejected,
                filtered,
                ignored: 0,
                accepted: self.announced,
            },
            withdraws: Changes {
                received: gone,
                accepted: self.withdrawn,
                ..Changes::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_update_is_counted_once() {
        let mut traffic = Traffic::default();
        for imported in [
            Ok(Inserted::New),
            Ok(Inserted::Replaced),
            Ok(Inserted::Unchanged),
            Err(Filtered::ImportPolicy),
            Err(Filtered::ImportLimit),
            Err(Filtered::AsLoop),
        ] {
            traffic.update(imported, true);
        }
        let updates = traffic.updates;
        assert_eq!(updates.received, 6);
        let sum = updates.rejected + updates.filtered + updates.ignored + updates.accepted;
        assert_eq!(updates.received, sum);
        // Three times a route that was used went.
        assert_eq!(traffic.withdraws.accepted, 3);
        traffic.withdraw(2, 1);
        traffic.removed(5, 4);
        assert_eq!(
            (
                traffic.withdraws.received,
                traffic.withdraws.accepted,
                traffic.withdraws.ignored
            ),
            (2, 8, 2)
        );
    }

    #[test]
    fn own_routes_are_rejected_and_not_filtered() {
        let mut tally = Tally::default();
        let (one, other) = (SourceId(1), SourceId(2));
        [one, one, other].into_iter().for_each(|source| tally.filtered(source));
        tally.rejected();
        assert_eq!((tally.by(one).rejected, tally.by(one).filtered), (3, 1));
        assert_eq!((tally.by(SourceId(3)).rejected, tally.by(SourceId(3)).filtered), (1, 3));
    }

    #[test]
    fn what_a_view_saw_before_a_member_came_is_not_the_members() {
        let seen = |rejected, filtered| Seen {
            rejected,
            filtered,
            gone: 0,
        };
        let mut told = Told {
            announced: 3,
            own: 1,
            ..Told::default()
        };
        told.moved(seen(2, 5), seen(100, 100));
        let updates = told.traffic(seen(101, 103)).updates;
        assert_eq!((updates.rejected, updates.filtered, updates.accepted), (4, 8, 3));
        assert_eq!(updates.received, 15);
    }
}
