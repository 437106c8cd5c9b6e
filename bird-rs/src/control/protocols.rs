//! `show protocols [all]`.

use tortie_bgp::config::TimeFormat;
use tortie_bgp::speaker::{BgpStatus, BmpStatus, ChannelStatus, ProtocolState, ProtocolStatus, Speaker};

use super::reply::Reply;
use super::words::{Which, Word};
use super::{Control, operate, time};
use crate::engine::Stopped;

impl Control {
    /// `show protocols [all] [NAME|"PATTERN"]`.
    pub(super) async fn protocols(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let (all, rest) = match words {
            [Word::Plain(word), rest @ ..] if word == "all" => (true, rest),
            [rest @ .., Word::Plain(word)] if word == "all" => (true, rest),
            rest => (false, rest),
        };
        let which = match rest {
            [] => Which::All,
            [word] => Which::of(word),
            _ => return Ok(super::unknown("show protocols")),
        };
        let protocols = self.engine.query(Speaker::protocols).await?;
        let names: Vec<_> = protocols.iter().map(|p| p.name.clone()).collect();
        let selected = match which.select(&names) {
            Ok(selected) => selected,
            Err(_) if which == Which::All => Vec::new(),
            Err(none) => return Ok(operate::none_meant(&none)),
        };
        let wanted: Vec<_> = protocols.iter().filter(|p| selected.contains(&p.name)).collect();
        let format = self.configurator.config().await.time_formats.protocol.clone();
        let now = self.clock.unix_ms(self.clock.now());
        let since = |p: &ProtocolStatus| shown_since(format.as_ref(), self.clock.unix_ms(p.since), now);
        Ok(render(&wanted, all, since))
    }
}

fn shown_since(format: Option<&TimeFormat>, at: i64, now: i64) -> String {
    time::show(format.unwrap_or(&time::SHORT), at, now)
}

fn render(protocols: &[&ProtocolStatus], all: bool, since: impl Fn(&ProtocolStatus) -> String) -> Reply {
    let mut reply = Reply::default();
    let row = |cells: [&str; 6]| {
        let [name, kind, table, state, since, info] = cells;
        format!("{name:<10} {kind:<10} {table:<10} {state:<6} {since:<12}  {info}")
    };
    reply.line(2002, &row(["Name", "Proto", "Table", "State", "Since", "Info"]));
    for protocol in protocols {
        // BIRD's BGP has no table that is its own, however many channels there are.
        let table = if protocol.bgp.is_some() {
            "---"
        } else {
            &*protocol.table
        };
        let (kind, state) = (protocol.kind, protocol.state.as_str());
        let cells = [&*protocol.name, kind, table, state, &since(protocol), &info(protocol)];
        reply.line(1002, &row(cells));
        if all {
            details(protocol).iter().for_each(|line| reply.line(1006, line));
            reply.line(1006, "");
        }
    }
    reply.end(0, "");
    reply
}

/// BIRD's last column.
fn info(protocol: &ProtocolStatus) -> String {
    let Some(bgp) = &protocol.bgp else {
        let of_station = protocol.bmp.as_ref().map(|_| protocol.info.clone());
        return of_station.unwrap_or_default();
    };
    let error = bgp.last_error.as_deref().or(bgp.last_connect_failure.as_deref());
    let error = error.filter(|_| bgp.state != "Established");
    let error = error.unwrap_or_default();
    match protocol.state {
        ProtocolState::Down => error.to_owned(),
        ProtocolState::Up | ProtocolState::Start => format!("{:<14}{error}", state(protocol, bgp)),
    }
}

/// A session's state, as BIRD names it.
fn state(protocol: &ProtocolStatus, bgp: &BgpStatus) -> &'static str {
    match (protocol.state, bgp.state) {
        (ProtocolState::Down, _) => "Down",
        (_, "Active") if bgp.passive => "Passive",
        (_, state) => state,
    }
}

fn details(protocol: &ProtocolStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(description) = &protocol.description {
        lines.push(format!("  Description:    {description}"));
    }
    if let Some(bgp) = &protocol.bgp {
        lines.extend(session(protocol, bgp));
    }
    if let Some(bmp) = &protocol.bmp {
        lines.extend(station(bmp));
    }
    protocol.channels.iter().for_each(|c| lines.extend(channel(c)));
    lines
}

fn session(protocol: &ProtocolStatus, bgp: &BgpStatus) -> Vec<String> {
    let mut lines = vec![
        format!("  BGP state:          {}", state(protocol, bgp)),
        format!("    Neighbor address: {}", bgp.neighbor_address),
    ];
    if let Some(asn) = bgp.neighbor_as {
        lines.push(format!("    Neighbor AS:      {asn}"));
    }
    lines.push(format!("    Local AS:         {}", bgp.local_as));
    if let Some(error) = &bgp.last_error {
        lines.push(format!("    Last error:       {error}"));
    }
    if let Some(failure) = &bgp.last_connect_failure {
        lines.push(format!("    Last connect failure: {failure}"));
    }
    lines
}

fn station(bmp: &BmpStatus) -> Vec<String> {
    let on = |on: bool| if on { "on" } else { "off" };
    let mut lines = vec![
        format!("  Station address:    {}", bmp.station.ip()),
        format!("  Station port:       {}", bmp.station.port()),
        format!("  Pre-policy:         {}", on(bmp.pre_policy)),
        format!("  Post-policy:        {}", on(bmp.post_policy)),
    ];
    if let Some(error) = &bmp.last_error {
        lines.push(format!("  Last error:         {error}"));
    }
    lines
}

fn channel(channel: &ChannelStatus) -> Vec<String> {
    let state = if channel.up { "UP" } else { "DOWN" };
    vec![
        format!("  Channel {}", channel.family),
        format!("    State:          {state}"),
        format!("    Table:          {}", channel.table),
        format!(
            "    Routes:         {} imported, {} filtered, {} exported, {} preferred",
            channel.imported, channel.filtered, channel.exported, channel.preferred
        ),
    ]
}
