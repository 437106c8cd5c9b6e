//! ROAs: verdicts of filters, and which routes a change of ROAs touches.

use std::sync::Arc;

use tortie_net::Asn;

use super::Network;
use super::network::config;
use super::sessions::{node, pair};
use crate::rib::Filtered;
use crate::roa::{Roa, RoaSet};
use crate::speaker::{CacheNews, CacheSpec, Input, LogEvent, ProtocolState, RouteQuery};

const TABLES: &str = "roa4 table r4; roa6 table r6;\n";
const CACHE: &str = "protocol rpki cache { roa4 { table r4; }; roa6 { table r6; }; remote 10.0.0.9 port 3323; }\n";
/// Prints what it decides on.
const CHECKS: &str =
    "import filter { print net; if roa_check(r4) = ROA_INVALID then reject; if roa_check(r6) = ROA_INVALID then reject;
    if roa_check(r4) = ROA_VALID then bgp_local_pref = 200; accept; }; export all;|";

/// 1 checks what 2 tells it: 10.2.0.0/24, fd00:2::/64, and some more.
fn checked(roas: &str, checks: &str) -> Network {
    checked_with("", roas, checks)
}

fn checked_with(functions: &str, roas: &str, checks: &str) -> Network {
    let mut left = TABLES.to_owned() + functions;
    left += &node(1, 64512, &[(2, 64513, checks)]);
    left += roas;
    let mut right = node(2, 64513, &[(1, 64512, "")]);
    right += "protocol static more { ipv4; route 10.3.0.0/16 blackhole; route 10.3.0.0/24 blackhole; route 10.4.0.0/24 blackhole; }";
    let mut net = pair(&left, &right);
    net.seconds(10);
    net
}

fn set(roas: &[(&str, u8, u32)]) -> Arc<RoaSet> {
    let roa =
        |(prefix, max_len, asn): &(&str, u8, u32)| Roa::new(prefix.parse().unwrap(), *max_len, Asn(*asn)).unwrap();
    Arc::new(roas.iter().map(roa).collect())
}

fn caches(net: &Network) -> Vec<CacheSpec> {
    net.node(0).caches.clone()
}

fn says(net: &mut Network, id: u32, roas: &[(&str, u8, u32)]) {
    let news = CacheNews::Roas(set(roas));
    net.input(0, Input::Cache { id, news });
    net.quiesce();
}

/// The prefixes that a filter of node 0 was run over since the last look.
fn asked(net: &mut Network) -> Vec<String> {
    let logs = std::mem::take(&mut net.node_mut(0).logs);
    let text = |log: crate::speaker::Log| match log.event {
        LogEvent::FilterMessage { text } => Some(text),
        _ => None,
    };
    let mut asked: Vec<String> = logs.into_iter().filter_map(text).collect();
    asked.sort();
    asked
}

/// LOCAL_PREF of what is used, or why it is not.
fn fate(net: &Network, prefix: &str) -> Result<u32, Option<Filtered>> {
    let query = RouteQuery {
        prefix: Some(prefix.parse().unwrap()),
        filtered: true,
        ..RouteQuery::default()
    };
    let route = net.node(0).speaker.routes(&query).pop().unwrap();
    match route.filtered {
        None => Ok(route.attributes.local_pref.unwrap()),
        why => Err(why),
    }
}

const INVALID: Result<u32, Option<Filtered>> = Err(Some(Filtered::ImportPolicy));

#[test]
fn roas_of_the_configuration_decide() {
    let mut net = checked(
        "protocol static good { roa4; route 10.2.0.0/16 max 24 as 64513; }
         protocol static bad { roa4 { table r4; }; route 10.3.0.0/16 max 16 as 64513; }
         protocol static six { roa6; route fd00::/16 max 64 as 0; }",
        CHECKS,
    );
    assert_eq!(fate(&net, "10.2.0.0/24"), Ok(200));
    assert_eq!(fate(&net, "10.3.0.0/16"), Ok(200));
    assert_eq!(fate(&net, "10.3.0.0/24"), INVALID);
    assert_eq!(fate(&net, "10.4.0.0/24"), Ok(100));
    assert_eq!(fate(&net, "fd00:2::/64"), INVALID);
    let good = net.protocol(0, "good");
    assert_eq!(
        (good.kind, &*good.table, good.state),
        ("Static", "r4", ProtocolState::Up)
    );
    assert_eq!((good.channels[0].family, good.channels[0].imported), ("roa4", 1));
    // One ROA less: a new configuration touches what it covered, and the session stays.
    asked(&mut net);
    let mut text = TABLES.to_owned();
    text += &node(1, 64512, &[(2, 64513, CHECKS)]);
    text += "protocol static good { roa4; route 10.2.0.0/16 max 24 as 64513; }
        protocol static bad { roa4; }
        protocol static six { roa6; route fd00::/16 max 64 as 0; }";
    net.input(0, Input::Reconfigure(config(&text)));
    net.quiesce();
    assert_eq!(asked(&mut net), ["10.3.0.0/16", "10.3.0.0/24"]);
    assert_eq!(fate(&net, "10.3.0.0/24"), Ok(100));
    assert!(net.established(0, "p2"));
}

#[test]
fn a_cache_says_what_it_says() {
    let mut net = checked(CACHE, CHECKS);
    let wanted = caches(&net);
    assert_eq!(wanted.len(), 1);
    assert_eq!((&*wanted[0].protocol, wanted[0].config.port), ("cache", 3323));
    let id = wanted[0].id;
    assert_eq!(net.protocol(0, "cache").state, ProtocolState::Start);
    assert_eq!(fate(&net, "10.3.0.0/24"), Ok(100), "nothing is known yet");
    asked(&mut net);
    let sent = net.updates_sent(0);

    // Exactly the routes within what changed are asked about again.
    says(&mut net, id, &[("10.3.0.0/16", 16, 64513), ("192.0.2.0/24", 24, 1)]);
    assert_eq!(asked(&mut net), ["10.3.0.0/16", "10.3.0.0/24"]);
    assert_eq!(
        (fate(&net, "10.3.0.0/16"), fate(&net, "10.3.0.0/24")),
        (Ok(200), INVALID)
    );
    // The same again is no change.
    says(&mut net, id, &[("10.3.0.0/16", 16, 64513), ("192.0.2.0/24", 24, 1)]);
    assert_eq!(asked(&mut net), [""; 0]);
    // Both families; what goes is asked about as well as what comes.
    says(&mut net, id, &[("fd00::/16", 128, 9), ("192.0.2.0/24", 24, 1)]);
    assert_eq!(asked(&mut net), ["10.3.0.0/16", "10.3.0.0/24", "fd00:2::/64"]);
    assert_eq!(
        (fate(&net, "10.3.0.0/24"), fate(&net, "fd00:2::/64")),
        (Ok(100), INVALID)
    );
    assert!(net.established(0, "p2") && net.established(1, "p1"));
    assert_eq!(net.updates_sent(0), sent, "what 1 tells 2 is none of this");

    // What an old session still has to say is not heard.
    says(&mut net, id + 1, &[("10.3.0.0/16", 24, 1)]);
    assert_eq!(fate(&net, "10.3.0.0/24"), Ok(100));
    assert_eq!(net.node(0).speaker.roa_page("r6", None, 10).len(), 1);

    // Disabled, its ROAs go; enabled, it is another session.
    net.operate(0, "cache", crate::speaker::Command::Disable, "");
    net.quiesce();
    assert_eq!((fate(&net, "fd00:2::/64"), caches(&net).len()), (Ok(100), 0));
    net.operate(0, "cache", crate::speaker::Command::Enable, "");
    net.quiesce();
    assert!(caches(&net)[0].id > id);
}

#[test]
fn filters_that_ask_otherwise_are_asked_otherwise() {
    // Of another prefix than the route's own: then any route may be concerned. Through a function all the same.
    let other = "import filter { print net; if far(net) then reject; accept; }; export all;|";
    let far = "function far(prefix p) { return roa_check(r4, 192.0.2.0/24, 1) = ROA_VALID; }\n";
    let mut net = checked_with(far, CACHE, other);
    let id = caches(&net)[0].id;
    asked(&mut net);
    says(&mut net, id, &[("192.0.2.0/24", 24, 1)]);
    assert_eq!(
        asked(&mut net),
        [
            "10.2.0.0/24",
            "10.3.0.0/16",
            "10.3.0.0/24",
            "10.4.0.0/24",
            "fd00:2::/64"
        ]
    );
    assert_eq!(fate(&net, "10.4.0.0/24"), INVALID);

    // Not at all, if that is said; an explicit AS; the route's own prefix named.
    let off =
        "rpki reload off; import filter { print net; if roa_check(r4, net, bgp_path.last) = ROA_INVALID then reject;
        accept; }; export all;|";
    let mut net = checked(CACHE, off);
    let id = caches(&net)[0].id;
    asked(&mut net);
    says(&mut net, id, &[("10.0.0.0/8", 8, 1)]);
    assert_eq!(asked(&mut net), [""; 0]);
    assert_eq!(fate(&net, "10.4.0.0/24"), Ok(100));
    net.operate(0, "p2", crate::speaker::Command::ReloadIn, "");
    net.quiesce();
    assert_eq!(fate(&net, "10.4.0.0/24"), INVALID);
}

#[test]
fn what_is_announced_follows_too() {
    // 2 is told what is valid; 1's own routes have no path, so the AS is named.
    let tells = "import none; export where roa_check(r4, net, 64512) != ROA_INVALID;|";
    let mut left = TABLES.to_owned() + &node(1, 64512, &[(2, 64513, tells)]) + CACHE;
    left += "protocol static more { ipv4; route 10.5.0.0/24 blackhole; }";
    let mut net = pair(&left, &node(2, 64513, &[(1, 64512, "")]));
    net.seconds(10);
    let id = caches(&net)[0].id;
    assert!(net.best(1, "10.1.0.0/24").is_some() && net.best(1, "10.5.0.0/24").is_some());
    let sent = net.updates_sent(0);
    says(&mut net, id, &[("10.5.0.0/24", 24, 1)]);
    net.seconds(1);
    assert!(net.best(1, "10.1.0.0/24").is_some() && net.best(1, "10.5.0.0/24").is_none());
    assert_eq!(net.updates_sent(0), sent + 1);
    says(&mut net, id, &[("10.5.0.0/24", 24, 1), ("10.5.0.0/24", 24, 64512)]);
    net.seconds(1);
    assert!(net.best(1, "10.5.0.0/24").is_some());
    assert!(net.established(0, "p2"));
}

#[test]
fn a_route_without_a_path_cannot_be_checked() {
    let left = TABLES.to_owned()
        + &node(1, 64512, &[])
        + "protocol static more { ipv4 { import where roa_check(r4) = ROA_UNKNOWN; }; route 10.5.0.0/24 blackhole; }";
    let mut net = pair(&left, &node(2, 64513, &[]));
    net.seconds(1);
    assert!(net.best(0, "10.5.0.0/24").is_none());
    let failed =
        |event: &LogEvent| matches!(event, LogEvent::FilterFailed { reason, .. } if reason.contains("bgp_path"));
    assert!(net.logged(0, failed) > 0);
}

#[test]
fn timers_change_under_a_session_and_the_rest_makes_another() {
    let mut net = checked(CACHE, CHECKS);
    let before = caches(&net);
    let text = |cache: &str| TABLES.to_owned() + &node(1, 64512, &[(2, 64513, CHECKS)]) + cache;
    says(&mut net, before[0].id, &[("10.3.0.0/16", 16, 64513)]);
    net.input(
        0,
        Input::Reconfigure(config(&text(
            &CACHE.replace("port 3323;", "port 3323; refresh keep 5;"),
        ))),
    );
    net.quiesce();
    let after = caches(&net);
    assert_eq!(after[0].id, before[0].id);
    assert!(after[0].config.timers.refresh.keep);
    assert_eq!(fate(&net, "10.3.0.0/24"), INVALID, "its ROAs stay");
    net.input(0, Input::Reconfigure(config(&text(&CACHE.replace("3323", "3324")))));
    net.quiesce();
    assert!(caches(&net)[0].id > before[0].id);
    assert_eq!(fate(&net, "10.3.0.0/24"), Ok(100));
}
