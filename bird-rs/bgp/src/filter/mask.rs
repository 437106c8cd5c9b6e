//! Path masks: `[= 64512 * 65001 .. =]`, shell patterns over AS paths.

use std::fmt;

use tortie_net::Asn;

use super::set::ValueSet;
use super::value::joined;
use crate::attr::{AsPath, Segment, SegmentKind};

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

impl PathMask {
    /// Does the whole path match? A sequence is its numbers one after another; a set stands for one number, and
    /// matches when any of its members does, or for none when the mask has it so.
    ///
    /// A set of places in the mask is carried along the path, so that the cost is at most the product of the lengths.
    pub fn matches(&self, path: &AsPath) -> bool {
        let mut places = vec![false; self.items.len() + 1];
        self.settle(&mut places, 0);
        for segment in path.segments() {
            match segment.kind {
                SegmentKind::Sequence | SegmentKind::ConfedSequence => {
                    for asn in segment.asns {
                        places = self.step(&places, |item| item.takes(*asn));
                    }
                }
                SegmentKind::Set | SegmentKind::ConfedSet => places = self.step_set(&places, segment),
            }
        }
        places.last().copied().unwrap_or(false)
    }

    fn step_set(&self, places: &[bool], segment: Segment<'_>) -> Vec<bool> {
        self.step(places, |item| segment.asns.iter().any(|asn| item.takes(*asn)))
    }

    /// The places after one more number that `takes` accepts.
    fn step(&self, places: &[bool], takes: impl Fn(&MaskItem) -> bool) -> Vec<bool> {
        let mut next = vec![false; places.len()];
        for (i, item) in self.items.iter().enumerate() {
            if !places.get(i).copied().unwrap_or(false) {
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
    fn settle(&self, places: &mut [bool], from: usize) {
        let mut at = from;
        loop {
            match places.get_mut(at) {
                Some(place) => *place = true,
                None => return,
            }
            match self.items.get(at) {
                Some(item) if item.optional() => at += 1,
                _ => return,
            }
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
}
