//! Why an object is refused, in the form Calico's users and scripts know.

use std::fmt;

use serde_json::Value;

/// Values longer than this are cut in messages.
const SHOWN: usize = 120;

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, such as `spec.cidr` or `spec.exportV4[0].cidr`.
    pub field: String,
    /// Its value as text; objects and lists as JSON.
    pub value: String,
    /// The rule.
    pub reason: String,
}

impl Invalid {
    /// A field with this value breaks this rule.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Invalid {
            field: field.into(),
            value: cut(value.to_string()),
            reason: reason.to_string(),
        }
    }

    /// The same for a JSON value.
    pub(crate) fn json(field: &str, value: &Value, reason: impl fmt::Display) -> Self {
        Invalid::new(field, shown(value), reason)
    }
}

/// A JSON value as messages show it: text without quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(at);
        text.push('…');
    }
    text
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = '{}' ({})", self.field, self.value, self.reason)
    }
}

/// An object that is not accepted, with every reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The object, as [`crate::Key::object_name`] has it.
    pub object: String,
    /// Why; never empty.
    pub invalid: Vec<Invalid>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invalid.as_slice() {
            [only] => write!(f, "{}: error with field {only}", self.object),
            all => {
                write!(f, "{}: error with the following fields:", self.object)?;
                all.iter().try_for_each(|invalid| write!(f, "\n-  {invalid}"))
            }
        }
    }
}

impl std::error::Error for Refused {}
