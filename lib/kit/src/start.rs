//! How every daemon begins: its command line read, its logs begun.

use std::process::ExitCode;

use clap::Parser;

use crate::telemetry::{self, LogArgs};

/// `EX_USAGE` of sysexits.h: the command line cannot be used.
pub const USAGE: u8 = 64;

/// Reads the command line and starts logging.
///
/// # Errors
/// The status to leave with, everything said already: 0 after `--help` and `--version`, [`USAGE`] when an argument is
/// wrong.
pub fn start<A: Parser>(program: &str, log: impl FnOnce(&A) -> &LogArgs) -> Result<A, ExitCode> {
    let args = A::try_parse().map_err(|e| {
        // Nothing is left to say when even standard error is closed.
        let _ = e.print();
        if e.use_stderr() {
            ExitCode::from(USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })?;
    telemetry::init(log(&args)).map_err(|e| {
        eprintln!("{program}: {e}");
        ExitCode::from(USAGE)
    })?;
    Ok(args)
}
