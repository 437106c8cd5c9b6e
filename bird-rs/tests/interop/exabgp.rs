//! ExaBGP as a peer that says what it should not: attributes that are wrong in every way, live, from a peer of another AS
//! and of ours, for both families (RFC 7606). Beside it a healthy BIRD hears what we make of it, and its session and the
//! routes that are not concerned stay.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::foreign::{OUR_AS, THEIR_AS, ours};
use crate::lab::{Client, Lab, Running, eventually, eventually_or, tool};

/// What RFC 7606 has done about an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Its route counts as withdrawn.
    Withdrawn,
    /// The route is used without it.
    Discarded,
    /// The route is used, and the attribute goes on.
    Used,
}

use Verdict::{Discarded, Used, Withdrawn};

/// What, the attribute as ExaBGP takes it, from a peer of another AS, from one of ours.
const CASES: &[(&str, &str, Verdict, Verdict)] = &[
    ("ORIGIN of no octet", "0x01 0x40 0x", Withdrawn, Withdrawn),
    ("ORIGIN of two octets", "0x01 0x40 0x0000", Withdrawn, Withdrawn),
    ("ORIGIN 5", "0x01 0x40 0x05", Withdrawn, Withdrawn),
    ("ORIGIN optional", "0x01 0xc0 0x00", Withdrawn, Withdrawn),
    ("ORIGIN not transitive", "0x01 0x00 0x00", Withdrawn, Withdrawn),
    ("AS_PATH cut", "0x02 0x40 0x02010000fd", Withdrawn, Withdrawn),
    (
        "AS_PATH beyond itself",
        "0x02 0x40 0x02020000fdea",
        Withdrawn,
        Withdrawn,
    ),
    ("AS_PATH of segment 9", "0x02 0x40 0x09010000fdea", Withdrawn, Withdrawn),
    ("AS_PATH of an empty segment", "0x02 0x40 0x0200", Withdrawn, Withdrawn),
    ("AS_PATH with AS 0", "0x02 0x40 0x020100000000", Withdrawn, Withdrawn),
    ("AS_PATH optional", "0x02 0xc0 0x02010000fdea", Withdrawn, Withdrawn),
    ("MED of three octets", "0x04 0x80 0x000001", Withdrawn, Withdrawn),
    ("MED of five octets", "0x04 0x80 0x0000000001", Withdrawn, Withdrawn),
    ("MED transitive", "0x04 0xc0 0x00000001", Withdrawn, Withdrawn),
    ("ATOMIC_AGGREGATE with a value", "0x06 0x40 0x01", Discarded, Discarded),
    (
        "AGGREGATOR of six octets",
        "0x07 0xc0 0xfdea0a4d0002",
        Discarded,
        Discarded,
    ),
    (
        "AGGREGATOR not transitive",
        "0x07 0x80 0x0000fdea0a4d0002",
        Withdrawn,
        Withdrawn,
    ),
    ("COMMUNITIES, none", "0x08 0xc0 0x", Withdrawn, Withdrawn),
    (
        "COMMUNITIES of five octets",
        "0x08 0xc0 0xfdea000100",
        Withdrawn,
        Withdrawn,
    ),
    ("COMMUNITIES well-known", "0x08 0x40 0xfdea0001", Withdrawn, Withdrawn),
    (
        "ORIGINATOR_ID of three octets",
        "0x09 0x80 0x0a0000",
        Discarded,
        Withdrawn,
    ),
    (
        "CLUSTER_LIST of five octets",
        "0x0a 0x80 0x0a00000000",
        Discarded,
        Withdrawn,
    ),
    (
        "EXTENDED COMMUNITIES of seven octets",
        "0x10 0xc0 0x0002fdea000000",
        Withdrawn,
        Withdrawn,
    ),
    (
        "AS4_PATH between those who need none",
        "0x11 0xc0 0x02010000fdea",
        Discarded,
        Discarded,
    ),
    ("AS4_AGGREGATOR of one octet", "0x12 0xc0 0x00", Discarded, Discarded),
    (
        "LARGE_COMMUNITY of eleven octets",
        "0x20 0xc0 0x0000fdea00000001000000",
        Withdrawn,
        Withdrawn,
    ),
    ("LARGE_COMMUNITY, none", "0x20 0xc0 0x", Withdrawn, Withdrawn),
    (
        "ONLY_TO_CUSTOMER of two octets",
        "0x23 0xc0 0xfdea",
        Withdrawn,
        Withdrawn,
    ),
    ("what nobody knows, transitive", "0xc8 0xc0 0x0102", Used, Used),
    (
        "what nobody knows, not transitive",
        "0xc8 0x80 0x0102",
        Discarded,
        Discarded,
    ),
];

/// What ends the session, with the words of our NOTIFICATION. The last one goes with an IPv6 route, whose own
/// MP_REACH_NLRI ExaBGP writes beside this one.
const RESETS: &[(&str, &str, &str)] = &[
    (
        "a well-known attribute that nobody knows",
        "0xc8 0x40 0x0102",
        "Unrecognized well-known attribute",
    ),
    (
        "MP_REACH_NLRI of two octets",
        "0x0e 0x80 0x0002",
        "Optional attribute error",
    ),
    (
        "a next hop of five octets",
        "0x0e 0x80 0x00020105fd7700000200",
        "Optional attribute error",
    ),
    (
        "an IPv6 prefix of 129 bits",
        "0x0e 0x80 0x00020110fd770000000000000000000000000002008120010db8000000000000000000000000000000",
        "Optional attribute error",
    ),
    (
        "MP_UNREACH_NLRI with half a prefix",
        "0x0f 0x80 0x0002013020",
        "Optional attribute error",
    ),
    (
        "MP_REACH_NLRI twice",
        "0x0e 0x80 0x00020110fd77000000000000000000000000000200",
        "Malformed attribute list",
    ),
];

/// Routes that nothing is wrong with.
const SENTINELS: [&str; 2] = ["10.60.0.0/24", "2001:db8:60::/48"];

/// The two routes of a case.
fn victims(case: usize) -> [String; 2] {
    [format!("10.50.{case}.0/24"), format!("2001:db8:5000:{case}::/64")]
}

fn next_hop(prefix: &str) -> &'static str {
    if prefix.contains(':') { "fd77::2" } else { "10.77.0.2" }
}

/// ExaBGP at 10.77.0.2, which says what is written into a file.
struct Exabgp {
    commands: std::fs::File,
    _running: Running,
}

impl Exabgp {
    fn start(lab: &Lab, asn: u32) -> Self {
        let commands = lab.write("commands", "");
        let config = lab.write(
            "exabgp.conf",
            &format!(
                "process script {{ run /usr/bin/tail -n +1 -f {}; encoder text; }}
neighbor 10.77.0.1 {{
  router-id 10.77.0.2; local-address 10.77.0.2; local-as {asn}; peer-as {OUR_AS}; hold-time 90; group-updates false;
  family {{ ipv4 unicast; ipv6 unicast; }}
  api {{ processes [ script ]; }}
}}
",
                commands.display()
            ),
        );
        let mut command = lab.command("b", tool("/usr/sbin/exabgp"));
        command.arg(config);
        for (name, value) in [("api.cli", "false"), ("api.ack", "false"), ("daemon.user", "root")] {
            command.env(format!("exabgp.{name}"), value);
        }
        let running = lab.spawn(command, "exabgp");
        Exabgp {
            commands: std::fs::File::options().append(true).open(commands).unwrap(),
            _running: running,
        }
    }

    fn says(&mut self, commands: &str) {
        self.commands.write_all(commands.as_bytes()).unwrap();
    }
}

fn announce(prefix: &str, attributes: &str) -> String {
    format!("announce route {prefix} next-hop {} {attributes}\n", next_hop(prefix))
}

/// BIRD at 10.77.0.3.
fn witness() -> String {
    format!(
        "router id 10.77.0.3; log stderr all;
protocol device {{ }}
protocol bgp tortie {{ local 10.77.0.3 as 65003; neighbor 10.77.0.1 as {OUR_AS}; connect delay time 1; connect retry time 2;
  ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}\n"
    )
}

struct Scene {
    client: Client,
    exabgp: Exabgp,
    _daemons: [Running; 2],
    lab: Lab,
}

impl Scene {
    fn new(asn: u32) -> Self {
        let lab = Lab::new();
        lab.third();
        let channels = "ipv4 { export where source = RTS_BGP; }; ipv6 { export where source = RTS_BGP; };";
        let ours = ours(&format!("neighbor 10.77.0.2 as {asn}; passive; error wait time 1, 1;"))
            + &format!("protocol bgp Witness from t {{ neighbor 10.77.0.3 as 65003; {channels} }}\n");
        let daemon = lab.bird_rs("a", &ours);
        let mut client = lab.client("a");
        let witness = lab.bird("c", &witness(), false);
        let exabgp = Exabgp::start(&lab, asn);
        client.established("Peer");
        client.established("Witness");
        let mut scene = Scene {
            client,
            exabgp,
            _daemons: [daemon, witness],
            lab,
        };
        let routes: String = SENTINELS.iter().map(|prefix| announce(prefix, "")).collect();
        scene.exabgp.says(&routes);
        scene.sentinels_are_there();
        scene
    }

    /// What the witness shows of a route of ours: nothing when it has none.
    fn witnessed(&self, prefix: &str) -> Option<String> {
        let table = if prefix.contains(':') { "master6" } else { "master4" };
        let shown = self
            .lab
            .birdc(&format!("show route {prefix} all table {table} protocol tortie"));
        shown.contains("BGP.as_path").then_some(shown)
    }

    fn sentinels_are_there(&mut self) {
        for prefix in SENTINELS {
            eventually("a route that nothing is wrong with", || {
                self.client.route("Peer", prefix)
            });
            eventually("the witness has it", || self.witnessed(prefix));
        }
    }

    fn sessions(&self, protocol: &str) -> usize {
        let log = self.lab.log("a");
        let ups = log
            .lines()
            .filter(|line| line.contains(&format!("protocol=\"{protocol}\"")) && line.contains("to=\"Established\""));
        ups.count()
    }

    /// How many sessions of the bad peer ended with these words.
    fn ends(&self, words: &str) -> usize {
        let log = self.lab.log("a");
        let end = format!("from=\"Established\" to=\"Idle\" reason=\"{words}\"");
        log.matches(&end).count()
    }

    /// Good routes, then the same with one wrong attribute each, and what becomes of them.
    fn wrong_attributes(&mut self, external: bool) {
        let announced = |med: u32, wrong: bool| {
            let mut text = String::new();
            for (case, (_, attribute, ..)) in CASES.iter().enumerate() {
                let med = if attribute.starts_with("0x04") {
                    String::new()
                } else {
                    format!("med {med}")
                };
                let attribute = if wrong {
                    format!("attribute [ {attribute} ]")
                } else {
                    String::new()
                };
                for prefix in victims(case) {
                    let _ = write!(text, "{}", announce(&prefix, &format!("{med} {attribute}")));
                }
            }
            text
        };
        self.exabgp.says(&announced(5, false));
        for prefix in (0..CASES.len()).flat_map(victims) {
            eventually("a good route is learned", || self.client.route("Peer", &prefix));
            eventually("the witness has it", || self.witnessed(&prefix));
        }
        self.exabgp.says(&announced(6, true));
        for (case, &(what, _, from_external, from_internal)) in CASES.iter().enumerate() {
            let verdict = if external { from_external } else { from_internal };
            for prefix in victims(case) {
                self.becomes(what, &prefix, verdict);
            }
        }
    }

    fn becomes(&mut self, what: &str, prefix: &str, verdict: Verdict) {
        eventually_or(|| {
            let route = self.client.route("Peer", prefix);
            let shown = self.witnessed(prefix);
            let done = match verdict {
                Withdrawn => route.is_none() && shown.is_none(),
                // The new one is there, and the witness sees nothing of the attribute.
                Discarded | Used => {
                    let passed = ["BGP.c8", "BGP.aggregator", "BGP.atomic_aggr", "Unknown"];
                    let passed = |shown: &String| passed.iter().any(|name| shown.contains(name));
                    route.as_ref().is_some_and(|route| route.med == Some(6))
                        && shown.as_ref().is_some_and(|shown| passed(shown) == (verdict == Used))
                }
            };
            if done {
                Ok(())
            } else {
                Err(format!("{what}, {prefix} should be {verdict:?}: {route:?} {shown:?}"))
            }
        });
    }

    /// The session ends with a NOTIFICATION, and comes back without the route.
    fn reset(&mut self, number: usize) {
        let (what, attribute, words) = RESETS[number];
        let (before, ended) = (self.sessions("Peer"), self.ends(words));
        let prefix = &victims(CASES.len() + number)[usize::from(number + 1 == RESETS.len())];
        self.exabgp
            .says(&announce(prefix, &format!("attribute [ {attribute} ]")));
        // Not the last error alone: that may be of the case before.
        eventually_or(|| {
            if self.ends(words) > ended {
                Ok(())
            } else {
                Err(format!("{what}: {:?}", self.client.session("Peer").last_error))
            }
        });
        self.exabgp
            .says(&format!("withdraw route {prefix} next-hop {}\n", next_hop(prefix)));
        eventually("a new session", || (self.sessions("Peer") > before).then_some(()));
        self.sentinels_are_there();
        assert!(self.client.route("Peer", prefix).is_none(), "{what}");
    }
}

fn bad_peer(asn: u32) {
    let mut scene = Scene::new(asn);
    scene.wrong_attributes(asn != OUR_AS);
    scene.sentinels_are_there();
    assert_eq!(scene.sessions("Peer"), 1, "no wrong attribute ended the session");
    for number in 0..RESETS.len() {
        scene.reset(number);
    }
    assert_eq!(scene.sessions("Witness"), 1, "the session beside it never ended");
}

#[test]
fn what_exabgp_gets_wrong_from_another_as_costs_what_rfc_7606_says() {
    bad_peer(THEIR_AS);
}

#[test]
fn what_exabgp_gets_wrong_inside_our_as_costs_what_rfc_7606_says() {
    bad_peer(OUR_AS);
}
