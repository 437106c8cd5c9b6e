//! The operator's service over gRPC, beside stock BIRD: commands, pages, and what can be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tortie_proto::bird::bird_operator_client::BirdOperatorClient;
use tortie_proto::bird::{
    self, ListRoutesRequest, OperateCommand, OperateRequest, PeerNews, RouteNews, WatchPeersRequest,
    WatchRoutesRequest, peer_news, route_news,
};
use tortie_proto::common::{Hello, Prefix};

use crate::bird_peer;
use crate::foreign::{LEARNED, Setup, THEIR_AS, ours};
use crate::lab::{Lab, PATIENCE, eventually};

struct Operator {
    runtime: tokio::runtime::Runtime,
    client: BirdOperatorClient<Channel>,
}

fn hello() -> Option<Hello> {
    Some(Hello::new("test", "", "1"))
}

fn text(prefix: Option<Prefix>) -> String {
    tortie_net::Prefix::try_from(&prefix.unwrap()).unwrap().to_string()
}

impl Operator {
    fn connect(lab: &Lab, side: &str) -> Operator {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let addr: tortie_kit::address::ServiceAddr = lab.grpc(side).parse().unwrap();
        let channel = eventually("bird-rs answers", || {
            runtime.block_on(addr.connect(Duration::from_millis(200))).ok()
        });
        Operator {
            runtime,
            client: BirdOperatorClient::new(channel),
        }
    }

    fn operate(&mut self, protocols: &[&str], command: OperateCommand, reason: &str) -> Result<Vec<String>, Status> {
        let request = OperateRequest {
            hello: hello(),
            protocols: protocols.iter().map(ToString::to_string).collect(),
            command: command.into(),
            reason: reason.to_owned(),
        };
        let answer = self.runtime.block_on(self.client.operate(request))?.into_inner();
        let said = answer.results.into_iter();
        Ok(said.map(|done| format!("{} {}", done.protocol, done.outcome)).collect())
    }

    /// All pages of a listing: their sizes, and `table prefix` of each route.
    fn list(&mut self, query: &str) -> Result<(usize, Vec<String>), Status> {
        let (mut pages, mut shown, mut token) = (0, Vec::new(), String::new());
        loop {
            let request = ListRoutesRequest {
                hello: hello(),
                query: query.to_owned(),
                page_token: token,
            };
            let page = self.runtime.block_on(self.client.list_routes(request))?.into_inner();
            pages += 1;
            shown.extend(page.routes.into_iter().map(|route| {
                let prefix = text(route.route.unwrap().prefix);
                format!("{} {prefix}", route.table)
            }));
            token = page.next_page_token;
            if token.is_empty() {
                return Ok((pages, shown));
            }
        }
    }

    fn peers(&mut self) -> Streaming<PeerNews> {
        let request = WatchPeersRequest { hello: hello() };
        self.runtime
            .block_on(self.client.watch_peers(request))
            .unwrap()
            .into_inner()
    }

    fn routes(&mut self, query: &str) -> Result<Streaming<RouteNews>, Status> {
        let request = WatchRoutesRequest {
            hello: hello(),
            query: query.to_owned(),
        };
        Ok(self.runtime.block_on(self.client.watch_routes(request))?.into_inner())
    }

    /// Reads news until `enough` says so.
    fn read<T>(&self, stream: &mut Streaming<T>, mut enough: impl FnMut(T) -> bool) {
        self.runtime.block_on(async {
            let reading = async { while !enough(stream.message().await.unwrap().unwrap()) {} };
            tokio::time::timeout(PATIENCE, reading).await.expect("news in time");
        });
    }
}

/// A copy of a table, made of what a watcher was told.
#[derive(Default)]
struct Copy {
    routes: BTreeMap<String, bird::Route>,
    in_sync: bool,
    told: usize,
}

impl Copy {
    fn take(&mut self, news: RouteNews) {
        match news.message.unwrap() {
            route_news::Message::Hello(_) => assert_eq!(self.told, 0),
            route_news::Message::Route(route) => {
                let route = route.route.unwrap();
                assert!(route.best);
                self.routes.insert(text(route.prefix.clone()), route);
            }
            route_news::Message::Gone(net) => drop(self.routes.remove(&text(net.prefix))),
            route_news::Message::InSync(_) => assert!(!std::mem::replace(&mut self.in_sync, true)),
        }
        self.told += 1;
    }

    fn has(&self, prefixes: &[&str]) -> bool {
        self.routes.keys().map(String::as_str).eq(prefixes.iter().copied())
    }
}

fn learned() -> Vec<&'static str> {
    let nets: BTreeSet<&str> = LEARNED.iter().filter_map(|shown| shown.split(' ').next()).collect();
    nets.into_iter().collect()
}

#[test]
fn an_operator_commands_and_watches_over_grpc() {
    let lab = Lab::new();
    let _bird = lab.bird("b", &bird_peer::config(&Setup::of(THEIR_AS)), false);
    let _daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")));
    let mut client = lab.client("a");
    client.learns("Peer", &LEARNED);
    let mut operator = Operator::connect(&lab, "a");
    let mut peers = operator.peers();
    let mut told = Vec::new();
    let mut state = |news: PeerNews| {
        let line = match news.message.unwrap() {
            peer_news::Message::Hello(_) => "hello".to_owned(),
            peer_news::Message::Peer(peer) => format!("{} {}", peer.name, peer.bgp.unwrap().state),
            peer_news::Message::Gone(name) => format!("{name} gone"),
            peer_news::Message::InSync(_) => "in sync".to_owned(),
        };
        told.push(line.clone());
        line
    };
    operator.read(&mut peers, |news| state(news) == "in sync");
    let mut routes = operator.routes("where proto = \"Peer\" table all").unwrap();
    let mut copy = Copy::default();
    operator.read(&mut routes, |news| {
        copy.take(news);
        copy.in_sync
    });
    assert!(copy.has(&learned()), "{:?}", copy.routes.keys());

    let disable = OperateCommand::Disable;
    assert_eq!(
        operator.operate(&["P*r"], disable, "new rack").unwrap(),
        ["Peer disabled"]
    );
    operator.read(&mut peers, |news| state(news) == "Peer Idle");
    operator.read(&mut routes, |news| {
        copy.take(news);
        copy.has(&[])
    });
    eventually("BIRD was told why", || {
        lab.birdc("show protocols all").contains("new rack").then_some(())
    });
    assert_eq!(
        operator.operate(&["Peer"], disable, "").unwrap(),
        ["Peer already disabled"]
    );
    assert_eq!(
        operator.operate(&["Peer"], OperateCommand::Enable, "").unwrap(),
        ["Peer enabled"]
    );
    operator.read(&mut peers, |news| state(news) == "Peer Established");
    operator.read(&mut routes, |news| {
        copy.take(news);
        copy.has(&learned())
    });
    for (command, outcome) in [
        (OperateCommand::Reload, "Peer reloading"),
        (OperateCommand::ReloadIn, "Peer reloading"),
        (OperateCommand::ReloadOut, "Peer reloading"),
        (OperateCommand::Restart, "Peer restarted"),
    ] {
        assert_eq!(operator.operate(&["Peer"], command, "").unwrap(), [outcome]);
    }
    operator.read(&mut peers, |news| state(news) == "Peer Established");
    // One wrong name, and nothing is done to the others.
    let refused = operator.operate(&["Peer", "nobody"], disable, "").unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = operator
        .operate(&["Peer"], OperateCommand::Unspecified, "")
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(client.session("Peer").state, "Established");
    assert_eq!(told[..3], ["hello", "Peer Established", "in sync"]);
}

/// Enough that they fill more than the buffers between two programs.
const MANY: usize = 6000;

fn many(options: &str) -> String {
    let mut text = format!("router id 10.77.0.1;\nprotocol device {{ }}\nprotocol static own {{ {options} ipv4;\n");
    for n in 0..MANY {
        text += &format!("route 10.{}.{}.0/24 blackhole;\n", n / 256, n % 256);
    }
    text + "}\n"
}

#[test]
fn a_listing_comes_in_pages_and_a_slow_watcher_is_told_what_is() {
    const TOGGLES: usize = 30;
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &many(""));
    let mut operator = Operator::connect(&lab, "a");
    let (pages, shown) = operator.list("").unwrap();
    let distinct: BTreeSet<&String> = shown.iter().collect();
    assert_eq!((shown.len(), distinct.len()), (MANY, MANY));
    assert!(pages >= MANY / 512, "{pages} pages");
    let (_, few) = operator.list("in 10.3.4.0/23 where dest = RTD_BLACKHOLE").unwrap();
    assert_eq!(few, ["master4 10.3.4.0/24", "master4 10.3.5.0/24"]);
    assert_eq!(
        operator.list("where nonsense").unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(operator.list("protocol nobody").unwrap_err().code(), Code::NotFound);
    let refused = operator.routes("protocol own").unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    let mut stream = operator.routes("").unwrap();
    let mut other = Operator::connect(&lab, "a");
    for _ in 0..TOGGLES {
        other.operate(&["own"], OperateCommand::Disable, "").unwrap();
        other.operate(&["own"], OperateCommand::Enable, "").unwrap();
    }
    other.operate(&["own"], OperateCommand::Disable, "").unwrap();
    lab.write(
        "a.conf",
        &many("").replace("10.3.4.0/24 blackhole", "10.3.4.0/24 unreachable"),
    );
    lab.birdc_of("a", "configure");
    other.operate(&["own"], OperateCommand::Enable, "").unwrap();
    // Now it reads. It is told of all, and not of each that went to and fro.
    let mut copy = Copy::default();
    operator.read(&mut stream, |news| {
        copy.take(news);
        let last = copy.routes.get("10.3.4.0/24");
        let is_new = last.is_some_and(|route| route.r#type() == bird::RouteType::Unreachable);
        copy.in_sync && copy.routes.len() == MANY && is_new
    });
    assert!(copy.told < MANY * TOGGLES / 2, "{} messages", copy.told);
}
