//! Expressions.
//!
//! BIRD's precedence, from loosest: `&&` and `||` (the same, left to right); comparisons and `~` (one only); `+ -`;
//! `* /`; `!`; `.`.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::is_keyword;
use super::super::lexer::Lexeme;
use super::{Parser, Symbol};
use crate::filter::check::{self, MAX_DEPTH};
use crate::filter::{
    ATTRIBUTES, Attribute, BinaryOp, Call, Callee, EcKind, EditOp, Expr, ExprKind, Line, MEMBERS, Type, Value,
    enum_constant, evaluate,
};

/// BIRD's attributes that we do not have, so that their names get a better answer than "unknown".
const OTHER_ATTRIBUTES: [&str; 6] = ["scope", "ifindex", "weight", "gw_mpls", "onlink", "bgp_aigp"];
/// Beginnings of more of them.
const OTHER_KINDS: [&str; 5] = ["krt_", "ospf_", "rip_", "babel_", "radv_"];

/// Is it an attribute of BIRD's that we do not have?
pub(super) fn is_foreign(name: &str) -> bool {
    let of_kind = || OTHER_KINDS.iter().any(|kind| name.starts_with(kind)) && is_keyword(name);
    OTHER_ATTRIBUTES.contains(&name) || of_kind()
}

const LOGICAL: [(&str, BinaryOp); 2] = [("&&", BinaryOp::And), ("||", BinaryOp::Or)];
const COMPARISONS: [(&str, BinaryOp); 8] = [
    ("=", BinaryOp::Equal),
    ("!=", BinaryOp::NotEqual),
    ("<", BinaryOp::Less),
    ("<=", BinaryOp::LessEqual),
    (">", BinaryOp::Greater),
    (">=", BinaryOp::GreaterEqual),
    ("~", BinaryOp::Match),
    ("!~", BinaryOp::NotMatch),
];
const SUMS: [(&str, BinaryOp); 2] = [("+", BinaryOp::Add), ("-", BinaryOp::Subtract)];
const PRODUCTS: [(&str, BinaryOp); 2] = [("*", BinaryOp::Multiply), ("/", BinaryOp::Divide)];

impl Parser {
    /// An expression that is evaluated now.
    pub(super) fn constant(&mut self) -> Checked<Value> {
        let at = self.here();
        let expr = self.expression()?;
        let value = match expr.kind {
            ExprKind::Constant(value) => Ok(value),
            _ => evaluate(&expr, None)
                .map_err(|e| Complaint::new(at, format!("this has no constant value: {}", e.problem))),
        };
        match value? {
            Value::Void => Err(Complaint::new(at, "this has no value")),
            value => Ok(value),
        }
    }

    pub(super) fn constant_in_parentheses(&mut self) -> Checked<Value> {
        self.sign("(")?;
        let value = self.constant()?;
        self.sign(")")?;
        Ok(value)
    }

    pub(super) fn expression(&mut self) -> Checked<Expr> {
        self.nested(|p| {
            let mut left = p.comparison()?;
            while let Some((op, at)) = p.operator(&LOGICAL) {
                let right = p.comparison()?;
                left = p.built(at, check::binary(op, left, right, Line(at.line)))?;
            }
            Ok(left)
        })
    }

    fn operator(&mut self, among: &[(&str, BinaryOp)]) -> Option<(BinaryOp, Position)> {
        let at = self.here();
        let (_, op) = among.iter().find(|(sign, _)| self.is_sign(sign))?;
        self.advance();
        Some((*op, at))
    }

    fn comparison(&mut self) -> Checked<Expr> {
        let left = self.sum()?;
        let Some((op, at)) = self.operator(&COMPARISONS) else {
            return Ok(left);
        };
        let right = self.sum()?;
        if COMPARISONS.iter().any(|(sign, _)| self.is_sign(sign)) {
            let complaint = Complaint::new(self.here(), "comparisons cannot follow each other");
            return Err(complaint.with_hint("use parentheses"));
        }
        self.built(at, check::binary(op, left, right, Line(at.line)))
    }

    fn sum(&mut self) -> Checked<Expr> {
        let mut left = self.product()?;
        while let Some((op, at)) = self.operator(&SUMS) {
            let right = self.product()?;
            left = self.built(at, check::binary(op, left, right, Line(at.line)))?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Checked<Expr> {
        let mut left = self.unary()?;
        while let Some((op, at)) = self.operator(&PRODUCTS) {
            let right = self.unary()?;
            left = self.built(at, check::binary(op, left, right, Line(at.line)))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Checked<Expr> {
        let at = self.here();
        if !self.eat_sign("!") {
            return self.postfix();
        }
        let operand = self.nested(Self::unary)?;
        self.built(at, check::not(operand, Line(at.line)))
    }

    fn postfix(&mut self) -> Checked<Expr> {
        let mut object = self.primary()?;
        while self.eat_sign(".") {
            let at = self.here();
            if self.eat_word("mask") {
                self.sign("(")?;
                let length = self.expression()?;
                self.sign(")")?;
                object = self.built(at, check::address_mask(object, length, Line(at.line)))?;
                continue;
            }
            let member = self
                .word()
                .and_then(|word| MEMBERS.iter().find(|(name, _)| **name == *word));
            let Some((_, member)) = member else {
                return Err(self.unexpected("a member such as 'len' or 'first'"));
            };
            self.advance();
            object = self.built(at, check::member(*member, object, Line(at.line)))?;
        }
        Ok(object)
    }

    /// An expression that passed its checks, folded if all of it is constant.
    pub(super) fn built(&self, at: Position, checked: Result<Expr, String>) -> Checked<Expr> {
        let expr = checked.map_err(|message| Complaint::new(at, message))?;
        if expr.depth > MAX_DEPTH {
            return Err(Complaint::new(
                at,
                format!("this expression is more than {MAX_DEPTH} levels deep"),
            ));
        }
        if !foldable(&expr) {
            return Ok(expr);
        }
        let value = evaluate(&expr, None).map_err(|e| Complaint::new(at, e.problem.to_string()))?;
        Ok(literal(value, at))
    }

    fn primary(&mut self) -> Checked<Expr> {
        let at = self.here();
        if let Some(prefix) = self.literal_prefix()? {
            return Ok(literal(Value::Prefix(prefix), at));
        }
        let value = match self.peek() {
            Lexeme::Number(number) => Value::Int(*number),
            Lexeme::Ip4(addr) => Value::Ip((*addr).into()),
            Lexeme::Ip6(addr) => ip6(*addr),
            Lexeme::Text(text) => Value::String(Arc::clone(text)),
            Lexeme::Sign("(") => return self.parenthesis(),
            Lexeme::Sign("[") => return self.set_literal().map(|value| literal(value, at)),
            Lexeme::Sign("[=") => return self.mask_literal(),
            Lexeme::Sign("+") | Lexeme::Sign("-") => return self.empty_literal(),
            Lexeme::Word(_) | Lexeme::Quoted(_) => return self.word_expression(),
            _ => return Err(self.unexpected("an expression")),
        };
        self.advance();
        Ok(literal(value, at))
    }

    /// `+empty+`, `-empty-`, `--empty--`, `---empty---`.
    fn empty_literal(&mut self) -> Checked<Expr> {
        let at = self.here();
        for (signs, ty) in [
            (vec!["+"], Type::Path),
            (vec!["-"], Type::Clist),
            (vec!["-"; 2], Type::Eclist),
            (vec!["-"; 3], Type::Lclist),
        ] {
            let len = signs.len();
            let before = (0..len).all(|i| self.is_sign_at(i, signs[0]));
            let after = (0..len).all(|i| self.is_sign_at(len + 1 + i, signs[0]));
            if before && self.is_word_at(len, "empty") && after {
                self.skip(2 * len + 1);
                return Ok(literal(Value::initial(ty), at));
            }
        }
        let complaint = self.unexpected("an expression");
        Err(complaint
            .with_hint("numbers have no sign: the language knows '+empty+', '-empty-', '--empty--', '---empty---'"))
    }

    /// What begins with `(`: parentheses, a pair, a large or an extended community.
    fn parenthesis(&mut self) -> Checked<Expr> {
        let at = self.here();
        self.sign("(")?;
        if let Some(kind) = self.ec_kind()? {
            self.sign(",")?;
            let key = self.expression()?;
            self.sign(",")?;
            let value = self.expression()?;
            self.sign(")")?;
            return self.built(at, check::ec(kind, key, value, Line(at.line)));
        }
        let first = self.expression()?;
        if self.eat_sign(")") {
            return Ok(first);
        }
        if !self.eat_sign(",") {
            return Err(self.unexpected("')' or ','"));
        }
        let second = self.expression()?;
        if self.eat_sign(")") {
            return self.built(at, check::pair(first, second, Line(at.line)));
        }
        if !self.eat_sign(",") {
            return Err(self.unexpected("')' or ','"));
        }
        let third = self.expression()?;
        self.sign(")")?;
        self.built(at, check::lc([first, second, third], Line(at.line)))
    }

    /// `rt`, `ro`, `generic` or `unknown N`, if one is next.
    pub(super) fn ec_kind(&mut self) -> Checked<Option<EcKind>> {
        if self.eat_word("rt") {
            Ok(Some(EcKind::Rt))
        } else if self.eat_word("ro") {
            Ok(Some(EcKind::Ro))
        } else if self.eat_word("generic") {
            Ok(Some(EcKind::Generic))
        } else if self.eat_word("unknown") {
            self.short("the type of an extended community", 0)
                .map(|kind| Some(EcKind::Unknown(kind)))
        } else {
            Ok(None)
        }
    }

    /// What begins with a word: a constant, a variable, an attribute, a built-in or a call.
    fn word_expression(&mut self) -> Checked<Expr> {
        let at = self.here();
        let line = Line(at.line);
        let quoted = matches!(self.peek(), Lexeme::Quoted(_));
        let name = match self.peek() {
            Lexeme::Word(name) | Lexeme::Quoted(name) => Arc::clone(name),
            _ => return Err(self.unexpected("an expression")),
        };
        if !quoted {
            if let Some(found) = self.builtin(&name, at)? {
                return Ok(found);
            }
            if let Some(attribute) = Attribute::named(&name) {
                self.advance();
                return Ok(check::expr(ExprKind::Attribute(attribute), attribute.ty(), line, &[]));
            }
            if is_foreign(&name) {
                return Err(Complaint::new(at, format!("'{name}' is not supported")));
            }
        }
        if let Some(variable) = self.scope.as_ref().and_then(|s| s.find(&name)) {
            let variable = variable.clone();
            self.advance();
            let ty = variable.ty;
            return Ok(check::expr(ExprKind::Variable(variable), ty, line, &[]));
        }
        if self.is_sign_at(1, "(") {
            let call = self.call()?;
            let depths: Vec<u16> = call.arguments.iter().map(|a| a.depth).collect();
            let ty = match &call.callee {
                Callee::Itself(_) => Type::Any,
                Callee::Function(f) => f
                    .result
                    .ok_or_else(|| Complaint::new(at, format!("function '{name}' returns nothing")))?,
            };
            return self.built(at, Ok(check::expr(ExprKind::Call(call), ty, line, &depths)));
        }
        match self.known() {
            Some((_, Symbol::Constant(value))) => {
                let value = value.clone();
                self.advance();
                Ok(literal(value, at))
            }
            // What is wrong with it has been said.
            Some((_, Symbol::Broken)) => {
                self.advance();
                Ok(literal(Value::Void, at))
            }
            Some((_, symbol)) => {
                let message = format!("a value expected, but '{name}' is {}", symbol.as_str());
                Err(Complaint::new(at, message))
            }
            None => Err(self.unknown_name(&name, at)),
        }
    }

    fn unknown_name(&self, name: &str, at: Position) -> Box<Complaint> {
        let complaint = Complaint::new(at, format!("unknown name '{name}'"));
        let attributes = ATTRIBUTES.iter().map(|row| row.0);
        let known = self.symbols.keys().map(AsRef::as_ref).chain(attributes);
        match closest(name, known) {
            Some(similar) => complaint.with_hint(format!("did you mean '{similar}'?")),
            None => complaint,
        }
    }

    /// Words that are expressions of their own.
    fn builtin(&mut self, name: &str, at: Position) -> Checked<Option<Expr>> {
        let line = Line(at.line);
        let value = match name {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => enum_constant(name),
        };
        if let Some(value) = value {
            self.advance();
            return Ok(Some(literal(value, at)));
        }
        let edit = match name {
            "roa_check" => {
                self.advance();
                return self.roa_check(at).map(Some);
            }
            "prepend" => EditOp::Prepend,
            "add" => EditOp::Add,
            "delete" => EditOp::Delete,
            "filter" => EditOp::Filter,
            "defined" | "format" => {
                self.advance();
                self.sign("(")?;
                let operand = self.expression()?;
                self.sign(")")?;
                let depth = operand.depth;
                let operand = Box::new(operand);
                let (kind, ty) = match name {
                    "defined" => (ExprKind::Defined(operand), Type::Bool),
                    _ => (ExprKind::Format(operand), Type::String),
                };
                return self.built(at, Ok(check::expr(kind, ty, line, &[depth]))).map(Some);
            }
            _ => return Ok(None),
        };
        self.advance();
        self.sign("(")?;
        let list = self.expression()?;
        self.sign(",")?;
        let what = self.expression()?;
        self.sign(")")?;
        self.built(at, check::edit(edit, list, what, line)).map(Some)
    }

    /// `NAME(ARGUMENTS)`.
    pub(super) fn call(&mut self) -> Checked<Call> {
        let at = self.here();
        let (name, _) = self.name("a function")?;
        let itself = self.scope.as_ref().is_some_and(|s| s.function.as_ref() == Some(&name));
        let callee = match self.symbols.get(&name) {
            _ if itself => Callee::Itself(Arc::clone(&name)),
            Some(Symbol::Function(function)) => Callee::Function(Arc::clone(function)),
            Some(symbol) => {
                let message = format!("only functions can be called, and '{name}' is {}", symbol.as_str());
                return Err(Complaint::new(at, message));
            }
            None => return Err(self.unknown_name(&name, at)),
        };
        let mut arguments = Vec::new();
        self.sign("(")?;
        if !self.eat_sign(")") {
            loop {
                let place = self.here();
                arguments.push((self.expression()?, place));
                if !self.eat_sign(",") {
                    break;
                }
            }
            self.sign(")")?;
        }
        self.check_arguments(&callee, &arguments, at)?;
        if let (Callee::Function(function), Some(scope)) = (&callee, self.scope.as_mut()) {
            scope.calls.push(Arc::clone(function));
        }
        Ok(Call {
            callee,
            arguments: arguments.into_iter().map(|(argument, _)| argument).collect(),
            line: Line(at.line),
        })
    }

    fn check_arguments(&self, callee: &Callee, arguments: &[(Expr, Position)], at: Position) -> Checked<()> {
        let parameters = match (callee, &self.scope) {
            (Callee::Function(f), _) => f.parameters.as_slice(),
            (Callee::Itself(_), Some(scope)) => scope.parameters.as_slice(),
            (Callee::Itself(_), None) => &[],
        };
        if parameters.len() != arguments.len() {
            let (wanted, got) = (parameters.len(), arguments.len());
            let message = format!("function '{}' takes {wanted} arguments, got {got}", callee.name());
            return Err(Complaint::new(at, message));
        }
        for ((name, ty), (argument, place)) in parameters.iter().zip(arguments) {
            let what = format!("argument '{name}' of function '{}'", callee.name());
            check::fits(&what, *ty, argument).map_err(|message| Complaint::new(*place, message))?;
        }
        Ok(())
    }
}

/// An address in IPv6's notation. As in BIRD an IPv4 address that is mapped into it is one of IPv4.
pub(super) fn ip6(addr: Ipv6Addr) -> Value {
    Value::Ip(addr.to_canonical())
}

/// A constant as an expression.
pub(super) fn literal(value: Value, at: Position) -> Expr {
    let ty = value.ty().unwrap_or(Type::Any);
    check::expr(ExprKind::Constant(value), ty, Line(at.line), &[])
}

/// Are all parts of an expression constants? Calls are left alone: they may print.
fn foldable(expr: &Expr) -> bool {
    // A name whose declaration is wrong is a constant without a value.
    let constant = |e: &Expr| matches!(&e.kind, ExprKind::Constant(value) if *value != Value::Void);
    match &expr.kind {
        ExprKind::Not(a) | ExprKind::Member(_, a) | ExprKind::Defined(a) | ExprKind::Format(a) => constant(a),
        ExprKind::Binary(_, a, b)
        | ExprKind::Pair(a, b)
        | ExprKind::Ec(_, a, b)
        | ExprKind::AddressMask(a, b)
        | ExprKind::Edit(_, a, b) => constant(a) && constant(b),
        ExprKind::Lc(parts) => parts.iter().all(constant),
        ExprKind::Constant(_)
        | ExprKind::Variable(_)
        | ExprKind::Attribute(_)
        | ExprKind::Mask(_)
        | ExprKind::RoaCheck(_)
        | ExprKind::Call(_) => false,
    }
}

/// The known name that differs least, if it differs little.
pub(super) fn closest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let scored = known.map(|candidate| (distance(name, candidate), candidate));
    let (distance, best) = scored.min()?;
    (distance > 0 && distance <= 2 && distance * 2 < name.len()).then_some(best)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(0);
            let left = row.get(j).copied().unwrap_or(0);
            let cost = if x == *y {
                diagonal
            } else {
                1 + diagonal.min(above).min(left)
            };
            diagonal = above;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = cost;
            }
        }
    }
    row.last().copied().unwrap_or(0)
}
