//! `check link` beside stock BIRD's: the same file, and the other end of the wire goes down.

use std::collections::BTreeMap;

use crate::lab::{Lab, Running, eventually_or};

const SUBJECT: &str = "router id 10.77.0.1;
log stderr all;
protocol device { }
protocol direct connected { ipv4; check link; interface \"eth*\"; }
protocol static checked { ipv4; check link;
  route 10.1.0.0/16 via 10.77.0.2; route 10.2.0.0/16 via \"eth0\"; route 10.3.0.0/16 via 10.77.0.9 via 10.88.0.9;
  route 10.4.0.0/16 via \"absent\"; route 10.5.0.0/16 via 10.9.9.9 onlink; route 10.6.0.0/16 via 10.9.9.9%eth0 onlink;
  route 10.7.0.0/16 via 10.9.8.9%eth0; }
protocol static unchecked { ipv4;
  route 10.11.0.0/16 via 10.77.0.2; route 10.12.0.0/16 via \"eth0\"; route 10.13.0.0/16 via \"eth2\";
  route 10.14.0.0/16 via 10.88.0.9%eth0; }
protocol bgp peer { local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; connect delay time 1; connect retry time 2;
  error wait time 1, 4; graceful restart on; ipv4 { import all; export none; }; }
";

const OTHER: &str = "router id 10.77.0.2;
protocol device { }
protocol static own { ipv4; route 10.99.0.0/24 blackhole; }
protocol bgp peer { local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; connect delay time 1; connect retry time 2;
  error wait time 1, 4; graceful restart on; ipv4 { import all; export all; }; }
";

/// What there is while the wire is whole.
const WHOLE: [&str; 10] = [
    "10.1.0.0/16 via 10.77.0.2 on eth0",
    "10.11.0.0/16 via 10.77.0.2 on eth0",
    "10.12.0.0/16 dev eth0",
    "10.2.0.0/16 dev eth0",
    "10.3.0.0/16 via 10.77.0.9 on eth0 via 10.88.0.9 on eth1",
    "10.6.0.0/16 via 10.9.9.9 on eth0 onlink",
    "10.77.0.0/24 dev eth0",
    "10.88.0.0/24 dev eth1",
    "10.99.0.0/24 via 10.77.0.2 on eth0",
    "Established",
];

/// And when its other end is down.
const CUT: [&str; 5] = [
    "10.11.0.0/16 via 10.77.0.2 on eth0",
    "10.12.0.0/16 dev eth0",
    "10.3.0.0/16 via 10.88.0.9 on eth1",
    "10.88.0.0/24 dev eth1",
    "Idle Error: Link down",
];

/// And when we have no address on it any more.
const ADDRESSLESS: [&str; 6] = [
    "10.12.0.0/16 dev eth0",
    "10.2.0.0/16 dev eth0",
    "10.3.0.0/16 via 10.88.0.9 on eth1",
    "10.6.0.0/16 via 10.9.9.9 on eth0 onlink",
    "10.88.0.0/24 dev eth1",
    "Idle Error: Neighbor lost",
];

/// The routes and the state of the session, as birdc shows them.
fn shown(lab: &Lab, daemon: &str) -> Vec<String> {
    let mut routes: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in lab.birdc_of(daemon, "show route").lines() {
        if let Some(hop) = line.strip_prefix('\t') {
            let hop = hop.split(" weight").next().unwrap_or(hop);
            let route = routes.entry(last.clone()).or_default();
            route.push(' ');
            route.push_str(hop);
        } else if let Some((prefix, _)) = line.split_once(' ').filter(|(prefix, _)| prefix.contains('/')) {
            prefix.clone_into(&mut last);
        }
    }
    let mut all: Vec<String> = routes.into_iter().map(|(prefix, hops)| prefix + &hops).collect();
    let protocols = lab.birdc_of(daemon, "show protocols peer");
    let session = protocols.lines().find(|line| line.starts_with("peer "));
    let words: Vec<&str> = session.unwrap_or_default().split_whitespace().skip(5).collect();
    all.push(words.join(" "));
    all
}

fn becomes(lab: &Lab, daemon: &str, when: &str, wanted: &[&str]) {
    eventually_or(|| {
        let shown = shown(lab, daemon);
        if shown == wanted {
            Ok(())
        } else {
            Err(format!("{daemon}, {when}: {shown:#?}"))
        }
    });
}

fn follows_its_link(daemon: &str, start: impl Fn(&Lab) -> Running) {
    let lab = Lab::new();
    for (name, state) in [("eth1", "up"), ("eth2", "down")] {
        lab.ip(
            "a",
            &format!("link add {name} type veth peer name {name} netns {}", lab.netns("b")),
        );
        lab.ip("b", &format!("link set {name} up"));
        lab.ip("a", &format!("link set {name} {state}"));
    }
    lab.address("a", "eth1", "10.88.0.1/24");
    let _other = lab.bird_rs("b", OTHER);
    let _subject = start(&lab);
    becomes(&lab, daemon, "at first", &WHOLE);
    lab.ip("b", "link set eth0 down");
    becomes(&lab, daemon, "without a carrier", &CUT);
    lab.ip("b", "link set eth0 up");
    becomes(&lab, daemon, "with it again", &WHOLE);
    lab.ip("a", "address del 10.77.0.1/24 dev eth0");
    becomes(&lab, daemon, "without an address", &ADDRESSLESS);
}

#[test]
fn routes_and_the_session_follow_the_carrier() {
    follows_its_link("a", |lab| lab.bird_rs("a", SUBJECT));
}

#[test]
fn as_those_of_stock_bird_do() {
    follows_its_link("bird", |lab| lab.bird("a", SUBJECT, false));
}
