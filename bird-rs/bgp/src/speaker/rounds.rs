//! UPDATEs that many peers are sent alike: encoded once, in one buffer that all of them share.
//!
//! Members of a group that have to be told of the same stretch of changes, and whose sessions encode alike, get the same
//! octets, but for the messages about what they told us themselves (see [`Round`]). Those are cut out of the buffer
//! without a copy. What is encoded is kept while a slower member may need it, up to a bound: after that it is encoded anew.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tortie_net::Family;

use super::feed::Recipient;
use super::slot::{Group, Slot};
use super::tables::{Membership, Shared};
use crate::attr::NextHop;
use crate::packet::{self, AfiSafi, SessionContext};
use crate::rib::{Outbox, Round, SourceId, Stretch};

/// Octets of messages that a group keeps for slower members. A few times what a peer's window holds.
const KEPT: usize = 4 * 1024 * 1024;

/// What a group's members are sent alike.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The newest ones last.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    stretch: Stretch,
    context: SessionContext,
    /// `None` when it has to be told in another way: to each member by itself.
    encoded: Option<Encoded>,
}

impl Kept {
    fn octets(&self) -> usize {
        self.encoded.as_ref().map_or(0, |encoded| encoded.octets.len())
    }
}

/// A round as octets.
#[derive(Debug)]
struct Encoded {
    round: Round,
    octets: Bytes,
    messages: u64,
    /// In order, and without overlap.
    owned: FxHashMap<SourceId, SmallVec<[Piece; 1]>>,
    /// Next hops that are announced, with who told us: a peer that is one itself has to be told otherwise.
    hops: FxHashMap<IpAddr, SmallVec<[SourceId; 1]>>,
}

/// Consecutive messages about the routes of one owner.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: usize,
    to: usize,
    messages: u64,
}

/// What one member is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) octets: SmallVec<[Bytes; 2]>,
    pub(super) messages: u64,
}

impl Encoded {
    fn new<F: Family>(
        family: AfiSafi,
        (slot, group): (&Slot<F>, &Group),
        round: Round,
        shared: &Shared,
        context: &SessionContext,
    ) -> Option<Self> {
        let mut octets = Vec::new();
        let mut owned: FxHashMap<SourceId, SmallVec<[Piece; 1]>> = FxHashMap::default();
        let mut hops: FxHashMap<IpAddr, SmallVec<[SourceId; 1]>> = FxHashMap::default();
        let mut total = 0;
        for run in round.items.chunk_by(|a, b| (a.attrs, a.owner) == (b.attrs, b.owner)) {
            let nlri = run.iter().map(|item| slot.nlri(group, item.place));
            let first = run.first()?;
            let from = octets.len();
            let messages = match first.attrs {
                None => packet::withdraw_into(context, family, nlri, &mut octets),
                // What fails is logged for each peer.
                Some(attrs) => {
                    let attributes = shared.wire.get(attrs);
                    for address in attributes.next_hop.into_iter().flat_map(NextHop::addresses) {
                        let owners = hops.entry(address).or_default();
                        if !owners.contains(&first.owner) {
                            owners.push(first.owner);
                        }
                    }
                    packet::announce_into(context, family, &attributes, nlri, &mut octets).ok()?
                }
            };
            let to = octets.len();
            total += messages;
            let pieces = owned.entry(first.owner).or_default();
            match pieces.last_mut().filter(|last| last.to == from) {
                Some(last) => {
                    last.to = to;
                    last.messages += messages;
                }
                None => pieces.push(Piece { from, to, messages }),
            }
        }
        Some(Encoded {
            round,
            // Without the room that is left over: it may be held for long.
            octets: octets.into_boxed_slice().into(),
            messages: total,
            owned,
            hops,
        })
    }

    /// Can a member at this address be told this?
    fn suits(&self, member: SourceId, address: IpAddr) -> bool {
        let mut owners = self.hops.get(&address).into_iter().flatten();
        self.round.suits(member) && owners.all(|owner| *owner == member)
    }

    fn share(&self, member: SourceId) -> Share {
        let mut share = Share {
            octets: SmallVec::new(),
            messages: self.messages,
        };
        let mut at = 0;
        for piece in self.owned.get(&member).into_iter().flatten() {
            share.messages -= piece.messages;
            share.add(self.octets.slice(at..piece.from));
            at = piece.to;
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
}

/// What a member is sent next, which counts as told. `None` when it has to pull.
pub(super) fn share<F: Family>(
    family: AfiSafi,
    at: Membership,
    (slot, shared): (&mut Slot<F>, &mut Shared),
    to: &Recipient,
    limit: usize,
) -> Option<Share> {
    let context = &to.context;
    let group = slot.groups.get(at.group)?.as_ref()?;
    let stretch = group.outbox.stretch(at.member, limit)?;
    let member = group.outbox.source(at.member)?;
    let same = |kept: &Kept| (kept.stretch, kept.context) == (stretch, *context);
    if !group.rounds.kept.iter().any(same) {
        let round = group.outbox.round(stretch);
        let encoded = Encoded::new(family, (slot, group), round, shared, context);
        let context = *context;
        let kept = Kept {
            stretch,
            context,
            encoded,
        };
        slot.groups.get_mut(at.group)?.as_mut()?.rounds.kept.push_back(kept);
    }
    let Group { outbox, rounds, .. } = slot.groups.get_mut(at.group)?.as_mut()?;
    let encoded = rounds.kept.iter().find(|kept| same(kept))?.encoded.as_ref()?;
    if !encoded.suits(member, to.address) {
        return None;
    }
    outbox.took(at.member, stretch, &encoded.round);
    Some(encoded.share(member))
}
