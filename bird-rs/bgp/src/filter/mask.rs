//! Path masks: `[= 64512 * 65001 .. =]`, shell patterns over AS paths.

use std::fmt;

use tortie_net::Asn;

use super::set::ValueSet;
use super::value::joined;
use crate::attr::{AsPath, Segment};

/// One item of a mask.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskItem {
    /// This number.
    Asn(u32),
    /// A number from the first to the second.
    Range(u32, u32),
    /// A number of this set of integers.
    Set(ValueSet),
    /// `*`: any numbers, or none.
    Star,
    /// `?`: any one number.
    Any,
    /// `+`: the item before, again any number of times.
    Loop,
}

/// A mask.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PathMask {
    /// Its items in order.
    pub items: Vec<MaskItem>,
}

impl MaskItem {
    fn takes(&self, asn: Asn) -> bool {
        match self {
            MaskItem::Asn(n) => asn.0 == *n,
            MaskItem::Range(low, high) => (*low..=*high).contains(&asn.0),
            MaskItem::Set(set) => set.has_int(asn.0),
            MaskItem::Any => true,
            MaskItem::Star | MaskItem::Loop => false,
        }
    }

    /// May the mask go on behind this item without taking a number?
    fn optional(&self) -> bool {
        matches!(self, MaskItem::Star | MaskItem::Loop)
    }
}

/// Places in a mask: before each item, and the end.
trait Places: Clone + PartialEq {
    fn none(count: usize) -> Self;
    fn has(&self, place: usize) -> bool;
    fn mark(&mut self, place: usize);
    fn join(&mut self, other: &Self);
}

/// Of masks with fewer than 64 items, as nearly all are: no allocation.
impl Places for u64 {
    fn none(_: usize) -> Self {
        0
    }

    fn has(&self, place: usize) -> bool {
        self & (1 << place) != 0
    }

    fn mark(&mut self, place: usize) {
        *self |= 1 << place;
    }

    fn join(&mut self, other: &Self) {
        *self |= other;
    }
}

impl Places for Vec<bool> {
    fn none(count: usize) -> Self {
        vec![false; count]
    }

    fn has(&self, place: usize) -> bool {
        self.get(place).copied().unwrap_or(false)
    }

    fn mark(&mut self, place: usize) {
        if let Some(place) = self.get_mut(place) {
            *place = true;
        }
    }

    fn join(&mut self, other: &Self) {
        for (own, other) in self.iter_mut().zip(other) {
            *own |= other;
        }
    }
}

impl PathMask {
    /// Does the whole path match? A sequence is its numbers one after another. A set is, as in BIRD, any numbers of it
    /// one after another, again and again, but at least one; sets behind a set may be left out.
    ///
    /// A set of places in the mask is carried along the path, so that the cost is at most the product of the lengths, times
    /// the mask's length for a set.
    pub fn matches(&self, path: &AsPath) -> bool {
        if self.items.len() < 64 {
            self.walk::<u64>(path)
        } else {
            self.walk::<Vec<bool>>(path)
        }
    }

    fn walk<P: Places>(&self, path: &AsPath) -> bool {
        let mut places = P::none(self.items.len() + 1);
        self.settle(&mut places, 0);
        let mut behind_set = false;
        for segment in path.segments() {
            if segment.kind.is_set() {
                let once = self.of_set(&places, segment);
                if behind_set {
                    places.join(&once);
                } else {
                    places = once;
                }
            } else {
                for asn in segment.asns {
                    places = self.step(&places, |item| item.takes(*asn));
                }
            }
            behind_set = segment.kind.is_set();
        }
        places.has(self.items.len())
    }

    /// The places after one or more numbers of a set.
    fn of_set<P: Places>(&self, places: &P, segment: Segment<'_>) -> P {
        let takes = |item: &MaskItem| segment.asns.iter().any(|asn| item.takes(*asn));
        let mut reached = self.step(places, takes);
        loop {
            let mut further = reached.clone();
            further.join(&self.step(&reached, takes));
            if further == reached {
                return reached;
            }
            reached = further;
        }
    }

    /// The places after one more number that `takes` accepts.
    fn step<P: Places>(&self, places: &P, takes: impl Fn(&MaskItem) -> bool) -> P {
        let mut next = P::none(self.items.len() + 1);
        for (i, item) in self.items.iter().enumerate() {
            if !places.has(i) {
                continue;
            }
            match item {
                MaskItem::Star => self.settle(&mut next, i),
                MaskItem::Loop => {
                    let before = i.checked_sub(1).and_then(|b| self.items.get(b));
                    if before.is_some_and(&takes) {
                        self.settle(&mut next, i);
                    }
                }
                other if takes(other) => self.settle(&mut next, i + 1),
                _ => {}
            }
        }
        next
    }

    /// Marks a place and all that can be reached from it without a number.
    fn settle<P: Places>(&self, places: &mut P, from: usize) {
        let mut at = from;
        places.mark(at);
        while self.items.get(at).is_some_and(MaskItem::optional) {
            at += 1;
            places.mark(at);
        }
    }
}

impl fmt::Display for PathMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[= ")?;
        joined(f, &self.items, " ", |f, item| item.fmt(f))?;
        f.write_str(if self.items.is_empty() { "=]" } else { " =]" })
    }
}

impl fmt::Display for MaskItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskItem::Asn(n) => n.fmt(f),
            MaskItem::Range(low, high) => write!(f, "{low}..{high}"),
            MaskItem::Set(set) => set.fmt(f),
            MaskItem::Star => f.write_str("*"),
            MaskItem::Any => f.write_str("?"),
            MaskItem::Loop => f.write_str("+"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(items: Vec<MaskItem>) -> PathMask {
        PathMask { items }
    }

    fn path(asns: &[u32]) -> AsPath {
        AsPath::sequence(asns.iter().map(|n| Asn(*n)))
    }

    #[test]
    fn stars_and_loops() {
        let m = mask(vec![MaskItem::Asn(1), MaskItem::Loop, MaskItem::Star, MaskItem::Asn(9)]);
        assert!(m.matches(&path(&[1, 9])));
        assert!(m.matches(&path(&[1, 1, 5, 9])));
        assert!(!m.matches(&path(&[9])));
        assert!(!m.matches(&path(&[1, 9, 2])));
        assert!(mask(vec![]).matches(&path(&[])));
        assert!(mask(vec![MaskItem::Star]).matches(&path(&[])));
        assert!(!mask(vec![MaskItem::Any]).matches(&path(&[])));
    }

    #[test]
    fn a_set_is_any_of_its_numbers_as_often_as_needed() {
        use crate::attr::{AsPathBuilder, SegmentKind};
        let path = |segments: &[(SegmentKind, &[u32])]| {
            let mut path = AsPathBuilder::default();
            for (kind, asns) in segments {
                path.push(*kind, asns.iter().map(|n| Asn(*n)));
            }
            path.build()
        };
        let (set, sequence) = (SegmentKind::Set, SegmentKind::Sequence);
        let numbers = |all: &[u32]| mask(all.iter().map(|n| MaskItem::Asn(*n)).collect());
        let aggregate = path(&[(sequence, &[3]), (set, &[1, 5]), (sequence, &[4])]);
        // All of these are BIRD 2.0.12's answers.
        for (mask, expected) in [
            (&[3, 1, 4][..], true),
            (&[3, 5, 1, 4], true),
            (&[3, 4], false),
            (&[3, 2, 4], false),
        ] {
            assert_eq!(numbers(mask).matches(&aggregate), expected, "{mask:?}");
        }
        let two = path(&[(sequence, &[3]), (set, &[1]), (set, &[2]), (sequence, &[4])]);
        for (mask, expected) in [(&[3, 1, 4][..], true), (&[3, 1, 2, 4], true), (&[3, 2, 1, 4], false)] {
            assert_eq!(numbers(mask).matches(&two), expected, "{mask:?}");
        }
        assert!(!numbers(&[]).matches(&path(&[(set, &[1])])));
    }

    #[test]
    fn long_masks_are_no_different() {
        let mut items = vec![MaskItem::Asn(7); 70];
        items.push(MaskItem::Star);
        assert!(mask(items.clone()).matches(&path(&[7; 70])));
        assert!(mask(items.clone()).matches(&path(&[7; 80])));
        assert!(!mask(items).matches(&path(&[7; 69])));
    }

    /// As many numbers as an extended message holds: what a pattern costs does not depend on how it is written.
    #[test]
    fn long_paths_are_no_different() {
        let numbers: Vec<u32> = (1..=16_000).collect();
        let path = path(&numbers);
        let with = |last: u32| {
            let found = [1, 2_048, 2_049, 9_000, last].into_iter();
            mask(found.flat_map(|n| [MaskItem::Star, MaskItem::Asn(n)]).collect())
        };
        assert!(with(16_000).matches(&path));
        assert!(!with(16_001).matches(&path));
        assert!(mask(vec![MaskItem::Any, MaskItem::Loop]).matches(&path));
    }
}
