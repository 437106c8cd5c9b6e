//! What fields each kind has and what a field by itself may hold: Calico's CRD schemas as tables.
//!
//! Rules that concern several fields or objects are in [`crate::admit`]. Fields a table does not name are let through
//! here, since a newer writer may have stored them; the manifest reader refuses them, since a person has misspelt them.

pub(crate) mod documents;
mod felix;
mod format;
mod tables;

pub(crate) use format::community;

use serde_json::Value;

use crate::invalid::Invalid;
use crate::kind::Kind;

/// What a field may hold.
#[derive(Clone, Copy)]
pub(crate) enum Ty {
    /// true or false.
    Bool,
    /// A whole number within bounds, both inclusive.
    Int(i64, i64),
    /// Text that follows a rule.
    Text(fn(&str) -> Result<(), String>),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// An AS number, as a number or as text.
    Asn,
    /// A list of at most so many items.
    List(&'static Ty, usize),
    /// An object with these fields.
    Object(&'static [Field]),
    /// An object with free field names and text values.
    TextMap,
    /// Not looked into.
    Any,
}

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) ty: Ty,
    required: bool,
}

/// A field that may be absent.
const fn opt(name: &'static str, ty: Ty) -> Field {
    Field {
        name,
        ty,
        required: false,
    }
}

/// A field that must be present.
const fn req(name: &'static str, ty: Ty) -> Field {
    Field {
        name,
        ty,
        required: true,
    }
}

/// The fields of a whole resource of this kind, or `None` when Tortie does not act on the kind.
pub(crate) fn of(kind: Kind) -> Option<&'static [Field]> {
    tables::of(kind)
}

impl Ty {
    /// What is wanted, for messages about a value of another type.
    pub(crate) fn wanted(&self) -> &'static str {
        match self {
            Ty::Bool => "true or false",
            Ty::Int(..) => "a whole number",
            Ty::Text(_) | Ty::OneOf(_) => "text",
            Ty::Asn => "an AS number",
            Ty::List(..) => "a list",
            Ty::Object(_) => "an object",
            Ty::TextMap => "an object with text values",
            Ty::Any => "any value",
        }
    }
}

/// Checks an object's fields, appending what is wrong.
pub(crate) fn check_fields(value: &Value, fields: &[Field], path: &str, out: &mut Vec<Invalid>) {
    let Value::Object(map) = value else {
        return out.push(Invalid::json(path, value, "want an object"));
    };
    for field in fields {
        let path = if path.is_empty() {
            field.name.to_owned()
        } else {
            format!("{path}.{}", field.name)
        };
        match map.get(field.name) {
            // Go writes empty texts and nulls where it means nothing.
            None | Some(Value::Null) if field.required => out.push(Invalid::new(path, "", "required field is missing")),
            Some(Value::String(s)) if s.is_empty() && field.required => {
                out.push(Invalid::new(path, "", "required field is empty"));
            }
            None | Some(Value::Null) => {}
            Some(value) => check(value, &field.ty, &path, out),
        }
    }
}

/// Checks one value, appending what is wrong.
fn check(value: &Value, ty: &Ty, path: &str, out: &mut Vec<Invalid>) {
    let mut bad = |reason: String| out.push(Invalid::json(path, value, reason));
    match (ty, value) {
        (Ty::Any, _) | (Ty::Bool, Value::Bool(_)) => {}
        (Ty::Int(min, max), Value::Number(n)) => {
            if !n.as_i64().is_some_and(|n| (*min..=*max).contains(&n)) {
                bad(format!("must be a whole number from {min} to {max}"));
            }
        }
        (Ty::Text(_) | Ty::OneOf(_) | Ty::Asn, Value::String(s)) if s.is_empty() => {}
        (Ty::Text(rule), Value::String(s)) => {
            if let Err(reason) = rule(s) {
                bad(reason);
            }
        }
        (Ty::OneOf(texts), Value::String(s)) => {
            if !texts.contains(&s.as_str()) {
                bad(format!("must be one of: {}", texts.join(", ")));
            }
        }
        (Ty::Asn, Value::String(_) | Value::Number(_)) => {
            if serde_json::from_value::<tortie_net::Asn>(value.clone()).is_err() {
                bad("must be an AS number: 0 to 4294967295, or high.low".to_owned());
            }
        }
        (Ty::List(item, max), Value::Array(list)) => {
            if list.len() > *max {
                bad(format!("has {} items, the most is {max}", list.len()));
            }
            for (i, value) in list.iter().enumerate() {
                check(value, item, &format!("{path}[{i}]"), out);
            }
        }
        (Ty::Object(fields), Value::Object(_)) => check_fields(value, fields, path, out),
        (Ty::TextMap, Value::Object(map)) => {
            for (key, value) in map.iter().filter(|(_, v)| !v.is_string()) {
                out.push(Invalid::json(&format!("{path}.{key}"), value, "want text"));
            }
        }
        (
            Ty::Bool | Ty::Int(..) | Ty::Text(_) | Ty::OneOf(_) | Ty::Asn | Ty::List(..) | Ty::Object(_) | Ty::TextMap,
            _,
        ) => bad(format!("want {}", ty.wanted())),
    }
}
