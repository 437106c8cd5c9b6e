//! Functions and filters as a whole.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint};
use super::scope::Scope;
use super::{Parser, Symbol};
use crate::filter::{Call, Case, Expr, Filter, Function, Statement, Statements, Type};

impl Parser {
    /// `function NAME(PARAMETERS) BODY`, behind the keyword.
    pub(super) fn function(&mut self) -> Checked<()> {
        let (name, at) = self.name("a function's name")?;
        let scope = Scope::of_function(&name);
        let body = self.scoped(scope, |p| {
            p.parameters()?;
            p.body()
        });
        let (scope, body) = match body {
            Ok(done) => done,
            Err(complaint) => {
                self.symbols.entry(name).or_insert(Symbol::Broken);
                return Err(complaint);
            }
        };
        let function = Arc::new(Function {
            name: Arc::clone(&name),
            parameters: scope.parameters,
            result: scope.result.map(|(ty, _)| ty),
            body,
        });
        self.define(&name, at, Symbol::Function(Arc::clone(&function)))?;
        let reach = self.reachable(&scope.calls);
        self.reach.insert(name, reach);
        self.config.functions.push(function);
        Ok(())
    }

    /// `filter NAME BODY`, behind the keyword.
    pub(super) fn named_filter(&mut self) -> Checked<()> {
        let (name, at) = self.name("a filter's name")?;
        match self.filter_body(Some(Arc::clone(&name))) {
            Ok(filter) => {
                self.define(&name, at, Symbol::Filter(Arc::clone(&filter)))?;
                self.config.filters.push(filter);
                Ok(())
            }
            Err(complaint) => {
                self.symbols.entry(name).or_insert(Symbol::Broken);
                Err(complaint)
            }
        }
    }

    /// A filter's variables and block.
    pub(super) fn filter_body(&mut self, name: Option<Arc<str>>) -> Checked<Arc<Filter>> {
        let (scope, body) = self.scoped(Scope::default(), Self::body)?;
        Ok(self.made(name, scope, body))
    }

    /// `where CONDITION`, behind the keyword: accepts what it holds for.
    pub(super) fn where_filter(&mut self) -> Checked<Arc<Filter>> {
        let at = self.here();
        let (scope, condition) = self.scoped(Scope::default(), Self::expression)?;
        if !Type::Bool.takes(condition.ty) {
            let message = format!("the condition of 'where' must be of type bool, got {}", condition.ty);
            return Err(Complaint::new(at, message));
        }
        let accept = Box::new(Statement::End(true, Vec::new()));
        let reject = Box::new(Statement::End(false, Vec::new()));
        let list = vec![Statement::If(condition, accept, Some(reject))];
        let body = sized(list, &scope);
        Ok(self.made(None, scope, body))
    }

    /// Statements over a static route, in braces.
    pub(super) fn route_statements(&mut self) -> Checked<Arc<Filter>> {
        let (scope, list) = self.scoped(Scope::default(), Self::block)?;
        let body = sized(list, &scope);
        Ok(self.made(None, scope, body))
    }

    fn made(&mut self, name: Option<Arc<str>>, scope: Scope, body: Statements) -> Arc<Filter> {
        Arc::new(Filter {
            name,
            body: Arc::new(body),
            uses: self.reachable(&scope.calls),
        })
    }

    /// Parses with a scope, and gives it back.
    fn scoped<T>(&mut self, scope: Scope, inner: impl FnOnce(&mut Self) -> Checked<T>) -> Checked<(Scope, T)> {
        let outer = self.scope.replace(scope);
        let result = inner(self);
        let scope = std::mem::replace(&mut self.scope, outer).unwrap_or_default();
        result.map(|value| (scope, value))
    }

    /// `(TYPE NAME; TYPE NAME)`.
    fn parameters(&mut self) -> Checked<()> {
        self.sign("(")?;
        if self.eat_sign(")") {
            return Ok(());
        }
        loop {
            let ty = self
                .type_name()?
                .ok_or_else(|| self.unexpected("the type of a parameter"))?;
            let (name, at) = self.name("a parameter's name")?;
            if let Some(scope) = self.scope.as_mut() {
                scope.declare(&name, ty, at)?;
                scope.parameters.push((name, ty));
            }
            if self.eat_sign(")") {
                return Ok(());
            }
            if !self.eat_sign(";") {
                let complaint = self.unexpected("';' or ')'");
                return Err(complaint.with_hint("parameters are separated by ';'"));
            }
        }
    }

    /// `[TYPE NAME; ..] { STATEMENTS }`.
    fn body(&mut self) -> Checked<Statements> {
        let mut list = Vec::new();
        while !self.is_sign("{") {
            let Some(ty) = self.type_name()? else {
                return Err(self.unexpected("'{'"));
            };
            let (name, at) = self.name("a variable's name")?;
            self.end()?;
            let variable = match self.scope.as_mut() {
                Some(scope) => scope.declare(&name, ty, at)?,
                None => return Err(Complaint::new(at, "variables cannot be declared here")),
            };
            list.push(Statement::Declare(variable, None));
        }
        list.extend(self.outermost_block()?);
        let none = Scope::default();
        Ok(sized(list, self.scope.as_ref().unwrap_or(&none)))
    }

    /// All functions that can be reached from calls, each once, callees first.
    fn reachable(&self, calls: &[Arc<Function>]) -> Vec<Arc<Function>> {
        let mut wanted: std::collections::HashSet<&str> = std::collections::HashSet::new();
        for call in calls {
            wanted.insert(&call.name);
            let further = self.reach.get(&call.name).into_iter().flatten();
            wanted.extend(further.map(|f| f.name.as_ref()));
        }
        // Functions are declared before they are called, so this order has callees first.
        self.config
            .functions
            .iter()
            .filter(|f| wanted.contains(f.name.as_ref()))
            .cloned()
            .collect()
    }
}

/// Statements with what they need of the stack, and of tables of ROAs.
fn sized(list: Vec<Statement>, scope: &Scope) -> Statements {
    Statements {
        depth: depth_of(&list),
        slots: scope.slots,
        roas: scope.roas.clone(),
        list,
    }
}

fn depth_of(list: &[Statement]) -> u16 {
    list.iter().map(statement_depth).max().unwrap_or(0).saturating_add(1)
}

fn statement_depth(statement: &Statement) -> u16 {
    let exprs = |list: &[Expr]| list.iter().map(|e| e.depth).max().unwrap_or(0);
    let inner = match statement {
        Statement::Declare(_, init) => init.as_ref().map_or(0, |e| e.depth),
        Statement::Assign(_, value) | Statement::Set(_, value) | Statement::Return(value) => value.depth,
        Statement::Unset(_) => 0,
        Statement::If(condition, then, otherwise) => {
            let otherwise = otherwise.as_deref().map_or(0, statement_depth);
            condition.depth.max(statement_depth(then)).max(otherwise)
        }
        Statement::Case(case) => case_depth(case),
        Statement::For(_, list, body) => list.depth.max(statement_depth(body)),
        Statement::Block(list) => depth_of(list),
        Statement::End(_, print) | Statement::Print(_, print) => exprs(print),
        Statement::Call(Call { arguments, .. }) => exprs(arguments),
    };
    inner.saturating_add(1)
}

fn case_depth(case: &Case) -> u16 {
    let arms = case.arms.iter().map(|(_, list)| depth_of(list)).max().unwrap_or(0);
    let otherwise = case.otherwise.as_deref().map_or(0, depth_of);
    case.subject.depth.max(arms).max(otherwise)
}
