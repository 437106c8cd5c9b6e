//! Origin validation (RFC 6811) by others: a peer with the same cache as we (Debian's StayRTR) must say of each of our routes
//! what we say of it, which we put into a community; also when the cache changes its mind. With BIRD, and more of it: `rpki`.

use serde_json::{Value, json};

use crate::foreign::{Foreign, OUR_AS, THEIR_AS, said};
use crate::frr::{self, Frr};
use crate::gobgp::{self, GoBgp, gobgp};
use crate::lab::{Lab, Running, eventually_or};
use crate::openbgpd::{self, OpenBgpd};
use crate::rpki::cache;

/// What the route is about, the route, and whether it is ours or comes from behind us.
const ROUTES: [(&str, bool); 9] = [
    ("10.1.0.0/24", true),
    ("10.2.0.0/24", true),
    ("10.3.0.0/24", true),
    ("10.4.0.0/25", true),
    ("10.5.0.0/24", false),
    ("10.6.0.0/24", false),
    ("fd44:1::/48", true),
    ("fd44:2::/48", true),
    ("fd44:3::/48", true),
];
/// The origin of what is not ours.
const BEHIND: u32 = 65010;

fn payloads(rows: &[(&str, u32, u32)]) -> String {
    let roas: Vec<Value> = rows
        .iter()
        .map(|(prefix, max, asn)| json!({"prefix": prefix, "maxLength": max, "asn": format!("AS{asn}"), "ta": "t"}))
        .collect();
    json!({"roas": roas}).to_string()
}

/// What the cache says at first, and then.
fn before() -> String {
    payloads(&[
        ("10.1.0.0/16", 24, OUR_AS),
        ("10.2.0.0/16", 24, 1),
        ("10.4.0.0/16", 24, OUR_AS),
        ("10.5.0.0/24", 24, BEHIND),
        ("10.6.0.0/24", 24, 0),
        ("fd44:1::/48", 48, OUR_AS),
        ("fd44:2::/32", 40, OUR_AS),
    ])
}

fn after() -> String {
    payloads(&[
        ("10.2.0.0/16", 24, OUR_AS),
        ("10.3.0.0/16", 24, BEHIND),
        ("10.4.0.0/16", 25, OUR_AS),
        ("10.5.0.0/24", 24, OUR_AS),
        ("fd44:1::/48", 48, BEHIND),
        ("fd44:3::/48", 48, OUR_AS),
    ])
}

fn ours() -> String {
    let routes = |v6: bool| -> String {
        let these = ROUTES.iter().filter(|(net, _)| net.contains(':') == v6);
        these.map(|(net, _)| format!("route {net} blackhole; ")).collect()
    };
    let behind: Vec<&str> = ROUTES.iter().filter(|(_, own)| !own).map(|(net, _)| *net).collect();
    let verdict = |table: &str, origin: u32| {
        format!(
            "case roa_check({table}, net, {origin}) {{ ROA_VALID: bgp_community.add((1,1)); ROA_INVALID: bgp_community.add((1,2));
    ROA_UNKNOWN: bgp_community.add((1,3)); }}"
        )
    };
    format!(
        "router id 10.77.0.1;
roa4 table r4;
roa6 table r6;
protocol device {{ }}
protocol rpki cache {{ roa4 {{ table r4; }}; roa6 {{ table r6; }}; remote \"10.77.0.2\" port 8282; retry keep 1; transport tcp; }}
protocol static s4 {{ ipv4; {} }}
protocol static s6 {{ ipv6; {} }}
filter out4 {{
  if source != RTS_STATIC then reject;
  if net ~ [{}] then {{
    bgp_path.prepend({BEHIND});
    {}
    accept;
  }}
  {}
  accept;
}}
filter out6 {{
  if source != RTS_STATIC then reject;
  {}
  accept;
}}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.1 as {OUR_AS}; neighbor 10.77.0.2 as {THEIR_AS};
  ipv4 {{ import all; export filter out4; }};
  ipv6 {{ import all; export filter out6; next hop address fd77::1; }};
}}
",
        routes(false),
        routes(true),
        behind.join(", "),
        verdict("r4", BEHIND),
        verdict("r4", OUR_AS),
        verdict("r6", OUR_AS),
    )
}

/// `theirs` is a peer's verdict on a prefix: `valid`, `invalid` or `unknown`.
fn agree(foreign: &dyn Foreign, start: &dyn Fn(&Lab) -> Running, theirs: &dyn Fn(&Lab, &str) -> Option<String>) {
    let lab = Lab::new();
    lab.write("roas.json", &before());
    let _cache = cache(&lab);
    let _them = start(&lab);
    let _daemon = lab.bird_rs("a", &ours());
    let mut client = lab.client("a");
    client.established("Peer");
    let compare = |wanted: [&str; 9]| {
        for ((prefix, _), wanted) in ROUTES.iter().zip(wanted) {
            eventually_or(|| {
                let marks = foreign.received(&lab, prefix).unwrap_or_default().communities;
                let ours = match marks.first().map(String::as_str) {
                    Some("1:1") => "valid",
                    Some("1:2") => "invalid",
                    Some("1:3") => "unknown",
                    _ => "nothing",
                };
                let theirs = theirs(&lab, prefix).unwrap_or_default();
                match (ours == wanted, theirs == wanted) {
                    (true, true) => Ok(()),
                    _ => Err(format!(
                        "{prefix}: we say {ours}, the peer says {theirs}, wanted {wanted}"
                    )),
                }
            });
        }
    };
    compare([
        "valid", "invalid", "unknown", "invalid", "valid", "invalid", "valid", "invalid", "unknown",
    ]);
    lab.write("roas.json", &after());
    compare([
        "unknown", "valid", "invalid", "valid", "invalid", "unknown", "invalid", "unknown", "valid",
    ]);
    assert_eq!(client.session("Peer").state, "Established");
}

#[test]
fn frr_and_we_come_to_the_same_verdicts_with_the_same_cache() {
    let start = |lab: &Lab| {
        let cache = "rpki\n rpki cache 10.77.0.2 8282 preference 1\n exit\n!\n";
        frr::start_validating(lab, &(cache.to_owned() + &frr::config(THEIR_AS, "", "")))
    };
    agree(&Frr, &start, &|lab, prefix| {
        let path = frr::path(lab, prefix, "10.77.0.1")?;
        let state = path["rpkiValidationState"].as_str()?;
        Some(if state == "not found" { "unknown" } else { state }.to_owned())
    });
}

#[test]
fn gobgp_and_we_come_to_the_same_verdicts_with_the_same_cache() {
    let start = |lab: &Lab| {
        let family = |name: &str| json!({"config": {"afi-safi-name": name}});
        let config = json!({
            "global": {"config": {"as": THEIR_AS, "router-id": "10.77.0.2"}},
            "neighbors": [{
                "config": {"neighbor-address": "10.77.0.1", "peer-as": OUR_AS},
                "timers": {"config": {"connect-retry": 2}},
                "afi-safis": [family("ipv4-unicast"), family("ipv6-unicast")],
            }],
            "rpki-servers": [{"config": {"address": "10.77.0.2", "port": 8282}}],
        });
        gobgp::start(lab, &config, &[])
    };
    agree(&GoBgp, &start, &|lab, prefix| {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        // The first letter of the route's line: `V*>10.1.0.0/24 ..`.
        let shown = said(gobgp(lab).args(["global", "rib", "-a", family]))?;
        let line = shown.lines().find(|line| line.contains(&format!(">{prefix} ")))?;
        let verdict = match line.chars().next()? {
            'V' => "valid",
            'I' => "invalid",
            'N' => "unknown",
            _ => return None,
        };
        Some(verdict.to_owned())
    });
}

#[test]
fn openbgpd_and_we_come_to_the_same_verdicts_with_the_same_cache() {
    let start = |lab: &Lab| {
        let session = format!(
            "rtr 10.77.0.2 {{ port 8282 }}
neighbor 10.77.0.1 {{\n\tremote-as {OUR_AS}\n\tannounce IPv4 unicast\n\tannounce IPv6 unicast\n}}\n"
        );
        openbgpd::start(lab, THEIR_AS, &session)
    };
    agree(&OpenBgpd, &start, &|lab, prefix| {
        let routes = openbgpd::routes(lab, prefix)?;
        let ours = routes
            .iter()
            .find(|route| route["neighbor"]["remote_addr"] == "10.77.0.1")?;
        let state = ours["ovs"].as_str()?;
        Some(if state == "not-found" { "unknown" } else { state }.to_owned())
    });
}
