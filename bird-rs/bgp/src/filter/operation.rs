//! What operators and methods do to values. Pure; the checks of types that loading has done already are here once
//! more, because a recursive call's result is only known now.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use tortie_net::{ExtCommunity, LargeCommunity, Prefix};

use super::ast::{BinaryOp, EcKind, EditOp, Member};
use super::route::Problem;
use super::set::ValueSet;
use super::value::{EnumType, Type, Value};
use crate::attr::AsPath;

pub(crate) fn mistyped(what: &'static str, wanted: &'static str, got: &Value) -> Problem {
    Problem::Type {
        what,
        wanted,
        got: got.to_string(),
    }
}

/// A value as a variable of a type keeps it: an IPv4 address becomes a quad.
pub(crate) fn convert(ty: Type, value: Value) -> Value {
    match (ty, value) {
        (Type::Quad, Value::Ip(IpAddr::V4(addr))) => Value::Quad(addr.into()),
        (_, value) => value,
    }
}

pub(crate) fn boolean(value: &Value) -> Result<bool, Problem> {
    match value {
        Value::Bool(b) => Ok(*b),
        other => Err(mistyped("a condition", "bool", other)),
    }
}

/// Is there a value? Empty lists and paths count as not there, as BIRD has it.
pub(crate) fn defined(value: &Value) -> bool {
    match value {
        Value::Void => false,
        Value::Path(path) => !path.is_empty(),
        Value::Clist(list) | Value::Clusters(list) => !list.is_empty(),
        Value::Eclist(list) => !list.is_empty(),
        Value::Lclist(list) => !list.is_empty(),
        _ => true,
    }
}

pub(crate) fn arithmetic(operator: BinaryOp, left: u32, right: u32) -> Result<Value, Problem> {
    let result = match operator {
        BinaryOp::Add => left.wrapping_add(right),
        BinaryOp::Subtract => left.wrapping_sub(right),
        BinaryOp::Multiply => left.wrapping_mul(right),
        _ => left.checked_div(right).ok_or(Problem::DivisionByZero)?,
    };
    Ok(Value::Int(result))
}

/// `=`.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Quad(q), Value::Ip(ip)) | (Value::Ip(ip), Value::Quad(q)) => *ip == IpAddr::from(Ipv4Addr::from(*q)),
        (Value::Clist(a) | Value::Clusters(a), Value::Clist(b) | Value::Clusters(b)) => a == b,
        (left, right) => left == right,
    }
}

/// BIRD's order of values; nothing is before everything.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    Some(match (left, right) {
        (Value::Void, Value::Void) => Ordering::Equal,
        (Value::Void, _) => Ordering::Less,
        (_, Value::Void) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) | (Value::Pair(a), Value::Pair(b)) | (Value::Quad(a), Value::Quad(b)) => {
            a.cmp(b)
        }
        (Value::Quad(a), Value::Ip(IpAddr::V4(b))) => a.cmp(&u32::from(*b)),
        (Value::Ip(IpAddr::V4(a)), Value::Quad(b)) => u32::from(*a).cmp(b),
        (Value::Ip(a), Value::Ip(b)) => bird_address(*a).cmp(&bird_address(*b)),
        (Value::Prefix(a), Value::Prefix(b)) => a.cmp(b),
        (Value::Ec(a), Value::Ec(b)) => a.cmp(b),
        (Value::Lc(a), Value::Lc(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Enum(x, a), Value::Enum(y, b)) if x == y => a.cmp(b),
        _ => return None,
    })
}

/// BIRD keeps an IPv4 address as an IPv6 one, mapped; its order is that of these.
fn bird_address(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().into(),
        IpAddr::V6(addr) => addr.into(),
    }
}

pub(crate) fn ordered(operator: BinaryOp, left: &Value, right: &Value) -> Result<bool, Problem> {
    let order = compare(left, right).ok_or_else(|| mistyped("what is compared", "the same on both sides", right))?;
    Ok(match operator {
        BinaryOp::Less => order.is_lt(),
        BinaryOp::LessEqual => order.is_le(),
        BinaryOp::Greater => order.is_gt(),
        _ => order.is_ge(),
    })
}

/// `left ~ right`.
pub(crate) fn matches(left: &Value, right: &Value) -> Result<bool, Problem> {
    Ok(match (left, right) {
        (Value::Path(path), Value::Mask(mask)) => mask.matches(path),
        (Value::Int(asn), Value::Path(path)) => path.contains(tortie_net::Asn(*asn)),
        (Value::Pair(p) | Value::Quad(p), Value::Clist(list) | Value::Clusters(list)) => list.contains(p),
        (Value::Ip(IpAddr::V4(addr)), Value::Clist(list) | Value::Clusters(list)) => list.contains(&u32::from(*addr)),
        (Value::Ip(IpAddr::V6(_)), Value::Clist(_) | Value::Clusters(_)) => false,
        (Value::Ec(ec), Value::Eclist(list)) => list.contains(ec),
        (Value::Lc(lc), Value::Lclist(list)) => list.contains(lc),
        (Value::String(text), Value::String(pattern)) => glob(pattern, text),
        (Value::Ip(ip), Value::Prefix(prefix)) => prefix.contains(*ip),
        (Value::Prefix(inner), Value::Prefix(outer)) => outer.covers(*inner),
        (Value::Prefix(prefix), Value::PrefixSet(set)) => set.contains(*prefix),
        (Value::Path(path), Value::Set(set)) => path_meets(path, set),
        (Value::Clist(list) | Value::Clusters(list), Value::Set(set)) => list.iter().any(|c| in_set(set, *c)),
        (Value::Eclist(list), Value::Set(set)) => list.iter().any(|ec| set.has_ec(*ec)),
        (Value::Lclist(list), Value::Set(set)) => list.iter().any(|lc| set.has_lc(*lc)),
        (
            Value::Int(_)
            | Value::Pair(_)
            | Value::Quad(_)
            | Value::Ip(_)
            | Value::Ec(_)
            | Value::Lc(_)
            | Value::Enum(..),
            Value::Set(set),
        ) => set.contains(left),
        _ => {
            return Err(mistyped(
                "the left side of '~'",
                "one that the right side can match",
                left,
            ));
        }
    })
}

pub(crate) fn path_meets(path: &AsPath, set: &ValueSet) -> bool {
    path.asns().any(|asn| set.has_int(asn.0))
}

/// Is a member of a `clist`, a pair or a quad, in a set of either?
pub(crate) fn in_set(set: &ValueSet, member: u32) -> bool {
    set.has_pair(member) || set.has_quad(member)
}

/// A shell pattern: `*` any text, `?` one character, a backslash takes the next character as it is.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one character of text later.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let (literal, width) = match pattern.get(p) {
            Some('\\') => (pattern.get(p + 1), 2),
            other => (other, 1),
        };
        if width == 1 && literal == Some(&'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if (width == 1 && literal == Some(&'?')) || (literal.is_some() && literal == text.get(t)) {
            p += width;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            (p, t) = (star, from + 1);
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

pub(crate) fn pair(a: u32, b: u32) -> Result<Value, Problem> {
    for half in [a, b] {
        if half > 0xFFFF {
            return Err(Problem::Range {
                what: "a number of a pair",
                value: half.to_string(),
            });
        }
    }
    Ok(Value::Pair(a << 16 | b))
}

/// RFC 4360 section 3, RFC 5668 for four-octet AS numbers.
pub(crate) fn ec(kind: EcKind, key: &Value, value: u32) -> Result<Value, Problem> {
    let kind = match kind {
        EcKind::Generic => {
            let Value::Int(key) = key else {
                return Err(mistyped("the key of a generic extended community", "int", key));
            };
            return Ok(Value::Ec(ExtCommunity(u64::from(*key) << 32 | u64::from(value))));
        }
        EcKind::Rt => 0x0002,
        EcKind::Ro => 0x0003,
        EcKind::Unknown(kind) => u64::from(kind),
    };
    let (kind, key) = match key {
        Value::Int(asn) if *asn < 0x1_0000 => {
            return Ok(Value::Ec(ExtCommunity(
                kind << 48 | u64::from(*asn) << 32 | u64::from(value),
            )));
        }
        Value::Int(asn) => (kind | 0x0200, *asn),
        Value::Quad(addr) => (kind | 0x0100, *addr),
        Value::Ip(IpAddr::V4(addr)) => (kind | 0x0100, u32::from(*addr)),
        other => {
            return Err(mistyped(
                "the key of an extended community",
                "int or IPv4 address",
                other,
            ));
        }
    };
    if value > 0xFFFF {
        return Err(Problem::Range {
            what: "the value of an extended community whose key has four octets",
            value: value.to_string(),
        });
    }
    Ok(Value::Ec(ExtCommunity(
        kind << 48 | u64::from(key) << 16 | u64::from(value),
    )))
}

pub(crate) fn address_mask(address: &Value, length: u32) -> Result<Value, Problem> {
    let Value::Ip(addr) = address else {
        return Err(mistyped("what '.mask' is applied to", "ip", address));
    };
    let prefix = u8::try_from(length).ok().and_then(|len| Prefix::new(*addr, len).ok());
    prefix.map(|p| Value::Ip(p.addr())).ok_or_else(|| Problem::Range {
        what: "the length of '.mask'",
        value: length.to_string(),
    })
}

/// `object.member`.
pub(crate) fn member(member: Member, object: &Value) -> Result<Value, Problem> {
    let asn = |asn: Option<tortie_net::Asn>| Value::Int(asn.map_or(0, |asn| asn.0));
    Ok(match (member, object) {
        (Member::IsV4, Value::Ip(ip)) => Value::Bool(ip.is_ipv4()),
        (Member::NetType, Value::Prefix(p)) => Value::Enum(EnumType::Net, if p.is_v4() { 1 } else { 2 }),
        (Member::Ip, Value::Prefix(p)) => Value::Ip(p.addr()),
        (Member::Len, Value::Prefix(p)) => Value::Int(p.len().into()),
        (Member::Len, Value::Path(path)) => count(path.len()),
        (Member::Len, Value::Clist(list) | Value::Clusters(list)) => count(list.len()),
        (Member::Len, Value::Eclist(list)) => count(list.len()),
        (Member::Len, Value::Lclist(list)) => count(list.len()),
        (Member::First, Value::Path(path)) => asn(path.first()),
        (Member::Last, Value::Path(path)) => asn(path.origin_as()),
        (Member::LastNonaggregated, Value::Path(path)) => asn(path.last_nonaggregated()),
        (Member::Asn, Value::Pair(p)) => Value::Int(p >> 16),
        (Member::Data, Value::Pair(p)) => Value::Int(p & 0xFFFF),
        (Member::Asn, Value::Lc(lc)) => Value::Int(lc.0),
        (Member::Data1, Value::Lc(lc)) => Value::Int(lc.1),
        (Member::Data2, Value::Lc(lc)) => Value::Int(lc.2),
        (Member::Min, Value::Clist(l) | Value::Clusters(l)) => Value::Pair(l.iter().min().copied().unwrap_or(0)),
        (Member::Max, Value::Clist(l) | Value::Clusters(l)) => Value::Pair(l.iter().max().copied().unwrap_or(0)),
        (Member::Min, Value::Eclist(l)) => Value::Ec(l.iter().min().copied().unwrap_or(ExtCommunity(0))),
        (Member::Max, Value::Eclist(l)) => Value::Ec(l.iter().max().copied().unwrap_or(ExtCommunity(0))),
        (Member::Min, Value::Lclist(l)) => Value::Lc(l.iter().min().copied().unwrap_or(LargeCommunity(0, 0, 0))),
        (Member::Max, Value::Lclist(l)) => Value::Lc(l.iter().max().copied().unwrap_or(LargeCommunity(0, 0, 0))),
        (_, other) => return Err(mistyped("what the dot is behind", "one that has this member", other)),
    })
}

pub(crate) fn count(len: usize) -> Value {
    Value::Int(u32::try_from(len).unwrap_or(u32::MAX))
}

/// `add(list, what)` and the others.
pub(crate) fn edit(edit: EditOp, list: Value, what: &Value) -> Result<Value, Problem> {
    match list {
        Value::Path(path) => edit_path(edit, &path, what).map(Value::Path),
        Value::Clist(list) => edit_list(edit, list, what, clist_operand).map(Value::Clist),
        Value::Clusters(list) => edit_list(edit, list, what, clist_operand).map(Value::Clusters),
        Value::Eclist(list) => edit_list(edit, list, what, eclist_operand).map(Value::Eclist),
        Value::Lclist(list) => edit_list(edit, list, what, lclist_operand).map(Value::Lclist),
        other => Err(mistyped("what is changed", "a list or path", &other)),
    }
}

fn edit_path(edit: EditOp, path: &AsPath, what: &Value) -> Result<AsPath, Problem> {
    match (edit, what) {
        (EditOp::Prepend, Value::Int(asn)) => Ok(path.prepend(tortie_net::Asn(*asn))),
        (EditOp::Delete, Value::Int(asn)) => Ok(path.filter(|a| a.0 != *asn)),
        (EditOp::Delete, Value::Set(set)) => Ok(path.filter(|a| !set.has_int(a.0))),
        (EditOp::Filter, Value::Set(set)) => Ok(path.filter(|a| set.has_int(a.0))),
        (_, other) => Err(mistyped("what a path is changed by", "int or int set", other)),
    }
}

/// What a list is edited by: some members, or a set of them.
pub(crate) enum Operand<'v, T> {
    One(T),
    Many(&'v [T]),
    Set(&'v ValueSet, fn(&ValueSet, T) -> bool),
}

pub(crate) fn clist_operand(what: &Value) -> Option<Operand<'_, u32>> {
    Some(match what {
        Value::Pair(c) | Value::Quad(c) => Operand::One(*c),
        Value::Ip(IpAddr::V4(addr)) => Operand::One((*addr).into()),
        Value::Clist(list) | Value::Clusters(list) => Operand::Many(list),
        Value::Set(set) => Operand::Set(set, in_set),
        _ => return None,
    })
}

pub(crate) fn eclist_operand(what: &Value) -> Option<Operand<'_, ExtCommunity>> {
    Some(match what {
        Value::Ec(ec) => Operand::One(*ec),
        Value::Eclist(list) => Operand::Many(list),
        Value::Set(set) => Operand::Set(set, ValueSet::has_ec),
        _ => return None,
    })
}

pub(crate) fn lclist_operand(what: &Value) -> Option<Operand<'_, LargeCommunity>> {
    Some(match what {
        Value::Lc(lc) => Operand::One(*lc),
        Value::Lclist(list) => Operand::Many(list),
        Value::Set(set) => Operand::Set(set, ValueSet::has_lc),
        _ => return None,
    })
}

impl<T: Copy + PartialEq> Operand<'_, T> {
    pub(crate) fn holds(&self, item: T) -> bool {
        match self {
            Operand::One(one) => *one == item,
            Operand::Many(many) => many.contains(&item),
            Operand::Set(set, has) => has(set, item),
        }
    }

    /// The members to add; none for a set, which cannot be added.
    pub(crate) fn members(&self) -> &[T] {
        match self {
            Operand::One(one) => std::slice::from_ref(one),
            Operand::Many(many) => many,
            Operand::Set(..) => &[],
        }
    }
}

fn edit_list<'v, T: Copy + PartialEq + 'v>(
    edit: EditOp,
    mut list: Vec<T>,
    what: &'v Value,
    operand: impl Fn(&'v Value) -> Option<Operand<'v, T>>,
) -> Result<Vec<T>, Problem> {
    let wrong = || mistyped("what a list is changed by", "its member, list or set", what);
    let operand = operand(what).ok_or_else(wrong)?;
    match (edit, &operand) {
        (EditOp::Add, Operand::One(_) | Operand::Many(_)) => {
            for item in operand.members() {
                if !list.contains(item) {
                    list.push(*item);
                }
            }
        }
        (EditOp::Delete, _) => list.retain(|item| !operand.holds(*item)),
        (EditOp::Filter, Operand::Many(_) | Operand::Set(..)) => list.retain(|item| operand.holds(*item)),
        _ => return Err(wrong()),
    }
    Ok(list)
}

/// What `for` walks over.
pub(crate) fn items(list: Value) -> Result<Vec<Value>, Problem> {
    Ok(match list {
        Value::Path(path) => path.asns().map(|asn| Value::Int(asn.0)).collect(),
        Value::Clist(list) => list.into_iter().map(Value::Pair).collect(),
        // As BIRD's, whatever is in the list.
        Value::Clusters(list) => list.into_iter().map(Value::Pair).collect(),
        Value::Eclist(list) => list.into_iter().map(Value::Ec).collect(),
        Value::Lclist(list) => list.into_iter().map(Value::Lc).collect(),
        other => return Err(mistyped("what 'for' walks over", "a list or path", &other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a?c", "abc", true),
            ("a?", "abc", false),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
