//! BIRD's control protocol, for `birdc` and whatever parses its output: Calico's status probes, exporters.
//!
//! A client sends lines, each a command; a reply is lines with codes (see [`reply`]). Codes and layout are BIRD 2.0.12's,
//! so that what parses BIRD's replies parses these. `birdc` completes and explains commands by itself; what arrives here
//! is written out.
//!
//! A client that does not take its reply is dropped: nobody waits for it, and it costs one page.

mod bfd;
mod capabilities;
mod configure;
mod debug;
mod details;
mod echo;
mod mrt;
pub(crate) mod operate;
mod protocols;
mod reply;
mod roas;
mod route;
mod statics;
pub(crate) mod status;
pub(crate) mod time;
pub(crate) mod words;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, WriteHalf};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tortie_kit::address::{Conn, Incoming};

use self::echo::Echo;
use self::operate::Order;
use self::reply::Reply;
use self::words::Word;
use crate::bfd::Bfd;
use crate::configure::Configurator;
use crate::engine::{Clock, Engine, Stopped};

/// Clients at once; the next ones wait.
const CLIENTS: usize = 32;
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest command.
const LINE: u64 = 4096;
/// How long a client may take to make room for a page of its reply.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exporters look at the greeting for BIRD's version: the one whose language and output this follows.
const VERSION: &str = "BIRD 2.0.12";

/// What commands work on.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) configurator: Arc<Configurator>,
    /// Ends the process.
    pub(crate) down: CancellationToken,
    pub(crate) bfd: Bfd,
}

/// A client's end of the connection.
struct Client {
    write: WriteHalf<Conn>,
    /// It may only look from now on.
    restricted: bool,
    /// The last configuration that it put on trial.
    trial: Option<u64>,
    /// The messages that it wants to see.
    echo: Option<Echo>,
}

impl Client {
    /// Sends what there is of a reply.
    async fn send(&mut self, text: &str) -> io::Result<()> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
        tokio::time::timeout(PATIENCE, self.write.write_all(text.as_bytes()))
            .await
            .map_err(late)?
    }
}

/// Commands that change something.
const WRITES: [&str; 8] = [
    "mrt", "debug", "enable", "disable", "restart", "reload", "down", "graceful",
];

impl Control {
    /// Serves until cancelled.
    pub(crate) async fn serve(self, mut incoming: Incoming, token: CancellationToken) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(permit) = clients.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = token.cancelled() => {
                    unlink(&incoming);
                    return;
                }
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
        let (read, write) = tokio::io::split(client);
        let mut read = BufReader::new(read);
        let mut client = Client {
            write,
            restricted: false,
            trial: None,
            echo: None,
        };
        let mut expired = self.configurator.expired();
        client.send(&format!("0001 {VERSION} ready.\n")).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            loop {
                let room = LINE.saturating_sub(line.len() as u64);
                let mut rest = (&mut read).take(room);
                tokio::select! {
                    read = rest.read_until(b'\n', &mut line) => {
                        read?;
                        break;
                    }
                    line = echo::next(&mut client.echo) => client.send(&format!("{line}\n")).await?,
                    // Nothing is lost of a line that was begun.
                    Ok(()) = expired.changed() => {
                        if client.trial == Some(*expired.borrow_and_update()) {
                            client.send("+Config timeout expired, starting undo\n").await?;
                        }
                    }
                }
            }
            if line.is_empty() {
                return Ok(());
            }
            if !line.ends_with(b"\n") {
                return client.send("9001 command too long\n").await;
            }
            self.answer(&String::from_utf8_lossy(&line), &mut client).await?;
        }
    }

    async fn answer(&self, line: &str, client: &mut Client) -> io::Result<()> {
        let reply = match (expression(line, "show route"), expression(line, "eval")) {
            (Some(text), _) => self.show_route(text, client).await?,
            (_, Some(text)) => self.eval(text).await,
            _ => match words::split(line) {
                Ok(words) => self.command(&words, client).await,
                Err(wrong) => Ok(Reply::of(9001, wrong)),
            },
        };
        let mut reply = reply.unwrap_or_else(|stopped| Reply::of(8003, &stopped.to_string()));
        client.send(&reply.take()).await
    }

    async fn command(&self, words: &[Word], client: &mut Client) -> Result<Reply, Stopped> {
        let verb = words.first().and_then(Word::plain).unwrap_or_default();
        let words = words.get(1..).unwrap_or_default();
        if client.restricted && WRITES.contains(&verb) {
            return Ok(Reply::of(8007, "Access denied"));
        }
        match verb {
            "restrict" if words.is_empty() => {
                client.restricted = true;
                Ok(Reply::of(16, "Access restricted"))
            }
            "enable" | "disable" | "restart" | "reload" => match Order::parse(verb, words) {
                Ok(order) => operate::answer(&self.engine, &self.configurator.config().await.names, order).await,
                Err(wrong) => Ok(Reply::of(9001, &wrong)),
            },
            "configure" => self.configure(words, client).await,
            "down" if words.is_empty() => {
                tracing::info!("an operator ends the process");
                self.down.cancel();
                Ok(Reply::of(7, "Shutdown requested"))
            }
            "graceful" if matches!(words, [Word::Plain(what)] if what == "restart") => {
                tracing::info!("an operator ends the process, which is to be started again");
                self.down.cancel();
                Ok(Reply::of(25, "Graceful restart requested"))
            }
            "echo" => Ok(self.echo(words, client)),
            "debug" => self.debug(words).await,
            "mrtdump" => Ok(Reply::of(
                9001,
                "mrtdump is not supported: see 'mrt dump' and protocol bmp",
            )),
            "dump" => Ok(Reply::of(9001, "dump is not supported: see 'show'")),
            "help" | "?" => Ok(help()),
            "mrt" => self.mrt(words).await,
            "show" => self.show(words).await,
            _ => Ok(unknown(verb)),
        }
    }

    async fn show(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let what = words.first().and_then(Word::plain).unwrap_or_default();
        let words = words.get(1..).unwrap_or_default();
        match what {
            "status" if words.is_empty() => self.status().await,
            "protocols" => self.protocols(words).await,
            "symbols" => Ok(self.symbols(words).await),
            "memory" if words.is_empty() => self.memory().await,
            "bfd" => Ok(self.bfd(words).await),
            "static" => self.statics(words).await,
            "interfaces" => Ok(self.interfaces(words).await),
            "ospf" => Ok(not_running("OSPF")),
            "rip" => Ok(not_running("RIP")),
            "babel" => Ok(not_running("Babel")),
            _ => Ok(unknown(&format!("show {what}"))),
        }
    }
}

/// Removes the socket's file, as BIRD does, while nobody else can have taken its place: we still answer on it. A user who
/// may not leaves it; it is taken over at the next start.
fn unlink(incoming: &Incoming) {
    let Incoming::Unix(listener) = incoming else { return };
    let address = listener.local_addr().ok();
    if let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) {
        let _ = std::fs::remove_file(path);
    }
}

/// What is behind a command that takes the terms of the configuration, which have quotes of their own.
fn expression<'a>(line: &'a str, command: &str) -> Option<&'a str> {
    let mut rest = line;
    for word in command.split(' ') {
        rest = rest.trim_start().strip_prefix(word)?;
        if rest.chars().next().is_some_and(|next| !next.is_whitespace()) {
            return None;
        }
    }
    Some(rest.trim())
}

/// `birdc` has a help of its own; this is for who talks to the socket by hand.
fn help() -> Reply {
    let mut reply = Reply::default();
    for line in [
        "show interfaces [summary], show static [NAME], show bfd sessions [NAME]",
        "show status | memory | symbols [KIND|NAME]",
        "show protocols [all] [NAME|\"PATTERN\"]",
        "show route [PREFIX|for ADDRESS|in PREFIX] [table NAME|all] [protocol NAME] [export|preexport|noexport NAME]",
        "           [filter NAME|{..}|where EXPRESSION] [all] [primary] [filtered] [count|stats]",
        "enable|disable|restart NAME|\"PATTERN\"|all [\"MESSAGE\"], reload [in|out] NAME|\"PATTERN\"|all",
        "configure [soft] [\"FILE\"] [timeout [SECONDS]], configure check [\"FILE\"], configure confirm|undo|status",
        "debug NAME|\"PATTERN\"|all all|off|{states}, mrt dump table NAME to \"FILE\"",
        "eval EXPRESSION, echo all|off|{CLASS, ..}, restrict, down",
    ] {
        reply.line(1022, line);
    }
    reply.end(0, "");
    reply
}

/// BIRD's answer to what it knows and does not do.
fn not_running(protocol: &str) -> Reply {
    Reply::of(9001, &format!("There is no {protocol} protocol running"))
}

/// BIRD's answer to what it does not know.
fn unknown(command: &str) -> Reply {
    Reply::of(9001, &format!("syntax error, unknown command '{command}'"))
}
