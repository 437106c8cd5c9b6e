//! The policy language: typed programs over a route.
//!
//! The configuration's parser makes [`Filter`]s and [`Function`]s whose types are checked; [`Filter::run`] decides on a
//! route and changes it. A run is a pure function of both, bounded in time and stack.
//!
//! | module | is |
//! |---|---|
//! | `value`, `set`, `mask` | values and their types |
//! | `attribute` | the table of attributes that the language names |
//! | `ast`, `print` | programs, and their text |
//! | `check` | the typing rules |
//! | `operation`, `access`, `run` | what a program does |
//! | `notes` | for which other prefixes it does the same |
//!
//! Not here: text to programs, which is [`crate::config`]'s.

mod access;
mod ast;
mod attribute;
pub(crate) mod check;
mod mask;
mod notes;
mod operation;
mod print;
mod route;
mod run;
mod set;
#[cfg(test)]
mod tests;
mod value;

pub use ast::{
    BinaryOp, Call, Callee, Case, EcKind, EditOp, Expr, ExprKind, Filter, Function, Line, MaskPart, Member, RoaCheck,
    RoaUse, Statement, Statements, Variable,
};
pub use attribute::Attribute;
pub use mask::{MaskItem, PathMask};
pub use notes::Notes;
pub use route::{Assigned, Krt, Problem, RouteContext, RouteDestination, RouteSource, RunError, Verdict};
pub use set::{PairBox, PrefixPattern, PrefixSet, Range, ValueSet};
pub use value::{EnumType, SetOf, Type, Value};

pub(crate) use ast::MEMBERS;
pub(crate) use attribute::ATTRIBUTES;
pub(crate) use operation::{ec, glob};
pub(crate) use print::write_name;
pub(crate) use run::evaluate;
pub(crate) use value::enum_constant;
