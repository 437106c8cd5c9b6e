//! Programs as text in the language: parsing it gives an equal program.

use std::fmt;

use tortie_net::ExtCommunity;

use crate::config::is_keyword;

use super::ast::{
    BinaryOp, Call, Case, EcKind, Expr, ExprKind, Filter, Function, MaskPart, Statement, Statements, Variable,
};
use super::attribute::Attribute;
use super::mask::{MaskItem, PathMask};
use super::set::write_enum;
use super::value::{Type, Value, joined};

/// One level of indentation.
const INDENT: &str = "  ";

impl fmt::Display for Filter {
    /// `filter NAME { .. }`, with the name left out when it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("filter ")?;
        if let Some(name) = &self.name {
            write_name(f, name)?;
            f.write_str(" ")?;
        }
        write_block(f, &self.body.list, 0)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function ")?;
        write_name(f, &self.name)?;
        f.write_str("(")?;
        joined(f, &self.parameters, "; ", |f, (name, ty)| {
            write_type(f, *ty)?;
            write_name(f, name)
        })?;
        f.write_str(") ")?;
        write_block(f, &self.body.list, 0)
    }
}

impl fmt::Display for Statements {
    /// `{ .. }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_block(f, &self.list, 0)
    }
}

/// A name, quoted when it needs it.
pub(crate) fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(plain) && !is_keyword(name) {
        f.write_str(name)
    } else {
        write!(f, "'{name}'")
    }
}

/// A type as a declaration writes it, and a space.
fn write_type(f: &mut fmt::Formatter<'_>, ty: Type) -> fmt::Result {
    match ty {
        Type::Set(_) => f.write_str("int set "),
        ty => write!(f, "{ty} "),
    }
}

fn indent(f: &mut fmt::Formatter<'_>, level: usize) -> fmt::Result {
    (0..level).try_for_each(|_| f.write_str(INDENT))
}

fn write_block(f: &mut fmt::Formatter<'_>, list: &[Statement], level: usize) -> fmt::Result {
    f.write_str("{\n")?;
    write_list(f, list, level + 1)?;
    indent(f, level)?;
    f.write_str("}")
}

fn write_list(f: &mut fmt::Formatter<'_>, list: &[Statement], level: usize) -> fmt::Result {
    for statement in list {
        indent(f, level)?;
        write_statement(f, statement, level)?;
        f.write_str("\n")?;
    }
    Ok(())
}

fn write_statement(f: &mut fmt::Formatter<'_>, statement: &Statement, level: usize) -> fmt::Result {
    match statement {
        Statement::Declare(variable, init) => {
            write_variable(f, variable)?;
            if let Some(init) = init {
                f.write_str(" = ")?;
                write_expr(f, init)?;
            }
            f.write_str(";")
        }
        Statement::Assign(variable, value) => {
            write_name(f, &variable.name)?;
            f.write_str(" = ")?;
            write_expr(f, value)?;
            f.write_str(";")
        }
        Statement::Set(attribute, value) => write_set(f, *attribute, value),
        Statement::Unset(attribute) => write!(f, "unset({});", attribute.as_str()),
        Statement::If(condition, then, otherwise) => {
            f.write_str("if ")?;
            write_expr(f, condition)?;
            f.write_str(" then ")?;
            write_branch(f, then, level)?;
            if let Some(otherwise) = otherwise {
                f.write_str(" else ")?;
                write_branch(f, otherwise, level)?;
            }
            Ok(())
        }
        Statement::Case(case) => write_case(f, case, level),
        Statement::For(variable, list, body) => {
            f.write_str("for ")?;
            write_variable(f, variable)?;
            f.write_str(" in ")?;
            write_expr(f, list)?;
            f.write_str(" do ")?;
            write_statement(f, body, level)
        }
        Statement::Block(list) => write_block(f, list, level),
        Statement::Return(value) => write_words(f, "return", std::slice::from_ref(value)),
        Statement::End(true, print) => write_words(f, "accept", print),
        Statement::End(false, print) => write_words(f, "reject", print),
        Statement::Print(true, print) => write_words(f, "print", print),
        Statement::Print(false, print) => write_words(f, "printn", print),
        Statement::Call(call) => {
            write_call(f, call)?;
            f.write_str(";")
        }
    }
}

/// A branch of an `if`. An `if` in it gets braces' effect by `else` belonging to the nearest: printed as it was parsed.
fn write_branch(f: &mut fmt::Formatter<'_>, statement: &Statement, level: usize) -> fmt::Result {
    write_statement(f, statement, level)
}

fn write_variable(f: &mut fmt::Formatter<'_>, variable: &Variable) -> fmt::Result {
    write_type(f, variable.ty)?;
    write_name(f, &variable.name)
}

fn write_words(f: &mut fmt::Formatter<'_>, keyword: &str, list: &[Expr]) -> fmt::Result {
    f.write_str(keyword)?;
    f.write_str(if list.is_empty() { "" } else { " " })?;
    joined(f, list, ", ", write_expr)?;
    f.write_str(";")
}

fn write_set(f: &mut fmt::Formatter<'_>, attribute: Attribute, value: &Expr) -> fmt::Result {
    if let ExprKind::Edit(edit, list, what) = &value.kind
        && list.kind == ExprKind::Attribute(attribute)
    {
        write!(f, "{}.{}(", attribute.as_str(), edit.as_str())?;
        write_expr(f, what)?;
        return f.write_str(");");
    }
    write!(f, "{} = ", attribute.as_str())?;
    write_expr(f, value)?;
    f.write_str(";")
}

fn write_case(f: &mut fmt::Formatter<'_>, case: &Case, level: usize) -> fmt::Result {
    f.write_str("case ")?;
    write_expr(f, &case.subject)?;
    f.write_str(" {\n")?;
    for (labels, list) in &case.arms {
        indent(f, level + 1)?;
        let labels = labels.to_string();
        // Labels are a set without its brackets.
        writeln!(f, "{}:", labels.trim_start_matches('[').trim_end_matches(']'))?;
        write_list(f, list, level + 2)?;
    }
    if let Some(list) = &case.otherwise {
        indent(f, level + 1)?;
        f.write_str("else:\n")?;
        write_list(f, list, level + 2)?;
    }
    indent(f, level)?;
    f.write_str("}")
}

fn write_call(f: &mut fmt::Formatter<'_>, call: &Call) -> fmt::Result {
    write_name(f, call.callee.name())?;
    f.write_str("(")?;
    joined(f, &call.arguments, ", ", write_expr)?;
    f.write_str(")")
}

/// An operand: anything that is not a word of its own is put in parentheses.
fn write_operand(f: &mut fmt::Formatter<'_>, expr: &Expr) -> fmt::Result {
    if matches!(expr.kind, ExprKind::Binary(..) | ExprKind::Not(_)) {
        f.write_str("(")?;
        write_expr(f, expr)?;
        return f.write_str(")");
    }
    write_expr(f, expr)
}

fn write_expr(f: &mut fmt::Formatter<'_>, expr: &Expr) -> fmt::Result {
    match &expr.kind {
        ExprKind::Constant(value) => write_constant(f, value),
        ExprKind::Variable(variable) => write_name(f, &variable.name),
        ExprKind::Attribute(attribute) => f.write_str(attribute.as_str()),
        ExprKind::Not(operand) => {
            f.write_str("!")?;
            write_operand(f, operand)
        }
        ExprKind::Binary(op, left, right) => write_binary(f, *op, left, right),
        ExprKind::Pair(a, b) => write_tuple(f, "(", &[a, b]),
        ExprKind::Ec(kind, key, value) => {
            let kind = match kind {
                EcKind::Rt => "(rt, ".to_owned(),
                EcKind::Ro => "(ro, ".to_owned(),
                EcKind::Generic => "(generic, ".to_owned(),
                EcKind::Unknown(kind) => format!("(unknown {kind:#x}, "),
            };
            write_tuple(f, &kind, &[key, value])
        }
        ExprKind::Lc(parts) => {
            let [a, b, c] = parts.as_ref();
            write_tuple(f, "(", &[a, b, c])
        }
        ExprKind::Mask(parts) => {
            f.write_str("[= ")?;
            joined(f, parts, " ", |f, part| match part {
                MaskPart::Item(item) => write!(f, "{item}"),
                MaskPart::Expr(expr) => write_tuple(f, "(", &[expr]),
            })?;
            f.write_str(" =]")
        }
        ExprKind::Member(member, object) => {
            write_operand(f, object)?;
            write!(f, ".{}", member.as_str())
        }
        ExprKind::AddressMask(address, length) => {
            write_operand(f, address)?;
            write_tuple(f, ".mask(", &[length])
        }
        ExprKind::Edit(edit, list, what) => write_tuple(f, &format!("{}(", edit.as_str()), &[list, what]),
        ExprKind::Defined(operand) => write_tuple(f, "defined(", &[operand]),
        ExprKind::Format(operand) => write_tuple(f, "format(", &[operand]),
        ExprKind::Call(call) => write_call(f, call),
        ExprKind::RoaCheck(check) => {
            f.write_str("roa_check(")?;
            write_name(f, &check.table)?;
            match &check.route {
                Some((prefix, asn)) => write_tuple(f, ", ", &[prefix, asn]),
                None => f.write_str(")"),
            }
        }
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, op: BinaryOp, left: &Expr, right: &Expr) -> fmt::Result {
    write_operand(f, left)?;
    write!(f, " {} ", op.as_str())?;
    write_operand(f, right)
}

fn write_tuple(f: &mut fmt::Formatter<'_>, open: &str, parts: &[&Expr]) -> fmt::Result {
    f.write_str(open)?;
    joined(f, parts, ", ", |f, part| write_expr(f, part))?;
    f.write_str(")")
}

/// A value in the language, so that it parses to the same.
pub(crate) fn write_constant(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Bool(b) => f.write_str(if *b { "true" } else { "false" }),
        Value::String(s) => write!(f, "\"{s}\""),
        Value::Enum(e, number) => write_enum(f, *e, *number),
        Value::Ec(ec) => write_generic(f, *ec),
        Value::Path(path) => write_folded(f, "prepend", "+empty+", path_numbers(path).iter().rev(), |f, n| {
            write!(f, "{n}")
        }),
        Value::Clist(list) => write_folded(f, "add", "-empty-", list.iter(), |f, c| super::value::write_pair(f, *c)),
        Value::Clusters(list) => {
            let one = |f: &mut fmt::Formatter<'_>, q: &u32| write!(f, "{}", std::net::Ipv4Addr::from(*q));
            write_folded(f, "add", "-empty-", list.iter(), one)
        }
        Value::Eclist(list) => write_folded(f, "add", "--empty--", list.iter(), |f, ec| write_generic(f, *ec)),
        Value::Lclist(list) => write_folded(f, "add", "---empty---", list.iter(), |f, lc| {
            super::value::write_lc(f, *lc)
        }),
        Value::Mask(mask) => write_mask(f, mask),
        Value::Set(set) => write!(f, "{set}"),
        other => write!(f, "{other}"),
    }
}

fn write_generic(f: &mut fmt::Formatter<'_>, ec: ExtCommunity) -> fmt::Result {
    write!(f, "(generic, {:#x}, {:#x})", ec.0 >> 32, ec.0 & 0xFFFF_FFFF)
}

fn path_numbers(path: &crate::attr::AsPath) -> Vec<u32> {
    path.asns().map(|asn| asn.0).collect()
}

/// A list, which has no literal, as the calls that make it: `add(add(-empty-, A), B)`.
fn write_folded<'v, T: 'v>(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    empty: &str,
    items: impl DoubleEndedIterator<Item = &'v T> + Clone,
    one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for _ in items.clone() {
        write!(f, "{word}(")?;
    }
    f.write_str(empty)?;
    for item in items {
        f.write_str(", ")?;
        one(f, item)?;
        f.write_str(")")?;
    }
    Ok(())
}

fn write_mask(f: &mut fmt::Formatter<'_>, mask: &PathMask) -> fmt::Result {
    f.write_str("[= ")?;
    joined(f, &mask.items, " ", |f, item: &MaskItem| write!(f, "{item}"))?;
    f.write_str(" =]")
}
