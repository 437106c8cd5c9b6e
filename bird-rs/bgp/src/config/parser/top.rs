//! The top level of a file.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::super::{ChannelFamily, ProtocolKind, Table};
use super::expression::closest;
use super::{Parser, Symbol};
use crate::filter::Value;

/// What the capability has room for.
const MAX_HOSTNAME: usize = 253;

const STATEMENTS: [&str; 17] = [
    "router",
    "hostname",
    "log",
    "debug",
    "timeformat",
    "watchdog",
    "graceful",
    "define",
    "function",
    "filter",
    "protocol",
    "template",
    "ipv4",
    "ipv6",
    "roa4",
    "roa6",
    "include",
];

impl Parser {
    /// The whole file.
    pub(super) fn file(&mut self) {
        while !matches!(self.peek(), Lexeme::End) {
            let start = self.at;
            if let Err(complaint) = self.top_statement() {
                self.complain(complaint);
                if self.is_whole_protocol(start) {
                    self.eat_sign(";");
                    continue;
                }
                self.recover(start, true);
                // A `}` that nothing opened stops recovery; it is no begin of a statement either.
                if self.at == start || self.is_sign("}") {
                    self.advance();
                }
            }
        }
    }

    /// Is what was read from `start` on a protocol to its end? What it lacks is found only then, and is not to be looked for
    /// behind it.
    fn is_whole_protocol(&self, start: usize) -> bool {
        let read = self.tokens.get(start..self.at).unwrap_or_default();
        let begins = |word: &str| {
            read.first()
                .is_some_and(|token| token.lexeme == Lexeme::Word(word.into()))
        };
        let braces = |sign| read.iter().filter(|token| token.lexeme == Lexeme::Sign(sign)).count();
        let ends = read.last().is_some_and(|token| token.lexeme == Lexeme::Sign("}"));
        (begins("protocol") || begins("template")) && ends && braces("{") == braces("}")
    }

    /// What can be said only of the whole file: each of the tables that we export to has one protocol that does.
    pub(super) fn finish(&mut self) {
        if self.complaints.is_empty() {
            self.check_strict_bfd();
        }
        self.one_writer();
        let mut seen: Vec<(String, ChannelFamily)> = Vec::new();
        for protocol in &self.config.protocols {
            let written = match &protocol.kind {
                ProtocolKind::Kernel(kernel) => {
                    let table = format!("writes kernel table {}", kernel.kernel_table);
                    vec![(table, kernel.channel.family)]
                }
                ProtocolKind::Felix(felix) => {
                    let families = felix.channels.iter().map(|channel| channel.family);
                    families
                        .map(|family| (format!("exports {} to felix", family.as_str()), family))
                        .collect()
                }
                _ => Vec::new(),
            };
            for key in written {
                if seen.contains(&key) {
                    let message = format!("{}: another protocol already {}", protocol.name, key.0);
                    self.complaints.push(*Complaint::new(self.here(), message));
                    return;
                }
                seen.push(key);
            }
        }
    }

    /// Routes reach the kernel through felix or by ourselves, not both ways.
    fn one_writer(&mut self) {
        let protocols = &self.config.protocols;
        let felix = protocols.iter().find(|p| matches!(p.kind, ProtocolKind::Felix(_)));
        let exports = |p: &super::super::Protocol| match &p.kind {
            ProtocolKind::Kernel(kernel) => kernel.channel.export != super::super::Policy::None,
            _ => false,
        };
        if let (Some(felix), Some(kernel)) = (felix, protocols.iter().find(|p| exports(p))) {
            let message = format!(
                "{}: cannot export to the kernel, which is felix's to write",
                kernel.name
            );
            let hint = format!("write 'export none' in it, or remove protocol {}", felix.name);
            self.complaints
                .push(*Complaint::new(self.here(), message).with_hint(hint));
        }
    }

    fn top_statement(&mut self) -> Checked<()> {
        if self.eat_sign(";") {
            return Ok(());
        }
        let at = self.here();
        let Some(word) = self.word() else {
            return Err(self.unexpected("a statement"));
        };
        match word.as_ref() {
            "router" => self.router_id_statement(),
            "log" => self.log(),
            "debug" => self.debug_protocols(),
            "hostname" => self.hostname(),
            "timeformat" => self.time_format(),
            "watchdog" => self.watchdog(),
            "graceful" => {
                if !self.eat_phrase("graceful restart wait") {
                    self.advance();
                    return Err(self.unexpected("'restart wait'"));
                }
                self.config.graceful_restart_wait = self.seconds("graceful restart wait", 0..=u32::MAX)?;
                self.end()
            }
            "define" => self.definition(),
            "function" => {
                self.advance();
                self.function()
            }
            "filter" => {
                self.advance();
                self.named_filter()
            }
            "protocol" => self.protocol(false),
            "template" => self.protocol(true),
            "ipv4" | "ipv6" if self.is_word_at(1, "table") => self.table(),
            "roa4" | "roa6" if self.is_word_at(1, "table") => self.roa_table(),
            "ipv4" | "ipv6" => {
                let kind = match self.peek_at(1) {
                    Lexeme::Word(kind) => format!("{word} {kind}"),
                    _ => word.as_ref().to_owned(),
                };
                Err(unknown_statement(&kind, at))
            }
            _ => Err(unknown_statement(&word, at)),
        }
    }

    fn router_id_statement(&mut self) -> Checked<()> {
        self.advance();
        self.keyword("id")?;
        if self.eat_word("from") {
            self.config.router_id_from = self.interface_patterns()?;
            return self.end();
        }
        self.config.router_id = Some(self.router_id("router id")?);
        self.end()
    }

    fn hostname(&mut self) -> Checked<()> {
        self.advance();
        let at = self.here();
        let name = self.text("hostname")?;
        if name.is_empty() || name.len() > MAX_HOSTNAME || name.contains(char::is_control) {
            let message = format!("hostname: 1 to {MAX_HOSTNAME} octets without control characters expected");
            return Err(Complaint::new(at, message));
        }
        self.config.hostname = Some(name);
        self.end()
    }

    /// `define NAME = EXPRESSION;`.
    fn definition(&mut self) -> Checked<()> {
        self.advance();
        let (name, at) = self.name("a constant's name")?;
        self.sign("=")?;
        let value = match self.constant() {
            Ok(value) => value,
            Err(complaint) => {
                self.symbols.entry(name).or_insert(Symbol::Broken);
                return Err(complaint);
            }
        };
        self.define(&name, at, Symbol::Constant(value))?;
        self.end()
    }

    /// `ipv4 table NAME [sorted];`, or a block of options. `trie` is how every table here is made: it changes nothing.
    fn table(&mut self) -> Checked<()> {
        let family = if self.eat_word("ipv4") {
            ChannelFamily::Ipv4
        } else {
            ChannelFamily::Ipv6
        };
        if family == ChannelFamily::Ipv6 {
            self.keyword("ipv6")?;
        }
        self.keyword("table")?;
        let (name, at) = self.name("a table's name")?;
        let mut sorted = self.eat_word("sorted");
        if self.eat_sign("{") {
            while !self.eat_sign("}") {
                if self.eat_word("sorted") {
                    sorted = self.switch("sorted")?;
                } else if self.eat_word("trie") {
                    self.switch("trie")?;
                } else {
                    return Err(self.unknown_option("a table", ["sorted", "trie"].into_iter()));
                }
                self.end()?;
            }
        } else {
            self.end()?;
        }
        self.define(&name, at, Symbol::Table(family))?;
        self.config.tables.push(Table { name, family, sorted });
        Ok(())
    }

    /// The name of a table of a family.
    pub(super) fn table_name(&mut self) -> Checked<(Arc<str>, ChannelFamily)> {
        let at = self.here();
        let name = match self.peek() {
            Lexeme::Word(name) | Lexeme::Quoted(name) => Arc::clone(name),
            _ => return Err(self.unexpected("a table's name")),
        };
        let found = match self.symbols.get(&name) {
            Some(Symbol::Table(family)) => Ok((Arc::clone(&name), *family)),
            Some(symbol) => Err(Complaint::new(
                at,
                format!("a table expected, but '{name}' is {}", symbol.as_str()),
            )),
            None => Err(Complaint::new(at, format!("unknown table '{name}'"))),
        };
        self.advance();
        found
    }

    /// `filter NAME`, `filter { .. }`, `where CONDITION`, `all` or `none`.
    pub(super) fn policy(&mut self) -> Checked<super::super::Policy> {
        use super::super::Policy;
        if self.eat_word("all") {
            return Ok(Policy::All);
        }
        if self.eat_word("none") {
            return Ok(Policy::None);
        }
        if self.eat_word("where") {
            return self.where_filter().map(Policy::Filter);
        }
        if !self.eat_word("filter") {
            return Err(self.unexpected("'all', 'none', 'filter' or 'where'"));
        }
        let at = self.here();
        let name = match self.peek() {
            // A filter without a name may begin with variables: `filter int i; { .. }`.
            Lexeme::Word(name) if super::super::is_keyword(name) => None,
            Lexeme::Word(name) | Lexeme::Quoted(name) => Some(Arc::clone(name)),
            _ => None,
        };
        let Some(name) = name else {
            return self.filter_body(None).map(Policy::Filter);
        };
        self.advance();
        match self.symbols.get(&name) {
            Some(Symbol::Filter(filter)) => Ok(Policy::Filter(Arc::clone(filter))),
            // What is wrong with it has been said.
            Some(Symbol::Broken) => Ok(Policy::None),
            Some(symbol) => Err(Complaint::new(
                at,
                format!("a filter expected, but '{name}' is {}", symbol.as_str()),
            )),
            None => {
                let filters = self.symbols.iter().filter(|(_, s)| matches!(s, Symbol::Filter(_)));
                let similar = closest(&name, filters.map(|(name, _)| name.as_ref()));
                let complaint = Complaint::new(at, format!("unknown filter '{name}'"));
                match similar {
                    Some(similar) => Err(complaint.with_hint(format!("did you mean '{similar}'?"))),
                    None => Err(complaint.with_hint("a filter must be declared before it is used")),
                }
            }
        }
    }

    /// A text constant's value for names that may be text; used by interface patterns.
    pub(super) fn text_next(&self) -> bool {
        matches!(self.peek(), Lexeme::Text(_)) || matches!(self.known(), Some((_, Symbol::Constant(Value::String(_)))))
    }
}

fn unknown_statement(word: &str, at: Position) -> Box<Complaint> {
    let complaint = Complaint::new(at, format!("unknown statement '{word}'"));
    match closest(word, STATEMENTS.into_iter()) {
        Some(similar) => complaint.with_hint(format!("did you mean '{similar}'?")),
        None => match word {
            "mrtdump" => complaint.with_hint("protocol mrt dumps tables, protocol bmp tells a station what peers say"),
            "attribute" => complaint.with_hint("attributes of one's own are not supported; a large community may do"),
            _ => complaint.with_hint(format!("expected one of: {}", STATEMENTS.join(", "))),
        },
    }
}
