//! Merge patches: RFC 7386, and Kubernetes' strategic form of it.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// What a strategic patch says about an object rather than to it.
const DIRECTIVE: &str = "$patch";

/// RFC 7386: null removes a field, objects are merged, everything else is replaced.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(into) = target {
        for (name, value) in fields {
            if value.is_null() {
                into.shift_remove(name);
            } else {
                merge(into.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

/// As [`merge`], with `$patch: replace`, `delete` and `merge` in objects. No list of Calico's resources has a merge key, so
/// lists are replaced, as they are in calicoctl.
///
/// # Errors
/// A directive that is none.
pub(super) fn strategic(target: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    let directive = fields.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default());
    match directive {
        Some("replace") => *target = Value::Object(Map::new()),
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => bail!("{DIRECTIVE} is '{other}': want replace, delete or merge"),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(into) = target {
        for (name, value) in fields.iter().filter(|(name, _)| *name != DIRECTIVE) {
            let mut merged = into.get(name).cloned().unwrap_or(Value::Null);
            strategic(&mut merged, value)?;
            if merged.is_null() {
                into.shift_remove(name);
            } else {
                into.insert(name.clone(), merged);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The table of RFC 7386's appendix, but for the rows whose target is no object.
    #[test]
    fn the_examples_of_the_rfc() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (target, patch, want) in cases {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, want, "{target} {patch}");
            let mut merged = target.clone();
            strategic(&mut merged, &patch).unwrap();
            assert_eq!(merged, want, "{target} {patch}");
        }
    }

    #[test]
    fn directives() {
        let target = json!({"spec": {"bgp": {"asNumber": 1, "ipv4Address": "x"}, "a": 1}});
        let patched = |patch: Value| {
            let mut merged = target.clone();
            strategic(&mut merged, &patch).map(|()| merged)
        };
        let replaced = patched(json!({"spec": {"bgp": {"$patch": "replace", "asNumber": 2}}})).unwrap();
        assert_eq!(replaced, json!({"spec": {"bgp": {"asNumber": 2}, "a": 1}}));
        let deleted = patched(json!({"spec": {"bgp": {"$patch": "delete"}}})).unwrap();
        assert_eq!(deleted, json!({"spec": {"a": 1}}));
        assert!(patched(json!({"spec": {"$patch": "explode"}})).is_err());
    }
}
