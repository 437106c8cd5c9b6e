//! A set of prefixes that answers one question: does one of them cover this prefix?

use tortie_net::Prefix;

/// Prefixes, without those that others cover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cover(Vec<Prefix>);

impl Cover {
    /// Of these prefixes.
    pub fn new(mut prefixes: Vec<Prefix>) -> Self {
        prefixes.sort_unstable();
        let mut outer: Vec<Prefix> = Vec::new();
        for prefix in prefixes {
            // Sorted, a prefix is before all that it covers.
            if !outer.last().is_some_and(|last| last.covers(prefix)) {
                outer.push(prefix);
            }
        }
        Cover(outer)
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does one of the prefixes cover this one?
    pub fn covers(&self, net: Prefix) -> bool {
        let before = self.0.partition_point(|prefix| *prefix <= net);
        let last = before.checked_sub(1).and_then(|at| self.0.get(at));
        last.is_some_and(|prefix| prefix.covers(net))
    }
}
