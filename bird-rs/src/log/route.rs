//! Which messages go where, as `log` says.
//!
//! Without a `log` statement all that `--log-level` lets through goes to standard error. With some, each message goes to the
//! targets that name its class: to standard error in the form that `--log-format` says, to files and syslog as BIRD has it.
//! Those are written by a thread of their own: a disk that stalls costs lines, which are counted, and never routing.

use std::fmt::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use tortie_bgp::config::{LogClass, LogClasses, TimeFormat};
use tortie_kit::telemetry::{self, Route};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use super::sink::{self, Opened, Order};
use crate::control::time;

/// The target of messages about what is wrong at a peer.
pub(crate) const REMOTE: &str = "bird_rs::remote";
/// The target of messages about who may not do what he wants.
pub(crate) const AUTH: &str = "bird_rs::auth";
/// The target of messages about what is wrong in this program.
pub(crate) const BUG: &str = "bird_rs::bug";
/// The target of messages that `debug` asks for: of this class, and of a level that is let through.
pub(crate) const TRACE: &str = "bird_rs::trace";
/// The target of the last message.
pub(crate) const FATAL: &str = "bird_rs::fatal";

/// Lines that wait for the thread at most. The queue is made whole at the start, so it holds boxes.
const QUEUE: usize = 4096;
/// Messages that wait for a client that listens, at most.
const ECHOED: usize = 256;
/// How long the end of the process waits for them.
const FLUSH: Duration = Duration::from_secs(1);

/// The log targets in force.
#[derive(Debug, Clone)]
pub(crate) struct Logs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    thread: Mutex<SyncSender<Box<Order>>>,
    /// To clients of the control socket that listen. Who does not keep up misses the oldest.
    echo: broadcast::Sender<Echoed>,
}

/// A message for those who listen.
#[derive(Debug, Clone)]
pub(crate) struct Echoed {
    pub(crate) class: LogClass,
    /// On one line.
    pub(crate) text: Arc<str>,
}

#[derive(Debug)]
struct State {
    /// What standard error gets.
    stderr: LogClasses,
    /// What any other target gets.
    elsewhere: LogClasses,
    format: TimeFormat,
    /// Lines that found the queue full.
    lost: u64,
}

impl Logs {
    /// All to standard error, until told otherwise.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, orders) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || sink::write_all(&orders))?;
        let logs = Logs(Arc::new(Shared {
            state: RwLock::new(State {
                stderr: LogClasses::ALL,
                elsewhere: LogClasses::default(),
                format: time::LONG,
                lost: 0,
            }),
            thread: Mutex::new(sender),
            echo: broadcast::Sender::new(ECHOED),
        }));
        telemetry::route(Box::new(logs.clone()));
        Ok(logs)
    }

    /// From now on messages go there.
    pub(crate) fn switch(&self, opened: Opened) {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        state.stderr = opened.stderr;
        state.elsewhere = opened.elsewhere();
        state.format = opened.format.clone().unwrap_or(time::LONG);
        // Waits for room at most as long as a line takes; the order must not be lost.
        let _gone = self.sender().send(Box::new(Order::Switch(opened)));
    }

    /// Every message from now on, wherever it goes beside.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Echoed> {
        self.0.echo.subscribe()
    }

    /// Waits until everything said so far is written, or it takes too long.
    pub(crate) fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        if self.sender().try_send(Box::new(Order::Flush(done))).is_ok() {
            let _too_long = waiting.recv_timeout(FLUSH);
        }
    }

    fn sender(&self) -> MutexGuard<'_, SyncSender<Box<Order>>> {
        self.0.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route for Logs {
    fn on_stderr(&self, metadata: &Metadata<'_>) -> bool {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        state.stderr.contains(class(metadata))
    }

    fn event(&self, event: &Event<'_>) {
        let class = class(event.metadata());
        let listened = self.0.echo.receiver_count() > 0;
        let (format, lost) = {
            let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
            let elsewhere = state.elsewhere.contains(class);
            if !elsewhere && !listened {
                return;
            }
            (elsewhere.then(|| state.format.clone()), state.lost)
        };
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.text();
        if listened {
            // They may have gone since.
            let _nobody = self.0.echo.send(Echoed {
                class,
                text: text.as_str().into(),
            });
        }
        let Some(format) = format else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let order = Box::new(Order::Line {
            class,
            time: time::show(&format, now, now),
            text,
            lost,
        });
        let full = matches!(self.sender().try_send(order), Err(TrySendError::Full(_)));
        if full || lost > 0 {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            // What this line has told is told.
            state.lost = if full { state.lost + 1 } else { state.lost - lost };
        }
    }
}

/// The class of a message.
fn class(metadata: &Metadata<'_>) -> LogClass {
    match (metadata.target(), *metadata.level()) {
        (REMOTE, _) => LogClass::Remote,
        (AUTH, _) => LogClass::Auth,
        (BUG, _) => LogClass::Bug,
        (FATAL, _) => LogClass::Fatal,
        (TRACE, _) => LogClass::Trace,
        (_, Level::ERROR) => LogClass::Error,
        (_, Level::WARN) => LogClass::Warning,
        (_, Level::INFO) => LogClass::Info,
        (_, Level::DEBUG) => LogClass::Trace,
        (_, Level::TRACE) => LogClass::Debug,
    }
}

/// A message as it is read out of an event.
#[derive(Default)]
struct Line {
    protocol: String,
    message: String,
    fields: String,
}

impl Line {
    /// `PROTOCOL: MESSAGE FIELD=VALUE ..`, on one line whatever a peer has put into it.
    fn text(self) -> String {
        let protocol = match self.protocol.as_str() {
            "" => String::new(),
            name => format!("{name}: "),
        };
        let text = format!("{protocol}{}{}", self.message, self.fields);
        text.replace(char::is_control, " ")
    }

    fn field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let (place, label) = match name {
            "message" => (&mut self.message, ""),
            "protocol" => (&mut self.protocol, ""),
            _ => (&mut self.fields, name),
        };
        let separator = if label.is_empty() { "" } else { "=" };
        let space = if label.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(place, "{space}{label}{separator}{value}");
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            name @ ("message" | "protocol") => self.field(name, format_args!("{value}")),
            name => self.field(name, format_args!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let line = Line {
            protocol: "peer".to_owned(),
            message: "says".to_owned(),
            fields: " text=a\n<BUG> b\x1b[2J".to_owned(),
        };
        assert_eq!(line.text(), "peer: says text=a <BUG> b [2J");
        let line = Line {
            message: "runs".to_owned(),
            ..Line::default()
        };
        assert_eq!(line.text(), "runs");
    }
}
