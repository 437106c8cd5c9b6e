//! A tree and a schema to JSON: every scalar gets the type its field has.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::did_you_mean;
use super::tree::{Node, Shape};
use crate::invalid::Invalid;
use crate::schema::{Field, Ty};

/// What an unquoted word means to YAML readers.
enum Plain {
    Null,
    Bool(bool),
    Int(Number),
    /// A number that readers disagree about or that is not whole: `012`, `0x1f`, `1.50`.
    OtherNumber,
    Text,
}

/// Collects what is wrong, and the line of every field.
#[derive(Default)]
pub(super) struct Converter {
    pub(super) problems: Vec<(usize, Invalid)>,
    pub(super) lines: BTreeMap<String, usize>,
}

impl Converter {
    /// An object with known fields; `path` is empty for the document itself.
    pub(super) fn object(&mut self, node: &Node, fields: &[Field], path: &str) -> Value {
        let mut map = Map::new();
        let Shape::Map(entries) = &node.shape else {
            return self.mismatch(node, path, "an object");
        };
        for entry in entries {
            let path = if path.is_empty() {
                entry.key.clone()
            } else {
                format!("{path}.{}", entry.key)
            };
            self.lines.insert(path.clone(), entry.line);
            let Some(field) = fields.iter().find(|f| f.name == entry.key) else {
                let hint = did_you_mean(&entry.key, fields.iter().map(|f| f.name));
                let invalid = Invalid::new(path, shown(&entry.value), format!("unknown field{hint}"));
                self.problems.push((entry.line, invalid));
                continue;
            };
            let value = self.value(&entry.value, &field.ty, &path);
            // An empty value is the same as none, as Go reads it.
            if !value.is_null() {
                map.insert(entry.key.clone(), value);
            }
        }
        Value::Object(map)
    }

    fn value(&mut self, node: &Node, ty: &Ty, path: &str) -> Value {
        self.lines.entry(path.to_owned()).or_insert(node.line);
        match (ty, &node.shape) {
            (Ty::Any, _) => self.any(node, path),
            _ if node.is_null() => Value::Null,
            (Ty::Object(fields), Shape::Map(_)) => self.object(node, fields, path),
            (Ty::List(item, _), Shape::Seq(items)) => {
                let each = items.iter().enumerate();
                Value::Array(
                    each.map(|(i, node)| self.value(node, item, &format!("{path}[{i}]")))
                        .collect(),
                )
            }
            (Ty::TextMap, Shape::Map(entries)) => {
                let mut map = Map::new();
                for entry in entries {
                    let path = format!("{path}.{}", entry.key);
                    self.lines.insert(path.clone(), entry.line);
                    let empty = entry.value.is_null();
                    let value = if empty {
                        Value::from("")
                    } else {
                        self.scalar(&entry.value, ty, &path)
                    };
                    map.insert(entry.key.clone(), value);
                }
                Value::Object(map)
            }
            (Ty::Bool | Ty::Int(..) | Ty::Text(_) | Ty::OneOf(_) | Ty::Asn, Shape::Scalar { .. }) => {
                self.scalar(node, ty, path)
            }
            (
                Ty::Bool
                | Ty::Int(..)
                | Ty::Text(_)
                | Ty::OneOf(_)
                | Ty::Asn
                | Ty::List(..)
                | Ty::Object(_)
                | Ty::TextMap,
                _,
            ) => self.mismatch(node, path, ty.wanted()),
        }
    }

    fn mismatch(&mut self, node: &Node, path: &str, wanted: &str) -> Value {
        self.problems
            .push((node.line, Invalid::new(path, shown(node), format!("want {wanted}"))));
        Value::Null
    }

    fn scalar(&mut self, node: &Node, ty: &Ty, path: &str) -> Value {
        let Shape::Scalar { text, plain } = &node.shape else {
            return self.mismatch(node, path, "text");
        };
        let meaning = if *plain { plain_meaning(text) } else { Plain::Text };
        match (ty, meaning) {
            (Ty::Bool, Plain::Bool(b)) => Value::Bool(b),
            (Ty::Bool, _) => self.mismatch(node, path, "true or false, without quotes"),
            (Ty::Int(..) | Ty::Asn, Plain::Int(n)) => Value::Number(n),
            (Ty::Int(..), _) => self.mismatch(node, path, "a whole number, without quotes"),
            (_, Plain::Text) => Value::from(text.as_str()),
            (Ty::Asn, _) => self.mismatch(node, path, "an AS number; high.low needs quotes"),
            (_, Plain::Null | Plain::Bool(_) | Plain::Int(_) | Plain::OtherNumber) => self.mismatch(
                node,
                path,
                &format!("text: write \"{text}\" in quotes, without them it is another value"),
            ),
        }
    }

    /// A value of a field that is not looked into.
    fn any(&mut self, node: &Node, path: &str) -> Value {
        match &node.shape {
            Shape::Scalar { text, plain: false } => Value::from(text.as_str()),
            Shape::Scalar { text, plain: true } => match plain_meaning(text) {
                Plain::Null => Value::Null,
                Plain::Bool(b) => Value::Bool(b),
                Plain::Int(n) => Value::Number(n),
                Plain::OtherNumber => match text.parse::<f64>().ok().and_then(Number::from_f64) {
                    Some(n) if !text.starts_with('0') || text.starts_with("0.") => Value::Number(n),
                    _ => self.mismatch(node, path, "a number that all readers agree about, or quotes"),
                },
                Plain::Text => Value::from(text.as_str()),
            },
            Shape::Seq(items) => Value::Array(items.iter().map(|item| self.any(item, path)).collect()),
            Shape::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), self.any(&e.value, path)))
                    .collect(),
            ),
        }
    }
}

fn plain_meaning(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Plain::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Plain::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits && (digits == "0" || !digits.starts_with('0')) {
        let number = text.strip_prefix('+').unwrap_or(text);
        let number = number
            .parse::<i64>()
            .map(Number::from)
            .or_else(|_| number.parse::<u64>().map(Number::from));
        return number.map_or(Plain::OtherNumber, Plain::Int);
    }
    let special = matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan");
    let based = digits.len() > 2 && ["0x", "0o", "0b"].iter().any(|p| digits.starts_with(p));
    // Rust reads words such as "inf" and "infinity" as numbers, YAML does not.
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok();
    if special || based || numeric {
        Plain::OtherNumber
    } else {
        Plain::Text
    }
}

fn shown(node: &Node) -> String {
    match &node.shape {
        Shape::Scalar { text, .. } => text.clone(),
        Shape::Seq(items) => format!("a list of {}", items.len()),
        Shape::Map(_) => "an object".to_owned(),
    }
}
