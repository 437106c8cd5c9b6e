//! What members were told, as numbers; and an outbox with another's announcements.

use std::hash::Hash;

use super::super::intern::Interner;
use super::super::stats::Traffic;
use super::{Entry, MemberId, NOTHING, Outbox};

impl Outbox {
    /// Another one that announces the same, without members.
    pub fn heir<V: Eq + Hash>(&self, interner: &mut Interner<V>) -> Outbox {
        let entries = self.entries.iter().map(|entry| Entry {
            announced: entry.announced.map(|attrs| interner.retain(attrs)),
            from: entry.from,
            ..NOTHING
        });
        Outbox {
            entries: entries.collect(),
            ..Outbox::default()
        }
    }

    /// How many routes a member has from us.
    pub fn announced_to(&self, id: MemberId) -> u32 {
        self.member(id).map_or(0, |m| m.announced)
    }

    /// What a member was told so far, and what was kept from it.
    pub fn traffic(&self, id: MemberId) -> Traffic {
        let member = self.member(id);
        member
            .map(|m| m.told.traffic(self.tally.by(m.source)))
            .unwrap_or_default()
    }
}
