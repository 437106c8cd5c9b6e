//! Tokens to a [`Config`], by recursive descent.
//!
//! Names must be declared before they are used, as in BIRD, so one pass is enough: types are checked, constants folded
//! and templates copied on the way. After an error the parser goes on behind the statement it was in, so that one run
//! reports most of what is wrong.

mod authentication;
mod bfd;
mod bgp;
mod bmp;
mod channel;
mod code;
mod cursor;
mod expression;
mod logging;
mod mask;
mod monitor;
mod names;
mod protocol;
mod rpki;
mod scope;
mod session;
mod sets;
mod statement;
mod static_route;
mod top;

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostic::{Checked, Complaint, Diagnostic, Position, Sources};
use super::lexer::{Lexeme, Token, tokenize};
use super::{ChannelFamily, Config, Loader};
use crate::filter::{Filter, Function, Value};
use protocol::Draft;

pub use names::{Names, NoValue, ShowRoute};
use scope::Scope;
pub(super) use session::defaults as bgp_defaults;

/// More errors than this are not reported.
const MAX_ERRORS: usize = 50;

/// Nesting of blocks and expressions beyond this is refused.
const MAX_NESTING: usize = 100;

pub(super) fn parse(name: &str, text: &str, loader: &mut dyn Loader) -> Result<Config, Vec<Diagnostic>> {
    let mut sources = Sources::default();
    let (tokens, complaints) = tokenize(name, text, loader, &mut sources);
    let mut parser = Parser::new(tokens, complaints);
    // What is behind a lexical error is not there, so what the grammar says then would mislead.
    if parser.complaints.is_empty() {
        parser.file();
        parser.finish();
    }
    if parser.complaints.is_empty() {
        parser.config.names = Names::of(&mut parser);
        return Ok(parser.config);
    }
    let mut complaints = parser.complaints;
    complaints.sort_by_key(|c| c.at);
    complaints.truncate(MAX_ERRORS);
    Err(complaints.into_iter().map(|c| sources.diagnose(c)).collect())
}

/// What a name stands for.
#[derive(Debug, Clone)]
enum Symbol {
    Constant(Value),
    Function(Arc<Function>),
    Filter(Arc<Filter>),
    /// Protocols and templates may both be copied with `from`.
    Protocol(Arc<Draft>),
    Template(Arc<Draft>),
    Table(ChannelFamily),
    RoaTable(ChannelFamily),
    /// Its declaration was wrong, which has been said.
    Broken,
}

impl Symbol {
    fn as_str(&self) -> &'static str {
        match self {
            Symbol::Constant(_) => "a constant",
            Symbol::Function(_) => "a function",
            Symbol::Filter(_) => "a filter",
            Symbol::Protocol(_) => "a protocol",
            Symbol::Template(_) => "a template",
            Symbol::Table(_) => "a table",
            Symbol::RoaTable(_) => "a table of ROAs",
            Symbol::Broken => "a name whose declaration is wrong",
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    /// The next token.
    at: usize,
    config: Config,
    symbols: HashMap<Arc<str>, Symbol>,
    complaints: Vec<Complaint>,
    /// The function or filter that is being parsed.
    scope: Option<Scope>,
    /// For each function, all that it can reach, callees first.
    reach: HashMap<Arc<str>, Vec<Arc<Function>>>,
    nesting: usize,
    /// What `debug protocols` says to protocols from here on.
    debug: bool,
    /// BGP protocols with `bfd`, and where they say so.
    bfd_users: Vec<(Position, Arc<str>)>,
}

impl Parser {
    fn new(tokens: Vec<Token>, complaints: Vec<Complaint>) -> Self {
        let config = Config::default();
        let tables = config
            .tables
            .iter()
            .map(|t| (Arc::clone(&t.name), Symbol::Table(t.family)));
        Parser {
            tokens,
            at: 0,
            symbols: tables.collect(),
            config,
            complaints,
            scope: None,
            reach: HashMap::new(),
            nesting: 0,
            debug: false,
            bfd_users: Vec::new(),
        }
    }

    /// Declares a name.
    fn define(&mut self, name: &Arc<str>, at: Position, symbol: Symbol) -> Checked<()> {
        match self.symbols.get(name) {
            Some(Symbol::Broken) | None => {
                self.symbols.insert(Arc::clone(name), symbol);
                Ok(())
            }
            Some(known) => {
                let message = format!("'{name}' is already defined: it is {}", known.as_str());
                Err(Complaint::new(at, message))
            }
        }
    }

    /// Keeps an error for the report.
    #[allow(clippy::boxed_local)] // Complaints come boxed, as the errors that they are.
    fn complain(&mut self, complaint: Box<Complaint>) {
        self.complaints.push(*complaint);
    }

    /// Counts a level of nesting for as long as `inner` parses.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Checked<T>) -> Checked<T> {
        if self.nesting >= MAX_NESTING {
            return Err(Complaint::new(
                self.here(),
                format!("nested more than {MAX_NESTING} levels deep"),
            ));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    /// Goes on behind the statement that an error was in: behind its `;`, or before the `}` that ends its block.
    /// Blocks on the way are skipped whole; with `whole_block`, a block ends the statement.
    fn recover(&mut self, start: usize, whole_block: bool) {
        // The blocks that were opened between the statement's begin and the error are to be closed first.
        let mut depth = 0_usize;
        let seen = self.tokens.get(start..self.at).unwrap_or_default();
        for token in seen {
            match token.lexeme {
                Lexeme::Sign("{") => depth += 1,
                Lexeme::Sign("}") => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        loop {
            match self.peek() {
                Lexeme::End => return,
                Lexeme::Sign("{") => depth += 1,
                Lexeme::Sign("}") if depth == 0 => return,
                Lexeme::Sign("}") => {
                    depth -= 1;
                    if depth == 0 && whole_block {
                        self.advance();
                        return;
                    }
                }
                Lexeme::Sign(";") if depth == 0 => {
                    self.advance();
                    return;
                }
                _ => {}
            }
            self.advance();
        }
    }
}
