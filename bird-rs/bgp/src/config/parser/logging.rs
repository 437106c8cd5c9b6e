//! `log`, `debug`, `timeformat` and `watchdog`.

use std::time::Duration;

use super::super::diagnostic::{Checked, Complaint};
use super::super::{LogClass, LogClasses, LogSink, LogTarget, TimeFormat};
use super::Parser;

/// What BIRD tells of protocols.
const DEBUG: [&str; 6] = ["states", "routes", "filters", "interfaces", "events", "packets"];
/// What can be told of protocols here.
const TOLD: &str = "states";

impl Parser {
    /// `debug protocols MASK;`: of all protocols behind it.
    pub(super) fn debug_protocols(&mut self) -> Checked<()> {
        self.advance();
        if !self.eat_word("protocols") {
            let complaint = self.unexpected("'protocols'");
            return Err(complaint.with_hint("of channels, tables, commands and latency nothing is told"));
        }
        self.debug = self.debug_mask()?;
        self.end()
    }

    /// `all`, `off` or `{ states }`: are changes of state to be told?
    pub(super) fn debug_mask(&mut self) -> Checked<bool> {
        if self.eat_word("all") {
            return Ok(true);
        }
        if self.eat_word("off") {
            return Ok(false);
        }
        self.sign("{")?;
        loop {
            let known = DEBUG.into_iter().find(|class| self.is_word(class));
            let class = known.ok_or_else(|| self.unexpected("'states'"))?;
            if class != TOLD {
                let message = format!("debug: nothing is told of '{class}'");
                let hint = "write 'debug { states }', or 'debug all' for whatever can be told";
                return Err(Complaint::new(self.here(), message).with_hint(hint));
            }
            self.advance();
            if !self.eat_sign(",") {
                break;
            }
        }
        self.sign("}")?;
        Ok(true)
    }

    /// `log TARGET all|{ CLASSES };`.
    pub(super) fn log(&mut self) -> Checked<()> {
        self.advance();
        let sink = self.log_sink()?;
        let mut classes = LogClasses::default();
        if self.eat_word("all") {
            classes = LogClasses::ALL;
        } else {
            self.sign("{")?;
            loop {
                let known = LogClass::ALL.into_iter().find(|class| self.is_word(class.as_str()));
                classes.insert(known.ok_or_else(|| self.unexpected("a class of log messages"))?);
                self.advance();
                if !self.eat_sign(",") {
                    break;
                }
            }
            self.sign("}")?;
        }
        self.config.log.push(LogTarget { sink, classes });
        self.end()
    }

    fn log_sink(&mut self) -> Checked<LogSink> {
        if self.eat_word("stderr") {
            return Ok(LogSink::Stderr);
        }
        if self.eat_word("syslog") {
            let named = self.eat_word("name");
            let name = named.then(|| self.syslog_name()).transpose()?;
            return Ok(LogSink::Syslog { name });
        }
        if !self.text_next() {
            return Err(self.unexpected("'stderr', 'syslog' or a file name"));
        }
        let name = self.text("log")?.as_ref().to_owned();
        if self.is_word("all") || self.is_sign("{") {
            return Ok(LogSink::File { name, limit: None });
        }
        let size = self.number_in("log size", 1..=u32::MAX)?;
        let at = self.here();
        let backup = self.text("log backup")?.as_ref().to_owned();
        if backup == name {
            return Err(Complaint::new(at, "the backup has the name of the log file"));
        }
        let limit = Some((size, backup));
        Ok(LogSink::File { name, limit })
    }

    fn syslog_name(&mut self) -> Checked<String> {
        let at = self.here();
        let name = self.text("syslog name")?;
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Complaint::new(at, "syslog name: one word expected"));
        }
        Ok(name.as_ref().to_owned())
    }

    /// `timeformat CLASS FORMAT;`.
    pub(super) fn time_format(&mut self) -> Checked<()> {
        self.advance();
        let classes = ["route", "protocol", "base", "log"];
        let class = self.word().filter(|w| classes.contains(&w.as_ref()));
        let class = class.ok_or_else(|| self.unexpected("'route', 'protocol', 'base' or 'log'"))?;
        self.advance();
        let format = if self.eat_word("iso") {
            let long = self.eat_word("long");
            if !long {
                self.keyword("short")?;
            }
            let digits = match (self.eat_word("ms"), self.eat_word("us")) {
                (true, _) => 3,
                (_, true) => 6,
                _ => 0,
            };
            TimeFormat::Iso { long, digits }
        } else {
            let format = self.text("timeformat")?.as_ref().to_owned();
            let older = if self.is_sign(";") {
                None
            } else {
                let limit = self.seconds("timeformat", 0..=u32::MAX)?;
                Some((limit, self.text("timeformat")?.as_ref().to_owned()))
            };
            TimeFormat::Custom { format, older }
        };
        let formats = &mut self.config.time_formats;
        let place = match class.as_ref() {
            "route" => &mut formats.route,
            "protocol" => &mut formats.protocol,
            "base" => &mut formats.base,
            _ => &mut formats.log,
        };
        *place = Some(format);
        self.end()
    }

    pub(super) fn watchdog(&mut self) -> Checked<()> {
        self.advance();
        if self.eat_word("warning") {
            let time: Duration = self.interval("watchdog warning")?;
            self.config.watchdog_warning = Some(time);
            self.end()
        } else if self.eat_word("timeout") {
            let time: Duration = self.interval("watchdog timeout")?;
            self.config.watchdog_timeout = Some(time);
            self.end()
        } else {
            Err(self.unexpected("'warning' or 'timeout'"))
        }
    }
}
