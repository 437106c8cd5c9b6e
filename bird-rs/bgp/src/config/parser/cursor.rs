//! Looking at tokens and taking them: words, signs, numbers, times, switches, addresses, names.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{BadPrefix, Prefix};

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::is_keyword;
use super::super::lexer::{Lexeme, Token};
use super::{Parser, Symbol};
use crate::filter::Value;

/// Stands behind the last token, should the end be passed.
const END: Lexeme = Lexeme::End;

/// A token as an error message shows it.
fn describe(lexeme: &Lexeme) -> String {
    match lexeme {
        Lexeme::Word(word) => format!("'{word}'"),
        Lexeme::Quoted(name) => format!("'{name}'"),
        Lexeme::Number(number) => format!("number {number}"),
        Lexeme::Ip4(addr) => format!("address {addr}"),
        Lexeme::Ip6(addr) => format!("address {addr}"),
        // It may be a password.
        Lexeme::Text(_) => "text in double quotes".to_owned(),
        Lexeme::Sign(sign) => format!("'{sign}'"),
        Lexeme::End => "the end of the file".to_owned(),
    }
}

impl Parser {
    // === Looking ===

    pub(super) fn peek(&self) -> &Lexeme {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Lexeme {
        self.tokens.get(self.at + ahead).map_or(&END, |t| &t.lexeme)
    }

    pub(super) fn here(&self) -> Position {
        let last = self.tokens.last().map(|t| t.at);
        let here = self.tokens.get(self.at).map(|t| t.at).or(last);
        here.unwrap_or(Position {
            file: 0,
            line: 1,
            column: 1,
        })
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Lexeme::Word(w) if **w == *word)
    }

    pub(super) fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Lexeme::Word(w) if **w == *word)
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.is_sign_at(0, sign)
    }

    pub(super) fn is_sign_at(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.peek_at(ahead), Lexeme::Sign(s) if *s == sign)
    }

    /// The next word, without taking it.
    pub(super) fn word(&self) -> Option<Arc<str>> {
        match self.peek() {
            Lexeme::Word(word) => Some(Arc::clone(word)),
            _ => None,
        }
    }

    /// How many words of a phrase come next, if all of them do.
    pub(super) fn phrase_len(&self, phrase: &str) -> Option<usize> {
        let mut len = 0;
        for word in phrase.split(' ') {
            if !self.is_word_at(len, word) {
                return None;
            }
            len += 1;
        }
        Some(len)
    }

    /// The complaint that something else was expected here.
    pub(super) fn unexpected(&self, expected: &str) -> Box<Complaint> {
        Complaint::new(
            self.here(),
            format!("{expected} expected, found {}", describe(self.peek())),
        )
    }

    // === Taking ===

    pub(super) fn advance(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        if is {
            self.advance();
        }
        is
    }

    pub(super) fn eat_phrase(&mut self, phrase: &str) -> bool {
        match self.phrase_len(phrase) {
            Some(len) => {
                self.skip(len);
                true
            }
            None => false,
        }
    }

    pub(super) fn eat_sign(&mut self, sign: &str) -> bool {
        let is = self.is_sign(sign);
        if is {
            self.advance();
        }
        is
    }

    pub(super) fn sign(&mut self, sign: &'static str) -> Checked<()> {
        if self.eat_sign(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{sign}'")))
        }
    }

    pub(super) fn keyword(&mut self, word: &'static str) -> Checked<()> {
        if self.eat_word(word) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{word}'")))
        }
    }

    /// The `;` behind a statement.
    pub(super) fn end(&mut self) -> Checked<()> {
        self.sign(";")
    }

    /// A name that exists or is to be declared; BIRD's keywords are none.
    pub(super) fn name(&mut self, what: &str) -> Checked<(Arc<str>, Position)> {
        let at = self.here();
        let name = match self.peek() {
            Lexeme::Quoted(name) => Arc::clone(name),
            Lexeme::Word(word) if !is_keyword(word) => Arc::clone(word),
            Lexeme::Word(word) => {
                let message = format!("{what} expected, found the keyword '{word}'");
                let complaint = Complaint::new(at, message);
                return Err(complaint.with_hint("a keyword may be a name in single quotes"));
            }
            _ => return Err(self.unexpected(what)),
        };
        self.advance();
        Ok((name, at))
    }

    /// The name that comes next if it is one that is known, without taking it.
    pub(super) fn known(&self) -> Option<(Arc<str>, &Symbol)> {
        let name = match self.peek() {
            Lexeme::Word(name) | Lexeme::Quoted(name) => name,
            _ => return None,
        };
        self.symbols.get(name).map(|symbol| (Arc::clone(name), symbol))
    }

    /// The constant that comes next, without taking it.
    fn known_constant(&self) -> Option<&Value> {
        match self.known() {
            Some((_, Symbol::Constant(value))) => Some(value),
            _ => None,
        }
    }

    /// Text, literal or by name.
    pub(super) fn text(&mut self, what: &str) -> Checked<Arc<str>> {
        let text = match self.peek() {
            Lexeme::Text(text) => Some(Arc::clone(text)),
            _ => match self.known_constant() {
                Some(Value::String(text)) => Some(Arc::clone(text)),
                _ => None,
            },
        };
        let text = text.ok_or_else(|| self.unexpected(&format!("{what}: text in double quotes")))?;
        self.advance();
        Ok(text)
    }

    /// A number: a literal, a constant's name, or an expression in parentheses.
    pub(super) fn number(&mut self, what: &str) -> Checked<u32> {
        let number = match self.peek() {
            Lexeme::Number(number) => *number,
            Lexeme::Sign("(") => {
                let at = self.here();
                return match self.constant_in_parentheses()? {
                    Value::Int(number) => Ok(number),
                    other => Err(Complaint::new(at, format!("{what}: a number expected, found {other}"))),
                };
            }
            _ => match self.known_constant() {
                Some(Value::Int(number)) => *number,
                _ => return Err(self.unexpected(&format!("{what}: a number"))),
            },
        };
        self.advance();
        Ok(number)
    }

    /// A number within bounds.
    pub(super) fn number_in(&mut self, what: &str, range: RangeInclusive<u32>) -> Checked<u32> {
        let at = self.here();
        let number = self.number(what)?;
        if range.contains(&number) {
            return Ok(number);
        }
        let message = format!(
            "{what}: {number} is out of range, {} to {} expected",
            range.start(),
            range.end()
        );
        Err(Complaint::new(at, message))
    }

    /// A number of at most 16 bits.
    pub(super) fn short(&mut self, what: &str, low: u16) -> Checked<u16> {
        let number = self.number_in(what, low.into()..=u16::MAX.into())?;
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// Whole seconds.
    pub(super) fn seconds(&mut self, what: &str, range: RangeInclusive<u32>) -> Checked<Duration> {
        self.number_in(what, range).map(|s| Duration::from_secs(s.into()))
    }

    /// A number with a unit: `5 s`, `20 ms`, `100 us`.
    pub(super) fn interval(&mut self, what: &str) -> Checked<Duration> {
        let number = self.number(what)?;
        if self.eat_word("s") {
            Ok(Duration::from_secs(number.into()))
        } else if self.eat_word("ms") {
            Ok(Duration::from_millis(number.into()))
        } else if self.eat_word("us") {
            Ok(Duration::from_micros(number.into()))
        } else {
            Err(self.unexpected(&format!("{what}: 's', 'ms' or 'us'")))
        }
    }

    /// `on`, `yes`, `off`, `no`, a number, or nothing, which is on.
    pub(super) fn switch(&mut self, what: &str) -> Checked<bool> {
        if self.eat_word("on") || self.eat_word("yes") {
            Ok(true)
        } else if self.eat_word("off") || self.eat_word("no") {
            Ok(false)
        } else if self.is_sign(";") {
            Ok(true)
        } else {
            let complaint = self.unexpected(&format!("{what}: 'on', 'off', 'yes', 'no' or ';'"));
            self.number(what).map(|n| n != 0).map_err(|_| complaint)
        }
    }

    /// Is an address next, literal or by name?
    pub(super) fn address_next(&self) -> Option<IpAddr> {
        match self.peek() {
            Lexeme::Ip4(addr) => Some((*addr).into()),
            Lexeme::Ip6(addr) => Some((*addr).into()),
            _ => match self.known_constant() {
                Some(Value::Ip(addr)) => Some(*addr),
                _ => None,
            },
        }
    }

    pub(super) fn address(&mut self, what: &str) -> Checked<IpAddr> {
        let addr = self
            .address_next()
            .ok_or_else(|| self.unexpected(&format!("{what}: an address")))?;
        self.advance();
        Ok(addr)
    }

    /// `%NAME` or `%'NAME'` behind an address: an interface.
    pub(super) fn address_scope(&mut self) -> Checked<Option<String>> {
        if !self.eat_sign("%") {
            return Ok(None);
        }
        self.name("an interface's name")
            .map(|(name, _)| Some(name.as_ref().to_owned()))
    }

    /// A prefix, literal or by name.
    pub(super) fn prefix(&mut self, what: &str) -> Checked<Prefix> {
        if let Some(Value::Prefix(prefix)) = self.known_constant() {
            let prefix = *prefix;
            self.advance();
            return Ok(prefix);
        }
        self.literal_prefix()?
            .ok_or_else(|| self.unexpected(&format!("{what}: a prefix")))
    }

    /// `ADDRESS/LENGTH`, if that is what comes next.
    pub(super) fn literal_prefix(&mut self) -> Checked<Option<Prefix>> {
        let at = self.here();
        let addr: IpAddr = match (self.peek(), self.peek_at(1)) {
            (Lexeme::Ip4(addr), Lexeme::Sign("/")) => (*addr).into(),
            (Lexeme::Ip6(addr), Lexeme::Sign("/")) => (*addr).into(),
            _ => return Ok(None),
        };
        self.skip(2);
        let Lexeme::Number(length) = *self.peek() else {
            return Err(self.unexpected("a prefix length"));
        };
        self.advance();
        let length = u8::try_from(length).unwrap_or(u8::MAX);
        Prefix::canonical(addr, length).map(Some).map_err(|bad| {
            let complaint = Complaint::new(at, bad.to_string());
            match bad {
                BadPrefix::HostBits { network, .. } => complaint.with_hint(format!("write {network}")),
                BadPrefix::Syntax(_) | BadPrefix::Length { .. } => complaint,
            }
        })
    }

    /// A router id: a dotted quad, a number, or a constant of either.
    pub(super) fn router_id(&mut self, what: &str) -> Checked<tortie_net::RouterId> {
        let at = self.here();
        let id = match self.peek() {
            Lexeme::Ip4(addr) => u32::from(*addr),
            _ => match self.known_constant() {
                Some(Value::Ip(IpAddr::V4(addr))) => u32::from(*addr),
                Some(Value::Quad(quad)) => *quad,
                _ => {
                    return self
                        .number(what)
                        .map(tortie_net::RouterId)
                        .and_then(|id| nonzero(id, what, at));
                }
            },
        };
        self.advance();
        nonzero(tortie_net::RouterId(id), what, at)
    }
}

/// Zero is no identifier (RFC 6286).
fn nonzero(id: tortie_net::RouterId, what: &str, at: Position) -> Checked<tortie_net::RouterId> {
    if id.0 == 0 {
        Err(Complaint::new(at, format!("{what}: 0.0.0.0 is no identifier")))
    } else {
        Ok(id)
    }
}
