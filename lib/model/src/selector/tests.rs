use super::*;
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
    selector
        .parse::<Selector>()
        .unwrap_or_else(|e| panic!("{selector}: {e}"))
        .matches(&labels(pairs))
}

#[test]
fn meaning() {
    let web = &[("app", "web"), ("rack", "r-1")][..];
    for yes in [
        "",
        "  ",
        "all()",
        "all( )",
        "app == 'web'",
        "app==\"web\"",
        "app != 'db'",
        "none != 'x'",
        "none not in {'x'}",
        "none notin {'x'}",
        "app in {'db', 'web',}",
        "app not in {}",
        "rack starts with 'r-'",
        "rack startswith 'r-'",
        "rack ends with '1'",
        "rack contains '-'",
        "has( rack )",
        "!has(none)",
        "!!has(rack)",
        "! has(none) && (app == 'db' || rack == 'r-1')",
        "app == 'x' && app == 'y' || has(app)",
    ] {
        assert!(selects(yes, web), "{yes}");
    }
    for no in [
        "app in {}",
        "none contains ''",
        "none == ''",
        "!all()",
        "app == 'web' && none == 'x'",
    ] {
        assert!(!selects(no, web), "{no}");
    }
    assert!(selects(
        "in in {'a'} && contains contains 'b'",
        &[("in", "a"), ("contains", "abc")]
    ));
}

#[test]
fn errors_say_where() {
    for (text, at, why) in [
        ("app = 'a'", 5, Why::Operator),
        ("app", 4, Why::Operator),
        ("app == a", 8, Why::Value),
        ("app == 'a", 8, Why::Quote),
        ("app in 'a'", 8, Why::Set),
        ("app in {'a' 'b'}", 13, Why::SetEnd),
        ("(app == 'a'", 12, Why::Close),
        ("app == 'a' & b == 'c'", 12, Why::Rest),
        ("app == 'a' &&", 14, Why::Term),
        ("has()", 5, Why::Label),
        ("all ()", 5, Why::Operator),
        ("app\n== 'a'", 4, Why::Operator),
        ("é", 1, Why::Term),
    ] {
        let e = text.parse::<Selector>().unwrap_err();
        assert_eq!((e.at + 1, e.why), (at, why), "{text:?}: {e}");
    }
    assert_eq!("!".repeat(100_000).parse::<Selector>().unwrap_err().why, Why::Depth);
    assert_eq!("(".repeat(100_000).parse::<Selector>().unwrap_err().why, Why::Depth);
}

#[test]
fn canonical_text() {
    for (text, want) in [
        ("", "all()"),
        ("a=='b'", "a == \"b\""),
        ("a in {'z',\"b\",'z'}", "a in {\"b\", \"z\"}"),
        (
            "a notin{'x'}&&b!='\"'||!has(c)",
            "((a not in {\"x\"} && b != '\"') || !has(c))",
        ),
        ("a startswith 'x'", "a starts with \"x\""),
    ] {
        assert_eq!(text.parse::<Selector>().unwrap().canonical(), want, "{text}");
    }
    assert!("has(a) && global()".parse::<Selector>().unwrap().mentions_global());
}

#[test]
fn ids_are_calicos() {
    assert_eq!(Selector::all().unique_id(), "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug");
    let same = ["a in {'x','y'}", "a in { \"y\", 'x' }"].map(|s| s.parse::<Selector>().unwrap().unique_id());
    assert_eq!(same[0], same[1]);
    assert_eq!(base64url(b"foo"), "Zm9v");
    assert_eq!(
        (base64url(b"f"), base64url(b"fo"), base64url(&[251, 255])),
        ("Zg".into(), "Zm8".into(), "-_8".into())
    );
}

fn expr() -> impl Strategy<Value = Expr> {
    let label = "[a-c]";
    let value = prop_oneof!["[a-c]{0,2}", Just("\"".to_owned())];
    let op = prop_oneof![
        Just(Op::Equal),
        Just(Op::NotEqual),
        Just(Op::Contains),
        Just(Op::StartsWith),
        Just(Op::EndsWith)
    ];
    let leaf = prop_oneof![
        Just(Expr::All),
        label.prop_map(Expr::Has),
        (label, op, value.clone()).prop_map(|(label, op, value)| Expr::Test { label, op, value }),
        (label, proptest::collection::btree_set(value, 0..3), any::<bool>()).prop_map(|(label, values, negated)| {
            Expr::In {
                label,
                values: values.into_iter().collect(),
                negated,
            }
        }),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            proptest::collection::vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

proptest! {
    /// The canonical text of any expression reads back as that expression, and so selects the same.
    #[test]
    fn canonical_text_is_a_fixed_point(e in expr()) {
        let text = e.to_string();
        let back: Selector = text.parse().unwrap();
        prop_assert_eq!(&back.expr, &e);
        prop_assert_eq!(back.canonical(), text);
    }

    #[test]
    fn no_text_panics(text in "[a-c()!&|={}'\", inotshas\\t]{0,40}") {
        let _ = text.parse::<Selector>();
    }

    /// De Morgan's law holds, so evaluation of not, and, or agrees.
    #[test]
    fn de_morgan(a in expr(), b in expr(), have in proptest::collection::btree_map("[a-c]", "[a-c]{0,2}", 0..3)) {
        let left = Expr::Not(Box::new(Expr::And(vec![a.clone(), b.clone()])));
        let right = Expr::Or(vec![Expr::Not(Box::new(a)), Expr::Not(Box::new(b))]);
        prop_assert_eq!(left.matches(&have), right.matches(&have));
    }
}
