//! Writing to standard error, and to standard output, whose reader may go away (`tortiectl get nodes | head -1`).

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tortie_model::Key;

use crate::cli::TextFormat;
use crate::foretell::Foretold;
use crate::store::short_name;

/// The reader of standard output has had enough.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct Closed;

/// The answer has been said, and it is no: nothing more is printed, and the exit status tells.
#[derive(Debug, thiserror::Error)]
#[error("the answer is no")]
pub(crate) struct Silent;

/// Tells the person what does not keep the command from being done.
pub(crate) fn warn(text: &str) {
    eprintln!("warning: {text}");
}

/// Writes a text and a line's end.
pub(crate) fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(e) => Err(e).context("cannot write to standard output"),
    }
}

/// How far long work is: shown on standard error, and only when that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Progress {
            what,
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// So many of so many are done; short work needs no word.
    pub(crate) fn show(&self, done: usize, all: usize) {
        if all >= 50 && (done == all || done.is_multiple_of(10)) {
            self.step(done, all);
        }
    }

    /// The same for steps that take a while each.
    pub(crate) fn step(&self, done: usize, all: usize) {
        if !self.shown {
            return;
        }
        if done == all {
            eprint!("\r\x1b[K");
        } else {
            eprint!("\r{}: {done} of {all}", self.what);
        }
    }
}

/// What became of each object: a line each, or one JSON object at the end.
pub(crate) struct Report {
    output: TextFormat,
    dry_run: bool,
    objects: Vec<Value>,
}

impl Report {
    pub(crate) fn new(output: TextFormat, dry_run: bool) -> Self {
        Report {
            output,
            dry_run,
            objects: Vec::new(),
        }
    }

    /// `ippool/a created`.
    pub(crate) fn object(&mut self, key: &Key, outcome: &str) -> Result<()> {
        let name = short_name(key);
        match (self.output, self.dry_run) {
            (TextFormat::Json, _) => self.objects.push(json!({"object": name, "outcome": outcome})),
            (TextFormat::Text, true) => say(&format!("{name} {outcome} (dry run)"))?,
            (TextFormat::Text, false) => say(&format!("{name} {outcome}"))?,
        }
        Ok(())
    }

    /// The end, and of a dry run what would follow.
    pub(crate) fn end(self, foretold: Option<&Foretold>) -> Result<()> {
        match (self.output, foretold) {
            (TextFormat::Text, Some(foretold)) if !foretold.is_empty() => say(&format!("\n{}", foretold.text())),
            (TextFormat::Text, _) => Ok(()),
            (TextFormat::Json, foretold) => {
                let mut said = json!({"dry_run": self.dry_run, "objects": self.objects});
                if let Some(foretold) = foretold {
                    said["foretold"] = serde_json::to_value(foretold)?;
                }
                say(&format!("{said:#}"))
            }
        }
    }
}
