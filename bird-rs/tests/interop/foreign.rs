//! What every other speaker has to do with us, and we with it: one session with both families, in four-octet AS numbers,
//! routes with their attributes both ways, withdrawals, refreshes, and a goodbye with words. What only some of them can is
//! in `features`.

use std::process::Command;

use tortie_proto::bird;

use crate::lab::{Client, Lab, Running, eventually, eventually_or};

pub(crate) const OUR_AS: u32 = 64512;
/// Does not fit into two octets.
pub(crate) const THEIR_AS: u32 = 4_200_000_001;

/// What it announces: the first of each family with attributes.
pub(crate) const LEARNED: [&str; 3] = [
    "10.99.0.0/24 via 10.77.0.2",
    "10.99.1.0/24 via 10.77.0.2",
    "fd99::/64 via fd77::2",
];

/// A route as the other side holds it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) next_hop: String,
    pub(crate) as_path: String,
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    /// Standard ones, then large ones.
    pub(crate) communities: Vec<String>,
    pub(crate) originator: Option<String>,
    pub(crate) cluster_list: Vec<String>,
}

/// How a speaker is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// Its own AS.
    pub(crate) asn: u32,
    pub(crate) password: Option<&'static str>,
    pub(crate) ttl_security: bool,
    /// How many IPv4 routes it takes from us.
    pub(crate) max_prefixes: Option<u32>,
    /// It reflects between us and 10.77.0.3.
    pub(crate) reflects: bool,
    /// It asks for its routes to be kept while it restarts, and keeps ours.
    pub(crate) graceful: bool,
    /// This start is such a restart.
    pub(crate) restarted: bool,
    /// The session is over IPv6, to fd77::1, and IPv4 routes have IPv6 next hops.
    pub(crate) over_v6: bool,
    /// With `over_v6`: IPv4 routes have IPv4 next hops after all.
    pub(crate) v4_next_hops: bool,
    /// The session is between link-local addresses on eth0, from fe80::77:2 to fe80::77:1.
    pub(crate) link_local: bool,
    /// It sends and takes several paths of a prefix.
    pub(crate) add_path: bool,
    /// With `graceful`: the restart may take four seconds, and 600 more as the last resort (RFC 9494).
    pub(crate) long_lived: bool,
}

impl Setup {
    pub(crate) fn of(asn: u32) -> Self {
        Setup {
            asn,
            ..Setup::default()
        }
    }

    /// Our address, as it sees it.
    pub(crate) fn neighbor(&self) -> &'static str {
        match (self.link_local, self.over_v6) {
            (true, _) => "fe80::77:1%eth0",
            (false, true) => "fd77::1",
            (false, false) => "10.77.0.1",
        }
    }

    /// Do IPv4 routes have IPv6 next hops?
    pub(crate) fn extended_next_hops(&self) -> bool {
        (self.over_v6 || self.link_local) && !self.v4_next_hops
    }

    /// Seconds that a restart may take.
    pub(crate) fn restart_time(&self) -> u32 {
        if self.long_lived { 4 } else { 60 }
    }
}

/// A speaker at 10.77.0.2 on side b whose neighbour is 10.77.0.1. It announces 10.99.0.0/24 and fd99::/64 with the
/// communities 65002:1 and 65002:1:2, MED 50 and local preference 200, and 10.99.1.0/24 without.
pub(crate) trait Foreign {
    /// Starts it.
    fn start(&self, lab: &Lab, setup: &Setup) -> Running;
    /// What it received from us for a prefix, in no order.
    fn paths(&self, lab: &Lab, prefix: &str) -> Vec<Received>;
    /// The only path of those.
    fn received(&self, lab: &Lab, prefix: &str) -> Option<Received> {
        self.paths(lab, prefix).into_iter().next()
    }
    /// Stops announcing an IPv4 route of its own.
    fn withdraw(&self, lab: &Lab, setup: &Setup, prefix: &str);
    /// Asks us for everything again. False: its command line cannot.
    fn refresh(&self, lab: &Lab) -> bool;
    /// Ends the session, with a message for us. False: its command line has no way to send one.
    fn shut_down(&self, lab: &Lab, asn: u32, message: &str) -> bool;
    /// Does it have a session with us?
    fn is_up(&self, lab: &Lab) -> bool;
    /// Why it says that the session last ended: its own words.
    fn last_reason(&self, lab: &Lab) -> String;
    /// How it writes a NOTIFICATION that it received.
    fn words(&self, cease: Cease) -> &'static str;
}

/// Reasons that we give.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cease {
    MaximumPrefixes,
    Deconfigured,
}

/// Ours. Of our routes the second IPv4 one has no attributes of its own.
pub(crate) fn ours(peer: &str) -> String {
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.244.0.0/26 blackhole; route 10.244.0.64/26 blackhole; }}
protocol static own6 {{ ipv6; route fd00:244::/64 blackhole; }}
filter mine {{
  if source != RTS_STATIC then reject;
  if net = 10.244.0.0/26 || net = fd00:244::/64 then {{
    bgp_med = 30; bgp_local_pref = 150; bgp_community.add((64512,7)); bgp_large_community.add((64512,8,9));
  }}
  accept;
}}
template bgp t {{
  connect delay time 1; connect retry time 2; error wait time 1, 4; hold time 90;
  graceful restart on; graceful restart time 60; local 10.77.0.1 as {OUR_AS};
  ipv4 {{ import all; export filter mine; }};
  ipv6 {{ import all; export filter mine; next hop address fd77::1; }};
}}
protocol bgp Peer from t {{ {peer} }}
"
    )
}

pub(crate) fn as_received(route: bird::Route) -> Received {
    Received {
        next_hop: route.bgp_next_hop.split(' ').next().unwrap_or_default().to_owned(),
        as_path: route.as_path,
        local_pref: route.local_pref,
        med: route.med,
        communities: route
            .communities
            .iter()
            .map(|shown| shown.trim_matches(['(', ')']).replace(',', ":"))
            .collect(),
        originator: (!route.originator_id.is_empty()).then_some(route.originator_id),
        cluster_list: route.cluster_list,
    }
}

/// The whole of it.
pub(crate) fn both_ways(foreign: &dyn Foreign, asn: u32) {
    let lab = Lab::new();
    let _them = foreign.start(&lab, &Setup::of(asn));
    let config = ours(&format!("neighbor 10.77.0.2 as {asn};"));
    let _daemon = lab.bird_rs("a", &config);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    let session = client.session("Peer");
    assert_eq!((session.neighbor_as, &*session.neighbor_id), (asn, "10.77.0.2"));
    assert!(
        session.neighbor_capabilities.iter().any(|c| c.contains("4-octet")),
        "{session:?}"
    );
    attributes(&lab, foreign, asn, &mut client);
    withdrawals(&lab, foreign, asn, &mut client, &config);
    let answered = client.session("Peer").updates_sent;
    if foreign.refresh(&lab) {
        eventually("a route is sent again", || {
            (client.session("Peer").updates_sent > answered).then_some(())
        });
    }
    assert!(foreign.received(&lab, "10.244.0.0/26").is_some());
    assert_eq!(client.session("Peer").state, "Established");
    assert_eq!(
        lab.log("a").matches("to=\"Established\"").count(),
        1,
        "one session all the time"
    );

    let reason = if foreign.shut_down(&lab, asn, "cat nap") {
        "Administrative shutdown: \\\"cat nap\\\""
    } else {
        "Administrative shutdown"
    };
    eventually("the reason arrives", || lab.log("a").contains(reason).then_some(()));
    client.learns("Peer", &[]);
}

/// Their routes with attributes, and ours, each with its next hop.
const MARKED: [[(&str, &str); 2]; 2] = [
    [("10.99.0.0/24", "10.77.0.2"), ("fd99::/64", "fd77::2")],
    [("10.244.0.0/26", "10.77.0.1"), ("fd00:244::/64", "fd77::1")],
];

fn attributes(lab: &Lab, foreign: &dyn Foreign, asn: u32, client: &mut Client) {
    let [theirs, ours] = MARKED;
    theirs_have_attributes(&theirs, asn, client);
    ours_have_attributes(lab, foreign, &ours, asn);
}

/// Sessions over IPv6: with IPv6 routes alone, or with both families, each with next hops of its own.
pub(crate) fn over_ipv6(foreign: &dyn Foreign, asn: u32, families: usize) {
    let lab = Lab::new();
    let setup = Setup {
        over_v6: true,
        v4_next_hops: true,
        ..Setup::of(asn)
    };
    let _them = foreign.start(&lab, &setup);
    let mut config = ours(&format!("neighbor fd77::2 as {asn};")).replace("local 10.77.0.1 as", "local fd77::1 as");
    if families == 1 {
        config = config.replace("ipv4 { import all; export filter mine; };", "");
    }
    let _daemon = lab.bird_rs("a", &config);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", if families == 1 { &LEARNED[2..] } else { &LEARNED });
    let [theirs, ours] = MARKED.map(|routes| routes[2 - families..].to_vec());
    theirs_have_attributes(&theirs, asn, &mut client);
    ours_have_attributes(&lab, foreign, &ours, asn);
    let has_v4 = foreign.received(&lab, "10.244.0.64/26").is_some();
    assert_eq!(has_v4, families == 2, "only what was agreed on");
}

fn theirs_have_attributes(routes: &[(&str, &str)], asn: u32, client: &mut Client) {
    let external = asn != OUR_AS;
    for (prefix, next_hop) in routes.iter().copied() {
        let mut route = as_received(client.route("Peer", prefix).unwrap());
        if external {
            assert_ne!(route.local_pref.take(), Some(200), "theirs stays in their AS");
        }
        let wanted = Received {
            next_hop: next_hop.to_owned(),
            as_path: if external { asn.to_string() } else { String::new() },
            local_pref: (!external).then_some(200),
            med: Some(50),
            communities: vec!["65002:1".to_owned(), "65002:1:2".to_owned()],
            ..Received::default()
        };
        assert_eq!(route, wanted, "{prefix}");
    }
}

fn ours_have_attributes(lab: &Lab, foreign: &dyn Foreign, routes: &[(&str, &str)], asn: u32) {
    let external = asn != OUR_AS;
    for (prefix, next_hop) in routes.iter().copied() {
        let wanted = Received {
            next_hop: next_hop.to_owned(),
            as_path: if external { OUR_AS.to_string() } else { String::new() },
            local_pref: (!external).then_some(150),
            med: Some(30),
            communities: vec!["64512:7".to_owned(), "64512:8:9".to_owned()],
            ..Received::default()
        };
        eventually_or(|| {
            let mut route = foreign.received(lab, prefix).unwrap_or_default();
            if external && route.local_pref != Some(150) {
                // Some show their default.
                route.local_pref = None;
            }
            if route == wanted {
                Ok(())
            } else {
                Err(format!("{prefix}: received {route:?}, wanted {wanted:?}"))
            }
        });
    }
}

fn withdrawals(lab: &Lab, foreign: &dyn Foreign, asn: u32, client: &mut Client, config: &str) {
    foreign.withdraw(lab, &Setup::of(asn), "10.99.1.0/24");
    client.learns("Peer", &[LEARNED[0], LEARNED[2]]);
    eventually("our second route is there", || foreign.received(lab, "10.244.0.64/26"));
    let fewer = config.replace("route 10.244.0.64/26 blackhole;", "");
    assert!(client.configure(&fewer, false, "fewer").accepted);
    eventually("our second route is gone", || {
        foreign.received(lab, "10.244.0.64/26").is_none().then_some(())
    });
}

/// What a command line tool says, `None` when it fails: its daemon may not be listening yet.
pub(crate) fn said(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A number in a tool's JSON.
pub(crate) fn number(value: &serde_json::Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Texts in a tool's JSON.
pub(crate) fn texts(value: &serde_json::Value) -> impl Iterator<Item = String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned))
}
