//! What a peer takes back.

use smallvec::SmallVec;
use tortie_net::Family;

use super::{TableKey, Tables};
use crate::packet::{AfiSafi, Nlri};
use crate::rib::{PrefixId, SourceId};

/// Prefixes that are looked for together. Each is somewhere else in memory, and what is waited for together is waited for once.
const TOGETHER: usize = 16;

impl Tables {
    /// Takes out paths of a source. All are of the table's family.
    pub(in crate::speaker) fn withdraw(&mut self, key: TableKey, source: SourceId, withdrawn: &[Nlri]) {
        with_slot!(self, key, |slot, shared| {
            let before = slot.table.counts(source).accepted;
            for some in withdrawn.chunks(TOGETHER) {
                let find = |nlri: &Nlri| Family::of(nlri.prefix).and_then(|prefix| slot.table.id(prefix));
                let found: SmallVec<[Option<PrefixId>; TOGETHER]> = some.iter().map(find).collect();
                for (nlri, id) in some.iter().zip(found) {
                    if let Some(id) = id {
                        slot.table.remove_at(id, source, nlri.path_id, &mut shared.learned);
                    }
                }
            }
            let used = before - slot.table.counts(source).accepted;
            slot.imports(source).withdraw(withdrawn.len() as u64, used.into());
        });
    }
}
