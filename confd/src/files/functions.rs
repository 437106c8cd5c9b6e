//! What confd's users call in templates: keys, paths, lists, numbers, addresses.
//!
//! The engine takes plain function pointers, so the keys of the rendering are kept for the thread: [`with_keys`].
//! Every function depends on its arguments and on the keys alone; `getenv` and `fileExists` ask this process's surroundings. There
//! is no clock and no DNS: a text that changes by itself would be written and reloaded without end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gtmpl_ng::{Func, FuncError, Value};
use tortie_net::Prefix;

use super::keys::Keys;
use crate::render::value;

thread_local! {
    static KEYS: RefCell<Arc<Keys>> = RefCell::default();
}

/// Longest list that `seq` makes.
const MAX_SEQUENCE: i64 = 1_000_000;

/// Renders with these keys.
pub(super) fn with_keys<T>(keys: &Arc<Keys>, render: impl FnOnce() -> T) -> T {
    KEYS.with(|k| k.replace(Arc::clone(keys)));
    let done = render();
    KEYS.with(RefCell::take);
    done
}

/// All of them, by name.
pub(super) const FUNCTIONS: &[(&str, Func)] = &[
    ("exists", exists),
    ("get", get),
    ("getv", getv),
    ("gets", gets),
    ("getvs", getvs),
    ("ls", |args| names("ls", args, false)),
    ("lsdir", |args| names("lsdir", args, true)),
    ("base", base),
    ("dir", dir),
    ("json", |args| parsed("json", args, serde_json::Value::is_object)),
    ("jsonArray", |args| {
        parsed("jsonArray", args, serde_json::Value::is_array)
    }),
    ("map", map),
    ("getenv", getenv),
    ("fileExists", file_exists),
    ("trimSuffix", trim_suffix),
    ("parseBool", parse_bool),
    ("base64Encode", base64_encode),
    ("base64Decode", base64_decode),
    ("sortByLength", sort_by_length),
    ("sortKVByLength", sort_by_key_length),
    ("add", |args| calculated("add", args, i64::checked_add)),
    ("sub", |args| calculated("sub", args, i64::checked_sub)),
    ("mul", |args| calculated("mul", args, i64::checked_mul)),
    ("div", |args| calculated("div", args, i64::checked_div)),
    ("mod", |args| calculated("mod", args, i64::checked_rem)),
    ("seq", seq),
    ("atoi", atoi),
    ("ipv4", |args| of_family("ipv4", args, true)),
    ("ipv6", |args| of_family("ipv6", args, false)),
    ("cidrAddress", |args| {
        cidr("cidrAddress", args, |_, ip, _| Value::String(ip.to_string()))
    }),
    ("cidrLength", |args| {
        cidr("cidrLength", args, |_, _, length| Value::from(u64::from(length)))
    }),
    ("cidrNetwork", |args| {
        cidr("cidrNetwork", args, |network, _, _| Value::String(network.to_string()))
    }),
];

fn wants(function: &str, what: &str) -> FuncError {
    FuncError::Generic(format!("{function} wants {what}"))
}

fn fails(function: &str, why: impl std::fmt::Display) -> FuncError {
    FuncError::Generic(format!("{function}: {why}"))
}

fn text<'a>(function: &str, args: &'a [Value], at: usize, what: &str) -> Result<&'a str, FuncError> {
    match args.get(at) {
        Some(Value::String(s)) => Ok(s),
        _ => Err(wants(function, what)),
    }
}

fn one<'a>(function: &str, args: &'a [Value], what: &str) -> Result<&'a str, FuncError> {
    match args {
        [Value::String(s)] => Ok(s),
        _ => Err(wants(function, what)),
    }
}

fn number(function: &str, value: &Value) -> Result<i64, FuncError> {
    match value {
        Value::Number(n) => n.as_i64().ok_or_else(|| wants(function, "whole numbers")),
        _ => Err(wants(function, "whole numbers")),
    }
}

fn list<'a>(function: &str, args: &'a [Value]) -> Result<&'a [Value], FuncError> {
    match args.first() {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(wants(function, "a list")),
    }
}

/// As Go's `KVPair`: `.Key` and `.Value`.
fn pair(key: &str, value: &str) -> Value {
    Value::Map(HashMap::from([
        ("Key".to_owned(), Value::String(key.to_owned())),
        ("Value".to_owned(), Value::String(value.to_owned())),
    ]))
}

fn no_key(function: &str, key: &str) -> FuncError {
    fails(function, format!("there is no key '{key}'"))
}

/// `exists KEY`.
fn exists(args: &[Value]) -> Result<Value, FuncError> {
    let key = one("exists", args, "a key")?;
    Ok(Value::Bool(KEYS.with_borrow(|k| k.get(key).is_some())))
}

/// `get KEY`: the pair.
fn get(args: &[Value]) -> Result<Value, FuncError> {
    let key = one("get", args, "a key")?;
    let found = KEYS.with_borrow(|k| k.get(key).map(|v| pair(&super::keys::normal(key), v)));
    found.ok_or_else(|| no_key("get", key))
}

/// `getv KEY [DEFAULT]`: the value.
fn getv(args: &[Value]) -> Result<Value, FuncError> {
    let key = text("getv", args, 0, "a key, and a default or none")?;
    let found = KEYS.with_borrow(|k| k.get(key).map(|v| Value::String(v.to_owned())));
    match (found, args) {
        (Some(value), [_] | [_, _]) => Ok(value),
        (None, [_, default]) => Ok(default.clone()),
        (None, [_]) => Err(no_key("getv", key)),
        _ => Err(wants("getv", "a key, and a default or none")),
    }
}

fn matched(function: &str, args: &[Value], show: fn(&str, &str) -> Value) -> Result<Value, FuncError> {
    let pattern = one(function, args, "a pattern")?;
    KEYS.with_borrow(|keys| {
        let found = keys.matching(pattern).map_err(|e| fails(function, e))?;
        Ok(Value::Array(found.into_iter().map(|(k, v)| show(k, v)).collect()))
    })
}

/// `gets PATTERN`: the pairs.
fn gets(args: &[Value]) -> Result<Value, FuncError> {
    matched("gets", args, pair)
}

/// `getvs PATTERN`: the values.
fn getvs(args: &[Value]) -> Result<Value, FuncError> {
    matched("getvs", args, |_, v| Value::String(v.to_owned()))
}

/// `ls PATH`, `lsdir PATH`: names directly below.
fn names(function: &str, args: &[Value], parents: bool) -> Result<Value, FuncError> {
    let path = one(function, args, "a path")?;
    let text = |n: &str| Value::String(n.to_owned());
    Ok(Value::Array(KEYS.with_borrow(|k| {
        k.children(path, parents).into_iter().map(text).collect()
    })))
}

/// `base PATH`: its last name.
fn base(args: &[Value]) -> Result<Value, FuncError> {
    let path = one("base", args, "a path")?.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    Ok(Value::String(name.to_owned()))
}

/// `dir PATH`: all but its last name.
fn dir(args: &[Value]) -> Result<Value, FuncError> {
    let path = one("dir", args, "a path")?;
    let dir = match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((dir, _)) => dir,
        None => ".",
    };
    Ok(Value::String(dir.to_owned()))
}

/// `json TEXT`: an object; `jsonArray TEXT`: a list.
fn parsed(function: &str, args: &[Value], is: fn(&serde_json::Value) -> bool) -> Result<Value, FuncError> {
    let json: serde_json::Value =
        serde_json::from_str(one(function, args, "JSON text")?).map_err(|e| fails(function, e))?;
    let wrong = || fails(function, "the text is JSON of another type");
    is(&json).then(|| value(&json)).ok_or_else(wrong)
}

/// `map KEY VALUE ...`.
fn map(args: &[Value]) -> Result<Value, FuncError> {
    let mut fields = HashMap::new();
    for pair in args.chunks(2) {
        let [Value::String(key), value] = pair else {
            return Err(wants("map", "keys, which are texts, each with a value"));
        };
        fields.insert(key.clone(), value.clone());
    }
    Ok(Value::Map(fields))
}

/// `getenv NAME [DEFAULT]`: empty when neither is there.
fn getenv(args: &[Value]) -> Result<Value, FuncError> {
    let name = text("getenv", args, 0, "a name, and a default or none")?;
    let default = args.get(1).cloned().unwrap_or_else(|| Value::String(String::new()));
    let set = (!name.is_empty() && !name.contains(['=', '\0'])).then(|| std::env::var(name).ok());
    Ok(set.flatten().filter(|v| !v.is_empty()).map_or(default, Value::String))
}

/// `fileExists PATH`.
fn file_exists(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::Bool(
        std::path::Path::new(one("fileExists", args, "a path")?).exists(),
    ))
}

/// `trimSuffix TEXT SUFFIX`.
fn trim_suffix(args: &[Value]) -> Result<Value, FuncError> {
    let (all, suffix) = (
        text("trimSuffix", args, 0, "a text and a suffix")?,
        text("trimSuffix", args, 1, "a text and a suffix")?,
    );
    Ok(Value::String(all.strip_suffix(suffix).unwrap_or(all).to_owned()))
}

/// `parseBool TEXT`, as Go reads one.
fn parse_bool(args: &[Value]) -> Result<Value, FuncError> {
    match one("parseBool", args, "a text")? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
        other => Err(fails("parseBool", format!("'{other}' is neither true nor false"))),
    }
}

/// `base64Encode TEXT`.
fn base64_encode(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(STANDARD.encode(one("base64Encode", args, "a text")?)))
}

/// `base64Decode TEXT`.
fn base64_decode(args: &[Value]) -> Result<Value, FuncError> {
    let octets = STANDARD.decode(one("base64Decode", args, "a text")?);
    let octets = octets.map_err(|e| fails("base64Decode", e))?;
    let text = String::from_utf8(octets).map_err(|_| fails("base64Decode", "what comes out is no UTF-8 text"))?;
    Ok(Value::String(text))
}

fn sorted(function: &str, args: &[Value], length: fn(&Value) -> usize) -> Result<Value, FuncError> {
    let mut items = list(function, args)?.to_vec();
    items.sort_by_key(length);
    Ok(Value::Array(items))
}

/// `sortByLength LIST`: the shortest first.
fn sort_by_length(args: &[Value]) -> Result<Value, FuncError> {
    sorted("sortByLength", args, |v| v.to_string().len())
}

/// `sortKVByLength PAIRS`: by their keys, the shortest first.
fn sort_by_key_length(args: &[Value]) -> Result<Value, FuncError> {
    sorted("sortKVByLength", args, |v| match v {
        Value::Map(fields) => fields.get("Key").map_or(0, |k| k.to_string().len()),
        _ => 0,
    })
}

fn calculated(function: &str, args: &[Value], of: fn(i64, i64) -> Option<i64>) -> Result<Value, FuncError> {
    let [a, b] = args else {
        return Err(wants(function, "two whole numbers"));
    };
    let result = of(number(function, a)?, number(function, b)?);
    result
        .map(Value::from)
        .ok_or_else(|| fails(function, "there is no such number"))
}

/// `seq FIRST LAST`: the whole numbers from the one to the other.
fn seq(args: &[Value]) -> Result<Value, FuncError> {
    let [first, last] = args else {
        return Err(wants("seq", "two whole numbers"));
    };
    let (first, last) = (number("seq", first)?, number("seq", last)?);
    if last.saturating_sub(first) >= MAX_SEQUENCE {
        return Err(fails("seq", format!("more than {MAX_SEQUENCE} numbers")));
    }
    Ok(Value::Array((first..=last).map(Value::from).collect()))
}

/// `atoi TEXT`.
fn atoi(args: &[Value]) -> Result<Value, FuncError> {
    let text = one("atoi", args, "a text")?;
    let number = text.parse::<i64>();
    number
        .map(Value::from)
        .map_err(|e| fails("atoi", format!("'{text}': {e}")))
}

/// `ipv4 LIST`, `ipv6 LIST`: the addresses and prefixes of the family; of one text: is it of the family?
fn of_family(function: &str, args: &[Value], v4: bool) -> Result<Value, FuncError> {
    let is = |text: &str| {
        let address = text.split('/').next().unwrap_or(text).parse::<IpAddr>();
        address.is_ok_and(|ip| ip.is_ipv4() == v4)
    };
    match args {
        [Value::String(text)] => Ok(Value::Bool(is(text))),
        [Value::Array(items)] => {
            let of = |v: &&Value| matches!(v, Value::String(s) if is(s));
            Ok(Value::Array(items.iter().filter(of).cloned().collect()))
        }
        _ => Err(wants(function, "an address or a list of addresses")),
    }
}

/// `cidrAddress`, `cidrLength`, `cidrNetwork` of `10.0.0.5/24`: `10.0.0.5`, `24`, `10.0.0.0/24`.
fn cidr(function: &str, args: &[Value], part: fn(Prefix, IpAddr, u8) -> Value) -> Result<Value, FuncError> {
    let text = one(function, args, "an address with a prefix length")?;
    let parts = text.split_once('/').and_then(|(ip, length)| {
        let (ip, length) = (ip.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
        Some((Prefix::new(ip, length).ok()?, ip, length))
    });
    let (network, ip, length) = parts.ok_or_else(|| fails(function, format!("'{text}' is no ADDRESS/LENGTH")))?;
    Ok(part(network, ip, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Engine, GoTemplates};

    fn render(text: &str) -> Result<String, String> {
        let mut keys = Keys::default();
        for (key, value) in [
            ("/db/url", "u"),
            ("/db/user", "me"),
            ("/hosts/10.0.0.1", "a"),
            ("/hosts/fd00::1", "b"),
            ("/json", r#"{"a": {"b": [1, "x"]}}"#),
        ] {
            keys.insert(key, value.to_owned());
        }
        let engine = GoTemplates::with_functions("t", text, FUNCTIONS).map_err(|e| e.to_string())?;
        with_keys(&Arc::new(keys), || engine.render("t", &serde_json::Value::Null)).map_err(|e| e.to_string())
    }

    #[test]
    fn what_they_give() {
        let cases = [
            (
                r#"{{getv "/db/url"}} {{getv "/no" "d"}} {{exists "/no"}} {{exists "db/url/"}}"#,
                "u d false true",
            ),
            (r#"{{with get "db/url"}}{{.Key}}={{.Value}}{{end}}"#, "/db/url=u"),
            (
                r#"{{range gets "/db/*"}}{{base .Key}}={{.Value}};{{end}}"#,
                "url=u;user=me;",
            ),
            (
                r#"{{join (getvs "/db/*") ","}} {{join (ls "/") ","}} {{join (lsdir "/") ","}}"#,
                "u,me db,hosts,json db,hosts",
            ),
            (
                r#"{{range ipv4 (ls "/hosts")}}{{.}}{{end}} {{range ipv6 (ls "/hosts")}}{{.}}{{end}}"#,
                "10.0.0.1 fd00::1",
            ),
            (
                r#"{{$j := json (getv "/json")}}{{index $j.a.b 1}} {{range jsonArray "[1,2]"}}<{{.}}>{{end}}"#,
                "x <1><2>",
            ),
            (
                r#"{{dir "/a/b"}} {{dir "/a"}} {{dir "a"}} {{base "/a/b/"}}"#,
                "/a / . b",
            ),
            (r#"{{$m := map "k" 1 "l" "two"}}{{$m.k}}{{$m.l}}"#, "1two"),
            (
                r#"{{add 1 2}} {{sub 1 2}} {{mul 3 4}} {{div 7 2}} {{mod 7 2}} {{atoi "-5"}}"#,
                "3 -1 12 3 1 -5",
            ),
            (
                r#"{{range seq 1 3}}{{.}}{{end}}{{range reverse (split "a,b" ",")}}{{.}}{{end}}"#,
                "123ba",
            ),
            (r#"{{range sortByLength (split "ccc,a,bb" ",")}}{{.}}{{end}}"#, "abbccc"),
            (r#"{{range sortKVByLength (gets "/db/*")}}{{.Value}}{{end}}"#, "ume"),
            (
                r#"{{base64Encode "hi"}} {{base64Decode "aGk="}} {{if parseBool "T"}}yes{{end}}"#,
                "aGk= hi yes",
            ),
            (
                r#"{{trimSuffix "a.conf" ".conf"}} {{replace "aaa" "a" "b" 2}} {{replace "aaa" "a" "b" -1}}"#,
                "a bba bbb",
            ),
            (
                r#"{{cidrAddress "10.0.0.5/24"}} {{cidrLength "10.0.0.5/24"}} {{cidrNetwork "fd00::5/64"}}"#,
                "10.0.0.5 24 fd00::/64",
            ),
            (
                r#"{{getenv "TORTIE_IS_NOT_SET" "d"}}{{getenv "TORTIE_IS_NOT_SET"}} {{fileExists "/"}}"#,
                "d true",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_they_refuse() {
        let cases = [
            (r#"{{getv "/no"}}"#, "there is no key '/no'"),
            (r#"{{get "/no"}}"#, "there is no key '/no'"),
            (r#"{{gets "/[" }}"#, "pattern '/['"),
            (r#"{{div 1 0}}"#, "div: there is no such number"),
            (r#"{{add 9223372036854775807 1}}"#, "add: there is no such number"),
            (r#"{{seq 0 5000000}}"#, "seq: more than 1000000 numbers"),
            (r#"{{json "[1]"}}"#, "json: the text is JSON of another type"),
            (r#"{{json "{"}}"#, "json: EOF"),
            (r#"{{atoi "x"}}"#, "atoi: 'x'"),
            (r#"{{parseBool "maybe"}}"#, "parseBool: 'maybe'"),
            (r#"{{base64Decode "*"}}"#, "base64Decode: "),
            (r#"{{cidrLength "10.0.0.0"}}"#, "'10.0.0.0' is no ADDRESS/LENGTH"),
            (r#"{{cidrLength "10.0.0.0/33"}}"#, "'10.0.0.0/33' is no ADDRESS/LENGTH"),
            (r#"{{map "a"}}"#, "map wants keys"),
        ];
        for (text, want) in cases {
            let e = render(text).unwrap_err();
            assert!(e.contains(want) && e.starts_with("template t, line 1"), "{text}: {e}");
        }
    }
}
