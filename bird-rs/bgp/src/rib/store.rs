//! Many short runs of octets in few allocations.
//!
//! Runs of about the same length share chunks; a run keeps its place until it is freed, and the place is used again by
//! the next one of that length. What is left over is at most seven octets for a run, and one chunk for each length.

/// Lengths are rounded up to a multiple of this.
const GRAIN: usize = 8;
/// Runs longer than this have an allocation of their own.
const LONGEST: usize = 512;
/// What a chunk takes, about.
const CHUNK: usize = 16 * 1024;

/// Where a run is. Together with its length it finds the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    at: u32,
    len: u32,
}

impl Place {
    fn class(self) -> usize {
        (self.len as usize).div_ceil(GRAIN)
    }
}

/// Places of one length.
#[derive(Debug, Default)]
struct Pool {
    chunks: Vec<Box<[u8]>>,
    used: u32,
    free: Vec<u32>,
}

impl Pool {
    fn per_chunk(size: usize) -> usize {
        CHUNK / size
    }

    fn allot(&mut self, size: usize) -> u32 {
        if let Some(at) = self.free.pop() {
            return at;
        }
        let per_chunk = Self::per_chunk(size);
        if self.used as usize == self.chunks.len() * per_chunk {
            self.chunks.push(vec![0; per_chunk * size].into());
        }
        self.used = self
            .used
            .checked_add(1)
            .expect("invariant: fewer than 2^32 runs fit into memory");
        self.used - 1
    }

    fn range(size: usize, at: u32) -> (usize, std::ops::Range<usize>) {
        let per_chunk = Self::per_chunk(size);
        let (chunk, start) = (at as usize / per_chunk, at as usize % per_chunk * size);
        (chunk, start..start + size)
    }

    /// The last one gives everything back.
    fn free(&mut self, at: u32) {
        self.free.push(at);
        if self.free.len() == self.used as usize {
            *self = Pool::default();
        }
    }
}

/// The runs.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By length in grains.
    pools: Vec<Pool>,
    long: Vec<Box<[u8]>>,
    free: Vec<u32>,
}

impl Store {
    /// Keeps a run of octets.
    pub(super) fn put(&mut self, octets: &[u8]) -> Place {
        let len = u32::try_from(octets.len()).expect("invariant: a value is shorter than 4 GiB");
        let mut place = Place { at: 0, len };
        if octets.len() > LONGEST {
            place.at = self.put_long(octets.into());
            return place;
        }
        let class = place.class();
        if self.pools.len() <= class {
            self.pools.resize_with(class + 1, Pool::default);
        }
        if class > 0 {
            let (pool, size) = (&mut self.pools[class], class * GRAIN);
            place.at = pool.allot(size);
            let (chunk, range) = Pool::range(size, place.at);
            pool.chunks[chunk][range][..octets.len()].copy_from_slice(octets);
        }
        place
    }

    fn put_long(&mut self, octets: Box<[u8]>) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.long[at as usize] = octets;
                at
            }
            None => {
                self.long.push(octets);
                u32::try_from(self.long.len() - 1).expect("invariant: fewer than 2^32 runs fit into memory")
            }
        }
    }

    /// A run that is kept.
    pub(super) fn get(&self, place: Place) -> &[u8] {
        let (len, class) = (place.len as usize, place.class());
        if len > LONGEST {
            return &self.long[place.at as usize];
        }
        if class == 0 {
            return &[];
        }
        let (chunk, range) = Pool::range(class * GRAIN, place.at);
        &self.pools[class].chunks[chunk][range][..len]
    }

    /// Keeps a run no more.
    pub(super) fn free(&mut self, place: Place) {
        if place.len as usize > LONGEST {
            self.long[place.at as usize] = Box::default();
            self.free.push(place.at);
        } else if place.class() > 0 {
            self.pools[place.class()].free(place.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_got(ops in proptest::collection::vec((any::<bool>(), 0usize..700, any::<u8>()), 0..300)) {
            let mut store = Store::default();
            let mut kept: Vec<(Place, Vec<u8>)> = Vec::new();
            for (put, number, fill) in ops {
                if put || kept.is_empty() {
                    let run = vec![fill; number];
                    kept.push((store.put(&run), run));
                } else {
                    let (place, _) = kept.swap_remove(number % kept.len());
                    store.free(place);
                }
                for (place, run) in &kept {
                    prop_assert_eq!(store.get(*place), &**run);
                }
            }
            for (place, _) in kept {
                store.free(place);
            }
            prop_assert!(store.pools.iter().all(|pool| pool.chunks.is_empty()));
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut store = Store::default();
        let stays = store.put(&[1; 40]);
        for i in 0..10_000u32 {
            let place = store.put(&[i as u8; 37]);
            store.free(place);
        }
        assert_eq!(store.pools[stays.class()].chunks.len(), 1);
        assert_eq!(store.get(stays), [1; 40]);
    }
}
