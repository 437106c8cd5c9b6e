//! The tables of both families, the interners they share, and the outboxes on them.

use std::sync::Arc;

use tortie_net::{Family, Prefix, Prefix4, Prefix6};

use super::export::View;
use super::feed::Recipient;
use super::import::Importer;
use super::io::FibRoute;
use super::rounds::{self, Share};
use super::said::Said;
use super::slot::{Heir, Slot};
use crate::attr::Attributes;
use crate::config::{ChannelFamily, Config};
use crate::filter::RouteSource;
use crate::nexthop::NextHops;
use crate::packet::{AfiSafi, Nlri};
use crate::rib::{
    AttrId, Decision, Filtered, Inserted, Interner, Lane, Lanes, Learned, MemberId, NewPath, Outbox, Path, PullItem,
    SourceId, Stale, Table, Traits,
};
use crate::roa::RoaTables;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TableKey {
    pub(super) family: AfiSafi,
    at: usize,
}

/// A member of a group on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: usize,
    pub(super) member: MemberId,
}

/// What all tables share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) learned: Interner<Learned>,
    pub(super) wire: Interner<Attributes>,
    pub(super) fib: Interner<FibRoute>,
    /// By [`SourceId`]: for the decision process.
    pub(super) traits: Vec<Option<Traits>>,
    /// By [`SourceId`]: the protocol's name and kind.
    pub(super) names: Vec<Option<(Arc<str>, RouteSource)>>,
    pub(super) decision: Decision,
    /// What BGP next hops lead to.
    pub(super) hops: NextHops,
    /// What `roa_check` asks.
    pub(super) roas: RoaTables,
    /// What filters had to say since the last flush.
    pub(super) log: Said,
}

/// One route of a table, for display.
#[derive(Debug)]
pub(super) struct TableRoute<'a> {
    pub(super) net: Prefix,
    pub(super) path: &'a Path,
    pub(super) learned: &'a Learned,
    pub(super) best: bool,
    /// Is it the first one of its prefix?
    pub(super) first: bool,
    pub(super) reason: Option<crate::rib::Reason>,
}

/// A route as a group announces it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    pub(super) net: Prefix,
    pub(super) attrs: AttrId,
    /// From whom it was learned.
    pub(super) from: SourceId,
    /// With add-path, whose path it is; otherwise it is the best path, or with `secondary` the best one that may be told.
    pub(super) lane: Option<Lane>,
    pub(super) secondary: bool,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) shared: Shared,
    v4: Vec<Slot<Prefix4>>,
    v6: Vec<Slot<Prefix6>>,
}

/// Runs the same code on the slot of either family.
macro_rules! with_slot {
    ($tables:expr, $key:expr, |$slot:ident, $shared:ident| $body:expr) => {
        match $key.family {
            AfiSafi::Ipv4Unicast => {
                let ($slot, $shared) = (&mut $tables.v4[$key.at], &mut $tables.shared);
                $body
            }
            AfiSafi::Ipv6Unicast => {
                let ($slot, $shared) = (&mut $tables.v6[$key.at], &mut $tables.shared);
                $body
            }
        }
    };
    (ref $tables:expr, $key:expr, |$slot:ident, $shared:ident| $body:expr) => {
        match $key.family {
            AfiSafi::Ipv4Unicast => {
                let ($slot, $shared) = (&$tables.v4[$key.at], &$tables.shared);
                $body
            }
            AfiSafi::Ipv6Unicast => {
                let ($slot, $shared) = (&$tables.v6[$key.at], &$tables.shared);
                $body
            }
        }
    };
}

// After the macro, which they use.
mod again;
mod soft;
mod stats;
mod visit;
mod watch;
mod withdraw;

pub(super) use watch::News;

/// The family of a channel.
pub(super) fn afi(family: ChannelFamily) -> AfiSafi {
    match family {
        ChannelFamily::Ipv4 => AfiSafi::Ipv4Unicast,
        ChannelFamily::Ipv6 => AfiSafi::Ipv6Unicast,
    }
}

impl Tables {
    /// Makes the tables that a configuration names. Tables that it does not name stay, empty once their users are gone.
    pub(super) fn provide(&mut self, config: &Config) {
        for table in &config.tables {
            self.key(afi(table.family), &table.name);
        }
        for table in &config.roa_tables {
            self.shared
                .roas
                .provide(&table.name, table.family == ChannelFamily::Ipv4);
        }
    }

    /// The table of this name, made if need be.
    pub(super) fn key(&mut self, family: AfiSafi, name: &Arc<str>) -> TableKey {
        let at = match family {
            AfiSafi::Ipv4Unicast => Self::slot(&mut self.v4, name),
            AfiSafi::Ipv6Unicast => Self::slot(&mut self.v6, name),
        };
        TableKey { family, at }
    }

    fn slot<F: Family>(slots: &mut Vec<Slot<F>>, name: &Arc<str>) -> usize {
        slots.iter().position(|slot| slot.name == *name).unwrap_or_else(|| {
            slots.push(Slot {
                name: name.clone(),
                table: Table::default(),
                groups: Vec::new(),
                lanes: Lanes::default(),
                imports: Vec::new(),
            });
            slots.len() - 1
        })
    }

    /// Every table: IPv4 ones first, in the order they were made.
    pub(super) fn keys(&self) -> Vec<TableKey> {
        let keys = |family, len| (0..len).map(move |at| TableKey { family, at });
        keys(AfiSafi::Ipv4Unicast, self.v4.len())
            .chain(keys(AfiSafi::Ipv6Unicast, self.v6.len()))
            .collect()
    }

    pub(super) fn name(&self, key: TableKey) -> &Arc<str> {
        with_slot!(ref self, key, |slot, _shared| &slot.name)
    }

    /// Registers a source, or changes what is known of it.
    pub(super) fn set_source(&mut self, source: SourceId, name: &Arc<str>, kind: RouteSource, traits: Traits) {
        let at = usize::from(source.0);
        let shared = &mut self.shared;
        if shared.traits.len() <= at {
            shared.traits.resize(at + 1, None);
            shared.names.resize(at + 1, None);
        }
        let changed = shared.traits[at].as_ref().is_some_and(|old| *old != traits);
        shared.traits[at] = Some(traits);
        shared.names[at] = Some((name.clone(), kind));
        if changed {
            self.touch_all();
        }
    }

    /// Likewise, of one table.
    pub(super) fn touch_table(&mut self, name: &str) {
        let v4 = self.v4.iter_mut().filter(|slot| *slot.name == *name);
        v4.for_each(|slot| slot.table.touch_all());
        let v6 = self.v6.iter_mut().filter(|slot| *slot.name == *name);
        v6.for_each(|slot| slot.table.touch_all());
    }

    /// Every decision and every announcement is to be made anew.
    pub(super) fn touch_all(&mut self) {
        self.v4.iter_mut().for_each(|slot| slot.table.touch_all());
        self.v6.iter_mut().for_each(|slot| slot.table.touch_all());
    }

    /// Puts in a path: the importer's route, for this prefix. The table takes references of its own.
    pub(super) fn insert(
        &mut self,
        key: TableKey,
        net: Prefix,
        (source, path_id, since): (SourceId, u32, u32),
        importer: &mut Importer<'_>,
        full: bool,
    ) -> Option<Inserted> {
        with_slot!(self, key, |slot, shared| {
            let Shared {
                learned,
                hops,
                log,
                roas,
                ..
            } = &mut *shared;
            let mut imported = importer.import(net, (learned, hops, log, roas));
            let prefix = Family::of(net)?;
            if full && slot.lacks(prefix, source, path_id) && imported.is_ok() {
                imported.into_iter().for_each(|id| shared.learned.release(id));
                imported = Err(Filtered::ImportLimit);
            }
            let new = NewPath {
                source,
                path_id,
                received: shared.learned.retain(importer.received),
                imported,
                since,
            };
            let before = slot.table.counts(source).accepted;
            let inserted = slot.table.insert(prefix, new, &mut shared.learned);
            let was_used = before + u32::from(imported.is_ok()) > slot.table.counts(source).accepted;
            // Our own protocols tell all they have whenever something may have changed: only news count.
            if importer.view.checks.is_some() || inserted != Inserted::Unchanged {
                slot.imports(source).update(imported.map(|_| inserted), was_used);
            }
            Some(inserted)
        })
    }

    /// Has a source not told us this prefix?
    pub(super) fn lacks(&self, key: TableKey, source: SourceId, nlri: Nlri) -> bool {
        with_slot!(ref self, key, |slot, _shared| {
            let id = Family::of(nlri.prefix).and_then(|prefix| slot.table.id(prefix));
            let has = |p: &Path| p.source() == source && p.path_id() == nlri.path_id;
            id.is_none_or(|id| !slot.table.paths(id).iter().any(has))
        })
    }

    /// Takes out a path.
    pub(super) fn remove(&mut self, key: TableKey, net: Prefix, source: SourceId, path_id: u32) -> bool {
        with_slot!(self, key, |slot, shared| {
            let before = slot.table.counts(source).accepted;
            let removed =
                Family::of(net).is_some_and(|prefix| slot.table.remove(prefix, source, path_id, &mut shared.learned));
            let used = before - slot.table.counts(source).accepted;
            slot.imports(source).withdraw(1, used.into());
            removed
        })
    }

    /// Takes out a source's paths that satisfy `gone`; returns how many.
    pub(super) fn remove_where(&mut self, key: TableKey, source: SourceId, gone: impl Fn(&Path) -> bool) -> usize {
        with_slot!(self, key, |slot, shared| {
            let before = slot.table.counts(source).accepted;
            let removed = slot.table.remove_where(source, &mut shared.learned, gone);
            let used = before - slot.table.counts(source).accepted;
            slot.imports(source).removed(removed as u64, used.into());
            removed
        })
    }

    /// Marks a source's paths; returns how many.
    pub(super) fn mark(&mut self, key: TableKey, source: SourceId, stale: Stale) -> usize {
        with_slot!(self, key, |slot, _shared| slot.table.mark(source, stale))
    }

    /// Prefixes and paths of a table.
    pub(super) fn size(&self, key: TableKey) -> (usize, usize) {
        with_slot!(ref self, key, |slot, _shared| slot.table.size())
    }

    /// Makes a member of the group with this view, told nothing yet.
    pub(super) fn join(&mut self, key: TableKey, view: View, source: SourceId) -> Option<Membership> {
        with_slot!(self, key, |slot, shared| {
            let group = slot.group(view, shared);
            let member = slot.groups[group].as_mut()?.outbox.join(source)?;
            Some(Membership { group, member })
        })
    }

    /// Moves a member to the group with this view; it is told only what differs.
    pub(super) fn change_view(&mut self, key: TableKey, at: Membership, view: View) -> Option<Membership> {
        with_slot!(self, key, |slot, shared| {
            if slot
                .groups
                .get(at.group)
                .and_then(Option::as_ref)
                .is_some_and(|g| g.view == view && g.heir == Heir::None)
            {
                return Some(at);
            }
            let kind = view.clone();
            let group = slot.group(view, shared);
            let mut old = slot.groups[at.group].take()?;
            let new = slot.groups[group].as_mut()?;
            let member = match kind {
                View::Bgp(_) => old.outbox.move_to(at.member, &mut new.outbox, &mut shared.wire),
                View::Fib(_) => old.outbox.move_to(at.member, &mut new.outbox, &mut shared.fib),
                View::Watch(_) => old.outbox.move_to(at.member, &mut new.outbox, &mut shared.learned),
            };
            slot.groups[at.group] = Some(old);
            slot.tidy(at.group, shared);
            Some(Membership { group, member: member? })
        })
    }

    /// Ends a membership.
    pub(super) fn leave(&mut self, key: TableKey, at: Membership) {
        with_slot!(self, key, |slot, shared| {
            if let Some(group) = slot.groups.get_mut(at.group).and_then(Option::as_mut) {
                match group.view {
                    View::Bgp(_) => group.outbox.leave(at.member, &mut shared.wire),
                    View::Fib(_) => group.outbox.leave(at.member, &mut shared.fib),
                    View::Watch(_) => group.outbox.leave(at.member, &mut shared.learned),
                }
                slot.tidy(at.group, shared);
            }
        });
    }

    fn outbox(&self, key: TableKey, at: Membership) -> Option<&Outbox> {
        with_slot!(ref self, key, |slot, _shared| {
            slot.groups.get(at.group).and_then(Option::as_ref).map(|group| &group.outbox)
        })
    }

    /// Is there anything to tell a member?
    pub(super) fn has_work(&self, key: TableKey, at: Membership) -> bool {
        self.outbox(key, at).is_some_and(|outbox| outbox.has_work(at.member))
    }

    /// How many routes a member has from us.
    pub(super) fn announced_to(&self, key: TableKey, at: Membership) -> u32 {
        self.outbox(key, at).map_or(0, |outbox| outbox.announced_to(at.member))
    }

    /// Is something kept from a member by its limit?
    pub(super) fn is_blocked(&self, key: TableKey, at: Membership) -> bool {
        self.outbox(key, at).is_some_and(|outbox| outbox.is_blocked(at.member))
    }

    /// Tries anew what a limit kept from a member.
    pub(super) fn unblock(&mut self, key: TableKey, at: Membership) {
        with_slot!(self, key, |slot, _shared| {
            if let Some(group) = slot.groups.get_mut(at.group).and_then(Option::as_mut) {
                group.outbox.unblock(at.member);
            }
        });
    }

    /// What a member was told and has not been taken back.
    pub(super) fn told(&self, key: TableKey, at: Membership) -> Vec<(Prefix, AttrId)> {
        with_slot!(ref self, key, |slot, _shared| {
            let Some(group) = slot.groups.get(at.group).and_then(Option::as_ref) else { return Vec::new() };
            let told = group.outbox.told(at.member).into_iter();
            told.map(|(place, attrs)| (slot.nlri(group, place).prefix, attrs)).collect()
        })
    }

    /// Tells a member everything again.
    pub(super) fn feed_again(&mut self, key: TableKey, at: Membership) {
        with_slot!(self, key, |slot, _shared| {
            if let Some(group) = slot.groups.get_mut(at.group).and_then(Option::as_mut) {
                group.outbox.feed_again(at.member);
            }
        });
    }

    /// Takes up to `limit` things to tell a member, as they are called on the wire: withdrawals first, equal attributes together.
    pub(super) fn pull(
        &mut self,
        key: TableKey,
        at: Membership,
        limit: usize,
        max: Option<u32>,
    ) -> Vec<(Nlri, Option<AttrId>)> {
        with_slot!(self, key, |slot, shared| {
            let Some(group) = slot.groups.get_mut(at.group).and_then(Option::as_mut) else {
                return Vec::new();
            };
            let items: Vec<PullItem> = match group.view {
                View::Bgp(_) => group.outbox.pull(at.member, limit, max, &mut shared.wire),
                View::Fib(_) => group.outbox.pull(at.member, limit, max, &mut shared.fib),
                View::Watch(_) => group.outbox.pull(at.member, limit, max, &mut shared.learned),
            };
            let Some(group) = slot.groups.get(at.group).and_then(Option::as_ref) else {
                return Vec::new();
            };
            items
                .into_iter()
                .map(|item| (slot.nlri(group, item.place), item.attrs))
                .collect()
        })
    }

    /// What a member is sent next, together with others, of `limit` changes at most. It counts as told. `None` when it has to
    /// pull.
    pub(super) fn share(&mut self, key: TableKey, at: Membership, to: &Recipient, limit: usize) -> Option<Share> {
        with_slot!(self, key, |slot, shared| rounds::share(
            key.family,
            at,
            (slot, shared),
            to,
            limit
        ))
    }

    /// Forgets what no member has still to be told.
    pub(super) fn trim(&mut self) {
        let Tables { shared, v4, v6 } = self;
        let v4 = v4.iter_mut().flat_map(|slot| &mut slot.groups);
        let v6 = v6.iter_mut().flat_map(|slot| &mut slot.groups);
        for group in v4.chain(v6).flatten() {
            match group.view {
                View::Bgp(_) => group.outbox.trim(&mut shared.wire),
                View::Fib(_) => group.outbox.trim(&mut shared.fib),
                View::Watch(_) => group.outbox.trim(&mut shared.learned),
            }
            group.rounds.tidy(&group.outbox);
        }
    }

    /// Decides what changed and lets every group know.
    pub(super) fn settle(&mut self) {
        self.settle_once();
        // What changed in a table may have been the way to next hops.
        if self.shared.hops.is_changed() {
            self.settle_once();
        }
    }

    fn settle_once(&mut self) {
        let Tables { shared, v4, v6 } = self;
        if let Some(changes) = shared.hops.take_changes() {
            // One look at all paths for everything that changed since the last time.
            let learned = &shared.learned;
            let concerned = |path: &Path| learned.hop(path.attrs()).is_some_and(|hop| changes.has(hop));
            v4.iter_mut().for_each(|slot| slot.table.touch_where(concerned));
            v6.iter_mut().for_each(|slot| slot.table.touch_where(concerned));
        }
        v4.iter_mut().for_each(|slot| slot.settle(shared));
        v6.iter_mut().for_each(|slot| slot.settle(shared));
        if shared.hops.wants_sweep() {
            shared.hops.sweep(shared.learned.hops());
        }
    }

    /// Has anything changed since the tables were last settled?
    pub(super) fn is_dirty(&self) -> bool {
        self.shared.hops.is_changed()
            || self.shared.roas.is_changed()
            || self.v4.iter().any(|slot| slot.table.is_dirty())
            || self.v6.iter().any(|slot| slot.table.is_dirty())
    }
}
