//! Writing to standard error, and to standard output, whose reader may go away (`tortiectl get nodes | head -1`).

use std::io::{ErrorKind, Write as _};

use anyhow::{Context, Result};

/// The reader of standard output has had enough.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct Closed;

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
