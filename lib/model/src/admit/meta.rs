//! Kind, version and metadata: completed from the key, kept from the old object, checked.

use serde_json::{Map, Value};

use crate::invalid::Invalid;
use crate::key::Key;
use crate::kind::Kind;
use crate::meta::API_VERSION;

/// Longest label value and longest name part of a label.
const LABEL: usize = 63;
/// All annotations of an object together, as Kubernetes limits them.
const ANNOTATIONS: usize = 256 * 1024;

/// Fills in what the key says, takes over what an update may not change, and checks names and labels.
pub(super) fn complete(key: &Key, new: &mut Value, old: Option<&Value>, out: &mut Vec<Invalid>) {
    let Key::Resource { kind, namespace, name } = key else {
        return;
    };
    let Value::Object(fields) = new else { return };
    must_be(fields, "kind", kind.name(), "kind", out);
    must_be(fields, "apiVersion", API_VERSION, "apiVersion", out);
    let meta = fields.entry("metadata").or_insert(Value::Null);
    if meta.is_null() {
        *meta = Value::Object(Map::new());
    }
    let Value::Object(meta) = meta else {
        return out.push(Invalid::json("metadata", meta, "want an object"));
    };
    must_be(meta, "name", name, "metadata.name", out);
    match namespace {
        Some(namespace) => must_be(meta, "namespace", namespace, "metadata.namespace", out),
        None => {
            if let Some(given) = meta.get("namespace").and_then(Value::as_str).filter(|n| !n.is_empty()) {
                out.push(Invalid::new(
                    "metadata.namespace",
                    given,
                    format!("{kind} is not namespaced"),
                ));
            }
        }
    }
    if let Some(given) = meta
        .get("generateName")
        .and_then(Value::as_str)
        .filter(|n| !n.is_empty())
    {
        out.push(Invalid::new(
            "metadata.generateName",
            given,
            "generated names are not supported",
        ));
    }
    meta.remove("resourceVersion");
    keep_identity(meta, old, out);
    check_names(name, namespace.as_deref(), out);
    check_labels(meta, out);
}

/// Sets a field that has only one possible value, unless it says something else.
fn must_be(fields: &mut Map<String, Value>, field: &str, want: &str, path: &str, out: &mut Vec<Invalid>) {
    match fields.get(field) {
        None | Some(Value::Null) => {}
        Some(Value::String(s)) if s.is_empty() || s == want => {}
        Some(other) => return out.push(Invalid::json(path, other, format!("must be {want}"))),
    }
    fields.insert(field.to_owned(), Value::from(want));
}

/// An object keeps its uid and creation time for life.
fn keep_identity(meta: &mut Map<String, Value>, old: Option<&Value>, out: &mut Vec<Invalid>) {
    for field in ["uid", "creationTimestamp"] {
        let Some(before) = old.and_then(|o| o.get("metadata")?.get(field)).filter(|v| !v.is_null()) else {
            continue;
        };
        match meta.get(field) {
            Some(given) if field == "uid" && !given.is_null() && given != before => out.push(Invalid::json(
                "metadata.uid",
                given,
                "is of another object: the one stored under this name was deleted and made again",
            )),
            _ => {
                meta.insert(field.to_owned(), before.clone());
            }
        }
    }
}

fn check_names(name: &str, namespace: Option<&str>, out: &mut Vec<Invalid>) {
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        out.push(Invalid::new(
            "metadata.name",
            name,
            "must be at most 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit",
        ));
    }
    if let Some(namespace) = namespace
        && (namespace.len() > 63 || !is_dns_label(namespace))
    {
        out.push(Invalid::new(
            "metadata.namespace",
            namespace,
            "must be at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
        ));
    }
}

fn is_dns_label(s: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let b = s.as_bytes();
    b.iter().all(|c| alnum(c) || *c == b'-') && b.first().is_some_and(alnum) && b.last().is_some_and(alnum)
}

fn check_labels(meta: &Map<String, Value>, out: &mut Vec<Invalid>) {
    for (map, is_label) in [("labels", true), ("annotations", false)] {
        let Some(Value::Object(pairs)) = meta.get(map) else {
            continue;
        };
        let mut size = 0;
        for (key, value) in pairs {
            let value = value.as_str().unwrap_or_default();
            size += key.len() + value.len();
            if !is_qualified_name(key) {
                let reason =
                    "must be a name of at most 63 letters, digits, '-', '_', '.', perhaps after a DNS prefix and '/'";
                out.push(Invalid::new(format!("metadata.{map}"), key, reason));
            }
            if is_label && !value.is_empty() && !is_name_part(value) {
                let reason =
                    "must be at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit";
                out.push(Invalid::new(format!("metadata.labels.{key}"), value, reason));
            }
        }
        if size > ANNOTATIONS {
            let reason = format!("together at most {ANNOTATIONS} bytes are allowed");
            out.push(Invalid::new(format!("metadata.{map}"), format!("{size} bytes"), reason));
        }
    }
}

fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name_part(key),
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(is_dns_label) && is_name_part(name),
    }
}

fn is_name_part(s: &str) -> bool {
    let b = s.as_bytes();
    s.len() <= LABEL
        && b.iter()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && b.first().is_some_and(u8::is_ascii_alphanumeric)
        && b.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Labels Calico's client puts on every workload endpoint.
pub(super) fn workload_labels(value: &mut Value) {
    let orchestrator = value.get("spec").and_then(|s| s.get("orchestrator")).cloned();
    let namespace = value.get("metadata").and_then(|m| m.get("namespace")).cloned();
    let Some(Value::Object(meta)) = value.get_mut("metadata") else {
        return;
    };
    let labels = meta.entry("labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Value::Object(labels) = labels {
        for (label, set) in [
            ("projectcalico.org/namespace", namespace),
            ("projectcalico.org/orchestrator", orchestrator),
        ] {
            if let Some(text) = set {
                labels.insert(label.to_owned(), text);
            }
        }
    }
    debug_assert_eq!(
        value.get("kind").and_then(Value::as_str),
        Some(Kind::WorkloadEndpoint.name())
    );
}
