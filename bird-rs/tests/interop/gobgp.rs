//! GoBGP.

use std::process::Command;

use serde_json::{Value, json};

use crate::features;
use crate::foreign::{Cease, Foreign, OUR_AS, Received, Setup, THEIR_AS, both_ways, number, said, texts};
use crate::lab::{Lab, Running, eventually, run, tool};

pub(crate) struct GoBgp;

pub(crate) fn gobgp(lab: &Lab) -> Command {
    lab.command("b", tool("/usr/bin/gobgp"))
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "ipv6" } else { "ipv4" }
}

fn neighbor(setup: &Setup, address: &str, asn: u32) -> Value {
    let family = |name: &str, limit: Option<u32>| {
        let mut family = json!({
            "config": {"afi-safi-name": name},
            "mp-graceful-restart": {"config": {"enabled": setup.graceful}},
            "long-lived-graceful-restart": {"config": {"enabled": setup.long_lived, "restart-time": 600}},
        });
        if setup.add_path {
            family["add-paths"] = json!({"config": {"receive": true, "send-max": 8}});
        }
        if let Some(limit) = limit {
            family["prefix-limit"] = json!({"config": {"max-prefixes": limit}});
        }
        family
    };
    let mut neighbor = json!({
        "config": {"neighbor-address": address, "peer-as": asn},
        "timers": {"config": {"connect-retry": 2, "hold-time": 90}},
        "afi-safis": [family("ipv4-unicast", setup.max_prefixes), family("ipv6-unicast", None)],
        "graceful-restart": {"config": {
            "enabled": setup.graceful, "restart-time": setup.restart_time(), "long-lived-enabled": setup.long_lived,
        }},
        "ttl-security": {"config": {"enabled": setup.ttl_security, "ttl-min": 255}},
    });
    if let Some(password) = setup.password {
        neighbor["config"]["auth-password"] = json!(password);
    }
    if setup.reflects {
        let reflector = json!({"route-reflector-client": true, "route-reflector-cluster-id": "10.77.0.2"});
        neighbor["route-reflector"] = json!({"config": reflector});
    }
    neighbor
}

/// What it says of its neighbour.
fn shown(lab: &Lab) -> Option<Value> {
    let shown: Value = serde_json::from_str(&said(gobgp(lab).args(["-j", "neighbor"]))?).ok()?;
    Some(shown[0].clone())
}

/// What came in from us for a prefix.
fn adjacent(lab: &Lab, prefix: &str) -> Option<Vec<Value>> {
    let address = shown(lab)?["conf"]["neighbor_address"].as_str()?.to_owned();
    let shown = said(gobgp(lab).args(["-j", "neighbor", &address, "adj-in", "-a", family(prefix)]))?;
    let shown: Value = serde_json::from_str(&shown).ok()?;
    shown[prefix].as_array().cloned()
}

fn received(path: &Value) -> Option<Received> {
    let mut route = Received::default();
    for attribute in path["attrs"].as_array()? {
        match attribute["type"].as_u64()? {
            2 => {
                let numbers = attribute["as_paths"][0]["asns"].as_array();
                let numbers: Vec<String> = numbers.into_iter().flatten().map(Value::to_string).collect();
                route.as_path = numbers.join(" ");
            }
            3 | 14 => route.next_hop = attribute["nexthop"].as_str()?.to_owned(),
            4 => route.med = number(&attribute["metric"]),
            5 => route.local_pref = number(&attribute["value"]),
            8 => {
                let communities = attribute["communities"].as_array()?.iter().filter_map(number);
                let shown = communities.map(|community| format!("{}:{}", community >> 16, community & 0xffff));
                route.communities.splice(0..0, shown);
            }
            9 => route.originator = attribute["value"].as_str().map(str::to_owned),
            10 => route.cluster_list = texts(&attribute["value"]).collect(),
            32 => {
                for part in attribute["value"].as_array()? {
                    let community = format!("{}:{}:{}", part["ASN"], part["LocalData1"], part["LocalData2"]);
                    route.communities.push(community);
                }
            }
            _ => {}
        }
    }
    Some(route)
}

/// Starts it with this configuration and these arguments.
pub(crate) fn start(lab: &Lab, config: &Value, more: &[&str]) -> Running {
    let config = lab.write("gobgp.json", &config.to_string());
    let mut command = lab.command("b", tool("/usr/bin/gobgpd"));
    command.arg("-f").arg(config).args(["-t", "json", "--log-level=info"]);
    command.args(more);
    lab.spawn(command, "gobgp")
}

impl Foreign for GoBgp {
    fn start(&self, lab: &Lab, setup: &Setup) -> Running {
        let mut neighbors = vec![neighbor(setup, setup.neighbor(), OUR_AS)];
        if setup.reflects {
            neighbors.push(neighbor(setup, "10.77.0.3", OUR_AS));
        }
        let config = json!({
            "global": {"config": {"as": setup.asn, "router-id": "10.77.0.2"}},
            "neighbors": neighbors,
        });
        let mut more: &[&str] = &[];
        if setup.restarted {
            more = &["-r"];
            // It takes its routes from its command line only, and would say that it has none: no session before.
            lab.ip("b", "address del 10.77.0.2/24 dev eth0");
        }
        let running = start(lab, &config, more);
        let set = "origin igp community 65002:1 large-community 65002:1:2 med 50 local-pref 200";
        // It keeps the next hop that a route of its own is given.
        let next_hop = if setup.extended_next_hops() {
            "fd77::2"
        } else {
            "10.77.0.2"
        };
        for route in [
            format!("10.99.0.0/24 nexthop {next_hop} {set} -a ipv4"),
            format!("10.99.1.0/24 nexthop {next_hop} -a ipv4"),
            format!("fd99::/64 nexthop fd77::2 {set} -a ipv6"),
        ] {
            eventually("gobgp takes a route", || {
                said(gobgp(lab).args(["global", "rib", "add"]).args(route.split(' ')))
            });
        }
        if setup.restarted {
            lab.ip("b", "address add 10.77.0.2/24 dev eth0");
        }
        running
    }

    fn paths(&self, lab: &Lab, prefix: &str) -> Vec<Received> {
        let paths = adjacent(lab, prefix).unwrap_or_default();
        paths.iter().filter_map(received).collect()
    }

    fn withdraw(&self, lab: &Lab, _setup: &Setup, prefix: &str) {
        run(gobgp(lab).args(["global", "rib", "del", prefix, "-a", "ipv4"]));
    }

    /// Its soft reset works on what it has kept.
    fn refresh(&self, _lab: &Lab) -> bool {
        false
    }

    /// It accepts a `--reason` and sends none.
    fn shut_down(&self, lab: &Lab, _asn: u32, message: &str) -> bool {
        run(gobgp(lab).args(["neighbor", "10.77.0.1", "disable", "--reason", message]));
        false
    }

    fn is_up(&self, lab: &Lab) -> bool {
        shown(lab).is_some_and(|neighbor| neighbor["state"]["session_state"] == 6)
    }

    fn last_reason(&self, lab: &Lab) -> String {
        let log = lab.log("gobgp");
        let lines = log.lines().filter(|line| line.contains("received notification"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn words(&self, cease: Cease) -> &'static str {
        match cease {
            Cease::MaximumPrefixes => "\"Subcode\":1,",
            Cease::Deconfigured => "\"Subcode\":3,",
        }
    }
}

#[test]
fn an_internal_session_with_gobgp_carries_both_families_both_ways() {
    both_ways(&GoBgp, OUR_AS);
}

#[test]
fn an_external_session_with_gobgp_carries_both_families_both_ways() {
    both_ways(&GoBgp, THEIR_AS);
}

#[test]
fn gobgp_or_we_killed_find_our_routes_kept() {
    features::restarts(&GoBgp, features::Restarts::Both);
}

#[test]
fn gobgp_and_we_sign_segments_with_a_password() {
    features::signed(&GoBgp);
}

#[test]
fn gobgp_and_we_guard_the_session_with_ttl_security() {
    features::guarded(&GoBgp);
}

#[test]
fn gobgp_is_told_when_it_is_removed() {
    features::removed(&GoBgp);
}

#[test]
fn gobgp_is_told_when_it_sends_too_many_routes() {
    features::limited_by_us(&GoBgp);
}

#[test]
fn gobgp_tells_us_when_we_send_too_many_routes() {
    features::limits_us(&GoBgp);
}

#[test]
fn gobgp_needs_no_name_in_our_configuration() {
    features::unnamed(&GoBgp);
}

#[test]
fn we_reflect_between_gobgp_and_another_client() {
    features::reflected_by_us(&GoBgp);
}

#[test]
fn gobgp_reflects_between_us_and_another_client() {
    features::reflected_by_them(&GoBgp);
}

#[test]
fn gobgp_and_we_announce_ipv4_with_ipv6_next_hops() {
    features::ipv4_over_ipv6(&GoBgp);
}

#[test]
fn gobgp_speaks_first_when_our_open_waits() {
    features::delayed_open(&GoBgp);
}
