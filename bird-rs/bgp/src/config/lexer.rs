//! Text to tokens, as BIRD 2 splits it, with includes spliced in.
//!
//! Words are not split into keywords and names here: the grammar knows which it wants. [`super::keywords`] keeps
//! names from being BIRD's keywords.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Loader;
use super::diagnostic::{Checked, Complaint, Position, Sources};

/// How deeply files may include each other; BIRD's limit.
const MAX_INCLUDE_DEPTH: usize = 8;

/// A token's kind and value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Lexeme {
    /// A keyword or a name.
    Word(Arc<str>),
    /// A name in single quotes.
    Quoted(Arc<str>),
    Number(u32),
    Ip4(Ipv4Addr),
    Ip6(Ipv6Addr),
    /// Text in double quotes.
    Text(Arc<str>),
    /// Punctuation or an operator.
    Sign(&'static str),
    /// The end of the last file.
    End,
}

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) lexeme: Lexeme,
    pub(crate) at: Position,
}

/// Longest first, so that the first match is the longest.
const SIGNS: [&str; 33] = [
    "[=", "=]", "!=", "!~", "<=", ">=", "&&", "||", "..", "{", "}", "(", ")", "[", "]", ";", ",", ":", "=", "<", ">",
    "~", "!", "+", "-", "*", "/", ".", "?", "%", "^", "&", "@",
];

/// Splits a file and all it includes into tokens; the last is [`Lexeme::End`].
pub(crate) fn tokenize(
    name: &str,
    text: &str,
    loader: &mut dyn Loader,
    sources: &mut Sources,
) -> (Vec<Token>, Vec<Complaint>) {
    let mut reader = Reader {
        loader,
        sources,
        tokens: Vec::new(),
        complaints: Vec::new(),
    };
    let end = reader.read(name, text, 1);
    let mut tokens = reader.tokens;
    let complaints = reader.complaints;
    tokens.push(Token {
        lexeme: Lexeme::End,
        at: end,
    });
    (tokens, complaints)
}

struct Reader<'a> {
    loader: &'a mut dyn Loader,
    sources: &'a mut Sources,
    tokens: Vec<Token>,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    /// Reads one file to its end and gives the position there.
    fn read(&mut self, name: &str, text: &str, depth: usize) -> Position {
        let start = Position {
            file: 0,
            line: 1,
            column: 1,
        };
        let Some(file) = self.sources.add(name, text) else {
            self.complaints.push(*Complaint::new(start, "too many files"));
            return start;
        };
        let mut scanner = Scanner {
            rest: text,
            at: Position { file, ..start },
        };
        loop {
            match scanner.next() {
                Ok(None) => return scanner.at,
                Ok(Some(token)) => {
                    let starts_line = self
                        .tokens
                        .last()
                        .is_none_or(|t| (t.at.file, t.at.line) != (file, token.at.line));
                    if starts_line && token.lexeme == Lexeme::Word("include".into()) {
                        if let Err(complaint) = self.include(name, &mut scanner, depth) {
                            self.complaints.push(*complaint);
                        }
                    } else {
                        self.tokens.push(token);
                    }
                }
                Err(complaint) => {
                    self.complaints.push(*complaint);
                    return scanner.at;
                }
            }
        }
    }

    /// `include "PATTERN";`, behind the keyword.
    fn include(&mut self, from: &str, scanner: &mut Scanner<'_>, depth: usize) -> Checked<()> {
        let at = scanner.at;
        let wrong = || {
            Complaint::new(
                at,
                "include: a file name in double quotes and ';' expected, on one line",
            )
        };
        let pattern = match scanner.next()? {
            Some(Token {
                lexeme: Lexeme::Text(pattern),
                at: place,
            }) if place.line == at.line => pattern,
            _ => return Err(wrong()),
        };
        match scanner.next()? {
            Some(Token {
                lexeme: Lexeme::Sign(";"),
                ..
            }) => {}
            _ => return Err(wrong()),
        }
        if depth >= MAX_INCLUDE_DEPTH {
            let message = format!("include \"{pattern}\": more than {MAX_INCLUDE_DEPTH} files include each other");
            return Err(Complaint::new(at, message));
        }
        let files = self.loader.load(from, &pattern);
        let files = files.map_err(|e| Complaint::new(at, format!("include \"{pattern}\": {e}")))?;
        for (name, text) in files {
            self.read(&name, &text, depth + 1);
        }
        Ok(())
    }
}

struct Scanner<'a> {
    rest: &'a str,
    at: Position,
}

impl Scanner<'_> {
    /// Takes so many octets, which end at a character's boundary.
    fn take(&mut self, len: usize) -> &str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.at.line = self.at.line.saturating_add(1);
                self.at.column = 1;
            } else {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        taken
    }

    fn skip_blanks(&mut self) -> Checked<()> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.take(blank);
            if self.rest.starts_with('#') {
                let len = self.rest.find('\n').unwrap_or(self.rest.len());
                self.take(len);
            } else if self.rest.starts_with("/*") {
                let at = self.at;
                let Some(end) = self.rest.get(2..).and_then(|r| r.find("*/")) else {
                    return Err(Complaint::new(at, "this comment has no end: '*/' expected"));
                };
                self.take(end + 4);
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Checked<Option<Token>> {
        self.skip_blanks()?;
        let at = self.at;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let lexeme = match first {
            '"' => self.text(at)?,
            '\'' => self.quoted(at)?,
            '0'..='9' | 'a'..='f' | 'A'..='F' | ':' if self.ip6_len().is_some() => self.ip6(at)?,
            '0'..='9' => self.number_or_ip4(at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let len = run(self.rest, |c| c.is_ascii_alphanumeric() || c == '_');
                Lexeme::Word(self.take(len).into())
            }
            other => match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
                Some(sign) => {
                    self.take(sign.len());
                    Lexeme::Sign(sign)
                }
                None => return Err(Complaint::new(at, format!("unknown character {other:?}"))),
            },
        };
        Ok(Some(Token { lexeme, at }))
    }

    fn text(&mut self, at: Position) -> Checked<Lexeme> {
        let body = self.rest.get(1..).unwrap_or("");
        match body.find(['"', '\n']) {
            Some(end) if body.get(end..).is_some_and(|r| r.starts_with('"')) => {
                let text: Arc<str> = body.get(..end).unwrap_or("").into();
                self.take(end + 2);
                Ok(Lexeme::Text(text))
            }
            _ => Err(Complaint::new(
                at,
                "this text has no end: '\"' expected on the same line",
            )),
        }
    }

    fn quoted(&mut self, at: Position) -> Checked<Lexeme> {
        let body = self.rest.get(1..).unwrap_or("");
        let len = run(body, |c| c.is_ascii_alphanumeric() || "_-.:".contains(c));
        if len == 0 || !body.get(len..).is_some_and(|r| r.starts_with('\'')) {
            let message = "a name in single quotes has letters, digits, '_', '-', '.' and ':' and ends with a quote";
            return Err(Complaint::new(at, message));
        }
        let name: Arc<str> = body.get(..len).unwrap_or("").into();
        self.take(len + 2);
        Ok(Lexeme::Quoted(name))
    }

    /// The length of what BIRD takes for an IPv6 address: hexadecimal digits and colons with `::` or three colons.
    fn ip6_len(&self) -> Option<usize> {
        let mut len = run(self.rest, |c| c.is_ascii_hexdigit() || c == ':');
        let word = self.rest.get(..len)?;
        if !word.contains("::") && word.matches(':').count() < 3 {
            return None;
        }
        // An IPv4 address may be its last group.
        if self.rest.get(len..)?.starts_with('.') && !self.rest.get(len..)?.starts_with("..") {
            let start = word.rfind(':')? + 1;
            if let Some(quad) = ip4_len(self.rest.get(start..)?) {
                len = start + quad;
            }
        }
        Some(len)
    }

    fn ip6(&mut self, at: Position) -> Checked<Lexeme> {
        let len = self.ip6_len().unwrap_or(0);
        let word = self.take(len);
        match word.parse() {
            Ok(addr) => Ok(Lexeme::Ip6(addr)),
            Err(_) => Err(Complaint::new(at, format!("'{word}' is no IPv6 address"))),
        }
    }

    fn number_or_ip4(&mut self, at: Position) -> Checked<Lexeme> {
        if let Some(len) = ip4_len(self.rest) {
            let word = self.take(len);
            return match word.parse() {
                Ok(addr) => Ok(Lexeme::Ip4(addr)),
                Err(_) => Err(Complaint::new(at, format!("'{word}' is no IPv4 address"))),
            };
        }
        let hex = self.rest.get(2..).filter(|_| self.rest.starts_with("0x"));
        let (skip, radix, len) = match hex.map(|r| run(r, |c| c.is_ascii_hexdigit())) {
            Some(len) if len > 0 => (2, 16, len),
            _ => (0, 10, run(self.rest, |c| c.is_ascii_digit())),
        };
        let word = self.take(skip + len);
        let digits = word.get(skip..).unwrap_or("");
        match u32::from_str_radix(digits, radix) {
            Ok(number) => Ok(Lexeme::Number(number)),
            Err(_) => Err(Complaint::new(
                at,
                format!("{word} is out of range: 0 to 4294967295 expected"),
            )),
        }
    }
}

/// The length of the leading characters that satisfy `keep`.
fn run(text: &str, keep: impl Fn(char) -> bool) -> usize {
    text.find(|c| !keep(c)).unwrap_or(text.len())
}

/// The length of four groups of digits with dots between, if the text begins so.
fn ip4_len(text: &str) -> Option<usize> {
    let mut len = 0;
    for group in 0..4 {
        if group > 0 {
            text.get(len..)?.strip_prefix('.')?;
            len += 1;
        }
        let digits = run(text.get(len..)?, |c| c.is_ascii_digit());
        if digits == 0 {
            return None;
        }
        len += digits;
    }
    Some(len)
}
