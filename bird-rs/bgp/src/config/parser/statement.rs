//! Statements of filters and functions.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::{Parser, Symbol};
use crate::filter::check;
use crate::filter::{
    Attribute, Case, EditOp, Expr, ExprKind, Line, Statement, Type, Value, ValueSet, Variable, enum_constant,
};

/// The words that begin a declaration.
const TYPES: [(&str, Type); 14] = [
    ("int", Type::Int),
    ("bool", Type::Bool),
    ("ip", Type::Ip),
    ("prefix", Type::Prefix),
    ("pair", Type::Pair),
    ("quad", Type::Quad),
    ("ec", Type::Ec),
    ("lc", Type::Lc),
    ("string", Type::String),
    ("bgpmask", Type::Mask),
    ("bgppath", Type::Path),
    ("clist", Type::Clist),
    ("eclist", Type::Eclist),
    ("lclist", Type::Lclist),
];

impl Parser {
    /// A type, if one is next.
    pub(super) fn type_name(&mut self) -> Checked<Option<Type>> {
        let Some((_, ty)) = self
            .word()
            .and_then(|word| TYPES.iter().find(|(name, _)| **name == *word))
        else {
            return Ok(None);
        };
        let at = self.here();
        self.advance();
        if !self.eat_word("set") {
            return Ok(Some(*ty));
        }
        match ty {
            Type::Int | Type::Pair | Type::Quad | Type::Ec | Type::Lc | Type::Ip => Ok(Some(Type::Set(None))),
            Type::Prefix => Ok(Some(Type::PrefixSet)),
            other => Err(Complaint::new(at, format!("there are no sets of {other}"))),
        }
    }

    /// `{ STATEMENTS }`. An error in one statement does not keep the others from being checked.
    pub(super) fn block(&mut self) -> Checked<Vec<Statement>> {
        self.sign("{")?;
        let list = self.nested(|p| Ok(p.statements(|p| p.is_sign("}"))))?;
        self.sign("}")?;
        Ok(list)
    }

    /// The block of a function or filter. Its variables are of one kind with parameters and those declared before it: no two
    /// may have the same name.
    pub(super) fn outermost_block(&mut self) -> Checked<Vec<Statement>> {
        self.sign("{")?;
        let list = self.nested(|p| Ok(p.statement_list(|p| p.is_sign("}"))))?;
        self.sign("}")?;
        Ok(list)
    }

    /// Statements up to an end, in a block of their own.
    fn statements(&mut self, ends: impl Fn(&Self) -> bool) -> Vec<Statement> {
        if let Some(scope) = self.scope.as_mut() {
            scope.open();
        }
        let list = self.statement_list(ends);
        if let Some(scope) = self.scope.as_mut() {
            scope.close();
        }
        list
    }

    fn statement_list(&mut self, ends: impl Fn(&Self) -> bool) -> Vec<Statement> {
        let mut list = Vec::new();
        while !ends(self) && !matches!(self.peek(), Lexeme::End) {
            let start = self.at;
            match self.statement() {
                Ok(statement) => list.extend(statement),
                Err(complaint) => {
                    self.complain(complaint);
                    self.recover(start, true);
                }
            }
            if self.at == start {
                break;
            }
        }
        list
    }

    /// One statement. `x.empty` is an assignment; nothing else makes none or more than one.
    pub(super) fn statement(&mut self) -> Checked<Option<Statement>> {
        self.nested(Self::statement_inner).map(Some)
    }

    fn statement_inner(&mut self) -> Checked<Statement> {
        let at = self.here();
        if self.is_sign("{") {
            return self.block().map(Statement::Block);
        }
        let is_call_or_assignment = self.is_sign_at(1, "(") || self.is_sign_at(1, "=");
        if let Some(ty) = self.type_name()? {
            return self.declaration(ty);
        }
        let Some(word) = self.word() else {
            return if matches!(self.peek(), Lexeme::Quoted(_)) {
                self.named(at)
            } else {
                Err(self.unexpected("a statement"))
            };
        };
        match word.as_ref() {
            "if" => self.conditional(),
            "case" => self.case(),
            "for" => self.each(),
            "return" => self.returned(at),
            "accept" | "reject" => {
                self.advance();
                let print = self.print_list()?;
                Ok(Statement::End(*word == *"accept", print))
            }
            "print" | "printn" => {
                self.advance();
                let print = self.print_list()?;
                Ok(Statement::Print(*word == *"print", print))
            }
            "unset" => self.unset(),
            other => match Attribute::named(other) {
                Some(attribute) => self.attribute_statement(attribute),
                None if super::expression::is_foreign(other) => {
                    Err(Complaint::new(at, format!("'{other}' is not supported")))
                }
                None if is_call_or_assignment => self.named(at),
                None => Err(self.unknown_statement(&word, at)),
            },
        }
    }

    fn unknown_statement(&self, word: &str, at: Position) -> Box<Complaint> {
        const WORDS: [&str; 11] = [
            "if", "case", "for", "return", "accept", "reject", "print", "printn", "unset", "else", "then",
        ];
        let complaint = Complaint::new(at, format!("unknown statement '{word}' in a filter"));
        match super::expression::closest(word, WORDS.into_iter()) {
            Some(similar) => complaint.with_hint(format!("did you mean '{similar}'?")),
            None => complaint.with_hint(
                "expected: a declaration, an assignment, if, case, for, accept, reject, return, print, unset or a call",
            ),
        }
    }

    fn declare(&mut self, name: &Arc<str>, ty: Type, at: Position) -> Checked<Variable> {
        match self.scope.as_mut() {
            Some(scope) => scope.declare(name, ty, at),
            None => Err(Complaint::new(at, "variables cannot be declared here")),
        }
    }

    /// `TYPE NAME [= VALUE];`, behind the type. The value cannot see the new name.
    fn declaration(&mut self, ty: Type) -> Checked<Statement> {
        let (name, at) = self.name("a variable's name")?;
        let init = if self.eat_sign("=") {
            let place = self.here();
            let init = self.expression()?;
            check::fits(&format!("variable '{name}'"), ty, &init).map_err(|m| Complaint::new(place, m))?;
            Some(init)
        } else {
            None
        };
        self.end()?;
        Ok(Statement::Declare(self.declare(&name, ty, at)?, init))
    }

    /// A call, or an assignment to a variable.
    fn named(&mut self, at: Position) -> Checked<Statement> {
        if self.is_sign_at(1, "(") {
            let call = self.call()?;
            self.end()?;
            return Ok(Statement::Call(call));
        }
        let (name, _) = self.name("a variable or function")?;
        let Some(variable) = self.scope.as_ref().and_then(|s| s.find(&name)).cloned() else {
            let message = match self.symbols.get(&name) {
                Some(Symbol::Constant(_)) => format!("'{name}' is a constant and cannot be assigned to"),
                Some(symbol) => format!("'{name}' is {} and cannot be assigned to", symbol.as_str()),
                None => format!("unknown variable '{name}'"),
            };
            return Err(Complaint::new(at, message));
        };
        self.sign("=")?;
        let place = self.here();
        let value = self.expression()?;
        check::fits(&format!("variable '{name}'"), variable.ty, &value).map_err(|m| Complaint::new(place, m))?;
        self.end()?;
        Ok(Statement::Assign(variable, value))
    }

    fn condition(&mut self, what: &str) -> Checked<Expr> {
        let at = self.here();
        let condition = self.expression()?;
        check::want(what, Type::Bool, condition.ty).map_err(|m| Complaint::new(at, m))?;
        Ok(condition)
    }

    /// What is behind `then`, `else` and `do`.
    fn one_statement(&mut self) -> Checked<Box<Statement>> {
        let at = self.here();
        match self.statement()? {
            Some(Statement::Declare(variable, _)) => {
                let message = format!("the declaration of '{}' needs a block around it", variable.name);
                Err(Complaint::new(at, message))
            }
            Some(statement) => Ok(Box::new(statement)),
            None => Err(Complaint::new(at, "a statement expected")),
        }
    }

    fn conditional(&mut self) -> Checked<Statement> {
        self.advance();
        let condition = self.condition("the condition of 'if'")?;
        self.keyword("then")?;
        let then = self.one_statement()?;
        // `else:` belongs to a `case` around us.
        let otherwise = if self.is_word("else") && !self.is_sign_at(1, ":") {
            self.advance();
            Some(self.one_statement()?)
        } else {
            None
        };
        Ok(Statement::If(condition, then, otherwise))
    }

    fn each(&mut self) -> Checked<Statement> {
        self.advance();
        let at = self.here();
        let ty = self
            .type_name()?
            .ok_or_else(|| self.unexpected("the type of a variable"))?;
        let (name, place) = self.name("a variable's name")?;
        self.keyword("in")?;
        let list = self.expression()?;
        let wanted = match list.ty {
            Type::Path => Type::Int,
            Type::Clist => Type::Pair,
            Type::Eclist => Type::Ec,
            Type::Lclist => Type::Lc,
            Type::Any => ty,
            other => return Err(Complaint::new(at, format!("'for' cannot walk over {other}"))),
        };
        check::want(&format!("what '{name}' takes"), ty, wanted).map_err(|m| Complaint::new(at, m))?;
        self.keyword("do")?;
        if let Some(scope) = self.scope.as_mut() {
            scope.open();
        }
        let body = self
            .declare(&name, ty, place)
            .and_then(|v| self.one_statement().map(|body| (v, body)));
        if let Some(scope) = self.scope.as_mut() {
            scope.close();
        }
        let (variable, body) = body?;
        Ok(Statement::For(variable, list, body))
    }

    fn returned(&mut self, at: Position) -> Checked<Statement> {
        self.advance();
        let value = self.expression()?;
        self.end()?;
        match self.scope.as_mut() {
            Some(scope) if scope.function.is_some() => scope.returns(value.ty, at)?,
            _ => {
                return Err(Complaint::new(
                    at,
                    "'return' is for functions: a filter accepts or rejects",
                ));
            }
        }
        Ok(Statement::Return(value))
    }

    fn print_list(&mut self) -> Checked<Vec<Expr>> {
        let mut list = Vec::new();
        while !self.is_sign(";") {
            list.push(self.expression()?);
            if !self.is_sign(";") && !self.eat_sign(",") {
                return Err(self.unexpected("',' or ';'"));
            }
        }
        self.end()?;
        Ok(list)
    }

    // === Attributes ===

    fn unset(&mut self) -> Checked<Statement> {
        self.advance();
        self.sign("(")?;
        let at = self.here();
        let attribute = self.word().and_then(|word| Attribute::named(&word));
        let attribute = attribute.ok_or_else(|| self.unexpected("an attribute"))?;
        if !attribute.is_removable() {
            return Err(Complaint::new(at, format!("'{}' cannot be unset", attribute.as_str())));
        }
        self.advance();
        self.sign(")")?;
        self.end()?;
        Ok(Statement::Unset(attribute))
    }

    /// `ATTRIBUTE = VALUE;` or `ATTRIBUTE.METHOD(..);`.
    fn attribute_statement(&mut self, attribute: Attribute) -> Checked<Statement> {
        let at = self.here();
        self.advance();
        if !attribute.is_assignable() {
            return Err(Complaint::new(at, format!("'{}' is read only", attribute.as_str())));
        }
        let value = if self.eat_sign(".") {
            self.method(attribute, at)?
        } else {
            self.assigned(attribute)?
        };
        self.end()?;
        Ok(Statement::Set(attribute, value))
    }

    fn assigned(&mut self, attribute: Attribute) -> Checked<Expr> {
        if !self.eat_sign("=") {
            return Err(self.unexpected("'=' or '.'"));
        }
        let at = self.here();
        let value = self.expression()?;
        check::fits(&format!("'{}'", attribute.as_str()), attribute.ty(), &value).map_err(|m| Complaint::new(at, m))?;
        Ok(value)
    }

    fn method(&mut self, attribute: Attribute, at: Position) -> Checked<Expr> {
        let line = Line(at.line);
        let ty = attribute.ty();
        if self.eat_word("empty") {
            return match Value::initial(ty) {
                Value::Void => Err(Complaint::new(
                    at,
                    format!("'{}' is no list or path", attribute.as_str()),
                )),
                empty => Ok(super::expression::literal(empty, at)),
            };
        }
        let edit = match self.word().as_deref() {
            Some("prepend") => EditOp::Prepend,
            Some("add") => EditOp::Add,
            Some("delete") => EditOp::Delete,
            Some("filter") => EditOp::Filter,
            _ => return Err(self.unexpected("'add', 'delete', 'filter', 'prepend' or 'empty'")),
        };
        let place = self.here();
        self.advance();
        self.sign("(")?;
        let what = self.expression()?;
        self.sign(")")?;
        let list = check::expr(ExprKind::Attribute(attribute), ty, line, &[]);
        self.built(place, check::edit(edit, list, what, line))
    }

    // === Case ===

    fn case(&mut self) -> Checked<Statement> {
        self.advance();
        let subject = self.expression()?;
        self.sign("{")?;
        let mut case = Case {
            subject,
            arms: Vec::new(),
            otherwise: None,
        };
        while !self.eat_sign("}") {
            let at = self.here();
            if self.eat_word("else") {
                self.sign(":")?;
                if case.otherwise.is_some() {
                    return Err(Complaint::new(at, "there is an 'else:' already"));
                }
                case.otherwise = Some(self.nested(|p| Ok(p.statements(Self::arm_ends)))?);
                continue;
            }
            let labels = self.set_items(false)?;
            self.check_labels(&case, &labels, at)?;
            self.sign(":")?;
            let list = self.nested(|p| Ok(p.statements(Self::arm_ends)))?;
            case.arms.push((Arc::new(labels), list));
        }
        Ok(Statement::Case(Box::new(case)))
    }

    fn check_labels(&self, case: &Case, labels: &ValueSet, at: Position) -> Checked<()> {
        let Some(member) = labels.of().map(|of| of.member()) else {
            return Ok(());
        };
        if !case.subject.ty.takes(member) {
            let message = format!(
                "this label is of type {member}, but the case is about {}",
                case.subject.ty
            );
            return Err(Complaint::new(at, message));
        }
        Ok(())
    }

    /// Does a label, or the end of the `case`, come next?
    fn arm_ends(&self) -> bool {
        match self.peek() {
            Lexeme::Sign("}" | "(") | Lexeme::Number(_) | Lexeme::Ip4(_) | Lexeme::Ip6(_) => true,
            Lexeme::Word(word) => (**word == *"else" && self.is_sign_at(1, ":")) || enum_constant(word).is_some(),
            _ => false,
        }
    }
}
