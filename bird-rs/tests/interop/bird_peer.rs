//! Stock BIRD 2 as one of the foreign speakers.

use crate::features;
use crate::foreign::{Cease, Foreign, OUR_AS, Received, Setup, THEIR_AS, both_ways};
use crate::lab::{Lab, Running};

pub(crate) struct Bird;

/// BIRD's configuration. Other tests add protocols to it.
pub(crate) fn config(setup: &Setup) -> String {
    let set = "bgp_med = 50; bgp_local_pref = 200; bgp_community.add((65002,1)); bgp_large_community.add((65002,1,2));";
    let session = session(setup);
    let (asn, neighbor) = (setup.asn, setup.neighbor());
    let local = match (setup.link_local, setup.over_v6) {
        (true, _) => "fe80::77:2",
        (false, true) => "fd77::2",
        (false, false) => "10.77.0.2",
    };
    let limit = setup.max_prefixes.map(|n| format!("import limit {n} action disable;"));
    let limit = limit.unwrap_or_default();
    let extended = match (setup.extended_next_hops(), setup.v4_next_hops) {
        (true, _) => "extended next hop on;",
        (false, true) => "next hop address 10.77.0.2;",
        (false, false) => "",
    };
    let paths = if setup.add_path { "add paths on;" } else { "" };
    let mut config = format!(
        "router id 10.77.0.2;
log stderr all; debug protocols {{ states, events }};
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; route 10.99.1.0/24 blackhole; }}
protocol static s6 {{ ipv6; route fd99::/64 blackhole; }}
filter four {{ if source != RTS_STATIC then reject; if source = RTS_STATIC && net = 10.99.0.0/24 then {{ {set} }} accept; }}
filter six {{ if source != RTS_STATIC then reject; if source = RTS_STATIC then {{ {set} }} accept; }}
template bgp t {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90; direct; {session}
  ipv4 {{ import all; export filter four; {limit} {extended} {paths} }};
  ipv6 {{ import all; export filter six; next hop address fd77::2; {paths} }};
}}
protocol bgp tortie from t {{ local {local} as {asn}; neighbor {neighbor} as {OUR_AS}; }}
"
    );
    if setup.reflects {
        config = config.replace("if source != RTS_STATIC", "if source = RTS_DEVICE");
        config += "protocol bgp third from t { local 10.77.0.2 as 64512; neighbor 10.77.0.3 as 64512; }\n";
    }
    config
}

fn session(setup: &Setup) -> String {
    let mut session = String::new();
    if let Some(password) = setup.password {
        session += &format!("password \"{password}\";");
    }
    for (wanted, option) in [
        (setup.ttl_security, "ttl security on;"),
        (setup.reflects, "rr client;"),
        (setup.graceful, "graceful restart on;"),
        (
            setup.long_lived,
            "graceful restart time 4; long lived graceful restart on; long lived stale time 600;",
        ),
    ] {
        if wanted {
            session += option;
        }
    }
    session
}

/// The value of an attribute in what it shows.
fn value<'a>(shown: &'a str, attribute: &str) -> Option<&'a str> {
    let marked = format!("BGP.{attribute}:");
    shown
        .lines()
        .find_map(|line| line.trim().strip_prefix(&*marked))
        .map(str::trim)
}

/// `(1,2) (3,4)` and `(1, 2, 3)` as `1:2` and `1:2:3`.
fn communities(shown: &str) -> impl Iterator<Item = String> {
    let parts = shown
        .split(')')
        .map(|part| part.replace([' ', '('], "").replace(',', ":"));
    parts.filter(|part| !part.is_empty())
}

/// A path out of the attributes that it shows.
fn path(shown: &str) -> Option<Received> {
    let number = |attribute| value(shown, attribute).and_then(|text| text.parse().ok());
    Some(Received {
        next_hop: value(shown, "next_hop")?.split(' ').next()?.to_owned(),
        as_path: value(shown, "as_path")?.to_owned(),
        local_pref: number("local_pref"),
        med: number("med"),
        communities: communities(value(shown, "community").unwrap_or_default())
            .chain(communities(value(shown, "large_community").unwrap_or_default()))
            .collect(),
        originator: value(shown, "originator_id").map(str::to_owned),
        cluster_list: value(shown, "cluster_list")
            .into_iter()
            .flat_map(|list| list.split(' ').map(str::to_owned))
            .collect(),
    })
}

impl Foreign for Bird {
    fn start(&self, lab: &Lab, setup: &Setup) -> Running {
        lab.bird("b", &config(setup), setup.restarted)
    }

    fn paths(&self, lab: &Lab, prefix: &str) -> Vec<Received> {
        let table = if prefix.contains(':') { "master6" } else { "master4" };
        let shown = lab.birdc(&format!("show route {prefix} all table {table} protocol tortie"));
        shown.split("\tType: BGP").filter_map(path).collect()
    }

    fn withdraw(&self, lab: &Lab, setup: &Setup, prefix: &str) {
        let fewer = config(setup).replace(&format!("route {prefix} blackhole;"), "");
        lab.write("b-bird.conf", &fewer);
        assert!(lab.birdc("configure").contains("Reconfigured"));
    }

    fn refresh(&self, lab: &Lab) -> bool {
        assert!(lab.birdc("reload in tortie").contains("reloading"));
        true
    }

    fn shut_down(&self, lab: &Lab, _asn: u32, message: &str) -> bool {
        assert!(lab.birdc(&format!("disable tortie \"{message}\"")).contains("disabled"));
        true
    }

    fn is_up(&self, lab: &Lab) -> bool {
        lab.birdc("show protocols tortie").contains("Established")
    }

    fn last_reason(&self, lab: &Lab) -> String {
        lab.birdc("show protocols all tortie")
    }

    fn words(&self, cease: Cease) -> &'static str {
        match cease {
            Cease::MaximumPrefixes => "Received: Maximum number of prefixes reached",
            Cease::Deconfigured => "Received: Peer de-configured",
        }
    }
}

#[test]
fn an_internal_session_with_bird_carries_everything_both_ways() {
    both_ways(&Bird, OUR_AS);
}

#[test]
fn an_external_session_with_bird_carries_everything_both_ways() {
    both_ways(&Bird, THEIR_AS);
}

#[test]
fn bird_and_we_guard_the_session_with_ttl_security() {
    features::guarded(&Bird);
}

#[test]
fn bird_and_we_sign_segments_with_a_password() {
    features::signed(&Bird);
}

#[test]
fn bird_or_we_killed_find_our_routes_kept() {
    features::restarts(&Bird, features::Restarts::Both);
}

#[test]
fn bird_is_told_when_it_is_removed() {
    features::removed(&Bird);
}

#[test]
fn bird_is_told_when_it_sends_too_many_routes() {
    features::limited_by_us(&Bird);
}

#[test]
fn bird_tells_us_when_we_send_too_many_routes() {
    features::limits_us(&Bird);
}

#[test]
fn bird_needs_no_name_in_our_configuration() {
    features::unnamed(&Bird);
}

#[test]
fn we_reflect_between_bird_and_another_client() {
    features::reflected_by_us(&Bird);
}

#[test]
fn bird_reflects_between_us_and_another_client() {
    features::reflected_by_them(&Bird);
}

#[test]
fn bird_and_we_announce_ipv4_with_ipv6_next_hops() {
    features::ipv4_over_ipv6(&Bird);
}

#[test]
fn bird_speaks_first_when_our_open_waits() {
    features::delayed_open(&Bird);
}
