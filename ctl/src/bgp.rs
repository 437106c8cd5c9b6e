//! bgp: what an operator asks of a node's bird-rs while it runs, and what can be watched there.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tortie_kit::address::{ServiceAddr, Target};
use tortie_proto::bird::bird_operator_client::BirdOperatorClient;
use tortie_proto::bird::{
    ConfirmRequest, ListRoutesRequest, NextHop, OperateCommand, OperateRequest, Protocol, RouteType, TableRoute,
    UndoRequest, WatchPeersRequest, WatchRoutesRequest, peer_news, route_news,
};
use tortie_proto::common::{self, Hello};

use crate::cli::{BgpCommand, BgpRoutesArgs, BgpWatchCommand, BirdArgs, LineFormat, OperateArgs};
use crate::computed;
use crate::output::say;
use crate::store::hello;

/// How long bird-rs may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A bird-rs that answers.
struct Operator<'a> {
    addr: &'a ServiceAddr,
    client: BirdOperatorClient<Channel>,
}

impl<'a> Operator<'a> {
    async fn connect(bird: &'a BirdArgs) -> Result<Self> {
        let channel = bird.bird.connect(PATIENCE).await.context("bird-rs does not answer")?;
        Ok(Operator {
            addr: &bird.bird,
            client: BirdOperatorClient::new(channel),
        })
    }

    fn said(&self, status: &tonic::Status) -> anyhow::Error {
        anyhow!("bird-rs at {}: {}", self.addr, tortie_kit::status::reason(status))
    }
}

/// `tortiectl bgp`.
pub(crate) async fn run(typha: Option<Target>, command: &BgpCommand) -> Result<()> {
    match command {
        BgpCommand::View(args) => computed::view(typha, args).await,
        BgpCommand::Peers(args) => computed::list(typha, args, computed::PEERS).await,
        BgpCommand::Filters(args) => computed::list(typha, args, computed::FILTERS).await,
        BgpCommand::Announced(args) => computed::list(typha, args, computed::ANNOUNCED).await,
        BgpCommand::Enable(args) => operate(args, OperateCommand::Enable).await,
        BgpCommand::Disable(args) => operate(args, OperateCommand::Disable).await,
        BgpCommand::Restart(args) => operate(args, OperateCommand::Restart).await,
        BgpCommand::Reload(args) => {
            let command = match (args.import, args.export) {
                (true, false) => OperateCommand::ReloadIn,
                (false, true) => OperateCommand::ReloadOut,
                _ => OperateCommand::Reload,
            };
            operate(&args.operate, command).await
        }
        BgpCommand::Routes(args) => routes(args).await,
        BgpCommand::Confirm(args) => confirm(args).await,
        BgpCommand::Undo(args) => undo(args).await,
        BgpCommand::Watch(BgpWatchCommand::Peers(args)) => watch_peers(&args.bird, args.output).await,
        BgpCommand::Watch(BgpWatchCommand::Routes(args)) => watch_routes(args).await,
    }
}

async fn operate(args: &OperateArgs, command: OperateCommand) -> Result<()> {
    let mut operator = Operator::connect(&args.bird).await?;
    let mut request = tonic::Request::new(OperateRequest {
        hello: Some(hello()),
        protocols: args.protocols.clone(),
        command: command.into(),
        reason: args.reason.clone().unwrap_or_default(),
    });
    request.set_timeout(PATIENCE);
    let answer = operator.client.operate(request).await;
    let answer = answer.map_err(|status| operator.said(&status))?.into_inner();
    Hello::check(answer.hello.as_ref())?;
    for result in answer.results {
        say(&format!("{}: {}", result.protocol, result.outcome))?;
    }
    Ok(())
}

async fn confirm(args: &BirdArgs) -> Result<()> {
    let mut operator = Operator::connect(args).await?;
    let mut request = tonic::Request::new(ConfirmRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let answer = operator.client.confirm(request).await;
    let answer = answer.map_err(|status| operator.said(&status))?.into_inner();
    Hello::check(answer.hello.as_ref())?;
    match answer.confirmed {
        true => say("confirmed"),
        false => Err(anyhow!("bird-rs at {}: no configuration is on trial", operator.addr)),
    }
}

async fn undo(args: &BirdArgs) -> Result<()> {
    let mut operator = Operator::connect(args).await?;
    let mut request = tonic::Request::new(UndoRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let answer = operator.client.undo(request).await;
    let answer = answer.map_err(|status| operator.said(&status))?.into_inner();
    Hello::check(answer.hello.as_ref())?;
    match (answer.undone, &*answer.applied_revision) {
        (true, "") => say("undone"),
        (true, revision) => say(&format!("undone: in force is revision {revision}")),
        (false, _) => Err(anyhow!(
            "bird-rs at {}: there is no configuration to go back to",
            operator.addr
        )),
    }
}

async fn routes(args: &BgpRoutesArgs) -> Result<()> {
    let mut operator = Operator::connect(&args.bird).await?;
    let mut token = String::new();
    loop {
        let mut request = tonic::Request::new(ListRoutesRequest {
            hello: Some(hello()),
            query: args.query.join(" "),
            page_token: token,
        });
        request.set_timeout(PATIENCE);
        let page = operator.client.list_routes(request).await;
        let page = page.map_err(|status| operator.said(&status))?.into_inner();
        Hello::check(page.hello.as_ref())?;
        for route in &page.routes {
            match args.output {
                LineFormat::Text => say(&shown(route))?,
                LineFormat::Json => say(&route_json("route", route).to_string())?,
            }
        }
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(());
        }
    }
}

async fn watch_peers(bird: &BirdArgs, output: LineFormat) -> Result<()> {
    let mut operator = Operator::connect(bird).await?;
    let request = WatchPeersRequest { hello: Some(hello()) };
    let stream = operator.client.watch_peers(request).await;
    let mut stream = stream.map_err(|status| operator.said(&status))?.into_inner();
    while let Some(news) = stream.message().await.map_err(|status| operator.said(&status))? {
        let line = match (news.message, output) {
            (Some(peer_news::Message::Hello(hello)), _) => {
                Hello::check(Some(&hello))?;
                continue;
            }
            (Some(peer_news::Message::Peer(peer)), LineFormat::Text) => format!("+ {}", shown_peer(&peer)),
            (Some(peer_news::Message::Peer(peer)), LineFormat::Json) => peer_json(&peer).to_string(),
            (Some(peer_news::Message::Gone(name)), LineFormat::Text) => format!("- {name}"),
            (Some(peer_news::Message::Gone(name)), LineFormat::Json) => {
                json!({"event": "gone", "name": name}).to_string()
            }
            (Some(peer_news::Message::InSync(_)), output) => in_sync(output),
            (None, _) => continue,
        };
        say(&line)?;
    }
    Err(anyhow!("bird-rs at {} ended the stream", operator.addr))
}

async fn watch_routes(args: &BgpRoutesArgs) -> Result<()> {
    let mut operator = Operator::connect(&args.bird).await?;
    let request = WatchRoutesRequest {
        hello: Some(hello()),
        query: args.query.join(" "),
    };
    let stream = operator.client.watch_routes(request).await;
    let mut stream = stream.map_err(|status| operator.said(&status))?.into_inner();
    while let Some(news) = stream.message().await.map_err(|status| operator.said(&status))? {
        let line = match (news.message, args.output) {
            (Some(route_news::Message::Hello(hello)), _) => {
                Hello::check(Some(&hello))?;
                continue;
            }
            (Some(route_news::Message::Route(route)), LineFormat::Text) => format!("+ {}", shown(&route)),
            (Some(route_news::Message::Route(route)), LineFormat::Json) => route_json("route", &route).to_string(),
            (Some(route_news::Message::Gone(net)), LineFormat::Text) => {
                format!("- {} {}", net.table, prefix(net.prefix.as_ref()))
            }
            (Some(route_news::Message::Gone(net)), LineFormat::Json) => {
                json!({"event": "gone", "table": net.table, "prefix": prefix(net.prefix.as_ref())}).to_string()
            }
            (Some(route_news::Message::InSync(_)), output) => in_sync(output),
            (None, _) => continue,
        };
        say(&line)?;
    }
    Err(anyhow!("bird-rs at {} ended the stream", operator.addr))
}

fn in_sync(output: LineFormat) -> String {
    match output {
        LineFormat::Text => "= in sync".to_owned(),
        LineFormat::Json => json!({"event": "in-sync"}).to_string(),
    }
}

fn prefix(prefix: Option<&common::Prefix>) -> String {
    let read = prefix.and_then(|prefix| Some((tortie_proto::ip(&prefix.addr)?, prefix.len)));
    read.map_or_else(String::new, |(address, len)| format!("{address}/{len}"))
}

fn hop(hop: &NextHop) -> String {
    let address = tortie_proto::ip(&hop.address).map(|address| format!("via {address} "));
    let interface = (!hop.interface.is_empty()).then(|| format!("on {}", hop.interface));
    let shown = [address, interface].into_iter().flatten().collect::<String>();
    shown.trim_end().to_owned()
}

/// Where a route leads: its next hops, or what is done with packets.
fn destination(route: &tortie_proto::bird::Route) -> Vec<String> {
    match route.r#type() {
        RouteType::Unicast => route.next_hops.iter().map(hop).collect(),
        RouteType::Blackhole => vec!["blackhole".to_owned()],
        RouteType::Unreachable => vec!["unreachable".to_owned()],
        RouteType::Prohibit => vec!["prohibit".to_owned()],
    }
}

/// A route on a line: table, prefix, destination, protocol, whether it is the best, preference, AS path.
fn shown(route: &TableRoute) -> String {
    let Some(inner) = &route.route else {
        return route.table.clone();
    };
    let best = if inner.best { " *" } else { "" };
    let path = if inner.as_path.is_empty() {
        String::new()
    } else {
        format!(" path {}", inner.as_path)
    };
    let net = prefix(inner.prefix.as_ref());
    let to = destination(inner).join(", ");
    format!(
        "{} {net} {to} [{}]{best} ({}){path}",
        route.table, inner.protocol, inner.preference
    )
}

fn route_json(event: &str, route: &TableRoute) -> Value {
    let inner = route.route.clone().unwrap_or_default();
    json!({
        "event": event,
        "table": route.table,
        "prefix": prefix(inner.prefix.as_ref()),
        "protocol": inner.protocol,
        "best": inner.best,
        "preference": inner.preference,
        "next_hops": destination(&inner),
        "as_path": inner.as_path,
        "local_pref": inner.local_pref,
        "med": inner.med,
        "communities": inner.communities,
        "stale": inner.stale,
        "reason": inner.reason,
    })
}

fn shown_peer(peer: &Protocol) -> String {
    let bgp = peer.bgp.clone().unwrap_or_default();
    let error = [&bgp.last_error, &bgp.last_connect_failure];
    let error = error
        .into_iter()
        .find(|error| !error.is_empty() && bgp.state != "Established");
    let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
    let (name, address, asn) = (&peer.name, &bgp.neighbor_address, bgp.neighbor_as);
    format!("{name} {address} AS{asn} {} {}{error}", peer.state, bgp.state)
}

fn peer_json(peer: &Protocol) -> Value {
    let bgp = peer.bgp.clone().unwrap_or_default();
    json!({
        "event": "peer",
        "name": peer.name,
        "address": bgp.neighbor_address,
        "as": bgp.neighbor_as,
        "protocol_state": peer.state,
        "state": bgp.state,
        "since_unix_ms": peer.since_unix_ms,
        "last_error": bgp.last_error,
        "last_connect_failure": bgp.last_connect_failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_proto::bird::{BgpSession, Route};

    #[test]
    fn a_route_is_a_line() {
        let next_hop = |address: &[u8], interface: &str| NextHop {
            address: address.to_vec(),
            interface: interface.to_owned(),
            weight: 1,
            onlink: false,
        };
        let mut route = TableRoute {
            table: "master4".to_owned(),
            route: Some(Route {
                prefix: Some(common::Prefix {
                    addr: vec![10, 1, 0, 0],
                    len: 16,
                }),
                protocol: "Peer".to_owned(),
                best: true,
                preference: 100,
                next_hops: vec![next_hop(&[10, 0, 0, 2], "eth0"), next_hop(&[], "eth1")],
                as_path: "65001 65002".to_owned(),
                ..Route::default()
            }),
        };
        assert_eq!(
            shown(&route),
            "master4 10.1.0.0/16 via 10.0.0.2 on eth0, on eth1 [Peer] * (100) path 65001 65002"
        );
        if let Some(route) = &mut route.route {
            (route.r#type, route.best) = (RouteType::Prohibit.into(), false);
            route.as_path.clear();
        }
        assert_eq!(shown(&route), "master4 10.1.0.0/16 prohibit [Peer] (100)");
        assert_eq!(route_json("route", &route)["next_hops"], json!(["prohibit"]));
    }

    #[test]
    fn a_peer_is_a_line_with_what_keeps_it_down() {
        let mut bgp = BgpSession {
            neighbor_address: "10.0.0.2".to_owned(),
            neighbor_as: 65001,
            state: "Active".to_owned(),
            last_connect_failure: "Connection refused".to_owned(),
            ..BgpSession::default()
        };
        let peer = |bgp: &BgpSession| Protocol {
            name: "Peer".to_owned(),
            state: "start".to_owned(),
            bgp: Some(bgp.clone()),
            ..Protocol::default()
        };
        assert_eq!(
            shown_peer(&peer(&bgp)),
            "Peer 10.0.0.2 AS65001 start Active (Connection refused)"
        );
        bgp.state = "Established".to_owned();
        assert_eq!(shown_peer(&peer(&bgp)), "Peer 10.0.0.2 AS65001 start Established");
    }
}
