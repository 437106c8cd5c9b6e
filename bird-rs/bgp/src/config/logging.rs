//! What is logged where, and how times are shown.

use std::fmt;
use std::time::Duration;

/// `log TARGET CLASSES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTarget {
    /// Where to.
    pub sink: LogSink,
    /// Which messages.
    pub classes: LogClasses,
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// `stderr`.
    Stderr,
    /// `syslog [name "NAME"]`.
    Syslog {
        /// What the messages are from; else `bird-rs`.
        name: Option<String>,
    },
    /// `"FILE" [SIZE "BACKUP"]`.
    File {
        /// Its name.
        name: String,
        /// When the file would become longer than so many octets it is renamed to this, and begun anew.
        limit: Option<(u32, String)>,
    },
}

/// A class of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogClass {
    /// What only developers want.
    Debug,
    /// What happens in detail.
    Trace,
    /// What an operator wants to know once.
    Info,
    /// Something is wrong at a peer.
    Remote,
    /// Something may be wrong here.
    Warning,
    /// Something is wrong here.
    Error,
    /// Somebody may not do what he wants.
    Auth,
    /// The program ends.
    Fatal,
    /// Something is wrong in this program.
    Bug,
}

impl LogClass {
    /// All of them, in BIRD's order.
    pub const ALL: [LogClass; 9] = [
        LogClass::Debug,
        LogClass::Trace,
        LogClass::Info,
        LogClass::Remote,
        LogClass::Warning,
        LogClass::Error,
        LogClass::Auth,
        LogClass::Fatal,
        LogClass::Bug,
    ];

    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            LogClass::Debug => "debug",
            LogClass::Trace => "trace",
            LogClass::Info => "info",
            LogClass::Remote => "remote",
            LogClass::Warning => "warning",
            LogClass::Error => "error",
            LogClass::Auth => "auth",
            LogClass::Fatal => "fatal",
            LogClass::Bug => "bug",
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogClasses(u16);

impl LogClasses {
    /// `all`.
    pub const ALL: LogClasses = LogClasses(0x1ff);

    /// Adds a class.
    pub fn insert(&mut self, class: LogClass) {
        self.0 |= 1 << class as u16;
    }

    /// Is a class in it?
    pub fn contains(self, class: LogClass) -> bool {
        self.0 & (1 << class as u16) != 0
    }
}

impl fmt::Display for LogTarget {
    /// As a statement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sink {
            LogSink::Stderr => f.write_str("log stderr")?,
            LogSink::Syslog { name: None } => f.write_str("log syslog")?,
            LogSink::Syslog { name: Some(name) } => write!(f, "log syslog name \"{name}\"")?,
            LogSink::File { name, limit: None } => write!(f, "log \"{name}\"")?,
            LogSink::File {
                name,
                limit: Some((size, backup)),
            } => write!(f, "log \"{name}\" {size} \"{backup}\"")?,
        }
        if self.classes == LogClasses::ALL {
            return f.write_str(" all;");
        }
        let named = LogClass::ALL.into_iter().filter(|class| self.classes.contains(*class));
        let named: Vec<_> = named.map(LogClass::as_str).collect();
        write!(f, " {{ {} }};", named.join(", "))
    }
}

/// How times of one class are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// `iso short|long [ms|us]`, as written.
    Iso {
        /// `iso long`: date and time, else one of them.
        long: bool,
        /// Digits of a second: 0, 3 or 6.
        digits: u8,
    },
    /// strftime formats: for recent times, and for those older than a limit.
    Custom {
        /// The format.
        format: String,
        /// `LIMIT "FORMAT"`.
        older: Option<(Duration, String)>,
    },
}

/// `timeformat CLASS FORMAT`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeFormats {
    /// `timeformat route`.
    pub route: Option<TimeFormat>,
    /// `timeformat protocol`.
    pub protocol: Option<TimeFormat>,
    /// `timeformat base`.
    pub base: Option<TimeFormat>,
    /// `timeformat log`.
    pub log: Option<TimeFormat>,
}
