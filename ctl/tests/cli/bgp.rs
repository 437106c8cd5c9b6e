//! bgp, against a bird-rs that is played: it repeats commands, has one peer, and three routes in two pages.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tortie_proto::bird::bird_operator_server::{BirdOperator, BirdOperatorServer};
use tortie_proto::bird::{
    BgpSession, ConfirmRequest, ConfirmResponse, InSync, ListRoutesRequest, ListRoutesResponse, OperateRequest,
    OperateResponse, Operated, PeerNews, Protocol, Route, RouteNews, RouteType, TableNet, TableRoute, UndoRequest,
    UndoResponse, WatchPeersRequest, WatchRoutesRequest, peer_news, route_news,
};
use tortie_proto::common::{Hello, Prefix};

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Played;

fn hello() -> Hello {
    Hello::new("bird-rs", "n1", "1")
}

fn prefix(second: u8) -> Option<Prefix> {
    Some(Prefix {
        addr: vec![10, second, 0, 0],
        len: 16,
    })
}

fn route(second: u8) -> TableRoute {
    TableRoute {
        table: "master4".to_owned(),
        route: Some(Route {
            prefix: prefix(second),
            protocol: "own".to_owned(),
            best: true,
            preference: 200,
            r#type: RouteType::Blackhole.into(),
            ..Route::default()
        }),
    }
}

#[tonic::async_trait]
impl BirdOperator for Played {
    async fn operate(&self, request: Request<OperateRequest>) -> Result<Response<OperateResponse>, Status> {
        let request = request.into_inner();
        let (command, reason) = (request.command().as_str_name(), request.reason);
        if request.protocols.iter().any(|name| name == "nobody") {
            return Err(Status::not_found("there is no protocol 'nobody'"));
        }
        let results = request.protocols.into_iter().map(|protocol| Operated {
            protocol,
            outcome: format!("{command} {reason}").trim_end().to_owned(),
        });
        Ok(Response::new(OperateResponse {
            hello: Some(hello()),
            results: results.collect(),
        }))
    }

    async fn list_routes(&self, request: Request<ListRoutesRequest>) -> Result<Response<ListRoutesResponse>, Status> {
        let request = request.into_inner();
        if request.query != "in 10.0.0.0/8 primary" {
            return Err(Status::invalid_argument(format!("query: {}", request.query)));
        }
        let (routes, next) = match &*request.page_token {
            "" => (vec![route(1), route(2)], "more"),
            "more" => (vec![route(3)], ""),
            other => return Err(Status::invalid_argument(other.to_owned())),
        };
        Ok(Response::new(ListRoutesResponse {
            hello: Some(hello()),
            routes,
            next_page_token: next.to_owned(),
        }))
    }

    async fn confirm(&self, _: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        Ok(Response::new(ConfirmResponse {
            hello: Some(hello()),
            confirmed: false,
        }))
    }

    async fn undo(&self, _: Request<UndoRequest>) -> Result<Response<UndoResponse>, Status> {
        Ok(Response::new(UndoResponse {
            hello: Some(hello()),
            undone: true,
            applied_revision: "r1".to_owned(),
        }))
    }

    type WatchPeersStream = Streamed<PeerNews>;

    async fn watch_peers(&self, _: Request<WatchPeersRequest>) -> Result<Response<Self::WatchPeersStream>, Status> {
        use peer_news::Message;
        let bgp = BgpSession {
            neighbor_address: "10.0.0.2".to_owned(),
            neighbor_as: 65001,
            state: "Established".to_owned(),
            ..BgpSession::default()
        };
        let peer = Protocol {
            name: "Peer".to_owned(),
            state: "up".to_owned(),
            bgp: Some(bgp),
            ..Protocol::default()
        };
        let news = [
            Message::Hello(hello()),
            Message::Peer(peer),
            Message::InSync(InSync {}),
            Message::Gone("Peer".to_owned()),
        ];
        let news = news.map(|message| Ok(PeerNews { message: Some(message) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(news))))
    }

    type WatchRoutesStream = Streamed<RouteNews>;

    async fn watch_routes(&self, _: Request<WatchRoutesRequest>) -> Result<Response<Self::WatchRoutesStream>, Status> {
        use route_news::Message;
        let gone = TableNet {
            table: "master4".to_owned(),
            prefix: prefix(1),
        };
        let news = [
            Message::Hello(hello()),
            Message::Route(route(1)),
            Message::InSync(InSync {}),
            Message::Gone(gone),
        ];
        let news = news.map(|message| Ok(RouteNews { message: Some(message) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(news))))
    }
}

/// Runs `tortiectl bgp` with these words.
fn bgp(args: &[&str]) -> crate::Said {
    let mut all = vec!["bgp"];
    all.extend(args);
    all.push("--bird");
    let server = tonic::transport::Server::builder().add_service(BirdOperatorServer::new(Played));
    crate::against(server, &all)
}

#[test]
fn commands_reach_bird_rs() {
    bgp(&["disable", "a", "b*", "--reason", "new rack"])
        .is("a: OPERATE_COMMAND_DISABLE new rack\nb*: OPERATE_COMMAND_DISABLE new rack");
    for (words, command) in [
        (&["enable", "a"][..], "ENABLE"),
        (&["restart", "a"], "RESTART"),
        (&["reload", "a"], "RELOAD"),
        (&["reload", "a", "--in"], "RELOAD_IN"),
        (&["reload", "--out", "a"], "RELOAD_OUT"),
    ] {
        bgp(words).is(&format!("a: OPERATE_COMMAND_{command}"));
    }
    bgp(&["enable", "nobody"]).failed(1, &["bird-rs at unix:", "there is no protocol 'nobody'"]);
    bgp(&["reload", "a", "--in", "--out"]).failed(64, &["cannot be used with"]);
    bgp(&["enable"]).failed(64, &["required"]);
}

#[test]
fn a_trial_ends_by_command() {
    bgp(&["undo"]).is("undone: in force is revision r1");
    bgp(&["confirm"]).failed(1, &["bird-rs at unix:", "no configuration is on trial"]);
}

#[test]
fn routes_come_page_by_page_as_lines_or_json() {
    bgp(&["routes", "in", "10.0.0.0/8", "primary"]).is("\
master4 10.1.0.0/16 blackhole [own] * (200)
master4 10.2.0.0/16 blackhole [own] * (200)
master4 10.3.0.0/16 blackhole [own] * (200)");
    let said = bgp(&["routes", "in 10.0.0.0/8 primary", "-o", "json"]);
    let lines: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), lines[2]["prefix"].as_str()), (3, Some("10.3.0.0/16")));
    bgp(&["routes", "nonsense"]).failed(1, &["query: nonsense"]);
}

#[test]
fn what_is_watched_is_told_until_the_stream_ends() {
    let said = bgp(&["watch", "peers"]);
    assert_eq!(said.out, "+ Peer 10.0.0.2 AS65001 up Established\n= in sync\n- Peer\n");
    said.failed(1, &["ended the stream"]);
    let said = bgp(&["watch", "routes"]);
    assert_eq!(
        said.out,
        "+ master4 10.1.0.0/16 blackhole [own] * (200)\n= in sync\n- master4 10.1.0.0/16\n"
    );
    let said = bgp(&["watch", "routes", "table all", "-o", "json"]);
    let events: Vec<String> = said
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string())
        .collect();
    assert_eq!(events, ["\"route\"", "\"in-sync\"", "\"gone\""]);
}
