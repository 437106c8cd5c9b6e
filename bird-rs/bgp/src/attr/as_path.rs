//! AS paths (RFC 4271 section 5.1.2, RFC 5065).

use std::fmt;

use serde::{Serialize, Serializer};
use tortie_net::Asn;

/// The kind of a segment of an AS path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// AS_SET: unordered.
    Set,
    /// AS_SEQUENCE: ordered, the most recent first.
    Sequence,
    /// AS_CONFED_SEQUENCE (RFC 5065).
    ConfedSequence,
    /// AS_CONFED_SET (RFC 5065).
    ConfedSet,
}

impl SegmentKind {
    /// The value on the wire.
    pub fn code(self) -> u8 {
        match self {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => 2,
            SegmentKind::ConfedSequence => 3,
            SegmentKind::ConfedSet => 4,
        }
    }

    /// From the value on the wire.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(SegmentKind::Set),
            2 => Some(SegmentKind::Sequence),
            3 => Some(SegmentKind::ConfedSequence),
            4 => Some(SegmentKind::ConfedSet),
            _ => None,
        }
    }

    /// Does the order of its numbers mean nothing?
    pub fn is_set(self) -> bool {
        matches!(self, SegmentKind::Set | SegmentKind::ConfedSet)
    }

    /// Is it of a confederation?
    pub fn is_confed(self) -> bool {
        matches!(self, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
    }
}

/// One segment of a path. Never empty; the numbers of a set are sorted and without duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// What its numbers mean.
    pub kind: SegmentKind,
    /// The numbers, the most recent first.
    pub asns: &'a [Asn],
}

/// An AS path, in one allocation (none for the empty path).
///
/// Canonical: no empty segments, neighbouring sequences joined, sets sorted. A segment may be longer than the 255
/// numbers that fit into one on the wire; the encoder splits it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AsPath {
    /// For every segment a header, see [`header`], followed by its numbers.
    words: Box<[Asn]>,
}

/// Segment headers hold the kind's code in the top octet and the count below.
const COUNT_BITS: u32 = 24;

fn header(kind: SegmentKind, count: usize) -> Asn {
    let count = u32::try_from(count).unwrap_or(u32::MAX) & ((1 << COUNT_BITS) - 1);
    Asn(u32::from(kind.code()) << COUNT_BITS | count)
}

fn parse_header(word: Asn) -> (SegmentKind, usize) {
    let kind = u8::try_from(word.0 >> COUNT_BITS).ok().and_then(SegmentKind::from_code);
    (
        kind.unwrap_or(SegmentKind::Sequence),
        (word.0 & ((1 << COUNT_BITS) - 1)) as usize,
    )
}

impl AsPath {
    /// The empty path.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A path of one sequence, the most recent first.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let mut path = AsPathBuilder::default();
        path.push(SegmentKind::Sequence, asns);
        path.build()
    }

    /// All of it, to be packed.
    pub(super) fn words(&self) -> &[Asn] {
        &self.words
    }

    /// From what [`AsPath::words`] gave.
    pub(super) fn from_words(words: Box<[Asn]>) -> Self {
        AsPath { words }
    }

    /// Is it empty, as a path that never left its AS?
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Has it segments of a confederation (RFC 5065)?
    pub fn is_confederate(&self) -> bool {
        self.segments().any(|segment| segment.kind.is_confed())
    }

    /// The segments, the most recent first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest: &[Asn] = &self.words;
        std::iter::from_fn(move || {
            let (&word, after) = rest.split_first()?;
            let (kind, count) = parse_header(word);
            let (asns, next) = after.split_at_checked(count)?;
            rest = next;
            Some(Segment { kind, asns })
        })
    }

    /// Every number in it, in order, confederations' included.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments().flat_map(|segment| segment.asns.iter().copied())
    }

    /// The length as the decision process counts it: a set is one, confederation segments are none
    /// (RFC 4271 section 9.1.2.2, RFC 5065 section 5.3).
    pub fn len(&self) -> usize {
        self.segments()
            .map(|segment| match segment.kind {
                SegmentKind::Sequence => segment.asns.len(),
                SegmentKind::Set => 1,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
            })
            .sum()
    }

    /// How often a number occurs, in any segment.
    pub fn count(&self, asn: Asn) -> usize {
        self.asns().filter(|&a| a == asn).count()
    }

    /// Does a number occur, in any segment?
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|a| a == asn)
    }

    /// The neighbour: the first number, if the path (behind confederation segments) begins with a sequence.
    pub fn first(&self) -> Option<Asn> {
        self.segments()
            .find(|segment| !segment.kind.is_confed())
            .filter(|segment| segment.kind == SegmentKind::Sequence)
            .and_then(|segment| segment.asns.first().copied())
    }

    /// The originator: the last number, if the path ends with a sequence. `None` for an empty path or an aggregate's.
    pub fn origin_as(&self) -> Option<Asn> {
        self.segments()
            .last()
            .filter(|segment| segment.kind == SegmentKind::Sequence)
            .and_then(|segment| segment.asns.last().copied())
    }

    /// The last number that is not part of an aggregate: BIRD's `last_nonaggregated`.
    pub fn last_nonaggregated(&self) -> Option<Asn> {
        self.segments()
            .filter(|segment| !segment.kind.is_confed())
            .take_while(|segment| segment.kind == SegmentKind::Sequence)
            .last()
            .and_then(|segment| segment.asns.last().copied())
    }

    /// The path with a number in front.
    #[must_use]
    pub fn prepend(&self, asn: Asn) -> AsPath {
        let mut path = AsPathBuilder::default();
        path.push(SegmentKind::Sequence, [asn]);
        for segment in self.segments() {
            path.push(segment.kind, segment.asns.iter().copied());
        }
        path.build()
    }

    /// The path with only the numbers that satisfy `keep`; segments that become empty are gone.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(Asn) -> bool) -> AsPath {
        let mut path = AsPathBuilder::default();
        for segment in self.segments() {
            path.push(segment.kind, segment.asns.iter().copied().filter(|&asn| keep(asn)));
        }
        path.build()
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

impl fmt::Display for AsPath {
    /// As BIRD prints it: `64512 65001 {1 2}`, confederations as `(1 2)` and `({1 2})`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().enumerate() {
            let (open, close) = match segment.kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::Set => ("{", "}"),
                SegmentKind::ConfedSequence => ("(", ")"),
                SegmentKind::ConfedSet => ("({", "})"),
            };
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (j, asn) in segment.asns.iter().enumerate() {
                f.write_str(if j == 0 { "" } else { " " })?;
                asn.fmt(f)?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl Serialize for AsPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Builds a canonical path segment by segment, the most recent first.
#[derive(Debug, Default)]
pub struct AsPathBuilder {
    words: Vec<Asn>,
    /// Where the header of the last segment is.
    last: usize,
}

impl AsPathBuilder {
    /// Adds a segment behind the ones so far. An empty one adds nothing; a sequence behind a sequence continues it.
    pub fn push(&mut self, kind: SegmentKind, asns: impl IntoIterator<Item = Asn>) {
        let continues = match self.words.get(self.last) {
            Some(&word) if !kind.is_set() => parse_header(word).0 == kind,
            _ => false,
        };
        if !continues {
            self.last = self.words.len();
            self.words.push(header(kind, 0));
        }
        let start = self.last + 1;
        self.words.extend(asns);
        if kind.is_set() {
            let mut members = self.words.split_off(start);
            members.sort_unstable();
            members.dedup();
            self.words.extend(members);
        }
        let count = self.words.len() - start;
        if count == 0 {
            self.words.truncate(self.last);
            // The segment before it, should one follow that continues it, is found by walking from the front.
            self.last = self.last_header();
        } else if let Some(word) = self.words.get_mut(self.last) {
            *word = header(kind, count);
        }
    }

    fn last_header(&self) -> usize {
        let mut at = 0;
        let mut last = 0;
        while let Some(&word) = self.words.get(at) {
            last = at;
            at += 1 + parse_header(word).1;
        }
        last
    }

    /// The path.
    pub fn build(self) -> AsPath {
        AsPath {
            words: self.words.into(),
        }
    }
}
