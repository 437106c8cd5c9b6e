//! completion: a script that a shell reads.

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::say;

/// `tortiectl completion`.
pub(crate) fn print(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tortiectl", &mut script);
    let script = String::from_utf8(script).context("the script is no text")?;
    say(script.trim_end())
}
