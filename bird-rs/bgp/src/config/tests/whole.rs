//! Whole configurations, made at random: print-then-parse is the identity, a configuration does not differ from what is
//! read from its print, and the difference of two is empty only when they are equal to the routing.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::properties::{filter, round_trips};
use super::*;
use crate::config::diff;

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

/// A statement with a number in it, written `NAME # REST`.
fn numbered(what: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(what), 3..200_u32).prop_map(|(statement, n)| statement.replace('#', &n.to_string()))
}

/// Some of these, each at most once, in this order.
fn some(all: Vec<String>) -> impl Strategy<Value = String> {
    let most = all.len();
    subsequence(all, 0..=most).prop_map(|chosen| chosen.concat())
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| format!("  {text}\n")).collect()
}

fn policy() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("all".to_owned()),
        Just("none".to_owned()),
        Just("filter f".to_owned()),
        (8..24_u8).prop_map(|len| format!("where net.len > {len}")),
        (0..9_u32).prop_map(|n| format!("filter {{ if ({n},{n}) ~ bgp_community then reject; accept; }}")),
    ]
}

fn limit() -> impl Strategy<Value = String> {
    let action = one_of(&[
        "",
        " action warn",
        " action block",
        " action restart",
        " action disable",
    ]);
    let kind = one_of(&["receive", "import", "export"]);
    (kind, 1..9999_u32, action).prop_map(|(kind, n, action)| format!("{kind} limit {n}{action}; "))
}

/// The items of a channel of BGP's.
fn limited_items() -> impl Strategy<Value = String> {
    (channel_items(), limit()).prop_map(|(items, limit)| items + &limit)
}

/// The items of a channel of any protocol.
fn channel_items() -> impl Strategy<Value = String> {
    let table = one_of(&["", "table t#; "]);
    let keep = one_of(&["", "import keep filtered; ", "import keep filtered off; "]);
    let preference = prop::option::of(0..65535_u32);
    (policy(), policy(), table, keep, preference).prop_map(|(import, export, table, keep, preference)| {
        let preference = preference.map(|n| format!("preference {n}; ")).unwrap_or_default();
        format!("{table}{preference}{keep}import {import}; export {export}; ")
    })
}

/// A channel of the family `4` or `6`.
fn channel(family: char) -> impl Strategy<Value = String> {
    channel_items().prop_map(move |items| format!("ipv{family} {{ {} }};", items.replace('#', &family.to_string())))
}

fn bgp_channel(family: char) -> impl Strategy<Value = String> {
    let items = some(texts(&[
        "next hop self ebgp;",
        "next hop keep;",
        "gateway recursive;",
        "add paths tx;",
        "mandatory;",
        "extended next hop;",
        "graceful restart off;",
        "long lived graceful restart;",
        "long lived stale time 77;",
        "cost 5;",
        "import table;",
        "export table;",
        "next hop prefer global;",
    ]));
    (limited_items(), items).prop_map(move |(common, own)| {
        let igp = "igp table t4; igp table t6;";
        let items = format!("{common}{igp}{own}").replace('#', &family.to_string());
        // One igp table of each family, where it has a meaning.
        let items = if family == '6' {
            items.replace("igp table t4;", "")
        } else {
            items
        };
        format!("ipv{family} {{ {items} }};")
    })
}

fn bgp() -> impl Strategy<Value = String> {
    let neighbor = prop_oneof![
        (1..250_u8, 1..9_u32).prop_map(|(n, asn)| format!("neighbor 10.0.0.{n} as {asn};")),
        (1..250_u8).prop_map(|n| format!("neighbor 2001:db8::{n:x} external;")),
        (1..250_u8).prop_map(|n| format!("neighbor fe80::{n:x}%'eth.7' port 1179 internal;")),
        (8..30_u8).prop_map(|len| {
            format!(
                "neighbor range 10.0.0.0/{len} as 7; dynamic name \"d\"; dynamic name digits 3; dynamic limit {len};"
            )
        }),
    ];
    let options = some(texts(&[
        "description \"a \u{e4}bc\";",
        "disabled;",
        "debug { states };",
        "router id 1.2.3.4;",
        "password \"se;cret}\";",
        "passive;",
        "ttl security;",
        "check link off;",
        "rs client;",
        "path metric off;",
        "med metric;",
        "igp metric off;",
        "prefer older;",
        "deterministic med;",
        "default bgp_med 5;",
        "default bgp_local_pref 200;",
        "enable route refresh off;",
        "enable as4 off;",
        "enable extended messages;",
        "advertise hostname;",
        "interpret communities off;",
        "allow local as 3;",
        "allow bgp_local_pref;",
        "allow as sets off;",
        "enforce first as;",
        "disable after error;",
        "disable after cease { prefix limit hit, connection rejected };",
        "bfd graceful;",
    ]));
    let timers = prop::collection::vec(
        numbered(&[
            "hold time #;",
            "startup hold time #;",
            "connect delay time #;",
            "connect retry time #;",
            "error wait time #, 300;",
            "error forget time #;",
            "send hold time 60#;",
            "delay open time 6#;",
            "graceful restart time #;",
            "long lived stale time #;",
        ]),
        0..4,
    );
    let graceful = one_of(&[
        "",
        "graceful restart;",
        "graceful restart off;",
        "long lived graceful restart;",
    ]);
    (
        neighbor,
        options,
        timers,
        graceful,
        bgp_channel('4'),
        prop::option::of(bgp_channel('6')),
    )
        .prop_map(|(neighbor, options, timers, graceful, v4, v6)| {
            let (timers, v6) = (timers.concat(), v6.unwrap_or_default());
            format!("bgp # {{ local as 64512; {neighbor}\n{options}{timers}{graceful}\n  {v4}\n  {v6} }}")
        })
}

fn static_routes() -> impl Strategy<Value = String> {
    let destination = prop_oneof![
        one_of(&[
            "blackhole",
            "unreachable",
            "prohibit",
            "recursive 10.9.9.9",
            "via \"eth0\""
        ]),
        (1..256_u32).prop_map(|n| format!("via 10.0.0.1 weight {n} via 10.0.0.2%'eth.1' onlink")),
    ];
    let attributes = one_of(&[
        "",
        " { bgp_med = 5; bgp_community.add((1,2)); }",
        " { preference = 9; }",
    ]);
    let route = (0..255_u8, destination, attributes)
        .prop_map(|(n, destination, attributes)| format!("  route 10.{n}.0.0/16 {destination}{attributes};\n"));
    (
        channel('4'),
        prop::collection::vec(route, 0..5),
        one_of(&["", "check link;", "igp table t4;"]),
    )
        .prop_map(|(channel, routes, option)| format!("static # {{ {channel} {option}\n{} }}", routes.concat()))
}

fn other() -> impl Strategy<Value = String> {
    prop_oneof![
        (channel('4'), channel('6')).prop_map(|(v4, v6)| {
            format!("direct # {{ {v4} {v6} interface \"eth*\", -\"lo\" 10.0.0.0/8; interface -\"dummy?\"; check link; }}")
        }),
        (policy(), 1..255_u32).prop_map(|(export, n)| {
            format!("felix # {{ ipv4 {{ export {export}; merge paths limit {n}; }}; ipv6 {{ export none; }}; }}")
        }),
        (3..900_u32).prop_map(|n| format!("mrt # {{ table \"t*\"; filename \"/tmp/%N-#\"; period {n}; always add path; }}")),
        (1..200_u32).prop_map(|n| {
            format!(
                "bfd # {{ accept ipv4 direct; interface \"eth*\" {{ min rx interval {n} ms; multiplier 3; passive; }};\n\
                 multihop {{ interval {n} ms; idle tx interval 2 s; }}; neighbor 10.0.0.{n} dev \"eth0\"; }}"
            )
        }),
    ]
}

fn top() -> impl Strategy<Value = String> {
    some(texts(&[
        "router id 192.0.2.1;",
        "log stderr all;",
        "log \"/var/log/x\" { info, remote, fatal };",
        "log \"/var/log/y\" 100000 \"/var/log/y.old\" all;",
        "log syslog name \"n\" { trace };",
        "timeformat protocol iso long ms;",
        "timeformat route \"%T\" 3600 \"%F\";",
        "watchdog warning 5 s;",
        "graceful restart wait 99;",
        "hostname \"h\";",
        "router id from -\"eth1\", \"eth*\" 10.0.0.0/8;",
        "define X = [1, 3..5];",
        "protocol device devices { scan time 7; }",
    ]))
}

/// A file, with every name that its parts use.
fn file() -> impl Strategy<Value = String> {
    let protocol = prop_oneof![3 => bgp(), 2 => static_routes(), 2 => other()];
    (top(), filter(), prop::collection::vec(protocol, 0..6)).prop_map(|(top, filter, protocols)| {
        let protocols = protocols.iter().enumerate();
        let protocols: String = protocols
            .map(|(at, text)| format!("protocol {}\n", text.replace('#', &format!("p{at}"))))
            .collect();
        format!("{top}ipv4 table spare sorted;\nipv4 table t4;\nipv6 table t6;\n{filter}{protocols}")
    })
}

/// What a generator makes may be wrong in ways it does not know of: then there is nothing to print.
fn read(text: &str) -> Option<Config> {
    parse("made.conf", text, &mut NoInclude).ok()
}

proptest! {
    #[test]
    fn printing_and_parsing_a_whole_file_is_the_identity(text in file()) {
        if let Some(config) = read(&text) {
            round_trips(&config);
            let again = parsed(&config.to_string());
            prop_assert_eq!(diff(&config, &again), vec![]);
        }
    }

    #[test]
    fn what_differs_between_files_is_found(a in file(), b in file()) {
        if let (Some(a), Some(b)) = (read(&a), read(&b)) {
            let changes = diff(&a, &b);
            let same = a.protocols == b.protocols;
            prop_assert!(same || !changes.is_empty());
            let named = a.router_id != b.router_id || a.hostname != b.hostname;
            prop_assert!(!same || named || changes.is_empty(), "{changes:?}");
        }
    }
}

/// Most files that are made must be right ones, or the properties say little.
#[test]
fn most_files_are_accepted() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let made: Vec<String> = (0..200)
        .map(|_| file().new_tree(&mut runner).expect("a file").current())
        .collect();
    let wrong: Vec<String> = made
        .iter()
        .filter_map(|text| parse("made.conf", text, &mut NoInclude).err())
        .map(|errors| errors[0].to_string())
        .collect();
    assert!(wrong.len() < 60, "{} of 200:\n{}", wrong.len(), wrong[..20].join("\n"));
}
