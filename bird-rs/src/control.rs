//! BIRD's control protocol, for `birdc` and whatever parses its output: Calico's status probes, exporters.
//!
//! Text lines; each reply line begins with a four-digit code, `-` behind it when more follow, a space on the last.
//! Known: `show status`, `show protocols [all] [NAME]`, `configure [check] ["FILE"]`. Everything else is answered with
//! 9001, as BIRD answers what it does not know.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tortie_bgp::speaker::{ProtocolStatus, Speaker, Status};
use tortie_kit::address::{Conn, Incoming};

use crate::configure::{Configurator, Text};
use crate::engine::{Clock, Engine, Stopped};

/// Clients at once; the next ones wait.
const CLIENTS: usize = 32;
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest command.
const LINE: u64 = 4096;
/// Exporters look at the greeting for BIRD's version: the one whose language and output this follows.
const VERSION: &str = "BIRD 2.0.12";

/// What commands work on.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) configurator: Arc<Configurator>,
}

impl Control {
    /// Serves until cancelled.
    pub(crate) async fn serve(self, mut incoming: Incoming, token: CancellationToken) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(permit) = clients.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = token.cancelled() => return,
                accepted = incoming.next() => accepted,
            };
            let client = match accepted {
                None => return,
                Some(Ok(client)) => client,
                Some(Err(error)) => {
                    // Out of descriptors, most likely: without the pause this would be a busy loop.
                    tracing::warn!(%error, "cannot accept a control client");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (control, token) = (self.clone(), token.clone());
            tokio::spawn(async move {
                let talked = tokio::select! {
                    () = token.cancelled() => Ok(()),
                    talked = control.talk(client) => talked,
                };
                if let Err(error) = talked {
                    tracing::debug!(%error, "control client left");
                }
                drop(permit);
            });
        }
    }

    async fn talk(&self, client: Conn) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(client);
        let mut read = BufReader::new(read);
        write.write_all(format!("0001 {VERSION} ready.\n").as_bytes()).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = (&mut read).take(LINE).read_until(b'\n', &mut line).await?;
            if length == 0 {
                return Ok(());
            }
            let reply = if line.ends_with(b"\n") {
                self.answer(&String::from_utf8_lossy(&line)).await
            } else {
                return write.write_all(b"9001 command too long\n").await;
            };
            write.write_all(reply.as_bytes()).await?;
        }
    }

    async fn answer(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answered = match words.as_slice() {
            ["show", "status"] => self.status().await,
            ["show", "protocols"] => self.protocols(false, None).await,
            ["show", "protocols", "all"] => self.protocols(true, None).await,
            ["show", "protocols", "all", name] => self.protocols(true, Some(name)).await,
            ["show", "protocols", name] => self.protocols(false, Some(name)).await,
            ["configure"] => self.configure(Text::Own, false).await,
            ["configure", "check"] => self.configure(Text::Own, true).await,
            ["configure", "check", file] => self.configure(Text::File(unquoted(file)), true).await,
            ["configure", file] => self.configure(Text::File(unquoted(file)), false).await,
            _ => Ok("9001 unknown command; known: show status, show protocols, configure\n".to_owned()),
        };
        answered.unwrap_or_else(|stopped| format!("8003 {stopped}\n"))
    }

    async fn status(&self) -> Result<String, Stopped> {
        let status = self.engine.query(Speaker::status).await?;
        Ok(render_status(&status, self.clock))
    }

    async fn protocols(&self, all: bool, name: Option<&&str>) -> Result<String, Stopped> {
        let protocols = self.engine.query(Speaker::protocols).await?;
        let wanted: Vec<_> = protocols
            .iter()
            .filter(|p| name.is_none_or(|name| *p.name == **name))
            .collect();
        if wanted.is_empty() && name.is_some() {
            return Ok("9001 no protocols match\n".to_owned());
        }
        Ok(render_protocols(&wanted, all, self.clock))
    }

    async fn configure(&self, text: Text, check_only: bool) -> Result<String, Stopped> {
        let outcome = if check_only {
            self.configurator.check(text).await?
        } else {
            self.configurator.apply(text, String::new()).await?
        };
        let Some((last, others)) = outcome.diagnostics.split_last() else {
            return Ok(if check_only {
                "0020 Configuration OK\n"
            } else {
                "0003 Reconfigured\n"
            }
            .to_owned());
        };
        let mut reply = String::new();
        for (diagnostic, end) in others.iter().map(|other| (other, '-')).chain([(last, ' ')]) {
            let (file, line, column) = (&diagnostic.file, diagnostic.line, diagnostic.column);
            line_of(
                &mut reply,
                &format!("8002{end}{file}:{line}:{column} {}", diagnostic.message),
            );
        }
        Ok(reply)
    }
}

fn unquoted(file: &str) -> std::path::PathBuf {
    file.trim_matches('"').into()
}

/// One reply line: whatever is in the text, it stays one.
fn line_of(reply: &mut String, text: &str) {
    reply.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    reply.push('\n');
}

/// Local time zones are not known here: times are UTC.
fn time(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "---".to_owned(),
    }
}

fn render_status(status: &Status, clock: Clock) -> String {
    let mut reply = format!("1000-{VERSION}\n1011-Router ID is {}\n", status.router_id);
    line_of(
        &mut reply,
        &format!(" Current server time is {}", time(clock.unix_ms(clock.now()))),
    );
    line_of(
        &mut reply,
        &format!(" Last reboot on {}", time(clock.unix_ms(Duration::ZERO))),
    );
    line_of(
        &mut reply,
        &format!(" Last reconfiguration on {}", time(clock.unix_ms(status.configured_at))),
    );
    reply.push_str("0013 Daemon is up and running\n");
    reply
}

fn render_protocols(protocols: &[&ProtocolStatus], all: bool, clock: Clock) -> String {
    let mut reply = "2002-Name       Proto      Table      State  Since         Info\n".to_owned();
    for protocol in protocols {
        let since = time(clock.unix_ms(protocol.since));
        let (name, kind, table, state) = (
            &*protocol.name,
            protocol.kind,
            &*protocol.table,
            protocol.state.as_str(),
        );
        let row = format!(
            "1002-{name:<10} {kind:<10} {table:<10} {state:<6} {since}  {}",
            protocol.info
        );
        line_of(&mut reply, row.trim_end());
        if all {
            details(&mut reply, protocol);
        }
    }
    reply.push_str("0000 \n");
    reply
}

fn details(reply: &mut String, protocol: &ProtocolStatus) {
    let mut lines = String::new();
    if let Some(bgp) = &protocol.bgp {
        let asn = bgp.neighbor_as.map(|asn| asn.to_string()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            lines,
            "  BGP state:          {}\n    Neighbor address: {}\n    Neighbor AS:      {asn}\n    Local AS:         {}\n",
            bgp.state, bgp.neighbor_address, bgp.local_as,
        );
        if let Some(error) = &bgp.last_error {
            let _ = writeln!(lines, "    Last error:       {error}");
        }
    }
    for channel in &protocol.channels {
        let _ = write!(
            lines,
            "  Channel {}\n    State:          {}\n    Table:          {}\n    Routes:         {} imported, {} filtered, {} exported, {} preferred\n",
            channel.family,
            if channel.up { "UP" } else { "DOWN" },
            channel.table,
            channel.imported,
            channel.filtered,
            channel.exported,
            channel.preferred,
        );
    }
    for (n, line) in lines.lines().enumerate() {
        line_of(reply, &format!("{}{line}", if n == 0 { "1006-" } else { " " }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_line_stays_one_line() {
        let mut reply = String::new();
        line_of(&mut reply, "8002 x.conf:1:1 bad\n0000 injected");
        assert_eq!(reply, "8002 x.conf:1:1 bad 0000 injected\n");
    }

    #[test]
    fn times_are_as_bird_prints_them() {
        assert_eq!(time(1_700_000_000_123), "2023-11-14 22:13:20.123");
    }
}
