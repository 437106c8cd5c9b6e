//! A table page by page, and how much there is of it.

use tortie_net::Family;

use super::{PrefixId, Table};

impl<F: Family> Table<F> {
    /// The prefixes with these numbers, the last one not included.
    pub fn ids_between(&self, from: usize, to: usize) -> impl Iterator<Item = PrefixId> + '_ {
        let nets = self.nets.get(from..to.min(self.nets.len())).unwrap_or_default();
        let numbers = u32::try_from(from).unwrap_or(u32::MAX)..;
        numbers
            .zip(nets)
            .filter(|(_, net)| !net.paths.as_slice().is_empty())
            .map(|(i, _)| PrefixId(i))
    }

    /// Where a page that begins with a number ends: after `slots` numbers, or behind the prefix with which it comes to
    /// `paths` paths.
    pub fn page_end(&self, from: usize, slots: usize, paths: usize) -> usize {
        let to = from.saturating_add(slots);
        let mut seen = 0;
        for (at, net) in (from..to).zip(self.nets.get(from..).unwrap_or_default()) {
            seen += net.paths.as_slice().len();
            if seen >= paths {
                return at + 1;
            }
        }
        to
    }

    /// All numbers are below this one.
    pub fn numbers(&self) -> usize {
        self.nets.len()
    }

    /// How many prefixes have paths, and how many paths there are. Counted, so that who asks costs nothing.
    pub fn size(&self) -> (usize, usize) {
        let paths = self.counts.iter().map(|of| of.accepted as usize + of.filtered as usize);
        (self.used, paths.sum())
    }
}
