//! What happens to all paths of one source: they age, or go.

use tortie_net::Family;

use super::super::intern::Interner;
use super::super::path::{Learned, Path, SourceId, Stale};
use super::{PrefixId, Table};

impl<F: Family> Table<F> {
    /// Takes out all paths of a source that satisfy `gone`; returns how many.
    pub fn remove_where(
        &mut self,
        source: SourceId,
        interner: &mut Interner<Learned>,
        mut gone: impl FnMut(&Path) -> bool,
    ) -> usize {
        let mut removed = 0;
        for i in 0..self.nets.len() {
            loop {
                let paths = &mut self.nets[i].paths;
                let Some(at) = paths.as_slice().iter().position(|p| p.source == source && gone(p)) else {
                    break;
                };
                let path = paths.remove(at);
                self.used -= usize::from(paths.as_slice().is_empty());
                self.journal.was(self.nets[i].prefix, &path);
                self.forget(&path, interner);
                self.touch(PrefixId(i as u32));
                removed += 1;
            }
        }
        removed
    }

    /// Marks all paths of a source; returns how many. Long-lived stale ones stay that.
    pub fn mark(&mut self, source: SourceId, stale: Stale) -> usize {
        let mut marked = 0;
        for i in 0..self.nets.len() {
            let mut changed = false;
            for path in self.nets[i]
                .paths
                .as_mut_slice()
                .iter_mut()
                .filter(|p| p.source == source && p.stale != Stale::LongLived)
            {
                marked += 1;
                changed |= path.stale.is_left_over() != stale.is_left_over();
                path.stale = stale;
            }
            if changed {
                self.touch(PrefixId(i as u32));
            }
        }
        marked
    }
}
