//! `show route table NAME` of a table of ROAs, and the caches of `show protocols all`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tortie_bgp::config::ShowRoute;
use tortie_bgp::roa::Roa;
use tortie_bgp::speaker::{CacheView, ListedRoa};

use super::route::{Printer, Tally};
use super::{Client, Control};
use crate::engine::Stopped;

/// ROAs asked for at a time.
const PAGE: usize = 512;

impl Control {
    /// A table of ROAs in `show route`. What is sent before the last page goes to the client at once.
    pub(super) async fn show_roas(
        &self,
        table: &Arc<str>,
        printer: &mut Printer,
        since: &(impl Fn(Duration) -> String + Sync),
        client: &mut Client,
    ) -> io::Result<Result<Tally, Stopped>> {
        if !printer.show.count {
            printer.name(table);
        }
        let mut tally = Tally::default();
        let mut last: Option<Roa> = None;
        // None is ever filtered.
        while !printer.show.listing.filtered {
            let name = table.clone();
            let page = match self
                .engine
                .query(move |speaker| speaker.roa_page(&name, last, PAGE))
                .await
            {
                Ok(page) => page,
                Err(stopped) => return Ok(Err(stopped)),
            };
            last = page.last().map(|listed| listed.roa);
            for listed in &page {
                tally.add(printer.roa(listed, since));
            }
            client.send(&printer.reply.take()).await?;
            if page.len() < PAGE {
                break;
            }
        }
        Ok(Ok(tally))
    }
}

impl Printer {
    /// Shows a ROA, or only counts it.
    fn roa(&mut self, listed: &ListedRoa, since: impl Fn(Duration) -> String) -> Tally {
        let lines = lines(listed, &self.show, since);
        for (head, kind) in lines.iter().filter(|_| !self.show.count) {
            self.reply.line(1007, head);
            if self.show.all {
                self.reply.line(1008, kind);
            }
        }
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Tally {
            shown: count(lines.len()),
            paths: count(listed.sources.len()),
            nets: 1,
        }
    }
}

/// A ROA's lines: who has it, and what kind of protocol that is.
fn lines(listed: &ListedRoa, show: &ShowRoute, since: impl Fn(Duration) -> String) -> Vec<(String, &'static str)> {
    let wanted = |name: &str| {
        show.listing
            .protocol
            .as_ref()
            .is_none_or(|protocol| **protocol == *name)
    };
    let sources = listed.sources.iter().enumerate();
    let sources = sources.filter(|(at, source)| wanted(&source.protocol) && (*at == 0 || !show.listing.primary));
    let mut net = listed.roa.to_string();
    let line = |(at, source): (usize, &tortie_bgp::speaker::ListedSource)| {
        let mark = if at == 0 { " *" } else { "" };
        let (protocol, preference, since) = (&source.protocol, source.preference, since(source.since));
        // The name of what is there several times is said once.
        let net = std::mem::take(&mut net);
        let head = format!("{net:<20}  [{protocol} {since}]{mark} ({preference})");
        (
            head,
            if source.of_cache {
                "\tType: RPKI univ"
            } else {
                "\tType: static univ"
            },
        )
    };
    sources.map(line).collect()
}

/// The lines of a cache in `show protocols all`, in BIRD's layout.
pub(super) fn cache(cache: &CacheView, now: Duration) -> Vec<String> {
    let mut lines = vec![
        format!("  Cache server:     {}", cache.address),
        format!("  Cache port:       {}", cache.port),
    ];
    let Some(status) = &cache.status else { return lines };
    lines.push(format!("  Status:           {}", status.state.as_str()));
    lines.push("  Transport:        Unprotected over TCP".to_owned());
    lines.push(format!("  Protocol version: {}", status.version));
    match status.known {
        Some((session, serial)) => {
            lines.push(format!("  Session ID:       {session}"));
            lines.push(format!("  Serial number:    {serial}"));
        }
        None => lines.extend([
            "  Session ID:       ---".to_owned(),
            "  Serial number:    ---".to_owned(),
        ]),
    }
    let age = |at: Duration| format!("before {:.3} s", now.saturating_sub(at).as_secs_f64());
    lines.push(format!(
        "  Last update:      {}",
        status.updated.map_or("---".to_owned(), age)
    ));
    let intervals = status.intervals;
    for (name, at, total) in [
        ("Refresh", status.refresh_at, intervals.refresh),
        ("Retry", status.retry_at, intervals.retry),
        ("Expire", status.expire_at, intervals.expire),
    ] {
        let left = |at: Duration| format!("{:.3}/{}", at.saturating_sub(now).as_secs_f64(), total.as_secs());
        let title = format!("{name} timer");
        lines.push(format!("  {title:<16}: {}", at.map_or("---".to_owned(), left)));
    }
    lines
}
