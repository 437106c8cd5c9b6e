//! The names within a function or filter.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use crate::filter::{Function, RoaUse, Type, Variable};

/// BIRD's limit.
const MAX_VARIABLES: usize = 255;

/// A function or filter that is being parsed.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The function's name; none in a filter.
    pub(super) function: Option<Arc<str>>,
    /// The function's parameters, which a recursive call is checked against.
    pub(super) parameters: Vec<(Arc<str>, Type)>,
    /// The variables that live now, the innermost last, and the depth of the block each was declared in.
    variables: Vec<(Variable, usize)>,
    /// How many lived at once, at most.
    pub(super) slots: u16,
    /// How many blocks are open.
    blocks: usize,
    /// The type that `return` gives, and where that was decided.
    pub(super) result: Option<(Type, Position)>,
    /// The functions that are called.
    pub(super) calls: Vec<Arc<Function>>,
    /// The tables of ROAs that are asked.
    pub(super) roas: Vec<RoaUse>,
}

impl Scope {
    /// The scope of a function's parameters and body.
    pub(super) fn of_function(name: &Arc<str>) -> Self {
        Scope {
            function: Some(Arc::clone(name)),
            ..Scope::default()
        }
    }

    pub(super) fn open(&mut self) {
        self.blocks += 1;
    }

    pub(super) fn close(&mut self) {
        self.blocks = self.blocks.saturating_sub(1);
        let blocks = self.blocks;
        self.variables.retain(|(_, depth)| *depth <= blocks);
    }

    /// Declares a variable in the innermost block. An outer one of the same name is hidden.
    pub(super) fn declare(&mut self, name: &Arc<str>, ty: Type, at: Position) -> Checked<Variable> {
        if self
            .variables
            .iter()
            .any(|(v, depth)| v.name == *name && *depth == self.blocks)
        {
            return Err(Complaint::new(at, format!("'{name}' is already defined in this block")));
        }
        if self.variables.len() >= MAX_VARIABLES {
            return Err(Complaint::new(at, format!("more than {MAX_VARIABLES} variables")));
        }
        let slot = u16::try_from(self.variables.len()).unwrap_or(u16::MAX);
        let variable = Variable {
            name: Arc::clone(name),
            slot,
            ty,
        };
        self.variables.push((variable.clone(), self.blocks));
        self.slots = self.slots.max(slot + 1);
        Ok(variable)
    }

    /// The variable of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Variable> {
        self.variables
            .iter()
            .rev()
            .find(|(v, _)| *v.name == *name)
            .map(|(v, _)| v)
    }

    /// Notes what a `return` gives.
    pub(super) fn returns(&mut self, ty: Type, at: Position) -> Checked<()> {
        match self.result {
            Some((Type::Any, _)) => self.result = Some((ty, at)),
            Some((known, first)) if !known.takes(ty) => {
                let message = format!("this returns {ty}, but line {} returns {known}", first.line);
                return Err(Complaint::new(at, message));
            }
            Some(_) => {}
            None => self.result = Some((ty, at)),
        }
        Ok(())
    }
}
