//! An ordered map for many small entries.

/// Entries of one chunk at most.
const CHUNK: usize = 128;

/// An ordered map whose memory is its entries: chunks of a hundred of them, in order, found by their first keys.
///
/// Filled in order, as a dump or a snapshot fills it, its chunks are full (a B-tree's nodes are half full then); otherwise two
/// thirds as a rule, and those that become nearly empty are merged. A lookup is two binary searches in plain arrays.
#[derive(Debug, Clone)]
pub struct PackedMap<K, V> {
    /// The first key of each chunk.
    firsts: Vec<K>,
    /// None is empty.
    chunks: Vec<Vec<(K, V)>>,
    len: usize,
}

impl<K, V> Default for PackedMap<K, V> {
    fn default() -> Self {
        PackedMap {
            firsts: Vec::new(),
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V> PackedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunk that has the key or would take it.
    fn chunk_of(&self, key: &K) -> usize {
        self.firsts.partition_point(|first| first <= key).saturating_sub(1)
    }

    /// Where the key is, or would be.
    fn place(&self, key: &K) -> (usize, Result<usize, usize>) {
        let chunk = self.chunk_of(key);
        let at = self
            .chunks
            .get(chunk)
            .map_or(Err(0), |entries| entries.binary_search_by(|(k, _)| k.cmp(key)));
        (chunk, at)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (chunk, at) = self.place(key);
        self.chunks.get(chunk)?.get(at.ok()?).map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (chunk, at) = self.place(key);
        self.chunks.get_mut(chunk)?.get_mut(at.ok()?).map(|(_, value)| value)
    }

    /// The value of a key, to be changed; a default one when there is none yet.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let (chunk, at) = match self.place(&key) {
            (chunk, Ok(at)) => (chunk, at),
            (chunk, Err(at)) => self.add(chunk, at, key, V::default()),
        };
        &mut self.chunks[chunk][at].1
    }

    /// Gives the key this value; gives back what it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            (chunk, Ok(at)) => Some(std::mem::replace(&mut self.chunks[chunk][at].1, value)),
            (chunk, Err(at)) => {
                self.add(chunk, at, key, value);
                None
            }
        }
    }

    /// Adds an entry that is not there; gives its place.
    fn add(&mut self, chunk: usize, at: usize, key: K, value: V) -> (usize, usize) {
        self.len += 1;
        let is_last = chunk + 1 >= self.chunks.len();
        let Some(entries) = self
            .chunks
            .get_mut(chunk)
            .filter(|e| e.len() < CHUNK || !is_last || at < CHUNK)
        else {
            // The first one, or in order after all others: the chunks before stay full.
            let mut entries = Vec::with_capacity(CHUNK);
            self.firsts.push(key.clone());
            entries.push((key, value));
            self.chunks.push(entries);
            return (self.chunks.len() - 1, 0);
        };
        let (mut chunk, mut at) = (chunk, at);
        if entries.len() == CHUNK {
            let upper = entries.split_off(CHUNK / 2);
            self.firsts.insert(chunk + 1, upper[0].0.clone());
            self.chunks.insert(chunk + 1, upper);
            if at > CHUNK / 2 {
                (chunk, at) = (chunk + 1, at - CHUNK / 2);
            }
        }
        if at == 0 {
            self.firsts[chunk] = key.clone();
        }
        self.chunks[chunk].insert(at, (key, value));
        (chunk, at)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (chunk, at) = self.place(key);
        let (at, entries) = (at.ok()?, self.chunks.get_mut(chunk)?);
        let (_, value) = entries.remove(at);
        self.len -= 1;
        match entries.first() {
            None => {
                self.chunks.remove(chunk);
                self.firsts.remove(chunk);
            }
            Some((first, _)) => {
                if at == 0 {
                    self.firsts[chunk] = first.clone();
                }
                self.merge(chunk);
            }
        }
        Some(value)
    }

    /// A chunk that has become small and one beside it that is, too, are one.
    fn merge(&mut self, chunk: usize) {
        for left in [chunk, chunk.saturating_sub(1)] {
            let len = |at: usize| self.chunks.get(at).map_or(CHUNK, Vec::len);
            let (one, other) = (len(left), len(left + 1));
            if one.min(other) < CHUNK / 4 && one + other <= CHUNK / 2 {
                let next = self.chunks.remove(left + 1);
                self.firsts.remove(left + 1);
                self.chunks[left].extend(next);
                return;
            }
        }
    }

    /// Every entry, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Every entry, by key, its value to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.chunks.iter_mut().flatten().map(|(key, value)| (&*key, value))
    }

    /// The entries from this key on.
    pub fn range_from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let (chunk, at) = self.place(key);
        let skipped = at.unwrap_or_else(|at| at);
        let rest = self.chunks.get(chunk..).unwrap_or_default();
        rest.iter().flatten().skip(skipped).map(|(key, value)| (key, value))
    }

    /// Keeps the entries that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for entries in &mut self.chunks {
            entries.retain_mut(|(key, value)| keep(key, value));
        }
        self.chunks.retain(|entries| !entries.is_empty());
        self.len = self.chunks.iter().map(Vec::len).sum();
        self.firsts = self.chunks.iter().filter_map(|e| Some(e.first()?.0.clone())).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(map: &PackedMap<u16, u32>, model: &BTreeMap<u16, u32>) {
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert!(map.iter().eq(model.iter()));
        let firsts: Vec<u16> = map.chunks.iter().map(|entries| entries[0].0).collect();
        assert_eq!(map.firsts, firsts);
        assert!(map.chunks.iter().all(|entries| entries.len() <= CHUNK));
    }

    proptest! {
        #[test]
        fn it_is_a_map(runs in proptest::collection::vec((0u8..7, any::<u16>(), 1u16..400), 0..40)) {
            let (mut map, mut model) = (PackedMap::default(), BTreeMap::new());
            for (op, start, count) in runs {
                for key in (start..start.saturating_add(count)).map(|k| if op % 2 == 0 { k } else { k.wrapping_mul(2531) }) {
                    let value = u32::from(key) + u32::from(op);
                    match op {
                        0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                        2 | 3 => {
                            *map.or_default(key) += value;
                            *model.entry(key).or_default() += value;
                        }
                        4 | 5 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                        _ => {
                            if let Some(value) = map.get_mut(&key) {
                                *value += 1;
                                model.entry(key).and_modify(|value| *value += 1);
                            }
                        }
                    }
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
                check(&map, &model);
                prop_assert!(map.range_from(&start).eq(model.range(start..)));
                if op == 6 {
                    map.retain(|key, value| key % 3 > 0 || *value % 2 == 0);
                    model.retain(|key, value| key % 3 > 0 || *value % 2 == 0);
                    map.iter_mut().for_each(|(key, value)| *value ^= u32::from(*key));
                    model.iter_mut().for_each(|(key, value)| *value ^= u32::from(*key));
                    check(&map, &model);
                }
            }
        }
    }

    #[test]
    fn filled_in_order_its_chunks_are_full_and_emptied_it_has_none() {
        let mut map = PackedMap::default();
        for key in 0..10_000u16 {
            map.insert(key, 0u32);
        }
        assert_eq!(map.chunks.len(), 10_000usize.div_ceil(CHUNK));
        for key in (0..10_000u16).filter(|key| key % 50 > 0) {
            map.remove(&key);
        }
        assert!(map.chunks.len() <= 20, "{} chunks for 200 entries", map.chunks.len());
        for key in (0..10_000u16).step_by(50) {
            assert_eq!(map.remove(&key), Some(0));
        }
        assert!(map.is_empty() && map.chunks.is_empty() && map.firsts.is_empty());
    }
}
