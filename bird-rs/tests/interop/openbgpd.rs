//! OpenBGPD.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::features;
use crate::foreign::{Cease, Foreign, OUR_AS, Received, Setup, THEIR_AS, both_ways, number, said, texts};
use crate::lab::{Lab, Running, eventually, run, tool};

pub(crate) struct OpenBgpd;

pub(crate) fn bgpctl(lab: &Lab) -> Command {
    // It names interfaces by the numbers they have where it runs.
    let mut command = lab.command("b", tool("/usr/sbin/bgpctl"));
    command.arg("-s").arg(lab.path("openbgpd.ctl"));
    command
}

fn neighbor(setup: &Setup, address: &str) -> String {
    let mut options = String::new();
    if let Some(password) = setup.password {
        options += &format!("\ttcp md5sig password {password}\n");
    }
    if setup.ttl_security {
        options += "\tttl-security yes\n";
    }
    if let Some(limit) = setup.max_prefixes {
        options += &format!("\tmax-prefix {limit}\n");
    }
    if setup.reflects {
        options += "\troute-reflector\n";
    }
    if setup.graceful {
        // It would connect while a process that was killed is still going, and send what it had for that connection, an
        // OPEN, once more on the next one, as a second OPEN.
        options += "\tpassive\n";
    }
    if setup.add_path {
        options += "\tannounce add-path recv yes\n\tannounce add-path send all\n";
    }
    format!(
        "neighbor {address} {{\n\tremote-as {OUR_AS}\n\tannounce IPv4 unicast\n\tannounce IPv6 unicast
\tannounce enhanced refresh yes\n{options}}}\n"
    )
}

/// Starts it with these neighbours.
pub(crate) fn start(lab: &Lab, asn: u32, neighbors: &str) -> Running {
    // Its chroot.
    std::fs::create_dir_all("/run/openbgpd").unwrap();
    // On Linux it takes the first IPv6 address of the namespace for the next hop of a session over IPv4.
    lab.ip("b", "address replace fd77::2/128 dev lo");
    let set = "set { community 65002:1 large-community 65002:1:2 metric 50 localpref 200 }";
    let socket = lab.path("openbgpd.ctl");
    let config = lab.write(
        "openbgpd.conf",
        &format!(
            "AS {asn}\nrouter-id 10.77.0.2\nfib-update no\nsocket \"{}\"
network 10.99.0.0/24 {set}\nnetwork 10.99.1.0/24\nnetwork fd99::/64 {set}
{neighbors}allow from any\nallow to any\n",
            socket.display()
        ),
    );
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = lab.command("b", tool("/usr/sbin/bgpd"));
    command.arg("-d").arg("-f").arg(config);
    let running = lab.spawn(command, "openbgpd");
    // Its sessions start before its decision process has the neighbours' configuration: what arrives in between is passed
    // on as if there were no reflector.
    eventually("OpenBGPD has its configuration", || {
        lab.log("openbgpd")
            .contains("RDE soft reconfiguration done")
            .then_some(())
    });
    running
}

/// How often we began a refresh that it asked for, and how often we ended one.
pub(crate) fn demarcations(lab: &Lab) -> Option<[u64; 2]> {
    let received = &shown(lab)?["stats"]["route-refresh"]["received"];
    Some([received["borr"].as_u64()?, received["eorr"].as_u64()?])
}

/// Of the attributes that have no place of their own in a route.
fn attribute<'a>(route: &'a Value, name: &str) -> Option<&'a Value> {
    let mut attributes = route["attributes"].as_array()?.iter();
    attributes.find_map(|attribute| attribute.get(name))
}

/// What it says of its neighbour.
fn shown(lab: &Lab) -> Option<Value> {
    let shown = said(bgpctl(lab).args(["-j", "show", "neighbor", "10.77.0.1"]))?;
    let shown: Value = serde_json::from_str(&shown).ok()?;
    Some(shown["neighbors"][0].clone())
}

/// Every path to a prefix.
pub(crate) fn routes(lab: &Lab, prefix: &str) -> Option<Vec<Value>> {
    let shown = said(bgpctl(lab).args(["-j", "show", "rib", "detail", prefix]))?;
    let shown: Value = serde_json::from_str(&shown).ok()?;
    shown["rib"].as_array().cloned()
}

fn received(route: &Value) -> Option<Received> {
    Some(Received {
        next_hop: route["exit_nexthop"].as_str()?.to_owned(),
        as_path: route["aspath"].as_str()?.to_owned(),
        local_pref: number(&route["localpref"]),
        med: number(&route["metric"]),
        communities: texts(&route["communities"])
            .map(|shown| shown.replace("GRACEFUL_SHUTDOWN", "65535:0"))
            .chain(texts(&route["large_communities"]))
            .collect(),
        originator: attribute(route, "originator").and_then(|id| id.as_str().map(str::to_owned)),
        cluster_list: attribute(route, "cluster_list").into_iter().flat_map(texts).collect(),
    })
}

impl Foreign for OpenBgpd {
    fn start(&self, lab: &Lab, setup: &Setup) -> Running {
        let mut neighbors = neighbor(setup, setup.neighbor());
        if setup.reflects {
            neighbors += &neighbor(setup, "10.77.0.3");
        }
        if setup.over_v6 {
            // And the first IPv4 address for that of one over IPv6.
            lab.ip("b", "address del 127.0.0.1/8 dev lo");
            lab.address("b", "lo", "10.77.0.2/32");
        }
        start(lab, setup.asn, &neighbors)
    }

    fn paths(&self, lab: &Lab, prefix: &str) -> Vec<Received> {
        let routes = routes(lab, prefix).unwrap_or_default();
        let ours = |route: &&Value| {
            ["10.77.0.1", "fd77::1", "fe80::77:1%eth0"]
                .iter()
                .any(|&us| route["neighbor"]["remote_addr"] == us)
        };
        routes.iter().filter(ours).filter_map(received).collect()
    }

    fn withdraw(&self, lab: &Lab, _setup: &Setup, prefix: &str) {
        run(bgpctl(lab).args(["network", "delete", prefix]));
    }

    fn refresh(&self, lab: &Lab) -> bool {
        run(bgpctl(lab).args(["neighbor", "10.77.0.1", "refresh"]));
        true
    }

    fn shut_down(&self, lab: &Lab, _asn: u32, message: &str) -> bool {
        run(bgpctl(lab).args(["neighbor", "10.77.0.1", "down", message]));
        true
    }

    fn is_up(&self, lab: &Lab) -> bool {
        shown(lab).is_some_and(|neighbor| neighbor["state"] == "Established")
    }

    fn last_reason(&self, lab: &Lab) -> String {
        shown(lab).map(|neighbor| neighbor.to_string()).unwrap_or_default()
    }

    fn words(&self, cease: Cease) -> &'static str {
        match cease {
            Cease::MaximumPrefixes => "max-prefix exceeded",
            Cease::Deconfigured => "peer unconfigured",
        }
    }
}

#[test]
fn an_internal_session_with_openbgpd_carries_both_families_both_ways() {
    both_ways(&OpenBgpd, OUR_AS);
}

#[test]
fn an_external_session_with_openbgpd_carries_both_families_both_ways() {
    both_ways(&OpenBgpd, THEIR_AS);
}

#[test]
fn openbgpd_keeps_our_routes_and_does_not_ask_for_its_own_to_be_kept() {
    features::restarts(&OpenBgpd, features::Restarts::KeepsOurs);
}

#[test]
fn openbgpd_and_we_sign_segments_with_a_password() {
    features::signed(&OpenBgpd);
}

#[test]
fn openbgpd_and_we_guard_the_session_with_ttl_security() {
    features::guarded(&OpenBgpd);
}

#[test]
fn openbgpd_is_told_when_it_is_removed() {
    features::removed(&OpenBgpd);
}

#[test]
fn openbgpd_is_told_when_it_sends_too_many_routes() {
    features::limited_by_us(&OpenBgpd);
}

#[test]
fn openbgpd_tells_us_when_we_send_too_many_routes() {
    features::limits_us(&OpenBgpd);
}

#[test]
fn openbgpd_needs_no_name_in_our_configuration() {
    features::unnamed(&OpenBgpd);
}

#[test]
fn we_reflect_between_openbgpd_and_another_client() {
    features::reflected_by_us(&OpenBgpd);
}

#[test]
fn openbgpd_reflects_between_us_and_another_client() {
    features::reflected_by_them(&OpenBgpd);
}

#[test]
fn openbgpd_speaks_first_when_our_open_waits() {
    features::delayed_open(&OpenBgpd);
}
