//! A sorted set of payloads.
//!
//! An entry takes 16 octets for IPv4 and 28 for IPv6, and nothing else is allocated: 500,000 IPv4 payloads are 8 MB.
//!
//! Prefixes sort so that each comes right before those within it. Every entry knows the last entry of the next shorter prefix
//! that covers its own, so all that cover a prefix are found by one binary search and a walk up this chain, which is no
//! longer than an address has bits.

use tortie_net::{Asn, Family, Prefix, Prefix4, Prefix6};

use super::{Roa, Validity};

/// There is no shorter prefix.
const NONE: u32 = u32::MAX;

/// The address of a prefix as an entry holds it: in words, since an entry with a `u128` would be padded.
pub(super) trait Words: Family {
    /// Sorts as addresses do.
    type Addr: Copy + Ord + std::hash::Hash + std::fmt::Debug + Send + Sync;
    fn words(self) -> Self::Addr;
    /// Aligned to the top of 128 bits.
    fn top(addr: Self::Addr) -> u128;
}

impl Words for Prefix4 {
    type Addr = u32;
    fn words(self) -> u32 {
        self.addr().into()
    }
    fn top(addr: u32) -> u128 {
        u128::from(addr) << 96
    }
}

impl Words for Prefix6 {
    type Addr = [u32; 4];
    fn words(self) -> [u32; 4] {
        let bits = self.top_bits();
        [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
    }
    fn top(addr: [u32; 4]) -> u128 {
        addr.iter().fold(0, |bits, word| bits << 32 | u128::from(*word))
    }
}

/// A payload without its family. The order of the fields is that of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Record<A> {
    addr: A,
    len: u8,
    max_len: u8,
    asn: u32,
}

impl<A: Copy + Ord> Record<A> {
    fn of<F: Words<Addr = A>>(prefix: F, roa: Roa) -> Self {
        Record {
            addr: prefix.words(),
            len: prefix.len(),
            max_len: roa.max_len,
            asn: roa.asn.0,
        }
    }

    fn same_prefix(&self, other: &Self) -> bool {
        (self.addr, self.len) == (other.addr, other.len)
    }

    /// Does its prefix cover an address and length?
    fn covers<F: Words<Addr = A>>(&self, bits: u128, len: u8) -> bool {
        let differs = (F::top(self.addr) ^ bits)
            .checked_shr(128 - u32::from(self.len))
            .unwrap_or(0);
        self.len <= len && differs == 0
    }

    fn roa<F: Words<Addr = A>>(&self) -> Option<Roa> {
        Some(Roa {
            prefix: F::from_top_bits(F::top(self.addr), self.len)?.erase(),
            max_len: self.max_len,
            asn: Asn(self.asn),
        })
    }
}

/// The payloads of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sorted<F: Words> {
    records: Box<[Record<F::Addr>]>,
    /// For each: the last one of the next shorter prefix that covers its own.
    parents: Box<[u32]>,
}

impl<F: Words> Default for Sorted<F> {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<F: Words> Sorted<F> {
    fn of(mut records: Vec<Record<F::Addr>>) -> Self {
        records.sort_unstable();
        records.dedup();
        // Indices are 32 bits wide, and the last one is no index. No cache comes near that.
        records.truncate(NONE as usize);
        let mut parents: Vec<u32> = Vec::with_capacity(records.len());
        // The prefixes that the current one lies in, the longest last, each by its last record so far.
        let mut open: Vec<u32> = Vec::new();
        for (at, record) in (0u32..).zip(&records) {
            let bits = F::top(record.addr);
            while open
                .last()
                .is_some_and(|last| !records[*last as usize].covers::<F>(bits, record.len))
            {
                open.pop();
            }
            match open
                .last_mut()
                .filter(|last| records[**last as usize].same_prefix(record))
            {
                Some(last) => {
                    parents.push(parents[*last as usize]);
                    *last = at;
                }
                None => {
                    parents.push(open.last().copied().unwrap_or(NONE));
                    open.push(at);
                }
            }
        }
        Sorted {
            records: records.into_boxed_slice(),
            parents: parents.into_boxed_slice(),
        }
    }

    /// Every payload whose prefix covers this one, until `each` has seen enough.
    fn covering(&self, net: F, mut each: impl FnMut(&Record<F::Addr>) -> bool) {
        let (addr, bits, len) = (net.words(), net.top_bits(), net.len());
        let mut next = self
            .records
            .partition_point(|r| (r.addr, r.len) <= (addr, len))
            .checked_sub(1);
        while let Some(last) = next {
            let record = self.records[last];
            if record.covers::<F>(bits, len) {
                let group = self.records[..=last].iter().rev();
                for member in group.take_while(|r| r.same_prefix(&record)) {
                    if !each(member) {
                        return;
                    }
                }
            }
            next = Some(self.parents[last])
                .filter(|parent| *parent != NONE)
                .map(|parent| parent as usize);
        }
    }

    fn validity(&self, net: F, origin: Asn) -> Validity {
        let mut found = Validity::Unknown;
        self.covering(net, |record| {
            // Nobody is AS 0 (RFC 7607), so it is nobody's origin.
            let allows = record.asn == origin.0 && origin.0 != 0 && net.len() <= record.max_len;
            found = if allows { Validity::Valid } else { Validity::Invalid };
            !allows
        });
        found
    }

    fn holds(&self, record: &Record<F::Addr>) -> bool {
        self.records.binary_search(record).is_ok()
    }

    /// Those behind one, in order.
    fn after(&self, last: Option<Record<F::Addr>>) -> impl Iterator<Item = Roa> + '_ {
        let from = last.map_or(0, |last| self.records.partition_point(|r| *r <= last));
        self.records
            .get(from..)
            .unwrap_or_default()
            .iter()
            .filter_map(Record::roa::<F>)
    }

    fn updated(&self, mut changes: Vec<(Record<F::Addr>, bool)>) -> Result<Self, BadUpdate> {
        if changes.is_empty() {
            return Ok(self.clone());
        }
        // Stable: what is said of one payload keeps its order.
        changes.sort_by_key(|(record, _)| *record);
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        for about_one in changes.chunk_by(|a, b| a.0 == b.0) {
            let record = about_one[0].0;
            let before = self.holds(&record);
            let mut there = before;
            for (_, announced) in about_one {
                match (*announced, there) {
                    (true, true) => return Err(BadUpdate::Duplicate(record.roa::<F>())),
                    (false, false) => return Err(BadUpdate::Unknown(record.roa::<F>())),
                    (announced, _) => there = announced,
                }
            }
            match (before, there) {
                (false, true) => added.push(record),
                (true, false) => gone.push(record),
                (true, true) | (false, false) => {}
            }
        }
        let kept = self.records.iter().filter(|record| gone.binary_search(record).is_err());
        let mut records = Vec::with_capacity(self.records.len() + added.len() - gone.len());
        records.extend(kept.copied());
        records.append(&mut added);
        Ok(Self::of(records))
    }

    /// The prefixes of payloads that only one of both has.
    fn differences(&self, other: &Self, changed: &mut Vec<Prefix>) {
        let (mut a, mut b) = (self.records.iter().peekable(), other.records.iter().peekable());
        loop {
            let one = match (a.peek(), b.peek()) {
                (None, None) => return,
                (Some(x), Some(y)) if x == y => {
                    a.next();
                    b.next();
                    continue;
                }
                (Some(x), Some(y)) if x < y => a.next(),
                (Some(_), None) => a.next(),
                (_, Some(_)) => b.next(),
            };
            changed.extend(one.and_then(Record::roa::<F>).map(|roa| roa.prefix));
        }
    }
}

/// All payloads of one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoaSet {
    v4: Sorted<Prefix4>,
    v6: Sorted<Prefix6>,
}

/// What changes in a set, in the order it was said. Nothing changes until [`RoaSet::updated`].
#[derive(Debug, Clone, Default)]
pub struct RoaUpdate {
    v4: Vec<(Record<u32>, bool)>,
    v6: Vec<(Record<[u32; 4]>, bool)>,
}

/// An update that does not fit the set (RFC 8210 section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUpdate {
    /// A payload is announced that is there.
    #[error("a payload was announced twice")]
    Duplicate(Option<Roa>),
    /// A payload is withdrawn that is not there.
    #[error("a payload was withdrawn that was never announced")]
    Unknown(Option<Roa>),
}

impl RoaUpdate {
    /// A payload is announced, or else withdrawn.
    pub fn push(&mut self, roa: Roa, announced: bool) {
        match roa.prefix {
            Prefix::V4(prefix) => self.v4.push((Record::of(prefix, roa), announced)),
            Prefix::V6(prefix) => self.v6.push((Record::of(prefix, roa), announced)),
        }
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RoaSet {
    /// How many payloads there are.
    pub fn len(&self) -> usize {
        self.v4.records.len() + self.v6.records.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of one family.
    pub fn count(&self, is_v4: bool) -> usize {
        if is_v4 {
            self.v4.records.len()
        } else {
            self.v6.records.len()
        }
    }

    /// Is this payload there?
    pub fn contains(&self, roa: Roa) -> bool {
        match roa.prefix {
            Prefix::V4(prefix) => self.v4.holds(&Record::of(prefix, roa)),
            Prefix::V6(prefix) => self.v6.holds(&Record::of(prefix, roa)),
        }
    }

    /// What the payloads say of a route and its origin. In time proportional to the length of an address, if not many
    /// payloads have the same prefix.
    pub fn validity(&self, net: Prefix, origin: Asn) -> Validity {
        match net {
            Prefix::V4(net) => self.v4.validity(net, origin),
            Prefix::V6(net) => self.v6.validity(net, origin),
        }
    }

    /// The payloads of one family in order, those behind `last` if it is given.
    pub fn after(&self, is_v4: bool, last: Option<Roa>) -> Box<dyn Iterator<Item = Roa> + '_> {
        let record4 = |roa: Roa| Prefix4::of(roa.prefix).map(|prefix| Record::of(prefix, roa));
        let record6 = |roa: Roa| Prefix6::of(roa.prefix).map(|prefix| Record::of(prefix, roa));
        if is_v4 {
            Box::new(self.v4.after(last.and_then(record4)))
        } else {
            Box::new(self.v6.after(last.and_then(record6)))
        }
    }

    /// The set after an update.
    ///
    /// # Errors
    /// [`BadUpdate`]; there is no set then.
    pub fn updated(&self, update: RoaUpdate) -> Result<RoaSet, BadUpdate> {
        Ok(RoaSet {
            v4: self.v4.updated(update.v4)?,
            v6: self.v6.updated(update.v6)?,
        })
    }

    /// The prefixes of payloads of one family that only one of both sets has.
    pub(super) fn differences(&self, other: &RoaSet, is_v4: bool) -> Vec<Prefix> {
        let mut changed = Vec::new();
        if is_v4 {
            self.v4.differences(&other.v4, &mut changed);
        } else {
            self.v6.differences(&other.v6, &mut changed);
        }
        changed
    }

    /// Octets that the payloads take.
    pub fn octets(&self) -> usize {
        let v4 = size_of::<Record<u32>>() + size_of::<u32>();
        let v6 = size_of::<Record<[u32; 4]>>() + size_of::<u32>();
        self.v4.records.len() * v4 + self.v6.records.len() * v6
    }
}

impl FromIterator<Roa> for RoaSet {
    /// Payloads that are there twice are there once.
    fn from_iter<I: IntoIterator<Item = Roa>>(roas: I) -> Self {
        let mut update = RoaUpdate::default();
        roas.into_iter().for_each(|roa| update.push(roa, true));
        RoaSet {
            v4: Sorted::of(update.v4.into_iter().map(|(record, _)| record).collect()),
            v6: Sorted::of(update.v6.into_iter().map(|(record, _)| record).collect()),
        }
    }
}
