//! What many members have to be told at once: the same stretch of the log, worked out once for all of them.
//!
//! A member that has been through its view and has nothing else pending was told exactly what the view announced before
//! the changes that it has not noted. Members at the same place in the log therefore have to be told the same, but for
//! what they told us themselves: of a change whose route was learned from them they hear nothing, and nothing has to be
//! remembered of what they were told. Where that does not hold, because a route's source has changed, the member has to
//! [pull](Outbox::pull).

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Change, Feed, MemberId, Outbox};
use crate::rib::intern::AttrId;
use crate::rib::lanes::Place;
use crate::rib::path::SourceId;
use crate::rib::stats::Told;

/// A stretch of an outbox's log: the numbers of its first change and of the next one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch {
    from: u64,
    to: u64,
}

/// What a stretch of the log changed at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundItem {
    /// What is announced now, or `None` to withdraw.
    pub attrs: Option<AttrId>,
    /// The member that must not be told: who told us what is announced, or what was announced.
    pub owner: SourceId,
    /// Of what.
    pub place: Place,
}

/// What a stretch of the log has for the members that can be told of it as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Withdrawals first, equal attributes of one owner together.
    pub items: Vec<RoundItem>,
    /// How many of the items announce.
    announced: u64,
    /// By how much the number of routes that a member has from us grows.
    grew: i64,
    /// What is different for these.
    own: FxHashMap<SourceId, Own>,
    /// These have to be told something else.
    odd: FxHashSet<SourceId>,
}

/// What of a round is a member's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    /// Items.
    items: u64,
    /// Of these, how many announce.
    announced: u64,
    /// By how much more the number of routes grows that the member has from us.
    grew: i64,
}

/// A round that is being made.
#[derive(Default)]
struct Making {
    round: Round,
    /// Of whom the last changes were: many in a row are of the same.
    last: Option<(SourceId, Own)>,
}

impl Making {
    fn own(&mut self, source: SourceId) -> &mut Own {
        if self.last.is_some_and(|(last, _)| last != source) {
            self.put_down();
        }
        &mut self.last.get_or_insert((source, Own::default())).1
    }

    fn put_down(&mut self) {
        if let Some((source, more)) = self.last.take() {
            let own = self.round.own.entry(source).or_default();
            own.items += more.items;
            own.announced += more.announced;
            own.grew += more.grew;
        }
    }

    fn add(&mut self, change: &Change) {
        let Change {
            place,
            before,
            now,
            before_from,
            now_from,
        } = *change;
        if (before, before_from) == (now, now_from) {
            return;
        }
        self.round.grew += i64::from(now.is_some()) - i64::from(before.is_some());
        if before_from != now_from {
            if before.is_some() {
                self.own(before_from).grew += 1;
            }
            if now.is_some() {
                self.own(now_from).grew -= 1;
            }
            if before.is_some() && now.is_some() {
                // It was told, and now it is its own.
                self.round.odd.insert(now_from);
            }
        }
        if before == now {
            // The others were told already.
            self.round.odd.insert(before_from);
            return;
        }
        let owner = if now.is_some() { now_from } else { before_from };
        self.round.announced += u64::from(now.is_some());
        let own = self.own(owner);
        own.items += 1;
        own.announced += u64::from(now.is_some());
        self.round.items.push(RoundItem {
            attrs: now,
            owner,
            place,
        });
    }

    fn done(mut self) -> Round {
        self.put_down();
        self.round.items.sort_unstable();
        self.round
    }
}

impl Round {
    /// Can a member be told this? All of it, but for the items that it owns.
    pub fn suits(&self, member: SourceId) -> bool {
        !self.odd.contains(&member)
    }

    /// Is there anything in it that a member does not own?
    pub fn has_news_for(&self, member: SourceId) -> bool {
        self.items.len() as u64 > self.own(member).items
    }

    fn own(&self, member: SourceId) -> Own {
        self.own.get(&member).copied().unwrap_or_default()
    }

    fn count(&self, member: SourceId, told: &mut Told) {
        let own = self.own(member);
        told.announced += self.announced - own.announced;
        told.withdrawn += (self.items.len() as u64 - self.announced) - (own.items - own.announced);
        told.own += own.announced;
    }

    fn grew(&self, member: SourceId) -> i64 {
        self.grew + self.own(member).grew
    }
}

impl Outbox {
    /// The next changes that a member has to note, up to a multiple of `limit`, which makes members meet that are not
    /// equally fast. `None` when it has something else to be told, when there are none, or when it is more than `limit` behind
    /// and some of it may be needless by now.
    pub fn stretch(&self, id: MemberId, limit: usize) -> Option<Stretch> {
        let (member, end, limit) = (self.member(id)?, self.log.end(), limit as u64);
        let ready = member.feed == Feed::Done && member.pending.is_empty() && member.noted < end;
        // Who is far behind must not be told what has changed again since.
        let needless = end - member.noted.min(end) > limit && self.log.repeats_since(member.noted);
        (ready && !needless).then(|| Stretch {
            from: member.noted,
            to: end.min((member.noted / limit + 1) * limit),
        })
    }

    /// May a member still have to be told of a stretch?
    pub fn needs(&self, stretch: Stretch) -> bool {
        self.log.base() <= stretch.from && self.members.iter().flatten().any(|member| member.noted <= stretch.from)
    }

    /// What a stretch has for its members, valid until the outbox changes. What went to and fro in it is left out.
    pub fn round(&self, stretch: Stretch) -> Round {
        let length = usize::try_from(stretch.to.saturating_sub(stretch.from)).unwrap_or(usize::MAX);
        let mut changes: Vec<Change> = self.log.since(stretch.from).take(length).copied().collect();
        // Stable: those of one place stay in order.
        changes.sort_by_key(|change| change.place);
        let mut round = Making::default();
        round.round.items.reserve_exact(changes.len());
        for of_place in changes.chunk_by(|a, b| a.place == b.place) {
            if let [first, .., last] = of_place {
                round.add(&Change {
                    now: last.now,
                    now_from: last.now_from,
                    ..*first
                });
            } else if let [only] = of_place {
                round.add(only);
            }
        }
        round.done()
    }

    /// From whom what a member sees was not learned: itself.
    pub fn source(&self, id: MemberId) -> Option<SourceId> {
        self.member(id).map(|member| member.source)
    }

    /// A member that the round [suits](Round::suits) was told of it, which was made of the member's own stretch.
    pub fn took(&mut self, id: MemberId, stretch: Stretch, round: &Round) {
        let Some(member) = self.member_mut(id) else { return };
        debug_assert_eq!(member.noted, stretch.from, "another member's stretch");
        let grown = i64::from(member.announced) + round.grew(member.source);
        member.announced = u32::try_from(grown).unwrap_or_default();
        round.count(member.source, &mut member.told);
        member.noted = stretch.to;
        member.blocked = false;
    }
}
