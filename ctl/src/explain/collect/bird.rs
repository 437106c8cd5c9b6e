//! A bird-rs: its sessions, the routes to what is asked about, and what of them it announces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use tonic::Request;
use tonic::transport::Channel;
use tortie_kit::address::ServiceAddr;
use tortie_net::Prefix;
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::bird_operator_client::BirdOperatorClient;
use tortie_proto::bird::{
    self, ListRoutesRequest, Protocol, ShowProtocolsRequest, ShowRoutesRequest, StatusRequest, StatusResponse,
};
use tortie_proto::common::Hello;

use super::{PATIENCE, Wanted};
use crate::explain::facts::{BirdFacts, Path, Session};
use crate::store::hello;

/// Routes of one answer that are looked at; a prefix has as many as there are peers that tell it.
const ROUTES: usize = 4096;

struct Client(BirdClient<Channel>, BirdOperatorClient<Channel>);

/// A request that ends.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn said(status: &tonic::Status) -> anyhow::Error {
    anyhow!("{}", tortie_kit::status::reason(status))
}

impl Client {
    async fn connect(addr: &ServiceAddr) -> Result<Self> {
        let channel = addr.connect(PATIENCE).await?;
        Ok(Client(
            BirdClient::new(channel.clone()),
            BirdOperatorClient::new(channel),
        ))
    }

    async fn status(&mut self) -> Result<StatusResponse> {
        let request = timed(StatusRequest { hello: Some(hello()) });
        let status = self.0.status(request).await.map_err(|s| said(&s))?.into_inner();
        Hello::check(status.hello.as_ref())?;
        Ok(status)
    }

    async fn protocols(&mut self) -> Result<Vec<Protocol>> {
        let request = timed(ShowProtocolsRequest {
            hello: Some(hello()),
            name: String::new(),
        });
        let shown = self.0.show_protocols(request).await.map_err(|s| said(&s))?;
        Ok(shown.into_inner().protocols)
    }

    async fn routes(&mut self, query: ShowRoutesRequest) -> Result<Vec<bird::Route>> {
        let request = timed(ShowRoutesRequest {
            hello: Some(hello()),
            ..query
        });
        let mut stream = self.0.show_routes(request).await.map_err(|s| said(&s))?.into_inner();
        let mut routes = Vec::new();
        while let Some(route) = stream.message().await.map_err(|s| said(&s))? {
            routes.push(route);
            if routes.len() == ROUTES {
                break;
            }
        }
        Ok(routes)
    }
}

impl Client {
    /// Routes to the address, or to a prefix around it, that were refused. A lookup gives those that are used only, so the
    /// table is gone through; what was not found in time is not found.
    async fn refused(&mut self, address: IpAddr) -> Result<Vec<bird::Route>> {
        let table = if address.is_ipv4() { "master4" } else { "master6" };
        let query = format!("table {table} filtered where net ~ [ {}- ]", Prefix::host(address));
        let end = tokio::time::Instant::now() + PATIENCE;
        let (mut found, mut token) = (Vec::new(), String::new());
        while tokio::time::Instant::now() < end && found.len() < ROUTES {
            let request = timed(ListRoutesRequest {
                hello: Some(hello()),
                query: query.clone(),
                page_token: token,
            });
            let page = self.1.list_routes(request).await.map_err(|s| said(&s))?.into_inner();
            found.extend(page.routes.into_iter().filter_map(|r| r.route));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

/// Its BGP identifier, as an address.
pub(super) async fn router_id(addr: &ServiceAddr) -> Result<IpAddr> {
    let status = Client::connect(addr).await?.status().await?;
    status.router_id.parse().context("its router id is no address")
}

/// Asks it.
pub(super) async fn ask(addr: &ServiceAddr, wanted: &Wanted) -> Result<BirdFacts> {
    let mut client = Client::connect(addr).await?;
    let status = client.status().await?;
    let sessions: Vec<Session> = client.protocols().await?.iter().filter_map(session).collect();
    let mut paths: Vec<Path> = Vec::new();
    let exactly = wanted.prefixes.iter().map(|prefix| ShowRoutesRequest {
        prefix: Some((*prefix).into()),
        filtered: true,
        ..ShowRoutesRequest::default()
    });
    let longest = ShowRoutesRequest {
        longest_match: Some(tortie_proto::octets(wanted.address)),
        ..ShowRoutesRequest::default()
    };
    let mut routes = Vec::new();
    for query in exactly.chain([longest]) {
        routes.extend(client.routes(query).await?);
    }
    if routes.is_empty() {
        routes = client.refused(wanted.address).await?;
    }
    for route in routes {
        let path = path(&route)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut facts = BirdFacts {
        applied: status.applied_revision,
        desired: status.desired_revision,
        sessions,
        paths,
        ..BirdFacts::default()
    };
    let prefixes: BTreeSet<Prefix> = facts.paths.iter().map(|p| p.prefix).collect();
    let to_nodes = |s: &&Session| s.is_up() && s.peer.is_some_and(|p| wanted.nodes.contains(&p));
    for session in facts.sessions.iter().filter(to_nodes) {
        let mut announced = BTreeSet::new();
        for prefix in &prefixes {
            let query = ShowRoutesRequest {
                prefix: Some((*prefix).into()),
                exported_to: session.name.clone(),
                ..ShowRoutesRequest::default()
            };
            if !client.routes(query).await?.is_empty() {
                announced.insert(*prefix);
            }
        }
        facts.announced.insert(session.name.clone(), announced);
    }
    Ok(facts)
}

fn session(protocol: &Protocol) -> Option<Session> {
    let bgp = protocol.bgp.as_ref()?;
    Some(Session {
        name: protocol.name.clone(),
        peer: bgp.neighbor_address.parse().ok(),
        peer_as: bgp.neighbor_as,
        local_as: bgp.local_as,
        protocol_state: protocol.state.clone(),
        state: bgp.state.clone(),
        last_error: bgp.last_error.clone(),
        connect_failure: bgp.last_connect_failure.clone(),
        source: bgp.source_address.parse().ok(),
    })
}

fn path(route: &bird::Route) -> Result<Path> {
    let prefix = route.prefix.as_ref().context("a route without a prefix")?;
    Ok(Path {
        prefix: Prefix::try_from(prefix).context("a route's prefix")?,
        protocol: route.protocol.clone(),
        best: route.best,
        reason: route.reason.clone(),
        refused: route.filtered.then(|| route.filtered_reason.clone()),
        next_hop: route.bgp_next_hop.clone(),
        as_path: route.as_path.clone(),
        communities: route.communities.clone(),
        stale: route.stale,
    })
}
