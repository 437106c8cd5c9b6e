//! The policy language: typed programs over a route.

mod route;

pub use route::{Problem, RouteContext, RouteDestination, RouteSource, RunError, Verdict};

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Its name; an anonymous filter has none.
    pub name: Option<std::sync::Arc<str>>,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: std::sync::Arc<str>,
}

/// Statements.
#[derive(Debug, Clone, PartialEq)]
pub struct Statements {}
