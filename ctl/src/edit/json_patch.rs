//! JSON Patch (RFC 6902) with JSON Pointers (RFC 6901).

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operation {
    Add(Pointer, Value),
    Remove(Pointer),
    Replace(Pointer, Value),
    Move(Pointer, Pointer),
    Copy(Pointer, Pointer),
    Test(Pointer, Value),
}

/// The way to a value: unescaped names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the whole document cannot be patched away: want a path such as /spec/cidr".to_owned());
        }
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| format!("path '{text}' does not begin with /"))?;
        let steps = path.split('/').map(|s| s.replace("~1", "/").replace("~0", "~"));
        Ok(Pointer {
            text: text.to_owned(),
            steps: steps.collect(),
        })
    }

    fn missing(&self) -> anyhow::Error {
        anyhow!("there is no {}", self.text)
    }

    /// The value that holds the last step, and that step.
    fn parent<'a>(&self, root: &'a mut Value) -> Result<(&'a mut Value, &str)> {
        let (last, way) = self.steps.split_last().context("invariant: a pointer has steps")?;
        let mut at = root;
        for step in way {
            at = child(at, step).ok_or_else(|| self.missing())?;
        }
        Ok((at, last))
    }

    fn get(&self, root: &mut Value) -> Result<Value> {
        let (parent, last) = self.parent(root)?;
        child(parent, last).cloned().ok_or_else(|| self.missing())
    }

    fn add(&self, root: &mut Value, value: Value) -> Result<()> {
        let (parent, last) = self.parent(root)?;
        match parent {
            Value::Object(fields) => {
                fields.insert(last.to_owned(), value);
            }
            Value::Array(items) if last == "-" => items.push(value),
            Value::Array(items) => {
                let index = index(last)
                    .filter(|i| *i <= items.len())
                    .ok_or_else(|| self.missing())?;
                items.insert(index, value);
            }
            _ => return Err(self.missing()),
        }
        Ok(())
    }

    fn remove(&self, root: &mut Value) -> Result<Value> {
        let (parent, last) = self.parent(root)?;
        let removed = match parent {
            Value::Object(fields) => fields.shift_remove(last),
            Value::Array(items) => index(last).filter(|i| *i < items.len()).map(|i| items.remove(i)),
            _ => None,
        };
        removed.ok_or_else(|| self.missing())
    }
}

fn index(step: &str) -> Option<usize> {
    // No leading zeros, no sign.
    let plain = step == "0" || (!step.starts_with('0') && step.bytes().all(|b| b.is_ascii_digit()));
    step.parse().ok().filter(|_| plain)
}

fn child<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(step),
        Value::Array(items) => items.get_mut(index(step)?),
        _ => None,
    }
}

/// Reads a list of operations.
///
/// # Errors
/// Which operation is wrong, and how.
pub(super) fn parse(patch: &Value) -> Result<Vec<Operation>, String> {
    let list = patch.as_array().ok_or("a JSON patch is a list of operations")?;
    let read = |(number, operation): (usize, &Value)| {
        operation_of(operation).map_err(|e| format!("operation {}: {e}", number + 1))
    };
    list.iter().enumerate().map(read).collect()
}

fn operation_of(value: &Value) -> Result<Operation, String> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let pointer = |field: &str| Pointer::parse(text(field).ok_or_else(|| format!("has no {field}"))?);
    let given = || value.get("value").cloned().ok_or_else(|| "has no value".to_owned());
    match text("op").ok_or("has no op")? {
        "add" => Ok(Operation::Add(pointer("path")?, given()?)),
        "remove" => Ok(Operation::Remove(pointer("path")?)),
        "replace" => Ok(Operation::Replace(pointer("path")?, given()?)),
        "move" => Ok(Operation::Move(pointer("from")?, pointer("path")?)),
        "copy" => Ok(Operation::Copy(pointer("from")?, pointer("path")?)),
        "test" => Ok(Operation::Test(pointer("path")?, given()?)),
        other => Err(format!(
            "'{other}' is no operation: want add, remove, replace, move, copy or test"
        )),
    }
}

/// Carries all of them out, in order.
///
/// # Errors
/// The first that cannot be done; the document is then half changed and of no use.
pub(super) fn apply(document: &mut Value, operations: &[Operation]) -> Result<()> {
    for operation in operations {
        match operation {
            Operation::Add(path, value) => path.add(document, value.clone())?,
            Operation::Remove(path) => drop(path.remove(document)?),
            Operation::Replace(path, value) => {
                path.remove(document)?;
                path.add(document, value.clone())?;
            }
            Operation::Move(from, path) => {
                let value = from.remove(document)?;
                path.add(document, value)?;
            }
            Operation::Copy(from, path) => {
                let value = from.get(document)?;
                path.add(document, value)?;
            }
            Operation::Test(path, value) => {
                let found = path.get(document)?;
                if found != *value {
                    bail!("{} is {found}, not {value}", path.text);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut document: Value, patch: Value) -> Result<Value, String> {
        apply(&mut document, &parse(&patch)?).map_err(|e| e.to_string())?;
        Ok(document)
    }

    /// Examples of RFC 6902's appendix A.
    #[test]
    fn the_examples_of_the_rfc() {
        let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
        let cases = [
            (
                json!({"foo": "bar"}),
                add("/baz", json!("qux")),
                json!({"foo": "bar", "baz": "qux"}),
            ),
            (
                json!({"foo": ["bar", "baz"]}),
                add("/foo/1", json!("qux")),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (
                json!({"foo": ["bar"]}),
                add("/foo/-", json!(["a"])),
                json!({"foo": ["bar", ["a"]]}),
            ),
            (
                json!({"b": 1, "f": 2}),
                json!([{"op": "remove", "path": "/b"}]),
                json!({"f": 2}),
            ),
            (
                json!({"f": [1, 2, 3]}),
                json!([{"op": "remove", "path": "/f/1"}]),
                json!({"f": [1, 3]}),
            ),
            (
                json!({"b": 1}),
                json!([{"op": "replace", "path": "/b", "value": 2}]),
                json!({"b": 2}),
            ),
            (
                json!({"foo": {"w": 1}, "q": {}}),
                json!([{"op": "move", "from": "/foo/w", "path": "/q/t"}]),
                json!({"foo": {}, "q": {"t": 1}}),
            ),
            (
                json!({"a": [1]}),
                json!([{"op": "copy", "from": "/a", "path": "/b"}]),
                json!({"a": [1], "b": [1]}),
            ),
            (
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                json!({"/": 9, "~1": 10}),
            ),
        ];
        for (document, patch, want) in cases {
            assert_eq!(patched(document, patch.clone()).unwrap(), want, "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let document = json!({"a": [1], "s": "x"});
        let said = |patch: Value| patched(document.clone(), patch).unwrap_err();
        assert_eq!(said(json!({})), "a JSON patch is a list of operations");
        assert_eq!(said(json!([{"op": "add", "path": "/b"}])), "operation 1: has no value");
        assert_eq!(
            said(json!([{"op": "test", "path": "/s", "value": "y"}])),
            "/s is \"x\", not \"y\""
        );
        for path in ["/b", "/a/1", "/a/00", "/a/-", "/s/x", "/a/x/y"] {
            assert_eq!(
                said(json!([{"op": "remove", "path": path}])),
                format!("there is no {path}")
            );
        }
        assert!(said(json!([{"op": "explode", "path": "/a"}])).contains("'explode' is no operation"));
        assert!(said(json!([{"op": "remove", "path": "a"}])).contains("does not begin with /"));
        assert!(said(json!([{"op": "remove", "path": ""}])).contains("whole document"));
    }
}
