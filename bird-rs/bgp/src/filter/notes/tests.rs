//! For which other prefixes a run holds.

use std::sync::Arc;

use proptest::prelude::*;
use tortie_net::Prefix;

use super::super::tests::{attributes, filter, route};
use super::*;
use crate::attr::Attributes;
use crate::filter::{Filter, Verdict};
use crate::rib::SourceId;
use crate::roa::{Roa, RoaSet, RoaSource};

/// What comes of a run: the verdict, the attributes, the preference.
fn run<'f>(filter: &'f Filter, net: Prefix, roas: &RoaTables, notes: &mut Notes<'f>) -> (Verdict, Attributes, u16) {
    let attributes = attributes();
    let mut route = route(&attributes);
    route.net = net;
    route.roas = Some(roas);
    let verdict = filter.run_noting(&mut route, notes);
    (verdict, route.attributes.into_owned(), route.preference)
}

/// 10.1.0.0/16 may come from 65002, where the routes of these tests come from; 10.2.0.0/16 must not.
fn roas() -> RoaTables {
    let mut tables = RoaTables::default();
    let table: Arc<str> = "r".into();
    tables.provide(&table, true);
    let roa = |net: &str, asn| Roa::new(net.parse().unwrap(), 24, Asn(asn)).unwrap();
    let set: RoaSet = [roa("10.1.0.0/16", 65002), roa("10.2.0.0/16", 1)].into_iter().collect();
    let of = RoaSource {
        source: SourceId(0),
        preference: 100,
        since: 0,
    };
    tables.set(&table, of, &Arc::new(set));
    tables
}

/// With a table of ROAs, and two functions that ask of the prefix in different ways.
fn program(body: &str) -> Arc<Filter> {
    filter(&format!(
        "roa4 table r; function is_long() {{ return net.len > 22; }} function is_ours(prefix p) {{ return p ~ [10.0.0.0/8+]; }}
         filter f {{ {body} accept; }}"
    ))
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn answers_that_are_the_same_need_no_run() {
    let roas = roas();
    let (a, b) = ("10.1.1.0/24", "10.1.2.0/24");
    for (body, first, second, holds) in [
        ("bgp_local_pref = 5;", a, "2001:db8::/32", true),
        ("if net.len > 20 then reject;", a, b, true),
        ("if net.len > 20 then reject;", a, "10.1.0.0/16", false),
        ("if is_long() then reject;", a, "10.1.0.0/16", false),
        ("if net.type = NET_IP4 then reject;", a, "11.0.0.0/8", true),
        ("if net.type = NET_IP4 then reject;", a, "2001:db8::/32", false),
        (
            "if net ~ [10.0.0.0/8+, 11.0.0.0/8+] then reject;",
            a,
            "11.2.0.0/16",
            true,
        ),
        ("if net !~ [10.0.0.0/8+] then reject;", a, "11.2.0.0/16", false),
        (
            "if net ~ [10.0.0.0/8+] && net ~ [10.1.1.0/24] then reject;",
            a,
            b,
            false,
        ),
        // The second set is not asked when the first decides.
        ("if net ~ [10.0.0.0/8+] || net ~ [10.1.1.0/24] then reject;", a, b, true),
        ("if roa_check(r) = ROA_VALID then reject;", a, b, true),
        ("if roa_check(r) = ROA_VALID then reject;", a, "10.2.1.0/24", false),
        (
            "if roa_check(r, net, bgp_path.last) = ROA_VALID then reject;",
            a,
            b,
            true,
        ),
        (
            "if roa_check(r, net, 1) = ROA_VALID then reject;",
            a,
            "10.2.1.0/24",
            false,
        ),
        (
            "if roa_check(r, 10.2.1.0/24, 1) = ROA_VALID then reject;",
            a,
            "10.3.0.0/16",
            true,
        ),
        // What is not understood holds for one prefix only.
        ("if net.ip ~ 10.0.0.0/8 then reject;", a, b, false),
        ("if net = 10.0.0.0/8 then reject;", a, b, false),
        ("if is_ours(net) then reject;", a, b, false),
        ("prefix p = net; if p ~ [10.0.0.0/8+] then reject;", a, b, false),
        ("bgp_local_pref = 5; if defined(net) then bgp_med = 1;", a, b, false),
        // What is said is said of each.
        ("print \"a route\";", a, b, false),
        ("reject \"a route\";", a, b, false),
        ("bgp_med = bgp_med + 1;", a, b, false),
    ] {
        let program = program(body);
        let mut notes = Notes::default();
        run(&program, prefix(first), &roas, &mut notes);
        assert_eq!(notes.hold_for(prefix(second), &roas), holds, "{body} {first} {second}");
    }
}

#[test]
fn who_asks_much_is_run_again() {
    let sets = |count: usize| -> String {
        let one = |n| format!("if net ~ [10.{n}.0.0/16+] then bgp_med = {n}; ");
        (100..100 + count).map(one).collect()
    };
    let holds = |count| {
        let program = program(&sets(count));
        let mut notes = Notes::default();
        run(&program, prefix("10.1.1.0/24"), &RoaTables::default(), &mut notes);
        notes.hold_for(prefix("10.1.2.0/24"), &RoaTables::default())
    };
    assert!(holds(QUESTIONS));
    assert!(!holds(QUESTIONS + 1));
    let program = program("for int n in bgp_path do { if net ~ [10.0.0.0/8+] then bgp_med = 1; }");
    let mut notes = Notes::default();
    run(&program, prefix("10.1.1.0/24"), &RoaTables::default(), &mut notes);
    assert_eq!(notes.asked.len(), 1, "the same question is kept once");
}

/// Statements that ask of the prefix and of other things, and change the route by what they hear.
const STATEMENTS: [&str; 13] = [
    "if net.len > 22 then bgp_med = 1; else bgp_local_pref = 7;",
    "if net ~ [10.1.0.0/16{20,24}, 11.0.0.0/8] then { bgp_community.add((1,1)); }",
    "if net !~ [10.1.1.0/24-] then { bgp_path.prepend(7); }",
    "case net.len { 8, 16: preference = 5; 24: reject; else: preference = 6; }",
    "if net.type = NET_IP6 then preference = 9;",
    "if is_long() && bgp_path ~ [= 65001 * =] then bgp_large_community.add((1,2,3));",
    "if is_ours(net) then bgp_med = 3;",
    "if roa_check(r) = ROA_INVALID then reject;",
    "if roa_check(r, net, bgp_path.last) != ROA_UNKNOWN then bgp_community.add((2,2));",
    "bgp_path.prepend(1); if roa_check(r) = ROA_VALID then bgp_med = 8;",
    "if (1,2) ~ bgp_community && net.ip = 10.1.0.0 then bgp_med = 4;",
    "if net ~ [10.0.0.0/8+] then { print net; }",
    "for int n in bgp_path do if net.len < n - 65000 + 20 then bgp_community.add((3,3));",
];

const NETS: [&str; 8] = [
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.2.0/24",
    "10.2.2.0/24",
    "10.1.16.0/20",
    "11.0.0.0/8",
    "2001:db8::/32",
    "2001:d00::/24",
];

proptest! {
    /// Where notes of one prefix hold for another, a run for the other comes to the same.
    #[test]
    fn what_holds_is_true(body in proptest::collection::vec(0..STATEMENTS.len(), 0..5), a in 0..NETS.len(), b in 0..NETS.len()) {
        let body: String = body.into_iter().map(|at| STATEMENTS[at]).collect();
        let program = program(&body);
        let roas = roas();
        let mut notes = Notes::default();
        let first = run(&program, prefix(NETS[a]), &roas, &mut notes);
        if notes.hold_for(prefix(NETS[b]), &roas) {
            prop_assert_eq!(first, run(&program, prefix(NETS[b]), &roas, &mut Notes::default()), "{}", body);
        }
    }
}
