//! What one export view announces, and how far each of its members is: the Adj-RIB-Out without a copy for each peer.
//!
//! Peers whose announcements would be equal share an outbox (an update group). It holds for each place (a prefix, or with
//! add-path one of its paths) what the view announces and from whom that was learned; a member sees the same, but nothing
//! that it told us itself. A member was told exactly what it sees now, except for the places in its pending set, which
//! remembers what it was told of those, and, during its first feed, for the places the feed has not come to.
//!
//! A change is written once, into a log; a member notes it when it pulls. Members that are equally far are told together,
//! of a [`Round`].
//!
//! Members pull. A slow one costs memory for the places that changed and nothing for the changes: what went to and fro
//! meanwhile is never sent, and nothing is ever sent that the member was told already.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::intern::{AttrId, Interner};
use super::lanes::Place;
use super::path::SourceId;
use super::pending::Pending;
use super::stats::{Tally, Told};

mod log;
mod round;
mod traffic;

use log::{Change, Log, MEMBERS};
pub use round::{Round, RoundItem, Stretch};

/// A member's number in its outbox. Dense and reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u16);

/// What is announced for one place.
#[derive(Debug, Clone, Copy)]
struct Entry {
    announced: Option<AttrId>,
    /// From whom the announced route was learned.
    from: SourceId,
    /// In how many members' pending sets the place is, and how often it is in the log.
    uses: u16,
}

const NOTHING: Entry = Entry {
    announced: None,
    from: SourceId::NONE,
    uses: 0,
};

/// How far a member is with the whole view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// It has been through it.
    Done,
    /// It was told nothing of places from this one on.
    First(u32),
    /// It is told everything again, and has still to be from this one on.
    Again(u32),
}

#[derive(Debug)]
struct Member {
    source: SourceId,
    feed: Feed,
    /// What it was told of the places for which it sees something else now. Holds references.
    pending: Pending,
    /// How many routes it has from us.
    announced: u32,
    /// Up to which change it has noted the log.
    noted: u64,
    /// All that is pending would exceed its limit, until something changes.
    blocked: bool,
    told: Told,
}

impl Member {
    fn sees(&self, entry: &Entry) -> Option<AttrId> {
        self.sees_from(entry.announced, entry.from)
    }

    fn sees_from(&self, announced: Option<AttrId>, from: SourceId) -> Option<AttrId> {
        announced.filter(|_| from != self.source)
    }

    fn reached(&self, id: Place) -> bool {
        match self.feed {
            Feed::Done | Feed::Again(_) => true,
            Feed::First(next) => id.0 < next,
        }
    }
}

/// One thing to tell a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullItem {
    /// The attributes, or `None` to withdraw. Valid until the outbox changes.
    pub attrs: Option<AttrId>,
    /// Of what.
    pub place: Place,
}

/// What one export view announces, and how far each of its members is.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: Vec<Entry>,
    members: Vec<Option<Member>>,
    /// How many members there are.
    count: usize,
    /// Changes in order, one copy for all members, kept until every member has noted them.
    log: Log,
    /// What the view did not announce.
    pub tally: Tally,
}

impl Outbox {
    /// Has it no members?
    pub fn is_deserted(&self) -> bool {
        self.members.iter().all(Option::is_none)
    }

    /// Does anybody still need this place?
    pub fn uses(&self, id: Place) -> bool {
        self.entries
            .get(id.0 as usize)
            .is_some_and(|e| e.announced.is_some() || e.uses > 0)
    }

    /// What the view announces for a place, and from whom it was learned.
    pub fn announced(&self, id: Place) -> Option<(AttrId, SourceId)> {
        let entry = self.entries.get(id.0 as usize)?;
        Some((entry.announced?, entry.from))
    }

    /// Adds a member that was told nothing yet. It sees nothing that was learned from `source`, which is itself.
    pub fn join(&mut self, source: SourceId) -> Option<MemberId> {
        self.add(Member {
            source,
            feed: Feed::First(0),
            pending: Pending::default(),
            announced: 0,
            noted: 0,
            blocked: false,
            told: Told::default(),
        })
    }

    fn add(&mut self, mut member: Member) -> Option<MemberId> {
        let free = self.members.iter().position(Option::is_none);
        let at = free.unwrap_or(self.members.len());
        let id = u16::try_from(at).ok().filter(|id| *id < MEMBERS).map(MemberId)?;
        member.noted = self.log.end();
        self.count += 1;
        match free {
            Some(at) => self.members[at] = Some(member),
            None => self.members.push(Some(member)),
        }
        Some(id)
    }

    fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(usize::from(id.0)).and_then(Option::as_mut)
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(usize::from(id.0)).and_then(Option::as_ref)
    }

    /// Has a member been told all of the view at least once since it joined or asked again, but for pending changes?
    pub fn fed(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(|m| m.feed == Feed::Done)
    }

    /// Is there anything to tell a member? Not even that may be, when there are changes that it has not noted.
    pub fn has_work(&self, id: MemberId) -> bool {
        self.member(id)
            .is_some_and(|m| m.feed != Feed::Done || m.noted < self.log.end() || !(m.pending.is_empty() || m.blocked))
    }

    /// Was the last pull in vain because of the member's limit?
    pub fn is_blocked(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(|m| m.blocked && !m.pending.is_empty())
    }

    /// Tries anew what the limit kept from a member.
    pub fn unblock(&mut self, id: MemberId) {
        if let Some(member) = self.member_mut(id) {
            member.blocked = false;
        }
    }

    /// What a member was told and has not been taken back, by number.
    pub fn told(&self, id: MemberId) -> Vec<(Place, AttrId)> {
        let Some(member) = self.member(id) else {
            return Vec::new();
        };
        // The first change that it has not noted says what it was told.
        let mut unnoted = FxHashMap::default();
        for change in self.log.since(member.noted) {
            let before = member.sees_from(change.before, change.before_from);
            unnoted.entry(change.place).or_insert(before);
        }
        let entries = (0u32..).map(Place).zip(&self.entries);
        let told = entries.filter_map(|(place, entry)| {
            let told = match member.pending.get(place) {
                Some(told) => told,
                None if !member.reached(place) => None,
                None => unnoted.get(&place).copied().unwrap_or_else(|| member.sees(entry)),
            };
            Some((place, told?))
        });
        told.collect()
    }

    /// Tells a member everything again.
    pub fn feed_again(&mut self, id: MemberId) {
        if let Some(member) = self.member_mut(id)
            && !matches!(member.feed, Feed::First(_))
        {
            member.feed = Feed::Again(0);
        }
    }

    /// Sets what the view announces for a place. Takes over the reference to `new`.
    pub fn set<V: Eq + Hash>(&mut self, id: Place, new: Option<AttrId>, from: SourceId, interner: &mut Interner<V>) {
        let at = id.0 as usize;
        if self.entries.len() <= at {
            if new.is_none() {
                return;
            }
            self.entries.resize(at + 1, NOTHING);
        }
        self.make_room(id, interner);
        let entry = &mut self.entries[at];
        let old = *entry;
        entry.announced = new;
        entry.from = if new.is_some() { from } else { SourceId::NONE };
        let changed = (old.announced, old.from) != (entry.announced, entry.from);
        if changed && self.count > 0 {
            entry.uses += 1;
            let change = Change {
                place: id,
                before: old.announced,
                now: entry.announced,
                before_from: old.from,
                now_from: entry.from,
            };
            self.log.push(change);
        } else if let Some(old) = old.announced {
            interner.release(old);
        }
    }

    fn take(&mut self, id: MemberId) -> Option<Member> {
        let member = self.members.get_mut(usize::from(id.0)).and_then(Option::take)?;
        self.count -= 1;
        Some(member)
    }

    /// Removes a member and what it has pending.
    pub fn leave<V: Eq + Hash>(&mut self, id: MemberId, interner: &mut Interner<V>) {
        let Some(member) = self.take(id) else {
            return;
        };
        for (place, told) in member.pending.into_told() {
            self.unpend(place);
            if let Some(told) = told {
                interner.release(told);
            }
        }
        self.trim(interner);
    }

    /// Gives back all that is announced, when the outbox is to be dropped. It has no members then.
    pub fn clear<V: Eq + Hash>(&mut self, interner: &mut Interner<V>) {
        self.trim(interner);
        for entry in std::mem::take(&mut self.entries) {
            if let Some(announced) = entry.announced {
                interner.release(announced);
            }
        }
    }

    fn unpend(&mut self, place: Place) {
        if let Some(entry) = self.entries.get_mut(place.0 as usize) {
            entry.uses = entry.uses.saturating_sub(1);
        }
    }

    /// Moves a member to another view of the same table and the same interner, without telling it again what it has.
    pub fn move_to<V: Eq + Hash>(
        &mut self,
        id: MemberId,
        other: &mut Outbox,
        interner: &mut Interner<V>,
    ) -> Option<MemberId> {
        self.note(usize::from(id.0), interner);
        let mut member = self.take(id)?;
        self.trim(interner);
        // What the other view shows it may be less than its limit.
        member.blocked = false;
        (member.told).moved(self.tally.by(member.source), other.tally.by(member.source));
        let mut told_of = std::mem::take(&mut member.pending).into_told();
        for place in told_of.keys() {
            self.unpend(*place);
        }
        let places = self.entries.len().max(other.entries.len());
        other.entries.resize(places, NOTHING);
        for (i, entry) in (0u32..).zip(&mut other.entries) {
            let place = Place(i);
            let told = match told_of.remove(&place) {
                Some(told) => told,
                None if !member.reached(place) => None,
                None => {
                    let told = self.entries.get(i as usize).and_then(|e| member.sees(e));
                    told.map(|told| interner.retain(told))
                }
            };
            if member.reached(place) && told != member.sees(entry) {
                member.pending.insert(place, told);
                entry.uses += 1;
            } else if let Some(told) = told {
                interner.release(told);
            }
        }
        other.add(member)
    }

    /// Takes up to `limit` things to tell a member: withdrawals first, then announcements, equal attributes together.
    /// Whatever is returned counts as told. What would give the member more than `max` routes stays pending.
    pub fn pull<V: Eq + Hash>(
        &mut self,
        id: MemberId,
        limit: usize,
        max: Option<u32>,
        interner: &mut Interner<V>,
    ) -> Vec<PullItem> {
        let mut items = Vec::new();
        self.note(usize::from(id.0), interner);
        let Some(member) = self.members.get_mut(usize::from(id.0)).and_then(Option::as_mut) else {
            return items;
        };
        let max = max.unwrap_or(u32::MAX);
        // With a limit, all is looked at: what may not go must not hide what may.
        let looked_at = if max == u32::MAX { limit } else { usize::MAX };
        let mut pending = member.pending.take_first(looked_at);
        let mut kept = Vec::new();
        if max != u32::MAX {
            // Withdrawals first: they make room.
            pending.sort_unstable_by_key(|id| (member.sees(&self.entries[id.0 as usize]).is_some(), *id));
        }
        for place in pending {
            let entry = &mut self.entries[place.0 as usize];
            let attrs = member.sees(entry);
            let told = member.pending.get(place).flatten();
            if items.len() >= limit || (told.is_none() && attrs.is_some() && member.announced >= max) {
                kept.push(place);
                continue;
            }
            member.pending.remove(place);
            entry.uses -= 1;
            match (told.is_some(), attrs.is_some()) {
                (false, true) => member.announced += 1,
                (true, false) => member.announced -= 1,
                (false, false) | (true, true) => {}
            }
            if let Some(told) = told {
                interner.release(told);
            }
            items.push(PullItem { attrs, place });
        }
        member.pending.give_back(&kept);
        feed(member, &mut self.entries, limit, max, &mut items);
        member.blocked = items.is_empty() && !member.pending.is_empty();
        if member.pending.is_empty() {
            // Its room is given back: a thousand members have one batch pending at a time, and not all of them theirs.
            member.pending = Pending::default();
        }
        items.sort_unstable();
        let withdrawn = items.iter().take_while(|item| item.attrs.is_none()).count();
        member.told.withdrawn += withdrawn as u64;
        member.told.announced += (items.len() - withdrawn) as u64;
        items
    }
}

/// Goes on with a member's walk through the view.
fn feed(member: &mut Member, entries: &mut [Entry], limit: usize, max: u32, items: &mut Vec<PullItem>) {
    let (mut next, first) = match member.feed {
        Feed::Done => return,
        Feed::First(next) => (next, true),
        Feed::Again(next) => (next, false),
    };
    let known = entries.len();
    for entry in entries.get_mut(next as usize..).unwrap_or_default() {
        if items.len() >= limit {
            break;
        }
        let id = Place(next);
        next += 1;
        let attrs = member.sees(entry);
        member.told.own += u64::from(entry.announced.is_some() && attrs.is_none());
        if attrs.is_none() || member.pending.contains(id) {
            continue;
        }
        if first && member.announced >= max {
            member.pending.insert(id, None);
            entry.uses += 1;
        } else {
            items.push(PullItem { attrs, place: id });
            member.announced += u32::from(first);
        }
    }
    member.feed = match (next as usize >= known, first) {
        (true, _) => Feed::Done,
        (false, true) => Feed::First(next),
        (false, false) => Feed::Again(next),
    };
}

#[cfg(test)]
mod tests;
