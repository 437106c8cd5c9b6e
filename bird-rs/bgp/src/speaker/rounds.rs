//! UPDATEs that many peers are sent alike: encoded once, in one buffer that all of them share.
//!
//! Members of a group that have to be told of the same stretch of changes, and whose sessions encode alike, get the same
//! octets, but for the messages about what they told us themselves (see [`Round`]). Those are cut out of the buffer
//! without a copy. Withdrawals need no attributes, so those of many owners share messages; an owner's one or two of these are
//! made anew for it, with what the others withdraw. What is encoded is kept while a slower member may need it, up to a bound: after that it is encoded anew.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tortie_net::Family;

use super::feed::Recipient;
use super::slot::{Group, Slot};
use super::tables::{Membership, Shared};
use crate::attr::{Attributes, NextHop};
use crate::packet::{self, AfiSafi, SessionContext};
use crate::rib::{Outbox, Round, RoundItem, SourceId, Stretch};

/// Octets that a group keeps for slower members: messages, and what they were made of. A few times what a peer's window holds.
const KEPT: usize = 2 * 1024 * 1024;

/// What a group's members are sent alike.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The newest ones last.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    stretch: Stretch,
    round: Round,
    /// By what sessions can carry, from the first member on that is sent something. `None` when it has to be told in another
    /// way: to each member by itself.
    encoded: Vec<(SessionContext, Option<Encoded>)>,
}

impl Kept {
    /// What it takes.
    fn octets(&self) -> usize {
        let encoded = self.encoded.iter().filter_map(|(_, encoded)| encoded.as_ref());
        let octets: usize = encoded.map(|encoded| encoded.octets.len()).sum();
        octets + self.round.items.len() * size_of::<RoundItem>()
    }

    fn encoded(&self, context: &SessionContext) -> Option<&Option<Encoded>> {
        let found = self.encoded.iter().find(|(known, _)| known == context);
        found.map(|(_, encoded)| encoded)
    }
}

/// A round as octets.
#[derive(Debug)]
struct Encoded {
    octets: Bytes,
    messages: u64,
    owned: Owned,
    /// Next hops that are announced, with who told us: a peer that is one itself has to be told otherwise.
    hops: FxHashMap<IpAddr, SmallVec<[SourceId; 1]>>,
}

/// What not everybody is sent, by whose routes it is about; in order, and without overlap.
type Owned = FxHashMap<SourceId, SmallVec<[Piece; 1]>>;

/// Consecutive messages about the routes of one owner, or one message with withdrawals of several.
#[derive(Debug, Clone)]
struct Piece {
    from: usize,
    to: usize,
    messages: u64,
    /// The items of the round that are in it, where they are of several owners.
    mixed: Option<Range<usize>>,
}

/// What one member is sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) octets: SmallVec<[Bytes; 2]>,
    pub(super) messages: u64,
}

/// A round on its way into octets.
#[derive(Default)]
struct Encoder {
    octets: Vec<u8>,
    messages: u64,
    owned: Owned,
}

impl Encoder {
    /// Notes whose routes the messages from `from` on are about.
    fn own(&mut self, owner: SourceId, from: usize, messages: u64, mixed: Option<Range<usize>>) {
        let to = self.octets.len();
        let pieces = self.owned.entry(owner).or_default();
        let joins = |last: &&mut Piece| last.to == from && last.mixed.is_none() && mixed.is_none();
        match pieces.last_mut().filter(joins) {
            Some(last) => {
                last.to = to;
                last.messages += messages;
            }
            None => pieces.push(Piece {
                from,
                to,
                messages,
                mixed,
            }),
        }
    }

    /// The first items of a round, which withdraw: as many in a message as there is room for, whosever they are.
    fn withdraw<F: Family>(
        &mut self,
        family: AfiSafi,
        (slot, group): (&Slot<F>, &Group),
        context: &SessionContext,
        items: &[RoundItem],
    ) {
        let mut left = items.iter().map(|item| slot.nlri(group, item.place)).peekable();
        let (mut at, mut from) = (0, 0);
        while packet::withdraw_message_into(context, family, &mut left, &mut self.octets) {
            self.messages += 1;
            let next = items.len() - left.len();
            let mut owners = items[at..next].chunk_by(|a, b| a.owner == b.owner).peekable();
            while let Some(owner) = owners.next().and_then(<[RoundItem]>::first) {
                let is_mixed = owner.owner != items[at].owner || owners.peek().is_some();
                self.own(owner.owner, from, 1, is_mixed.then_some(at..next));
            }
            (at, from) = (next, self.octets.len());
        }
    }

    /// The items after those.
    fn announce<F: Family>(
        &mut self,
        family: AfiSafi,
        (slot, group): (&Slot<F>, &Group),
        context: &SessionContext,
        (items, attributes): (&[RoundItem], &Attributes),
    ) -> Option<()> {
        let from = self.octets.len();
        let nlri = items.iter().map(|item| slot.nlri(group, item.place));
        // What fails is logged for each peer.
        let messages = packet::announce_into(context, family, attributes, nlri, &mut self.octets).ok()?;
        self.messages += messages;
        self.own(items.first()?.owner, from, messages, None);
        Some(())
    }
}

impl Encoded {
    fn new<F: Family>(
        family: AfiSafi,
        at: (&Slot<F>, &Group),
        round: &Round,
        shared: &Shared,
        context: &SessionContext,
    ) -> Option<Self> {
        let mut encoder = Encoder::default();
        let mut hops: FxHashMap<IpAddr, SmallVec<[SourceId; 1]>> = FxHashMap::default();
        let withdrawn = round.items.partition_point(|item| item.attrs.is_none());
        let (withdrawn, announced) = round.items.split_at(withdrawn);
        encoder.withdraw(family, at, context, withdrawn);
        for run in announced.chunk_by(|a, b| (a.attrs, a.owner) == (b.attrs, b.owner)) {
            let &RoundItem { attrs, owner, .. } = run.first()?;
            let attributes = shared.wire.get(attrs?);
            for address in attributes.next_hop.into_iter().flat_map(NextHop::addresses) {
                let owners = hops.entry(address).or_default();
                if !owners.contains(&owner) {
                    owners.push(owner);
                }
            }
            encoder.announce(family, at, context, (run, &attributes))?;
        }
        Some(Encoded {
            // Without the room that is left over: it may be held for long.
            octets: encoder.octets.into_boxed_slice().into(),
            messages: encoder.messages,
            owned: encoder.owned,
            hops,
        })
    }

    /// Can a member at this address be told this?
    fn suits(&self, member: SourceId, address: IpAddr) -> bool {
        let mut owners = self.hops.get(&address).into_iter().flatten();
        owners.all(|owner| *owner == member)
    }

    /// What of it is a member's. `withdraw` makes messages of items.
    fn share(
        &self,
        round: &Round,
        member: SourceId,
        withdraw: impl Fn(&mut dyn Iterator<Item = &RoundItem>) -> (Bytes, u64),
    ) -> Share {
        let mut share = Share {
            octets: SmallVec::new(),
            messages: self.messages,
        };
        let mut at = 0;
        for piece in self.owned.get(&member).into_iter().flatten() {
            share.messages -= piece.messages;
            share.add(self.octets.slice(at..piece.from));
            at = piece.to;
            if let Some(mixed) = &piece.mixed {
                let mut others = round.items[mixed.clone()].iter().filter(|item| item.owner != member);
                let (octets, messages) = withdraw(&mut others);
                share.messages += messages;
                share.add(octets);
            }
        }
        share.add(self.octets.slice(at..));
        share
    }
}

impl Share {
    pub(super) fn new(octets: Bytes, messages: u64) -> Self {
        let mut share = Share {
            octets: SmallVec::new(),
            messages,
        };
        share.add(octets);
        share
    }

    fn add(&mut self, octets: Bytes) {
        if !octets.is_empty() {
            self.octets.push(octets);
        }
    }
}

impl Rounds {
    /// Forgets what nobody needs any more, and what there is no room for.
    pub(super) fn tidy(&mut self, outbox: &Outbox) {
        self.kept.retain(|kept| outbox.needs(kept.stretch));
        let mut octets: usize = self.kept.iter().map(Kept::octets).sum();
        while octets > KEPT {
            let Some(oldest) = self.kept.pop_front() else { break };
            octets -= oldest.octets();
        }
    }

    /// What a member is sent next, and the number of the round that it is of.
    fn share<F: Family>(
        &mut self,
        family: AfiSafi,
        at: Membership,
        (slot, shared): (&Slot<F>, &Shared),
        to: &Recipient,
        limit: usize,
    ) -> Option<(Share, usize)> {
        let group = slot.groups.get(at.group)?.as_ref()?;
        let stretch = group.outbox.stretch(at.member, limit)?;
        let member = group.outbox.source(at.member)?;
        let known = self.kept.iter().position(|kept| kept.stretch == stretch);
        let number = known.unwrap_or_else(|| {
            let (round, encoded) = (group.outbox.round(stretch), Vec::new());
            self.kept.push_back(Kept {
                stretch,
                round,
                encoded,
            });
            self.kept.len() - 1
        });
        let kept = self.kept.get_mut(number).filter(|kept| kept.round.suits(member))?;
        if !kept.round.has_news_for(member) {
            return Some((Share::default(), number));
        }
        let context = &to.context;
        if kept.encoded(context).is_none() {
            let encoded = Encoded::new(family, (slot, group), &kept.round, shared, context);
            kept.encoded.push((*context, encoded));
        }
        let encoded = kept.encoded(context)?.as_ref()?;
        if !encoded.suits(member, to.address) {
            return None;
        }
        let share = encoded.share(&kept.round, member, |items| {
            let (nlri, mut octets) = (items.map(|item| slot.nlri(group, item.place)), Vec::new());
            let messages = packet::withdraw_into(context, family, nlri, &mut octets);
            (octets.into(), messages)
        });
        Some((share, number))
    }
}

/// What a member is sent next, which counts as told. `None` when it has to pull.
pub(super) fn share<F: Family>(
    family: AfiSafi,
    at: Membership,
    (slot, shared): (&mut Slot<F>, &Shared),
    to: &Recipient,
    limit: usize,
) -> Option<Share> {
    let mut rounds = std::mem::take(&mut slot.groups.get_mut(at.group)?.as_mut()?.rounds);
    let share = rounds.share(family, at, (slot, shared), to, limit);
    let group = slot.groups.get_mut(at.group)?.as_mut()?;
    group.rounds = rounds;
    let (share, number) = share?;
    let told = group.rounds.kept.get(number)?;
    group.outbox.took(at.member, told.stretch, &told.round);
    Some(share)
}
