//! `show status`, `show memory`, `show symbols`, `eval`.

use std::time::Duration;

use tortie_bgp::config::NoValue;
use tortie_bgp::speaker::{Speaker, Status};

use super::reply::Reply;
use super::words::Word;
use super::{Control, VERSION, time, unknown};
use crate::configure::Revisions;
use crate::engine::{Clock, Stopped};

impl Control {
    pub(super) async fn status(&self) -> Result<Reply, Stopped> {
        let status = self.engine.query(Speaker::status).await?;
        let config = self.configurator.config().await;
        let base = config.time_formats.base.clone();
        let now = self.clock.unix_ms(self.clock.now());
        let shown = |at| time::show(base.as_ref().unwrap_or(&time::LONG), at, now);
        let mut reply = Reply::default();
        let hostname = config.hostname.as_deref().unwrap_or_default();
        render(&mut reply, (&status, hostname), self.clock, now, shown);
        revisions(&mut reply, &self.configurator.revisions().await);
        reply.end(13, "Daemon is up and running");
        Ok(reply)
    }

    /// What the process has resident, and how many things are in it: octets are not accounted for by what they hold.
    pub(super) async fn memory(&self) -> Result<Reply, Stopped> {
        let status = self.engine.query(Speaker::status).await?;
        let mut reply = Reply::default();
        reply.line(1018, "BIRD memory usage");
        reply.line(1018, &format!("{:<17} {:>10}", "Networks:", status.prefixes));
        reply.line(1018, &format!("{:<17} {:>10}", "Routes:", status.paths));
        reply.line(
            1018,
            &format!("{:<17} {:>10}", "Route attributes:", status.attribute_sets),
        );
        reply.line(1018, &format!("{:<17} {:>7} kB", "Total:", resident_kb()));
        reply.end(0, "");
        Ok(reply)
    }

    /// `show symbols [constant|filter|function|protocol|table|template|NAME]`.
    pub(super) async fn symbols(&self, words: &[Word]) -> Reply {
        let config = self.configurator.config().await;
        let wanted = match words {
            [] => None,
            [Word::Plain(word)] => Some(word.as_str()),
            _ => return unknown("show symbols"),
        };
        let kind = match wanted {
            Some("table") => Some("routing table"),
            Some("template") => Some("protocol template"),
            Some("constant") => Some("constant"),
            Some("filter") => Some("filter"),
            Some("function") => Some("function"),
            Some("protocol") => Some("protocol"),
            _ => None,
        };
        let row = |name: &str, kind: &str| format!("{name:<8}\t{kind}");
        let names = config.names.list();
        if let (Some(name), None) = (wanted, kind) {
            let found = names.iter().find(|(known, _)| **known == *name);
            return Reply::of(1010, &row(name, found.map_or("undefined", |(_, kind)| kind)));
        }
        let mut reply = Reply::default();
        for (name, of) in names {
            if kind.is_none_or(|kind| kind == of) {
                reply.line(1010, &row(&name, of));
            }
        }
        reply.end(0, "");
        reply
    }

    /// `eval EXPRESSION`.
    pub(super) async fn eval(&self, text: &str) -> Result<Reply, Stopped> {
        let roas = self.engine.query(Speaker::roa_tables).await?;
        Ok(match self.configurator.config().await.names.eval(text, &roas) {
            Ok(value) => Reply::of(23, &value),
            Err(NoValue::Unreadable(wrong)) => Reply::of(9001, &wrong),
            Err(NoValue::Failed(reason)) => {
                tracing::info!(expression = text, reason, "an operator's expression has no value");
                Reply::of(8008, "runtime error")
            }
        })
    }
}

/// The kernel's word; zero when it has none.
pub(crate) fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    row.and_then(|row| row.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn render(
    reply: &mut Reply,
    (status, hostname): (&Status, &str),
    clock: Clock,
    now: i64,
    shown: impl Fn(i64) -> String,
) {
    reply.line(1000, VERSION);
    reply.line(1011, &format!("Router ID is {}", status.router_id));
    reply.line(1011, &format!("Hostname is {hostname}"));
    reply.line(1011, &format!("Current server time is {}", shown(now)));
    reply.line(
        1011,
        &format!("Last reboot on {}", shown(clock.unix_ms(Duration::ZERO))),
    );
    let configured = shown(clock.unix_ms(status.configured_at));
    reply.line(1011, &format!("Last reconfiguration on {configured}"));
}

/// Ours: what whoever configures calls the configuration, when it calls it something.
fn revisions(reply: &mut Reply, revisions: &Revisions) {
    let Revisions { desired, applied, .. } = revisions;
    if !applied.is_empty() {
        reply.line(1011, &format!("Configuration revision is {applied}"));
    }
    if desired != applied {
        reply.line(1011, &format!("Configuration revision asked for is {desired}"));
    }
}
