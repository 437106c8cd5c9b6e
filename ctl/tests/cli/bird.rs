//! node status, against a bird-rs that is played: it tells two sessions.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tortie_proto::bird::bird_server::{Bird, BirdServer};
use tortie_proto::bird::{
    BgpSession, ConfigureRequest, ConfigureResponse, FibMessage, FibRequest, Protocol, Route, ShowProtocolsRequest,
    ShowProtocolsResponse, ShowRoutesRequest, StatusRequest, StatusResponse,
};
use tortie_proto::common::Hello;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Played {
    major: u32,
}

impl Played {
    fn hello(&self) -> Option<Hello> {
        Some(Hello {
            major: self.major,
            ..Hello::new("bird-rs", "n1", "1")
        })
    }
}

fn protocol(name: &str, address: &str, info: &str) -> Protocol {
    let bgp = BgpSession {
        neighbor_address: address.to_owned(),
        neighbor_as: 64512,
        ..BgpSession::default()
    };
    let state = if info == "Established" { "up" } else { "start" };
    Protocol {
        name: name.to_owned(),
        kind: "BGP".to_owned(),
        state: state.to_owned(),
        info: info.to_owned(),
        bgp: Some(bgp),
        ..Protocol::default()
    }
}

#[tonic::async_trait]
impl Bird for Played {
    type ShowRoutesStream = Streamed<Route>;
    type FibStream = Streamed<FibMessage>;

    async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Hello::check(request.into_inner().hello.as_ref())?;
        let router_id = "172.30.0.11".to_owned();
        Ok(Response::new(StatusResponse {
            hello: self.hello(),
            router_id,
            ..StatusResponse::default()
        }))
    }

    async fn show_protocols(
        &self,
        _: Request<ShowProtocolsRequest>,
    ) -> Result<Response<ShowProtocolsResponse>, Status> {
        let protocols = vec![
            protocol("Mesh_172_30_0_12", "172.30.0.12", "Established"),
            protocol(
                "Global_172_30_0_1",
                "172.30.0.1",
                "Active        Socket: Connection refused",
            ),
            Protocol {
                name: "device1".to_owned(),
                kind: "Device".to_owned(),
                ..Protocol::default()
            },
        ];
        Ok(Response::new(ShowProtocolsResponse {
            hello: self.hello(),
            protocols,
        }))
    }

    async fn show_routes(&self, _: Request<ShowRoutesRequest>) -> Result<Response<Streamed<Route>>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn fib(&self, _: Request<FibRequest>) -> Result<Response<Streamed<FibMessage>>, Status> {
        Err(Status::unimplemented("not played"))
    }
}

/// Runs `node status` against a bird-rs of this protocol version.
fn status(major: u32, args: &[&str]) -> crate::Said {
    let mut all = vec!["node", "status"];
    all.extend(args);
    all.push("--bird");
    against(major, &all)
}

/// Runs a command whose last word, added here, is the address of a bird-rs of this protocol version.
fn against(major: u32, args: &[&str]) -> crate::Said {
    let server = tonic::transport::Server::builder().add_service(BirdServer::new(Played { major }));
    crate::against(server, args)
}

#[test]
fn the_sessions_of_a_node() {
    status(1, &[]).is("\
bird-rs is running, router id 172.30.0.11.

IPv4 BGP status
+--------------+-------------------+-------+------------+-----------------------------------+
| PEER ADDRESS |     PEER TYPE     | STATE |   SINCE    |               INFO                |
+--------------+-------------------+-------+------------+-----------------------------------+
| 172.30.0.1   | global            | start | 1970-01-01 | Active Socket: Connection refused |
| 172.30.0.12  | node-to-node mesh | up    | 1970-01-01 | Established                       |
+--------------+-------------------+-------+------------+-----------------------------------+

IPv6 BGP status
No IPv6 peers found.");
}

#[test]
fn the_same_for_programs() {
    let said = status(1, &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["peers"].as_array().unwrap().len(), 2);
    assert_eq!(json["peers"][1]["address"], "172.30.0.12");
    assert_eq!(json["peers"][1]["type"], "node-to-node mesh");
    assert_eq!(json["peers"][1]["info"], "Established");
    assert_eq!(json["router_id"], "172.30.0.11");
}

#[test]
fn a_typha_address_that_is_bird_rss_is_said() {
    status(1, &["--typha", "unix:/x"]).is(&status(1, &[]).out);
    let said = against(1, &["get", "nodes", "--typha"]);
    said.failed(1, &["typha at unix:", "another program"]);
}

#[test]
fn another_protocol_version_is_named() {
    status(2, &[]).failed(1, &["speaks protocol 2.0", "major versions must be equal"]);
}
