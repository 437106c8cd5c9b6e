//! Programs of the policy language, typed. Made by the configuration's parser, which has checked every type.
//!
//! Lines are kept for error messages and make no difference to equality: a filter that moved is the same filter.

use std::sync::Arc;

use super::attribute::Attribute;
use super::value::{Type, Value};

/// A line of the configuration. All lines are equal.
#[derive(Debug, Clone, Copy)]
pub struct Line(pub u32);

impl PartialEq for Line {
    fn eq(&self, _: &Line) -> bool {
        true
    }
}

/// A filter: a body and all the functions that it calls, itself or through others.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Its name; an anonymous filter has none.
    pub name: Option<Arc<str>>,
    /// What it does.
    pub body: Arc<Statements>,
    /// The functions it can reach, each once, callees first. Part of its meaning: calls compare by name only.
    pub uses: Vec<Arc<Function>>,
}

/// Statements with the variables they need.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statements {
    /// In order.
    pub list: Vec<Statement>,
    /// How many variables live at once, at most.
    pub slots: u16,
    /// The depth of the deepest expression or nested statement, a bound on the stack one run of it takes.
    pub depth: u16,
    /// The tables of ROAs that `roa_check` asks in them.
    pub roas: Vec<RoaUse>,
}

/// A use of `roa_check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoaUse {
    /// The table.
    pub table: Arc<str>,
    /// Is it asked of the route's own prefix, and not of some other one?
    pub of_net: bool,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Parameters: names and types. They are the first variables.
    pub parameters: Vec<(Arc<str>, Type)>,
    /// What `return` gives; none when it returns nothing.
    pub result: Option<Type>,
    /// What it does.
    pub body: Statements,
}

/// What is called.
#[derive(Debug, Clone)]
pub enum Callee {
    /// A function declared before.
    Function(Arc<Function>),
    /// The function that the call is in.
    Itself(Arc<str>),
}

impl Callee {
    /// The function's name.
    pub fn name(&self) -> &str {
        match self {
            Callee::Function(f) => &f.name,
            Callee::Itself(name) => name,
        }
    }
}

impl PartialEq for Callee {
    /// By name: [`Filter::uses`] compares the bodies once each, where a comparison through calls could be exponential.
    fn eq(&self, other: &Callee) -> bool {
        self.name() == other.name()
    }
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is called.
    pub callee: Callee,
    /// As many as it has parameters.
    pub arguments: Vec<Expr>,
    /// Where.
    pub line: Line,
}

/// A variable: its name, and where it lives in the frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// As declared.
    pub name: Arc<str>,
    /// The index in the frame.
    pub slot: u16,
    /// Its type.
    pub ty: Type,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its type. An attribute that is not there is [`Value::Void`] whatever its type.
    pub ty: Type,
    /// Where.
    pub line: Line,
    /// One more than its deepest part.
    pub depth: u16,
}

impl Expr {
    /// Might a function be called on the way to its value?
    pub(crate) fn calls(&self) -> bool {
        match &self.kind {
            ExprKind::Constant(_) | ExprKind::Variable(_) | ExprKind::Attribute(_) => false,
            ExprKind::Call(_) => true,
            ExprKind::Not(a) | ExprKind::Member(_, a) | ExprKind::Defined(a) | ExprKind::Format(a) => a.calls(),
            ExprKind::Binary(_, a, b)
            | ExprKind::Pair(a, b)
            | ExprKind::Ec(_, a, b)
            | ExprKind::AddressMask(a, b)
            | ExprKind::Edit(_, a, b) => a.calls() || b.calls(),
            ExprKind::Lc(parts) => parts.iter().any(Expr::calls),
            ExprKind::RoaCheck(check) => {
                let route = check.route.as_ref();
                route.is_some_and(|(net, asn)| net.calls() || asn.calls())
            }
            ExprKind::Mask(parts) => parts
                .iter()
                .any(|part| matches!(part, MaskPart::Expr(part) if part.calls())),
        }
    }
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A literal, or a `define`d name.
    Constant(Value),
    /// A variable or parameter.
    Variable(Variable),
    /// A route's attribute.
    Attribute(Attribute),
    /// `!`.
    Not(Box<Expr>),
    /// A binary operator.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `(A, B)`.
    Pair(Box<Expr>, Box<Expr>),
    /// `(rt, A, B)`.
    Ec(EcKind, Box<Expr>, Box<Expr>),
    /// `(A, B, C)`.
    Lc(Box<[Expr; 3]>),
    /// `[= .. =]` with parts that are not constant.
    Mask(Vec<MaskPart>),
    /// `.len` and its like.
    Member(Member, Box<Expr>),
    /// `ADDRESS.mask(N)`.
    AddressMask(Box<Expr>, Box<Expr>),
    /// `add`, `delete`, `filter`, `prepend`.
    Edit(EditOp, Box<Expr>, Box<Expr>),
    /// `defined(X)`.
    Defined(Box<Expr>),
    /// `format(X)`: as text.
    Format(Box<Expr>),
    /// A function's result.
    Call(Call),
    /// `roa_check(TABLE)` or `roa_check(TABLE, PREFIX, AS)`.
    RoaCheck(Box<RoaCheck>),
}

/// `roa_check`.
#[derive(Debug, Clone, PartialEq)]
pub struct RoaCheck {
    /// The table of ROAs.
    pub table: Arc<str>,
    /// The prefix and the AS; else those of the route.
    pub route: Option<(Expr, Expr)>,
}

/// A part of a path mask.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskPart {
    /// Known when loading.
    Item(super::mask::MaskItem),
    /// An integer, evaluated for each route.
    Expr(Expr),
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `&&`: the right side is not evaluated when the left decides.
    And,
    /// `||`: the same.
    Or,
    /// `=`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterEqual,
    /// `~`.
    Match,
    /// `!~`.
    NotMatch,
}

impl BinaryOp {
    /// The sign.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::And => "&&",
            BinaryOp::Or => "||",
            BinaryOp::Equal => "=",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::Match => "~",
            BinaryOp::NotMatch => "!~",
        }
    }
}

/// The first part of an extended community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcKind {
    /// `rt`, a route target.
    Rt,
    /// `ro`, a route origin.
    Ro,
    /// `generic`: the two numbers are the eight octets.
    Generic,
    /// `unknown N`: this type and subtype.
    Unknown(u16),
}

/// A value's part or property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// `.is_v4` of an address.
    IsV4,
    /// `.type` of a prefix.
    NetType,
    /// `.ip` of a prefix.
    Ip,
    /// `.len` of a prefix or a list.
    Len,
    /// `.first` of a path: 0 when there is none.
    First,
    /// `.last` of a path.
    Last,
    /// `.last_nonaggregated` of a path.
    LastNonaggregated,
    /// `.asn` of a community.
    Asn,
    /// `.data` of a pair.
    Data,
    /// `.data1` of a large community.
    Data1,
    /// `.data2` of a large community.
    Data2,
    /// `.min` of a list of communities.
    Min,
    /// `.max` of a list of communities.
    Max,
}

/// Every member: its name.
pub(crate) const MEMBERS: [(&str, Member); 13] = [
    ("is_v4", Member::IsV4),
    ("type", Member::NetType),
    ("ip", Member::Ip),
    ("len", Member::Len),
    ("first", Member::First),
    ("last", Member::Last),
    ("last_nonaggregated", Member::LastNonaggregated),
    ("asn", Member::Asn),
    ("data", Member::Data),
    ("data1", Member::Data1),
    ("data2", Member::Data2),
    ("min", Member::Min),
    ("max", Member::Max),
];

impl Member {
    /// The name behind the dot.
    pub(crate) fn as_str(self) -> &'static str {
        MEMBERS.iter().find(|(_, m)| *m == self).map_or("", |(name, _)| name)
    }
}

/// A change of a list or path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditOp {
    /// A number in front of a path.
    Prepend,
    /// Communities added.
    Add,
    /// Members removed.
    Delete,
    /// Only these kept.
    Filter,
}

impl EditOp {
    /// The keyword.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EditOp::Prepend => "prepend",
            EditOp::Add => "add",
            EditOp::Delete => "delete",
            EditOp::Filter => "filter",
        }
    }
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `TYPE NAME [= VALUE];`.
    Declare(Variable, Option<Expr>),
    /// `NAME = VALUE;`.
    Assign(Variable, Expr),
    /// `ATTRIBUTE = VALUE;`, and `ATTRIBUTE.add(X);` as `ATTRIBUTE = add(ATTRIBUTE, X);`.
    Set(Attribute, Expr),
    /// `unset(ATTRIBUTE);`.
    Unset(Attribute),
    /// `if .. then .. [else ..]`.
    If(Expr, Box<Statement>, Option<Box<Statement>>),
    /// `case .. { .. }`.
    Case(Box<Case>),
    /// `for TYPE NAME in LIST do ..`.
    For(Variable, Expr, Box<Statement>),
    /// `{ .. }`.
    Block(Vec<Statement>),
    /// `return X;`.
    Return(Expr),
    /// `accept ..;` (true) or `reject ..;`, with what is printed.
    End(bool, Vec<Expr>),
    /// `print ..;` (true: ends the line) or `printn ..;`.
    Print(bool, Vec<Expr>),
    /// `f(..);`.
    Call(Call),
}

/// `case SUBJECT { LABELS: STATEMENTS .. else: STATEMENTS }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What is looked up.
    pub subject: Expr,
    /// The first arm whose labels hold the subject.
    pub arms: Vec<(Arc<super::set::ValueSet>, Vec<Statement>)>,
    /// `else:`.
    pub otherwise: Option<Vec<Statement>>,
}
