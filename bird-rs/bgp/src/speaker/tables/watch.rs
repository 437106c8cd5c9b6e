//! What is new about the paths of watched sources.

use tortie_net::{Family, Prefix};

use super::{TableKey, Tables};
use crate::packet::{AfiSafi, Nlri};
use crate::rib::{Before, Path, SourceId};

/// A path that changed, and what there is now.
#[derive(Debug)]
pub(in crate::speaker) struct News {
    pub(in crate::speaker) source: SourceId,
    pub(in crate::speaker) nlri: Nlri,
    pub(in crate::speaker) before: Before,
    /// The peer said something; not only the import policy is another.
    pub(in crate::speaker) heard: bool,
    pub(in crate::speaker) now: Option<Path>,
}

impl Tables {
    /// Is somebody interested in what a source does to a table?
    pub(in crate::speaker) fn watch(&mut self, key: TableKey, source: SourceId, on: bool) {
        with_slot!(self, key, |slot, _shared| slot.table.journal.watch(source, on));
    }

    /// Is there news of a watched source?
    pub(in crate::speaker) fn has_news(&self, key: TableKey) -> bool {
        with_slot!(ref self, key, |slot, _shared| !slot.table.journal.is_empty())
    }

    /// Takes the news of up to `limit` changes; none when more was noted than can be kept.
    pub(in crate::speaker) fn news(&mut self, key: TableKey, limit: usize) -> Option<Vec<News>> {
        with_slot!(self, key, |slot, _shared| {
            if slot.table.journal.take_lost() {
                return None;
            }
            let notes = slot.table.journal.take(limit);
            let news = notes.into_iter().map(|note| {
                let prefix: Prefix = note.prefix.erase();
                let is_it = |path: &&Path| path.source() == note.source && path.path_id() == note.path_id;
                let id = slot.table.id(note.prefix);
                News {
                    source: note.source,
                    nlri: Nlri {
                        path_id: note.path_id,
                        prefix,
                    },
                    before: note.before,
                    heard: note.heard,
                    now: id.and_then(|id| slot.table.paths(id).iter().find(is_it).cloned()),
                }
            });
            Some(news.collect())
        })
    }
}
