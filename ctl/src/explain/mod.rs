//! explain: why an address, a prefix or a pod is, or is not, reached from a node.
//!
//! [`collect`] asks typha, bird-rs, felix and the kernel, and gives one value, [`facts::Facts`]. [`walk::explain`] is a
//! pure function of it: the steps of the way, and the one cause. [`show`] prints.

mod address;
mod args;
mod cause;
mod collect;
mod facts;
mod forward;
mod policy;
mod service;
mod show;
mod trace;
mod walk;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Result;
use tortie_kit::address::Target;

pub(crate) use args::ExplainArgs;

use crate::cli::StatusFormat;
use crate::output::say;
use walk::Verdict;

/// How an explanation ended when not everything is known to be well. It was printed; what is left is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ending {
    #[error("there is a cause")]
    Fault,
    #[error("not everything could be asked")]
    Unclear,
}

impl Ending {
    /// The exit status.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Ending::Fault => ExitCode::from(2),
            Ending::Unclear => ExitCode::from(3),
        }
    }
}

/// `tortiectl explain`.
pub(crate) async fn run(typha: Option<Target>, args: &ExplainArgs) -> Result<()> {
    // A pod may have several addresses: the first one with a fault is shown, or else the first.
    let mut explanations: Vec<_> = collect::collect(typha, args).await?.iter().map(walk::explain).collect();
    let worst = explanations.iter().position(|e| e.verdict() == Verdict::Fault);
    let explanation = explanations.swap_remove(worst.unwrap_or(0));
    match args.output {
        StatusFormat::Table => say(&show::text(&explanation))?,
        StatusFormat::Json => say(&format!("{:#}", show::json(&explanation)))?,
    }
    match explanation.verdict() {
        Verdict::Healthy => Ok(()),
        Verdict::Fault => Err(Ending::Fault.into()),
        Verdict::Unclear => Err(Ending::Unclear.into()),
    }
}
