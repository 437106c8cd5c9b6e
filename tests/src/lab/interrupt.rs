//! Ctrl-C ends a lab the way its normal end does: everything made is removed.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

static WATCHING: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP make every wait of the lab end with an error, so that its owner is dropped in order.
///
/// The signals are handled, not blocked: a blocked signal stays blocked in every program that is executed from here, and a
/// daemon could not be asked to stop.
///
/// # Errors
/// When the signals cannot be handled.
pub fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("start to wait for signals")?;
    let on = |kind: SignalKind| -> Result<Signal> {
        let _inside = runtime.enter();
        signal(kind).context("handle a signal")
    };
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    WATCHING.store(true, Ordering::SeqCst);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (came, name) = tokio::select! {
                    came = interrupt.recv() => (came, "SIGINT"),
                    came = terminate.recv() => (came, "SIGTERM"),
                    came = hangup.recv() => (came, "SIGHUP"),
                };
                if came.is_none() {
                    return;
                }
                eprintln!("{name}: removing everything");
                INTERRUPTED.store(true, Ordering::SeqCst);
            }
        });
    });
    Ok(())
}

/// Has a signal arrived?
///
/// # Errors
/// When one has.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Where signals are watched, what is started hears none of a terminal's: its owner ends it when its turn comes, and what
/// removes a lab is not ended by a second Ctrl-C. Elsewhere Ctrl-C ends everybody.
pub(super) fn apart(command: &mut Command) -> &mut Command {
    if WATCHING.load(Ordering::SeqCst) {
        command.process_group(0);
    }
    command
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may panic.
mod tests {
    use super::*;
    use crate::lab::run;

    #[test]
    fn what_is_started_can_be_stopped() {
        watch_signals().unwrap();
        let status = run(&["cat", "/proc/self/status"]).unwrap();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // Signals 1, 2 and 15, by their bits.
        let watched = 1 | 1 << 1 | 1 << 14;
        assert_eq!(mask("SigBlk:") & watched, 0, "{status}");
        assert_eq!(mask("SigIgn:") & watched, 0, "{status}");
        // A terminal's signals go to the group of who watches, and this is another.
        let stat = run(&["cat", "/proc/self/stat"]).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let group = fields.split(' ').nth(2).unwrap();
        assert_ne!(group, nix::unistd::getpgrp().to_string());
    }
}
