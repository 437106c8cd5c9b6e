//! Functions that templates may call, besides those of Go's text/template.
//!
//! The engine takes plain function pointers, so the one piece of context, the object being rendered, is kept for the
//! thread: `object` sets it, an error report reads it.

use std::cell::RefCell;

use gtmpl_ng::{Func, FuncError, Value};

thread_local! {
    static OBJECT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Forgets the object of the last rendering, giving it back.
pub(super) fn take_object() -> Option<String> {
    OBJECT.with(|o| o.borrow_mut().take())
}

/// All of them, by name.
pub(super) const FUNCTIONS: &[(&str, Func)] = &[
    ("object", object),
    ("fail", fail),
    ("quote", quote),
    ("ttlMin", ttl_min),
    ("join", join),
    ("split", split),
    ("contains", contains),
    ("hasPrefix", has_prefix),
    ("replace", replace),
    ("reverse", reverse),
    ("toUpper", to_upper),
    ("toLower", to_lower),
];

/// `object ORIGIN`: `KIND NAME, revision N`, and the object that errors name from now on.
fn object(args: &[Value]) -> Result<Value, FuncError> {
    let [Value::Map(fields) | Value::Object(fields)] = args else {
        return Err(wants("object", "one origin, a map with kind, name and revision"));
    };
    let field = |name: &str| fields.get(name).map(ToString::to_string);
    let (Some(kind), Some(name), Some(revision)) = (field("kind"), field("name"), field("revision")) else {
        return Err(wants("object", "one origin, a map with kind, name and revision"));
    };
    let text = format!("{kind} {name}, revision {revision}");
    OBJECT.with(|o| *o.borrow_mut() = Some(text.clone()));
    Ok(Value::String(text))
}

/// `fail MESSAGE ORIGIN`: ends the rendering with this message, which then names the object.
fn fail(args: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(message), origin] = args else {
        return Err(wants("fail", "a text and an origin"));
    };
    object(std::slice::from_ref(origin))?;
    Err(FuncError::Generic(message.clone()))
}

/// `quote TEXT`: a string of JSON, which is one of YAML too.
fn quote(args: &[Value]) -> Result<Value, FuncError> {
    let [text] = texts("quote", args)?;
    Ok(Value::String(serde_json::Value::from(text).to_string()))
}

/// `ttlMin HOPS`: the least TTL that a packet has which took at most so many hops (RFC 5082).
fn ttl_min(args: &[Value]) -> Result<Value, FuncError> {
    match args {
        [Value::Number(hops)] => match hops.as_u64() {
            Some(hops @ 1..=255) => Ok(Value::from(256 - hops)),
            _ => Err(wants("ttlMin", "a number from 1 to 255")),
        },
        _ => Err(wants("ttlMin", "a number from 1 to 255")),
    }
}

/// `join LIST SEPARATOR`.
fn join(args: &[Value]) -> Result<Value, FuncError> {
    let [Value::Array(items), Value::String(separator)] = args else {
        return Err(wants("join", "a list and a separator"));
    };
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(Value::String(texts.join(separator)))
}

/// `split TEXT SEPARATOR`.
fn split(args: &[Value]) -> Result<Value, FuncError> {
    let [text, separator] = texts("split", args)?;
    Ok(Value::Array(
        text.split(separator).map(|s| Value::String(s.to_owned())).collect(),
    ))
}

/// `contains TEXT PART`.
fn contains(args: &[Value]) -> Result<Value, FuncError> {
    let [text, part] = texts("contains", args)?;
    Ok(Value::Bool(text.contains(part)))
}

/// `hasPrefix TEXT PREFIX`.
fn has_prefix(args: &[Value]) -> Result<Value, FuncError> {
    let [text, prefix] = texts("hasPrefix", args)?;
    Ok(Value::Bool(text.starts_with(prefix)))
}

/// `replace TEXT OLD NEW`, everywhere; with a number behind, so many times; -1 is everywhere.
fn replace(args: &[Value]) -> Result<Value, FuncError> {
    let (args, times) = match args {
        [rest @ .., Value::Number(n)] => (rest, n.as_i64()),
        _ => (args, None),
    };
    let [text, old, new] = texts("replace", args)?;
    Ok(Value::String(match times.and_then(|n| usize::try_from(n).ok()) {
        Some(times) => text.replacen(old, new, times),
        None => text.replace(old, new),
    }))
}

/// `reverse LIST`: the last one first.
fn reverse(args: &[Value]) -> Result<Value, FuncError> {
    let [Value::Array(items)] = args else {
        return Err(wants("reverse", "a list"));
    };
    Ok(Value::Array(items.iter().rev().cloned().collect()))
}

/// `toUpper TEXT`.
fn to_upper(args: &[Value]) -> Result<Value, FuncError> {
    let [text] = texts("toUpper", args)?;
    Ok(Value::String(text.to_uppercase()))
}

/// `toLower TEXT`.
fn to_lower(args: &[Value]) -> Result<Value, FuncError> {
    let [text] = texts("toLower", args)?;
    Ok(Value::String(text.to_lowercase()))
}

fn texts<'a, const N: usize>(function: &str, args: &'a [Value]) -> Result<[&'a str; N], FuncError> {
    let all: Option<Vec<&str>> = args
        .iter()
        .map(|v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
        .collect();
    all.and_then(|v| v.try_into().ok())
        .ok_or_else(|| wants(function, &format!("{N} text(s)")))
}

fn wants(function: &str, what: &str) -> FuncError {
    FuncError::Generic(format!("{function} wants {what}"))
}
