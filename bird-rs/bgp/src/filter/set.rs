//! Sets: sorted ranges of ordered values, and prefix patterns.
//!
//! Lookup is a binary search: a range set of n ranges costs log n. A prefix set is a sorted list of the networks of its
//! patterns, searched once for each length that occurs in it, and only when one of its widest networks covers what is asked.

use std::fmt;
use std::net::IpAddr;

use tortie_net::{ExtCommunity, LargeCommunity, Prefix};

use super::value::{EnumType, SetOf, Value, joined, write_ec, write_lc, write_pair};

/// Values from `low` to `high`, both included. Pairs and communities are ordered as one number, as BIRD does it:
/// `(1,10)..(3,20)` holds `(2,25)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// The lowest member.
    pub low: T,
    /// The highest member.
    pub high: T,
}

/// A set of anything but prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSet {
    /// `[]`.
    Empty,
    /// Integers.
    Int(Vec<Range<u32>>),
    /// Quads.
    Quad(Vec<Range<u32>>),
    /// Pairs.
    Pair(Vec<Range<u32>>, Vec<PairBox>),
    /// Addresses; every range within one family.
    Ip(Vec<Range<IpAddr>>),
    /// Extended communities.
    Ec(Vec<Range<ExtCommunity>>),
    /// Large communities.
    Lc(Vec<Range<LargeCommunity>>),
    /// Members of an enumeration.
    Enum(EnumType, Vec<Range<u8>>),
}

/// `(1..3,10..20)`: pairs whose halves both lie between. BIRD makes a range for each first half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairBox {
    /// The lowest halves.
    pub low: (u16, u16),
    /// The highest halves.
    pub high: (u16, u16),
}

impl PairBox {
    /// How many first halves it has.
    fn rows(&self) -> usize {
        usize::from(self.high.0.saturating_sub(self.low.0)) + 1
    }

    /// A range for each first half.
    fn ranges(self) -> impl Iterator<Item = Range<u32>> {
        let pair = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
        (self.low.0..=self.high.0).map(move |a| Range {
            low: pair(a, self.low.1),
            high: pair(a, self.high.1),
        })
    }
}

/// Sorts ranges and joins those that overlap, so that equal sets are equal values and a search finds at most one.
fn normalise<T: Ord + Copy>(ranges: &mut Vec<Range<T>>) {
    ranges.sort_unstable_by_key(|r| r.low);
    let mut kept: Vec<Range<T>> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match kept.last_mut() {
            Some(last) if range.low <= last.high => last.high = last.high.max(range.high),
            _ => kept.push(range),
        }
    }
    *ranges = kept;
}

fn holds<T: Ord + Copy>(ranges: &[Range<T>], item: T) -> bool {
    let after = ranges.partition_point(|r| r.low <= item);
    after
        .checked_sub(1)
        .and_then(|i| ranges.get(i))
        .is_some_and(|r| item <= r.high)
}

fn in_box(boxes: &[PairBox], (a, b): (u16, u16)) -> bool {
    // Sorted by the lowest first half: none beyond it can hold the pair.
    let end = boxes.partition_point(|x| x.low.0 <= a);
    let candidates = boxes.get(..end).unwrap_or_default();
    candidates
        .iter()
        .any(|x| a <= x.high.0 && x.low.1 <= b && b <= x.high.1)
}

pub(crate) fn halves(pair: u32) -> (u16, u16) {
    ((pair >> 16) as u16, pair as u16)
}

impl ValueSet {
    /// What it holds; none when empty.
    pub(crate) fn of(&self) -> Option<SetOf> {
        Some(match self {
            ValueSet::Empty => return None,
            ValueSet::Int(_) => SetOf::Int,
            ValueSet::Quad(_) => SetOf::Quad,
            ValueSet::Pair(..) => SetOf::Pair,
            ValueSet::Ip(_) => SetOf::Ip,
            ValueSet::Ec(_) => SetOf::Ec,
            ValueSet::Lc(_) => SetOf::Lc,
            ValueSet::Enum(e, _) => SetOf::Enum(*e),
        })
    }

    /// The same set in its normal form.
    pub(crate) fn normal(mut self) -> Self {
        match &mut self {
            ValueSet::Empty => {}
            ValueSet::Int(r) | ValueSet::Quad(r) => normalise(r),
            ValueSet::Pair(r, boxes) => {
                normalise(r);
                boxes.sort_unstable();
                boxes.dedup();
            }
            ValueSet::Ip(r) => normalise(r),
            ValueSet::Ec(r) => normalise(r),
            ValueSet::Lc(r) => normalise(r),
            ValueSet::Enum(_, r) => normalise(r),
        }
        self
    }

    pub(crate) fn has_int(&self, int: u32) -> bool {
        matches!(self, ValueSet::Int(r) if holds(r, int))
    }

    pub(crate) fn has_pair(&self, pair: u32) -> bool {
        matches!(self, ValueSet::Pair(r, boxes) if holds(r, pair) || in_box(boxes, halves(pair)))
    }

    pub(crate) fn has_quad(&self, quad: u32) -> bool {
        match self {
            ValueSet::Quad(r) => holds(r, quad),
            ValueSet::Ip(r) => holds(r, IpAddr::from(std::net::Ipv4Addr::from(quad))),
            _ => false,
        }
    }

    pub(crate) fn has_ec(&self, ec: ExtCommunity) -> bool {
        matches!(self, ValueSet::Ec(r) if holds(r, ec))
    }

    pub(crate) fn has_lc(&self, lc: LargeCommunity) -> bool {
        matches!(self, ValueSet::Lc(r) if holds(r, lc))
    }

    /// Is a value a member? A value of another kind is not.
    pub(crate) fn contains(&self, value: &Value) -> bool {
        match value {
            Value::Int(i) => self.has_int(*i),
            Value::Pair(p) => self.has_pair(*p),
            Value::Quad(q) => self.has_quad(*q),
            Value::Ip(ip) => matches!(self, ValueSet::Ip(r) if holds(r, *ip)),
            Value::Ec(ec) => self.has_ec(*ec),
            Value::Lc(lc) => self.has_lc(*lc),
            Value::Enum(e, number) => matches!(self, ValueSet::Enum(of, r) if of == e && holds(r, *number)),
            _ => false,
        }
    }
}

fn write_ranges<T: PartialEq + Copy>(
    f: &mut fmt::Formatter<'_>,
    ranges: &[Range<T>],
    one: impl Fn(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    joined(f, ranges, ", ", |f, range| {
        one(f, range.low)?;
        if range.low != range.high {
            f.write_str("..")?;
            one(f, range.high)?;
        }
        Ok(())
    })
}

/// An enumeration's member by its name.
pub(crate) fn write_enum(f: &mut fmt::Formatter<'_>, ty: EnumType, number: u8) -> fmt::Result {
    match super::value::ENUM_CONSTANTS
        .iter()
        .find(|(_, t, n)| *t == ty && *n == number)
    {
        Some((name, ..)) => f.write_str(name),
        None => write!(f, "{}", Value::Enum(ty, number)),
    }
}

/// Ranges that a box is printed as, at most; a larger one is printed as it is written.
const PRINTED: usize = 256;

impl ValueSet {
    /// As BIRD's `print` writes it, which is not the language.
    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueSet::Pair(r, boxes) if r.len() + boxes.iter().map(PairBox::rows).sum::<usize>() <= PRINTED => {
                let mut ranges = r.clone();
                ranges.extend(boxes.iter().flat_map(|x| x.ranges()));
                ranges.sort_unstable_by_key(|range| range.low);
                write_all(f, &ranges, write_pair)
            }
            ValueSet::Ec(r) => write_all(f, r, write_ec),
            ValueSet::Enum(e, r) => write_all(f, r, |f, number| write!(f, "{}", Value::Enum(*e, number))),
            other => write!(f, "{other}"),
        }
    }
}

fn write_all<T: PartialEq + Copy>(
    f: &mut fmt::Formatter<'_>,
    ranges: &[Range<T>],
    one: impl Fn(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    write_ranges(f, ranges, one)?;
    f.write_str("]")
}

impl fmt::Display for ValueSet {
    /// In the language: parsing it gives an equal set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        match self {
            ValueSet::Empty => Ok(()),
            ValueSet::Int(r) => write_ranges(f, r, |f, i| i.fmt(f)),
            ValueSet::Quad(r) => write_ranges(f, r, |f, q| std::net::Ipv4Addr::from(q).fmt(f)),
            ValueSet::Pair(r, boxes) => {
                write_ranges(f, r, write_pair)?;
                f.write_str(if r.is_empty() || boxes.is_empty() { "" } else { ", " })?;
                joined(f, boxes, ", ", |f, x| {
                    write!(f, "({}..{},{}..{})", x.low.0, x.high.0, x.low.1, x.high.1)
                })
            }
            ValueSet::Ip(r) => write_ranges(f, r, |f, ip| ip.fmt(f)),
            ValueSet::Ec(r) => joined(f, r, ", ", |f, range| write_ec_range(f, *range)),
            ValueSet::Lc(r) => write_ranges(f, r, write_lc),
            ValueSet::Enum(e, r) => write_ranges(f, r, |f, n| write_enum(f, *e, n)),
        }?;
        f.write_str("]")
    }
}

/// `(rt, 1, 2..3)`: the language has ranges of the last number only.
fn write_ec_range(f: &mut fmt::Formatter<'_>, range: Range<ExtCommunity>) -> fmt::Result {
    struct Ec(ExtCommunity);
    impl fmt::Display for Ec {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_ec(f, self.0)
        }
    }
    let low = Ec(range.low).to_string();
    if range.low == range.high {
        return f.write_str(&low);
    }
    let high = Ec(range.high).to_string();
    let last = high.rsplit(' ').next().unwrap_or_default();
    write!(f, "{}..{last}", low.trim_end_matches(')'))
}

/// One pattern of a prefix set: `10.0.0.0/8{16,24}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixPattern {
    /// The network.
    pub net: Prefix,
    /// The shortest length of a prefix that matches.
    pub low: u8,
    /// The longest.
    pub high: u8,
}

impl PrefixPattern {
    /// BIRD's rule: the prefix and the network agree in as many bits as the shorter of them has, and the prefix's length
    /// is in the range. So a pattern `10.0.0.0/16{8,24}` matches `10.0.0.0/8` too.
    fn matches(self, prefix: Prefix) -> bool {
        (self.low..=self.high).contains(&prefix.len()) && (self.net.covers(prefix) || prefix.covers(self.net))
    }
}

/// A set of prefix patterns of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrefixSet {
    /// Sorted by network; the source of truth.
    patterns: Vec<PrefixPattern>,
    /// The networks that no other one covers, sorted: they are apart, so that one search finds the only one that may
    /// cover a prefix. Most prefixes that are asked for are in none.
    widest: Vec<Prefix>,
    /// The lengths of the patterns' networks, ascending.
    lengths: Vec<u8>,
    /// Patterns that match prefixes shorter than their own network; few, and looked at one by one.
    shorter: Vec<PrefixPattern>,
}

impl PrefixSet {
    /// From patterns in any order.
    pub(crate) fn new(mut patterns: Vec<PrefixPattern>) -> Self {
        patterns.sort_unstable();
        patterns.dedup();
        let mut lengths: Vec<u8> = patterns.iter().map(|p| p.net.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let mut widest: Vec<Prefix> = Vec::new();
        for pattern in &patterns {
            // Sorted: what covers a network is before it.
            if !widest.last().is_some_and(|last| last.covers(pattern.net)) {
                widest.push(pattern.net);
            }
        }
        let shorter = patterns.iter().filter(|p| p.low < p.net.len()).copied().collect();
        PrefixSet {
            patterns,
            widest,
            lengths,
            shorter,
        }
    }

    /// Does a pattern match?
    pub(crate) fn contains(&self, prefix: Prefix) -> bool {
        self.is_covered(prefix) || self.shorter.iter().any(|p| p.matches(prefix))
    }

    /// Does a pattern whose network covers the prefix match?
    fn is_covered(&self, prefix: Prefix) -> bool {
        let before = self.widest.partition_point(|net| *net <= prefix);
        let widest = before.checked_sub(1).and_then(|at| self.widest.get(at));
        let Some(widest) = widest.filter(|net| net.covers(prefix)) else {
            return false;
        };
        let lengths = self.lengths.iter().skip_while(|len| **len < widest.len());
        let covering = lengths.take_while(|len| **len <= prefix.len());
        let mut networks = covering.filter_map(|len| Prefix::new(prefix.addr(), *len).ok());
        networks.any(|net| self.of_network(net).iter().any(|p| p.matches(prefix)))
    }

    /// The patterns with exactly this network.
    fn of_network(&self, net: Prefix) -> &[PrefixPattern] {
        let start = self.patterns.partition_point(|p| p.net < net);
        let rest = self.patterns.get(start..).unwrap_or_default();
        let len = rest.iter().take_while(|p| p.net == net).count();
        rest.get(..len).unwrap_or_default()
    }
}

impl fmt::Display for PrefixSet {
    /// In the language: parsing it gives an equal set. (BIRD prints its trie, which is no language.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        joined(f, &self.patterns, ", ", |f, p| {
            if p.low == p.net.len() && p.high == p.net.len() {
                p.net.fmt(f)
            } else {
                write!(f, "{}{{{},{}}}", p.net, p.low, p.high)
            }
        })?;
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(s: &str) -> Prefix {
        s.parse().unwrap()
    }

    #[test]
    fn prefix_patterns_match_as_bird_does() {
        let set = PrefixSet::new(vec![
            PrefixPattern {
                net: prefix("10.0.0.0/16"),
                low: 20,
                high: 26,
            },
            PrefixPattern {
                net: prefix("10.1.0.0/16"),
                low: 8,
                high: 16,
            },
        ]);
        assert!(set.contains(prefix("10.0.4.0/24")));
        assert!(!set.contains(prefix("10.0.0.0/16")));
        assert!(!set.contains(prefix("10.2.0.0/24")));
        assert!(
            set.contains(prefix("10.0.0.0/8")),
            "a pattern may reach above its network"
        );
        assert!(!set.contains(prefix("2001:db8::/32")));
    }

    #[test]
    fn nested_networks_are_all_looked_at() {
        let pattern = |net: &str, low, high| PrefixPattern {
            net: prefix(net),
            low,
            high,
        };
        let all = vec![
            pattern("10.1.0.0/16", 24, 24),
            pattern("10.0.0.0/8", 8, 8),
            pattern("10.1.2.0/24", 26, 32),
        ];
        let set = PrefixSet::new([all.clone(), vec![pattern("11.0.0.0/8", 0, 8)]].concat());
        for (net, expected) in [
            ("10.0.0.0/8", true),
            ("10.1.2.0/24", true),
            ("10.1.2.64/26", true),
            ("10.1.3.64/26", false),
            ("10.0.0.0/9", false),
            ("9.0.0.0/8", false),
            ("11.0.0.0/8", true),
            ("10.0.0.0/7", true),
            ("12.0.0.0/8", false),
        ] {
            assert_eq!(set.contains(prefix(net)), expected, "{net}");
            let one_by_one =
                all.iter().any(|p| p.matches(prefix(net))) || pattern("11.0.0.0/8", 0, 8).matches(prefix(net));
            assert_eq!(one_by_one, expected, "{net}");
        }
    }

    #[test]
    fn ranges_join() {
        let r = |low, high| Range { low, high };
        let set = ValueSet::Int(vec![r(5, 9), r(1, 2), r(7, 20)]).normal();
        assert_eq!(set, ValueSet::Int(vec![r(1, 2), r(5, 20)]));
        assert!(set.has_int(20) && !set.has_int(3));
        assert_eq!(set.to_string(), "[1..2, 5..20]");
    }

    #[test]
    fn pair_ranges_are_linear_and_boxes_are_not() {
        let pair = |a: u32, b: u32| a << 16 | b;
        let range = Range {
            low: pair(1, 10),
            high: pair(3, 20),
        };
        assert!(ValueSet::Pair(vec![range], vec![]).normal().has_pair(pair(2, 25)));
        let boxed = ValueSet::Pair(
            vec![],
            vec![PairBox {
                low: (1, 10),
                high: (3, 20),
            }],
        )
        .normal();
        assert!(boxed.has_pair(pair(2, 15)));
        assert!(!boxed.has_pair(pair(2, 25)));
    }
}
