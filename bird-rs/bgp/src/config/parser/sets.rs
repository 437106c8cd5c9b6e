//! Set literals and `case` labels.

use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::{ExtCommunity, LargeCommunity};

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::{Parser, Symbol};
use crate::filter::{
    EcKind, EnumType, Expr, ExprKind, PairBox, PrefixPattern, PrefixSet, Range, SetOf, Type, Value, ValueSet, ec,
    enum_constant,
};

/// One item of a set.
#[derive(Debug, Clone, Copy)]
enum Item {
    Int(Range<u32>),
    Quad(Range<u32>),
    Pair(Range<u32>),
    PairBox(PairBox),
    Ip(Range<IpAddr>),
    Ec(Range<ExtCommunity>),
    Lc(Range<LargeCommunity>),
    Enum(EnumType, Range<u8>),
}

impl Item {
    fn of(&self) -> SetOf {
        match self {
            Item::Int(_) => SetOf::Int,
            Item::Quad(_) => SetOf::Quad,
            Item::Pair(_) | Item::PairBox(_) => SetOf::Pair,
            Item::Ip(_) => SetOf::Ip,
            Item::Ec(_) => SetOf::Ec,
            Item::Lc(_) => SetOf::Lc,
            Item::Enum(e, _) => SetOf::Enum(*e),
        }
    }
}

/// A number of a tuple in a set: one, a range, or `*`.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: u32,
    high: u32,
    /// `*`.
    any: bool,
}

impl Bounds {
    fn single(self) -> bool {
        !self.any && self.low == self.high
    }
}

impl Parser {
    /// `[ .. ]`: a prefix set when it begins with a prefix.
    pub(super) fn set_literal(&mut self) -> Checked<Value> {
        self.sign("[")?;
        if self.eat_sign("]") {
            return Ok(Value::Set(Arc::new(ValueSet::Empty)));
        }
        let prefixes = matches!(self.peek(), Lexeme::Ip4(_) | Lexeme::Ip6(_)) && self.is_sign_at(1, "/");
        let value = if prefixes {
            Value::PrefixSet(Arc::new(self.prefix_patterns()?))
        } else {
            Value::Set(Arc::new(self.set_items(true)?))
        };
        if self.is_sign("]") {
            self.advance();
            return Ok(value);
        }
        Err(self.unexpected("',' or ']'"))
    }

    fn prefix_patterns(&mut self) -> Checked<PrefixSet> {
        let mut patterns: Vec<PrefixPattern> = Vec::new();
        loop {
            let at = self.here();
            let pattern = self.prefix_pattern()?;
            if patterns
                .first()
                .is_some_and(|first| first.net.is_v4() != pattern.net.is_v4())
            {
                return Err(Complaint::new(at, "a prefix set cannot mix IPv4 and IPv6"));
            }
            patterns.push(pattern);
            if !self.eat_sign(",") {
                return Ok(PrefixSet::new(patterns));
            }
        }
    }

    /// `PREFIX`, `PREFIX+`, `PREFIX-` or `PREFIX{LOW,HIGH}`.
    fn prefix_pattern(&mut self) -> Checked<PrefixPattern> {
        let net = self.literal_prefix()?.ok_or_else(|| self.unexpected("a prefix"))?;
        let (len, max) = (net.len(), net.max_len());
        let (low, high) = if self.eat_sign("+") {
            (len, max)
        } else if self.eat_sign("-") {
            (0, len)
        } else if self.eat_sign("{") {
            let at = self.here();
            let low = self.literal_number("a prefix length")?;
            self.sign(",")?;
            let high = self.literal_number("a prefix length")?;
            self.sign("}")?;
            match (u8::try_from(low), u8::try_from(high)) {
                (Ok(low), Ok(high)) if low <= high && high <= max => (low, high),
                _ => {
                    let message =
                        format!("{{{low},{high}}} is no range of prefix lengths: 0 to {max}, ascending, expected");
                    return Err(Complaint::new(at, message));
                }
            }
        } else {
            (len, len)
        };
        Ok(PrefixPattern { net, low, high })
    }

    pub(super) fn literal_number(&mut self, what: &str) -> Checked<u32> {
        let Lexeme::Number(number) = *self.peek() else {
            return Err(self.unexpected(what));
        };
        self.advance();
        Ok(number)
    }

    /// Items with commas between. Labels of a `case` cannot be bare names of constants, as in BIRD.
    pub(super) fn set_items(&mut self, names: bool) -> Checked<ValueSet> {
        let mut items: Vec<Item> = Vec::new();
        loop {
            let at = self.here();
            let item = self.set_item(names)?;
            if let Some(first) = items.first()
                && first.of() != item.of()
            {
                let (first, item) = (first.of().member(), item.of().member());
                return Err(Complaint::new(at, format!("a set of {first} cannot hold {item}")));
            }
            items.push(item);
            if !self.eat_sign(",") {
                return Ok(collect(items).normal());
            }
        }
    }

    fn set_item(&mut self, names: bool) -> Checked<Item> {
        let at = self.here();
        if self.is_sign("(") {
            return self.tuple_item(names);
        }
        let low = self.set_atom(names)?;
        self.range_of(low, at, names)
    }

    /// A range if `..` follows, else the value alone.
    fn range_of(&mut self, low: Value, at: Position, names: bool) -> Checked<Item> {
        let high = if self.eat_sign("..") {
            self.set_atom(names)?
        } else {
            low.clone()
        };
        let wrong = || Complaint::new(at, format!("{low}..{high} is no range"));
        let item = match (&low, &high) {
            (Value::Int(l), Value::Int(h)) => Item::Int(ascending(*l, *h).ok_or_else(wrong)?),
            (Value::Quad(l), Value::Quad(h)) => Item::Quad(ascending(*l, *h).ok_or_else(wrong)?),
            (Value::Pair(l), Value::Pair(h)) => Item::Pair(ascending(*l, *h).ok_or_else(wrong)?),
            (Value::Ip(l), Value::Ip(h)) if l.is_ipv4() == h.is_ipv4() => {
                Item::Ip(ascending(*l, *h).ok_or_else(wrong)?)
            }
            (Value::Ec(l), Value::Ec(h)) => Item::Ec(ascending(*l, *h).ok_or_else(wrong)?),
            (Value::Lc(l), Value::Lc(h)) => Item::Lc(ascending(*l, *h).ok_or_else(wrong)?),
            (Value::Enum(x, l), Value::Enum(y, h)) if x == y => Item::Enum(*x, ascending(*l, *h).ok_or_else(wrong)?),
            (low, high) if low.ty() != high.ty() => return Err(wrong()),
            (low, _) => {
                let ty = low.ty().unwrap_or(Type::Any);
                return Err(Complaint::new(at, format!("there are no sets of {ty}")));
            }
        };
        Ok(item)
    }

    /// A number, an address, an enumeration's member, `(EXPRESSION)` or a constant's name.
    fn set_atom(&mut self, names: bool) -> Checked<Value> {
        let value = match self.peek() {
            Lexeme::Number(number) => Value::Int(*number),
            Lexeme::Ip4(addr) => Value::Ip((*addr).into()),
            Lexeme::Ip6(addr) => super::expression::ip6(*addr),
            Lexeme::Sign("(") => return self.constant_in_parentheses(),
            Lexeme::Word(word) if enum_constant(word).is_some() => enum_constant(word).unwrap_or(Value::Void),
            _ => match self.known() {
                Some((_, Symbol::Constant(value))) if names => value.clone(),
                _ => return Err(self.unexpected("a member of a set")),
            },
        };
        self.advance();
        Ok(value)
    }

    // === Tuples ===

    /// What begins with `(`: an expression in parentheses, a pair, a community, with ranges and `*`.
    fn tuple_item(&mut self, names: bool) -> Checked<Item> {
        let at = self.here();
        self.sign("(")?;
        if let Some(kind) = self.ec_kind()? {
            return self.ec_item(kind, at);
        }
        if !self.is_sign("*") {
            let low = self.constant()?;
            if self.eat_sign(")") {
                return self.range_of(low, at, names);
            }
            let Value::Int(low) = low else {
                return Err(Complaint::new(
                    at,
                    format!("a number of a community expected, found {low}"),
                ));
            };
            let first = self.upper_bound(low)?;
            return self.tuple_rest(first, at);
        }
        let first = self.bounds()?;
        self.tuple_rest(first, at)
    }

    fn bounds(&mut self) -> Checked<Bounds> {
        if self.eat_sign("*") {
            return Ok(Bounds {
                low: 0,
                high: u32::MAX,
                any: true,
            });
        }
        let low = self.constant_number()?;
        self.upper_bound(low)
    }

    fn upper_bound(&mut self, low: u32) -> Checked<Bounds> {
        let at = self.here();
        let high = if self.eat_sign("..") {
            self.constant_number()?
        } else {
            low
        };
        if high < low {
            return Err(Complaint::new(at, format!("{low}..{high} is no range")));
        }
        Ok(Bounds { low, high, any: false })
    }

    fn constant_number(&mut self) -> Checked<u32> {
        let at = self.here();
        match self.constant()? {
            Value::Int(number) => Ok(number),
            other => Err(Complaint::new(at, format!("a number expected, found {other}"))),
        }
    }

    /// The numbers behind the first, the closing parenthesis, and `..` with another tuple.
    fn tuple_rest(&mut self, first: Bounds, at: Position) -> Checked<Item> {
        let mut numbers = vec![first];
        while self.eat_sign(",") {
            numbers.push(self.bounds()?);
        }
        if !self.is_sign(")") {
            return Err(self.unexpected("',' or ')'"));
        }
        self.advance();
        let range_follows = self.is_sign("..") && self.is_sign_at(1, "(");
        let item = match *numbers {
            [a, b] => pair_item(a, b, at)?,
            [a, b, c] => lc_item(a, b, c, at)?,
            _ => return Err(Complaint::new(at, "a community in a set has two or three numbers")),
        };
        if !range_follows {
            return Ok(item);
        }
        self.advance();
        let place = self.here();
        let high = self.constant_tuple()?;
        let wrong = || {
            Complaint::new(
                place,
                "the end of this range must be a single community like its begin, and not less",
            )
        };
        match (item, high) {
            (Item::Pair(low), Value::Pair(high)) if low.low == low.high => {
                // BIRD wants both halves to ascend, although the range is one of numbers.
                let halves_ascend = low.low >> 16 <= high >> 16 && low.low & 0xFFFF <= high & 0xFFFF;
                halves_ascend
                    .then_some(Item::Pair(Range { low: low.low, high }))
                    .ok_or_else(wrong)
            }
            (Item::Lc(low), Value::Lc(high)) if low.low == low.high => {
                ascending(low.low, high).map(Item::Lc).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// `(a, b)` or `(a, b, c)` of constants.
    fn constant_tuple(&mut self) -> Checked<Value> {
        let at = self.here();
        let expr: Expr = self.expression()?;
        match expr.kind {
            ExprKind::Constant(value @ (Value::Pair(_) | Value::Lc(_))) => Ok(value),
            _ => Err(Complaint::new(at, "a constant community expected")),
        }
    }

    /// `(rt, KEY, VALUE)`, behind the kind. Keys are single numbers.
    fn ec_item(&mut self, kind: EcKind, at: Position) -> Checked<Item> {
        self.sign(",")?;
        let key = Value::Int(self.constant_number()?);
        self.sign(",")?;
        let value = self.bounds()?;
        self.sign(")")?;
        let wide = matches!(key, Value::Int(k) if k < 0x1_0000) || kind == EcKind::Generic;
        let high = match (value.any, wide) {
            (true, false) => 0xFFFF,
            _ => value.high,
        };
        let bound = |number| match ec(kind, &key, number) {
            Ok(Value::Ec(ec)) => Ok(ec),
            Ok(_) => Err(Complaint::new(at, "no extended community")),
            Err(problem) => Err(Complaint::new(at, problem.to_string())),
        };
        Ok(Item::Ec(Range {
            low: bound(value.low)?,
            high: bound(high)?,
        }))
    }
}

fn ascending<T: Ord>(low: T, high: T) -> Option<Range<T>> {
    (low <= high).then_some(Range { low, high })
}

fn pair_item(a: Bounds, b: Bounds, at: Position) -> Checked<Item> {
    let half = |bounds: Bounds| -> Checked<(u16, u16)> {
        if bounds.any {
            return Ok((0, u16::MAX));
        }
        let wrong = || {
            Complaint::new(
                at,
                format!("{} is out of range: 0 to 65535 expected in a pair", bounds.high),
            )
        };
        let low = u16::try_from(bounds.low).map_err(|_| wrong())?;
        Ok((low, u16::try_from(bounds.high).map_err(|_| wrong())?))
    };
    let ((a_low, a_high), (b_low, b_high)) = (half(a)?, half(b)?);
    let number = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
    let linear = a_low == a_high || (b_low == 0 && b_high == u16::MAX);
    Ok(if linear {
        Item::Pair(Range {
            low: number(a_low, b_low),
            high: number(a_high, b_high),
        })
    } else {
        Item::PairBox(PairBox {
            low: (a_low, b_low),
            high: (a_high, b_high),
        })
    })
}

/// A range may only be behind single numbers and before `*`, so that it is one range of communities.
fn lc_item(a: Bounds, b: Bounds, c: Bounds, at: Position) -> Checked<Item> {
    let linear = match (a.single(), b.single()) {
        (true, true) => true,
        (true, false) => c.any,
        (false, _) => b.any && c.any,
    };
    if !linear {
        let complaint = Complaint::new(at, "this set of large communities is no range");
        return Err(complaint.with_hint("behind a range or '*' there can only be '*'"));
    }
    Ok(Item::Lc(Range {
        low: LargeCommunity(a.low, b.low, c.low),
        high: LargeCommunity(a.high, b.high, c.high),
    }))
}

/// Items of one kind as a set.
fn collect(items: Vec<Item>) -> ValueSet {
    let mut set = ValueSet::Empty;
    for item in items {
        match (&mut set, item) {
            (ValueSet::Int(ranges), Item::Int(r)) | (ValueSet::Quad(ranges), Item::Quad(r)) => ranges.push(r),
            (ValueSet::Pair(ranges, _), Item::Pair(r)) => ranges.push(r),
            (ValueSet::Pair(_, boxes), Item::PairBox(b)) => boxes.push(b),
            (ValueSet::Ip(ranges), Item::Ip(r)) => ranges.push(r),
            (ValueSet::Ec(ranges), Item::Ec(r)) => ranges.push(r),
            (ValueSet::Lc(ranges), Item::Lc(r)) => ranges.push(r),
            (ValueSet::Enum(_, ranges), Item::Enum(_, r)) => ranges.push(r),
            (set, item) => {
                *set = match item {
                    Item::Int(r) => ValueSet::Int(vec![r]),
                    Item::Quad(r) => ValueSet::Quad(vec![r]),
                    Item::Pair(r) => ValueSet::Pair(vec![r], Vec::new()),
                    Item::PairBox(b) => ValueSet::Pair(Vec::new(), vec![b]),
                    Item::Ip(r) => ValueSet::Ip(vec![r]),
                    Item::Ec(r) => ValueSet::Ec(vec![r]),
                    Item::Lc(r) => ValueSet::Lc(vec![r]),
                    Item::Enum(e, r) => ValueSet::Enum(e, vec![r]),
                };
            }
        }
    }
    set
}
