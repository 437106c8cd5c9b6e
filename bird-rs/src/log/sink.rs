//! Files and syslog: opened when a configuration is applied, written by one thread.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};

use tortie_bgp::config::{Config, LogClass, LogClasses, LogSink, TimeFormat};

use crate::source::Rejected;

/// Where the host's syslog listens.
const SYSLOG: &str = "/dev/log";
/// RFC 3164's number of the facility "daemon", shifted as the priority wants it.
const DAEMON: u8 = 3 << 3;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// A message.
    Line {
        class: LogClass,
        time: String,
        text: String,
        /// So many before it found no room.
        lost: u64,
    },
    /// From now on there.
    Switch(Opened),
    /// Answer when all before is written.
    Flush(SyncSender<()>),
}

/// The targets of a configuration, ready to be written to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) stderr: LogClasses,
    pub(super) format: Option<TimeFormat>,
    targets: Vec<(LogClasses, Sink)>,
}

#[derive(Debug)]
enum Sink {
    File(LogFile),
    Syslog {
        socket: UnixDatagram,
        to: PathBuf,
        name: String,
    },
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    limit: Option<(u64, PathBuf)>,
    /// None when it could not be begun anew.
    file: Option<File>,
    size: u64,
}

impl Opened {
    /// What goes anywhere but to standard error.
    pub(super) fn elsewhere(&self) -> LogClasses {
        let mut all = LogClasses::default();
        for class in LogClass::ALL {
            if self.targets.iter().any(|(classes, _)| classes.contains(class)) {
                all.insert(class);
            }
        }
        all
    }

    fn write(&mut self, class: LogClass, time: &str, text: &str) {
        for (_, sink) in self.targets.iter_mut().filter(|(classes, _)| classes.contains(class)) {
            match sink {
                Sink::File(file) => file.write(&format!("{time} <{}> {text}\n", tag(class))),
                Sink::Syslog { socket, to, name } => {
                    let message = format!("<{}>{name}[{}]: {text}", priority(class), std::process::id());
                    // Nobody there, or too busy: syslog is never waited for.
                    let _ = socket.send_to(message.as_bytes(), to);
                }
            }
        }
    }
}

/// Opens what a configuration names.
///
/// # Errors
/// [`Rejected`] when a file cannot be opened.
pub(crate) fn open(config: &Config, file: &str) -> Result<Opened, Rejected> {
    open_with(config, file, Path::new(SYSLOG))
}

fn open_with(config: &Config, of: &str, syslog: &Path) -> Result<Opened, Rejected> {
    let mut opened = Opened {
        stderr: LogClasses::default(),
        format: config.time_formats.log.clone(),
        targets: Vec::new(),
    };
    if config.log.is_empty() {
        opened.stderr = LogClasses::ALL;
    }
    for target in &config.log {
        let fail = |error: std::io::Error| Rejected::of_file(of, format!("'{target}' cannot be opened: {error}"));
        let sink = match &target.sink {
            LogSink::Stderr => {
                let named = LogClass::ALL
                    .into_iter()
                    .filter(|class| target.classes.contains(*class));
                named.for_each(|class| opened.stderr.insert(class));
                continue;
            }
            LogSink::Syslog { name } => {
                let socket = UnixDatagram::unbound().map_err(fail)?;
                socket.set_nonblocking(true).map_err(fail)?;
                Sink::Syslog {
                    socket,
                    to: syslog.to_owned(),
                    name: name.clone().unwrap_or_else(|| "bird-rs".to_owned()),
                }
            }
            LogSink::File { name, limit } => {
                let limit = limit
                    .as_ref()
                    .map(|(size, backup)| (u64::from(*size), PathBuf::from(backup)));
                let mut file = LogFile {
                    path: PathBuf::from(name),
                    limit,
                    file: None,
                    size: 0,
                };
                file.open().map_err(fail)?;
                Sink::File(file)
            }
        };
        opened.targets.push((target.classes, sink));
    }
    Ok(opened)
}

impl LogFile {
    fn open(&mut self) -> std::io::Result<()> {
        self.file = None;
        let file = File::options().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, line: &str) {
        let length = line.len() as u64;
        if let Some((limit, backup)) = &self.limit
            && self.size > 0
            && self.size + length > *limit
        {
            // Where it cannot be put aside it is begun anew: the limit holds.
            let put_aside = std::fs::rename(&self.path, backup).or_else(|_| std::fs::remove_file(&self.path));
            if put_aside.and_then(|()| self.open()).is_err() {
                return;
            }
        }
        if let Some(file) = &mut self.file
            && file.write_all(line.as_bytes()).is_ok()
        {
            self.size += length;
        }
    }
}

/// Does what is asked for, until nobody can ask any more.
pub(super) fn write_all(orders: &Receiver<Box<Order>>) {
    let mut opened: Option<Opened> = None;
    while let Ok(order) = orders.recv() {
        match (*order, &mut opened) {
            (Order::Switch(next), opened) => *opened = Some(next),
            (Order::Flush(done), _) => drop(done.send(())),
            (Order::Line { .. }, None) => {}
            (
                Order::Line {
                    class,
                    time,
                    text,
                    lost,
                },
                Some(opened),
            ) => {
                if lost > 0 {
                    let told = format!("{lost} lines found no room and are lost");
                    opened.write(LogClass::Warning, &time, &told);
                }
                opened.write(class, &time, &text);
            }
        }
    }
}

/// A class as BIRD writes it.
fn tag(class: LogClass) -> &'static str {
    match class {
        LogClass::Debug => "DBG",
        LogClass::Trace => "TRACE",
        LogClass::Info => "INFO",
        LogClass::Remote => "RMT",
        LogClass::Warning => "WARN",
        LogClass::Error => "ERR",
        LogClass::Auth => "AUTH",
        LogClass::Fatal => "FATAL",
        LogClass::Bug => "BUG",
    }
}

/// RFC 3164's priority: the facility and how bad it is.
fn priority(class: LogClass) -> u8 {
    let severity = match class {
        LogClass::Fatal | LogClass::Bug => 2,
        LogClass::Remote | LogClass::Error | LogClass::Auth => 3,
        LogClass::Warning => 4,
        LogClass::Info => 6,
        LogClass::Debug | LogClass::Trace => 7,
    };
    DAEMON | severity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> std::sync::Arc<Config> {
        crate::source::parse("x.conf", text).unwrap()
    }

    #[test]
    fn a_file_keeps_its_limit_and_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let (log, old) = (folder.path().join("log"), folder.path().join("old"));
        std::fs::write(&log, "before\n").unwrap();
        let text = format!("log \"{}\" 60 \"{}\" all;", log.display(), old.display());
        let mut opened = open(&config(&text), "x.conf").unwrap();
        opened.write(LogClass::Info, "T", "first");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&log), "before\nT <INFO> first\n");
        opened.write(LogClass::Remote, "T", &"x".repeat(40));
        assert_eq!(read(&old), "before\nT <INFO> first\n");
        assert_eq!(read(&log), format!("T <RMT> {}\n", "x".repeat(40)));
        opened.write(LogClass::Bug, "T", &"y".repeat(100));
        assert_eq!(
            read(&log),
            format!("T <BUG> {}\n", "y".repeat(100)),
            "a line is never cut"
        );
    }

    #[test]
    fn targets_get_their_classes() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let text = format!(
            "log \"{}\" {{ info, error }}; log \"{}\" {{ trace }}; log stderr {{ fatal }};",
            one.display(),
            two.display()
        );
        let mut opened = open(&config(&text), "x.conf").unwrap();
        for class in LogClass::ALL {
            opened.write(class, "T", "x");
        }
        assert_eq!(std::fs::read_to_string(one).unwrap(), "T <INFO> x\nT <ERR> x\n");
        assert_eq!(std::fs::read_to_string(two).unwrap(), "T <TRACE> x\n");
        let elsewhere: Vec<_> = LogClass::ALL
            .into_iter()
            .filter(|c| opened.elsewhere().contains(*c))
            .collect();
        assert_eq!(elsewhere, [LogClass::Trace, LogClass::Info, LogClass::Error]);
        assert!(opened.stderr.contains(LogClass::Fatal) && !opened.stderr.contains(LogClass::Info));
        assert_eq!(open(&config(""), "x.conf").unwrap().stderr, LogClasses::ALL);
    }

    #[test]
    fn syslog_gets_priorities_and_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let config = config("log syslog name \"edge\" all;");
        let mut opened = open_with(&config, "x.conf", &path).unwrap();
        opened.write(LogClass::Warning, "T", "careful");
        let mut buffer = [0; 200];
        let length = server.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert_eq!(text, format!("<28>edge[{}]: careful", std::process::id()));
        drop(server);
        opened.write(LogClass::Warning, "T", "nobody is there");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = open(&config("log \"/nowhere/x.log\" all;"), "x.conf").unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("log \"/nowhere/x.log\" all;") && said.contains("cannot be opened"),
            "{said}"
        );
    }
}
