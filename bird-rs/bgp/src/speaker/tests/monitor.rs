//! What monitoring stations are told: a station in memory must have what the router has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use proptest::prelude::*;
use tortie_net::Prefix;

use super::Network;
use super::network::config;
use crate::attr::Attributes;
use crate::bmp::{DownReason, Message, Policy};
use crate::packet::{self, AfiSafi, Cease, ControlMessage, FamilySet, Notification, SessionContext};
use crate::speaker::{Command, Input, MonitorCursor, ProtocolState, RouteQuery, Station};

const STATION: &str = "protocol bmp station {
  station address ip 192.0.2.9 port 1790; monitoring rib in pre_policy; monitoring rib in post_policy;
}";

/// The router that is looked at. `import` is its filter's body.
fn watched(import: &str) -> String {
    format!(
        "router id 10.0.0.1;
{STATION}
filter mine {{ {import} }}
protocol bgp p2 {{
  local 10.0.0.1 as 64512; neighbor 10.0.0.2 as 65002; graceful restart aware; connect retry time 2; error wait time 1, 2;
  ipv4 {{ import filter mine; export none; }}; ipv6 {{ import filter mine; export none; }};
}}"
    )
}

/// Its peer, with these routes.
fn peer(routes: &str, graceful: &str) -> String {
    let of = |v4: bool| {
        let wanted = routes
            .split(' ')
            .filter(|net| !net.is_empty() && net.contains('.') == v4);
        wanted.map(|net| format!("route {net} blackhole;")).collect::<String>()
    };
    format!(
        "router id 10.0.0.2;
protocol static s4 {{ ipv4; {} }}
protocol static s6 {{ ipv6; {} }}
protocol bgp p1 {{
  local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 64512; graceful restart {graceful}; connect retry time 2;
  error wait time 1, 2;
  ipv4 {{ import all; export filter {{ bgp_med = 5; accept; }}; }};
  ipv6 {{ import all; export all; }};
}}",
        of(true),
        of(false)
    )
}

const ROUTES: &str = "10.1.0.0/24 10.2.0.0/24 fd01::/64";

/// Both, with their session.
fn scene(import: &str, graceful: &str) -> Network {
    let mut net = Network::default();
    net.start(0, "10.0.0.1", &watched(import));
    net.start(1, "10.0.0.2", &peer(ROUTES, graceful));
    net.seconds(30);
    assert!(net.established(0, "p2"));
    net
}

/// By table and prefix.
type Table = BTreeMap<(Policy, Prefix), Attributes>;

/// A station: what it was told, and what it has made of that.
#[derive(Default)]
struct Collector {
    up: Vec<IpAddr>,
    downs: Vec<DownReason>,
    table: Table,
    ends: Vec<(Policy, AfiSafi)>,
    cursor: Option<MonitorCursor>,
}

impl Collector {
    /// Connects, and is told nothing but which sessions there are.
    fn connect(net: &mut Network) -> Self {
        let mut collector = Collector::default();
        net.node_mut(0).monitored.clear();
        set_station(net, Station::Connected);
        collector.take(net.node(0).speaker.monitored_peers());
        collector.cursor = net.node(0).speaker.monitor("station");
        assert!(collector.cursor.is_some());
        collector
    }

    /// Connects and is told all there is.
    fn start(net: &mut Network) -> Self {
        let mut collector = Collector::connect(net);
        while collector.page(net, 1) {}
        collector
    }

    /// Takes a page; false when there is none.
    fn page(&mut self, net: &mut Network, slots: usize) -> bool {
        self.follow(net);
        let Some(mut cursor) = self.cursor.take() else {
            return false;
        };
        let page = net.node(0).speaker.monitor_page(&mut cursor, slots);
        self.take(page.messages);
        self.cursor = page.more.then_some(cursor);
        self.cursor.is_some()
    }

    /// Takes what came since.
    fn follow(&mut self, net: &mut Network) {
        net.quiesce();
        let messages = std::mem::take(&mut net.node_mut(0).monitored);
        self.take(messages);
    }

    fn take(&mut self, messages: Vec<Message>) {
        for message in messages {
            match message {
                Message::PeerUp {
                    peer, sent, received, ..
                } => {
                    for open in [sent, received] {
                        let open = packet::decode(&open, &SessionContext::default()).unwrap();
                        assert!(matches!(open, packet::Message::Open(_)));
                    }
                    assert!(!self.up.contains(&peer.address), "up twice");
                    self.up.push(peer.address);
                }
                Message::PeerDown { peer, reason, .. } => {
                    assert!(self.up.contains(&peer.address), "down before up");
                    self.up.retain(|up| *up != peer.address);
                    self.downs.push(reason);
                    self.table.clear();
                }
                Message::Route {
                    peer, policy, update, ..
                } => {
                    assert!(self.up.contains(&peer.address), "routes of nobody");
                    self.update(policy, &update);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn update(&mut self, policy: Policy, update: &Bytes) {
        let context = SessionContext {
            ebgp: false,
            four_octet_as: true,
            families: FamilySet::from_iter(AfiSafi::ALL),
            ..SessionContext::default()
        };
        let Ok(packet::Message::Update(update)) = packet::decode(update, &context) else {
            panic!("{update:x?}");
        };
        for nlri in &update.withdrawn {
            self.table.remove(&(policy, nlri.prefix));
        }
        for reach in &update.reach {
            for nlri in &reach.nlri {
                let attributes = Attributes {
                    next_hop: Some(reach.next_hop),
                    ..update.attributes.clone()
                };
                self.table.insert((policy, nlri.prefix), attributes);
            }
        }
        self.ends.extend(update.end_of_rib.map(|family| (policy, family)));
    }

    fn has(&self, policy: Policy) -> Vec<String> {
        let of = self.table.keys().filter(|(of, _)| *of == policy);
        of.map(|(_, net)| net.to_string()).collect()
    }

    /// Is what it has what the router has?
    fn agrees(&mut self, net: &mut Network) {
        self.follow(net);
        let query = RouteQuery {
            protocol: Some("p2".to_owned()),
            filtered: true,
            ..RouteQuery::default()
        };
        let views = net.node(0).speaker.routes(&query);
        let all: Vec<_> = views.iter().map(|view| view.prefix).collect();
        let pre: Vec<_> = self.table.keys().filter(|(policy, _)| *policy == Policy::Pre).collect();
        assert_eq!(pre.len(), all.len(), "{pre:?} {all:?}");
        assert!(pre.iter().all(|(_, net)| all.contains(net)), "{pre:?} {all:?}");
        let accepted = views.iter().filter(|view| view.filtered.is_none());
        let wanted: Table = accepted
            .map(|view| ((Policy::Post, view.prefix), view.attributes.clone()))
            .collect();
        let mut post = self.table.clone();
        post.retain(|(policy, _), _| *policy == Policy::Post);
        assert_eq!(post, wanted);
    }
}

fn set_station(net: &mut Network, station: Station) {
    let protocol = "station".into();
    net.input(0, Input::Station { protocol, station });
    net.quiesce();
}

const IMPORT: &str = "if net = 10.2.0.0/24 then reject; bgp_local_pref = 200; bgp_community.add((64512,7)); accept;";

#[test]
fn both_views_of_a_session_s_routes() {
    let mut net = scene(IMPORT, "off");
    let mut station = Collector::start(&mut net);
    assert_eq!(station.up, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(station.has(Policy::Pre), ["10.1.0.0/24", "10.2.0.0/24", "fd01::/64"]);
    assert_eq!(station.has(Policy::Post), ["10.1.0.0/24", "fd01::/64"]);
    let key = |policy| (policy, "10.1.0.0/24".parse::<Prefix>().unwrap());
    let (pre, post) = (&station.table[&key(Policy::Pre)], &station.table[&key(Policy::Post)]);
    assert_eq!((pre.local_pref, pre.med, pre.communities.len()), (None, Some(5), 0));
    assert_eq!(
        (post.local_pref, post.med, post.communities.len()),
        (Some(200), Some(5), 1)
    );
    let mut ends = station.ends.clone();
    ends.sort();
    let both = |policy| [(policy, AfiSafi::Ipv4Unicast), (policy, AfiSafi::Ipv6Unicast)];
    assert_eq!(ends, [both(Policy::Pre), both(Policy::Post)].concat());
    station.agrees(&mut net);

    // One goes, one comes, one that is refused goes.
    net.input(1, Input::Reconfigure(config(&peer("10.3.0.0/24 fd01::/64", "off"))));
    station.agrees(&mut net);
    assert_eq!(station.has(Policy::Pre), ["10.3.0.0/24", "fd01::/64"]);
    assert_eq!(station.has(Policy::Post), ["10.3.0.0/24", "fd01::/64"]);
}

#[test]
fn a_new_policy_is_told_behind_the_policy_only() {
    let mut net = scene(IMPORT, "off");
    let mut station = Collector::start(&mut net);
    net.input(
        0,
        Input::Reconfigure(config(&watched("if net.len = 64 then reject; accept;"))),
    );
    net.quiesce();
    let told = net.node(0).monitored.clone();
    station.agrees(&mut net);
    assert_eq!(station.has(Policy::Post), ["10.1.0.0/24", "10.2.0.0/24"]);
    assert!(station.downs.is_empty() && !told.is_empty());
    assert!(
        told.iter()
            .all(|message| message.is_for(false, true) && !message.is_for(true, false))
    );
}

#[test]
fn statistics_count_what_there_is() {
    let net = scene(IMPORT, "off");
    let told = net.node(0).speaker.monitor_statistics(net.now);
    let [Message::Statistics { gauges, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    use crate::bmp::Gauge::{AdjRibIn, AdjRibInOf, LocRib, LocRibOf};
    let (v4, v6) = (AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast);
    let wanted = [
        AdjRibIn(3),
        LocRib(2),
        AdjRibInOf(v4, 2),
        AdjRibInOf(v6, 1),
        LocRibOf(v4, 1),
        LocRibOf(v6, 1),
    ];
    assert_eq!(gauges[..], wanted);
}

#[test]
fn without_a_station_nothing_is_told() {
    let mut net = scene(IMPORT, "off");
    assert!(net.node(0).monitored.is_empty());
    let shown = net.protocol(0, "station");
    assert_eq!((shown.kind, shown.state), ("BMP", ProtocolState::Start));
    let _station = Collector::start(&mut net);
    assert_eq!(net.protocol(0, "station").state, ProtocolState::Up);
    assert_eq!(net.protocol(0, "station").info, "Established");

    set_station(&mut net, Station::Lost("Connection refused".to_owned()));
    net.node_mut(0).monitored.clear();
    net.operate(1, "p1", Command::Restart, "");
    net.seconds(30);
    assert!(net.established(0, "p2") && net.node(0).monitored.is_empty());
    assert_eq!(net.protocol(0, "station").info, "Connect       Connection refused");

    // One that is taken down is no station any more, whatever was last said of it.
    set_station(&mut net, Station::Connected);
    net.operate(0, "station", Command::Disable, "");
    net.quiesce();
    net.node_mut(0).monitored.clear();
    net.operate(1, "p1", Command::Restart, "");
    net.seconds(30);
    assert!(net.node(0).monitored.is_empty());
    let shown = net.protocol(0, "station");
    assert_eq!((shown.state, &*shown.info), (ProtocolState::Down, "Connect"));
    assert!(net.node(0).speaker.monitor("station").is_none());
}

fn cease(subcode: Cease, words: &str) -> Bytes {
    ControlMessage::Notification(Notification::cease(subcode, words)).encode()
}

#[test]
fn sessions_end_for_reasons() {
    let mut net = scene(IMPORT, "off");
    let mut station = Collector::start(&mut net);
    let mut ended = |net: &mut Network| {
        station.follow(net);
        net.seconds(60);
        station.agrees(net);
        assert_eq!(station.up.len(), 1, "it came back");
        station.downs.pop().unwrap()
    };
    net.operate(0, "p2", Command::Restart, "ours");
    let nothing = !net.node(0).speaker.has_news_for_stations();
    assert!(nothing, "that its routes go goes without saying");
    let notification = cease(Cease::AdministrativeReset, "ours");
    assert_eq!(ended(&mut net), DownReason::LocalNotification(notification));
    net.operate(1, "p1", Command::Restart, "theirs");
    let notification = cease(Cease::AdministrativeReset, "theirs");
    assert_eq!(ended(&mut net), DownReason::RemoteNotification(notification));
    net.cut_all(0);
    assert_eq!(ended(&mut net), DownReason::RemoteSilent);
    net.kill(1);
    net.start(1, "10.0.0.2", &peer(ROUTES, "off"));
    assert_eq!(ended(&mut net), DownReason::RemoteSilent);
}

#[test]
fn the_end_of_the_process_is_silent_where_routes_are_kept() {
    for (graceful, wanted) in [
        ("on", DownReason::LocalSilent(2)),
        (
            "off",
            DownReason::LocalNotification(cease(Cease::AdministrativeShutdown, "")),
        ),
    ] {
        let mut net = scene(IMPORT, graceful);
        let mut station = Collector::start(&mut net);
        net.input(0, Input::Stop);
        station.follow(&mut net);
        assert_eq!(station.downs, [wanted]);
    }
}

#[test]
fn routes_kept_over_a_restart_are_told_anew_and_the_others_are_not() {
    let mut net = scene(IMPORT, "on");
    let mut station = Collector::start(&mut net);
    net.kill(1);
    net.seconds(3);
    station.follow(&mut net);
    assert_eq!(station.downs, [DownReason::RemoteSilent]);
    assert!(net.best(0, "10.1.0.0/24").is_some_and(|route| route.stale));
    // Who comes now is told of no session, and so of no route.
    assert!(Collector::start(&mut net).table.is_empty());
    net.start(1, "10.0.0.2", &peer("10.1.0.0/24", "on"));
    net.seconds(60);
    station.agrees(&mut net);
    assert_eq!(station.has(Policy::Post), ["10.1.0.0/24"]);
}

#[test]
fn kept_routes_that_a_page_has_shown_go_when_they_are_swept() {
    let mut net = scene(IMPORT, "on");
    net.kill(1);
    net.seconds(3);
    net.start(1, "10.0.0.2", &peer("10.1.0.0/24", "on"));
    net.node_mut(1).holds_updates = true;
    net.seconds(5);
    assert!(net.established(0, "p2"));
    let mut station = Collector::start(&mut net);
    assert_eq!(station.has(Policy::Pre), ["10.1.0.0/24", "10.2.0.0/24", "fd01::/64"]);
    net.hurry(1);
    net.seconds(30);
    station.agrees(&mut net);
    assert_eq!(station.has(Policy::Pre), ["10.1.0.0/24"]);
}

/// What may happen while a station is told what there is.
#[derive(Debug, Clone)]
enum Step {
    /// The peer has these of eight routes.
    Announce(u8),
    /// The filter refuses those with this bit in their number.
    Policy(u8),
    /// The session ends.
    Restart,
    /// The station takes a page of so many prefixes.
    Page(usize),
    Seconds(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Announce),
        2 => (0..4_u8).prop_map(Step::Policy),
        1 => Just(Step::Restart),
        4 => (1..4_usize).prop_map(Step::Page),
        1 => (1..9_u64).prop_map(Step::Seconds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_meanwhile_a_station_has_the_truth(
        steps in proptest::collection::vec(any_step(), 1..24),
        graceful in any::<bool>(),
    ) {
        let graceful = if graceful { "on" } else { "off" };
        let mut net = scene(IMPORT, graceful);
        let mut station = Collector::connect(&mut net);
        for step in steps {
            match step {
                Step::Announce(bits) => {
                    let nets = (0..8).filter(|bit| bits & (1 << bit) != 0);
                    let nets: Vec<String> = nets
                        .map(|bit| if bit % 4 == 3 { format!("fd0{bit}::/64") } else { format!("10.{bit}.0.0/24") })
                        .collect();
                    net.input(1, Input::Reconfigure(config(&peer(&nets.join(" "), graceful))));
                }
                Step::Policy(bit) => {
                    let refused = ["10.0.0.0/16+", "10.1.0.0/16+", "10.2.0.0/16+", "10.4.0.0/15+"];
                    let import = format!("if net ~ [ {} ] then reject; bgp_med = {bit}; accept;", refused[usize::from(bit)]);
                    net.input(0, Input::Reconfigure(config(&watched(&import))));
                }
                Step::Restart => {
                    net.operate(1, "p1", Command::Restart, "");
                }
                Step::Page(slots) => {
                    station.page(&mut net, slots);
                }
                Step::Seconds(seconds) => net.seconds(seconds),
            }
        }
        net.seconds(90);
        while station.page(&mut net, 2) {}
        prop_assert!(net.established(0, "p2"));
        station.agrees(&mut net);
    }
}
