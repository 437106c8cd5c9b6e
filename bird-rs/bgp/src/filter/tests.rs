//! Filters from text to verdict.

use std::borrow::Cow;

use tortie_net::{Asn, Community};

use super::*;
use crate::attr::{Aggregator, AsPath, Attributes};
use crate::config::{NoInclude, parse};

/// The last filter of a configuration.
pub(super) fn filter(text: &str) -> std::sync::Arc<Filter> {
    let config = parse("test.conf", text, &mut NoInclude).unwrap_or_else(|errors| panic!("{}", errors[0]));
    config.filters.last().expect("a filter").clone()
}

pub(super) fn route(attributes: &Attributes) -> RouteContext<'_> {
    RouteContext {
        assigned: Assigned::default(),
        net: "10.244.1.0/26".parse().unwrap(),
        proto: "Mesh_172_30_0_12",
        source: RouteSource::Bgp,
        from: Some("172.30.0.12".parse().unwrap()),
        gw: Some("172.30.0.12".parse().unwrap()),
        ifname: Some(Cow::Borrowed("eth0")),
        dest: RouteDestination::Unicast,
        preference: 100,
        igp_metric: None,
        krt: super::Krt::default(),
        roas: None,
        attributes: Cow::Borrowed(attributes),
    }
}

pub(super) fn attributes() -> Attributes {
    Attributes {
        as_path: AsPath::sequence([Asn(65001), Asn(65002)]),
        communities: [Community::new(1, 2), Community::new(3, 4)].into_iter().collect(),
        local_pref: Some(100),
        ..Attributes::default()
    }
}

/// Runs `filter f { BODY }` over the route; what it prints tells its way.
fn run(body: &str) -> Verdict {
    let attributes = attributes();
    filter(&format!("filter f {{ {body} }}")).run(&mut route(&attributes))
}

#[test]
fn a_filter_without_a_word_rejects() {
    assert!(!run("").accepted);
    assert!(run("accept;").accepted);
    let verdict = run("reject \"no \", net;");
    assert_eq!(
        (verdict.accepted, verdict.messages),
        (false, vec!["no 10.244.1.0/26".to_owned()])
    );
}

#[test]
fn attributes_stay_borrowed_until_they_change() {
    let attributes = attributes();
    let mut same = route(&attributes);
    let quiet = filter(
        "filter f { if bgp_path ~ [= 65001 * =] && (1,2) ~ bgp_community then { bgp_community.add((1,2));
         bgp_community.delete((9,9)); bgp_local_pref = 100; unset(bgp_med); bgp_path.delete(7); accept; } }",
    );
    assert!(quiet.run(&mut same).accepted);
    assert!(matches!(same.attributes, Cow::Borrowed(_)), "nothing changed");
    let mut changed = route(&attributes);
    assert!(
        filter("filter f { bgp_community.add((5,6)); bgp_path.prepend(7); accept; }")
            .run(&mut changed)
            .accepted
    );
    assert!(changed.attributes.communities.contains(Community::new(5, 6)));
    assert_eq!(changed.attributes.as_path.to_string(), "7 65001 65002");
}

#[test]
fn conditions_as_confd_writes_them() {
    assert!(run("if net ~ [ 10.244.0.0/16{26,32} ] then accept;").accepted);
    assert!(!run("if net ~ [ 10.244.0.0/16{27,32} ] then accept;").accepted);
    assert!(!run("if source = RTS_STATIC then accept;").accepted);
    assert!(run("if ifname ~ \"eth*\" && from = 172.30.0.12 && gw ~ 172.30.0.0/24 then accept;").accepted);
    assert!(run("case source { RTS_STATIC: reject; RTS_BGP, RTS_DEVICE: accept; else: reject; }").accepted);
}

#[test]
fn what_is_not_there_is_void() {
    let verdict = run("if bgp_med + 1 > 5 then accept;");
    let error = verdict.error.expect("a failure");
    assert_eq!(
        error.to_string(),
        "line 1: bgp_med got no value: the route has no such attribute"
    );
    assert!(
        run("if bgp_med < 5 then accept;").accepted,
        "nothing is less than anything, as in BIRD"
    );
    assert!(run("if !defined(bgp_med) && bgp_med != 5 then accept;").accepted);
}

#[test]
fn failures_reject() {
    let zero = run("int none_left = net.len - 26; if 1 / none_left = 1 then accept;");
    assert_eq!(zero.error.map(|e| e.problem), Some(Problem::DivisionByZero));
    let range = run("preference = 65536; accept;");
    assert!(!range.accepted && matches!(range.error.map(|e| e.problem), Some(Problem::Range { .. })));
}

#[test]
fn recursion_is_bounded() {
    let attributes = attributes();
    let text =
        "function f(int n) { if n = 0 then return 0; return f(n - 1) + 1; } filter g { print f(DEPTH); accept; }";
    let shallow = filter(&text.replace("DEPTH", "20")).run(&mut route(&attributes));
    assert_eq!(shallow.messages, ["20"]);
    // What the reference says of this function.
    let last = filter(&text.replace("DEPTH", "56")).run(&mut route(&attributes));
    assert_eq!(last.messages, ["56"]);
    for depth in ["57", "1000000"] {
        let deep = filter(&text.replace("DEPTH", depth)).run(&mut route(&attributes));
        assert_eq!(deep.error.map(|e| e.problem), Some(Problem::TooDeep), "{depth}");
    }
    let wide =
        "function f(int n) { if n = 0 then return 0; return f(n - 1) + f(n - 1); } filter g { print f(40); accept; }";
    let wide = filter(wide).run(&mut route(&attributes));
    assert!(matches!(wide.error.map(|e| e.problem), Some(Problem::TooLong(_))));
}

#[test]
fn what_bird_does_not_show_is_there_or_not() {
    let aggregated = Attributes {
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: Asn(65001),
            addr: [10, 9, 0, 2].into(),
        }),
        ..attributes()
    };
    let text = "filter f { print defined(bgp_atomic_aggr), defined(bgp_aggregator), \" \", bgp_aggregator,
                bgp_atomic_aggr = bgp_aggregator; unset(bgp_aggregator); unset(bgp_atomic_aggr);
                print defined(bgp_atomic_aggr), defined(bgp_aggregator), format(bgp_aggregator); accept; }";
    let mut changed = route(&aggregated);
    let verdict = filter(text).run(&mut changed);
    // Stock BIRD prints the same.
    assert_eq!(verdict.messages, ["TRUETRUE (enum 3f)0TRUE", "FALSEFALSE(void)"]);
    assert_eq!(*changed.attributes, attributes());
}

#[test]
fn variables_live_in_their_blocks() {
    let verdict = run(
        "int i = 1; { int i = 2; i = i + 1; print i; } for int a in bgp_path do { int b = a - i; print b; } print i; accept;",
    );
    assert_eq!(verdict.messages, ["3", "65000", "65001", "1"]);
}

#[test]
fn functions_decide_and_return() {
    let attributes = attributes();
    let text = "function decide(int a) { if a > 5 then accept \"big\"; return a * 2; }
                filter f { decide(1); print decide(2); decide(9); reject; }";
    let verdict = filter(text).run(&mut route(&attributes));
    assert_eq!(
        (verdict.accepted, verdict.messages),
        (true, vec!["4".to_owned(), "big".to_owned()])
    );
}

#[test]
fn destinations_and_gateways() {
    let attributes = attributes();
    let mut changed = route(&attributes);
    assert!(
        filter("filter f { dest = RTD_BLACKHOLE; krt_metric = 7; accept; }")
            .run(&mut changed)
            .accepted
    );
    assert_eq!(
        (changed.dest, changed.gw, changed.krt.metric),
        (RouteDestination::Blackhole, None, Some(7))
    );
    assert!(filter("filter f { gw = 10.0.0.9; accept; }").run(&mut changed).accepted);
    assert_eq!(
        (changed.dest, changed.gw),
        (RouteDestination::Unicast, Some("10.0.0.9".parse().unwrap()))
    );
}

// === What random filters found to differ from BIRD ===

#[test]
fn a_quad_is_ordered_with_an_address() {
    assert!(run("quad q = 1.2.3.4; if q < 1.2.3.5 && 1.2.3.3 < q && q >= 1.2.3.4 then accept;").accepted);
    for wrong in [
        "quad q = 1.2.3.4; if q < 2001:db8::1 then accept;",
        "quad q = 1.2.3.4; if q < from then accept;",
        "quad q = 2001:db8::1; accept;",
        "quad q; q = net.ip; accept;",
        "bgp_originator_id = from; accept;",
    ] {
        let text = format!("filter f {{ {wrong} accept; }}");
        let refused = parse("test", &text, &mut NoInclude).is_err();
        assert!(refused, "only a literal IPv4 address is a quad: {wrong}");
    }
}

#[test]
fn a_variable_is_set_to_something() {
    for body in [
        "int i = bgp_med;",
        "int i = 1; i = bgp_med;",
        "quad q = bgp_originator_id;",
    ] {
        let verdict = run(&format!("{body} accept;"));
        let problem = verdict.error.map(|e| e.problem);
        assert!(matches!(problem, Some(Problem::Undefined(_))), "{body} {problem:?}");
    }
    let attributes = attributes();
    let text = "function is(int i) { return defined(i); } filter f { if !is(bgp_med) then accept; }";
    let verdict = filter(text).run(&mut route(&attributes));
    assert!(verdict.accepted, "an argument may be nothing");
}

#[test]
fn a_function_decides_in_the_middle_of_an_expression() {
    let attributes = attributes();
    let text = "function f() { if net.len = 26 then accept; return 1; } filter g { bgp_med = 1 + f(); reject; }";
    let verdict = filter(text).run(&mut route(&attributes));
    assert_eq!((verdict.accepted, verdict.error), (true, None));
    let wrong = parse(
        "test.conf",
        "function f() { accept; return 1; } define X = f();",
        &mut NoInclude,
    );
    assert!(wrong.is_err(), "a constant has nothing to accept");
}

#[test]
fn an_edit_begins_with_what_was_there_before_its_operand() {
    let attributes = attributes();
    let text = "function f() { bgp_path.empty; return 7; } filter g { bgp_path.prepend(f()); accept; }";
    let mut changed = route(&attributes);
    filter(text).run(&mut changed);
    assert_eq!(changed.attributes.as_path.to_string(), "7 65001 65002");
}

#[test]
fn greater_evaluates_its_right_side_first() {
    let attributes = attributes();
    let f = "function f() { bgp_path.empty; return 1; }";
    let accepts = |condition: &str| {
        let text = format!("{f} filter g {{ if {condition} then accept; }}");
        filter(&text).run(&mut route(&attributes)).accepted
    };
    assert!(!accepts("bgp_path.first > f()") && !accepts("bgp_path.first >= f()"));
    assert!(!accepts("f() > bgp_path.first"), "65001 was read first");
    assert!(!accepts("bgp_path.first < f()"), "65001 was read first");
}

// === What BIRD's and our answers to the same expressions showed ===

#[test]
fn names_of_what_is_not_here_may_be_asked_for() {
    assert!(run("if source !~ [RTS_OSPF..RTS_OSPF_EXT2, RTS_RIP] && dest = RTD_UNICAST then accept;").accepted);
    assert!(run("case net.type { NET_VPN4: reject; NET_IP4: accept; }").accepted);
    let verdict = run("dest = RTD_UNICAST; accept;");
    assert!(
        matches!(
            verdict.error.map(|e| e.problem),
            Some(Problem::Range { what: "dest", .. })
        ),
        "only a gateway or an interface makes a route unicast"
    );
}

#[test]
fn an_ipv4_address_in_ipv6s_notation_is_one_of_ipv4() {
    assert!(
        run("ip i = ::ffff:1.2.3.4; if i.is_v4 && i = 1.2.3.4 && i ~ [::ffff:1.2.3.0..1.2.3.9] then accept;").accepted
    );
}

#[test]
fn sets_are_printed_as_bird_prints_them() {
    let all = "print [(1..3,2..5), (2,9)], [(rt,1,*)], [RTS_BGP, RTS_STATIC], [5, 1..3], [(*,2)]; accept;";
    assert_eq!(
        run(all).messages,
        [
            "[(1,2)..(1,5), (2,2)..(2,5), (2,9), (3,2)..(3,5)][(rt, 1, 0)..(rt, 1, 4294967295)]\
             [(enum 30)1, (enum 30)11][1..3, 5][(0..65535,2..2)]"
        ]
    );
}
