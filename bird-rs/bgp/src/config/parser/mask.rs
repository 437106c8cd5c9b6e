//! Path masks: `[= .. =]`.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::expression::literal;
use super::{Parser, Symbol};
use crate::filter::check;
use crate::filter::{Expr, ExprKind, Line, MaskItem, MaskPart, PathMask, SetOf, Type, Value};

impl Parser {
    /// `[= .. =]`.
    pub(super) fn mask_literal(&mut self) -> Checked<Expr> {
        let at = self.here();
        self.sign("[=")?;
        let mut parts = Vec::new();
        while !self.eat_sign("=]") {
            let place = self.here();
            let part = self.mask_part()?;
            if parts.is_empty() && matches!(part, MaskPart::Item(MaskItem::Loop)) {
                return Err(Complaint::new(
                    place,
                    "'+' repeats the item before it: it cannot be first",
                ));
            }
            parts.push(part);
        }
        let mut items = Vec::with_capacity(parts.len());
        for part in &parts {
            match part {
                MaskPart::Item(item) => items.push(item.clone()),
                MaskPart::Expr(_) => {
                    let depths: Vec<u16> = parts.iter().map(part_depth).collect();
                    return Ok(check::expr(ExprKind::Mask(parts), Type::Mask, Line(at.line), &depths));
                }
            }
        }
        Ok(literal(Value::Mask(Arc::new(PathMask { items })), at))
    }

    fn mask_part(&mut self) -> Checked<MaskPart> {
        let at = self.here();
        let item = match self.peek() {
            Lexeme::Sign("*") => MaskItem::Star,
            Lexeme::Sign("?") => MaskItem::Any,
            Lexeme::Sign("+") => MaskItem::Loop,
            Lexeme::Number(low) => {
                let low = *low;
                self.advance();
                if !self.eat_sign("..") {
                    return Ok(MaskPart::Item(MaskItem::Asn(low)));
                }
                let high = self.literal_number("an AS number")?;
                return Ok(MaskPart::Item(MaskItem::Range(low, high)));
            }
            Lexeme::Sign("[") => {
                let Value::Set(set) = self.set_literal()? else {
                    return Err(Complaint::new(at, "a path mask takes sets of integers only"));
                };
                if !matches!(set.of(), None | Some(SetOf::Int)) {
                    return Err(Complaint::new(at, "a path mask takes sets of integers only"));
                }
                return Ok(MaskPart::Item(MaskItem::Set(set.as_ref().clone())));
            }
            Lexeme::Sign("(") => {
                self.advance();
                let expr = self.expression()?;
                self.sign(")")?;
                return mask_number(expr, at);
            }
            Lexeme::Word(_) | Lexeme::Quoted(_) => {
                let expr = self.mask_name()?;
                return mask_number(expr, at);
            }
            _ => return Err(self.unexpected("an item of a path mask or '=]'")),
        };
        self.advance();
        Ok(MaskPart::Item(item))
    }

    /// The name of a constant or variable, without what might follow it.
    fn mask_name(&mut self) -> Checked<Expr> {
        let at = self.here();
        let (name, _) = self.name("a number's name")?;
        if let Some(variable) = self.scope.as_ref().and_then(|s| s.find(&name)) {
            let variable = variable.clone();
            let ty = variable.ty;
            return Ok(check::expr(ExprKind::Variable(variable), ty, Line(at.line), &[]));
        }
        match self.symbols.get(&name) {
            Some(Symbol::Constant(value)) => Ok(literal(value.clone(), at)),
            _ => Err(Complaint::new(at, format!("'{name}' is no constant or variable"))),
        }
    }
}

fn part_depth(part: &MaskPart) -> u16 {
    match part {
        MaskPart::Item(_) => 0,
        MaskPart::Expr(expr) => expr.depth,
    }
}

/// An integer in a mask; a constant set of integers stands for itself.
fn mask_number(expr: Expr, at: Position) -> Checked<MaskPart> {
    match expr.kind {
        ExprKind::Constant(Value::Int(number)) => Ok(MaskPart::Item(MaskItem::Asn(number))),
        _ if Type::Int.takes(expr.ty) => Ok(MaskPart::Expr(expr)),
        _ => Err(Complaint::new(
            at,
            format!("an item of a path mask must be of type int, got {}", expr.ty),
        )),
    }
}
