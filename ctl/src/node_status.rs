//! node status: the BGP sessions of a node, as bird-rs tells them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;
use tortie_kit::address::ServiceAddr;
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::{Protocol, ShowProtocolsRequest, StatusRequest};
use tortie_proto::common::Hello;

use crate::cli::StatusFormat;
use crate::output::say;
use crate::store::hello;
use crate::table;

/// How long bird-rs may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node's BGP daemon says of itself.
#[derive(Debug, Serialize)]
struct Status {
    router_id: String,
    /// RFC 3339.
    running_since: String,
    fib_in_sync: bool,
    peers: Vec<Peer>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Peer {
    address: IpAddr,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// BIRD's protocol state: up, start or down.
    state: String,
    /// RFC 3339: since when it is in this state.
    since: String,
    /// The session's state (RFC 4271 section 8.2.2), and the last error.
    info: String,
    neighbor_as: u32,
    local_as: u32,
    #[serde(skip)]
    since_shown: String,
}

/// `tortiectl node status`.
pub(crate) async fn show(bird: &ServiceAddr, output: StatusFormat) -> Result<()> {
    let status = ask(bird).await?;
    match output {
        StatusFormat::Json => say(&format!(
            "{:#}",
            serde_json::to_value(&status).context("cannot write JSON")?
        )),
        StatusFormat::Table => say(&text(&status)),
    }
}

async fn ask(addr: &ServiceAddr) -> Result<Status> {
    let channel = addr.connect(PATIENCE).await.context("bird-rs does not answer")?;
    let mut bird = BirdClient::new(channel);
    let mut request = tonic::Request::new(StatusRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let status = bird.status(request).await.map_err(|s| said(addr, &s))?.into_inner();
    Hello::check(status.hello.as_ref())?;
    let mut request = tonic::Request::new(ShowProtocolsRequest {
        hello: Some(hello()),
        name: String::new(),
    });
    request.set_timeout(PATIENCE);
    let shown = bird
        .show_protocols(request)
        .await
        .map_err(|s| said(addr, &s))?
        .into_inner();
    let now = Timestamp::now();
    let mut peers: Vec<Peer> = shown.protocols.iter().filter_map(|p| peer(p, now)).collect();
    peers.sort();
    let started = time(status.boot_unix_ms);
    let fib_in_sync = status.fib_in_sync;
    Ok(Status {
        router_id: status.router_id,
        running_since: started.to_string(),
        fib_in_sync,
        peers,
    })
}

fn said(addr: &ServiceAddr, status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("bird-rs at {addr}: {}", tortie_kit::status::reason(status))
}

fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A BGP protocol as a peer; other protocols are none.
fn peer(protocol: &Protocol, now: Timestamp) -> Option<Peer> {
    let bgp = protocol.bgp.as_ref()?;
    let since = time(protocol.since_unix_ms);
    // BIRD pads the state to a column of its own.
    let info = match protocol.info.split_whitespace().collect::<Vec<_>>().join(" ") {
        unsaid if unsaid.is_empty() => bgp.state.clone(),
        info => info,
    };
    Some(Peer {
        address: bgp.neighbor_address.parse().ok()?,
        name: protocol.name.clone(),
        kind: peer_type(&protocol.name),
        state: protocol.state.clone(),
        since: since.to_string(),
        info,
        neighbor_as: bgp.neighbor_as,
        local_as: bgp.local_as,
        since_shown: shown_since(since, now),
    })
}

/// By Calico's names of protocols.
pub(crate) fn peer_type(name: &str) -> &'static str {
    const PREFIXES: [(&str, &str); 3] = [
        ("Mesh_", "node-to-node mesh"),
        ("Node_", "node specific"),
        ("Global_", "global"),
    ];
    PREFIXES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map_or("other", |(_, kind)| kind)
}

/// A time of the last day as a time, an older one as a date, both in UTC.
pub(crate) fn shown_since(since: Timestamp, now: Timestamp) -> String {
    let recent = now.duration_since(since).as_secs() < 86_400;
    since.strftime(if recent { "%H:%M:%S" } else { "%Y-%m-%d" }).to_string()
}

fn text(status: &Status) -> String {
    let mut text = format!("bird-rs is running, router id {}.", status.router_id);
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        let peers: Vec<&Peer> = status.peers.iter().filter(|p| p.address.is_ipv4() == v4).collect();
        text.push_str(&format!("\n\n{family} BGP status\n"));
        if peers.is_empty() {
            text.push_str(&format!("No {family} peers found."));
            continue;
        }
        let row = |p: &&Peer| {
            let kind = p.kind.to_owned();
            vec![
                p.address.to_string(),
                kind,
                p.state.clone(),
                p.since_shown.clone(),
                p.info.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
        text.push_str(&table::framed(
            &["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"],
            &rows,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_proto::bird::BgpSession;

    fn protocol(name: &str, address: &str, info: &str) -> Protocol {
        let neighbor_address = address.to_owned();
        let bgp = BgpSession {
            neighbor_address,
            state: "Idle".to_owned(),
            ..BgpSession::default()
        };
        let since_unix_ms = 1_777_630_000_000;
        let (state, info) = ("up".to_owned(), info.to_owned());
        Protocol {
            name: name.to_owned(),
            bgp: Some(bgp),
            since_unix_ms,
            state,
            info,
            ..Protocol::default()
        }
    }

    #[test]
    fn the_table_people_know() {
        let now = time(1_777_630_060_000);
        let peers = [
            protocol("Mesh_172_16_3_12", "172.16.3.12", "Established"),
            protocol("Global_172_16_3_1", "172.16.3.1", ""),
            protocol("Node_fd00__1", "fd00::1", "Active Socket: Connection refused"),
            Protocol {
                name: "static1".to_owned(),
                ..Protocol::default()
            },
        ];
        let mut peers: Vec<Peer> = peers.iter().filter_map(|p| peer(p, now)).collect();
        peers.sort();
        let router_id = "172.16.3.11".to_owned();
        let status = Status {
            router_id,
            running_since: now.to_string(),
            fib_in_sync: true,
            peers,
        };
        let want = "\
bird-rs is running, router id 172.16.3.11.

IPv4 BGP status
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+--------------+-------------------+-------+----------+-------------+
| 172.16.3.1   | global            | up    | 10:06:40 | Idle        |
| 172.16.3.12  | node-to-node mesh | up    | 10:06:40 | Established |
+--------------+-------------------+-------+----------+-------------+

IPv6 BGP status
+--------------+---------------+-------+----------+-----------------------------------+
| PEER ADDRESS |   PEER TYPE   | STATE |  SINCE   |               INFO                |
+--------------+---------------+-------+----------+-----------------------------------+
| fd00::1      | node specific | up    | 10:06:40 | Active Socket: Connection refused |
+--------------+---------------+-------+----------+-----------------------------------+";
        assert_eq!(text(&status), want);
        assert_eq!(shown_since(time(0), now), "1970-01-01");
    }
}
