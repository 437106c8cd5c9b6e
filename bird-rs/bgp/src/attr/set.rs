//! Sets of communities.

use std::ops::Deref;

/// A sorted set without duplicates in one allocation (none when empty).
///
/// RFC 1997, 4360 and 8092 give the order of communities no meaning, so ours is sorted: equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set<T>(Box<[T]>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Set(Box::default())
    }
}

impl<T: Ord + Copy> Set<T> {
    /// Is it a member?
    pub fn contains(&self, item: T) -> bool {
        self.0.binary_search(&item).is_ok()
    }

    /// Adds a member; `false` when it was one already.
    pub fn insert(&mut self, item: T) -> bool {
        let Err(at) = self.0.binary_search(&item) else {
            return false;
        };
        let mut items = std::mem::take(&mut self.0).into_vec();
        items.insert(at, item);
        self.0 = items.into();
        true
    }

    /// Keeps the members that satisfy `keep`; `true` when any was removed.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) -> bool {
        let before = self.0.len();
        let mut items = std::mem::take(&mut self.0).into_vec();
        items.retain(keep);
        self.0 = items.into();
        self.0.len() != before
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        Set(items.into())
    }
}

impl<T> Deref for Set<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
