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
            let mut last = None;
            for some in withdrawn.chunks(TOGETHER) {
                let mut found: SmallVec<[Option<PrefixId>; TOGETHER]> = SmallVec::new();
                let prefix = |nlri: &Nlri| Family::of(nlri.prefix);
                // As long as they stand as they came, nothing has to be looked for.
                for nlri in some {
                    let next = last.and_then(|last| slot.table.successor(last, prefix(nlri)?));
                    let Some(next) = next else { break };
                    last = Some(next);
                    found.push(last);
                }
                let find = |nlri: &Nlri| prefix(nlri).and_then(|prefix| slot.table.id(prefix));
                found.extend(some[found.len()..].iter().map(find));
                last = found.last().copied().flatten();
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
