//! The typing rules: what each operator takes, found when loading.
//!
//! Every function here builds one expression from parts that are already typed, or says why it cannot. Stricter than
//! BIRD, which finds some of these only at run time: comparing values of different types, and matching pairs that
//! never match, are errors here.

use std::net::IpAddr;
use std::sync::Arc;

use super::ast::{BinaryOp, EcKind, EditOp, Expr, ExprKind, Line, Member, RoaCheck};
use super::attribute::Attribute;
use super::value::{EnumType, SetOf, Type, Value};

/// Deeper expressions are refused: they would take stack without bound.
pub(crate) const MAX_DEPTH: u16 = 200;

/// An expression, its depth taken from its parts.
pub(crate) fn expr(kind: ExprKind, ty: Type, line: Line, parts: &[u16]) -> Expr {
    let deepest = parts.iter().copied().max().unwrap_or(0);
    Expr {
        kind,
        ty,
        line,
        depth: deepest.saturating_add(1),
    }
}

/// Is the type what is wanted? The error names the place.
pub(crate) fn want(place: &str, wanted: Type, got: Type) -> Result<(), String> {
    if wanted.takes(got) {
        Ok(())
    } else {
        Err(format!("{place} must be of type {wanted}, got {got}"))
    }
}

/// Is the expression's type what is wanted? As in BIRD, of addresses only a literal IPv4 one may be a quad.
pub(crate) fn fits(place: &str, wanted: Type, expr: &Expr) -> Result<(), String> {
    if wanted == Type::Quad && expr.ty == Type::Ip && !is_quad(expr) {
        return Err(format!("{place} must be of type quad, got ip"));
    }
    want(place, wanted, expr.ty)
}

fn is_quad(expr: &Expr) -> bool {
    expr.ty == Type::Quad || matches!(expr.kind, ExprKind::Constant(Value::Ip(IpAddr::V4(_))))
}

fn is_any(a: Type, b: Type) -> bool {
    a == Type::Any || b == Type::Any
}

/// `left OP right`.
pub(crate) fn binary(op: BinaryOp, left: Expr, right: Expr, line: Line) -> Result<Expr, String> {
    let (l, r) = (left.ty, right.ty);
    let sides = |wanted| {
        want(&format!("the left side of '{}'", op.as_str()), wanted, l)?;
        want(&format!("the right side of '{}'", op.as_str()), wanted, r)
    };
    let ty = match op {
        BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide => {
            sides(Type::Int)?;
            Type::Int
        }
        BinaryOp::And | BinaryOp::Or => {
            sides(Type::Bool)?;
            Type::Bool
        }
        BinaryOp::Equal | BinaryOp::NotEqual => {
            if !l.takes(r) && !r.takes(l) {
                return Err(format!("'{}' cannot compare {l} with {r}", op.as_str()));
            }
            Type::Bool
        }
        BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
            let quads = is_quad(&left) && is_quad(&right);
            if !is_any(l, r) && !quads && (l != r || !ordered(l)) {
                return Err(format!("'{}' cannot order {l} and {r}", op.as_str()));
            }
            Type::Bool
        }
        BinaryOp::Match | BinaryOp::NotMatch => {
            if !can_match(l, r) {
                return Err(format!("'{}' cannot match {l} with {r}", op.as_str()));
            }
            Type::Bool
        }
    };
    let depths = [left.depth, right.depth];
    Ok(expr(
        ExprKind::Binary(op, Box::new(left), Box::new(right)),
        ty,
        line,
        &depths,
    ))
}

fn ordered(ty: Type) -> bool {
    use Type as T;
    match ty {
        T::Bool | T::Int | T::Ip | T::Prefix | T::Pair | T::Quad | T::Ec | T::Lc | T::Enum(_) | T::Any => true,
        // BIRD orders strings by what its C library's strcmp happens to return: no two programs would agree.
        T::String | T::Path | T::Mask | T::Clist | T::Eclist | T::Lclist | T::Set(_) | T::PrefixSet => false,
    }
}

/// May `left ~ right` ever be evaluated?
fn can_match(left: Type, right: Type) -> bool {
    match (left, right) {
        (Type::Any, _) | (_, Type::Any) => true,
        (Type::Int, Type::Path)
        | (Type::Path, Type::Mask)
        | (Type::Pair | Type::Quad | Type::Ip, Type::Clist)
        | (Type::Ec, Type::Eclist)
        | (Type::Lc, Type::Lclist)
        | (Type::String, Type::String)
        | (Type::Ip | Type::Prefix, Type::Prefix)
        | (Type::Prefix, Type::PrefixSet) => true,
        (left, Type::Set(of)) => set_matches(left, of),
        _ => false,
    }
}

fn set_matches(left: Type, of: Option<SetOf>) -> bool {
    match (left, of) {
        (Type::Path, None | Some(SetOf::Int)) => true,
        (Type::Clist, None | Some(SetOf::Pair | SetOf::Quad | SetOf::Ip)) => true,
        (Type::Eclist, None | Some(SetOf::Ec)) => true,
        (Type::Lclist, None | Some(SetOf::Lc)) => true,
        (Type::Quad, Some(SetOf::Ip)) => true,
        (Type::Path | Type::Clist | Type::Eclist | Type::Lclist, Some(_)) => false,
        (Type::Prefix | Type::String | Type::Mask | Type::Bool | Type::Set(_) | Type::PrefixSet, _) => false,
        (_, None) => true,
        (ty, Some(of)) => of.member().takes(ty),
    }
}

/// `! operand`.
pub(crate) fn not(operand: Expr, line: Line) -> Result<Expr, String> {
    want("what '!' negates", Type::Bool, operand.ty)?;
    let depth = operand.depth;
    Ok(expr(ExprKind::Not(Box::new(operand)), Type::Bool, line, &[depth]))
}

/// `(a, b)`.
pub(crate) fn pair(a: Expr, b: Expr, line: Line) -> Result<Expr, String> {
    want("the first number of a pair", Type::Int, a.ty)?;
    want("the second number of a pair", Type::Int, b.ty)?;
    let depths = [a.depth, b.depth];
    Ok(expr(
        ExprKind::Pair(Box::new(a), Box::new(b)),
        Type::Pair,
        line,
        &depths,
    ))
}

/// `(kind, key, value)`.
pub(crate) fn ec(kind: EcKind, key: Expr, value: Expr, line: Line) -> Result<Expr, String> {
    if !matches!(key.ty, Type::Int | Type::Quad | Type::Ip | Type::Any) {
        return Err(format!(
            "the key of an extended community must be of type int or ip, got {}",
            key.ty
        ));
    }
    if kind == EcKind::Generic {
        want("the key of a generic extended community", Type::Int, key.ty)?;
    }
    want("the value of an extended community", Type::Int, value.ty)?;
    let depths = [key.depth, value.depth];
    Ok(expr(
        ExprKind::Ec(kind, Box::new(key), Box::new(value)),
        Type::Ec,
        line,
        &depths,
    ))
}

/// `(a, b, c)`.
pub(crate) fn lc(parts: [Expr; 3], line: Line) -> Result<Expr, String> {
    for part in &parts {
        want("a number of a large community", Type::Int, part.ty)?;
    }
    let depths = [parts[0].depth, parts[1].depth, parts[2].depth];
    Ok(expr(ExprKind::Lc(Box::new(parts)), Type::Lc, line, &depths))
}

/// `object.member`.
pub(crate) fn member(member: Member, object: Expr, line: Line) -> Result<Expr, String> {
    let ty = match (member, object.ty) {
        (_, Type::Any) => Type::Any,
        (Member::IsV4, Type::Ip) => Type::Bool,
        (Member::NetType, Type::Prefix) => Type::Enum(EnumType::Net),
        (Member::Ip, Type::Prefix) => Type::Ip,
        (Member::Len, Type::Prefix | Type::Path | Type::Clist | Type::Eclist | Type::Lclist) => Type::Int,
        (Member::First | Member::Last | Member::LastNonaggregated, Type::Path) => Type::Int,
        (Member::Asn, Type::Pair | Type::Lc) => Type::Int,
        (Member::Data, Type::Pair) => Type::Int,
        (Member::Data1 | Member::Data2, Type::Lc) => Type::Int,
        (Member::Min | Member::Max, Type::Clist) => Type::Pair,
        (Member::Min | Member::Max, Type::Eclist) => Type::Ec,
        (Member::Min | Member::Max, Type::Lclist) => Type::Lc,
        (member, ty) => return Err(format!("{ty} has no '.{}'", member.as_str())),
    };
    let depth = object.depth;
    Ok(expr(ExprKind::Member(member, Box::new(object)), ty, line, &[depth]))
}

/// `roa_check(table)` or `roa_check(table, prefix, as)`, and whether it asks of the route's own prefix.
pub(crate) fn roa_check(table: Arc<str>, route: Option<(Expr, Expr)>, line: Line) -> Result<(Expr, bool), String> {
    let mut depths = Vec::new();
    if let Some((prefix, asn)) = &route {
        want("the prefix of 'roa_check'", Type::Prefix, prefix.ty)?;
        want("the AS of 'roa_check'", Type::Int, asn.ty)?;
        depths.extend([prefix.depth, asn.depth]);
    }
    let net = |(prefix, _): &(Expr, Expr)| prefix.kind == ExprKind::Attribute(Attribute::Net);
    let of_net = route.as_ref().is_none_or(net);
    let kind = ExprKind::RoaCheck(Box::new(RoaCheck { table, route }));
    Ok((expr(kind, Type::Enum(EnumType::Roa), line, &depths), of_net))
}

/// `address.mask(length)`.
pub(crate) fn address_mask(address: Expr, length: Expr, line: Line) -> Result<Expr, String> {
    want("what '.mask' is applied to", Type::Ip, address.ty)?;
    want("the length of '.mask'", Type::Int, length.ty)?;
    let depths = [address.depth, length.depth];
    Ok(expr(
        ExprKind::AddressMask(Box::new(address), Box::new(length)),
        Type::Ip,
        line,
        &depths,
    ))
}

/// `add(list, what)` and the others.
pub(crate) fn edit(op: EditOp, list: Expr, what: Expr, line: Line) -> Result<Expr, String> {
    let fits = match (op, list.ty, what.ty) {
        (_, Type::Any, _) | (_, _, Type::Any) => true,
        (EditOp::Prepend, Type::Path, Type::Int) => true,
        (EditOp::Add, Type::Clist, Type::Pair | Type::Quad | Type::Ip | Type::Clist) => true,
        (EditOp::Add, Type::Eclist, Type::Ec | Type::Eclist) => true,
        (EditOp::Add, Type::Lclist, Type::Lc | Type::Lclist) => true,
        (EditOp::Delete, Type::Path, Type::Int) => true,
        (EditOp::Delete, Type::Clist, Type::Pair | Type::Quad | Type::Ip | Type::Clist) => true,
        (EditOp::Delete, Type::Eclist, Type::Ec | Type::Eclist) => true,
        (EditOp::Delete, Type::Lclist, Type::Lc | Type::Lclist) => true,
        (EditOp::Filter, Type::Clist, Type::Clist) => true,
        (EditOp::Filter, Type::Eclist, Type::Eclist) => true,
        (EditOp::Filter, Type::Lclist, Type::Lclist) => true,
        (EditOp::Delete | EditOp::Filter, list, Type::Set(of)) => {
            matches!(list, Type::Path | Type::Clist | Type::Eclist | Type::Lclist) && set_matches(list, of)
        }
        _ => false,
    };
    if !fits {
        return Err(format!("{} cannot take {} and {}", op.as_str(), list.ty, what.ty));
    }
    let (ty, depths) = (list.ty, [list.depth, what.depth]);
    Ok(expr(
        ExprKind::Edit(op, Box::new(list), Box::new(what)),
        ty,
        line,
        &depths,
    ))
}
