//! What members were told, as numbers.

use super::super::stats::Traffic;
use super::{MemberId, Outbox};

impl Outbox {
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
