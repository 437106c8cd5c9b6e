//! GoBGP.

use std::process::Command;

use serde_json::{Value, json};

use crate::foreign::{Foreign, OUR_AS, Received, THEIR_AS, both_ways, number, said};
use crate::lab::{Lab, Running, eventually, run, tool};

struct GoBgp;

fn gobgp(lab: &Lab) -> Command {
    lab.command("b", tool("/usr/bin/gobgp"))
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "ipv6" } else { "ipv4" }
}

impl Foreign for GoBgp {
    fn start(&self, lab: &Lab, asn: u32) -> Running {
        let family = |name: &str| json!({"config": {"afi-safi-name": name}});
        let config = json!({
            "global": {"config": {"as": asn, "router-id": "10.77.0.2"}},
            "neighbors": [{
                "config": {"neighbor-address": "10.77.0.1", "peer-as": OUR_AS},
                "timers": {"config": {"connect-retry": 2, "hold-time": 90}},
                "afi-safis": [family("ipv4-unicast"), family("ipv6-unicast")],
            }],
        });
        let config = lab.write("gobgp.json", &config.to_string());
        let mut command = lab.command("b", tool("/usr/bin/gobgpd"));
        command.arg("-f").arg(config).args(["-t", "json", "--log-level=info"]);
        let running = lab.spawn(command, "gobgp");
        let set = "origin igp community 65002:1 large-community 65002:1:2 med 50 local-pref 200";
        for route in [
            format!("10.99.0.0/24 nexthop 10.77.0.2 {set} -a ipv4"),
            "10.99.1.0/24 nexthop 10.77.0.2 -a ipv4".to_owned(),
            format!("fd99::/64 nexthop fd77::2 {set} -a ipv6"),
        ] {
            eventually("gobgp takes a route", || {
                said(gobgp(lab).args(["global", "rib", "add"]).args(route.split(' ')))
            });
        }
        running
    }

    fn received(&self, lab: &Lab, prefix: &str) -> Option<Received> {
        let shown = said(gobgp(lab).args(["-j", "neighbor", "10.77.0.1", "adj-in", "-a", family(prefix)]))?;
        let shown: Value = serde_json::from_str(&shown).ok()?;
        let attributes = shown[prefix][0]["attrs"].as_array()?;
        let mut route = Received::default();
        for attribute in attributes {
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

    fn withdraw(&self, lab: &Lab, _asn: u32) {
        run(gobgp(lab).args(["global", "rib", "del", "10.99.1.0/24", "-a", "ipv4"]));
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
}

#[test]
fn an_internal_session_with_gobgp_carries_both_families_both_ways() {
    both_ways(&GoBgp, OUR_AS);
}

#[test]
fn an_external_session_with_gobgp_carries_both_families_both_ways() {
    both_ways(&GoBgp, THEIR_AS);
}
