//! `show protocols all`: what BIRD prints of a protocol, in its layout.

use std::time::Duration;

use tortie_bgp::fsm::{DownReason, StopReason};
use tortie_bgp::rib::Changes;
use tortie_bgp::speaker::{BgpStatus, BmpStatus, ChannelStatus, ProtocolState, ProtocolStatus, RangeStatus};

use super::capabilities;

const BGP_PORT: u16 = 179;

/// The lines below a protocol's own.
pub(super) fn lines(protocol: &ProtocolStatus, now: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(description) = &protocol.description {
        lines.push(format!("  Description:    {description}"));
    }
    if let Some(message) = &protocol.message {
        lines.push(format!("  Message:        {message}"));
    }
    if let Some(router_id) = protocol.router_id {
        lines.push(format!("  Router ID:      {router_id}"));
    }
    if let Some(bgp) = &protocol.bgp {
        lines.extend(session(protocol, bgp, now));
    }
    if let Some(bmp) = &protocol.bmp {
        lines.extend(station(bmp));
    }
    if let Some(cache) = &protocol.cache {
        lines.extend(super::roas::cache(cache, now));
    }
    if let Some(range) = &protocol.range {
        lines.extend(range_lines(protocol, range));
    }
    let kept = protocol.channels.iter().any(|channel| channel.kept.is_some());
    for channel in &protocol.channels {
        lines.extend(channel_lines(channel));
        if kept {
            let state = match channel.kept {
                None => "None",
                Some(kept) if kept.long_lived => "Long-lived",
                Some(_) => "Regular",
            };
            lines.push(format!("    Neighbor GR:    {state}"));
        }
        if let Some(kept) = channel.kept.filter(|kept| kept.long_lived) {
            lines.push(format!("    LL stale timer: {}/-", remaining(Some(kept.until), now)));
        }
        if let Some(next_hop) = channel.next_hop {
            lines.push(format!("    BGP Next hop:   {next_hop}"));
        }
        for (family, table) in &channel.settings.igp_tables {
            let family = if *family == "ipv4" { "IPv4" } else { "IPv6" };
            lines.push(format!("    IGP {family} table: {table}"));
        }
    }
    lines
}

/// A session's state, as BIRD names it.
pub(super) fn state(protocol: &ProtocolStatus, bgp: &BgpStatus) -> &'static str {
    match (protocol.state, bgp.state) {
        (ProtocolState::Down, _) => "Down",
        (_, "Active") if bgp.passive => "Passive",
        (_, state) => state,
    }
}

/// Why the session is not up, as BIRD says it: what kind of failure, and which. None when an operator took it down.
pub(super) fn error(protocol: &ProtocolStatus, bgp: &BgpStatus) -> Option<String> {
    if protocol.state == ProtocolState::Up || protocol.by_hand {
        return None;
    }
    let (kind, what) = match &bgp.last_failure {
        None => ("Socket", bgp.last_connect_failure.clone()?),
        Some(DownReason::Sent(notification)) => ("BGP Error", notification.reason().to_owned()),
        Some(DownReason::Received(notification)) => ("Received", notification.to_string()),
        Some(DownReason::ConnectionLost(error)) if error.is_empty() => ("Socket", "Connection closed".to_owned()),
        Some(DownReason::ConnectionLost(error)) => ("Socket", error.clone()),
        Some(DownReason::Stopped(StopReason::PrefixLimit { .. })) => {
            ("Automatic shutdown", "Route limit exceeded".to_owned())
        }
        Some(other) => ("Error", other.to_string()),
    };
    // The operating system's words, without its number.
    let what = what.split(" (os error ").next().unwrap_or_default();
    Some(format!("{kind}: {what}"))
}

fn session(protocol: &ProtocolStatus, bgp: &BgpStatus, now: Duration) -> Vec<String> {
    let interface = bgp
        .interface
        .as_ref()
        .map(|name| format!("%{name}"))
        .unwrap_or_default();
    let mut lines = vec![
        format!("  BGP state:          {}", state(protocol, bgp)),
        format!("    Neighbor address: {}{interface}", bgp.neighbor_address),
    ];
    if bgp.outgoing && bgp.neighbor_port != BGP_PORT {
        lines.push(format!("    Neighbor port:    {}", bgp.neighbor_port));
    }
    lines.push(format!(
        "    Neighbor AS:      {}",
        bgp.neighbor_as.map_or(0, |asn| asn.0)
    ));
    lines.push(format!("    Local AS:         {}", bgp.local_as));
    if protocol.channels.iter().any(|channel| channel.kept.is_some()) {
        lines.push("    Neighbor graceful restart active".to_owned());
    }
    match protocol.state {
        ProtocolState::Up => lines.extend(established(bgp, now)),
        ProtocolState::Start => lines.extend(starting(protocol, bgp, now)),
        ProtocolState::Down => {}
    }
    if let Some(error) = error(protocol, bgp) {
        lines.push(format!("    Last error:       {error}"));
    }
    lines
}

fn established(bgp: &BgpStatus, now: Duration) -> Vec<String> {
    let Some(told) = &bgp.negotiated else { return Vec::new() };
    let mut lines = vec![format!("    Neighbor ID:      {}", told.peer_id)];
    lines.push("    Local capabilities".to_owned());
    lines.extend(capabilities::lines(&told.local_capabilities));
    lines.push("    Neighbor capabilities".to_owned());
    lines.extend(capabilities::lines(&told.peer_capabilities));
    lines.push(format!("    Session:          {}", bgp.session.join(" ")));
    lines.push(format!("    Source address:   {}", told.local.ip()));
    let timer = |at, total: Duration| format!("{}/{}", remaining(at, now), total.as_secs());
    lines.push(format!(
        "    Hold timer:       {}",
        timer(bgp.timers.hold, told.hold_time)
    ));
    lines.push(format!(
        "    Keepalive timer:  {}",
        timer(bgp.timers.keepalive, told.keepalive_time)
    ));
    lines
}

fn starting(protocol: &ProtocolStatus, bgp: &BgpStatus, now: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(until) = bgp.timers.error_wait {
        let total = bgp.timers.error_wait_total.as_secs();
        lines.push(format!("    Error wait:       {}/{total}", remaining(Some(until), now)));
    }
    if let Some(at) = bgp.timers.connect.filter(|_| bgp.state == "Active") {
        let total = bgp.connect_delay.as_secs();
        lines.push(format!("    Connect delay:    {}/{total}", remaining(Some(at), now)));
    }
    let kept = protocol.channels.iter().filter_map(|channel| channel.kept);
    if let Some(until) = kept.filter(|kept| !kept.long_lived).map(|kept| kept.until).max() {
        lines.push(format!("    Restart timer:    {}/-", remaining(Some(until), now)));
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

fn range_lines(protocol: &ProtocolStatus, range: &RangeStatus) -> Vec<String> {
    let state = match protocol.state {
        ProtocolState::Down => "Down",
        ProtocolState::Up | ProtocolState::Start => "Passive",
    };
    let mut lines = vec![
        format!("  BGP state:          {state}"),
        format!("    Neighbor range:   {}", range.prefix),
        format!("    Neighbor AS:      {}", range.neighbor_as.map_or(0, |asn| asn.0)),
        format!("    Local AS:         {}", range.local_as),
    ];
    if let Some(error) = &range.last_error {
        lines.push(format!("    Last error:       Socket: {error}"));
    }
    lines
}

fn channel_lines(channel: &ChannelStatus) -> Vec<String> {
    let state = match (channel.up, channel.kept) {
        (true, _) => "UP",
        (false, Some(_)) => "START",
        (false, None) => "DOWN",
    };
    let settings = &channel.settings;
    let mut lines = vec![
        format!("  Channel {}", channel.family),
        format!("    State:          {state}"),
        format!("    Table:          {}", channel.table),
        format!("    Preference:     {}", settings.preference),
        format!("    Input filter:   {}", settings.import),
        format!("    Output filter:  {}", settings.export),
    ];
    for limit in &settings.limits {
        let title = format!("{} limit:", limit.kind);
        let hit = if limit.hit { " [HIT]" } else { "" };
        lines.push(format!("    {title:<16}{}{hit}", limit.limit.routes));
        lines.push(format!("      Action:       {}", limit.limit.action.as_str()));
    }
    if state != "DOWN" {
        lines.extend(routes(channel));
    }
    lines
}

/// How many routes there are, and what became of those that came.
fn routes(channel: &ChannelStatus) -> Vec<String> {
    let filtered = match channel.settings.keep_filtered {
        true => format!(" {} filtered,", channel.filtered),
        false => String::new(),
    };
    let row = |title: &str, cells: [Option<u64>; 5]| {
        let cells = cells.map(|cell| cell.map_or("---".to_owned(), |count| count.to_string()));
        let [received, rejected, filtered, ignored, accepted] = cells;
        format!("      {title:<19} {received:>10} {rejected:>10} {filtered:>10} {ignored:>10} {accepted:>10}")
    };
    let (imports, exports) = (&channel.imports, &channel.exports);
    let update = |c: &Changes| [c.received, c.rejected, c.filtered, c.ignored, c.accepted].map(Some);
    let without = |mut cells: [Option<u64>; 5], none: &[usize]| {
        cells
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| none.contains(at))
            .for_each(|(_, cell)| *cell = None);
        cells
    };
    let counts = vec![format!(
        "    Routes:         {} imported,{filtered} {} exported, {} preferred",
        channel.imported, channel.exported, channel.preferred
    )];
    // A set of ROAs is replaced as a whole: there is nothing to be counted.
    if channel.family.starts_with("roa") {
        return counts;
    }
    let changes = [
        "    Route change stats:     received   rejected   filtered    ignored   accepted".to_owned(),
        row("Import updates:", update(&imports.updates)),
        row("Import withdraws:", without(update(&imports.withdraws), &[2])),
        row("Export updates:", without(update(&exports.updates), &[3])),
        row("Export withdraws:", without(update(&exports.withdraws), &[1, 2, 3])),
    ];
    counts.into_iter().chain(changes).collect()
}

/// Seconds until then.
fn remaining(at: Option<Duration>, now: Duration) -> String {
    let left = at.map_or(Duration::ZERO, |at| at.saturating_sub(now));
    format!("{:.3}", left.as_secs_f64())
}
