//! Recursive descent over the selector grammar.
//!
//! ```text
//! selector := "" | or
//! or       := and ( "||" and )*
//! and      := unary ( "&&" unary )*
//! unary    := "!"* primary
//! primary  := "(" or ")" | "all()" | "global()" | "has(" LABEL ")" | LABEL test
//! ```

use super::{Expr, Op};

/// Nesting of parentheses and of `!` beyond which a selector is refused, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: u32 = 64;
/// Longest label name.
const MAX_LABEL: usize = 512;

/// Text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad selector at character {}: {why}", at + 1)]
pub struct BadSelector {
    /// Byte offset of the offence.
    pub at: usize,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A term was to begin.
    #[error("want a label, '(', '!', has(...), all() or global()")]
    Term,
    /// A label was to come.
    #[error("want a label: 1 to 512 of A-Z, a-z, 0-9, '_', '.', '/', '-'")]
    Label,
    /// A label stands alone.
    #[error("want ==, !=, in, not in, contains, starts with or ends with after a label")]
    Operator,
    /// A value was to come.
    #[error("want a value in quotes")]
    Value,
    /// A quote is not closed.
    #[error("a quote is not closed")]
    Quote,
    /// A set was to begin.
    #[error("want a set such as {{'a', 'b'}}")]
    Set,
    /// A set goes on wrongly.
    #[error("want ',' or '}}' in a set")]
    SetEnd,
    /// A parenthesis is not closed.
    #[error("want ')'")]
    Close,
    /// Text follows the end.
    #[error("want && or || here, or the end")]
    Rest,
    /// Too deep.
    #[error("nested more than 64 deep")]
    Depth,
}

pub(super) fn parse(text: &str) -> Result<Expr, BadSelector> {
    let mut p = Parser { text, at: 0 };
    p.space();
    if p.rest().is_empty() {
        return Ok(Expr::All);
    }
    let expr = p.or(0)?;
    if p.rest().is_empty() {
        Ok(expr)
    } else {
        Err(p.bad(Why::Rest))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn bad(&self, why: Why) -> BadSelector {
        BadSelector { at: self.at, why }
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    /// Takes a token and the white space after it.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.space();
        }
        found
    }

    fn expect(&mut self, token: &str, why: Why) -> Result<(), BadSelector> {
        if self.take(token) { Ok(()) } else { Err(self.bad(why)) }
    }

    fn or(&mut self, depth: u32) -> Result<Expr, BadSelector> {
        let mut list = vec![self.and(depth)?];
        while self.take("||") {
            list.push(self.and(depth)?);
        }
        Ok(single_or(list, Expr::Or))
    }

    fn and(&mut self, depth: u32) -> Result<Expr, BadSelector> {
        let mut list = vec![self.unary(depth)?];
        while self.take("&&") {
            list.push(self.unary(depth)?);
        }
        Ok(single_or(list, Expr::And))
    }

    fn unary(&mut self, depth: u32) -> Result<Expr, BadSelector> {
        if depth > MAX_DEPTH {
            return Err(self.bad(Why::Depth));
        }
        if self.take("!") {
            return Ok(Expr::Not(Box::new(self.unary(depth + 1)?)));
        }
        self.primary(depth)
    }

    fn primary(&mut self, depth: u32) -> Result<Expr, BadSelector> {
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            self.expect(")", Why::Close)?;
            return Ok(inner);
        }
        for (word, expr) in [("all(", Expr::All), ("global(", Expr::Global)] {
            if self.take(word) {
                self.expect(")", Why::Close)?;
                return Ok(expr);
            }
        }
        if self.take("has(") {
            let label = self.label(Why::Label)?;
            self.expect(")", Why::Close)?;
            return Ok(Expr::Has(label));
        }
        let label = self.label(Why::Term)?;
        self.test(label)
    }

    fn label(&mut self, why: Why) -> Result<String, BadSelector> {
        let is_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        let rest = self.rest();
        let len = rest.find(|c| !is_label(c)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.bad(why));
        }
        if len > MAX_LABEL {
            return Err(self.bad(Why::Label));
        }
        self.at += len;
        self.space();
        Ok(rest[..len].to_owned())
    }

    /// What follows a label.
    fn test(&mut self, label: String) -> Result<Expr, BadSelector> {
        let simple = [
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("contains", Op::Contains),
            ("startswith", Op::StartsWith),
            ("endswith", Op::EndsWith),
        ];
        for (token, op) in simple {
            if self.take(token) {
                return Ok(Expr::Test {
                    label,
                    op,
                    value: self.value()?,
                });
            }
        }
        for (first, op) in [("starts", Op::StartsWith), ("ends", Op::EndsWith)] {
            if self.take_pair(first, "with") {
                return Ok(Expr::Test {
                    label,
                    op,
                    value: self.value()?,
                });
            }
        }
        if self.take("notin") || self.take_pair("not", "in") {
            return Ok(Expr::In {
                label,
                values: self.set()?,
                negated: true,
            });
        }
        if self.take("in") {
            return Ok(Expr::In {
                label,
                values: self.set()?,
                negated: false,
            });
        }
        Err(self.bad(Why::Operator))
    }

    /// Takes two words with white space between them, or nothing.
    fn take_pair(&mut self, first: &str, second: &str) -> bool {
        let start = self.at;
        if self.take(first) && self.at > start + first.len() && self.take(second) {
            return true;
        }
        self.at = start;
        false
    }

    fn value(&mut self) -> Result<String, BadSelector> {
        let rest = self.rest();
        let quote = match rest.chars().next() {
            Some(q @ ('\'' | '"')) => q,
            _ => return Err(self.bad(Why::Value)),
        };
        let inner = &rest[1..];
        let len = inner.find(quote).ok_or_else(|| self.bad(Why::Quote))?;
        self.at += len + 2;
        self.space();
        Ok(inner[..len].to_owned())
    }

    fn set(&mut self) -> Result<Vec<String>, BadSelector> {
        self.expect("{", Why::Set)?;
        let mut values = Vec::new();
        while !self.take("}") {
            values.push(self.value()?);
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err(self.bad(Why::SetEnd));
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn single_or(mut list: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            join(list)
        }
        None => join(list),
    }
}
