//! Properties: no panic on any text, and print-then-parse is the identity.

use proptest::prelude::*;

use super::*;

/// Parsing the print gives an equal value, and prints the same again.
pub(super) fn round_trips(config: &Config) {
    let text = config.to_string();
    let again = match parse("printed.conf", &text, &mut NoInclude) {
        Ok(again) => again,
        Err(errors) => panic!("{}\nin\n{text}", errors[0]),
    };
    assert_eq!(*config, again, "{text}");
    assert_eq!(text, again.to_string());
}

#[test]
fn a_node_round_trips() {
    round_trips(&parsed(NODE));
}

/// The words of the language, from which nonsense is made that reaches deep into the parser.
const WORDS: [&str; 70] = [
    "protocol",
    "bgp",
    "static",
    "device",
    "kernel",
    "template",
    "from",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "[=",
    "=]",
    ";",
    ",",
    ":",
    "..",
    "=",
    "~",
    "!~",
    "!",
    "+",
    "-",
    "*",
    "/",
    ".",
    "?",
    "&&",
    "||",
    "<",
    ">=",
    "ipv4",
    "ipv6",
    "import",
    "export",
    "filter",
    "function",
    "define",
    "if",
    "then",
    "else",
    "case",
    "for",
    "in",
    "do",
    "return",
    "accept",
    "reject",
    "print",
    "net",
    "bgp_path",
    "bgp_community",
    "add",
    "len",
    "int",
    "set",
    "x",
    "5",
    "10.0.0.0",
    "10.0.0.0/8",
    "fe80::1",
    "\"t\"",
    "rt",
    "true",
    "local",
    "neighbor",
    "as",
    "route",
];

fn nonsense() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..60).prop_map(|words| words.join(" "))
}

/// A boolean expression over a route, always well typed.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number().prop_map(|n| format!("net.len < {n}")),
        number().prop_map(|n| format!("{n} ~ bgp_path")),
        (0..200_u32, 0..200_u32).prop_map(|(a, b)| format!("({a},{b}) ~ bgp_community")),
        (0..20_u32, 20..40_u32)
            .prop_map(|(a, b)| format!("bgp_community ~ [({a},*), ({a}..{b},7), ({a},{b})..({b},{b})]")),
        (0..9_u32).prop_map(|n| format!("bgp_large_community ~ [({n},{n}..9,*), ({n},1,2)..({n},5,5)]")),
        (1..9_u32).prop_map(|n| format!("bgp_ext_community ~ [(rt,{n},*), (generic,{n},5)]")),
        (8..24_u8, 24..32_u8)
            .prop_map(|(l, h)| format!("net ~ [ 10.0.0.0/8{{{l},{h}}}, 192.168.0.0/16+, 1.2.3.0/24- ]")),
        (1..9_u32).prop_map(|n| format!("bgp_path ~ [= * {n} {n}..20 + [1, 3..{n}9] ? (n + {n}) n =]")),
        Just("source = RTS_BGP".to_owned()),
        Just("defined(bgp_med)".to_owned()),
        Just("from ~ 10.0.0.0/8".to_owned()),
        Just("proto ~ \"bgp*\"".to_owned()),
        Just("bgp_originator_id = 1.2.3.4".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
        ]
    })
}

/// An integer expression; `n` is a variable.
fn number() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..70_000_u32).prop_map(|n| n.to_string()),
        Just("n".to_owned()),
        Just("bgp_path.len".to_owned()),
        Just("bgp_path.first".to_owned()),
        Just("preference".to_owned()),
        Just("twice(n)".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        (inner.clone(), prop::sample::select(vec!["+", "-", "*"]), inner)
            .prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

fn statement() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number().prop_map(|n| format!("n = {n};")),
        number().prop_map(|n| format!("bgp_med = {n};")),
        number().prop_map(|n| format!("bgp_path.prepend({n});")),
        (0..9_u32).prop_map(|n| format!("bgp_community.add(({n},{n}));")),
        (0..9_u32).prop_map(|n| format!("bgp_community.delete([({n},*)]);")),
        (0..9_u32).prop_map(|n| format!("bgp_ext_community.add((rt,{n},{n}));")),
        (0..9_u32).prop_map(|n| format!("bgp_large_community.filter([({n},*,*)]);")),
        Just("unset(bgp_med);".to_owned()),
        Just("bgp_community.empty;".to_owned()),
        Just("bgp_origin = ORIGIN_EGP;".to_owned()),
        Just("print \"n=\", n, net;".to_owned()),
        Just("accept;".to_owned()),
        Just("reject \"no\";".to_owned()),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            (condition(), inner.clone()).prop_map(|(c, s)| format!("if {c} then {s}")),
            (condition(), inner.clone(), inner.clone()).prop_map(|(c, a, b)| format!("if {c} then {{ {a} }} else {b}")),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("{{ int m = 3; {} }}", all.join(" "))),
            inner
                .clone()
                .prop_map(|s| format!("for int a in bgp_path do {{ n = n + a; {s} }}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("case n {{ 1, 3..5: {a} (2 * 9): {b} else: {a} }}")),
        ]
    })
}

pub(super) fn filter() -> impl Strategy<Value = String> {
    prop::collection::vec(statement(), 0..5).prop_map(|all| {
        format!(
            "function twice(int x) {{ return x * 2; }}\nfilter f {{ int n = 1; {} }}\n",
            all.join(" ")
        )
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = parse("any.conf", &text, &mut NoInclude);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse("any.conf", &String::from_utf8_lossy(&bytes), &mut NoInclude);
    }

    #[test]
    fn no_sequence_of_words_panics(text in nonsense(), inside in nonsense()) {
        let _ = parse("any.conf", &text, &mut NoInclude);
        let _ = parse("any.conf", &format!("filter f {{ {inside}"), &mut NoInclude);
        let _ = parse("any.conf", &format!("protocol bgp {{ {inside} }}"), &mut NoInclude);
    }

    #[test]
    fn printing_and_parsing_is_the_identity(text in filter()) {
        round_trips(&parsed(&text));
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("(", ")"), ("!", ""), ("{", "}"), ("if true then ", "")] {
        let text = format!("filter f {{ {}{} }}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse("deep.conf", &text, &mut NoInclude).is_err());
    }
    let long = format!("define x = 1{};", " + 1".repeat(100_000));
    assert!(
        parse("long.conf", &long, &mut NoInclude).is_ok(),
        "constants are folded on the way"
    );
    let long = format!(
        "filter f {{ if 1{} = 1 then accept; }}",
        " + bgp_path.len".repeat(100_000)
    );
    assert!(parse("long.conf", &long, &mut NoInclude).is_err());
}
