//! Calico's selector language: boolean expressions over labels.
//!
//! A selector keeps the text it was read from, and has a canonical text and an id that are byte for byte Calico's, since
//! ids of that form name sets in the data plane. `global()` parses, and matches everything: where it is allowed it is
//! replaced before evaluation; where it is not, validation refuses it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha224};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{BadSelector, Why};

/// Labels, by name.
pub trait Labels {
    /// The value of a label, if the object has it.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// A selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    text: String,
    expr: Expr,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Expr {
    All,
    Global,
    Has(String),
    Test {
        label: String,
        op: Op,
        value: String,
    },
    /// Values are sorted and unique.
    In {
        label: String,
        values: Vec<String>,
        negated: bool,
    },
    Not(Box<Expr>),
    /// Two or more operands.
    And(Vec<Expr>),
    /// Two or more operands.
    Or(Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Op {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
}

impl Selector {
    /// Selects everything.
    pub fn all() -> Self {
        Selector {
            text: "all()".to_owned(),
            expr: Expr::All,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Calico's canonical text: equal for selectors that differ only in spacing, quotes, or the order within sets.
    pub fn canonical(&self) -> String {
        self.expr.to_string()
    }

    /// Calico's id: `s:` and the SHA-224 of `s:` and the canonical text, in unpadded URL-safe base64. Selectors with the
    /// same canonical text have the same id; it names sets of endpoints in the data plane.
    pub fn unique_id(&self) -> String {
        format!("s:{}", base64url(&Sha224::digest(format!("s:{}", self.canonical()))))
    }

    /// Does it select an object with these labels?
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.expr.matches(labels)
    }

    /// Does `global()` occur in it?
    pub fn mentions_global(&self) -> bool {
        self.expr.mentions_global()
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        Ok(Selector {
            expr: parse::parse(text)?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Expr {
    fn matches(&self, labels: &impl Labels) -> bool {
        match self {
            Expr::All | Expr::Global => true,
            Expr::Has(label) => labels.label(label).is_some(),
            Expr::Test { label, op, value } => op.holds(labels.label(label), value),
            Expr::In { label, values, negated } => {
                let is_in = labels
                    .label(label)
                    .is_some_and(|v| values.binary_search_by(|x| x.as_str().cmp(v)).is_ok());
                is_in != *negated
            }
            Expr::Not(inner) => !inner.matches(labels),
            Expr::And(all) => all.iter().all(|e| e.matches(labels)),
            Expr::Or(any) => any.iter().any(|e| e.matches(labels)),
        }
    }

    fn mentions_global(&self) -> bool {
        match self {
            Expr::Global => true,
            Expr::All | Expr::Has(_) | Expr::Test { .. } | Expr::In { .. } => false,
            Expr::Not(inner) => inner.mentions_global(),
            Expr::And(list) | Expr::Or(list) => list.iter().any(Expr::mentions_global),
        }
    }
}

impl Op {
    /// An absent label is unequal to everything, and contains nothing.
    fn holds(self, have: Option<&str>, want: &str) -> bool {
        match self {
            Op::Equal => have == Some(want),
            Op::NotEqual => have != Some(want),
            Op::Contains => have.is_some_and(|h| h.contains(want)),
            Op::StartsWith => have.is_some_and(|h| h.starts_with(want)),
            Op::EndsWith => have.is_some_and(|h| h.ends_with(want)),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Op::Equal => "==",
            Op::NotEqual => "!=",
            Op::Contains => "contains",
            Op::StartsWith => "starts with",
            Op::EndsWith => "ends with",
        }
    }
}

/// RFC 4648 section 5, without padding.
fn base64url(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = group
            .iter()
            .enumerate()
            .fold(0u32, |bits, (i, octet)| bits | u32::from(*octet) << (16 - 8 * i));
        // n octets need n + 1 digits.
        text.extend((0..=group.len()).map(|i| char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize])));
    }
    text
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Has(label) => write!(f, "has({label})"),
            Expr::Test { label, op, value } => write!(f, "{label} {} {}", op.as_str(), Quoted(value)),
            Expr::In { label, values, negated } => {
                write!(f, "{label} {} {{", if *negated { "not in" } else { "in" })?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { ", " }, Quoted(value))?;
                }
                f.write_str("}")
            }
            Expr::Not(inner) => write!(f, "!{inner}"),
            Expr::And(list) => join(f, list, " && "),
            Expr::Or(list) => join(f, list, " || "),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, list: &[Expr], operator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (i, operand) in list.iter().enumerate() {
        write!(f, "{}{operand}", if i == 0 { "" } else { operator })?;
    }
    f.write_str(")")
}
