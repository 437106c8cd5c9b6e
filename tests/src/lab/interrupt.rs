//! Ctrl-C ends a lab the way its normal end does: everything made is removed.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM make every wait of the lab end with an error, so that its owner is dropped in order.
/// Call first in `main`, before any thread is started.
///
/// # Errors
/// When the signals cannot be blocked.
pub fn watch_signals() -> Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGHUP);
    set.thread_block().context("block signals")?;
    std::thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            eprintln!("{signal}: removing everything");
            INTERRUPTED.store(true, Ordering::SeqCst);
        }
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
