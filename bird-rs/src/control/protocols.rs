//! `show protocols [all]`.

use std::time::Duration;

use tortie_bgp::config::TimeFormat;
use tortie_bgp::speaker::{ProtocolState, ProtocolStatus, Speaker};

use super::reply::Reply;
use super::words::{Which, Word};
use super::{Control, details, operate, time};
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
            Err(none) => {
                let names = &self.configurator.config().await.names;
                let expecting = if all {
                    "END or CF_SYM_KNOWN or TEXT"
                } else {
                    "END or CF_SYM_KNOWN or TEXT or ALL"
                };
                return Ok(operate::none_meant(&none, names, expecting));
            }
        };
        let wanted: Vec<_> = protocols.iter().filter(|p| selected.contains(&p.name)).collect();
        let format = self.configurator.config().await.time_formats.protocol.clone();
        let now = self.clock.now();
        let unix = |at| self.clock.unix_ms(at);
        let since = |p: &ProtocolStatus| shown_since(format.as_ref(), unix(p.since), unix(now));
        Ok(render(&wanted, all.then_some(now), since))
    }
}

fn shown_since(format: Option<&TimeFormat>, at: i64, now: i64) -> String {
    time::show(format.unwrap_or(&time::SHORT), at, now)
}

/// `details`: everything, as of this time.
fn render(
    protocols: &[&ProtocolStatus],
    details: Option<Duration>,
    since: impl Fn(&ProtocolStatus) -> String,
) -> Reply {
    let mut reply = Reply::default();
    let row = |cells: [&str; 6]| {
        let [name, kind, table, state, since, info] = cells;
        format!("{name:<10} {kind:<10} {table:<10} {state:<6} {since:<12}  {info}")
    };
    reply.line(2002, &row(["Name", "Proto", "Table", "State", "Since", "Info"]));
    for protocol in protocols {
        // BIRD's BGP has no table that is its own, however many channels there are.
        let table = if protocol.bgp.is_some() || protocol.range.is_some() {
            "---"
        } else {
            &*protocol.table
        };
        let (kind, state) = (protocol.kind, protocol.state.as_str());
        let cells = [&*protocol.name, kind, table, state, &since(protocol), &info(protocol)];
        reply.line(1002, &row(cells));
        if let Some(now) = details {
            details::lines(protocol, now)
                .iter()
                .for_each(|line| reply.line(1006, line));
            reply.line(1006, "");
        }
    }
    reply.end(0, "");
    reply
}

/// BIRD's last column.
fn info(protocol: &ProtocolStatus) -> String {
    let Some(bgp) = &protocol.bgp else {
        let shown = protocol.bmp.is_some() || protocol.cache.is_some();
        return if shown { protocol.info.clone() } else { String::new() };
    };
    let error = details::error(protocol, bgp).unwrap_or_default();
    match protocol.state {
        ProtocolState::Down => error,
        ProtocolState::Up | ProtocolState::Start => format!("{:<14}{error}", details::state(protocol, bgp)),
    }
}
